"""Time of a matrix product: tiles in waves over the cores, a power limit, and the stream from memory."""

from __future__ import annotations

from typing import Final

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.constants import Efficiency
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.records import Record, named_record
from calc.roofline.efficiency import DEFAULT_CLOCK, cores_of, sustained

TILES: Final = (
    (16, 64), (16, 128), (32, 64), (32, 128), (64, 32), (64, 64), (64, 128), (64, 256), (128, 64), (128, 96),
    (128, 128), (128, 160), (128, 192), (128, 224), (128, 256), (256, 128),
)  # fmt: skip
"""Output tiles (rows × columns) that libraries choose from."""

WIDTHS: Final = {"fp8": 8, "int8": 8, "fp6": 6, "fp4": 4}
"""Bits of the operands of formats narrower than 16 bits."""

NARROW_TILES: Final = tuple(tile for tile in TILES if tile[0] >= 64)
"""The same for 8 bits: no fewer rows than Hopper's matrix instruction (wgmma) has."""

BLOCK_SCALED_TILES: Final = ((128, 128), (128, 192), (128, 256), (256, 128), (256, 256))
"""The same for 4-bit floats: their scales lie in memory in blocks of 128 rows (cuBLAS, "1D block scaling factors")."""

SPLITS: Final = tuple((tile, parts) for tile in ((16, 64), (64, 64), (128, 128)) for parts in (2, 3, 4, 6, 8, 16))
"""Tiles whose sum over k is cut into parts, so that more cores have work."""

SHORTEST: Final = 256
"""The sum over k is not cut into less."""

STEP_BYTES: Final = 128
"""Bytes of k that one step of the main loop takes: a line of the shared cache, and what one copy instruction moves."""

RESULT_BYTES: Final = 2
"""Bytes of an element of the result: 16 bits whatever the operands are."""

NEVER: Final = 1e3
"""Seconds that no product takes: rules a tile out."""


@named_record
class _Rates(Record):
    """The rates of one device for one kernel. Units: FLOP/s, bytes/s, bytes, cores."""

    sustained: float
    core: float
    core_load: float
    stream: float
    cores: int
    element: float


def product_times(kernel: Kernel, accelerator: Accelerator, constants: Efficiency) -> tuple[Number, Number, Number]:
    """Return (compute, memory, start) seconds of a GEMM: those of the tile and the split for which it takes least.

    compute = max(waves · (main loop + fill of a tile), FLOPs / sustained rate); a wave is one tile on each core, and a
    main loop the longest of its products, its loads from the shared cache, and its steps. memory = bytes / stream,
    with few tiles / what so few cores can take. start: a product whose sum is cut needs a second kernel to add up.
    """
    peak, rate = sustained(accelerator, kernel.form, constants)
    cores = cores_of(accelerator)
    rates = _Rates(
        sustained=rate,
        core=constants.issue * peak / cores,
        core_load=constants.core_bytes_per_clock * (accelerator.clock_hz or DEFAULT_CLOCK),
        stream=constants.memory * accelerator.memory_bytes_per_s,
        cores=cores,
        element=max(kernel.operand_bits, 4) / 8,
    )
    width = WIDTHS.get(accelerator.multiplies(kernel.form) or "", 16)
    first, *others = BLOCK_SCALED_TILES if width < 8 else NARROW_TILES if width < 16 else TILES
    best = _tile_times(kernel, first, 1, rates, constants)
    options = [(tile, 1) for tile in others]
    if width >= 16:  # libraries' kernels for narrower formats do not cut the sum
        options += SPLITS
    for tile, parts in options:
        other = _tile_times(kernel, tile, parts, rates, constants)
        now, then = (constants.overlapped(*each[:2]) + each[2] for each in (best, other))
        best = tuple(if_at_most(now, then, a, b) for a, b in zip(best, other, strict=True))
    return best


def _tile_times(
    kernel: Kernel, tile: tuple[int, int], parts: int, rates: _Rates, constants: Efficiency
) -> tuple[Number, Number, Number]:
    rows, columns = tile
    work = parts * kernel.groups * _row_tiles(kernel, rows) * ceil_div(kernel.n, columns)
    length = ceil_div(kernel.k, parts)
    filled = minimum(kernel.m, rows)
    height = rows if constants.least_rows > 1 else filled
    loads = (filled + columns) * length * rates.element
    steps = ceil_div(length * rates.element, STEP_BYTES)
    loop = maximum(
        2 * height * columns * length / rates.core, maximum(loads / rates.core_load, steps * constants.step_s)
    )
    result = filled * minimum(kernel.n, columns) * RESULT_BYTES
    store = result * rates.cores / (constants.store * rates.stream)
    compute = ceil_div(work, rates.cores) * (loop + constants.fill_s + store)
    start: Number = constants.kernel_s
    if parts > 1:
        # every part writes its sums in fp32 to the shared cache, and a second kernel adds them up
        partial = 4 * kernel.m * kernel.n * kernel.groups * (parts + 1)
        compute = compute + partial / (constants.cache * rates.stream)
        compute = if_at_most(SHORTEST, length, compute, NEVER)
        start = start + constants.kernel_s
    compute = maximum(compute, kernel.flops / rates.sustained)
    reachable = work * constants.core_share * rates.stream / rates.cores
    return compute, kernel.bytes / minimum(rates.stream, reachable), start


def _row_tiles(kernel: Kernel, rows: int) -> Number:
    """Return the tiles over the rows of one group: half a tile more than filled ones where counts are random."""
    return maximum(kernel.m / rows + 0.5, 1.0) if kernel.uneven else ceil_div(kernel.m, rows)
