"""The backward pass of one layer, tensor by tensor: the most that lives at once beyond what was kept.

Operations are undone in reverse. Undoing one needs the gradient of its result, makes the gradients of its operands and
of its weight, and frees what only it and later operations kept. Chains of elementwise operations and a flash kernel are
undone at once where they run as one kernel; sums pass their gradient on as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number
from calc.layers import Block
from calc.operations import Einsum, Elementwise, Operation, extent
from calc.records import Record, record
from calc.saved import Kept, Recompute, Saved, Tensor
from calc.saved.joined import over_pairs


@record
class Need(Record):
    """Bytes that live at one moment: a share that grows with the sequences, and one that does not."""

    per_sequence: Number
    fixed: Number = 0


class Backward:
    """One layer undone: what is held at each operation, beyond what the forward pass kept of it.

    ``joined`` must be of one sequence. ``gradient_bytes``: a number of a weight's own gradient before it is added to
    the others; 0 where products add to them.
    """

    def __init__(self, joined: Kept, recompute: Recompute, gradient_bytes: int) -> None:
        self.joined, self.gradient_bytes = joined, gradient_bytes
        kept = joined.kept(recompute)
        self.kept = sum(each.bytes for each in kept)
        joined.kept("none")
        self.made: dict[Tensor, Saved] = dict(joined.found)
        self.again = sum(each.bytes for each in self.made.values()) - self.kept
        """What recomputation makes again before the layer is undone."""
        self.core = joined.core() if joined.keeping.attention == "flash" else set()
        self.held: dict[Tensor, Number] = {}
        self.live: Number = 0
        self.freed: Number = 0

    def needs(self) -> list[Need]:
        """Return what is needed at each operation."""
        found: list[Need] = []
        order = self.joined.order
        last = (order[-1][0].path, order[-1][1].name)
        self._hold(last, self._size(*order[-1]))
        for block, operation in reversed(order):
            own = (block.path, operation.name)
            skipped = own in self.core and not self._leaves_core(own)
            if not skipped and not self._inside_chain(own, operation):
                weight = self.gradient_bytes * self._trained(block, operation)
                for key, size in self._operands(block, operation):
                    self._hold(key, size)
                found.append(Need(self.again + self.live - self.freed, weight))
            self._drop(own)
            for key, each in self.made.items():
                if (each.path, each.operation) == own and key[0]:
                    self.freed = self.freed + each.bytes
        return found

    def _trained(self, block: Block, operation: Operation) -> Number:
        """Return the numbers of an operation's trained weights."""
        env = self.joined.envs[block.path, operation.name]
        adapters = self.joined.keeping.adapters
        if adapters:
            return adapters.parameters(operation, env)
        return operation.parameters(env)

    def _hold(self, key: Tensor, size: Number) -> None:
        if key not in self.held:
            self.held[key] = size
            self.live = self.live + size

    def _drop(self, key: Tensor) -> None:
        if key in self.held:
            self.live = self.live - self.held.pop(key)

    def _size(self, block: Block, operation: Operation) -> Number:
        env = self.joined.envs[block.path, operation.name]
        return self.joined.keeping.bytes * extent(operation.output, env, operation.over, causal=False)

    def _leaves_core(self, own: Tensor) -> bool:
        return not over_pairs(self.joined.operations[own][1].output)

    def _inside_chain(self, own: Tensor, operation: Operation) -> bool:
        """Tell whether an operation is undone with a later one, as one kernel."""
        if not self.joined.keeping.fused or not self.joined.chained(operation):
            return False
        return self.joined.between(own)

    def _operands(self, block: Block, operation: Operation) -> Iterable[tuple[Tensor, Number]]:
        """Yield the tensors whose gradients undoing an operation makes, with their bytes, and operands it gathers."""
        joined, own = self.joined, (block.path, operation.name)
        env, size = joined.envs[own], joined.keeping.bytes
        if isinstance(operation, Elementwise) and operation.name.endswith("_residual"):
            return  # the stream's gradient goes on as it is, to the part and past it
        reached: list[tuple[Block, Operation, str]] = [(block, operation, name) for name in operation.inputs]
        passed: set[Tensor] = set()  # a recurrence is made of what it was before
        while reached:
            at, of, name = reached.pop()
            key = joined.operand(at, of, name)
            made = joined.operations.get(key)
            inside = own in self.core and key in self.core
            if made and not inside and joined.keeping.fused and joined.chained(of):
                inside = self._inside_chain(key, made[1])
            if made and inside:
                if key not in passed:
                    passed.add(key)
                    reached += [(*made, inner) for inner in made[1].inputs]
                continue
            dims = joined.operand_letters(at, of, name)
            yield key, size * extent(dims, joined.envs[at.path, of.name])
            if isinstance(of, Einsum) and of.weight and made and made[1].split > of.split:
                # ranks hold shares of what a product needs whole: gathered again for the weight's gradient
                yield (key[0], f"{key[1]}@whole"), size * extent(of.operands[0], env)
