"""The time of one step of an engine: decode tokens of many sequences, chunks of prompts, or both together.

Kernels come from the tables of one rank (``calc.kernels``), their times from the roofline, collectives from the
network. What the tokens of both phases share (products with weights, norms, experts) runs once over all of them;
attention and recurrences run for each phase apart. Everything takes numbers or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from calc.algebra import Number, if_at_most, maximum
from calc.hardware import Accelerator
from calc.kernels import Forms, Kernel, kernels
from calc.layers import Block
from calc.model import Model
from calc.network import collective_time
from calc.parallel import Collective, Layout, collectives
from calc.passes import Pass
from calc.records import Record, named_record
from calc.roofline import Efficiency, KernelTime, Launch, kernel_time
from calc.schemes import weight_forms
from calc.serving.engines import Engine
from calc.serving.weights import rank_blocks
from calc.units import dtype

FEW = 1024
"""Tokens at which the bytes of collectives are read off; they are linear in tokens."""
HOST_BYTES_PER_S = 400e9
"""What a host's processors read of its memory: twelve channels of DDR5-4800 are 461 GB/s by JEDEC's rate (AMD EPYC 9004
data sheet), of which STREAM reaches about 85 %. Experts in host memory are multiplied there (ktransformers)."""
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
class StepTime(Record):
    """Seconds of one step; ``seconds`` is what passes between its start and the next one's.

    ``by_kind`` are kernels by kind, the sum over pipeline stages; ``compute_bound`` the part of them that arithmetic,
    not memory, limits. ``host`` is what the engine's host work adds that nothing hides.
    """

    seconds: Number
    by_kind: Mapping[str, Number]
    compute_bound: Number
    communication: Number
    sampling: Number
    host: Number

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
        calibration: Efficiency | None = None,
        skew: float = 0,
        host_experts: bool = False,
    ) -> None:
        self.model, self.accelerator, self.layout, self.engine = model, accelerator, layout, engine
        self.calibration, self.skew, self.host_experts = calibration, skew, host_experts
        self.weights = weight_forms(weights_dtype or model.weights_dtype, model.blocks())
        self._called: dict[int, list[tuple[Collective, Number, Number]]] = {}
        self.forms: Forms = {"weight": self.weights, "activation": dtype("bf16"), "cache": dtype(cache_dtype)}

    @cached_property
    def stages(self) -> list[list[Block]]:
        """The tables of one rank of every pipeline stage."""
        return rank_blocks(self.model, self.layout)

    def time(self, batch: Batch, launch: Launch = "graph", *, overlapped: bool = False) -> StepTime:
        """Return the time of a step; ``overlapped``: half of the batch computes while the other half communicates.

        A pipeline works on pp batches at a time: a sequence's next token comes after all stages have done its own.
        """
        by_kind: dict[str, Number] = dict.fromkeys(KINDS, 0.0)
        bound: Number = 0.0
        launches: Number = 0
        for blocks in self.stages:
            for timed, share in self._kernels(blocks, batch, launch):
                seconds = timed.total * share
                by_kind[timed.kernel.kind] = by_kind[timed.kernel.kind] + seconds
                experts = timed.kernel.kind == "grouped_gemm"
                each = self.engine.eager_experts_s if experts else self.engine.eager_kernel_s
                launches = launches + timed.kernel.repeat * each
                bound = bound + if_at_most(timed.memory_s, timed.compute_s, seconds, 0.0 * seconds)
        communication = self._communication(batch)
        sampling = self._sampling(batch)
        computing = sum(by_kind.values())
        device = (maximum(computing, communication) if overlapped else computing + communication) + sampling
        seconds = device
        if self.engine.eager_kernel_s:
            seconds = maximum(device, if_at_most(1e-9, batch.prompts, launches, 0.0))
        seconds = seconds + self.engine.step_host_s + self.engine.sequence_host_s * (batch.sequences + batch.prompts)
        return StepTime(
            seconds=seconds, by_kind=by_kind, compute_bound=bound, communication=communication, sampling=sampling,
            host=seconds - device,
        )  # fmt: skip

    def _kernels(self, blocks: list[Block], batch: Batch, launch: Launch) -> list[tuple[KernelTime, Number]]:
        """Return the kernels of one stage with their times, and 0 for those of a phase that is not in the batch."""
        # a phase that is not in the batch is sized 1, so that no size is zero, and counts nothing
        decode = self._pass(maximum(batch.sequences, 1), batch.width, batch.context, "decode")
        prefill = self._pass(maximum(batch.prompts, 1), maximum(batch.chunk, 1), batch.seen, "prefill")
        rows = batch.sequences * batch.width + batch.finishing
        head = [block for block in blocks if block.part == "head"]
        body = [block for block in blocks if block.part != "head"]
        tokens = batch.sequences * batch.width + batch.prompts * batch.chunk
        both = self._pass(maximum(tokens, 1), 1, batch.context, "decode")
        phases = [kernels(body, each, self.forms) for each in (decode, prefill)]
        named = [{(each.path, each.name): each for each in found} for found in phases]
        common = {key for key in named[0] if key in named[1] and named[0][key].kind not in ("attention", "scan")}
        found: list[tuple[Kernel, Number]] = [
            (each, 1.0) for each in kernels(body, both, self.forms) if (each.path, each.name) in common
        ]
        there = (if_at_most(1e-9, batch.sequences, 1.0, 0.0), if_at_most(1e-9, batch.prompts, 1.0, 0.0))
        for phase, present in zip(named, there, strict=True):
            found += [(each, present) for key, each in phase.items() if key not in common]
        found += [(each, 1.0) for each in kernels(head, self._pass(maximum(rows, 1), 1, 1, "decode"), self.forms)]
        return [(self._timed(each, launch), share) for each, share in found]

    def _timed(self, kernel: Kernel, launch: Launch) -> KernelTime:
        """Return the time of a kernel; of products with experts that stay on the host, that of its memory."""
        timed = kernel_time(kernel, self.accelerator, self.calibration, launch=launch)
        if not (self.host_experts and kernel.kind == "grouped_gemm"):
            return timed
        seconds = kernel.bytes / HOST_BYTES_PER_S
        return replace(timed, seconds=seconds, memory_s=seconds, compute_s=0.0 * seconds, launch_s=0.0)

    def _pass(self, sequences: Number, tokens: Number, context: Number, phase: Any) -> Pass:
        return Pass(batch=sequences, tokens=tokens, context=context, source=0, phase=phase, skew=self.skew)

    def products(self, batch: Batch) -> tuple[Number, Number]:
        """Return (compute, memory) seconds of a step's products with weights, as if nothing else took time."""
        compute: Number = 0.0
        memory: Number = 0.0
        for blocks in self.stages:
            for timed, share in self._kernels(blocks, batch, "graph"):
                if timed.kernel.kind in ("gemm", "grouped_gemm"):
                    compute = compute + share * timed.kernel.repeat * timed.compute_s
                    memory = memory + share * timed.kernel.repeat * timed.memory_s
        return compute, memory

    def _communication(self, batch: Batch) -> Number:
        """Return the time of all collectives of a step, which kernels wait for."""
        if self.layout.gpus == self.layout.dp and self.layout.ep == 1:
            return 0.0
        tokens = maximum(batch.sequences * batch.width + batch.prompts * batch.chunk, 1)
        total: Number = 0.0
        for stage in range(self.layout.pp):
            for call, fixed, each in self._calls(stage):
                sized = replace(call, bytes=fixed + each * tokens)
                total = total + collective_time(sized, self.accelerator, library=self.engine.all_reduce)
        return total

    def _calls(self, stage: int) -> list[tuple[Collective, Number, Number]]:
        """Return the collectives of a stage, with the bytes that each has anyway and those for every token."""
        if stage not in self._called:
            few, many = (
                collectives(self.model, self.layout, self._pass(number, 1, 1, "decode"), stage=stage)
                for number in (FEW, 2 * FEW)
            )
            slopes = [(b.bytes - a.bytes) / FEW for a, b in zip(few, many, strict=True)]
            self._called[stage] = [
                (call, call.bytes - FEW * slope, slope) for call, slope in zip(few, slopes, strict=True)
            ]
        return self._called[stage]

    def _sampling(self, batch: Batch) -> Number:
        """Return the time of turning logits into tokens: passes over them in fp32, on one rank."""
        logits = (batch.sequences * batch.width + batch.finishing) * self.model.vocab_size
        return logits * self.engine.sampled_bytes / self.accelerator.memory_bytes_per_s
