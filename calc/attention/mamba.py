"""Mamba: the selective state space, one state of width N for every channel."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import SOFTPLUS, Recurrent, convolution, silu_gate
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


@named_record
class Mamba(Recurrent):
    """Mamba: S ← exp(Δ·A)·S + Δ·x Bᵀ, y = S C + D·x, with A of d_i × N and Δ, B, C made from the input.

    Parameters: 2·d·d_i in, d_i·d out, d_i·(K + 1) in the convolution, d_i·(r_Δ + 2·N) for Δ, B and C, (r_Δ + 1)·d_i for
    the time step, d_i·N + d_i for A and D; norms of Δ, B and C where they are learned (Jamba), r_Δ + 2·N. State: d_i·N
    in fp32, and K inputs of each channel: K − 1 would do, but the cache of ``transformers`` holds K.

    The decay depends on channel, state and token, so the recurrence is no matrix product: in every phase its update is
    elementwise, and only reading the state, 2·d_i·N per token, counts as ``matmul`` with projections and convolution.
    Zamba splits the channels into heads that select by themselves: every count stays the same.

    Source: Gu & Dao 2023, arXiv:2312.00752 §3; Jamba: Lieber et al. 2024, arXiv:2403.19887; ``MambaMixer`` of
    transformers and its copies in Falcon-Mamba, Jamba and Zamba.

    >>> Mamba(d_inner=8192, d_state=16, dt_rank=256).bind()
    {'I': 8192, 'R': 256, 'N': 16, 'K': 4}
    """

    source: ClassVar[str] = "Gu & Dao 2023, arXiv:2312.00752 §3"
    kind: Literal["mamba"] = "mamba"
    d_inner: Positive
    d_state: Positive
    dt_rank: Positive
    conv_kernel: Positive = 4
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norm: Literal["learned", "plain"] | None = None
    """RMSNorms of Δ, B and C: with learned scales (Jamba) or without (Falcon-Mamba)."""

    def operations(self) -> Table:
        """Return projections, convolution, selection, recurrence, gate, output."""
        bias = "I" if self.proj_bias else ""
        low, entry, exit_ = ("dt_norm", "b_norm", "c_norm") if self.inner_norm else ("dt_low", "b_proj", "c_proj")
        return (
            Einsum("x_proj", "btd,dI->btI", weight="dI", bias=bias),
            Einsum("z_proj", "btd,dI->btI", weight="dI", bias=bias),
            *convolution("conv", "I", "x_proj", bias=self.conv_bias),
            Einsum("dt_low", "btI,IR->btR", inputs=("conv_act",), weight="IR"),
            Einsum("b_proj", "btI,IN->btN", inputs=("conv_act",), weight="IN"),
            Einsum("c_proj", "btI,IN->btN", inputs=("conv_act",), weight="IN"),
            *self._norms(),
            Einsum("dt_proj", "btR,RI->btI", inputs=(low,), weight="RI", bias="I"),
            Elementwise("dt", "btI", inputs=("dt_proj",), each=SOFTPLUS, needs="operands"),
            # Δ·A and its exponential; Δ·B and its product with x
            Elementwise("decay", "btIN", inputs=("dt",), each=2, weight="IN", needs=("dt", "decay")),
            Elementwise("driven", "btIN", inputs=(entry, "dt", "conv_act"), each=2, needs="operands", inside=1),
            Elementwise("write", "btIN", inputs=("ssm", "decay", "driven"), each=2, needs=("decay",), inside=1),
            Einsum("read", "btIN,btN->btI", inputs=("write", exit_)),
            Elementwise("skip", "btI", inputs=("read", "conv_act"), each=2, weight="I", needs=("conv_act",)),
            silu_gate("btI", "skip", "z_proj"),
            Einsum("out_proj", "btI,Id->btd", inputs=("gate",), weight="Id", bias="d" if self.proj_bias else ""),
        )

    def _norms(self) -> tuple[Operation, ...]:
        """Return the norms of Δ, B and C."""
        if self.inner_norm is None:
            return ()
        learned = self.inner_norm == "learned"
        return tuple(
            Norm(name, f"bt{width}", inputs=(of,), kind="rms", weight=width if learned else "")
            for name, of, width in (("dt_norm", "dt_low", "R"), ("b_norm", "b_proj", "N"), ("c_norm", "c_proj", "N"))
        )

    def state(self) -> States:
        """Return the recurrent state in fp32, and the last K inputs of the convolution."""
        return (
            State(name="ssm", dims="IN", of="write", form="fp32"),
            State(name="conv_past", dims="IK", of="x_proj"),
        )
