"""What a device reaches when the load lasts: the power limit binds harder in hours of training than in a benchmark.

Timings of single operators are bursts: the chip is cool and nothing else runs. In training matrix units, memory and
links work at once for hours, and the clock falls until the board keeps to its power limit. A product in 8 bits takes
half the energy of one in 16, which the constants below show without having been told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from calc.hardware import Accelerator
from calc.records import replace
from calc.roofline import Efficiency, efficiency
from calc.roofline.efficiency import AttentionKernel, generation

LASTING: Final[Mapping[str, Mapping[str, float]]] = {
    "ampere": {"bf16": 0.575e12},
    "hopper": {"bf16": 0.80e12, "fp8": 1.60e12},
    "blackwell": {"bf16": 1.00e12, "fp8": 2.40e12, "fp4": 4.20e12},
}
"""FLOP of matrix products that a joule of the power limit buys, by generation and format, under a load that lasts.

Found from published step times of several frameworks each: Megatron, llm.c, LLM Foundry, TinyLlama on A100;
Megatron-Core, llm.c, LLM Foundry, NeMo on H100; NeMo, Megatron-Core on Blackwell. ``calc accuracy`` prints the errors.
"""


UNMEASURED: Final = 0.7
"""Share of the peak that long products keep under such a load on devices of which no step was published; an estimate:
what A100 keeps, the least throttled of the measured generations."""


@lru_cache(maxsize=64)
def lasting(accelerator: Accelerator, attention: AttentionKernel = "default") -> Efficiency:
    """Return the constants of a device under a load that lasts; a calibration is a burst, too."""
    constants = efficiency(accelerator, attention)
    bought = LASTING.get(generation(accelerator))
    if bought is None and accelerator.calibration is not None:
        return constants
    if bought is None:
        return replace(constants, issue=min(constants.issue, UNMEASURED))
    return replace(constants, flops_per_joule=dict(bought))
