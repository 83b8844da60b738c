"""The time of one training step, from the kernels and the collectives of every pipeline stage.

A rank computes: forward and backward kernels of its stage for each micro-batch, and again what is recomputed. It
communicates: partial sums of tensor-parallel products, tokens to experts, keys around the ring, weights and gradients
of data parallelism, activations between stages. What of it is hidden behind computing is the practice of a framework;
the rest is on the critical path, as are the pipeline's bubble and the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from calc.layers import Block
from calc.memory.optimizers import optimizer_of, precision_of
from calc.memory.shape import stored_of
from calc.network import collective_time
from calc.parallel import Ways, Wire, bubble, collectives, shard, stages
from calc.parallel.collective import Direction
from calc.passes import Pass
from calc.records import Record, named_record, replace
from calc.roofline import Efficiency
from calc.training.lasting import lasting
from calc.training.run import Run
from calc.training.work import Work, work

CONTENTION = 0.2
"""Seconds of computing lost for each second of communication that runs behind it: collectives take cores and memory
bandwidth from kernels. Found from step times with and without overlap."""

GATHERS = 3
"""Times that ZeRO-3 moves each weight or its gradient in a micro-batch: forward, backward, and back."""

PARTS: Mapping[str, str] = {
    "tp": "tensor", "expert_tp": "tensor", "ep": "expert", "cp": "context", "pp": "pipeline", "dp": "data",
    "expert_dp": "data",
}  # fmt: skip
"""Axis of a collective → the part of a step it belongs to."""


@named_record
class StepTime(Record):
    """Seconds of one step on the critical path; the parts add up to ``iteration``.

    ``compute``: forward and backward kernels of the slowest stage, over all micro-batches. ``recompute``: forward
    kernels done again. ``tensor``, ``expert``, ``context``, ``pipeline``, ``data``: communication that is not hidden,
    and what the hidden part costs the kernels it runs beside. ``bubble``: waiting for the first and last micro-batches
    to pass the pipeline. ``optimizer``: the update, and the norm of the gradients.
    """

    compute: float
    recompute: float
    tensor: float
    expert: float
    context: float
    pipeline: float
    data: float
    bubble: float
    optimizer: float

    @property
    def communication(self) -> float:
        """All communication on the critical path."""
        return self.tensor + self.expert + self.context + self.pipeline + self.data

    @property
    def iteration(self) -> float:
        """The whole step."""
        return float(sum(asdict(self).values()))


@named_record
class Stage(Record):
    """One pipeline stage: computing and communication of one micro-batch by part, and what is exchanged once a step."""

    work: Work
    tensor: float
    expert: float
    context: float
    pipeline: float
    data: float
    once: float

    @property
    def seconds(self) -> float:
        """One micro-batch, forward and backward."""
        return self.work.seconds + self.tensor + self.expert + self.context + self.pipeline + self.data


def step_time(run: Run) -> StepTime:
    """Return the time of one step, the device under a load that lasts.

    With m micro-batches: m · (slowest stage) + bubble (``calc.parallel.bubble``) + the exchange of gradients and
    weights that no micro-batch hides + the optimizer's update.
    """
    constants = lasting(run.accelerator, run.practice.attention)
    every = stages(run.model, run.layout, mtp=run.mtp)
    keys = [tuple((block.path, block.repeat) for block in blocks) for blocks in every]
    timed = {key: _stage(run, every[keys.index(key)], keys.index(key), constants) for key in dict.fromkeys(keys)}
    key = max(timed, key=lambda one: timed[one].seconds)
    slowest, number = timed[key], run.micro_batches
    mean = sum(timed[one].seconds for one in keys) / len(keys)
    half = slowest.work.backward / 2
    idle = bubble(
        run.layout, number, forward=slowest.work.forward, input_grad=half + slowest.work.again, weight_grad=half
    )
    return StepTime(
        compute=number * (slowest.work.forward + slowest.work.backward),
        recompute=number * slowest.work.again,
        tensor=number * slowest.tensor,
        expert=number * slowest.expert,
        context=number * slowest.context,
        pipeline=number * slowest.pipeline,
        data=number * slowest.data + slowest.once,
        bubble=float(idle) * number * mean,
        optimizer=_update(run, every[keys.index(key)], constants),
    )


def _stage(run: Run, blocks: list[Block], place: int, constants: Efficiency) -> Stage:
    own, habits, layout = work(run, shard(blocks, run.layout), constants), run.practice, run.layout
    spent = _exchanges(run, place)

    def both(part: str) -> float:
        return spent.get((part, "forward"), 0.0) + spent.get((part, "backward"), 0.0)

    tensor, expert = both("tensor"), both("expert")
    overlap = float(habits.data_overlap)
    data = beside(spent.get(("data", "forward"), 0.0), overlap * own.forward)
    data += beside(spent.get(("data", "backward"), 0.0), overlap * (own.backward + own.again))
    if layout.zero == 3:
        weights = sum(block.repeat * len(op.weights) for block in blocks for op in block.operations)
        data += habits.gather_copy_s * GATHERS * layout.replicas * weights
    # the parts of an interleaved stage end one after the other, each with its own gradients to exchange
    window = min(run.micro_batches, layout.pp if layout.virtual_stages > 1 else 1)
    once = sum(spent.get((part, "step"), 0.0) for part in dict.fromkeys(PARTS.values()))
    return Stage(
        work=own,
        tensor=beside(tensor, habits.tensor_hidden * tensor),
        expert=beside(expert, habits.expert_hidden * expert),
        context=beside(both("context"), habits.context_hidden * own.attention),
        pipeline=(1 - habits.pipeline_hidden) * both("pipeline"),
        data=data,
        once=beside(once, overlap * window * (own.forward + own.backward)),
    )


def _exchanges(run: Run, place: int) -> dict[tuple[str, Direction], float]:
    """Return the seconds of a stage's collectives by part and direction: a micro-batch's passes, or once a step."""
    habits, layout = run.practice, run.layout
    once = habits.gathered_once == "always" or (habits.gathered_once == "pipeline" and layout.pp > 1)
    if once and layout.zero == 3:
        layout = replace(layout, zero=1)  # weights gathered and gradients scattered once a step
    if run.method != "full":
        layout = replace(layout, zero=3 if layout.zero == 3 else 0)
    wire = Wire(activation=run.half, weight=run.half, gradient=habits.reduce)
    ways = Ways(dispatch=habits.dispatch, ring=habits.ring, reshard=habits.reshard, recompute=run.recompute)
    calls = collectives(
        run.model, layout, Pass.prefill(run.context, run.micro_batch), stage=place, training=True, mtp=run.mtp,
        wire=wire, ways=ways,
    )  # fmt: skip
    found: dict[tuple[str, Direction], float] = {}
    for call in calls:
        if run.method != "full" and "gradients" in call.after:
            continue  # those of adapters are small, frozen weights have none
        key = PARTS[call.axis], call.direction
        found[key] = found.get(key, 0.0) + float(collective_time(call, run.accelerator))
    return found


def beside(communication: float, computing: float) -> float:
    """Return what communication adds to computing that it may run beside.

    >>> beside(3.0, 2.0) == 1.0 + CONTENTION * 2.0
    True
    """
    hidden = min(communication, computing)
    return communication - hidden + CONTENTION * hidden


def _update(run: Run, blocks: Iterable[Block], constants: Efficiency) -> float:
    """Return the time of the optimizer's update of a rank's share; that of adapters is left out.

    What it moves is ``Optimizer.update_bytes``; what it computes beside that (Muon's matrix products) is left out, too.
    """
    if run.method != "full":
        return 0.0
    optimizer, precision, layout = optimizer_of(run.optimizer), precision_of(run.stored), run.layout
    moved = 0.0
    for each in stored_of(shard(blocks, layout)):
        sharing = (layout.expert_replicas if each.expert else layout.replicas) if layout.zero else 1
        moved += float(each.repeat * optimizer.update_bytes(each, precision)) / sharing
    return moved / (constants.memory * run.accelerator.memory_bytes_per_s)
