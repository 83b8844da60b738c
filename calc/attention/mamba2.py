"""Mamba-2: a state-space layer with one decay for each head, computed in chunks."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import (
    Members,
    Passing,
    Recurrent,
    Within,
    convolution,
    silu_gate,
    time_step,
)
from calc.errors import SpecError
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


@named_record
class Mamba2(Recurrent):
    """Mamba-2: S ← exp(Δ·a)·S + Δ·x Bᵀ, y = S C + D·x, for each head of d_p channels and a state of width N.

    Parameters: d·(2·h_s·d_p + 2·n_g·N + h_s) in, h_s·d_p·d out, (h_s·d_p + 2·n_g·N)·(K + 1) in the convolution, 3·h_s
    for Δ's bias, a and D, h_s·d_p in the gated norm. State: h_s·d_p·N in fp32, and K inputs of each convolved channel:
    K − 1 would do, but the cache of ``transformers`` holds K.

    Matmul FLOPs in prefill, in chunks of Q: 2·h_s·(N + d_p) per pair of positions in a chunk, 4·h_s·d_p·N per token to
    write and read the states, 2·h_s·d_p·N per chunk to pass them on. B and C count for every head, as the reference
    code repeats them, though n_g groups share them. At a decode step the state is read with 2·h_s·d_p·N; updating it is
    elementwise. Not counted: Falcon-H1's constant multipliers.

    With ``dt_rank``: d·2·h_s·d_p in, h_s·d_p·(r_Δ + 2·N) + r_Δ·h_s for Δ, B and C, r_Δ + 2·N in their norms, and
    h_s·d_p channels in the convolution.

    Source: Dao & Gu 2024, arXiv:2405.21060 §6 and listing 1; ``Mamba2Mixer`` of transformers and its copies in Bamba,
    Nemotron-H, Granite 4, Zamba2, Falcon-H1; ``Plamo2MambaMixer`` of vLLM.

    Raises:
        SpecError: n_ssm_heads is not divisible by n_groups; groups, or biases of the maps in, with dt_rank.

    >>> Mamba2(n_ssm_heads=80, ssm_head_dim=64, d_state=128).bind()["Q"]
    256
    """

    source: ClassVar[str] = "Dao & Gu 2024, arXiv:2405.21060 §6"
    kind: Literal["mamba2"] = "mamba2"
    n_ssm_heads: Positive
    ssm_head_dim: Positive
    d_state: Positive
    n_groups: Positive = 1
    conv_kernel: Positive = 4
    chunk_size: Positive = 256
    conv_bias: bool = True
    in_bias: bool = False
    out_bias: bool = False
    gated_norm: bool = True
    """An RMSNorm over the gated result; without it only the gate (Falcon-H1)."""
    dt_rank: Positive | None = None
    """Δ, B and C are made, as in Mamba, from the convolved input, with a norm over each and Δ through this rank, in
    place of maps of the layer's input and convolutions of B and C; all heads share one B and C (PLaMo 2)."""

    def __post_init__(self) -> None:
        if self.n_ssm_heads % self.n_groups:
            raise SpecError(f"n_ssm_heads = {self.n_ssm_heads} is not divisible by n_groups = {self.n_groups}")

        if self.dt_rank and (self.n_groups > 1 or self.in_bias):
            raise SpecError("dt_rank goes with n_groups = 1 and in_bias = false")

    def operations(self) -> Table:
        """Return projections, convolutions, the recurrence in both forms, gate, norm, output."""
        norm = (Norm("norm", "btHP", inputs=("gate",), kind="rms", weight="HP"),) if self.gated_norm else ()
        return (
            self._project("x_proj", "HP"),
            *(self._selected() if self.dt_rank else self._mapped()),
            time_step("dt_proj", "btH", "H"),
            # Δ·a, and its exponential
            Elementwise("decay", "btH", inputs=("dt",), each=1, weight="H", needs="operands"),
            Elementwise("x_dt", "btHP", inputs=("conv_x_act", "dt"), each=1, needs="operands"),
            *self._chunks(),
            *self._step(),
            Elementwise("skip", "btHP", inputs=("combine", "conv_x_act"), each=2, weight="H", needs=("conv_x_act",)),
            silu_gate("btHP", "skip", "z_proj"),
            *norm,
            Einsum(
                "out_proj",
                "btHP,HPd->btd",
                inputs=("norm" if self.gated_norm else "gate",),
                weight="HPd",
                bias="d" if self.out_bias else "",
            ),
        )

    def _mapped(self) -> tuple[Operation, ...]:
        """Return B, C and Δ as maps of the layer's input, the first two convolved."""
        return (
            self._project("b_proj", "GN"),
            self._project("c_proj", "GN"),
            self._project("z_proj", "HP"),
            self._project("dt_proj", "H"),
            *convolution("conv_x", "HP", "x_proj", bias=self.conv_bias),
            *convolution("conv_b", "GN", "b_proj", bias=self.conv_bias),
            *convolution("conv_c", "GN", "c_proj", bias=self.conv_bias),
        )

    def _selected(self) -> tuple[Operation, ...]:
        """Return B, C and Δ as maps of the convolved input, each normalised."""
        return (
            self._project("z_proj", "HP"),
            *convolution("conv_x", "HP", "x_proj", bias=self.conv_bias),
            Einsum("dt_low", "btHP,HPR->btR", inputs=("conv_x_act",), weight="HPR"),
            Einsum("b_proj", "btHP,HPN->btN", inputs=("conv_x_act",), weight="HPN"),
            Einsum("c_proj", "btHP,HPN->btN", inputs=("conv_x_act",), weight="HPN"),
            Norm("dt_norm", "btR", inputs=("dt_low",), kind="rms", weight="R"),
            Norm("b_norm", "btN", inputs=("b_proj",), kind="rms", weight="N"),
            Norm("c_norm", "btN", inputs=("c_proj",), kind="rms", weight="N"),
            Einsum("dt_proj", "btR,RH->btH", inputs=("dt_norm",), weight="RH"),
        )

    @property
    def _made(self) -> tuple[str, str]:
        """The operations that make B and C."""
        return ("b_norm", "c_norm") if self.dt_rank else ("conv_b_act", "conv_c_act")

    def _project(self, name: str, to: str) -> Einsum:
        return Einsum(name, f"btd,d{to}->bt{to}", weight=f"d{to}", bias=to if self.in_bias else "")

    def _chunks(self) -> tuple[Operation, ...]:
        """Return the recurrence in chunks."""
        within = Within(chunk_size=self.chunk_size)
        members = Members(chunk_size=self.chunk_size)
        passing = Passing(chunk_size=self.chunk_size)
        b, c = self._made
        return (
            Einsum("scores", "btHN,bsHN->bHts", inputs=(c, b), over=within, phase="prefill"),
            # the decay between two positions (a difference and its exponential), times the score
            Elementwise("decay_mask", "bHts", inputs=("scores",), each=3, over=within, phase="prefill"),
            Einsum("local", "bHts,bsHP->btHP", inputs=("decay_mask", "x_dt"), over=within, phase="prefill"),
            Elementwise("decayed_b", "btHN", inputs=(b,), each=1, over=members, phase="prefill"),
            Einsum("write", "btHN,btHP->bsHNP", inputs=("decayed_b", "x_dt"), over=members, phase="prefill"),
            Einsum("pass", "btsH,bsHNP->btHNP", inputs=("decay", "write"), over=passing, phase="prefill"),
            Einsum("read", "btHN,bsHNP->btHP", inputs=(c, "pass"), over=members, phase="prefill"),
            Elementwise("combine", "btHP", inputs=("local", "read"), each=2, over=members, phase="prefill"),
        )

    def _step(self) -> tuple[Operation, ...]:
        """Return the recurrence for one token."""
        return (
            # the state times its decay, the outer product of x and B, their sum
            Elementwise("step_write", "btHNP", inputs=("ssm",), each=3, phase="decode"),
            Einsum("step_read", "btHNP,btHN->btHP", inputs=("step_write", self._made[1]), phase="decode"),
        )

    def state(self) -> States:
        """Return the recurrent state in fp32, and the last K inputs of the convolutions."""
        own = (
            State(name="ssm", dims="HNP", of="step_write", form="fp32"),
            State(name="conv_x_past", dims="HPK", of="x_proj"),
        )
        if self.dt_rank:
            return own
        return (
            *own,
            State(name="conv_b_past", dims="GNK", of="b_proj"),
            State(name="conv_c_past", dims="GNK", of="c_proj"),
        )
