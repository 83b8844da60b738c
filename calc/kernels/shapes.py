"""Kernels given by their shape alone: what a benchmark runs, without a model behind it. Units: FLOP, bytes."""

from __future__ import annotations

from calc.algebra import Number
from calc.kernels.record import FLASH_BACKWARD, Direction, Kernel


def gemm(
    m: Number,
    n: Number,
    k: Number,
    *,
    groups: Number = 1,
    uneven: bool = False,
    form: str = "bf16",
    weight_bits: float = 16,
    input_bits: float = 16,
    output_bits: float = 16,
) -> Kernel:
    """Return ``groups`` products of (m × k) by (k × n); the widths of elements include what scales take.

    >>> gemm(16, 4096, 4096).bytes
    33816576.0
    """
    weights = groups * n * k * weight_bits / 8
    plain = isinstance(groups, int) and groups == 1
    return Kernel(
        name="gemm" if plain else "grouped gemm",
        kind="gemm" if plain else "grouped_gemm",
        path="",
        operations=("gemm",),
        form=form,
        flops=2 * groups * m * n * k,
        bytes=weights + groups * m * (k * input_bits + n * output_bits) / 8,
        weight_bytes=weights,
        m=m,
        n=n,
        k=k,
        groups=groups,
        uneven=uneven,
        operand_bits=weight_bits,
    )


def attention(
    batch: Number,
    heads: Number,
    kv_heads: Number,
    queries: Number,
    keys: Number,
    *,
    head_dim: Number = 128,
    value_dim: Number = 0,
    causal: bool = True,
    form: str = "bf16",
    cache_bits: float = 16,
    activation_bits: float = 16,
    values_in_keys: bool = False,
    direction: Direction = "forward",
) -> Kernel:
    """Return one flash attention; queries stand at the end of the keys where it is causal.

    ``value_dim`` 0 is ``head_dim``. ``values_in_keys``: the values are a part of the keys (the latent of absorbed MLA)
    and are not read again. Backward: five products for two, and gradients read and written too.

    >>> attention(1, 32, 8, 1, 4096).bytes
    16793600.0
    """
    values = value_dim or head_dim
    pairs = queries * keys - queries * (queries - 1) / 2 if causal else queries * keys
    cached = batch * kv_heads * keys * (head_dim + (0 if values_in_keys else values)) * cache_bits / 8
    moved = batch * heads * queries * (head_dim + values) * activation_bits / 8
    backward = direction == "backward"
    return Kernel(
        name="attention",
        kind="attention",
        path="",
        operations=("attention",),
        form=form,
        flops=2 * batch * heads * pairs * (head_dim + values) * (FLASH_BACKWARD if backward else 1),
        bytes=(cached + moved) * (2 if backward else 1),
        operand_bits=cache_bits,
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        pairs=pairs,
        head_dim=head_dim,
        value_dim=values,
        direction=direction,
    )


def stream(read: Number, written: Number, form: str = "bf16") -> Kernel:
    """Return what reads and writes so many bytes and computes next to nothing."""
    moved = read + written
    return Kernel(name="stream", kind="memory", path="", operations=("stream",), form=form, bytes=moved)
