"""Lightning attention: linear attention with a fixed decay for each head, computed in blocks."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import SILU, Members, Recurrent, Within, sigmoid_gate
from calc.errors import SpecError
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


@named_record
class Lightning(Recurrent):
    """Lightning attention: S ← λ·S + k vᵀ, y = Sᵀq, with SiLU on queries, keys and values and a fixed λ for each head.

    A norm over all heads, or over groups of them, and a sigmoid gate follow. Parameters: 5·d·h·d_h (queries, keys,
    values, gate, output) and h·d_h in the norm, 2·d_h where queries and keys are normalised (Ring); the decays are
    constants. State: h·d_h² elements.

    Matmul FLOPs in prefill, in blocks of Q: 4·h·d_h per pair of positions in a block, and 4·h·d_h² per token to read
    and write the state. A decode step: 4·h·d_h², the outer product k vᵀ as a matrix product, as the source writes it.

    The state has the cache's format, as in ``transformers``; other engines may keep it in fp32.

    Source: Qin et al. 2024, arXiv:2401.04658; MiniMax 2025, arXiv:2501.08313 §2.2; ``MiniMaxLightningAttention`` of
    transformers; Ring-linear, arXiv:2510.19338 §2.

    Raises:
        SpecError: more rotary dimensions than the head has.

    >>> Lightning(n_heads=64, head_dim=128).bind()
    {'a': 64, 'h': 128, 'p': 128, 'Q': 256}
    """

    source: ClassVar[str] = "MiniMax 2025, arXiv:2501.08313 §2.2"
    kind: Literal["lightning"] = "lightning"
    n_heads: Positive
    head_dim: Positive
    activated: bool = True
    """SiLU on queries, keys and values; Ring-linear has none."""
    qk_norm: bool = False
    """Queries and keys normalised head by head, with one scale for all heads (Ring-linear)."""
    rotary_dim: Positive | None = None
    """Dimensions of each head that are rotated; None without rotary positions."""
    chunk_size: Positive = 256

    def __post_init__(self) -> None:
        if self.rotary_dim is not None and self.rotary_dim > self.head_dim:
            raise SpecError(f"rotary_dim = {self.rotary_dim} is larger than head_dim = {self.head_dim}")

    @property
    def v_head_dim(self) -> int:
        """Values are as wide as keys."""
        return self.head_dim

    def operations(self) -> Table:
        """Return projections, activations, the recurrence in both forms, norm, gate, output."""
        queries, keys, values = (self._projected(name, to) for name, to in (("q", "ah"), ("k", "ah"), ("v", "ap")))
        last = queries[-1].name, keys[-1].name, values[-1].name
        return (
            *queries,
            *keys,
            *values,
            *self._chunks(*last),
            *self._step(*last),
            Norm("norm", "btap", inputs=("combine",), kind="rms", weight="ap", across="a"),
            Einsum("gate_proj", "btd,dap->btap", weight="dap"),
            sigmoid_gate("btap", "norm", "gate_proj"),
            Einsum("o_proj", "btap,apd->btd", inputs=("gate",), weight="apd"),
        )

    def _projected(self, name: str, to: str) -> list[Operation]:
        """Return queries, keys or values, and what is made of them before the recurrence."""
        table: list[Operation] = [Einsum(f"{name}_proj", f"btd,d{to}->bt{to}", weight=f"d{to}")]
        if self.qk_norm and name != "v":
            table.append(Norm(f"{name}_norm", f"bt{to}", inputs=(table[-1].name,), kind="rms", weight="h"))
        if self.rotary_dim and name != "v":
            table.append(Elementwise(f"{name}_rotary", "btar", inputs=(table[-1].name,), each=3))
        if self.activated:
            act = Elementwise(f"{name}_act", f"bt{to}", inputs=(table[-1].name,), each=SILU, needs="operands")
            table.append(act)
        return table

    def _chunks(self, q: str, k: str, v: str) -> tuple[Operation, ...]:
        """Return the recurrence in blocks; the last block is as long as what is left."""
        within = Within(chunk_size=self.chunk_size, padded=False)
        members = Members(chunk_size=self.chunk_size, padded=False)
        return (
            Einsum("scores", "btah,bsah->bats", inputs=(q, k), over=within, phase="prefill"),
            Elementwise("decay_mask", "bats", inputs=("scores",), each=1, over=within, phase="prefill"),
            Einsum("local", "bats,bsap->btap", inputs=("decay_mask", v), over=within, phase="prefill"),
            Elementwise("decayed_q", "btah", inputs=(q,), each=1, phase="prefill"),
            Einsum("read", "btah,bsahp->btap", inputs=("decayed_q", "write"), over=members, phase="prefill"),
            Elementwise("combine", "btap", inputs=("local", "read"), each=1, phase="prefill"),
            Elementwise("decayed_k", "btah", inputs=(k,), each=1, phase="prefill"),
            Einsum("write", "btah,btap->bsahp", inputs=("decayed_k", v), over=members, phase="prefill"),
            Elementwise("carry", "bsahp", inputs=("write",), each=2, over=members, phase="prefill"),
        )

    def _step(self, q: str, k: str, v: str) -> tuple[Operation, ...]:
        """Return the recurrence for one token."""
        return (
            Einsum("step_write", "btah,btap->btahp", inputs=(k, v), phase="decode"),
            Elementwise("step_carry", "btahp", inputs=("recurrent", "step_write"), each=2, phase="decode"),
            Einsum("step_read", "btah,btahp->btap", inputs=(q, "step_carry"), phase="decode"),
        )

    def state(self) -> States:
        """Return the recurrent state."""
        return (State(name="recurrent", dims="ahp", of="step_carry"),)
