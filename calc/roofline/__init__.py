"""The time of kernels on a device: the longer of compute and memory, and what starting them costs.

Every effect has a name and a constant (``calc.roofline.efficiency``): tiles and waves, the fill of a tile, the power
limit, the stream from memory, few cores, the shared cache, blocks and steps of attention, launches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from calc.algebra import Number, if_at_most, maximum
from calc.constants import Efficiency
from calc.hardware import Accelerator
from calc.kernels import Direction, Forms, Fusion, Kernel, kernels
from calc.layers import Block
from calc.passes import Pass
from calc.records import Record, named_record
from calc.roofline.attention import attention_times
from calc.roofline.efficiency import AttentionKernel, efficiency
from calc.roofline.products import product_times

__all__ = ["AttentionKernel", "Efficiency", "KernelTime", "Launch", "efficiency", "kernel_time", "time_pass"]

Launch: TypeAlias = Literal["graph", "stream", "none"]
"""How kernels are launched: from a recorded graph (CUDA graphs), one by one by the host, or not counted at all."""


@named_record
class KernelTime(Record):
    """The time of one launch of a kernel, in seconds; ``total`` is that of all its launches in the pass.

    ``compute_s`` and ``memory_s`` would overlap fully; ``launch_s`` comes before or after them.
    """

    kernel: Kernel
    seconds: Number
    compute_s: Number
    memory_s: Number
    launch_s: Number

    @property
    def total(self) -> Number:
        """Seconds of all launches."""
        return self.kernel.repeat * self.seconds

    @property
    def bound(self) -> Any:
        """What the time is bound by: ``compute``, ``memory`` or ``launch``; for sweeps, an array of these."""
        longer = if_at_most(self.memory_s, self.compute_s, "compute", "memory")
        return if_at_most(self.launch_s, maximum(self.compute_s, self.memory_s), longer, "launch")


def kernel_time(
    kernel: Kernel, accelerator: Accelerator, constants: Efficiency | None = None, *, launch: Launch = "graph"
) -> KernelTime:
    """Return the time of one launch on a device; ``constants`` replace those of the device.

    seconds = max(compute, memory) + start, and the gap to the next kernel. Numbers or numpy arrays.
    """
    constants = constants or efficiency(accelerator)
    if kernel.kind in ("gemm", "grouped_gemm"):
        compute, memory, start = product_times(kernel, accelerator, constants)
    elif kernel.kind == "attention":
        compute, memory, start = attention_times(kernel, accelerator, constants)
    else:
        compute, memory, start = _stream_times(kernel, accelerator, constants)
    busy = constants.overlapped(compute, memory)
    if launch != "none":
        start = start + constants.gap_s
    if launch == "stream":
        start = start + maximum(constants.host_s - busy - start, 0.0)
    return KernelTime(kernel=kernel, seconds=busy + start, compute_s=compute, memory_s=memory, launch_s=start)


def _stream_times(kernel: Kernel, accelerator: Accelerator, constants: Efficiency) -> tuple[Number, Number, Number]:
    """Return (compute, memory, start) seconds of what only moves memory, or the shared cache where it fits there."""
    stream = constants.memory * accelerator.memory_bytes_per_s
    cache = (accelerator.cache_bytes or 0) / 2  # the other half holds what the kernel writes
    from_cache = if_at_most(kernel.bytes - kernel.weight_bytes, cache, constants.cache * stream, stream)
    rate = accelerator.flops.get("fp32", accelerator.flops[accelerator.half()] / 8)
    work = kernel.flops + kernel.vector_flops
    return work / (constants.issue * rate), kernel.bytes / from_cache, constants.light_s


def time_pass(
    blocks: Iterable[Block],
    pass_: Pass,
    accelerator: Accelerator,
    forms: Forms,
    *,
    direction: Direction = "forward",
    fusion: Fusion = "fused",
    launch: Launch = "graph",
) -> list[KernelTime]:
    """Return the time of every kernel of a pass; ``sum(each.total for each in ...)`` is the time of the pass.

    >>> from calc import Pass, load
    >>> from calc.catalog import load_accelerator
    >>> from calc.units import dtype
    >>> forms = dict.fromkeys(("weight", "activation", "cache"), dtype("bf16"))
    >>> h100 = load_accelerator("h100-sxm")
    >>> found = time_pass(load("llama-3-8b").blocks(), Pass.decode(4096, 1), h100, forms)
    >>> 5e-3 < sum(each.total for each in found) < 8e-3
    True
    """
    found = kernels(blocks, pass_, forms, direction=direction, fusion=fusion)
    return [kernel_time(kernel, accelerator, launch=launch) for kernel in found]
