"""The real-gated linear recurrent unit of Griffin and RecurrentGemma."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import GELU_TANH, SIGMOID, Recurrent, convolution
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, State, States, Table
from calc.records import named_record


@named_record
class RGLRU(Recurrent):
    """Griffin's recurrent block: a convolution and a gated recurrence of h·d_h channels, times a GELU branch.

    s ← a·s + √(1 − a²)·(i·x), with a = exp(−8·softplus(Λ)·r); the gates i and r are block-diagonal, h blocks of
    d_h × d_h. Parameters: 2·(d + 1)·h·d_h in, (h·d_h + 1)·d out, h·d_h·(K + 1) in the convolution, 2·h·d_h·(d_h + 1)
    for the gates, h·d_h for Λ. State: h·d_h in fp32, and K − 1 inputs of each channel.

    Matmul FLOPs: projections, convolution and gates; the recurrence is elementwise in every phase.

    Source: De et al. 2024, arXiv:2402.19427 §2.4; ``RecurrentGemmaRecurrentBlock`` of transformers.

    >>> RGLRU(n_heads=10, head_dim=256).bind()
    {'a': 10, 'h': 256, 'p': 256, 'K': 4, 'u': 3}
    """

    source: ClassVar[str] = "De et al. 2024, arXiv:2402.19427 §2.4"
    kind: Literal["rglru"] = "rglru"
    n_heads: Positive
    """Blocks of the gates."""
    head_dim: Positive
    """Channels of a block."""
    conv_kernel: Positive = 4

    @property
    def v_head_dim(self) -> int:
        """A block's gate is square."""
        return self.head_dim

    @property
    def conv_past(self) -> int:
        """Inputs that the convolution needs besides the newest."""
        return self.conv_kernel - 1

    def operations(self) -> Table:
        """Return the two branches, convolution, gates, recurrence, output."""
        return (
            Einsum("y_proj", "btd,dah->btah", weight="dah", bias="ah"),
            Elementwise("y_act", "btah", inputs=("y_proj",), each=GELU_TANH, needs="operands"),
            Einsum("x_proj", "btd,dah->btah", weight="dah", bias="ah"),
            *convolution("conv", "ah", "x_proj", bias=True, silu=False, columns="u"),
            Einsum("input_gate", "btah,ahp->btap", inputs=("conv",), weight="ahp", bias="ap"),
            Einsum("recurrent_gate", "btah,ahp->btap", inputs=("conv",), weight="ahp", bias="ap"),
            # the gates' sigmoids; −8·softplus(Λ)·r, exp; the input's √(1 − a²) and two products
            Elementwise(
                "decay",
                "btah",
                inputs=("recurrent_gate",),
                each=SIGMOID + 3,
                weight="ah",
                needs="operands",
                apart="result",
                inside=2,
            ),
            Elementwise(
                "driven", "btah", inputs=("conv", "input_gate", "decay"), each=SIGMOID + 5, needs="operands", inside=3
            ),
            Elementwise("write", "btah", inputs=("recurrent", "decay", "driven"), each=2, needs=("decay",), inside=1),
            Elementwise("gate", "btah", inputs=("write", "y_act"), each=1, needs="operands"),
            Einsum("o_proj", "btah,ahd->btd", inputs=("gate",), weight="ahd", bias="d"),
        )

    def state(self) -> States:
        """Return the recurrent state in fp32, and the inputs that the convolution needs again."""
        return (
            State(name="recurrent", dims="ah", of="write", form="fp32"),
            State(name="conv_past", dims="ahu", of="x_proj"),
        )
