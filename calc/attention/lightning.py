"""Lightning attention: linear attention with a fixed decay for each head, computed in blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import SILU, Members, Recurrent, Within, sigmoid_gate
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


@named_record
class Lightning(Recurrent):
    """Lightning attention: S ← λ·S + k vᵀ, y = Sᵀq, with SiLU on queries, keys and values and a fixed λ for each head.

    A norm over all heads and a sigmoid gate follow. Parameters: 5·d·h·d_h (queries, keys, values, gate, output) and
    h·d_h in the norm; the decays are constants. State: h·d_h² elements.

    Matmul FLOPs in prefill, in blocks of Q: 4·h·d_h per pair of positions in a block, and 4·h·d_h² per token to read
    and write the state. A decode step: 4·h·d_h², the outer product k vᵀ as a matrix product, as the source writes it.

    The state has the cache's format, as in ``transformers``; other engines may keep it in fp32.

    Source: Qin et al. 2024, arXiv:2401.04658; MiniMax 2025, arXiv:2501.08313 §2.2; ``MiniMaxLightningAttention`` of
    transformers.

    >>> Lightning(n_heads=64, head_dim=128).bind()
    {'a': 64, 'h': 128, 'p': 128, 'Q': 256}
    """

    source: ClassVar[str] = "MiniMax 2025, arXiv:2501.08313 §2.2"
    kind: Literal["lightning"] = "lightning"
    n_heads: Positive
    head_dim: Positive
    chunk_size: Positive = 256

    @property
    def v_head_dim(self) -> int:
        """Values are as wide as keys."""
        return self.head_dim

    def operations(self) -> Table:
        """Return projections, activations, the recurrence in both forms, norm, gate, output."""
        return (
            Einsum("q_proj", "btd,dah->btah", weight="dah"),
            Einsum("k_proj", "btd,dah->btah", weight="dah"),
            Einsum("v_proj", "btd,dap->btap", weight="dap"),
            Elementwise("q_act", "btah", inputs=("q_proj",), each=SILU, needs="operands"),
            Elementwise("k_act", "btah", inputs=("k_proj",), each=SILU, needs="operands"),
            Elementwise("v_act", "btap", inputs=("v_proj",), each=SILU, needs="operands"),
            *self._chunks(),
            *self._step(),
            Norm("norm", "btap", inputs=("combine",), kind="rms", weight="ap", across="a"),
            Einsum("gate_proj", "btd,dap->btap", weight="dap"),
            sigmoid_gate("btap", "norm", "gate_proj"),
            Einsum("o_proj", "btap,apd->btd", inputs=("gate",), weight="apd"),
        )

    def _chunks(self) -> tuple[Operation, ...]:
        """Return the recurrence in blocks; the last block is as long as what is left."""
        within = Within(chunk_size=self.chunk_size, padded=False)
        members = Members(chunk_size=self.chunk_size, padded=False)
        return (
            Einsum("scores", "btah,bsah->bats", inputs=("q_act", "k_act"), over=within, phase="prefill"),
            Elementwise("decay_mask", "bats", inputs=("scores",), each=1, over=within, phase="prefill"),
            Einsum("local", "bats,bsap->btap", inputs=("decay_mask", "v_act"), over=within, phase="prefill"),
            Elementwise("decayed_q", "btah", inputs=("q_act",), each=1, phase="prefill"),
            Einsum("read", "btah,bsahp->btap", inputs=("decayed_q", "write"), over=members, phase="prefill"),
            Elementwise("combine", "btap", inputs=("local", "read"), each=1, phase="prefill"),
            Elementwise("decayed_k", "btah", inputs=("k_act",), each=1, phase="prefill"),
            Einsum("write", "btah,btap->bsahp", inputs=("decayed_k", "v_act"), over=members, phase="prefill"),
            Elementwise("carry", "bsahp", inputs=("write",), each=2, over=members, phase="prefill"),
        )

    def _step(self) -> tuple[Operation, ...]:
        """Return the recurrence for one token."""
        return (
            Einsum("step_write", "btah,btap->btahp", inputs=("k_act", "v_act"), phase="decode"),
            Elementwise("step_carry", "btahp", inputs=("recurrent", "step_write"), each=2, phase="decode"),
            Einsum("step_read", "btah,btahp->btap", inputs=("q_act", "step_carry"), phase="decode"),
        )

    def state(self) -> States:
        """Return the recurrent state."""
        return (State(name="recurrent", dims="ahp", of="step_carry"),)
