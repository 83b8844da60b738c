"""One vector for a whole image: a learned query that attends over all positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from calc.activations import Activation
from calc.embedding import NormSpec, norm_or_none
from calc.fields import Positive
from calc.modality import Modal
from calc.operations import Einsum, Elementwise, Lookup, Operation, Part, Softmax, Table, activation
from calc.records import named_record


@named_record
class AttentionPool(Modal):
    """Multi-head attention of one learned query, a norm, a feed-forward network with a residual connection.

    Parameters: d for the query, 4·d·h·d_h + 3·h·d_h + d for the attention, 2·d·d_ff + d_ff + d for the network, the
    norm. Matmul FLOPs: 4·d·h·d_h per position, 4·h·d_h per position for scores and values, and the rest once an image.

    Source: Zhai et al. 2021, arXiv:2106.04560 §3.2, as SigLIP has it, arXiv:2303.15343;
    ``SiglipMultiheadAttentionPoolingHead`` of transformers.

    >>> AttentionPool(n_heads=16, head_dim=72, d_ff=4304).bind()
    {'a': 16, 'h': 72, 'f': 4304}
    """

    source: ClassVar[str] = "Zhai et al. 2021, arXiv:2106.04560 §3.2"
    part: ClassVar[Part] = "head"
    kind: Literal["attention_pool"] = "attention_pool"
    n_heads: Positive
    head_dim: Positive
    d_ff: Positive
    activation: Activation = "gelu_tanh"
    norm: NormSpec | None = None

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> AttentionPool:
        """Build from trusted data."""
        return cls(**{**data, "norm": norm_or_none(data.get("norm"))})

    def operations(self) -> Table:
        """Return the query, its attention over all positions, norm, network, residual."""
        table: list[Operation] = [
            Lookup("query", "bd", table="d"),
            Einsum("q_proj", "bd,dah->bah", inputs=("query",), weight="dah", bias="ah"),
            Einsum("k_proj", "btd,dah->btah", weight="dah", bias="ah"),
            Einsum("v_proj", "btd,dah->btah", weight="dah", bias="ah"),
            Einsum("scores", "bah,btah->bat", inputs=("q_proj", "k_proj")),
            Elementwise("scale", "bat", inputs=("scores",), each=1),
            Softmax("softmax", "bat", inputs=("scale",)),
            Einsum("values", "bat,btah->bah", inputs=("softmax", "v_proj")),
            Einsum("o_proj", "bah,ahd->bd", inputs=("values",), weight="ahd", bias="d"),
        ]
        if self.norm:
            table.append(self.norm.operation("norm", ("o_proj",), "bd"))
        return (
            *table,
            Einsum("up_proj", "bd,df->bf", inputs=(table[-1].name,), weight="df", bias="f"),
            activation("activation", "bf", "up_proj", self.activation),
            Einsum("down_proj", "bf,fd->bd", inputs=("activation",), weight="fd", bias="d"),
            Elementwise("pool_residual", "bd", inputs=("o_proj", "down_proj"), each=1),
        )
