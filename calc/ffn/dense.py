"""The position-wise feed-forward network, plain or gated."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.activations import Activation
from calc.ffn import FeedForward
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, Table, activation
from calc.records import named_record


@named_record
class DenseFFN(FeedForward):
    """σ(x W_up) W_down, or the gated (σ(x W_gate) ⊙ x W_up) W_down.

    Parameters: 2·d·d_ff, gated 3·d·d_ff, and biases. Matmul FLOPs: 2 × the matrices' parameters per token.

    Source: Vaswani et al. 2017, arXiv:1706.03762 §3.3; gated: Shazeer 2020, arXiv:2002.05202.

    >>> sum(op.parameters({"d": 4096, "f": 14336}) for op in DenseFFN(d_ff=14336, gated=True).operations())
    176160768
    """

    source: ClassVar[str] = "Vaswani et al. 2017, arXiv:1706.03762 §3.3; Shazeer 2020, arXiv:2002.05202"
    kind: Literal["dense"] = "dense"
    d_ff: Positive
    activation: Activation = "gelu"
    gated: bool = False
    bias: bool = False
    down_bias: bool | None = None
    """Bias of the last projection where it differs from ``bias`` (TeleChat has this one alone)."""
    n_scalars: Positive | None = None
    """Numbers that the activation stores, learned or not (xIELU has four; arXiv:2411.13010)."""
    inner_norm: Literal["rms"] | None = None
    """A norm before the last projection (BitNet b1.58, arXiv:2504.12285)."""

    def operations(self) -> Table:
        """Return gate, up, activation, product, norm, down."""
        inner = "f" if self.bias else ""
        up = Einsum("up_proj", "btd,df->btf", weight="df", bias=inner)
        scalars = "φ" if self.n_scalars else ""
        table: tuple[Operation, ...]
        if self.gated:
            table = (
                Einsum("gate_proj", "btd,df->btf", weight="df", bias=inner),
                up,
                activation("activation", "btf", "gate_proj", self.activation, weight=scalars),
                Elementwise("gated", "btf", inputs=("activation", "up_proj"), each=1, needs="operands"),
            )
        else:
            table = (up, activation("activation", "btf", "up_proj", self.activation, weight=scalars))
        if self.inner_norm:
            table += (Norm("inner_norm", "btf", inputs=(table[-1].name,), kind=self.inner_norm, weight="f"),)
        outer = "d" if (self.bias if self.down_bias is None else self.down_bias) else ""
        return (*table, Einsum("down_proj", "btf,fd->btd", inputs=(table[-1].name,), weight="fd", bias=outer))
