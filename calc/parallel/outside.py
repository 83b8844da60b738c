"""The collectives around a pass: between copies of the weights, and between pipeline stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calc.algebra import Number, exact_div
from calc.model import Block, Model, Pass
from calc.operations import Operation
from calc.parallel.collective import Collective, Direction, Kind, Ways, Wire, group_of
from calc.parallel.inside import inside, routed
from calc.parallel.layout import Group, Layout
from calc.parallel.pipeline import stages
from calc.parallel.sharding import divisions, letters_of, shard
from calc.passes import environment
from calc.records import replace
from calc.tensors import Weight


def collectives(
    model: Model,
    layout: Layout,
    pass_: Pass,
    *,
    stage: int = 0,
    training: bool = False,
    mtp: bool = False,
    wire: Wire | None = None,
    ways: Ways | None = None,
) -> list[Collective]:
    """Return what one rank of a pipeline stage exchanges: ``forward`` and ``backward`` for each pass, ``step`` once.

    ``pass_`` is one model copy's: a micro-batch of whole sequences. In inference (``training = False``) weights and
    gradients are not exchanged. Units: bytes.

    - Tensor, sequence, expert and context parallelism: from the tables (``calc.parallel.inside``).
    - Gradients, over the cp·dp copies of a weight (experts: tp·cp·dp/(ep·expert_tp)): an all-reduce once a step; with
      ZeRO-1 a reduce-scatter and an all-gather of the weights (Rajbhandari et al. 2019, arXiv:1910.02054 §5); with
      ZeRO-2 the reduce-scatter in every micro-batch; with ZeRO-3 weights are gathered layer by layer, forward and
      backward, and gradients scattered, in every micro-batch (FSDP, Zhao et al. 2023, arXiv:2304.11277 §3.2).
    - Weights that tensor-parallel ranks repeat, of which each saw a share of the tokens or heads: one all-reduce of
      their gradients a step (``finalize_model_grads`` of Megatron-Core).
    - A table that the first and the last stage have: an all-reduce between the two.
    - Activations to the next stage and gradients to the one before, once for each virtual stage.

    Not counted: gradient norms, loss averages and other single numbers.

    Raises:
        SpecError: a layout that the model cannot have.

    >>> import calc
    >>> calls = collectives(calc.load("llama-3-8b"), Layout(tp=8), calc.Pass.decode(4096))
    >>> [(call.kind, call.count, call.bytes) for call in calls[:2]]
    [('all_reduce', 1, 8192), ('all_reduce', 32, 8192)]
    """
    wire, ways = wire or Wire(), ways or Ways()
    blocks = stages(model, layout, mtp=mtp)[stage]
    found = list(inside(blocks, layout, pass_, wire, ways, training=training))
    if training:
        found += between_copies(blocks, layout, wire, ways)
        found += repeated_weights(blocks, layout, wire)
        found += shared_table(model, blocks, layout, wire, stage=stage, mtp=mtp)
    found += between_stages(blocks, layout, pass_, wire, stage=stage, training=training)
    return found


# ---- between copies of the weights


def between_copies(blocks: Iterable[Block], layout: Layout, wire: Wire, ways: Ways) -> Iterator[Collective]:
    """Yield the exchanges of gradients and weights among the ranks that hold the same weights."""
    units = list(_units(shard(blocks, layout)))
    axes: tuple[tuple[Group, bool], ...] = (("dp", False), ("expert_dp", True))
    for axis, of_experts in axes:
        if layout.group(axis)[0] == 1:
            continue
        if layout.zero < 3:
            total = sum(times * _parameters(unit, of_experts) for _, unit, times in units)
            yield from _once(total, axis, layout, wire)
            continue
        for name, unit, times in units:
            yield from _by_unit(name, _parameters(unit, of_experts), times, axis, layout, wire, ways)


def _once(number: Number, axis: Group, layout: Layout, wire: Wire) -> Iterator[Collective]:
    if not number:
        return
    gradients, weights = wire.of("gradient").bytes(number), wire.of("weight").bytes(number)
    if layout.zero == 0:
        yield _call("all_reduce", gradients, axis, layout, "gradients", "step")
        return
    yield _call("reduce_scatter", gradients, axis, layout, "gradients", "step" if layout.zero == 1 else "backward")
    yield _call("all_gather", weights, axis, layout, "weights", "step")


def _by_unit(
    name: str, number: Number, times: Number, axis: Group, layout: Layout, wire: Wire, ways: Ways
) -> Iterator[Collective]:
    if not number:
        return
    gathered = _call("all_gather", wire.of("weight").bytes(number), axis, layout, f"{name}.weights", "forward", times)
    yield gathered
    if ways.reshard and name != ROOT:
        yield replace(gathered, direction="backward")
    size = wire.of("gradient").bytes(number)
    yield _call("reduce_scatter", size, axis, layout, f"{name}.gradients", "backward", times)


ROOT = "ends"
"""The unit of what stands outside the layers: its weights stay gathered until the backward pass (FSDP)."""


def _units(blocks: Iterable[Block]) -> Iterator[tuple[str, list[Block], Number]]:
    """Yield (name, tables, how often) of what FSDP gathers at once: a layer; and all that is outside the layers."""
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        side = "encoder." if block.encoder else ""
        groups.setdefault(f"{side}{block.layer}" if block.layer else ROOT, []).append(block)
    for name, group in groups.items():
        yield name, group, 1 if name == ROOT else group[0].repeat


def _parameters(blocks: Iterable[Block], of_experts: bool) -> Number:
    """Return the parameters of one unit on one rank."""
    return sum(
        operation.parameters(block.letters)
        for block in blocks
        for operation in block.operations
        if routed(operation) == of_experts
    )


def _call(
    kind: Kind, size: Number, axis: Group, layout: Layout, after: str, direction: Direction, count: Number = 1
) -> Collective:
    return Collective(
        kind=kind,
        bytes=size,
        **group_of(layout, axis),
        count=count,
        axis=axis,
        after=after,
        direction=direction,
    )


# ---- weights that tensor-parallel ranks repeat


def repeated_weights(blocks: Iterable[Block], layout: Layout, wire: Wire) -> Iterator[Collective]:
    """Yield the all-reduces of gradients of which every tensor-parallel rank has a part: one call for each group."""
    if layout.tp == 1:
        return
    sums: dict[int, Number] = {}
    for block in blocks:
        divided = divisions(block, layout)
        [local] = shard([block], layout)
        for operation in local.operations:
            for weight in operation.weights:
                ranks = _repeats(operation, weight, divided, layout)
                if ranks > 1:
                    sums[ranks] = sums.get(ranks, 0) + local.repeat * weight.total(local.letters)
    for ranks, number in sums.items():
        if number:
            call = _call("all_reduce", wire.of("gradient").bytes(number), "tp", layout, "repeated weights", "step")
            yield replace(call, size=ranks)


def _repeats(operation: Operation, weight: Weight, divided: dict[str, int], layout: Layout) -> int:
    """Return how many neighbouring ranks repeat a weight and have a part of its gradient each."""
    if routed(operation):
        return 1
    held = [divided[letter] for letter in weight.dims if letter in divided]
    if held:
        degree = 1
        for one in held:
            degree *= one
        return layout.tp // degree
    touched = [letter for letter in letters_of(operation) if letter in divided]
    whole = touched and not any(letter in divided for letter in operation.output)
    if operation.split > 1 or (touched and not whole) or (whole and layout.sequence_parallel):
        return layout.tp
    return 1


# ---- between stages


def shared_table(
    model: Model, blocks: Iterable[Block], layout: Layout, wire: Wire, *, stage: int, mtp: bool
) -> Iterator[Collective]:
    """Yield the all-reduce of the gradients of a vocabulary table that the first and the last stage both have."""
    tied = (model.head is not None and model.head.tied) or (mtp and model.mtp is not None)
    if layout.pp == 1 or stage not in (0, layout.pp - 1) or not tied:
        return
    for block in shard(blocks, layout):
        for operation in block.operations:
            read = [weight for weight in operation.weights if set(weight.dims) & {"v", "Δ"} and not weight.tied]
            if read and len(read[0].dims) > 1 and "j" not in read[0].dims:
                size = wire.of("gradient").bytes(read[0].total(block.letters))
                distance = (layout.pp - 1) * layout.group("pp")[1]
                call = _call("all_reduce", size, "pp", layout, f"{block.path}.{operation.name}", "step")
                yield replace(call, size=2, stride=distance)
                return


def between_stages(
    blocks: list[Block], layout: Layout, pass_: Pass, wire: Wire, *, stage: int, training: bool
) -> Iterator[Collective]:
    """Yield what a stage sends: activations to the next one, gradients to the one before."""
    if layout.pp == 1:
        return
    some = shard(blocks[:1], layout)[0]
    env = environment(some, pass_)
    streams = max((block.letters["Y"] for block in blocks if "Y" in block.letters), default=1)
    elements = streams * env["b"] * env["t"] * env["d"]
    if layout.sequence_parallel:
        elements = exact_div(elements, layout.tp)
    call = _call("send_recv", wire.of("activation").bytes(elements), "pp", layout, "stage", "forward")
    last, stride = layout.pp - 1, call.stride
    call = replace(call, size=2, abreast=stride)  # all ranks of a stage send at once
    forward = layout.virtual_stages - (stage == last)
    backward = layout.virtual_stages - (stage == 0)
    # with virtual stages the last rank sends to the first, across all of them
    around = replace(call, stride=last * stride)
    if forward:
        ahead = around if stage == last else replace(call, first=stage * stride)
        yield replace(ahead, count=forward)
    if training and backward:
        back = around if stage == 0 else replace(call, first=(stage - 1) * stride)
        yield replace(back, count=backward, direction="backward")
