"""``calc.train``: what training a model on some devices costs, for one layout or for the best that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from calc.catalog import load, load_accelerator
from calc.errors import CalcError, SpecError
from calc.hardware import Accelerator
from calc.model import Model
from calc.parallel import Layout
from calc.parallel.layout import Schedule
from calc.training.answer import HOUR, MEMORY_PARTS, Budget, Training, memory_for
from calc.training.practice import load_practice
from calc.training.run import RECOMPUTE, Method, Recompute, Run
from calc.training.step import step_time
from calc.training.work import flops_again
from calc.units import memory as size

DEFAULT_CONTEXT = 4096
STEPS_IN_FLIGHT = 4
"""Micro-batches for each pipeline stage, where no global batch is asked for."""

Watch = Callable[[str, int, int], None]


def train(
    model: str | Path | Model,
    accelerator: str | Path | Accelerator,
    gpus: int,
    *,
    tp: int = 1,
    pp: int = 1,
    cp: int = 1,
    ep: int = 1,
    expert_tp: int | None = None,
    zero: int | None = None,
    virtual_stages: int = 1,
    schedule: Schedule | None = None,
    sequence_parallel: bool | None = None,
    micro_batch: int = 1,
    global_batch: int | None = None,
    context: int | None = None,
    precision: str = "bf16",
    recompute: Recompute = "none",
    optimizer: str = "adam",
    method: Method = "full",
    lora_rank: int = 16,
    mtp: bool = False,
    framework: str = "megatron-core",
    tokens: int | None = None,
    usd_per_hour: float | None = None,
    search: bool = False,
    progress: Watch | None = None,
) -> Training:
    """Return what a training run costs: memory of a device, time of a step, utilisation, and for ``tokens`` the bill.

    The data-parallel degree is gpus / (tp·pp·cp). ``zero`` and ``sequence_parallel`` are the framework's habit where
    they are not given. ``search`` tries layouts, micro-batches and recompute, and returns the fastest that fits, with
    others behind it; the degrees given are then ignored.

    Raises:
        SpecError: a layout, size or batch that cannot be; nothing fits (``search``).
        CalcError: an unknown model, accelerator, framework, format or optimizer.

    >>> answer = train("llama-3-8b", "h100-sxm", 64, zero=1, tp=2, context=8192, tokens=10**12)
    >>> answer.fits, 0.2 < answer.mfu < 0.7
    (True, True)
    """
    habits, device, loaded = load_practice(framework), load_accelerator(accelerator), load(model)
    if isinstance(gpus, bool) or not isinstance(gpus, int) or gpus < 1:
        raise SpecError(f"gpus = {gpus!r} is not a whole number of 1 or more")
    price = usd_per_hour if usd_per_hour is not None else (device.price.usd_per_hour if device.price else None)
    bill: dict[str, Any] = {"tokens": tokens, "usd_per_hour": price}
    length = context or min(loaded.max_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    common: dict[str, Any] = {
        "model": loaded, "accelerator": device, "context": length, "precision": precision, "optimizer": optimizer,
        "method": method, "lora_rank": lora_rank, "mtp": mtp, "practice": habits,
    }  # fmt: skip
    if search:
        from calc.training.search import best

        found = best(common, gpus, zero=zero, global_batch=global_batch, progress=progress)
        first, *others = (answer_for(run, **bill) for run in found)
        return replace(first, others=tuple(others))
    layout = Layout(
        tp=tp, pp=pp, cp=cp, ep=ep, expert_tp=expert_tp, dp=_data_parallel(gpus, tp, pp, cp),
        zero=habits.zero if zero is None else zero, virtual_stages=virtual_stages,
        schedule=schedule or ("interleaved" if virtual_stages > 1 else "1f1b"),
        sequence_parallel=tp > 1 and (habits.sequence_parallel if sequence_parallel is None else sequence_parallel),
    )  # fmt: skip
    batch = global_batch or layout.dp * micro_batch * (STEPS_IN_FLIGHT * pp if pp > 1 else 1)
    run = Run(layout=layout, micro_batch=micro_batch, global_batch=batch, recompute=recompute, **common)
    answer = answer_for(run, **bill)
    if answer.fits:
        return answer
    return replace(answer, limit=_limit(answer), change=_smallest_change(answer))


def _data_parallel(gpus: int, tp: int, pp: int, cp: int) -> int:
    if gpus % (tp * pp * cp):
        raise SpecError(f"gpus = {gpus:,} is not divisible by tp·pp·cp = {tp}·{pp}·{cp}")
    return gpus // (tp * pp * cp)


def answer_for(run: Run, *, tokens: int | None = None, usd_per_hour: float | None = None) -> Training:
    """Return the answer for one run."""
    time = step_time(run)
    needed = float(run.model.training_flops(run.context, run.global_batch, causal=False, mtp=run.mtp))
    if run.method != "full":
        needed *= 2 / 3  # no gradients of frozen weights
    peak = run.accelerator.peak(run.precision) * run.layout.gpus
    return Training(
        run=run,
        memory=memory_for(run),
        capacity=run.accelerator.capacity,
        time=time,
        mfu=needed / time.iteration / peak,
        hfu=(needed + flops_again(run)) / time.iteration / peak,
        budget=None if tokens is None else _budget(run, time.iteration, tokens, usd_per_hour),
    )


def _budget(run: Run, step: float, tokens: int, usd_per_hour: float | None) -> Budget:
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise SpecError(f"tokens = {tokens!r} is not a whole number of 1 or more")
    if usd_per_hour is not None and not 0 <= usd_per_hour < float("inf"):
        raise SpecError(f"usd_per_hour = {usd_per_hour!r} is not a price")
    seconds = tokens / run.tokens * step
    hours = seconds / HOUR * run.layout.gpus
    watts = run.accelerator.tdp_watts
    return Budget(
        tokens=tokens,
        seconds=seconds,
        gpu_hours=hours,
        usd=None if usd_per_hour is None else hours * usd_per_hour,
        joules=None if watts is None else seconds * run.layout.gpus * watts,
    )


# ---- what stands in the way


def _limit(answer: Training) -> str:
    largest = max(MEMORY_PARTS, key=lambda part: getattr(answer.memory, part))
    share = getattr(answer.memory, largest) / answer.memory.total
    return f"memory: {size(answer.memory.total)} of {size(answer.capacity)}, {largest} {share:.0%} of it"


def _smallest_change(answer: Training) -> str:
    """Return the first of a few changes, small ones first, with which the run fits; empty where none helps."""
    for text, run in _changes(answer.run):
        if memory_for(run).total <= answer.capacity:
            return text
    return ""


def _changes(run: Run) -> Iterator[tuple[str, Run]]:
    """Yield changes from the least to the most invasive, each alone or with full recompute."""
    layout = run.layout
    tries: list[tuple[str, dict[str, Any]]] = [("", {})]
    if run.micro_batch > 1:
        tries.append(("micro_batch = 1", {"micro_batch": 1}))
    if layout.tp > 1 and not layout.sequence_parallel:
        tries.append(("sequence_parallel", {"layout": replace(layout, sequence_parallel=True)}))
    tries += [(f"zero = {stage}", {"layout": replace(layout, zero=stage)}) for stage in range(layout.zero + 1, 4)]
    if run.method == "full":
        tries.append(("optimizer = adam8bit", {"optimizer": "adam8bit"}))
    for degree in ("tp", "pp"):
        for factor in (2, 4, 8, 16, 32):
            other = {degree: factor * getattr(layout, degree)}
            if layout.dp % factor == 0:
                tries.append((f"{degree} = {other[degree]}", {"layout": {**other, "dp": layout.dp // factor}}))
    if run.method == "full":
        tries.append(("method = lora", {"method": "lora"}))
    for again in [kind for kind in RECOMPUTE if RECOMPUTE.index(kind) >= RECOMPUTE.index(run.recompute)]:
        for text, values in tries:
            words = [text] if text else []
            words += [f"recompute = {again}"] if again != run.recompute else []
            if not words:
                continue
            changed = dict(values)
            if isinstance(changed.get("layout"), dict):
                changed["layout"] = replace(layout, **changed["layout"])
            try:
                yield " and ".join(words), replace(run, recompute=again, **changed)
            except CalcError:
                continue
