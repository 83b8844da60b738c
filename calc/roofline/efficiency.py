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
from dataclasses import field, replace
from typing import Final, Literal, TypeAlias

from calc.algebra import Number, maximum, minimum
from calc.hardware import Accelerator
from calc.records import Record, named_record

AttentionKernel: TypeAlias = Literal["default", "flash1", "flash2", "trtllm"]
"""Who wrote the flash attention: what frameworks use on the generation today (FlashAttention-2 on Ampere and Ada,
FlashAttention-3 or cuDNN on Hopper, cuDNN or CUTLASS on Blackwell), FlashAttention-2 on any, TensorRT-LLM."""


@named_record
class Efficiency(Record):
    """The constants of the time model for one device. Fractions are of the nominal rate.

    The defaults are those of a device that nobody has measured; ``efficiency`` gives those of a generation, and a file
    of ``calc calibrate`` those of one device.
    """

    issue: float = 0.95
    """Fraction of the peak that the main loop of a product reaches where power does not limit it: 295 of 312 TFLOP/s on
    an A100 that multiplies zeros, against 257 with normal values (thonking.ai, "Strangely, matrix multiplications on
    GPUs run faster when given predictable data")."""
    flops_per_joule: Mapping[str, float] = field(default_factory=dict)
    """FLOP that one joule of the power limit buys, by format: the clock falls until the power does not exceed it."""
    fill_s: float = 0.62e-6
    """Seconds at the start and the end of an output tile in which the matrix units wait for operands."""
    store: float = 0.73
    """How many times its even share of the memory bandwidth a core stores the result of a tile with, at its end."""
    least_rows: int = 16
    """Rows of the smallest matrix product: fewer cost as many, and a tile is computed whole. 1 where nothing is padded
    (the vector units of a CPU)."""
    step_s: float = 0.047e-6
    """The shortest time of one step of a main loop (128 bytes of k): two barriers and a copy."""
    core_bytes_per_clock: float = 70.0
    """Bytes that one core takes from the shared cache in a clock. 64 is what NVIDIA states since Volta."""
    memory: float = 0.81
    """Fraction of the memory bandwidth that a long stream reaches."""
    core_share: float = 1.77
    """How many times its even share of the memory bandwidth one core can take: few cores cannot fill it."""
    cache: float = 2.66
    """Bandwidth of the shared cache over that of memory."""
    overlap: float = 2.5
    """How well compute and memory hide behind each other: (compute^p + memory^p)^(1/p)."""
    kernel_s: float = 3.4e-6
    """A product or an attention from its first block to its last result, beside its work."""
    light_s: float = 0.6e-6
    """The same for a kernel that only moves memory: 2.8 µs from one to the next in a recorded graph. An estimate, not
    fitted, since no source times such kernels: ``calc calibrate`` measures it."""
    gap_s: float = 2.2e-6
    """Between two kernels of a recorded graph."""
    host_s: float = 6.0e-6
    """Host time to launch one kernel from eager PyTorch; estimate, not fitted: ``calc calibrate`` measures it."""
    attention: float = 0.85
    """Fraction of the peak that a flash attention's products reach between exponentials."""
    attention_backward: float = 0.79
    """The rate of its backward products over that of the forward ones."""
    attention_uneven: float = 1.0
    """What is left of ``attention`` where keys are wider than values (192 and 128 in latent attention's prefill)."""
    attention_decode: float = 0.78
    """Fraction of the peak where few queries share keys, at a decode step."""
    attention_latent: float = 0.78
    """The same for latent attention (FlashMLA, TensorRT-LLM)."""
    softmax_clocks: float = 1 / 16
    """Clocks of one core for the exponential of one pair: 16 special functions a clock and core (CUDA C++ Programming
    Guide, throughput of native arithmetic instructions)."""
    softmax_overlap: float = 1.17
    """How well exponentials hide behind products: (products^p + exponentials^p)^(1/p); 1 is not at all."""
    softmax_backward_clocks: float = 0.22
    """The same in the backward pass: the exponential again, and the gradient of the softmax."""
    block_steps: float = 1.54
    """What starting and ending a block of queries costs, in steps of 128 keys."""
    decode_s: float = 12.3e-6
    """An attention over few queries: its parts started, and added up by a second kernel."""

    def __hash__(self) -> int:  # flops_per_joule is a mapping, which has none
        return hash(tuple(value for name, value in vars(self).items() if name != "flops_per_joule"))

    def overlapped(self, compute: Number, memory: Number) -> Number:
        """Return the time of compute and memory that hide behind each other.

        >>> Efficiency(overlap=2).overlapped(3.0, 4.0)
        5.0
        """
        longer, shorter = maximum(compute, memory), minimum(compute, memory)
        return longer * (1 + (shorter / longer) ** self.overlap) ** (1 / self.overlap)


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


def efficiency(accelerator: Accelerator, attention: AttentionKernel = "default") -> Efficiency:
    """Return the constants of a device's generation; the universal ones where it was never measured."""
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
