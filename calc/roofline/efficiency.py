"""What a device reaches of its nominal rates: a few named physical effects, each a constant with unit and origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Final

from calc.hardware import Accelerator
from calc.records import Record, named_record


@named_record
class Efficiency(Record):
    """The constants of the time model for one device. Fractions are of the nominal rate.

    The defaults are those of a device that nobody has measured; ``efficiency`` gives those of a generation, and a file
    of ``calc calibrate`` those of one device.
    """

    issue: float = 0.88
    """Fraction of the peak that a long product reaches in its main loop."""
    flops_per_joule: Mapping[str, float] = field(default_factory=dict)
    """FLOP that one joule of the power limit buys, by format: the clock falls until the power does not exceed it."""
    fill_s: float = 1.0e-6
    """Start and end of one output tile: first operands in, result out, while the matrix units wait."""
    core_bytes_per_clock: float = 64.0
    """Bytes that one core takes from the shared cache in a clock."""
    memory: float = 0.85
    """Fraction of the memory bandwidth that a long stream reaches."""
    core_share: float = 2.0
    """How many times its even share of the memory bandwidth one core can take: few cores cannot fill it."""
    cache: float = 2.5
    """Bandwidth of the shared cache over that of memory, for what a kernel before left in it."""
    kernel_s: float = 2.0e-6
    """A kernel from its first block to its last result, when it does nothing."""
    gap_s: float = 1.5e-6
    """Between two kernels of a recorded graph."""
    host_s: float = 6.0e-6
    """Host time to launch one kernel from eager code."""
    attention: float = 0.7
    """Fraction of the sustained rate of products that a flash attention's products reach."""
    softmax_clocks: float = 0.0
    """Clocks of one core for the exponential of one pair, not hidden behind products."""
    attention_backward: float = 0.8
    """The rate of a flash attention's backward products over that of the forward ones."""
    block_steps: float = 1.4
    """What starting and ending a block of queries costs, in steps of ``STEP`` keys."""


STEP: Final = 128
"""Keys that a flash attention loads at once, and queries of one block."""

GENERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ampere": ("a100", "a800", "a10", "a30", "a40", "rtx-30", "rtx-a"),
    "ada": ("l4", "l40", "rtx-40"),
    "hopper": ("h100", "h800", "h200", "h20", "gh200"),
    "blackwell": ("b100", "b200", "b300", "gb200", "gb300", "rtx-50", "rtx-pro"),
}
"""Generation → how the names of its devices begin."""

_MEASURED: Final[Mapping[str, Efficiency]] = {
    "ampere": Efficiency(memory=0.80, flops_per_joule={"bf16": 0.675e12}, attention=0.55),
    "hopper": Efficiency(memory=0.92, flops_per_joule={"bf16": 1.17e12, "fp8": 1.9e12}, attention=0.72),
    "blackwell": Efficiency(
        memory=0.82, flops_per_joule={"bf16": 1.56e12, "fp8": 2.5e12, "fp4": 4.0e12}, attention=0.75
    ),
}


def generation(accelerator: Accelerator) -> str:
    """Return the generation that a device's constants are taken from, or an empty string."""
    name = accelerator.name.lower()
    found = [(len(start), which) for which, starts in GENERATIONS.items() for start in starts if name.startswith(start)]
    return max(found)[1] if found else ""


def efficiency(accelerator: Accelerator) -> Efficiency:
    """Return the constants of a device's generation; the universal ones where it was never measured."""
    return _MEASURED.get(generation(accelerator), Efficiency())


def sustained(accelerator: Accelerator, form: str, constants: Efficiency) -> tuple[float, float]:
    """Return (peak, sustained) FLOP/s of long matrix products in a format, before any shape effect.

    sustained = min(issue · peak, FLOP per joule · power limit). A format that the device does not multiply is widened
    to its 16-bit one. Half-precision floats run alike.
    """
    rate = accelerator.multiplies(form) or accelerator.half()
    peak = accelerator.flops[rate]
    bought = constants.flops_per_joule.get("bf16" if rate == "fp16" else rate)
    limit = bought * accelerator.tdp_watts if bought and accelerator.tdp_watts else peak
    return peak, min(constants.issue * peak, limit)


__all__ = ["GENERATIONS", "STEP", "Efficiency", "efficiency", "generation", "replace", "sustained"]
