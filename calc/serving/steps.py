"""The time of one step of an engine: decode tokens of many sequences, chunks of prompts, or both together.

Kernels come from the tables of one rank (``calc.kernels``), their times from the roofline, collectives from the
network. What the tokens of both phases share (products with weights, norms, experts) runs once over all of them;
attention and recurrences run for each phase apart. Everything takes numbers or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

from calc.algebra import Number, if_at_most, maximum, minimum
from calc.hardware import Accelerator
from calc.kernels import Forms, Kernel, kernels
from calc.layers import Block
from calc.model import Model
from calc.network import collective_time
from calc.parallel import Collective, Layout, Ways, collectives
from calc.passes import Pass
from calc.records import Record, named_record, replace
from calc.roofline import KernelTime, Launch, kernel_time
from calc.schemes import weight_forms
from calc.serving.engines import Engine
from calc.serving.weights import rank_blocks, served_form
from calc.units import dtype

FEW = 1024
"""Tokens at which the bytes of collectives are read off; they are linear in tokens."""
HOST_BYTES_PER_S = 400e9
"""What a host's processors read of its memory: twelve channels of DDR5-4800 are 461 GB/s by JEDEC's rate (AMD EPYC 9004
data sheet), of which STREAM reaches about 85 %. Experts in host memory are multiplied there (ktransformers)."""
Part: TypeAlias = Literal["shared", "decode", "prompt", "head"]
PARTS: tuple[Part, ...] = ("shared", "decode", "prompt", "head")
KINDS = ("gemm", "grouped_gemm", "attention", "scan", "memory", "lookup")


@named_record
class Batch(Record):
    """What one step works on, in one model copy.

    ``sequences`` decode at ``context`` tokens each; of ``prompts`` prompts ``chunk`` tokens each are computed, which
    end at ``seen`` tokens.
    """

    sequences: Number = 0
    context: Number = 1
    width: int = 1
    """Tokens of each sequence in the step: more than one where guesses are verified."""
    prompts: Number = 0
    chunk: Number = 0
    seen: Number = 1
    finishing: Number = 0
    """Prompts whose last chunk this is: they need logits."""


@named_record
class PartTime(Record):
    """Seconds of some kernels of a step, by kind; of them those that arithmetic limits; host time to launch them."""

    by_kind: Mapping[str, Number]
    compute_bound: Number
    launches: float


@named_record
class StepTime(Record):
    """Seconds of one step; ``seconds`` is what passes between its start and the next one's.

    ``by_kind`` are kernels by kind, the sum over pipeline stages; ``compute_bound`` the part of them that arithmetic,
    not memory, limits. ``host`` is what the engine's host work adds that nothing hides. ``encoding``: towers, for the
    images and sound of prompts that the step reads.
    """

    seconds: Number
    by_kind: Mapping[str, Number]
    compute_bound: Number
    communication: Number
    host: Number
    encoding: Number = 0.0

    @property
    def kernels(self) -> Number:
        """Seconds of all kernels."""
        return sum(self.by_kind.values())


class Steps:
    """The steps of one deployment: a model on a layout of accelerators under an engine."""

    def __init__(
        self,
        model: Model,
        accelerator: Accelerator,
        layout: Layout,
        engine: Engine,
        *,
        weights_dtype: str | None = None,
        cache_dtype: str = "bf16",
        skew: float = 0,
        host_experts: bool = False,
    ) -> None:
        self.model, self.accelerator, self.layout, self.engine = model, accelerator, layout, engine
        self.skew, self.host_experts = skew, host_experts
        self.weights = weight_forms(weights_dtype or served_form(model), model.blocks())
        self._called: dict[int, list[tuple[Collective, Number, Number]]] = {}
        self.forms: Forms = {"weight": self.weights, "activation": dtype("bf16"), "cache": dtype(cache_dtype)}

    @cached_property
    def stages(self) -> list[list[Block]]:
        """The tables of one rank of every pipeline stage."""
        return rank_blocks(self.model, self.layout)

    def time(self, batch: Batch, launch: Launch = "graph", *, overlapped: bool = False) -> StepTime:
        """Return the time of a step; ``overlapped``: half of the batch computes while the other half communicates.

        A pipeline works on pp batches at a time, each with its share of the sequences: a sequence's next token comes
        after all stages have done its own batch.
        """
        there = {
            "decode": if_at_most(1e-9, batch.sequences, 1.0, 0.0),
            "prompt": if_at_most(1e-9, batch.prompts, 1.0, 0.0),
        }
        parts = []
        for part in PARTS:
            found, present = self.part(part, batch, launch), there.get(part, 1.0)
            by_kind = {kind: seconds * present for kind, seconds in found.by_kind.items()}
            parts.append(
                PartTime(by_kind=by_kind, compute_bound=found.compute_bound * present, launches=found.launches)
            )
        return self.together(
            parts, batch.sequences, batch.prompts, batch.prompts * batch.chunk, batch.finishing, batch.width,
            overlapped=overlapped,
        )  # fmt: skip

    def together(
        self,
        parts: Sequence[PartTime],
        sequences: Number,
        prompts: Number,
        tokens: Number,
        finishing: Number,
        width: int,
        *,
        overlapped: bool = False,
    ) -> StepTime:
        """Return the time of a step from that of its parts: kernels, collectives, sampling, the host."""
        engine = self.engine
        by_kind: dict[str, Number] = dict.fromkeys(KINDS, 0.0)
        for part in parts:
            for kind, seconds in part.by_kind.items():
                by_kind[kind] = by_kind[kind] + seconds
        rows = sequences * width + finishing
        communication = self.communication(self.in_one_batch(sequences, width, prompts, tokens))
        sampling = rows * self.model.vocab_size * engine.sampled_bytes / self.accelerator.memory_bytes_per_s
        computing = sum(by_kind.values())
        device = (maximum(computing, communication) if overlapped else computing + communication) + sampling
        launches = sum(part.launches for part in parts)
        seconds = maximum(device, if_at_most(1e-9, tokens, launches, 0.0)) if launches else device
        seconds = seconds + engine.step_host_s + engine.sequence_host_s * (sequences + prompts)
        host = seconds - device
        return StepTime(
            seconds=seconds + self.drafting_s(sequences, width), by_kind=by_kind,
            compute_bound=sum(part.compute_bound for part in parts),
            communication=communication, host=host,
        )  # fmt: skip

    def in_one_batch(self, sequences: Number, width: int, prompts: Number, tokens: Number) -> Number:
        """Return the tokens of one of the batches that a pipeline works on; a prompt's own are not divided."""
        stages = self.layout.pp
        if stages == 1:
            return sequences * width + tokens
        return _share(sequences, stages) * width + _share(prompts, stages) * tokens / maximum(prompts, 1e-9)

    def drafting_s(self, sequences: Number, width: int) -> Number:
        """Return the time of drafting guesses before a step; none here."""
        return 0.0

    def part(self, part: Part, batch: Batch, launch: Launch = "graph") -> PartTime:
        """Return the kernels of one part of a step, all stages together.

        ``shared``: over the tokens of both phases; ``decode`` and ``prompt``: of one phase alone (attention,
        recurrences, what latent attention does in one form or the other); ``head``: the logits.
        """
        by_kind: dict[str, Number] = {}
        bound: Number = 0.0
        launches = 0.0
        for timed in self.kernel_times(part, batch, launch):
            kind = timed.kernel.kind
            by_kind[kind] = by_kind.get(kind, 0.0) + timed.total
            launches += timed.kernel.repeat * (
                self.engine.eager_experts_s if kind == "grouped_gemm" else self.engine.eager_kernel_s
            )
            bound = bound + if_at_most(timed.memory_s, timed.compute_s, timed.total, 0.0 * timed.total)
        return PartTime(by_kind=by_kind, compute_bound=bound, launches=launches)

    def kernel_times(self, part: Part, batch: Batch, launch: Launch = "graph") -> list[KernelTime]:
        """Return the times of the kernels of one part of a step; a phase without work is sized 1."""
        stages = self.layout.pp
        sequences, prompts = _share(batch.sequences, stages), _share(batch.prompts, stages)
        if part == "shared":
            every = batch.prompts * batch.chunk
            tokens = self.in_one_batch(batch.sequences, batch.width, batch.prompts, every)
            now = self._pass(maximum(tokens, 1), 1, batch.context, "decode")
        elif part == "head":
            now = self._pass(maximum(sequences * batch.width + _share(batch.finishing, stages), 1), 1, 1, "decode")
        elif part == "decode":
            now = self._pass(maximum(sequences, 1), batch.width, batch.context, "decode")
        else:
            now = self._pass(maximum(prompts, 1), maximum(batch.chunk, 1), batch.seen, "prefill")
        found = []
        for body, head, common in self._divided:
            if part == "head":
                found += kernels(head, now, self.forms)
            else:
                every = kernels(body, now, self.forms)
                found += [each for each in every if ((each.path, each.name) in common) == (part == "shared")]
        return [self._timed(each, launch) for each in found]

    @cached_property
    def _divided(self) -> list[tuple[list[Block], list[Block], set[tuple[str, str]]]]:
        """The tables of each stage without the head, the head, and the kernels that tokens of both phases share."""
        found = []
        for blocks in self.stages:
            body = [block for block in blocks if block.part != "head"]
            passes = (self._pass(1, 1, 8, "decode"), self._pass(1, 8, 8, "prefill"))
            one, other = (
                {
                    (each.path, each.name)
                    for each in kernels(body, now, self.forms)
                    if each.kind not in ("attention", "scan")
                }
                for now in passes
            )
            found.append((body, [block for block in blocks if block.part == "head"], one & other))
        return found

    def _timed(self, kernel: Kernel, launch: Launch) -> KernelTime:
        """Return the time of a kernel; of products with experts that stay on the host, that of its memory."""
        timed = kernel_time(kernel, self.accelerator, launch=launch)
        if kernel.kind in ("gemm", "grouped_gemm") and self.engine.core_flops_per_clock:
            timed = self._issued(timed)
        if not (self.host_experts and kernel.kind == "grouped_gemm"):
            return timed
        seconds = kernel.bytes / HOST_BYTES_PER_S
        return replace(timed, seconds=seconds, memory_s=seconds, compute_s=0.0 * seconds, launch_s=0.0)

    def _issued(self, timed: KernelTime) -> KernelTime:
        """Return the time of a product whose kernel issues fewer operations in a clock than the device could."""
        device, kernel = self.accelerator, timed.kernel
        narrow = kernel.operand_bits < 8 and self.engine.core_flops_per_clock_quantised
        limit = narrow or self.engine.core_flops_per_clock
        if device.n_cores is None or device.clock_hz is None:
            return timed
        compute = maximum(timed.compute_s, kernel.flops / (limit * device.n_cores * device.clock_hz))
        longer = maximum(compute, timed.memory_s) + timed.launch_s
        return replace(timed, compute_s=compute, seconds=maximum(timed.seconds, longer))

    def _pass(self, sequences: Number, tokens: Number, context: Number, phase: Any) -> Pass:
        # without images, layers that read another model's states stand in the tables, over one of them
        source = 1 if self.model.outside_source else 0
        return Pass(batch=sequences, tokens=tokens, context=context, source=source, phase=phase, skew=self.skew)

    def products(self, batch: Batch) -> tuple[Number, Number]:
        """Return (compute, memory) seconds of a decode step's products with weights, as if nothing else took time."""
        compute: Number = 0.0
        memory: Number = 0.0
        parts: tuple[Part, ...] = ("shared", "decode", "head")
        for timed in (timed for part in parts for timed in self.kernel_times(part, batch)):
            if timed.kernel.kind in ("gemm", "grouped_gemm"):
                compute = compute + timed.kernel.repeat * timed.compute_s
                memory = memory + timed.kernel.repeat * timed.memory_s
        return compute, memory

    def communication(self, tokens: Number) -> Number:
        """Return the time of all collectives of a step whose batches have so many tokens, which kernels wait for."""
        if self.layout.gpus == self.layout.dp and self.layout.ep == 1:
            return 0.0
        tokens = maximum(tokens, 1)
        total: Number = 0.0
        for stage in range(self.layout.pp):
            for call, fixed, each in self._calls(stage):
                sized = replace(call, bytes=fixed + each * tokens)
                total = total + collective_time(sized, self.accelerator, library=self.engine.all_reduce)
        return total

    def _calls(self, stage: int) -> list[tuple[Collective, Number, Number]]:
        """Return the collectives of a stage, with the bytes that each has anyway and those for every token."""
        if stage not in self._called:
            ways = Ways(dispatch=self.engine.dispatch)
            layout = self.layout
            if layout.ep * layout.etp <= layout.tp:  # copies share no experts: the stages of one stand side by side
                layout = replace(layout, dp=1)
            few, many = (
                collectives(self.model, layout, self._pass(number, 1, 1, "decode"), stage=stage, ways=ways)
                for number in (FEW, 2 * FEW)
            )
            slopes = [(b.bytes - a.bytes) / FEW for a, b in zip(few, many, strict=True)]
            self._called[stage] = [
                (call, call.bytes - FEW * slope, slope) for call, slope in zip(few, slopes, strict=True)
            ]
        return self._called[stage]


def _share(work: Number, stages: int) -> Number:
    """Return what one of the batches in a pipeline has of it: an even share, at least one where there is any."""
    return work if stages == 1 else maximum(work / stages, minimum(work, 1))
