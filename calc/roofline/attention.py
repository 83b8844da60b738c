"""Time of a flash attention: blocks of queries in waves over the cores, keys in steps, and the stream of keys."""

from __future__ import annotations

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.roofline.efficiency import STEP, Efficiency, sustained

NARROW = 16
"""Rows of the smallest matrix product of tensor cores: a block of fewer queries costs as many."""


def attention_times(kernel: Kernel, accelerator: Accelerator, constants: Efficiency) -> tuple[Number, Number]:
    """Return (compute, memory) seconds.

    Query heads that share keys are taken together where a sequence has few queries (decode), and the keys are then cut
    into parts until every core has work; in prefill each block of ``STEP`` queries of a head is one piece of work.
    """
    _, rate = sustained(accelerator, kernel.form, constants)
    cores = accelerator.n_cores or 1
    clock = accelerator.clock_hz or 1e9
    share = constants.attention * (constants.attention_backward if kernel.direction == "backward" else 1)
    core_rate = share * rate / cores
    group = kernel.heads / maximum(kernel.kv_heads, 1)
    rows = kernel.queries * group  # that share keys
    together = kernel.batch * kernel.kv_heads * ceil_div(rows, STEP)
    apart = kernel.batch * kernel.heads * ceil_div(kernel.queries, STEP)
    blocks = if_at_most(rows, STEP, together, apart)
    height = if_at_most(rows, STEP, maximum(rows, NARROW), minimum(kernel.queries, STEP))
    seen = kernel.pairs / kernel.queries  # keys of a query on average
    hidden = kernel.keys - seen  # of the keys of the last block, those that its mask hides are half a step
    steps = seen / STEP + if_at_most(hidden, 0, 0.0, 0.5)
    total = kernel.flops / (kernel.batch * kernel.heads * kernel.pairs)  # FLOP of one pair of one head
    step = height * STEP * (total / core_rate + constants.softmax_clocks / clock)
    waves = if_at_most(rows, STEP, maximum(blocks / cores, 1 / cores), ceil_div(blocks, cores))
    overhead = if_at_most(rows, STEP, 0.0, constants.block_steps)
    compute = waves * (steps + overhead) * step
    stream = constants.memory * accelerator.memory_bytes_per_s
    return compute, kernel.bytes / stream
