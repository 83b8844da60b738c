"""The gate that some attentions put on their result, before the output projection."""

from __future__ import annotations

from typing import Literal

from calc.operations import Einsum, Elementwise, Operation

OutputGate = Literal["element", "head"]
"""``element``: one gate for each element of each head (Qwen3-Next); ``head``: one for a whole head (Step-3.5)."""


def output_gate(kind: OutputGate | None, heads: str, width: str, of: str, *, bias: bool = False) -> list[Operation]:
    """Return σ(x·W_g) ⊙ result: a projection of the block's input, its sigmoid, the product; nothing without a gate.

    ``bias``: one for each head (Beam).

    >>> [op.formula for op in output_gate("head", "kg", "h", "values")]
    ['btd,dkg->btkg', 'elementwise btkg', 'elementwise btkgh']
    """
    if kind is None:
        return []
    gates = heads + (width if kind == "element" else "")
    return [
        Einsum("gate_proj", f"btd,d{gates}->bt{gates}", weight=f"d{gates}", bias=heads if bias else ""),
        # exp, add, divide
        Elementwise("gate_sigmoid", f"bt{gates}", inputs=("gate_proj",), each=3, needs="result"),
        Elementwise("gated", f"bt{heads}{width}", inputs=(of, "gate_sigmoid"), each=1, needs="operands"),
    ]
