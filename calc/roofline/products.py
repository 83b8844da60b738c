"""Time of a matrix product: tiles in waves over the cores, a power limit, and the stream from memory."""

from __future__ import annotations

from typing import Final

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.roofline.efficiency import Efficiency, sustained

TILES: Final = (
    (16, 64),
    (16, 128),
    (32, 64),
    (32, 128),
    (64, 64),
    (64, 128),
    (64, 256),
    (128, 128),
    (128, 192),
    (128, 256),
    (256, 128),
)
"""Output tiles (rows × columns) that libraries choose from."""

SPLITS: Final = (1, 2, 3, 4, 6, 8, 16)
"""Into how many parts the sum over k may be cut, so that more cores have work."""

SHORTEST: Final = 256
"""The sum over k is not cut into less."""


def product_times(kernel: Kernel, accelerator: Accelerator, constants: Efficiency) -> tuple[Number, Number]:
    """Return (compute, memory) seconds of a GEMM: those of the tile and the split for which it takes least."""
    peak, rate = sustained(accelerator, kernel.form, constants)
    cores = accelerator.n_cores or 1
    clock = accelerator.clock_hz or 1e9
    core_peak = constants.issue * peak / cores
    core_load = constants.core_bytes_per_clock * clock
    stream = constants.memory * accelerator.memory_bytes_per_s
    size = max(kernel.operand_bits, 4) / 8
    floor = kernel.flops / rate
    best: tuple[Number, Number] | None = None
    for rows, columns in TILES:
        tiles = kernel.groups * ceil_div(kernel.m, rows) * ceil_div(kernel.n, columns)
        height = minimum(kernel.m, rows)
        for split in SPLITS:
            length = ceil_div(kernel.k, split)
            work = tiles * split
            loop = maximum(2 * rows * columns * length / core_peak, (height + columns) * length * size / core_load)
            waves = ceil_div(work, cores)
            compute = waves * (loop + constants.fill_s)
            if split > 1:
                # every part writes its sums in fp32 to the shared cache, and one of them reads the others'
                partial = 4 * kernel.m * kernel.n * kernel.groups * (split + 1)
                compute = compute + partial / (constants.cache * stream)
            compute = maximum(compute, floor)
            memory = kernel.bytes / minimum(stream, work * constants.core_share * stream / cores)
            if split > 1:
                compute = if_at_most(SHORTEST, length, compute, compute + 1e3)
            if best is None:
                best = compute, memory
                continue
            shorter, now = maximum(compute, memory), maximum(*best)
            best = if_at_most(now, shorter, best[0], compute), if_at_most(now, shorter, best[1], memory)
    assert best is not None
    return best
