"""``calc.train``: what training a model on some devices costs, for one layout or for the best that fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calc.catalog import load, load_accelerator
from calc.checks import idle, number, whole
from calc.errors import CalcError, SpecError
from calc.hardware import Accelerator
from calc.model import Model
from calc.parallel import Layout, has_experts
from calc.parallel.layout import Schedule
from calc.progress import Progress
from calc.records import replace
from calc.training.answer import HOUR, MEMORY_PARTS, Budget, Training, memory_for
from calc.training.practice import load_practice
from calc.training.run import RECOMPUTE, Method, Recompute, Run, default_batch
from calc.training.step import step_time
from calc.training.work import flops_again
from calc.units import memory as size

DEFAULT_CONTEXT = 4096


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
    dp: int | None = None,
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
    progress: Progress | None = None,
) -> Training:
    """Return what a training run costs: memory of a device, time of a step, utilisation, and for ``tokens`` the bill.

    The data-parallel degree ``dp`` is gpus / (tp·pp·cp), and need not be given. ``zero`` and ``sequence_parallel`` are
    the framework's habit where they are not given; without ``global_batch`` a step is one micro-batch of each copy, or
    four for each pipeline stage. ``search`` tries layouts, micro-batches and recompute, and returns the fastest that
    fits, with others behind it; degrees, micro-batch and recompute are then not for the caller to give.

    Raises:
        SpecError: a layout, size or batch that cannot be; nothing fits (``search``).
        CalcError: an unknown model, accelerator, framework, format or optimizer.

    >>> answer = train("llama-3-8b", "h100-sxm", 64, zero=1, tp=2, context=8192, tokens=10**12)
    >>> answer.fits, 0.2 < answer.mfu < 0.7
    (True, True)
    """
    habits, device, loaded = load_practice(framework), load_accelerator(accelerator), load(model)
    gpus = whole("gpus", gpus)
    bill = _bill(device, tokens, usd_per_hour)
    length = min(loaded.max_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT) if context is None else context
    common: dict[str, Any] = {
        "model": loaded, "accelerator": device, "context": length, "precision": precision, "optimizer": optimizer,
        "method": method, "lora_rank": lora_rank, "mtp": mtp, "practice": habits,
    }  # fmt: skip
    # what is wrong whatever the layout is refused, not searched for
    Run(layout=Layout(), micro_batch=micro_batch, global_batch=whole("micro_batch", micro_batch), recompute=recompute,
        **common)  # fmt: skip
    if global_batch is not None:
        global_batch = whole("global_batch", global_batch)
    if loaded.mtp is None:
        idle(f"{loaded.name} has no prediction modules", mtp=(mtp, False))
    if method == "full":
        idle("adapters have a rank, and method = 'full' trains none", lora_rank=(lora_rank, 16))
    if tokens is None:
        idle("a price needs tokens that are paid for", usd_per_hour=(usd_per_hour, None))
    if search:
        from calc.training.search import best

        idle(
            "a search chooses it, leave it away", tp=(tp, 1), pp=(pp, 1), cp=(cp, 1), ep=(ep, 1),
            expert_tp=(expert_tp, None), dp=(dp, None), virtual_stages=(virtual_stages, 1), schedule=(schedule, None),
            micro_batch=(micro_batch, 1), sequence_parallel=(sequence_parallel, None), recompute=(recompute, "none"),
        )  # fmt: skip
        found = best(common, gpus, zero=zero, global_batch=global_batch, progress=progress)
        first, *others = (answer_for(run, **bill) for run in found)
        return replace(first, others=tuple(others))
    if not has_experts(loaded):
        idle(f"{loaded.name} has no routed experts", expert_tp=(expert_tp, None))
    if tp == 1:
        idle("tensor-parallel ranks share tokens, and tp = 1", sequence_parallel=(bool(sequence_parallel), False))
    if pp == 1:
        idle("a schedule orders pipeline stages, and pp = 1", schedule=(schedule or "1f1b", "1f1b"))
    layout = Layout(
        tp=tp, pp=pp, cp=cp, ep=ep, expert_tp=expert_tp, dp=_data_parallel(gpus, tp, pp, cp, dp),
        zero=habits.zero if zero is None else zero, virtual_stages=virtual_stages,
        schedule=("interleaved" if virtual_stages > 1 else "1f1b") if schedule is None else schedule,
        sequence_parallel=tp > 1 and (habits.sequence_parallel if sequence_parallel is None else sequence_parallel),
    )  # fmt: skip
    batch = default_batch(layout, micro_batch) if global_batch is None else global_batch
    run = Run(layout=layout, micro_batch=micro_batch, global_batch=batch, recompute=recompute, **common)
    answer = answer_for(run, **bill)
    if answer.fits:
        return answer
    return replace(answer, limit=_limit(answer), change=_smallest_change(answer))


def _data_parallel(gpus: int, tp: int, pp: int, cp: int, dp: int | None) -> int:
    """Return the copies that fill the devices.

    Raises:
        SpecError: the degrees do not multiply to the devices.
    """
    size = whole("tp", tp) * whole("pp", pp) * whole("cp", cp)
    if dp is not None and size * whole("dp", dp) != gpus:
        raise SpecError(f"tp·cp·dp·pp = {tp}·{cp}·{dp}·{pp} = {size * dp:,} devices, not {gpus:,}")
    if gpus % size:
        raise SpecError(f"gpus = {gpus:,} is not divisible by tp·pp·cp = {tp}·{pp}·{cp}")
    return gpus // size


def _bill(device: Accelerator, tokens: int | None, usd_per_hour: float | None) -> dict[str, Any]:
    """Return the tokens to pay for and the price of a device's hour, where one is given or listed."""
    if usd_per_hour is not None:
        usd_per_hour = number("usd_per_hour", usd_per_hour, least=0)
    elif device.price is not None:
        usd_per_hour = device.price.usd_per_hour
    return {"tokens": None if tokens is None else whole("tokens", tokens), "usd_per_hour": usd_per_hour}


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
    """Yield changes from the least to the most invasive, each alone or with more recompute; none that cannot be."""
    layout = run.layout
    tries: list[tuple[str, dict[str, Any]]] = [("", {})]
    if run.micro_batch > 1:
        tries.append(("micro_batch = 1", {"micro_batch": 1}))
    if layout.tp > 1 and not layout.sequence_parallel:
        tries += _laid_out(layout, "sequence_parallel", sequence_parallel=True)
    for stage in range(layout.zero + 1, 4):
        tries += _laid_out(layout, f"zero = {stage}", zero=stage)
    if run.method == "full":
        tries.append(("optimizer = adam8bit", {"optimizer": "adam8bit"}))
    for degree in ("tp", "pp"):
        for factor in (2, 4, 8, 16, 32):
            if layout.dp % factor == 0:
                more = factor * getattr(layout, degree)
                tries += _laid_out(layout, f"{degree} = {more}", **{degree: more, "dp": layout.dp // factor})
    if run.method == "full":
        tries.append(("method = lora", {"method": "lora"}))
    for again in [kind for kind in RECOMPUTE if RECOMPUTE.index(kind) >= RECOMPUTE.index(run.recompute)]:
        for text, values in tries:
            words = [text] if text else []
            words += [f"recompute = {again}"] if again != run.recompute else []
            if not words:
                continue
            try:
                changed = replace(run, recompute=again, **values)
            except CalcError:
                continue
            yield " and ".join(words), changed


def _laid_out(layout: Layout, text: str, **changes: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a change of the layout in words and as the run's new layout; nothing where it cannot be."""
    try:
        yield text, {"layout": replace(layout, **changes)}
    except SpecError:
        return
