"""A feed-forward network followed by a small one for each language."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.activations import Activation
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, Table, activation
from calc.records import named_record


@named_record
class AdaptedFFN(FeedForward):
    """y = x + FFN(x), then z + W_2 σ(W_1 z) with z = norm(y) and the matrices of the text's language (X-MOD).

    Parameters: 2·d·d_ff + n_languages·(2·d·d_a + d_a + d), and biases; a token uses one language's. Matmul FLOPs:
    4·d·(d_ff + d_a) per token. The layer's norm that X-MOD applies once more is not counted twice as parameters.

    Source: Pfeiffer et al. 2022, arXiv:2205.06266 §3; ``XmodOutput`` of transformers.

    >>> AdaptedFFN(d_ff=3072, d_adapter=384, n_languages=81).bind()
    {'f': 3072, 'ι': 384, 'θ': 81, 'ω': 1}
    """

    source: ClassVar[str] = "Pfeiffer et al. 2022, arXiv:2205.06266 §3"
    kind: Literal["adapted"] = "adapted"
    d_ff: Positive
    d_adapter: Positive
    n_languages: Positive
    activation: Activation = "gelu"
    adapter_norm: Literal["own", "reused"] | None = "reused"
    """A LayerNorm before the adapter: its own, or the one that the layer applies after it."""

    @property
    def n_active_languages(self) -> int:
        """Languages of one token."""
        return 1

    def operations(self) -> Table:
        """Return the network, the residual connection, the norm, the adapter."""
        one = (("θ", "ω"),)
        table: list[Operation] = [
            *DenseFFN(d_ff=self.d_ff, activation=self.activation, bias=True).operations(),
            Elementwise("adapter_entry", "btd", inputs=("x", "down_proj"), each=1),
        ]
        if self.adapter_norm:
            scale = "d" if self.adapter_norm == "own" else ""
            table.append(Norm("adapter_norm", "btd", inputs=("adapter_entry",), kind="layer", weight=scale, bias=scale))
        return (
            *table,
            Einsum(
                "adapter_down",
                "btd,θdι->btι",
                inputs=(table[-1].name,),
                weight="θdι",
                bias="θι",
                chosen=one,
            ),
            activation("adapter_activation", "btι", "adapter_down", self.activation),
            Einsum("adapter_up", "btι,θιd->btd", inputs=("adapter_activation",), weight="θιd", bias="θd", chosen=one),
        )
