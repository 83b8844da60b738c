"""The best layout: every combination that memory admits, timed, fastest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from calc.errors import CalcError, SpecError
from calc.parallel import Layout
from calc.progress import Progress
from calc.training.answer import memory_for
from calc.training.run import RECOMPUTE, Recompute, Run, default_batch
from calc.training.step import step_time
from calc.units import memory as size

BEST = 8
"""Layouts that are returned."""
MICRO_BATCHES = (1, 2, 4)
EXPERT_DEGREES = (1, 8, 32, 64)
LEAST_CONTEXT_SHARE = 8192
"""Sequences are shared by ranks only where each still has this many tokens."""


def best(
    common: dict[str, Any],
    gpus: int,
    *,
    zero: int | None,
    global_batch: int | None,
    progress: Progress | None = None,
) -> list[Run]:
    """Return the fastest runs that fit, fastest first.

    Of each layout the least recompute that fits is timed, for every micro-batch.

    Raises:
        SpecError: nothing fits; says what came nearest.
    """
    capacity = common["accelerator"].capacity
    layouts = list(_layouts(common, gpus, zero))
    fitting: list[Run] = []
    nearest: tuple[float, str] | None = None
    for number, layout in enumerate(layouts):
        if progress:
            progress("memory", number, len(layouts))
        for micro in MICRO_BATCHES:
            for again in RECOMPUTE:
                run = _run(common, layout, micro, again, global_batch)
                if run is None:
                    continue
                needed = float(memory_for(run).total)
                if needed <= capacity:
                    fitting.append(run)
                    break
                if nearest is None or needed < nearest[0]:
                    nearest = needed, f"{layout.text()}, micro-batch {micro}, recompute {again}"
    if not fitting:
        need = f"; the nearest needs {size(nearest[0])} of {size(capacity)} ({nearest[1]})" if nearest else ""
        raise SpecError(f"no layout of {gpus:,} {common['accelerator'].name} fits{need}")
    timed = []
    for number, run in enumerate(fitting):
        if progress:
            progress("time", number, len(fitting))
        timed.append((step_time(run).iteration / run.tokens, number, run))
    return [run for _, _, run in sorted(timed)[:BEST]]


def _run(common: dict[str, Any], layout: Layout, micro: int, again: Recompute, global_batch: int | None) -> Run | None:
    batch = default_batch(layout, micro) if global_batch is None else global_batch
    try:
        return Run(layout=layout, micro_batch=micro, global_batch=batch, recompute=again, **common)
    except CalcError:
        return None


def _layouts(common: dict[str, Any], gpus: int, zero: int | None) -> Iterator[Layout]:
    """Yield the legal layouts: tensor parallelism within a domain, powers of two, few enough stages."""
    model, device, habits = common["model"], common["accelerator"], common["practice"]
    domain = device.links[0].size or gpus if device.links else 1
    experts = max((getattr(layer.ffn, "n_experts", 1) for layer in model.kinds_of_layer() if layer.ffn), default=1)
    for tp in _powers(min(domain, gpus, 8)):
        for pp in _powers(min(gpus // tp, model.n_layers, 16)):
            for cp in _powers(max(1, common["context"] // LEAST_CONTEXT_SHARE)):
                if gpus % (tp * pp * cp):
                    continue
                dp = gpus // (tp * pp * cp)
                for ep in [degree for degree in EXPERT_DEGREES if degree <= min(experts, tp * cp * dp)]:
                    yield from _kinds(habits, tp=tp, pp=pp, cp=cp, dp=dp, ep=ep, zero=zero, layers=model.n_layers)


def _kinds(habits: Any, *, zero: int | None, layers: int, **degrees: int) -> Iterator[Layout]:
    stages = (zero,) if zero is not None else tuple(dict.fromkeys((habits.zero, 3 if degrees["pp"] == 1 else 1)))
    for stage in stages:
        layout = {**degrees, "zero": stage, "sequence_parallel": degrees["tp"] > 1}
        if degrees["ep"] > 1:
            layout["expert_tp"] = 1
        try:
            yield Layout(**layout)
            if degrees["pp"] > 1 and layers % (degrees["pp"] * 2) == 0:
                yield Layout(**layout, virtual_stages=2, schedule="interleaved")
        except SpecError:
            continue


def _powers(most: int) -> list[int]:
    return [2**power for power in range(max(most, 1).bit_length()) if 2**power <= most]
