"""The constants of the time models, and a calibration: those of one device, measured.

``calc.roofline.efficiency`` says where the constants of kernels come from, ``calc.network`` where those of collectives
do. A device that was calibrated carries its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal, TypeAlias

from calc.algebra import Number, maximum, minimum
from calc.deviations import Errors
from calc.errors import SpecError
from calc.fields import Amount, Positive
from calc.records import Record, named_record

LinkKind: TypeAlias = Literal[
    "nvlink", "xgmi", "ici", "neuronlink", "pcie", "ultrafusion", "infiniband", "roce", "efa", "omnipath", "ethernet",
    "measured",
]  # fmt: skip
SCALE_UP: Final = ("nvlink", "xgmi", "ici", "neuronlink", "pcie", "ultrafusion", "measured")
"""Kinds that join the devices of one domain; the others are networks between hosts. ``measured``: whatever joins
the devices of a host that was calibrated and that nobody states links of."""


@named_record
class Efficiency(Record):
    """The constants of the time model for one device. Fractions are of the nominal rate.

    The defaults are those of a device that nobody has measured; ``calc.roofline.efficiency`` gives those of a
    generation, or of a calibrated device its own.
    """

    issue: Amount = 0.95
    """Fraction of the peak that the main loop of a product reaches where power does not limit it: 295 of 312 TFLOP/s on
    an A100 that multiplies zeros, against 257 with normal values (thonking.ai, "Strangely, matrix multiplications on
    GPUs run faster when given predictable data")."""
    flops_per_joule: Mapping[str, Amount] = field(default_factory=dict)
    """FLOP that one joule of the power limit buys, by format: the clock falls until the power does not exceed it."""
    fill_s: Amount = 0.62e-6
    """Seconds at the start and the end of an output tile in which the matrix units wait for operands."""
    store: Amount = 0.73
    """How many times its even share of the memory bandwidth a core stores the result of a tile with, at its end."""
    least_rows: Positive = 16
    """Rows of the smallest matrix product: fewer cost as many, and a tile is computed whole. 1 where nothing is padded
    (the vector units of a CPU)."""
    step_s: Amount = 0.047e-6
    """The shortest time of one step of a main loop (128 bytes of k): two barriers and a copy."""
    core_bytes_per_clock: Amount = 70.0
    """Bytes that one core takes from the shared cache in a clock. 64 is what NVIDIA states since Volta."""
    memory: Amount = 0.81
    """Fraction of the memory bandwidth that a long stream reaches."""
    core_share: Amount = 1.77
    """How many times its even share of the memory bandwidth one core can take: few cores cannot fill it."""
    cache: Amount = 2.66
    """Bandwidth of the shared cache over that of memory."""
    overlap: Amount = 2.5
    """How well compute and memory hide behind each other: (compute^p + memory^p)^(1/p)."""
    kernel_s: Amount = 3.4e-6
    """A product or an attention from its first block to its last result, beside its work."""
    light_s: Amount = 0.6e-6
    """The same for a kernel that only moves memory: 2.8 µs from one to the next in a recorded graph. An estimate, not
    fitted, since no source times such kernels: ``calc calibrate`` measures it."""
    gap_s: Amount = 2.2e-6
    """Between two kernels of a recorded graph."""
    host_s: Amount = 6.0e-6
    """Host time to launch one kernel from eager PyTorch; estimate, not fitted: ``calc calibrate`` measures it."""
    attention: Amount = 0.85
    """Fraction of the peak that a flash attention's products reach between exponentials."""
    attention_backward: Amount = 0.79
    """The rate of its backward products over that of the forward ones."""
    attention_uneven: Amount = 1.0
    """What is left of ``attention`` where keys are wider than values (192 and 128 in latent attention's prefill)."""
    attention_decode: Amount = 0.78
    """Fraction of the peak where few queries share keys, at a decode step."""
    attention_latent: Amount = 0.78
    """The same for latent attention (FlashMLA, TensorRT-LLM)."""
    softmax_clocks: Amount = 1 / 16
    """Clocks of one core for the exponential of one pair: 16 special functions a clock and core (CUDA C++ Programming
    Guide, throughput of native arithmetic instructions)."""
    softmax_overlap: Amount = 1.17
    """How well exponentials hide behind products: (products^p + exponentials^p)^(1/p); 1 is not at all."""
    softmax_backward_clocks: Amount = 0.22
    """The same in the backward pass: the exponential again, and the gradient of the softmax."""
    block_steps: Amount = 1.54
    """What starting and ending a block of queries costs, in steps of 128 keys."""
    decode_s: Amount = 12.3e-6
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


EFFICIENCY: Mapping[LinkKind, float] = {
    # calibrated: what large messages reach of the nominal rate. NCCL itself counts with 20.0 of 25 GB/s a link of
    # NVLink 3, 20.6 of 25 of NVLink 4 and 40.1 of 50 of NVLink 5 (src/graph/topo.h), before its protocols' own costs
    "nvlink": 0.70,
    # the same fabric of point-to-point links at every port; rccl-tests reach about 310 of 448 GB/s on eight MI300X
    "xgmi": 0.70,
    # NCCL counts with 12 of 15.75 GB/s for generation 3 and twice that for 4 (src/graph/topo.h, PCI_BW)
    "pcie": 0.76,
    # 46 to 48 of 50 GB/s an adapter, says NCCL's maintainer (github.com/NVIDIA/nccl-tests/issues/290)
    "infiniband": 0.94,
    "roce": 0.94,
    "omnipath": 0.94,
    # estimates, no calibration behind them
    "efa": 0.80,
    "ethernet": 0.80,
    "ici": 0.80,
    "neuronlink": 0.70,
    "ultrafusion": 0.70,
    # its rate is the best that was measured
    "measured": 1.0,
}
"""Share of a link's nominal rate that long messages get."""


@named_record
class NetworkConstants(Record):
    """What the links' data sheets do not say: the software's share.

    ``launch_s``: starting the kernel and meeting the other ranks; ``send_s``: the same for a message between two.
    ``both_ways``: the share of a link's rate that each way has where ranks send and receive at once. ``copy_s``: added
    to a link's latency at each hop, for copying and polling. ``fill_bytes``, ``fill_slope``: before a phase's pipeline
    is full, its first bytes take ``1 + fill_slope`` times as long, ``fill_bytes`` more in the end (small messages go by
    the LL protocol, half of which are flags; then by few channels). ``peer_fill``: the same for an all-to-all, whose
    message is cut into one piece for each peer, over that of a ring. ``nvls_s``: setting up reductions in the switch
    (NCCL's own constant); ``nvls_fourth``, ``nvls_fifth``: the share of the nominal rate that they reach on NVLink 4
    and 5 (NCCL counts with 0.85 and 0.74 of its own rates, ``nvlsEfficiency``). ``host_s``: issuing a call from
    PyTorch, where neither a CUDA graph nor earlier work hides it (Vidur's profiles show no all-reduce below 36 µs,
    whatever its size).
    """

    launch_s: Amount = 7e-6
    send_s: Amount = 7e-6
    both_ways: Amount = 1.0
    copy_s: Amount = 0.3e-6
    fill_bytes: Amount = 3.2e6
    fill_slope: Amount = 3.0
    peer_fill: Amount = 2.0
    nvls_s: Amount = 25e-6
    nvls_fourth: Amount = 0.62
    nvls_fifth: Amount = 0.49
    one_shot_s: Amount = 5e-6
    one_shot: Amount = 0.70
    two_shot_s: Amount = 11e-6
    two_shot: Amount = 0.62
    custom_bytes_per_s: Amount = 390e9
    """Custom all-reduces: launch, share of the nominal rate (github.com/vllm-project/vllm/pull/24111, H100), and the
    most that their few thread blocks move (pull/24532)."""
    host_s: Amount = 38e-6
    efficiency: Mapping[LinkKind, Amount] = field(default_factory=lambda: EFFICIENCY)

    def __hash__(self) -> int:  # efficiency is a mapping, which has none
        return hash(tuple(value for name, value in vars(self).items() if name != "efficiency"))


CALIBRATION_VERSION: Final = 1
"""Of the file that ``calc calibrate`` writes; one of another version is refused."""


@named_record
class LinkCalibration(Record):
    """What was measured between the devices of one host: by which backend, among how many, the constants, the errors.

    ``errors``: by kind of collective, and over ``all``.
    """

    backend: str
    ranks: Positive
    constants: NetworkConstants
    errors: Mapping[str, Errors]


@named_record
class Calibration(Record):
    """What a calibration found of one device, when and with what: constants, and their errors.

    ``errors``: by kind of kernel, and over ``all``.
    """

    device: str
    date: str
    versions: Mapping[str, str]
    constants: Efficiency
    errors: Mapping[str, Errors]
    links: LinkCalibration | None = None

    def __post_init__(self) -> None:
        for errors in (self.errors, *([self.links.errors] if self.links else [])):
            if "all" not in errors:
                raise SpecError(f"the calibration of {self.device} says nothing of its error: calibrate again")
