"""What a pass really takes on a device: peak memory and time, beside the proof that counts.

Memory is what PyTorch's allocator reports (``max_memory_allocated`` above what was allocated before), time the median
between CUDA events after a warm-up. Both are measurements, not counts: they are recorded, and the time stands beside
the time model's, whose kernels are eager here and launched one by one by the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Protocol

import torch

from calc.hardware import Accelerator
from calc.kernels import Direction
from calc.model import Block, Pass
from calc.records import Record, record, replace
from calc.roofline import time_pass
from calc.units import dtype
from calc.validate.samples import Sample
from calc.validate.subject import Subject, subject

SEQUENCES = 64
"""Of a measured pass: a sample's own few would measure launches alone."""
WARM_UP, REPEATS = 3, 11


class Meter(Protocol):
    """Measures one call; the tests give one that needs no GPU."""

    def resident(self) -> int:
        """Return the bytes that are allocated now."""

    def peak(self, call: Callable[[], object]) -> int:
        """Return the most bytes that were allocated at once during a call."""

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the median time of a call."""


class CudaMeter:
    """PyTorch's allocator and CUDA's events."""

    def __init__(self, device: str) -> None:
        self.device = device

    def resident(self) -> int:
        """Return ``memory_allocated``."""
        torch.cuda.synchronize(self.device)
        return int(torch.cuda.memory_allocated(self.device))

    def peak(self, call: Callable[[], object]) -> int:
        """Return ``max_memory_allocated`` of one call."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        kept = call()
        torch.cuda.synchronize(self.device)
        del kept
        return int(torch.cuda.max_memory_allocated(self.device))

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the median of the times between two events, after a warm-up."""
        for _ in range(WARM_UP):
            call()
        times = []
        with torch.cuda.device(self.device):  # whose stream events are recorded on
            for _ in range(REPEATS):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                call()
                end.record()
                torch.cuda.synchronize()
                times.append(float(start.elapsed_time(end)) / 1e3)
        return median(times)


@record
class Footprint(Record):
    """One pass of one twin. Units: bytes, seconds.

    ``resident``: allocated before (weights, inputs); ``peak``: the most at once, that included. ``modelled`` is the
    time model's time on the accelerator that the device's name means; None where it means none.
    """

    target: str
    phase: str
    batch: int
    tokens: int
    resident: int
    peak: int
    seconds: float
    modelled: float | None


def footprints(sample: Sample, device: str, meter: Meter, accelerator: Accelerator | None) -> Iterator[Footprint]:
    """Yield the forward pass without gradients, and the training pass, of a sample with more sequences."""
    wide = replace(sample, batch=SEQUENCES)
    proven = subject(wide, device)

    def forward() -> object:
        with torch.no_grad():
            return proven.run(0, wide.context)

    def train() -> object:
        outputs = proven.run(0, wide.context)
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        for parameter in proven.twin.parameters():
            parameter.grad = None
        return outputs

    ways: tuple[tuple[str, Callable[[], object], tuple[Direction, ...]], ...] = (
        ("forward", forward, ("forward",)),
        ("training", train, ("forward", "backward")),
    )
    for phase, call, directions in ways:
        seconds = meter.seconds(call)
        resident = meter.resident()
        yield Footprint(
            target=sample.name,
            phase=phase,
            batch=wide.batch,
            tokens=wide.context,
            resident=resident,
            peak=meter.peak(call),
            seconds=seconds,
            modelled=None if accelerator is None else _modelled(proven, accelerator, directions),
        )


def _modelled(proven: Subject, accelerator: Accelerator, directions: tuple[Direction, ...]) -> float:
    """Return what the time model says of eager kernels in fp32, launched by the host."""
    blocks: list[Block] = proven.trained
    pass_: Pass = proven.sample.prefill(causal=False)
    forms = dict.fromkeys(("weight", "activation", "cache"), dtype("fp32"))
    return float(
        sum(
            timed.total
            for direction in directions
            for timed in time_pass(
                blocks, pass_, accelerator, forms, direction=direction, fusion="eager", launch="stream"
            )
        )
    )
