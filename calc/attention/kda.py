"""Kimi delta attention: the gated delta rule with a decay for each channel of the key."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.delta import delta_chunks, delta_step
from calc.attention.recurrence import SIGMOID, Recurrent, convolution, sigmoid_gate, time_step
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, State, States, Table
from calc.records import named_record


@named_record
class KimiDelta(Recurrent):
    """Kimi delta attention: S ← Diag(α)·S, then S ← S + β·k (v − Sᵀk)ᵀ, y = Sᵀq, for each of h heads.

    As the gated delta net, but the decay α is a vector over the key's channels, made by a low-rank projection of width
    r_g (or a matrix of d × h·d_h), and the output gate is such a projection too, through a sigmoid.

    Parameters: 3·d·h·d_h for queries, keys, values, h·d_h·d out, 2·(d·r_g + r_g·h·d_h) for the two gates, d·h for β,
    3·h·d_h·K in the convolution, h·d_h + h for the decay, d_h in the norm. State: h·d_h² in fp32, and K inputs of each
    convolved channel: K − 1 would do, but the cache of ``transformers`` holds K.

    Matmul FLOPs in prefill, in chunks of Q: 10·h·d_h per pair of positions in a chunk, and 6·h·d_h² per token. At a
    decode step 4·h·d_h²; decay and writing are elementwise.

    Source: Kimi Team 2025, arXiv:2510.26692 §3; ``KimiLinearDeltaAttention`` of transformers, its copies in GLM-5 Next
    and, with full matrices, Ling's ``BailingHybridDeltaAttention``; modeling_kimi_linear.py of moonshotai/Kimi-K3.

    >>> KimiDelta(n_heads=32, head_dim=128, gate_rank=128).bind()["F"]
    128
    """

    source: ClassVar[str] = "Kimi Team 2025, arXiv:2510.26692 §3"
    kind: Literal["kda"] = "kda"
    n_heads: Positive
    head_dim: Positive
    gate_rank: Positive | None = None
    """Width between the two factors of each gate's map; None where it is one matrix (Ling)."""
    full_output_gate: bool = False
    """The output gate's map is one matrix though the decay's has two factors (Kimi K3)."""
    conv_kernel: Positive = 4
    chunk_size: Positive = 64

    @property
    def v_head_dim(self) -> int:
        """Values are as wide as keys."""
        return self.head_dim

    def operations(self) -> Table:
        """Return projections, convolutions, gates, the recurrence in both forms, norm, gate, output."""
        decay, gate = self._map("f", "ah"), self._map("g", "ap")
        return (
            Einsum("q_proj", "btd,dah->btah", weight="dah"),
            Einsum("k_proj", "btd,dah->btah", weight="dah"),
            Einsum("v_proj", "btd,dap->btap", weight="dap"),
            *convolution("conv_q", "ah", "q_proj"),
            *convolution("conv_k", "ah", "k_proj"),
            *convolution("conv_v", "ap", "v_proj"),
            # square, add, multiply; queries also by 1/√d_h
            Elementwise("q_norm", "btah", inputs=("conv_q_act",), each=4),
            Elementwise("k_norm", "btah", inputs=("conv_k_act",), each=3),
            Einsum("b_proj", "btd,da->bta", weight="da"),
            Elementwise("beta", "bta", inputs=("b_proj",), each=SIGMOID, needs="result"),
            *decay,
            time_step(decay[-1].name, "btah", "ah"),
            Elementwise("decay", "btah", inputs=("dt",), each=1, weight="a", needs="operands"),
            *delta_chunks("a", self.chunk_size, "q_norm", "k_norm", "conv_v_act"),
            *delta_step("a", "q_norm", "k_norm", "conv_v_act"),
            *gate,
            Norm("norm", "btap", inputs=("combine",), kind="rms", weight="p"),
            sigmoid_gate("btap", "norm", gate[-1].name),
            Einsum("o_proj", "btap,apd->btd", inputs=("gate",), weight="apd"),
        )

    def _map(self, name: str, to: str) -> tuple[Einsum, ...]:
        """Return the map from the input to a gate, in two factors or as one matrix."""
        if self.gate_rank is None or (name == "g" and self.full_output_gate):
            return (Einsum(f"{name}_proj", f"btd,d{to}->bt{to}", weight=f"d{to}"),)
        return (
            Einsum(f"{name}_a_proj", "btd,dF->btF", weight="dF"),
            Einsum(f"{name}_b_proj", f"btF,F{to}->bt{to}", inputs=(f"{name}_a_proj",), weight=f"F{to}"),
        )

    def state(self) -> States:
        """Return the recurrent state in fp32, and the last K inputs of the convolutions."""
        return (
            State(name="recurrent", dims="ahp", of="step_write", form="fp32"),
            State(name="conv_q_past", dims="ahK", of="q_proj"),
            State(name="conv_k_past", dims="ahK", of="k_proj"),
            State(name="conv_v_past", dims="apK", of="v_proj"),
        )
