"""The gated short convolution of LFM2."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import Recurrent, convolution
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, State, States, Table
from calc.records import named_record


@named_record
class ShortConv(Recurrent):
    """Gated short convolution: y = (C ⊙ conv(B ⊙ x)) W_out, with B, C and x linear in the input, all d wide.

    Parameters: 4·d² + d·K, and 5·d with biases. State: K products B ⊙ x of each channel: K − 1 would do, but the cache
    of ``transformers`` holds K. Matmul FLOPs: 8·d² + 2·d·K per token.

    Source: Liquid AI 2025, LFM2 (arXiv:2511.23404 §2); ``Lfm2ShortConv`` of transformers.

    >>> ShortConv(conv_kernel=3).bind()
    {'K': 3}
    """

    source: ClassVar[str] = "Liquid AI 2025, arXiv:2511.23404 §2"
    kind: Literal["shortconv"] = "shortconv"
    conv_kernel: Positive = 3
    bias: bool = False

    def operations(self) -> Table:
        """Return the three projections, the gated convolution, the output."""
        bias = "o" if self.bias else ""
        return (
            Einsum("b_proj", "btd,do->bto", weight="do", bias=bias),
            Einsum("c_proj", "btd,do->bto", weight="do", bias=bias),
            Einsum("x_proj", "btd,do->bto", weight="do", bias=bias),
            Elementwise("driven", "bto", inputs=("b_proj", "x_proj"), each=1, needs="operands"),
            *convolution("conv", "o", "driven", bias=self.bias, silu=False),
            Elementwise("gate", "bto", inputs=("c_proj", "conv"), each=1, needs="operands"),
            Einsum("out_proj", "bto,od->btd", inputs=("gate",), weight="od", bias="d" if self.bias else ""),
        )

    def state(self) -> States:
        """Return the last K inputs of the convolution."""
        return (State(name="conv_past", dims="oK", of="driven"),)
