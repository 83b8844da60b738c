"""The exchanges that a calibration measures: kinds, groups and sizes, and how each becomes a collective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from calc.parallel import Collective
from calc.parallel.collective import Kind
from calc.records import Record, named_record

KINDS: Final[tuple[Kind, ...]] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
LEAST_POWER: Final = 10
"""Of two: bytes of the smallest message."""
ELEMENT: Final = 4
"""Bytes of an element; a message is cut into whole ones."""


@named_record
class Exchange(Record):
    """One exchange to measure: its kind, among how many ranks, over a tensor of how many bytes."""

    kind: Kind
    ranks: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.bytes:,} B among {self.ranks}"

    def call(self) -> Collective:
        """Return the collective that the time model knows it as."""
        return Collective(
            kind=self.kind, bytes=self.bytes, size=self.ranks, axis="tp", after="calibration", direction="forward"
        )


def exchanges(ranks: int, largest: int) -> list[Exchange]:
    """Return every kind among 2, 4, ... and all ranks, of 1 KiB to ``largest`` bytes, by factors of two."""
    return [
        Exchange(kind=kind, ranks=size, bytes=_divisible(2**power, size))
        for size in _groups(ranks)
        for kind in KINDS
        if kind != "send_recv" or size == 2
        for power in range(LEAST_POWER, largest.bit_length())
    ]


def _groups(ranks: int) -> Iterator[int]:
    size = 2
    while size < ranks:
        yield size
        size *= 2
    yield ranks


def _divisible(size: int, ranks: int) -> int:
    return -(-size // (ELEMENT * ranks)) * ELEMENT * ranks
