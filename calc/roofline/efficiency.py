"""What a device reaches of its nominal rates: a few named physical effects, each a constant with unit and origin.

Where the constants come from: they were fitted together, by coordinate descent on the mean |log(predicted / measured)|
over sources, to 2,601 published timings of single operators: ai-dynamo/aiconfigurator (products, attention and latent
attention of TensorRT-LLM on A100, H100, B200), deepseek-ai/DeepGEMM (H800), alibaba/InferSim (products, experts and
attention of DeepGEMM, FlashInfer, FlashAttention-3 and FlashMLA on H800 and H20), microsoft/vidur (A100, H100), and the
bar labels of Dao-AILab/flash-attention (FlashAttention-2 on A100 and H100, FlashAttention-3 and cuDNN on H100). Median
error 6.7 %; ``calc accuracy`` prints the errors of today, source by source. A constant is universal, or belongs to a
generation of devices where a reason is given; none belongs to a row.
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

    issue: float = 0.97
    """Fraction of the peak that the main loop of a product reaches where power does not limit it (H20 shows it)."""
    flops_per_joule: Mapping[str, float] = field(default_factory=dict)
    """FLOP that one joule of the power limit buys, by format: the clock falls until the power does not exceed it."""
    fill_s: float = 0.76e-6
    """Seconds at the start and the end of an output tile in which the matrix units wait for operands."""
    store: float = 0.75
    """How many times its even share of the memory bandwidth a core stores the result of a tile with, at its end."""
    least_rows: int = 16
    """Rows of the smallest matrix product: fewer cost as many, and a tile is computed whole. 1 where nothing is padded
    (the vector units of a CPU)."""
    step_s: float = 0.058e-6
    """The shortest time of one step of a main loop (128 bytes of k): two barriers and a copy."""
    core_bytes_per_clock: float = 73.0
    """Bytes that one core takes from the shared cache in a clock. 64 is what NVIDIA states since Volta."""
    memory: float = 0.81
    """Fraction of the memory bandwidth that a long stream reaches."""
    core_share: float = 1.6
    """How many times its even share of the memory bandwidth one core can take: few cores cannot fill it."""
    cache: float = 2.75
    """Bandwidth of the shared cache over that of memory."""
    overlap: float = 2.6
    """How well compute and memory hide behind each other: (compute^p + memory^p)^(1/p)."""
    kernel_s: float = 3.3e-6
    """A product or an attention from its first block to its last result, beside its work."""
    light_s: float = 1.8e-6
    """The same for a kernel that only moves memory; estimate, not fitted: ``calc calibrate`` measures it."""
    gap_s: float = 1.4e-6
    """Between two kernels of a recorded graph."""
    host_s: float = 6.0e-6
    """Host time to launch one kernel from eager PyTorch; estimate, not fitted: ``calc calibrate`` measures it."""
    attention: float = 0.85
    """Fraction of the peak that a flash attention's products reach between exponentials."""
    attention_backward: float = 0.84
    """The rate of its backward products over that of the forward ones."""
    attention_decode: float = 0.74
    """Fraction of the peak where few queries share keys, at a decode step."""
    attention_latent: float = 0.74
    """The same for latent attention (FlashMLA, TensorRT-LLM)."""
    softmax_clocks: float = 1 / 16
    """Clocks of one core for the exponential of one pair: 16 special functions a clock and core (CUDA C++ Programming
    Guide, throughput of native arithmetic instructions)."""
    softmax_overlap: float = 1.22
    """How well exponentials hide behind products: (products^p + exponentials^p)^(1/p); 1 is not at all."""
    softmax_backward_clocks: float = 0.14
    """The same in the backward pass: the exponential again, and the gradient of the softmax."""
    block_steps: float = 1.43
    """What starting and ending a block of queries costs, in steps of 128 keys."""
    decode_s: float = 13.1e-6
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
    "ampere": Efficiency(memory=0.81, attention=0.78, flops_per_joule={"bf16": 0.65e12}),
    "ada": Efficiency(attention=0.78),  # Ampere's matrix instructions
    "hopper": Efficiency(
        memory=0.89,
        attention=0.88,
        # decode attention is written with Ampere's matrix instruction (mma.sync), latent attention with Hopper's
        attention_decode=0.47,
        flops_per_joule={"bf16": 1.17e12, "fp8": 1.85e12},
    ),
    "blackwell": Efficiency(
        memory=0.77,
        attention=0.88,
        # half of the exponentials are polynomials on other units (FlashAttention-4); FlashMLA states 1460 TFLOP/s
        softmax_clocks=1 / 32,
        flops_per_joule={"bf16": 1.50e12, "fp8": 2.74e12, "fp4": 4.40e12},
    ),
}

_ATTENTION: Final[Mapping[tuple[str, str], float]] = {
    # the first FlashAttention, half as fast as the second on A100 (Dao 2023, arXiv:2307.08691, abstract)
    ("flash1", "ampere"): 0.39,
    ("flash1", "hopper"): 0.22,
    # Ampere's matrix instruction on Hopper's matrix units
    ("flash2", "hopper"): 0.44,
    # TensorRT-LLM 1.0's context attention on A100; its latent attention on H100
    ("trtllm", "ampere"): 0.50,
    ("trtllm", "hopper"): 0.72,
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
