"""What a device reaches of its nominal rates: a few named physical effects, each a constant with unit and origin.

Where the constants come from. They were fitted together, by coordinate descent on the mean |log(predicted / measured)|
over sources, to 209 published timings of single operators, those of ``presets/measurements`` (with the second columns
of vidur's rows): ai-dynamo/aiconfigurator (products, attention and latent attention of TensorRT-LLM on A100, H100,
B200), deepseek-ai/DeepGEMM and FlashMLA, alibaba/InferSim (H800), microsoft/vidur (A100, H100), the bar labels of
Dao-AILab/flash-attention (FlashAttention-2 on H100). Median error 3.9 %, 90th percentile 17 %.

What was not fitted: 2,383 further timings in the same projects' repositories (InferSim's whole tables for H800 and H20,
the charts of FlashAttention-2 on A100 and FlashAttention-3 and cuDNN on H100) came out at 6.9 % median, 24 % at the
90th percentile; the weakest are FlashAttention-3 on H20 (22 %) and products of few tokens for each expert (12 %). Their
forms (rows of 64 for 8 bits, experts' uneven counts, a device that power does not limit) were looked at when the
effects were named. ``calc accuracy`` prints the errors of today, source by source.

A constant is universal, or belongs to a generation of devices where a reason is given; none belongs to a row. Those of
the backward pass of attention rest on one source (FlashAttention-2 on H100).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from calc.constants import Efficiency
from calc.hardware import Accelerator
from calc.records import replace

AttentionKernel: TypeAlias = Literal["default", "flash1", "flash2", "trtllm"]
"""Who wrote the flash attention: what frameworks use on the generation today (FlashAttention-2 on Ampere and Ada,
FlashAttention-3 or cuDNN on Hopper, cuDNN or CUTLASS on Blackwell), FlashAttention-2 on any, TensorRT-LLM."""


GENERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ampere": ("a100", "a800", "a10", "a30", "a40", "a5000", "a6000", "rtx-30"),
    "ada": ("l4", "l20", "l40", "rtx-40", "rtx-6000-ada"),
    "hopper": ("h100", "h800", "h200", "h20", "gh200"),
    "blackwell": ("b100", "b200", "b300", "gb200", "gb300", "rtx-50", "rtx-pro"),
}
"""Generation → how the names of its devices begin."""

_MEASURED: Final[Mapping[str, Efficiency]] = {
    # FlashAttention-2 reaches 73 % of an A100's peak, its exponentials included (arXiv:2307.08691, abstract)
    "ampere": Efficiency(memory=0.81, attention=0.81, flops_per_joule={"bf16": 0.65e12}),
    "ada": Efficiency(attention=0.81),  # Ampere's matrix instructions
    "hopper": Efficiency(
        memory=0.90,
        # FlashAttention-3 reaches 740 TFLOP/s, exponentials included (arXiv:2407.08608, abstract)
        attention=0.85,
        attention_uneven=0.87,
        # decode attention is written with Ampere's matrix instruction, as FlashAttention-2 is; the latent one is not
        attention_decode=0.51,
        flops_per_joule={"bf16": 1.10e12, "fp8": 1.85e12},
    ),
    "blackwell": Efficiency(
        memory=0.80,
        attention=0.88,  # FlashMLA's README: 1460 TFLOP/s
        # half of the exponentials are polynomials on other units (FlashAttention-4)
        softmax_clocks=1 / 32,
        softmax_backward_clocks=0.11,
        flops_per_joule={"bf16": 1.46e12, "fp8": 2.71e12, "fp4": 4.39e12},
    ),
}

_ATTENTION: Final[Mapping[tuple[str, str], float]] = {
    # the first FlashAttention, half as fast as the second on A100 (Dao 2023, arXiv:2307.08691, abstract)
    ("flash1", "ampere"): 0.39,
    ("flash1", "hopper"): 0.22,
    # Ampere's matrix instruction on Hopper's matrix units
    ("flash2", "hopper"): 0.51,
    # TensorRT-LLM 1.0's context attention on A100
    ("trtllm", "ampere"): 0.51,
}
"""(kernel, generation) → ``attention`` where it differs from the generation's."""


def generation(accelerator: Accelerator) -> str:
    """Return the generation that a device's constants are taken from, or an empty string."""
    name = accelerator.name.lower()
    found = [(len(start), which) for which, starts in GENERATIONS.items() for start in starts if name.startswith(start)]
    return max(found)[1] if found else ""


def measured(accelerator: Accelerator) -> bool:
    """Tell whether the constants were measured, on the very device or on others of its generation."""
    return accelerator.calibration is not None or bool(generation(accelerator))


def efficiency(accelerator: Accelerator, attention: AttentionKernel = "default") -> Efficiency:
    """Return a device's own constants, or those of its generation; the universal ones where it was never measured."""
    if accelerator.calibration is not None:
        return accelerator.calibration.constants
    which = generation(accelerator)
    constants = _MEASURED.get(which, Efficiency())
    own = _ATTENTION.get((attention, which))
    return replace(constants, attention=own) if own else constants


LARGEST_CORE: Final = 8192
"""FLOP that a core multiplies in a clock at most, in 16 bits: Blackwell's. A larger one (a systolic array of a TPU)
counts as several, since the constants of a core are those of such cores."""


def cores_of(accelerator: Accelerator) -> int:
    """Return the cores that tiles of work are dealt out to.

    >>> from calc.catalog import load_accelerator
    >>> cores_of(load_accelerator("h100-sxm")), cores_of(load_accelerator("tpu-v5p")) > 16
    (132, True)
    """
    a_clock = accelerator.flops[accelerator.half()] / (accelerator.clock_hz or DEFAULT_CLOCK)
    return max(accelerator.n_cores or 1, round(a_clock / LARGEST_CORE))


DEFAULT_CLOCK: Final = 1e9
"""Hz, where none is stated."""


def sustained(accelerator: Accelerator, form: str, constants: Efficiency) -> tuple[float, float]:
    """Return (peak, sustained) FLOP/s of long matrix products in a format, before any effect of shape.

    sustained = min(issue · peak, FLOP per joule · power limit). A format that the device does not multiply is widened
    to its 16-bit one. The two 16-bit formats run alike.
    """
    rate = accelerator.multiplies(form) or accelerator.half()
    peak = accelerator.flops[rate]
    bought = constants.flops_per_joule.get("bf16" if rate == "fp16" else rate)
    limit = bought * accelerator.tdp_watts if bought and accelerator.tdp_watts else peak
    return peak, min(constants.issue * peak, limit)
