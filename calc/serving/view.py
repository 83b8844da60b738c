"""The answer of ``calc serve`` as a table and as the JSON contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from calc.confidence import error_of
from calc.generation import other_tokens
from calc.model import Model
from calc.results import Cell, Figure, Grid, Result, Row
from calc.serving.answer import Asked, Limit, Serving
from calc.serving.engines import later
from calc.serving.inverse import Inverse
from calc.units import counted, figure

NOT_MODELLED = (
    "not modelled: routing of requests between copies, preemption and recomputation when the cache overflows, "
    "arrivals in bursts, imbalance between experts' ranks, quality of guesses and of lower formats, start-up, failures"
)
QUANTITIES = {
    "ttft_s": "serving.ttft",
    "tpot_s": "serving.tpot",
    "e2e_s": "serving.tpot",
    "requests_per_s": "serving.throughput",
    "output_tokens_per_s": "serving.throughput",
    "output_tokens_per_s_per_gpu": "serving.throughput",
    "cache_capacity_tokens": "serving.cache",
    "weights": "serving.weights",
}
"""Figure → the measured error that it carries."""


def modelled(name: str, value: float | None, unit: str, *, inverse: bool = False) -> Figure:
    """Return a figure with the band in which measured values lay around predicted ones.

    ``inverse``: it falls as what was measured rises (a price, with throughput).
    """
    if value is None or not isfinite(value):
        return Figure(None, unit, "modelled")
    return error_of(QUANTITIES[name]).figure(value, unit, inverse=inverse)


def result(serving: Serving, solved: Sequence[Inverse] = (), limits: Sequence[Limit] = ()) -> Result:
    """Return the answer: a table, one of what was asked the other way round, and everything in base units."""
    latency = [*_latency(serving), *_limits(serving, limits)]
    rows = [*_memory(serving), *latency, *_throughput(serving), *_money(serving), *_limit(serving)]
    notes = (*_conditions(serving), NOT_MODELLED)
    grid = Grid(_title(serving), ("", "value", ""), tuple(rows), notes)
    data = {
        **_data(serving),
        "limits": [{**vars(each), "met": each.met} for each in limits],
        "solved": [asdict(each) for each in solved],
    }
    grids = (grid, _solved(solved)) if solved else (grid,)
    return Result(kind="serve", data=data, grids=grids, notes=_remarks(serving))


def _solved(solved: Sequence[Inverse]) -> Grid:
    """Return what was asked the other way round."""
    rows = []
    for each in solved:
        value = Figure(each.value, "", "modelled") if isinstance(each.value, int) else each.value or "none"
        rows.append(Row(f"solved.{each.question}", (each.question, value, each.unit, each.condition)))
    return Grid("The other way round", ("", "value", "", "condition"), tuple(rows))


def _title(serving: Serving) -> str:
    asked = serving.asked
    load = "all places taken"
    if asked.concurrency is not None:
        load = counted(asked.concurrency, "user")
    if asked.rate is not None:
        load = f"{counted(asked.rate, 'request')}/s"
    model = asked.model.heading
    return (
        f"{model} on {asked.gpus} × {asked.accelerator.title}, {asked.engine.title} {asked.engine.version}, "
        f"{_prompt(asked)} in, {asked.output_tokens:,} out, {load}"
    )


def _prompt(asked: Asked) -> str:
    """Say what a prompt is: its tokens, and what of them is not text."""
    if not asked.inputs:
        return f"{asked.input_tokens:,} tokens"
    words = {"image": "images", "audio": "of sound", "video": "of video"}
    beside = ", ".join(f"{one.text} {words[one.kind]}" for one in asked.inputs)
    return f"{asked.input_tokens:,} tokens ({beside}, {asked.input_tokens - asked.media_tokens:,} of text)"


THROUGHPUT = ("output_tokens_per_s", "output_tokens_per_s_per_gpu", "requests_per_s")


def _delivered(serving: Serving, name: str, value: float | None, unit: str, *, inverse: bool = False) -> Figure:
    """Return a figure of throughput: what comes in leaves, where a rate below saturation is given."""
    if serving.asked.rate is not None and serving.steady is not None and bool(serving.steady.stable):
        return Figure(value, unit, "modelled")
    return modelled(name, value, unit, inverse=inverse)


def _row(key: str, label: str, cell: Cell, note: str = "", section: str = "", *, strong: bool = False) -> Row:
    return Row(key, (label, cell, note), strong, section)


def _memory(serving: Serving) -> Iterator[Row]:
    asked, memory, capacity = serving.asked, serving.memory, serving.capacity
    weights = asked.weights
    answer = "yes" if serving.fits else "no"
    yield _row("fits", "fits", answer, serving.reason, "Memory of one device", strong=True)
    yield _row("memory.capacity", "visible", Figure(memory.capacity, "B"))
    shown = modelled("weights", float(memory.weights.total), "B")
    yield _row("memory.weights", "weights as loaded", shown, weights)
    if towers := serving.deployment.memory_of_towers:
        yield _row("memory.towers", "  of it towers", Figure(towers, "B"), "bf16")
    if drafter := int(memory.weights.drafter):
        yield _row("memory.drafter", "  of it the drafter", Figure(drafter, "B"))
    yield _row(
        "memory.overhead",
        "beside weights and cache",
        Figure(float(memory.beside), "B", "modelled"),
        "activations, context, graphs",
    )
    yield _row(
        "memory.cache", "room for the cache", Figure(max(float(memory.cache), 0.0), "B", "modelled"), asked.cache_dtype
    )
    if not serving.fits:
        return
    whole = asked.input_tokens + asked.output_tokens
    each = f"sequences of {whole:,} tokens"
    yield _row(
        "cache.logical",
        "cache, logical",
        Figure(float(capacity.logical_sequences) * asked.copies),
        each,
        f"Cache of {asked.copies} cop{'ies' if asked.copies > 1 else 'y'}",
    )
    yield _row(
        "cache.allocated", "cache, as allocated", Figure(float(capacity.allocated_sequences) * asked.copies), each
    )
    tokens = modelled("cache_capacity_tokens", float(capacity.allocated_tokens) * asked.copies, "tokens")
    yield _row("cache.tokens", "tokens, as allocated", tokens, "")
    if capacity.reported_tokens is not None:
        yield _row(
            "cache.reported",
            "tokens, as the log says",
            Figure(float(capacity.reported_tokens), "tokens", "modelled"),
            "of one engine",
        )


def _latency(serving: Serving) -> Iterator[Row]:
    steady = serving.steady
    if steady is None:
        return
    stable = "" if steady.stable else "no steady state"
    yield _row("ttft_s", "time to first token", modelled("ttft_s", serving.ttft_s, "s"), stable, "Latency, mean")
    if isfinite(float(steady.queue)) and float(steady.queue) > 1e-4:
        yield _row("queue_s", "  of it waiting for a place", Figure(float(steady.queue), "s", "modelled"))
    if serving.asked.inputs:
        seconds = Figure(serving.deployment.encoding_s, "s", "modelled")
        yield _row("encoding_s", "  of it images and sound", seconds, "of one prompt, in towers")
    if serving.transfer_s:
        yield _row("transfer_s", "cache on its way", Figure(serving.transfer_s, "s", "modelled"))
    yield _row("tpot_s", "time per output token", modelled("tpot_s", serving.tpot_s, "s"))
    yield _row("decode_step_s", "  step without prompts", Figure(float(steady.decode_step.seconds), "s", "modelled"))
    if not serving.asked.prefill_gpus:
        note = f"{float(steady.prompt_tokens):,.0f} tokens of prompts"
        yield _row(
            "prompt_step_s", "  step with prompts", Figure(float(steady.prompt_step.seconds), "s", "modelled"), note
        )
    yield _row("e2e_s", "whole answer", modelled("e2e_s", serving.e2e_s, "s"))


def _limits(serving: Serving, limits: Sequence[Limit]) -> Iterator[Row]:
    """Yield a line for each limit of latency: whether it is kept, and by how much."""
    for each in limits:
        note = "no steady state" if serving.fits else "nothing is answered"
        if each.value is not None:
            note = f"the mean is {each.value / each.limit:,.3g} of it"
        yield _row(f"limit.{each.name}", each.text(), "yes" if each.met else "no", note, strong=True)


def _throughput(serving: Serving) -> Iterator[Row]:
    steady = serving.steady
    if steady is None:
        return
    gpus = serving.asked.gpus
    per_gpu = _delivered(serving, "output_tokens_per_s_per_gpu", serving.output_tokens_per_s_per_gpu, "tokens")
    total = _delivered(serving, "output_tokens_per_s", serving.output_tokens_per_s, "tokens")
    yield _row("throughput.output_tokens_per_s", "output tokens a second", total, "", "Throughput")
    yield _row("throughput.output_tokens_per_s_per_gpu", "  of each device", per_gpu, counted(gpus, "device"))
    requests = _delivered(serving, "requests_per_s", serving.requests_per_s, "")
    yield _row("throughput.requests_per_s", "requests a second", requests)
    if serving.asked.rate is not None:
        most = float(steady.saturation) * serving.asked.copies
        share = f"asked for: {figure(serving.asked.rate / most, 'percent')} of it"
        yield _row("throughput.saturation", "  at most, at saturation", modelled("requests_per_s", most, ""), share)
    running = float(steady.running) * serving.asked.copies
    yield _row("throughput.running", "sequences that decode", Figure(running, "", "modelled"))
    yield _row(
        "throughput.prompt_share", "share of time for prompts", Figure(serving.prompt_share, "percent", "modelled")
    )


def _money(serving: Serving) -> Iterator[Row]:
    if serving.steady is None or not serving.steady.stable:
        return
    section = "Money and energy"
    for side in ("input", "output"):
        value = serving.usd_per_million(side)
        if value is not None:
            note = f"{serving.usd_per_hour:,.2f} USD/h for all, by share of time"
            cell = _delivered(serving, "output_tokens_per_s", value, "USD", inverse=True)
            yield _row(f"cost.{side}", f"a million {side} tokens", cell, note if side == "input" else "", section)
            section = ""
    joules = serving.joules_per_output_token
    if joules is not None:
        yield _row(
            "joules_per_output_token",
            "energy of an output token",
            Figure(joules, "J", "modelled"),
            "at most: all devices at their power limit",
            section,
        )


def _limit(serving: Serving) -> Iterator[Row]:
    yield _row("bound", "first limit", serving.bound, "", "Limit", strong=True)
    best = _best(serving)
    if best is None:
        yield _row("improvement", "what helps most", "none of what was tried", f"{len(serving.alternatives)} changes")
        return
    gain = "makes it fit" if best.gain == float("inf") else f"×{best.gain:.2f} output tokens a second and device"
    yield _row("improvement", "what helps most", best.change, gain)


def _best(serving: Serving) -> Any:
    """Return the change that helps most, if any helps."""
    return next((each for each in serving.alternatives if each.fits and each.gain > 1.02), None)


def _conditions(serving: Serving) -> Iterator[str]:
    asked, engine = serving.asked, serving.asked.engine
    prompts = "share steps with decode tokens" if engine.prefill == "mixed" else "run in steps of their own"
    copies = f"{asked.copies} cop{'ies' if asked.copies > 1 else 'y'} of {asked.layout.text()}"
    if asked.prefill_gpus:
        copies += f"; {asked.prefill_gpus} devices read prompts"
    elif asked.layout.dp > 1:
        copies = f"layout {asked.layout.text()}"
    deployment = serving.deployment
    yield (
        f"{copies}; steps of at most {deployment.batched_tokens:,} tokens and {deployment.sequences:,} sequences; "
        f"prompts {'are read by other devices' if asked.prefill_gpus else prompts}"
    )
    if aside := deployment.host_bytes:
        yield f"experts in the host's memory: {figure(aside, 'B')} of each device"
    price = asked.accelerator.price
    if asked.usd_per_hour is None and price is not None:
        yield f"price: {price.usd_per_hour:,.2f} USD/h a device, {price.source}"
    if serving.steady is not None:
        yield "[low – high]: where 8 of 10 published measurements lay around such figures (calc accuracy)"


def _remarks(serving: Serving) -> tuple[str, ...]:
    asked = serving.asked
    notes = list(asked.model.beyond(asked.input_tokens + asked.output_tokens))
    notes += later(asked.engine)
    if serving.usd_per_hour is None and serving.fits:
        notes.append(f"no price is known of {asked.accelerator.name}: give one in US dollars per device and hour")
    if asked.guesses and isinstance(asked.drafter, Model):
        notes += other_tokens(asked.model, asked.drafter)
    unknown = sorted({one.kind for one in asked.inputs if one.tower is None})
    if unknown:
        notes.append(f"{asked.model.name}: no encoder of {' and '.join(unknown)} is published, its time is left out")
    if asked.accelerator.name.startswith(("tpu", "trainium", "mi")) and asked.engine.name != "llama.cpp":
        notes.append(f"{asked.engine.title}'s constants were measured on NVIDIA GPUs")
    return tuple(notes)


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(value)


def _data(serving: Serving) -> dict[str, Any]:
    """Return the JSON contract."""
    asked, memory, capacity, steady = serving.asked, serving.memory, serving.capacity, serving.steady
    figures = {
        name: _delivered(serving, name, value, "") if name in THROUGHPUT else modelled(name, value, "")
        for name in (
            "ttft_s",
            "tpot_s",
            "e2e_s",
            "output_tokens_per_s",
            "output_tokens_per_s_per_gpu",
            "requests_per_s",
        )
        for value in (getattr(serving, name),)
    }
    best = _best(serving)
    return {
        "model": {"name": asked.model.name, "source": asked.model.source},
        "accelerator": asked.accelerator.name,
        "gpus": asked.gpus,
        "prefill_gpus": asked.prefill_gpus,
        "layout": {name: getattr(asked.layout, name) for name in ("tp", "pp", "ep", "dp")},
        "engine": {"name": asked.engine.name, "version": asked.engine.version, "source": asked.engine.source},
        "load": {
            "input_tokens": asked.input_tokens,
            "media": [{"kind": one.kind, "asked": one.text, "tokens": one.tokens} for one in asked.inputs],
            "output_tokens": asked.output_tokens,
            "concurrency": asked.concurrency,
            "rate": asked.rate,
            "cached": asked.cached,
            "guesses": asked.guesses,
            "accepted": asked.accepted,
        },
        "weights_dtype": asked.weights,
        "cache_dtype": asked.cache_dtype,
        "fits": serving.fits,
        "reason": serving.reason,
        "memory": {
            "capacity": int(memory.capacity),
            "weights": int(memory.weights.total),
            "drafter": int(memory.weights.drafter),
            "towers": int(serving.deployment.memory_of_towers),
            "overhead": int(memory.beside),
            "cache": max(int(memory.cache), 0),
            "cache_capacity_tokens": int(_finite(float(capacity.allocated_tokens)) or 0) * asked.copies,
            "cache_capacity_sequences": (_finite(float(capacity.allocated_sequences)) or 0.0) * asked.copies,
            "logical_tokens": int(_finite(float(capacity.logical_tokens)) or 0) * asked.copies,
            "reported_tokens": None if capacity.reported_tokens is None else int(capacity.reported_tokens),
        },
        "ttft_s": _finite(serving.ttft_s),
        "tpot_s": _finite(serving.tpot_s),
        "e2e_s": _finite(serving.e2e_s),
        "encoding_s": serving.deployment.encoding_s,
        "queue_s": None if steady is None else _finite(float(steady.queue)),
        "transfer_s": serving.transfer_s,
        "stable": None if steady is None else bool(steady.stable),
        "throughput": {
            "output_tokens_per_s": _finite(serving.output_tokens_per_s),
            "output_tokens_per_s_per_gpu": _finite(serving.output_tokens_per_s_per_gpu),
            "requests_per_s": _finite(serving.requests_per_s),
            "saturation_requests_per_s": None if steady is None else float(steady.saturation) * asked.copies,
            "running": None if steady is None else float(steady.running) * asked.copies,
            "prompt_share": serving.prompt_share,
        },
        "cost": {
            "usd_per_hour": serving.usd_per_hour,
            "usd_per_million_input_tokens": serving.usd_per_million("input"),
            "usd_per_million_output_tokens": serving.usd_per_million("output"),
        },
        "joules_per_output_token": serving.joules_per_output_token,
        "bound": serving.bound,
        "improvement": None if best is None else best.change,
        "alternatives": [
            {
                "change": each.change,
                "fits": each.fits,
                "output_tokens_per_s_per_gpu": each.output_tokens_per_s_per_gpu,
                "tpot_s": each.tpot_s,
                "gain": _finite(each.gain),
            }
            for each in serving.alternatives
        ],
        "ranges": {
            name: {"low": figure.low, "high": figure.high} for name, figure in figures.items() if figure.low is not None
        },
        "not_modelled": NOT_MODELLED,
    }
