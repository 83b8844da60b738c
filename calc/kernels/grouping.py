"""Which operations of a table run as one kernel: read off types, letters and ``inputs``, and nothing else.

Fused, as vLLM, TensorRT-LLM, Megatron and ``torch.compile`` run them:

* a product with a weight is a GEMM; products that read the same tensor over the same letters are one GEMM with wider
  output (q, k and v; gate and up; a latent and its rotated key), routers apart;
* what makes, changes or reads a tensor over pairs of positions is one flash attention: the pairs never reach memory;
* a recurrence – operations over chunks (the letter Q), or that read the state which they write – is one scan;
* everything else moves memory. Such operations are one kernel where one reads another or both read the result of the
  same kernel: a residual addition and the norm after it, the activation of a gate and its product, query-key norms and
  rotation, a router's scores and choice.

``flash`` is eager code that calls a flash attention: products, attention and recurrences as above, and everything that
only moves memory a kernel of its own. Eager, each operation is a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from calc.kernels.record import Fusion, Kind
from calc.layers import Block
from calc.operations import Einsum, Elementwise, Lookup, Operation, States, Table
from calc.passes import Pass, runs
from calc.records import Record, named_record

STREAM = "x"
"""A table's input: in a table between blocks, the residual stream as it stands."""


@named_record
class Group(Record):
    """Operations of one table that run as one kernel, and what crosses its border.

    ``reads`` are (operation, index of its input, tensor); ``writes`` names the operations whose result leaves.
    """

    kind: Kind
    operations: Table
    reads: tuple[tuple[str, int, str], ...]
    writes: tuple[str, ...]


def groups(block: Block, pass_: Pass, fusion: Fusion) -> tuple[Group, ...]:
    """Return the kernels of a table in a pass, in order."""
    table = tuple(operation for operation in block.operations if runs(block, operation, pass_))
    idle = frozenset(operation.name for operation in block.operations) - {operation.name for operation in table}
    return _groups(table, idle, block.states, fusion)


@lru_cache(maxsize=1024)
def _groups(table: Table, idle: frozenset[str], states: States, fusion: Fusion) -> tuple[Group, ...]:
    flow = _Flow(table, idle, states)
    parts = [[operation] for operation in flow.table] if fusion == "eager" else _fused(flow, memory=fusion == "fused")
    return tuple(flow.group(part) for part in parts)


class _Flow:
    """What feeds what in a table: the operation behind every input, in the order of execution."""

    def __init__(self, table: Table, idle: frozenset[str], states: States) -> None:
        self.states = {state.name: state for state in states}
        self.stored = {state.of for state in states}
        self.table = _around_the_layer(table, {*self.states, *idle})
        self.by_name = {operation.name: operation for operation in table}
        self.names = set(self.by_name)
        self.sources: dict[str, tuple[str, ...]] = {}
        """For each operation, what stands behind its inputs: an operation of this table, a state, or a name from
        outside."""
        current: dict[str, str] = {}
        only_here = [operation.name for operation in table if operation.phase is not None]
        if only_here:  # what another phase computes so, the last operation of this phase's own form has computed
            current.update(dict.fromkeys(idle, only_here[-1]))
        for operation in self.table:
            found = tuple(name if name in self.names else current.get(name, name) for name in operation.inputs)
            self.sources[operation.name] = found
            known = self.names | set(self.states) | idle
            outside = [name for name in operation.inputs if name not in known]
            if outside and isinstance(operation, Elementwise) and set(outside) > {STREAM}:
                current[STREAM] = operation.name  # an addition to the residual stream
            elif len(outside) == len(operation.inputs) == 1 and outside != [STREAM]:
                current[outside[0]] = operation.name  # a norm or a factor between another table and the stream

    def behind(self, name: str) -> str | None:
        """Return the operation that makes a tensor: of a state, the one that writes it."""
        if name in self.names:
            return name
        state = self.states.get(name)
        return state.of if state is not None and state.of in self.names else None

    def group(self, part: list[Operation]) -> Group:
        """Return a kernel with its border."""
        inside = {operation.name for operation in part}
        reads: dict[str, tuple[str, int, str]] = {}
        for operation in part:
            for index, source in enumerate(self.sources[operation.name]):
                if source not in inside:
                    reads.setdefault(f"{operation.name}:{index}", (operation.name, index, source))
        used = {
            source
            for operation in self.table
            if operation.name not in inside
            for source in self.sources[operation.name]
        }
        consumed = {source for operation in self.table for source in self.sources[operation.name]}
        writes = tuple(
            operation.name
            for operation in part
            if operation.name in used or operation.name in self.stored or operation.name not in consumed
        )
        return Group(kind=_kind(part, self), operations=tuple(part), reads=tuple(reads.values()), writes=writes)


def _around_the_layer(table: Table, known: Iterable[str]) -> Table:
    """Put what stands before the first addition to the residual stream after the last: there it runs, one layer on."""
    names = {operation.name for operation in table} | set(known) | {STREAM}
    outside = [any(name not in names for name in operation.inputs) for operation in table]
    additions = [one and STREAM in operation.inputs for one, operation in zip(outside, table, strict=True)]
    if not any(additions):
        return table
    first = outside.index(True)
    return (*table[first:], *table[:first])


def _kind(part: list[Operation], flow: _Flow) -> Kind:
    if any(_is_pairs(operation) for operation in part):
        return "attention"
    if any(_in_chunks(operation) for operation in part) or _recurrent(part, flow):
        return "scan"
    if any(_is_gemm(operation) for operation in part):
        return "grouped_gemm" if any(getattr(operation, "chosen", ()) for operation in part) else "gemm"
    return "lookup" if all(isinstance(operation, Lookup) for operation in part) else "memory"


def _is_gemm(operation: Operation) -> bool:
    """Tell a matrix product with a weight: some letter comes from the weight alone, and some is summed over."""
    if not isinstance(operation, Einsum) or not operation.weight or _in_chunks(operation):
        return False
    return bool(operation.output) and bool(columns(operation)) and bool(contracted(operation))


def columns(operation: Einsum) -> str:
    """Return the letters of the result that only the weight has."""
    given = "".join(operation.operands) + "".join(letter for letter, _ in operation.chosen)
    return "".join(x for x in operation.weight if x in operation.output and x not in given)


def contracted(operation: Einsum) -> str:
    """Return the letters that are summed over."""
    chosen = dict(operation.chosen)
    letters = operation.weight + "".join(operation.operands)
    return "".join(dict.fromkeys(x for x in letters if x not in operation.output and x not in chosen))


def batched(operation: Einsum) -> str:
    """Return the letters that weight, activation and result share: one matrix for each of them."""
    given = "".join(operation.operands)
    return "".join(x for x in operation.weight if x in given and x in operation.output)


def _is_pairs(operation: Operation) -> bool:
    """Tell an operation whose result holds a number for each pair of a query and a key."""
    letters = operation.output
    return "t" in letters and ("s" in letters or "m" in letters) and not _in_chunks(operation)


def _in_chunks(operation: Operation) -> bool:
    """Tell an operation over the chunks of a recurrence."""
    return operation.over is not None and "Q" in operation.over.letters


def _recurrent(part: Iterable[Operation], flow: _Flow) -> bool:
    """Tell a group that reads a state which it writes itself."""
    inside = {operation.name for operation in part}
    read = {source for operation in part for source in flow.sources[operation.name] if source in flow.states}
    return any(not flow.states[name].positional and flow.states[name].of in inside for name in read)


def _fused(flow: _Flow, memory: bool) -> list[list[Operation]]:
    """Return the operations kernel by kernel, in an order in which what is read has been made.

    Without ``memory``, what only moves memory is a kernel each.
    """
    sets = _Sets(operation.name for operation in flow.table)
    _join_pairs(flow, sets)
    chunks = [operation.name for operation in flow.table if _in_chunks(operation)]
    for name in chunks[1:]:
        sets.join(chunks[0], name)
    scans = set(chunks) | _join_recurrences(flow, sets)
    _join_products(flow, sets)
    alone = [name for name, one in flow.by_name.items() if _alone(one) or _is_pairs(one) or name in scans]
    heavy = {sets.root(name) for name in alone}
    levels = _levels(flow, sets, heavy)
    if memory:
        _join_memory(flow, sets, heavy, levels)
    place = {name: index for index, name in enumerate(flow.by_name)}

    def order(part: list[Operation]) -> tuple[int, bool, int]:
        # what only moves memory stands before the product of its level that reads it
        first = part[0].name
        return levels[first], sets.root(first) in heavy, place[first]

    return sorted(sets.parts(flow.table), key=order)


def _alone(operation: Operation) -> bool:
    """Tell what memory operations are not fused into."""
    return _is_gemm(operation) or isinstance(operation, Lookup)


def _join_pairs(flow: _Flow, sets: _Sets) -> None:
    """Join what makes and what reads tensors over pairs."""
    for operation in flow.table:
        for source in flow.sources[operation.name]:
            if source in flow.names and _is_pairs(flow.by_name[source]) and not _is_gemm(operation):
                sets.join(source, operation.name)


def _join_recurrences(flow: _Flow, sets: _Sets) -> set[str]:
    """Join what reads a state with what writes it and what reads tensors of the state's shape; returns their names."""
    found: set[str] = set()
    for state in flow.states.values():
        readers = [operation for operation in flow.table if state.name in flow.sources[operation.name]]
        if state.positional or not readers or state.of not in flow.names:
            continue
        joined = dict.fromkeys([*(operation.name for operation in readers), state.of])
        shaped = {operation.name for operation in flow.table if set(state.dims) <= set(operation.output)}
        fed = {source for name in joined for source in flow.sources[name] if source in shaped}
        joined |= dict.fromkeys(name for name in fed if not _is_gemm(flow.by_name[name]))
        for operation in flow.table:
            sources = [source for source in flow.sources[operation.name] if source in joined]
            if sources and (operation.phase is not None or shaped.intersection(sources)):
                joined[operation.name] = None
        first, *rest = joined
        for name in rest:
            sets.join(first, name)
        found |= set(joined)
    return found


def _join_products(flow: _Flow, sets: _Sets) -> None:
    """Join products with weights that read the same tensor over the same letters."""
    first: dict[tuple[object, ...], str] = {}
    for operation in flow.table:
        if isinstance(operation, Einsum) and _is_gemm(operation):
            rows = frozenset(operation.output) - frozenset(operation.weight)
            summed = frozenset(contracted(operation))
            source = flow.sources[operation.name]
            key = (source, rows, summed, batched(operation), operation.chosen, operation.over, operation.part)
            sets.join(first.setdefault(key, operation.name), operation.name)


def _join_memory(flow: _Flow, sets: _Sets, heavy: set[str], levels: dict[str, int]) -> None:
    """Join what only moves memory, where it stands between the same products."""
    light = [operation for operation in flow.table if sets.root(operation.name) not in heavy]
    reader: dict[tuple[str, int], str] = {}
    for operation in light:
        level = levels[operation.name]
        for source in flow.sources[operation.name]:
            maker = flow.behind(source)
            if source in flow.states and maker is not None and maker != operation.name:
                maker = maker if sets.root(maker) not in heavy else None
            if maker is not None and sets.root(maker) not in heavy and levels[maker] == level:
                sets.join(maker, operation.name)
            elif maker is not None and sets.root(maker) in heavy:
                sets.join(reader.setdefault((sets.root(maker), level), operation.name), operation.name)


def _levels(flow: _Flow, sets: _Sets, heavy: set[str]) -> dict[str, int]:
    """Return how many products stand before each operation on the longest way from the table's input."""
    level = dict.fromkeys((operation.name for operation in flow.table), 0)
    outside: dict[str, int] = {STREAM: 0}
    for _ in flow.table:  # a table is short: repeat until nothing moves, which a cycle through a state cannot prevent
        before = dict(level)
        for operation in flow.table:
            name = operation.name
            for source in flow.sources[name]:
                maker = flow.behind(source)
                if maker is not None and sets.root(maker) != sets.root(name):
                    level[name] = max(level[name], level[maker] + (sets.root(maker) in heavy))
                elif maker is None and source not in flow.states:
                    level[name] = max(level[name], outside.setdefault(source, len(outside)))
        for root in heavy:
            top = max(level[name] for name in sets.members(root))
            level.update(dict.fromkeys(sets.members(root), top))
        if level == before:
            break
    return level


class _Sets:
    """Names in disjoint sets that can be joined."""

    def __init__(self, names: Iterable[str]) -> None:
        self._of = {name: [name] for name in names}

    def root(self, name: str) -> str:
        """Return the first member of a name's set."""
        return self._of[name][0]

    def members(self, name: str) -> list[str]:
        """Return a name's set."""
        return self._of[name]

    def join(self, one: str, other: str) -> None:
        """Make two sets one."""
        into, of = self._of[one], self._of[other]
        if into is not of:
            into += of
            self._of.update(dict.fromkeys(of, into))

    def parts(self, table: Table) -> list[list[Operation]]:
        """Return the sets in the table's order."""
        found: dict[str, list[Operation]] = {}
        for operation in table:
            found.setdefault(self.root(operation.name), []).append(operation)
        return list(found.values())
