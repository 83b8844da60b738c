"""A kernel: one launch on a device, with what its time depends on."""

from __future__ import annotations

from typing import Literal, TypeAlias

from calc.algebra import Number
from calc.records import Record, named_record

Kind: TypeAlias = Literal["gemm", "grouped_gemm", "attention", "memory", "scan", "lookup"]
Direction: TypeAlias = Literal["forward", "backward"]
Fusion: TypeAlias = Literal["fused", "flash", "eager"]

FLASH_BACKWARD = 5 / 2
"""Matrix products of a flash attention's backward pass over those of its forward pass: the scores again, and the
gradients of values, scores, queries and keys, against two (Dao 2023, arXiv:2307.08691 §3.1.2)."""
SCAN_BACKWARD = 3.0
"""The same for a recurrence in chunks: the states again, and a product for either operand of each (``chunk_bwd`` of
flash-linear-attention and ``mamba_chunk_scan_combined`` of mamba-ssm recompute the states)."""


@named_record
class Kernel(Record):
    """What a framework launches for one or more operations of a table.

    All sizes are of one launch; it is launched ``repeat`` times in the pass. They are integers, floats (where experts
    are touched on average) or numpy arrays. Units: FLOP, bytes.

    A gemm multiplies ``groups`` times (m × k) by (k × n). An attention has ``heads`` query heads and ``kv_heads`` key
    heads in each of ``batch`` sequences, ``queries`` that see ``pairs`` of the queries × ``keys`` pairs of one head.
    """

    name: str
    kind: Kind
    path: str
    repeat: Number = 1
    operations: tuple[str, ...]
    form: str
    """Format that it multiplies in, as ``Accelerator.flops`` names them."""
    flops: Number = 0
    """Of matrix products."""
    vector_flops: Number = 0
    """Of everything else, by the per-element rules of ``calc.operations``."""
    bytes: Number = 0
    """Read from and written to the device's memory."""
    weight_bytes: Number = 0
    """Of these, weights read."""
    m: Number = 0
    n: Number = 0
    k: Number = 0
    groups: Number = 1
    uneven: bool = False
    """Whether ``m`` is an average over groups that a router fills, each with a number of rows of its own."""
    operand_bits: float = 16
    """Bits of an element of the narrower operand as it is stored."""
    batch: Number = 1
    heads: Number = 0
    kv_heads: Number = 0
    queries: Number = 0
    keys: Number = 0
    pairs: Number = 0
    head_dim: Number = 0
    value_dim: Number = 0
    direction: Direction = "forward"

    @property
    def intensity(self) -> Number:
        """FLOP of matrix products per byte."""
        return self.flops / self.bytes
