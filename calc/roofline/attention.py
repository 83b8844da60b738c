"""Time of a flash attention: blocks of queries in waves over the cores, keys in steps, and the stream of keys."""

from __future__ import annotations

from typing import Final

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.constants import Efficiency
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.roofline.efficiency import DEFAULT_CLOCK, cores_of, sustained

STEP: Final = 128
"""Keys that a flash attention loads at once, and queries of one block."""

MANY: Final = 8
"""Keys for each query from which on attentions cut the keys into parts."""

WIDEST: Final = 256
"""Widest head of the general flash attentions; wider ones (the latent of MLA) have kernels of their own."""


def attention_times(kernel: Kernel, accelerator: Accelerator, constants: Efficiency) -> tuple[Number, Number, Number]:
    """Return (compute, memory, start) seconds.

    In prefill, each block of ``STEP`` queries of a head is one piece of work: steps of ``STEP`` keys, half a step on
    the diagonal of a causal mask, and what starting and ending a block costs. Where the queries that share keys fit in
    one block (decode), they are taken together, the keys are cut into parts until every core has work, and a second
    kernel adds the parts up.
    """
    peak, rate = sustained(accelerator, kernel.form, constants)
    cores, clock = cores_of(accelerator), accelerator.clock_hz or DEFAULT_CLOCK
    backward = kernel.direction == "backward"
    share = constants.attention * (constants.attention_backward if backward else 1)
    share = share * if_at_most(kernel.head_dim, kernel.value_dim, 1.0, constants.attention_uneven)
    softmax = constants.softmax_backward_clocks if backward else constants.softmax_clocks
    rows = kernel.queries * kernel.heads / kernel.kv_heads  # that share keys
    few = if_at_most(MANY * kernel.queries, kernel.keys, rows, STEP + 1)
    seen = kernel.pairs / kernel.queries  # keys of one query on average
    whole = if_at_most(kernel.keys, seen, 0.0, 0.5)
    one_pair = kernel.flops / (kernel.batch * kernel.heads * kernel.pairs)
    products, exponentials = one_pair * cores / (share * peak), softmax / clock
    p = constants.softmax_overlap
    each = (products**p + exponentials**p) ** (1 / p)
    blocks = kernel.batch * kernel.heads * ceil_div(kernel.queries, STEP)
    steps = seen / STEP + whole + constants.block_steps
    prefill = ceil_div(blocks, cores) * steps * minimum(kernel.queries, STEP) * STEP * each
    stream = constants.memory * accelerator.memory_bytes_per_s
    shared = kernel.batch * kernel.kv_heads
    # where fewer sequences and heads than cores are there, every core writes a part of the sum, which is read again
    partial = if_at_most(cores, shared, 0.0, 2 * 4 * cores * rows * kernel.value_dim / (constants.cache * stream))
    padded = maximum(rows, constants.least_rows) / rows
    decode_share = if_at_most(kernel.value_dim, WIDEST, constants.attention_decode, constants.attention_latent)
    decode = padded * kernel.flops / (decode_share * peak) + partial
    compute = maximum(if_at_most(few, STEP, decode, prefill), kernel.flops / rate)
    start = if_at_most(few, STEP, constants.decode_s, constants.kernel_s)
    return compute, kernel.bytes / stream, start
