"""Pipeline stages: which layers stand where, and the time that a schedule leaves devices idle."""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number
from calc.errors import SpecError
from calc.model import Block, Model
from calc.operations import Einsum, Lookup, Operation, Table
from calc.parallel.layout import Layout
from calc.records import replace


def stages(model: Model, layout: Layout, *, mtp: bool = False) -> list[list[Block]]:
    """Return the tables of each pipeline stage: the embedding in the first, final norm and head in the last.

    Layers are dealt out in order and evenly. Where they cannot be, the first and the last stage, which have embedding
    and head to do, get one fewer before others do (Llama 3 405B: 126 layers over 16 stages, arXiv:2407.21783 §3.3.2;
    ``first_layers`` and ``last_layers`` say otherwise, as Megatron's ``num-layers-in-first-pipeline-stage``). With
    virtual stages rank i has the chunks i, i + pp, … (Narayanan et al. 2021, arXiv:2104.04473 §2.2). ``mtp`` adds the
    modules for multi-token prediction to the last stage. A head tied to the embedding stores a copy of the table where
    it does not stand on the same stage.

    Raises:
        SpecError: fewer layers than stages; an encoder's model in several stages.

    >>> import calc
    >>> split = stages(calc.load("llama-3.1-405b"), Layout(pp=16))
    >>> [next(block.repeat for block in stage if block.name == "ffn") for stage in split]
    [7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7]
    """
    parts = chunks(model, layout, mtp=mtp)
    return [_merged(parts[rank :: layout.pp]) for rank in range(layout.pp)]


def chunks(model: Model, layout: Layout, *, mtp: bool = False) -> list[list[Block]]:
    """Return the tables of every part of the stack in the order in which a micro-batch passes them: pp·virtual_stages.

    Raises:
        SpecError: fewer layers than parts; an encoder's model in several stages.
    """
    blocks, further = model.blocks(), _sharing(model.mtp_blocks()) if mtp else []
    number = layout.pp * layout.virtual_stages
    if number == 1:
        return [[*blocks, *further]]
    if model.encoder:
        raise SpecError(f"pp = {layout.pp}: {model.name} has an encoder, whose states every stage would need")
    before = [block for block in blocks if not block.positions and block.part == "embedding"]
    after = [block for block in blocks if not block.positions and block.part != "embedding"]
    split, start = [], 0
    for size in sizes(model.n_layers, layout):
        split.append(_between(blocks, start, start + size))
        start += size
    split[0] = before + split[0]
    split[-1] = split[-1] + _with_table([*after, *further])
    return split


def sizes(n_layers: int, layout: Layout) -> list[int]:
    """Return the layers of each part of the stack.

    >>> sizes(61, Layout(pp=4))
    [15, 16, 15, 15]
    """
    number = layout.pp * layout.virtual_stages
    fixed = {0: layout.first_layers, number - 1: layout.last_layers}
    given = {place: size for place, size in fixed.items() if size is not None}
    free = [place for place in range(number) if place not in given]
    left = n_layers - sum(given.values())
    if not given and left == number - 2:
        return [0, *[1] * left, 0]  # embedding and head count as layers (account_for_embedding_in_pipeline_split)
    if left < len(free) or (not free and left):
        raise SpecError(f"{n_layers} layers cannot be dealt out to {number} stages{_asked(given)}")
    each, more = divmod(left, len(free)) if free else (0, 0)
    # the ends have embedding and head to do: the last gets one more last, the first before it
    ranked = sorted(free, key=lambda place: (place == number - 1, place == 0, place))
    larger = set(ranked[:more])
    return [given.get(place, each + (place in larger)) for place in range(number)]


def _asked(given: dict[int, int]) -> str:
    return f" with {', '.join(map(str, given.values()))} in the first or the last" if given else ""


def _between(blocks: Iterable[Block], start: int, end: int) -> list[Block]:
    """Return the tables of the layers from ``start`` up to ``end``."""
    found = []
    for block in blocks:
        clipped = tuple(part for run in block.positions if (part := _clipped(run, start, end)))
        if clipped:
            found.append(replace(block, positions=clipped, repeat=sum(map(len, clipped))))
    return found


def _clipped(run: range, start: int, end: int) -> range:
    first = max(run.start, run.start + -(-(start - run.start) // run.step) * run.step)
    return range(first, min(run.stop, end), run.step)


def _sharing(blocks: Iterable[Block]) -> list[Block]:
    """Return the tables of prediction modules as they are trained: with the embedding and the head of the model.

    DeepSeek-V3, arXiv:2412.19437 §2.2: both are physically shared, though its checkpoint repeats them.
    """
    return [replace(block, operations=tuple(_tied(op) for op in block.operations)) for block in blocks]


def _tied(operation: Operation) -> Operation:
    if isinstance(operation, Lookup) or (isinstance(operation, Einsum) and operation.part == "head"):
        return replace(operation, tied=True)
    return operation


def _with_table(blocks: list[Block]) -> list[Block]:
    """Return the tables behind the stack, the first of which that reads the embedding's table stores it once more.

    That is a head tied to it, or the embedding of a prediction module, whose own head is the model's.
    """
    for place, block in enumerate(blocks):
        operations = tuple(_stored(op, block) for op in block.operations)
        if operations != block.operations:
            stored = [replace(block, operations=operations, repeat=1)]
            others = [replace(block, repeat=block.repeat - 1)] if block.repeat > 1 else []
            return [*blocks[:place], *stored, *others, *blocks[place + 1 :]]
    return blocks


def _stored(operation: Operation, block: Block) -> Operation:
    if isinstance(operation, Lookup) or (isinstance(operation, Einsum) and block.part == "head"):
        return replace(operation, tied=False)
    return operation


def _merged(parts: Iterable[list[Block]]) -> list[Block]:
    """Return the tables of several parts of the stack, equal ones added up."""
    found: dict[tuple[str, int], Block] = {}
    tables: dict[str, list[Table]] = {}  # compared, not hashed: nearly all of them are the same object
    for block in (block for part in parts for block in part):
        known = tables.setdefault(block.path, [])
        if block.operations not in known:
            known.append(block.operations)
        key = block.path, known.index(block.operations)
        if key in found:
            other = found[key]
            block = replace(other, repeat=other.repeat + block.repeat, positions=other.positions + block.positions)
        found[key] = block
    return list(found.values())


def bubble(
    layout: Layout, micro_batches: Number, *, forward: Number = 1, input_grad: Number = 1, weight_grad: Number = 1
) -> Number:
    """Return the time that a pipeline's devices stand idle, over the time they work in a step.

    The three times are those of one micro-batch in one stage (all its virtual stages together); only their ratio
    counts. With p stages, m micro-batches, v virtual stages, T = T_F + T_B + T_W:

    - GPipe and 1F1B: (p − 1)/m (Huang et al. 2018, arXiv:1811.06965 §2.3; Narayanan et al. 2021, arXiv:2104.04473
      §2.2.1);
    - interleaved: (p − 1)/(v·m) (ibid. §2.2.2);
    - zero bubble: (p − 1)·(T_F + T_B − T_W)/(m·T), the schedule ZB-H1 with 1F1B's memory (Qi et al. 2023,
      arXiv:2401.10241 §2.3, Table 1).

    The share of the whole step is x/(1 + x): (p − 1)/(m + p − 1) for 1F1B.

    >>> bubble(Layout(pp=8), 32), bubble(Layout(pp=8, virtual_stages=2, schedule="interleaved"), 32)
    (0.21875, 0.109375)
    """
    idle = (layout.pp - 1) / (layout.virtual_stages * micro_batches)
    if layout.schedule == "zero_bubble":
        idle = idle * (forward + input_grad - weight_grad) / (forward + input_grad + weight_grad)
    return idle
