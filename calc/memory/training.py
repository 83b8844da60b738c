"""Memory of one device in training: what every moment of a step holds, and the largest of them.

Held all along: weights, the optimizer's states, gradients (where they are a buffer), fixed buffers. On top of that, at
each moment of a step:

* backward: the activations of all micro-batches in flight, and what undoing one layer needs at its worst;
* loss: the same activations on the last stage, and the logits;
* embedding: the table's own gradient, when the activations of its micro-batch are gone;
* step: what the optimizer's update needs, when no activation lives.

A pipeline stage holds min(p − i, m) micro-batches under 1F1B (Narayanan et al. 2021, arXiv:2104.04473 §2.2.1), all m
under GPipe, and with v virtual stages 2·(p − i − 1) + (v − 1)·p + 1 of its v parts (ibid. §2.2.2; Korthikanti et al.
2022, arXiv:2205.05198 §4.2.3: p·(1 + (p − 1)/(p·v)) micro-batches of a first stage).

ZeRO divides the optimizer's states (1), gradients (2) and weights (3) by the ranks that hold the same
(Rajbhandari et al. 2019, arXiv:1910.02054 §5); layers are whole again while they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from calc.algebra import Number, if_at_most, minimum
from calc.catalog import load
from calc.checks import one_of, share, whole
from calc.errors import SpecError
from calc.memory.backward import Need
from calc.memory.frameworks import Framework, load_framework
from calc.memory.optimizers import Optimizer, Precision, Stored, optimizer_of, precision_of
from calc.memory.shape import Shape, bytes_of, divided, place, shapes
from calc.model import Model
from calc.parallel import Layout, stages
from calc.records import Record, named_record, replace
from calc.saved import RECOMPUTES, Adapters, AttentionKernel, Keeping, Recompute, Saved

Moment: TypeAlias = Literal["backward", "loss", "embedding", "step"]


@named_record
class Run(Record):
    """How a model is trained, as far as a device's memory depends on it."""

    model: Model
    layout: Layout = field(default_factory=Layout)
    context: int
    micro_batches: int = 1
    """Micro-batches that a replica accumulates in a step."""
    recompute: Recompute = "none"
    fused: bool | None = None
    """Kernels as a compiler or a library fuses them; None is the framework's."""
    recompute_share: float = 1.0
    """Share of a stage's layers that are recomputed; the others keep everything."""
    precision: str = "bf16"
    optimizer: str = "adam"
    framework: str = "megatron"
    attention: AttentionKernel | None = None
    """None is the framework's."""
    dropout: bool = False
    fused_loss: bool = True
    adapters: Adapters | None = None
    """Low-rank adapters are trained, all else is frozen."""
    frozen_form: str | None = None
    """The number format of frozen weights, of matrices alone (``nf4`` in QLoRA; the head as the
    framework does); None is the precision's."""
    step_in_backward: bool = False
    """Each weight is updated as soon as its gradient is there."""
    offload: bool = False
    """Weights, gradients and optimizer states lie in the host's memory, and are fetched."""
    async_tensor_parallel: bool = False
    """Products overlap with the gathering of their operands, which are then never whole."""
    exchange: Literal["ring", "all_to_all"] | None = None
    """How ranks that share a sequence attend; None is the framework's."""
    mtp: bool = False

    def __post_init__(self) -> None:
        whole("context", self.context)
        whole("micro_batches", self.micro_batches)
        share("recompute_share", self.recompute_share)
        one_of("recompute", self.recompute, RECOMPUTES)


@named_record
class TrainingMemory(Record):
    """Bytes on one device of a pipeline stage at the worst moment of a step.

    ``activations``: what forward passes keep for backward passes. ``working``: what that moment needs besides.
    ``allocated`` is what PyTorch's ``max_memory_allocated`` shows, ``reserved`` its ``max_memory_reserved``, and
    ``total`` what the driver shows.
    """

    stage: int
    moment: Moment | None
    """None for arrays, of which each element has its own."""
    weights: Number
    gradients: Number
    optimizer: Number
    activations: Number
    working: Number
    buffers: Number
    fragmentation: Number
    context: Number
    layers: tuple[tuple[Shape, Number], ...] = ()
    """The kinds of layers and tables of the stage, and how many it has of each."""
    in_flight: Number = 1
    """Passes whose activations the stage holds."""
    micro_batch: Number = 1

    @property
    def allocated(self) -> Number:
        """Tensors, all together."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.working + self.buffers

    @property
    def reserved(self) -> Number:
        """Tensors, and what the allocator cannot use between them."""
        return self.allocated + self.fragmentation

    @property
    def other(self) -> Number:
        """Everything that is neither weights, gradients, optimizer nor activations."""
        return self.working + self.buffers + self.fragmentation + self.context

    @property
    def total(self) -> Number:
        """Everything on the device."""
        return self.reserved + self.context

    def by_tensor(self) -> list[Saved]:
        """Return the tensors that forward passes keep: bytes of all sequences, repeated for layers and passes."""
        return [
            replace(
                each,
                elements=self.micro_batch * each.elements,
                bytes=self.micro_batch * each.bytes,
                repeat=1 if each.shared else repeat * (self.in_flight if shape.layered else 1),
            )
            for shape, repeat in self.layers
            for each in shape.tensors
        ]


def training_memory(
    model: str | Path | Model,
    layout: Layout | None = None,
    *,
    context: int,
    micro_batch: Number = 1,
    global_batch: int | None = None,
    stage: int | None = None,
    **how: Any,
) -> TrainingMemory:
    """Return the memory of one device while a model is trained, at the worst moment of a step.

    ``how`` are the other fields of ``Run``: recompute, precision, optimizer, framework … Without ``global_batch`` a
    replica runs one micro-batch in a step (or ``micro_batches``). See ``memory_of``.

    Raises:
        SpecError: a size that cannot be, a global batch that micro-batches and replicas do not divide; there is no such
            stage.
        UnknownName: an unknown model, framework, optimizer or precision.

    >>> how = {"precision": "fp16", "attention": "eager", "dropout": True}
    >>> first = training_memory("gpt-3", Layout(tp=8, pp=8), context=2048, global_batch=64, stage=0, **how)
    >>> round(first.activations / 2**30, 1)  # Korthikanti et al. 2022, figure 1: 51.8 without virtual stages
    51.8
    """
    layout, loaded = Layout() if layout is None else layout, load(model)
    if global_batch is not None:
        per_step = layout.dp * _checked(micro_batch)
        global_batch = whole("global_batch", global_batch)
        if global_batch % per_step:
            raise SpecError(f"global_batch = {global_batch} is not divisible by dp·micro_batch = {per_step}")
        how["micro_batches"] = global_batch // per_step
    return memory_of(Run(model=loaded, layout=layout, context=context, **how), micro_batch, stage=stage)


def memory_of(run: Run, micro_batch: Number = 1, *, stage: int | None = None) -> TrainingMemory:
    """Return the memory of one device of a run; of the pipeline stage that needs most, or of one.

    ``micro_batch`` sequences are in a micro-batch: an integer, or for a named stage a numpy array.

    Raises:
        SpecError: there is no such stage, or the layout cannot be.
        UnknownName: an unknown framework, optimizer or precision.
    """
    estimate, micro_batch = _Estimate(run), _checked(micro_batch)
    if stage is not None:
        return estimate.stage(whole("stage", stage, 0, run.layout.pp - 1), micro_batch)
    return max((estimate.stage(each, micro_batch) for each in range(run.layout.pp)), key=lambda each: each.total)


def _checked(micro_batch: Number) -> Number:
    """Return the sequences of a micro-batch, a whole number of them; arrays and symbols as they are."""
    return micro_batch if hasattr(micro_batch, "shape") else whole("micro_batch", micro_batch)


class _Estimate:
    """One run, with everything that its stages share found once."""

    def __init__(self, run: Run) -> None:
        self.run, self.layout = run, run.layout
        self.framework: Framework = load_framework(run.framework)
        self.precision: Precision = precision_of(run.precision)
        self.optimizer: Optimizer = optimizer_of(run.optimizer)
        framework = self.framework
        self.keeping = Keeping(
            attention=run.attention or framework.attention,
            fused=framework.fused if run.fused is None else run.fused,
            dropout=run.dropout,
            form="fp32" if self.precision.compute == 4 else "bf16",
            wide_norms=framework.wide_norms,
            joint_qkv=framework.joint_qkv,
            repeated_keys=framework.repeated_keys,
            two_results=(run.layout.cp > 1 and (run.exchange or framework.context_exchange) == "all_to_all")
            or (framework.result_copied and (run.adapters is None or run.frozen_form is not None)),
            whole_operands=framework.whole_operands and not run.async_tensor_parallel,
            adapters=run.adapters,
            quantised_inputs=framework.quantised_inputs_stay and run.frozen_form is not None,
        )
        self.held: dict[str, tuple[Number, Number, Number, Number]] = {}
        self.mixed = self.precision.master > 0
        self.fp32_weights = framework.fp32_weights and self.mixed
        model = run.model if framework.ties else untied(run.model)
        self.split = split(model, _piped(run.layout), run.mtp)
        own = 0 if framework.gradients_added else self.precision.compute
        arguments = (model, divided(run.layout), run.context, self.keeping)
        self.full = shapes(*arguments, run.recompute, own, run.mtp)
        self.plain = self.full if run.recompute_share >= 1 else shapes(*arguments, "none", own, run.mtp)

    # ---- bytes of weights and what belongs to them

    def weight_bytes(self, stored: Stored) -> Number:
        """Return the bytes of a whole weight as the device stores it, not shared among replicas."""
        frozen = self.run.adapters is not None
        if frozen and self.run.frozen_form and self._quantised(stored):
            return bytes_of(self.run.frozen_form, stored)
        return (4 if self.fp32_weights and not frozen else self.precision.weights) * stored.elements

    def _quantised(self, stored: Stored) -> bool:
        """Tell whether a frozen weight is one of those that are quantised where any is."""
        return stored.matrix and not stored.looked_up and (self.framework.quantised_head or stored.path != "head")

    @property
    def gradient_bytes(self) -> int:
        """Bytes of a number of a gradient that waits for the step."""
        form = self.framework.half_gradient_form if self.precision.half else self.framework.gradient_form
        return 4 if form == "fp32" and (self.mixed or self.precision.weights == 4) else self.precision.weights

    def states(self, stored: Stored) -> Number:
        """Return the bytes of the optimizer's states of a weight, and of its master copy; adapters have none."""
        if not self.optimizer.on_device:
            return 0
        master = 0 if self.fp32_weights or self.run.adapters is not None else self.precision.master
        return self.optimizer.states(stored, self.precision.moments) + master * stored.elements

    def shared(self, stored: Stored, stage: int) -> int:
        """Return how many ranks share a weight's figures at a stage of ZeRO."""
        if self.layout.zero < stage or (stage == 2 and self._unshared):
            return 1
        return self.layout.expert_replicas if stored.expert else self.layout.replicas

    @property
    def _unshared(self) -> bool:
        """Whether gradients wait whole for the last micro-batch."""
        if self.run.micro_batches == 1 or self.run.adapters is not None:
            return False
        piped = self.framework.pipeline_gathered and self.layout.pp > 1
        return self.framework.unshared_accumulation or piped

    # ---- one stage

    def stage(self, index: int, micro_batch: Number) -> TrainingMemory:
        """Return the memory of one device of a stage."""
        members = self._members(index)
        sums = [(repeat, self._held(shape)) for shape, repeat in members]
        weights, gradients, states, owned = (sum(repeat * held[place] for repeat, held in sums) for place in range(4))
        if self.run.offload:
            weights = gradients = states = 0
        return self._worst(index, members, micro_batch, weights, gradients, states, owned)

    def _held(self, shape: Shape) -> tuple[Number, Number, Number, Number]:
        """Return the bytes of a layer's weights, gradients and states on a rank, and the numbers that it updates."""
        if shape.path not in self.held:
            self.held[shape.path] = self._sums(shape)
        return self.held[shape.path]

    def _sums(self, shape: Shape) -> tuple[Number, Number, Number, Number]:
        weights = sum(self.weight_bytes(each) / self.shared(each, 3) for each in shape.stored)
        if self.run.adapters is None:
            trained, gradient = shape.stored, self.gradient_bytes
        else:  # trained as they are stored, without a master copy
            trained, gradient = shape.adapters, self.precision.weights
            weights = weights + sum(gradient * each.elements / self.shared(each, 3) for each in trained)
        return (
            weights,
            sum(gradient * each.elements / self.shared(each, 2) for each in trained),
            sum(self.states(each) / self.shared(each, 1) for each in trained),
            sum(each.elements / self.shared(each, 1) for each in trained),
        )

    def _members(self, index: int) -> list[tuple[Shape, Number]]:
        """Return the layers and tables of a stage with how often they stand; a part of the layers recomputed."""
        members: list[tuple[Shape, Number]] = []
        for path, repeat in self.split[index].items():
            if path not in self.full:
                continue  # a table that stands in another's group (a pooler beside the head)
            share = round(repeat * self.run.recompute_share) if self.full[path].layered else repeat
            members += [(self.full[path], share)] if share else []
            members += [(self.plain[path], repeat - share)] if repeat - share else []
        return members

    def in_flight(self, index: int) -> Number:
        """Return how many micro-batches' activations a stage holds, as a number of passes through all its layers."""
        layout, batches = self.layout, self.run.micro_batches
        if layout.pp == 1:
            return 1
        if layout.schedule == "gpipe":
            return batches
        if layout.virtual_stages == 1:
            return minimum(layout.pp - index, batches)
        parts = 2 * (layout.pp - index - 1) + (layout.virtual_stages - 1) * layout.pp + 1
        return minimum(parts, layout.virtual_stages * batches) / layout.virtual_stages

    def _worst(
        self,
        index: int,
        members: list[tuple[Shape, Number]],
        micro_batch: Number,
        weights: Number,
        gradients: Number,
        states: Number,
        owned: Number,
    ) -> TrainingMemory:
        framework, run = self.framework, self.run
        flight = self.in_flight(index)
        layers = micro_batch * sum(repeat * shape.kept for shape, repeat in members if shape.layered)
        ends = micro_batch * sum(repeat * shape.kept for shape, repeat in members if not shape.layered)
        ends = ends + micro_batch * max(shape.shared for shape, _ in members)
        streams = [shape.stream for shape, _ in members if shape.layered]
        sent = micro_batch * self.precision.compute * max(streams, default=0)
        outputs = sent * flight if framework.stage_outputs_stay and index < self.layout.pp - 1 else 0
        activations = layers * flight + ends + outputs
        buffers = framework.bucket_bytes + self._stand_ins(members) + self._gathered(members)
        buffers = buffers + sent * self._received(index) + self._dequantised(members)
        stays = framework.gradients_stay or run.micro_batches > 1
        # gradients that are made as the backward pass goes replace activations
        early = gradients if stays and not run.step_in_backward else 0
        if run.step_in_backward:
            gradients = self._largest(members)
        undone = self._backward(members, micro_batch)
        moments: list[Held] = [("backward", activations, early, need) for need in undone]
        for shape, _ in members:
            if shape.head:
                moments += [("loss", activations, early, need) for need in self._loss(shape, micro_batch)]
        table = self._table_gradient(members)
        one = layers + ends
        moments.append(("embedding", activations - one, gradients, table + sent))
        moments.append(("step", 0, gradients, framework.step_bytes * owned))
        if framework.step_apart:
            moments.pop()
        moment, kept, grads, working = _largest(moments)
        memory = TrainingMemory(
            stage=index,
            moment=moment,
            weights=weights,
            gradients=grads,
            optimizer=states,
            activations=kept,
            working=working,
            buffers=buffers,
            fragmentation=0,
            context=framework.context_bytes,
            layers=tuple(members),
            in_flight=flight,
            micro_batch=micro_batch,
        )
        besides = framework.step_bytes * owned if framework.step_apart else 0
        return replace(memory, fragmentation=framework.fragmentation * memory.allocated + besides)

    def _loss(self, shape: Shape, micro_batch: Number) -> Iterator[Number]:
        """Yield what the loss needs, and what undoing the head does."""
        logits, chunks = micro_batch * shape.logits, self.framework.loss_chunks
        table = max((self.precision.compute * each.elements for each in self._trained(shape)), default=0)
        # the head's gradient grows from chunk to chunk, by a tensor of its own each time
        yield self._logit_bytes() * logits / chunks + (2 * table if chunks > 1 else 0)
        for need in shape.needs:
            whole = micro_batch * need.per_sequence - self.precision.compute * logits
            yield whole + self.precision.compute * logits / chunks + max(need.fixed, self._stand_in(need, table))

    def _stand_in(self, need: Need, table: Number) -> Number:
        return table if self.framework.stand_ins else need.fixed

    def _logit_bytes(self) -> int:
        """Return the bytes of a logit at the loss."""
        framework = self.framework
        if framework.shared_loss_bytes is not None and self.layout.tp > 1:
            return framework.shared_loss_bytes
        return framework.fused_loss_bytes if self.run.fused_loss else framework.loss_bytes

    def _dequantised(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of the largest quantised matrix while it multiplies."""
        if self.run.adapters is None or self.run.frozen_form is None:
            return 0
        matrices = [each for shape, _ in members for each in shape.stored if self._quantised(each)]
        each = self.framework.dequantised_copies * self.precision.compute
        return max((each * matrix.elements / matrix.matrices for matrix in matrices), default=0)

    def _received(self, index: int) -> int:
        """Return the buffers for what other stages send, in micro-batches' streams."""
        if not self.framework.receive_buffers:
            return 0
        neighbours = int(index > 0) + int(index < self.layout.pp - 1)
        return neighbours * self.run.micro_batches

    def _backward(self, members: list[tuple[Shape, Number]], micro_batch: Number) -> Iterator[Number]:
        """Yield what undoing a layer needs, at each of its moments."""
        for shape, _ in members:
            if shape.layered:
                for need in shape.needs:
                    yield micro_batch * need.per_sequence + need.fixed

    def _trained(self, shape: Shape) -> list[Stored]:
        return [] if self.run.adapters is not None else [each for each in shape.stored if each.matrix]

    def _largest(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of the largest single gradient."""
        return max(
            (self.gradient_bytes * each.elements for shape, _ in members for each in self._trained(shape)), default=0
        )

    def _stand_ins(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of tensors that stand in for gradients: one for each distinct shape in the layers."""
        if not self.framework.stand_ins or self.run.adapters is not None:
            return 0
        return sum(self.precision.compute * size for size in self._distinct(members))

    def _distinct(self, members: list[tuple[Shape, Number]]) -> set[Number]:
        """Return the sizes of matrices in layers, those that are one product together as one."""
        found: set[Number] = set()
        for shape, _ in members:
            if shape.layered:
                joint: dict[tuple[str, str], Number] = {}
                for each in self._trained(shape):
                    key = (each.path, JOINT.get(each.operation, each.operation))
                    joint[key] = joint.get(key, 0) + each.elements
                found |= set(joint.values())
        return found

    def _gathered(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of weights that are whole while they are used, and of a gradient before it is shared."""
        if self.layout.zero < 3 and not self.run.offload:
            return 0
        if self.layout.replicas == 1 and not self.run.offload:
            return self._cast(members)
        layers = [self._whole(shape) for shape, _ in members if shape.layered]
        ends = [self._whole(shape) for shape, _ in members if not shape.layered]
        units = self.framework.gathered_units
        stay = self.framework.frozen_stay_gathered and self.run.adapters is not None
        if stay or (self.framework.pipeline_gathered and self.layout.pp > 1):
            return sum(repeat * self._whole(shape) for shape, repeat in members)
        return units * max(layers, default=0) + max(ends, default=0)

    def _whole(self, shape: Shape) -> Number:
        """Return the bytes of a layer's weights in the format that computes."""
        if self.run.adapters is not None and self.run.frozen_form:
            return sum(self.weight_bytes(each) for each in shape.stored)
        return self.precision.compute * shape.parameters

    def _cast(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of a layer's weights cast to the format that computes."""
        if not self.fp32_weights:
            return 0
        return max((self._whole(shape) for shape, _ in members if shape.layered), default=0)

    def _table_gradient(self, members: list[tuple[Shape, Number]]) -> Number:
        """Return the bytes of the embedding's own gradient before it is added to the others."""
        tables = [each for shape, _ in members if not shape.layered and not shape.head for each in self._trained(shape)]
        return max((self.precision.compute * each.elements for each in tables), default=0)


Held: TypeAlias = tuple[Moment, Number, Number, Number]
"""A moment, and the activations, the gradients and what else lives at it."""


def _largest(moments: list[Held]) -> tuple[Moment | None, Number, Number, Number]:
    """Return the moment at which most lives; of arrays, element by element."""
    if all(isinstance(sum(held[1:]), (int, float)) for held in moments):
        return max(moments, key=lambda held: sum(held[1:]))
    best: tuple[Number, ...] = moments[0][1:]
    for held in moments[1:]:
        best = tuple(if_at_most(sum(held[1:]), sum(best), old, new) for old, new in zip(best, held[1:], strict=True))
    return (None, *best)


@lru_cache(maxsize=512)
def split(model: Model, layout: Layout, mtp: bool) -> tuple[Mapping[str, Number], ...]:
    """Return the layers and tables of each pipeline stage, with how often they stand."""
    found: list[Mapping[str, Number]] = []
    for blocks in stages(model, layout, mtp=mtp):
        members: dict[str, Number] = {}
        for block in blocks:
            members.setdefault(place(block), block.repeat)
        found.append(members)
    return tuple(found)


def _piped(layout: Layout) -> Layout:
    """Return the part of a layout that deals out layers."""
    return Layout(
        pp=layout.pp,
        virtual_stages=layout.virtual_stages,
        schedule=layout.schedule,
        first_layers=layout.first_layers,
        last_layers=layout.last_layers,
    )


def untied(model: Model) -> Model:
    """Return a model whose head has a table of its own."""
    if model.head is None or not model.head.tied:
        return model
    return replace(model, head=replace(model.head, tied=False))


JOINT: Mapping[str, str] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up"),
    **dict.fromkeys(("shared_gate_proj", "shared_up_proj"), "shared_gate_up"),
    **dict.fromkeys(("q_nope", "q_rope"), "q"),
    **dict.fromkeys(("kv_a_proj", "k_rope"), "kv_a"),
    **dict.fromkeys(("k_b", "v_b"), "kv_b"),
}
"""Matrices that frameworks store as one."""
