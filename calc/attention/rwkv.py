"""The time mixing of RWKV-4: a weighted average of values that decays with distance."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import Recurrent, sigmoid_gate
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, State, States, Table
from calc.records import named_record


@named_record
class RWKV(Recurrent):
    """RWKV-4 time mixing: y = σ(r) ⊙ (num + e^{u + k} v) / (den + e^{u + k}), with num and den decaying by e^{−w}.

    Receptance, keys and values come from a mix of the token and the one before it. Parameters: 4·d·d_i, 3·d for the
    mixes, 2·d_i for u and w. State: the last input (d), and numerator, denominator and their common exponent (3·d_i) in
    fp32. Matmul FLOPs: 8·d·d_i per token; the recurrence is elementwise in every phase.

    Source: Peng et al. 2023, arXiv:2305.13048 §3 and appendix D; ``RwkvSelfAttention`` of transformers.

    >>> RWKV(d_inner=768).bind()
    {'I': 768}
    """

    source: ClassVar[str] = "Peng et al. 2023, arXiv:2305.13048 §3"
    kind: Literal["rwkv"] = "rwkv"
    d_inner: Positive

    def operations(self) -> Table:
        """Return the mixes with the token before, the projections, the recurrence, the output."""
        return (
            # x·μ + x'·(1 − μ): two products, a difference and a sum
            Elementwise("r_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
            Elementwise("k_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
            Elementwise("v_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
            Einsum("r_proj", "btd,dI->btI", inputs=("r_mix",), weight="dI"),
            Einsum("k_proj", "btd,dI->btI", inputs=("k_mix",), weight="dI"),
            Einsum("v_proj", "btd,dI->btI", inputs=("v_mix",), weight="dI"),
            # maximum of the exponents, two exponentials, numerator, denominator, their quotient
            Elementwise("wkv", "btI", inputs=("numerator", "denominator", "exponent"), each=12, weight="I"),
            # the same for the state that is kept
            Elementwise("carry", "btI", inputs=("numerator", "denominator", "exponent"), each=11, weight="I"),
            sigmoid_gate("btI", "wkv", "r_proj"),
            Einsum("o_proj", "btI,Id->btd", inputs=("gate",), weight="Id"),
        )

    def state(self) -> States:
        """Return the last input, and the fp32 state of the weighted average."""
        return (
            State(name="shift", dims="d", of="x"),
            State(name="numerator", dims="I", of="carry", form="fp32"),
            State(name="denominator", dims="I", of="carry", form="fp32"),
            State(name="exponent", dims="I", of="carry", form="fp32"),
        )
