"""What a training pass keeps for its backward pass: read off the operation tables, every tensor once.

Each operation says what its derivative needs (``Operation.needed``): an einsum its activation operands, a softmax its
result, a norm its input and a statistic or two a row, an activation function its operand, a product both factors; sums,
constant factors and rotations nothing. A tensor that several operations need is kept once, by the first of them.

Which kernels run decides the rest. *Eager* attention keeps the pairs: softmax in, with dropout, mask and dropped copy;
*flash* attention keeps queries, keys, values, its result and the fp32 log-sum-exp of each row (Dao et al. 2022,
arXiv:2205.14135 §3.1). *Fused* kernels keep a norm's input with its statistics in fp32, and of a chain of elementwise
operations only what enters it. PyTorch's separate kernels also keep what lies between.

Recomputation drops tensors: *selective* those of the attention core (Korthikanti et al. 2022, arXiv:2205.05198 §5),
*products* all but a layer's input, its attention's result and every second product with a weight (torchtitan's
selective checkpointing by operation), *full* all of a layer but its input. Weights, token ids and masks made of
positions are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number
from calc.checks import one_of
from calc.layers import Block
from calc.passes import Pass
from calc.saved.joined import groups
from calc.saved.keeping import RECOMPUTES, Adapters, AttentionKernel, Keeping, Recompute, Saved, Tensor
from calc.saved.kept import Kept

__all__ = [
    "RECOMPUTES", "Adapters", "AttentionKernel", "Keeping", "Kept", "Recompute", "Saved", "Tensor", "groups", "saved",
    "saved_bytes",
]  # fmt: skip


def saved(
    blocks: Iterable[Block],
    pass_: Pass,
    keeping: Keeping | None = None,
    *,
    recompute: Recompute = "none",
) -> list[Saved]:
    """Return every tensor that a training pass over ``blocks`` keeps for its backward pass, each once.

    The operand of a frozen matrix is not needed. Sharded tables (``calc.parallel.shard``) give what one rank keeps.

    Raises:
        SpecError: an unknown way of recomputing.

    >>> import calc
    >>> gpt3 = calc.load("gpt-3").blocks()
    >>> plain = Keeping(attention="eager", dropout=True, form="fp16")
    >>> layer = [s for s in saved(gpt3, Pass.prefill(2048), plain) if s.path.startswith("layer.")]
    >>> per_token = sum(s.bytes for s in layer if "statistics" not in s.tensor) // (2048 * 12288)
    >>> per_token, 34 + 5 * 96 * 2048 // 12288  # Korthikanti et al. 2022, equation 1
    (114, 114)
    """
    one_of("recompute", recompute, RECOMPUTES)
    keeping = Keeping() if keeping is None else keeping
    found: list[Saved] = []
    lent = False
    for group in groups(blocks):
        for each in Kept(group, pass_, keeping).kept(recompute):
            if not (each.shared and lent):
                found.append(each)
            lent = lent or each.shared
    return found


def saved_bytes(found: Iterable[Saved]) -> Number:
    """Return the bytes of everything kept, all layers together."""
    return sum(each.total for each in found)
