"""What one sequence and one layer cost on a rank, found once for a model, a division of its letters and a context.

A layout search asks thousands of times for the same layers with other pipelines, replicas and micro-batches: all of
those are sums and products of the figures here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from calc.algebra import Number, product
from calc.memory.backward import Backward, Need
from calc.memory.optimizers import Stored
from calc.model import Block, Model
from calc.operations import Lookup, Operation, extent
from calc.parallel import Layout, is_expert, shard
from calc.passes import Pass
from calc.records import Record, named_record, replace
from calc.saved import Adapters, Keeping, Kept, Recompute, Saved, groups, saved
from calc.units import dtype


@named_record
class Shape(Record):
    """The tables of one layer, or one table outside the layers, on a rank. Bytes are those of one sequence."""

    path: str
    """``layer``, ``layer2``, ``encoder.layer``, ``embedding``, ``head`` …"""
    layered: bool
    kept: Number
    """Bytes that its forward pass keeps."""
    shared: Number
    """Bytes that all layers keep together."""
    tensors: tuple[Saved, ...]
    needs: tuple[Need, ...]
    """Beyond them, at each moment of its backward pass."""
    stored: tuple[Stored, ...]
    """Its weights (of all ranks of an expert group alike)."""
    adapters: tuple[Stored, ...] = ()
    """What is trained beside frozen weights."""
    head: bool = False
    """It makes logits."""
    logits: Number = 0
    """Logits of one sequence."""
    stream: Number = 0
    """Numbers of one sequence in the residual stream, as a pipeline stage sends them."""

    @property
    def parameters(self) -> Number:
        """Its weights, all together."""
        return sum(each.elements for each in self.stored)


def divided(layout: Layout) -> Layout:
    """Return the part of a layout that divides tables: without pipeline, replicas and schedule."""
    return Layout(
        tp=layout.tp,
        cp=layout.cp,
        ep=layout.ep,
        dp=layout.ep,
        sequence_parallel=layout.sequence_parallel,
        expert_tp=layout.expert_tp,
        vocab_multiple=layout.vocab_multiple,
    )


@lru_cache(maxsize=512)
def shapes(
    model: Model, layout: Layout, context: int, keeping: Keeping, recompute: Recompute, gradient_bytes: int, mtp: bool
) -> Mapping[str, Shape]:
    """Return every distinct layer and every table outside the layers; ``layout`` as ``divided`` returns it."""
    blocks = model.blocks() + (model.mtp_blocks() if mtp else [])
    pass_ = Pass.prefill(context, 1)
    found: dict[str, Shape] = {}
    for group in groups(shard(blocks, layout)):
        found[place(group[0])] = _shape(group, pass_, keeping, recompute, gradient_bytes)
    return found


def place(block: Block) -> str:
    """Return the path of the layer that a table stands in, or its own."""
    side = "encoder." if block.encoder else ""
    return f"{side}{block.layer or block.name}"


def _shape(group: list[Block], pass_: Pass, keeping: Keeping, recompute: Recompute, gradient_bytes: int) -> Shape:
    group = [replace(block, repeat=1) for block in group]
    layered = bool(group[0].layer)
    recompute = recompute if layered else "none"
    tensors = tuple(saved(group, pass_, keeping, recompute=recompute))
    undone = Backward(Kept(group, pass_, keeping), recompute, gradient_bytes)
    joined = undone.joined
    stored = tuple(stored_of(group))
    env = joined.envs[joined.order[0][0].path, joined.order[0][1].name]
    adapters = keeping.adapters
    return Shape(
        path=place(group[0]),
        layered=layered,
        kept=sum(each.bytes for each in tensors if not each.shared),
        shared=sum(each.bytes for each in tensors if each.shared),
        tensors=tensors,
        needs=tuple(undone.needs()),
        stored=stored,
        adapters=tuple(_adapters(joined, adapters)) if adapters else (),
        head=any(operation.name == "lm_head" for _, operation in joined.order),
        logits=_logits(joined),
        stream=extent("btd", env),
    )


def _adapters(joined: Kept, adapters: Adapters) -> Iterator[Stored]:
    for block, operation in joined.order:
        for rows, columns in adapters.shapes(operation, joined.envs[block.path, operation.name]):
            yield Stored(
                path=block.path, operation=operation.name, elements=rows * columns, matrices=1, rows=rows,
                columns=columns, expert=is_expert(operation),
            )  # fmt: skip


def _logits(joined: Kept) -> Number:
    """Return the logits that a table makes: of the vocabulary's head."""
    for block, operation in joined.order:
        if operation.name == "lm_head":
            return extent(operation.output, joined.envs[block.path, operation.name])
    return 0


def stored_of(blocks: Iterable[Block]) -> Iterator[Stored]:
    """Yield the learned tensors of tables, those of one operation as one."""
    for block in blocks:
        for operation in block.operations:
            if operation.weights:
                yield _stored(block, operation)


def _stored(block: Block, operation: Operation) -> Stored:
    shapes = [weight.shape(block.letters) for weight in operation.weights if not weight.tied]
    elements = sum(product(shape) for shape in shapes)
    matrices, rows, columns = max(shapes, key=product) if shapes else (1, 1, 0)
    return Stored(
        path=block.path,
        operation=operation.name,
        elements=elements,
        matrices=matrices,
        rows=rows,
        columns=columns,
        repeat=block.repeat,
        expert=is_expert(operation),
        looked_up=isinstance(operation, Lookup),
        hidden=bool(block.layer) and not isinstance(operation, Lookup) and block.layer != "mtp",
    )


def bytes_of(form: str, stored: Stored) -> Number:
    """Return the bytes of a stored tensor in a number format, blocks and scales included."""
    return dtype(form).stored(stored.rows, stored.columns, stored.matrices)
