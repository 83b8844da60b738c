"""A calibration: measure shapes within a time, build the device, fit, judge, predict whole layers."""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from calc.attention.gqa import GQA
from calc.calibration.device import Device, Facts, LayerSizes, typical
from calc.calibration.exchanges import Exchange, exchanges
from calc.calibration.fitting import Fit, Timing, fit, split
from calc.calibration.links import ExchangeTiming, fit_links, joined, parts
from calc.calibration.points import Point, points
from calc.constants import Calibration, Efficiency, LinkCalibration
from calc.embedding import NormSpec
from calc.errors import SpecError
from calc.ffn.dense import DenseFFN
from calc.hardware import Accelerator
from calc.kernels import Kernel, kernels
from calc.layers import Layer
from calc.model import Block, Pass
from calc.progress import Progress
from calc.records import Record, named_record, replace
from calc.roofline import Launch, efficiency, kernel_time
from calc.units import dtype

FEWEST: Final = 16
"""Points without which no fit is tried."""
PATIENCE: Final = 5
"""How many times its share of the time measuring may take for the fewest points, on a machine that does other work."""

MEASURING, EXCHANGING = 0.75, 0.25
"""Shares of the time in which shapes are measured, exchanges among them; fitting and layers take the rest."""
PASSES: Final = 5
"""How often an exchange is measured at most: processes that meet may keep missing each other for a while."""
LARGEST_MESSAGE: Final = {"cpu": 2**26, "cuda": 2**30}

SHARES: Final = 800
"""Into how many the time is divided: one launch of the longest shape may take one share."""

CPU_START: Final = Efficiency(
    issue=0.9,
    least_rows=1,
    fill_s=1e-7,
    step_s=1e-9,
    kernel_s=5e-6,
    light_s=3e-6,
    gap_s=0.0,
    attention=0.5,
    attention_decode=0.2,
    decode_s=1e-5,
    softmax_clocks=1.0,
    softmax_backward_clocks=2.0,
    memory=0.9,
)
"""Where the fit starts on a device of no known generation; calls come one by one, so that there is no gap."""


@named_record
class LayerCheck(Record):
    """One whole layer, predicted from the fitted constants and measured in the same run."""

    name: str
    form: str
    predicted: float
    measured: float


@named_record
class Found(Record):
    """What a run found."""

    accelerator: Accelerator
    """The device, with the constants that were found."""
    fit: Fit
    timings: tuple[tuple[Point, Timing], ...]
    exchanges: tuple[ExchangeTiming, ...]
    layers: tuple[LayerCheck, ...]
    left_out: int
    """Points that the time did not suffice for."""
    unrest: float
    """By how much the repetitions of one shape differ: a busy machine cannot be measured well."""

    @property
    def calibration(self) -> Calibration:
        """The constants, and their errors."""
        assert self.accelerator.calibration is not None
        return self.accelerator.calibration


def run(device: Device, seconds: float, versions: dict[str, str], progress: Progress | None = None) -> Found:
    """Measure for about ``seconds``, fit, and check.

    Points are measured in a random order that is the same in every run, so that whatever the time suffices for covers
    all shapes. A quarter of them takes no part in the fit. Where several of its like exchange, a quarter of the time is
    for that.

    Raises:
        SpecError: the time does not suffice for enough points.
    """
    facts = device.facts()
    host = device.host_seconds()
    rate = _quick_rate(device, facts)
    wanted = points(facts.forms, rate * seconds / SHARES, backward=facts.backward, grouped=facts.grouped)
    exchanging = EXCHANGING if facts.ranks > 1 else 0.0
    measured = _measure(device, wanted, seconds * (MEASURING - exchanging), progress)
    if len(measured) < FEWEST:
        raise SpecError(f"{len(measured)} shapes were measured, at least {FEWEST} are needed: give more --seconds")
    accelerator = _accelerator(facts, measured)
    start = efficiency(accelerator) if facts.known else CPU_START
    start = replace(start, host_s=host, flops_per_joule=_per_joule(accelerator, measured))
    timings = split((point.kind, point.kernel(), took) for point, took in measured)
    launch: Launch = "graph" if facts.kind == "cuda" else "none"
    found = fit(timings, accelerator, start, launch=launch, progress=_named(progress, "fitting"))
    sent = _exchange(device, facts, seconds * exchanging, progress) if facts.ranks > 1 else []
    accelerator, links = _links(accelerator, facts, sent, progress)
    calibration = Calibration(
        device=facts.name,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        constants=found.constants,
        errors=found.errors,
        versions={"transformer-calc": version("transformer-calc"), "python": platform.python_version(), **versions},
        links=links,
    )
    accelerator = replace(accelerator, calibration=calibration)
    return Found(
        accelerator=accelerator,
        fit=found,
        timings=tuple(zip((point for point, _ in measured), timings, strict=True)),
        exchanges=tuple(sent),
        layers=tuple(_check(device, facts, accelerator, launch, rate * seconds / SHARES, progress)),
        left_out=len(wanted) - len(measured),
        unrest=device.unrest(),
    )


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _quick_rate(device: Device, facts: Facts) -> float:
    """Return the FLOP/s of one medium product in the device's slowest format, to know which shapes are too large."""
    tried = [Point(kind="gemm", form=form, m=512, n=1024, k=1024) for form in facts.forms]
    return min(float(point.kernel().flops) / device.seconds(point) for point in tried)


def _measure(
    device: Device, wanted: list[Point], seconds: float, progress: Progress | None
) -> list[tuple[Point, float]]:
    order = list(wanted)
    random.Random(0).shuffle(order)
    # what peak and bandwidth are read off comes first: the longest of every kind
    first = [
        max((one for one in order if one.kind == kind), key=_size) for kind in dict.fromkeys(p.kind for p in order)
    ]
    order = [*first, *(point for point in order if point not in first)]
    found: list[tuple[Point, float]] = []
    start = time.monotonic()
    for number, point in enumerate(order):
        if progress:
            progress(f"{point.kind} {point.form}", number, len(order))
        if _over(start, seconds, len(found)):
            break
        found.append((point, device.seconds(point)))
    return found


def _over(start: float, seconds: float, found: int) -> bool:
    """Tell whether the time is over, for which the fewest points are waited somewhat longer."""
    return time.monotonic() - start > seconds * (1 if found >= FEWEST else PATIENCE)


def _exchange(device: Device, facts: Facts, seconds: float, progress: Progress | None) -> list[ExchangeTiming]:
    """Return exchanges among the device's like, each measured several times, far apart, as the time suffices for.

    Raises:
        SpecError: the time does not suffice for enough of them.
    """
    every = exchanges(facts.ranks, LARGEST_MESSAGE[facts.kind])
    shuffled = random.Random(0)
    wanted = [one for _ in range(PASSES) for one in shuffled.sample(every, len(every))]
    times: dict[Exchange, list[float]] = {}
    start = 0.0
    with closing(device.exchanged(wanted)) as clocked:
        for number, exchange in enumerate(wanted):
            if progress:
                progress(exchange.kind, number, len(wanted))
            times.setdefault(exchange, []).append(next(clocked))
            start = start or time.monotonic()  # the first waits for the processes to start
            if _over(start, seconds, len(times)):
                break
    if len(times) < FEWEST:
        raise SpecError(f"{len(times)} exchanges were measured, at least {FEWEST} are needed: give more --seconds")
    return parts((exchange, typical(facts.kind, found)) for exchange, found in times.items())


def _links(
    accelerator: Accelerator, facts: Facts, sent: list[ExchangeTiming], progress: Progress | None
) -> tuple[Accelerator, LinkCalibration | None]:
    """Return the device with the link that joins its like, and what was found of it."""
    if not sent:
        return accelerator, None
    linked = joined(accelerator, facts.ranks, sent)
    return linked, fit_links(sent, linked, facts.backend, facts.ranks, _named(progress, "fitting exchanges"))


def _size(point: Point) -> float:
    kernel = point.kernel()
    return float(kernel.flops or kernel.bytes)


def _accelerator(facts: Facts, measured: Iterable[tuple[Point, float]]) -> Accelerator:
    """Return the preset that the device's name means, or a device made of what was measured.

    Where nobody states a peak or a bandwidth, the best that was measured stands for it.
    """
    if facts.known is not None:
        return facts.known
    peaks: dict[Any, float] = {}
    stream = 0.0
    for point, seconds in measured:
        kernel = point.kernel()
        if point.kind == "gemm":
            peaks[point.form] = max(peaks.get(point.form, 0.0), float(kernel.flops) / seconds)
        elif point.kind == "memory" and point.bytes > facts.cache_bytes:
            stream = max(stream, float(kernel.bytes) / seconds)
    if not peaks or not stream:
        raise SpecError("the time did not suffice for a product in every format and a large copy: give more --seconds")
    return Accelerator(
        name=facts.kind,
        title=facts.name,
        vendor="measured",
        year=datetime.now(UTC).year,
        memory_bytes=facts.memory_bytes,
        memory_bytes_per_s=stream,
        flops=peaks,
        n_cores=facts.n_cores,
        cache_bytes=facts.cache_bytes or None,
        notes=("peaks and bandwidth are the best that was measured, not a maker's figures",),
    )


def _per_joule(accelerator: Accelerator, measured: Iterable[tuple[Point, float]]) -> dict[str, float]:
    """Return the best measured rate of each format over the power limit, where one is stated."""
    best: dict[str, float] = {}
    if not accelerator.tdp_watts:
        return best
    for point, seconds in measured:
        if point.kind == "gemm":
            form = "bf16" if point.form == "fp16" else point.form
            best[form] = max(best.get(form, 0.0), float(point.kernel().flops) / seconds / accelerator.tdp_watts)
    return best


SMALL: Final = LayerSizes(d_model=1024, n_heads=16, n_kv_heads=16, head_dim=64, d_ff=2816)
GROUPED: Final = LayerSizes(d_model=2048, n_heads=16, n_kv_heads=4, head_dim=128, d_ff=5632)
LARGE: Final = LayerSizes(d_model=4096, n_heads=32, n_kv_heads=8, head_dim=128, d_ff=14336)
LAYERS: Final = (
    ("prefill", SMALL, 1, 512, 512),
    ("prefill", SMALL, 4, 256, 256),
    ("prefill", GROUPED, 1, 512, 512),
    ("decode", SMALL, 1, 1, 1024),
    ("decode", GROUPED, 8, 1, 2048),
    ("prefill", LARGE, 1, 2048, 2048),
    ("decode", LARGE, 16, 1, 4096),
)
"""(phase, sizes, sequences, new tokens, positions) of the layers that are checked."""


def _check(
    device: Device, facts: Facts, accelerator: Accelerator, launch: Launch, largest: float, progress: Progress | None
) -> Iterable[LayerCheck]:
    """Yield whole layers, predicted and measured; those too large for the device are left out."""
    form = facts.forms[0]
    for number, (phase, sizes, batch, tokens, context) in enumerate(LAYERS):
        if progress:
            progress("whole layers", number, len(LAYERS))
        launched = layer_kernels(
            sizes, Pass.prefill(context, batch) if tokens > 1 else Pass.decode(context, batch), form
        )
        if sum(kernel.flops for kernel in launched) > 16 * largest:
            continue
        times = [kernel_time(kernel, accelerator, launch=launch).seconds for kernel in launched]
        yield LayerCheck(
            name=f"{phase}, d_model {sizes.d_model:,}, {batch} × {context:,}",
            form=form,
            predicted=float(sum(times)),
            measured=device.layer_seconds(sizes, batch, tokens, context, form),
        )


def layer_kernels(sizes: LayerSizes, pass_: Pass, form: str) -> list[Kernel]:
    """Return what a layer launches without a compiler: fused products and attention, everything else one by one."""
    layer = Layer(
        attention=GQA(n_heads=sizes.n_heads, n_kv_heads=sizes.n_kv_heads, head_dim=sizes.head_dim),
        ffn=DenseFFN(d_ff=sizes.d_ff, activation="silu", gated=True),
        norm=NormSpec(kind="rms"),
    )
    own = {"d": sizes.d_model, "o": sizes.d_model, "v": 1}
    blocks: list[Block] = [replace(block, letters={**own, **block.letters}) for block in layer.blocks()]
    forms = dict.fromkeys(("weight", "activation", "cache"), dtype(form))
    fused = [kernel for kernel in kernels(blocks, pass_, forms) if kernel.kind not in ("memory", "lookup")]
    inside = {(kernel.path, name) for kernel in fused for name in kernel.operations}
    eager = kernels(blocks, pass_, forms, fusion="eager")
    return [*fused, *(kernel for kernel in eager if (kernel.path, kernel.operations[0]) not in inside)]
