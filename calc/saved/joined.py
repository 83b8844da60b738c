"""The tables of one layer joined: in which order their operations run, and which tensor each of them reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calc.layers import Block
from calc.operations import Einsum, Elementwise, Env, Operation, Softmax
from calc.passes import Pass, running
from calc.saved.keeping import POSITIONS, Keeping, Tensor
from calc.saved.order import Order


def groups(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Yield the tables of each kind of layer together, and every other table alone."""
    layers: dict[tuple[str, bool], list[Block]] = {}
    alone: list[list[Block]] = []
    for block in blocks:
        if block.name in ("head", "pooler") and alone and alone[-1][0].name in ("final_norm", "head"):
            alone[-1].append(block)  # they read what the final norm makes
        elif not block.layer:
            alone.append([block])
        elif (block.layer, block.encoder) in layers:
            layers[block.layer, block.encoder].append(block)
        else:
            layers[block.layer, block.encoder] = [block]
    yield from layers.values()
    yield from alone


class Joined:
    """The tables of one layer, or a table outside the layers: their operations in order, and how they are joined."""

    def __init__(self, blocks: list[Block], pass_: Pass, keeping: Keeping) -> None:
        self.keeping = keeping
        self.blocks = {block.name: block for block in blocks}
        self.tables: dict[str, list[Operation]] = {block.name: [] for block in blocks}
        self.envs: dict[Tensor, Env] = {}
        self.operations: dict[Tensor, tuple[Block, Operation]] = {}
        for block, operation, env in running(blocks, pass_):
            self.tables[block.name].append(operation)
            self.envs[block.path, operation.name] = env
            self.operations[block.path, operation.name] = (block, operation)
        found = Order(self.blocks, self.tables)
        self.order, self.elsewhere = found.operations, found.elsewhere
        self._entries, self._streams = found.entries, found.streams

    # ---- how tables are joined

    def resolve(self, block: Block, name: str) -> Tensor:
        """Return which tensor an operation's operand is."""
        if name == "x":
            return self._entries[block.name]
        if (block.path, name) in self.operations:
            return (block.path, name)
        for state in block.states:
            if state.name == name and state.of != name and state.positional:
                return self.resolve(block, state.of)
        return (block.path, name)

    def operand(self, block: Block, operation: Operation, name: str) -> Tensor:
        """Return which tensor an operation's operand is; between parts that depends on where the operation stands."""
        if block.name == "residual":
            return self._streams.get((operation.name, name), (block.path, name))
        return self.resolve(block, name)

    def operand_letters(self, block: Block, operation: Operation, name: str) -> str:
        """Return the letters of an operand as the kernel holds it."""
        if isinstance(operation, Einsum):
            place = operation.inputs.index(name)
            dims = operation.operands[place]
            if name == "x" and dims == "bd":
                return "btd"  # a view of the first position, which keeps all of its memory
            if operation.chosen:
                # every token stands once for each of its experts
                return dims + "".join(
                    pick for _, pick in operation.chosen if pick not in dims and pick in operation.output
                )
            if len(operation.operands) == 2 and not operation.weight:
                return dims + repeated(operation)[place]
            return dims
        made = self.operations.get(self.operand(block, operation, name))
        return made[1].output if made else operation.output

    # ---- operations that run as one kernel

    def core(self) -> set[Tensor]:
        """Return the operations of attention cores: what makes or reads pairs that a softmax is taken of."""
        core: set[Tensor] = set()
        for block in self.blocks.values():
            table = {op.name: op for op in self.tables[block.name]}
            pairs = {name for name, op in table.items() if isinstance(op, Softmax) and over_pairs(op.output)}
            reach = list(pairs)
            while reach:
                for name in table[reach.pop()].inputs:
                    if name in table and over_pairs(table[name].output) and name not in pairs:
                        pairs.add(name)
                        reach.append(name)
            readers = {name for name, op in table.items() if pairs & set(op.inputs)}
            core |= {(block.path, name) for name in pairs | readers}
        return core

    @staticmethod
    def chained(operation: Operation) -> bool:
        """Tell whether an operation is fused into a chain: elementwise, and no sum that the stream goes on as."""
        return type(operation) is Elementwise and not operation.name.endswith("_residual")

    def between(self, key: Tensor) -> bool:
        """Tell whether a result is only read by elementwise operations, so that a fused kernel makes it again."""
        readers = [op for block, op in self.order if any(self.operand(block, op, name) == key for name in op.inputs)]
        return bool(readers) and all(self.chained(op) for op in readers)


def named(key: Tensor, block: Block) -> str:
    """Return how a tensor is called in a table: by the operation that makes it, after its table if that is another."""
    return key[1] if key[0] == block.path else f"{key[0].rpartition('.')[2]}.{key[1]}"


def over_pairs(dims: str) -> bool:
    """Tell whether a tensor has a number for each pair of positions."""
    return len(POSITIONS & set(dims)) > 1


def repeated(operation: Einsum) -> tuple[str, str]:
    """Return the letters along which separate kernels repeat each operand of a product of two activations.

    A batched matrix product has one free dimension of each operand; further ones of one operand (the heads that share
    a key) are batch dimensions, along which the other is repeated.

    >>> repeated(Einsum("scores", "btkgh,bskh->bkgts", inputs=("q", "k")))
    ('', 'g')
    """
    first, second = operation.operands
    rests = []
    for own, other in ((first, second), (second, first)):
        free = [letter for letter in own if letter in operation.output and letter not in other]
        row = next((letter for letter in free if letter in POSITIONS), free[-1] if free else "")
        rests.append("".join(letter for letter in free if letter != row and letter not in POSITIONS))
    return rests[1], rests[0]
