"""The units that published rows are in, and what one of each is in base units: seconds, bytes, FLOP/s, bytes/s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from calc.measured.rows import Measurement, NotModelled
from calc.units import GIB, MIB

SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
BYTES: Final = {"b": 1, "bytes": 1, "mb": 10**6, "mib": MIB, "gb": 10**9, "gib": GIB}
FLOP_RATES: Final = {"gflop/s": 1e9, "tflop/s": 1e12, "pflop/s": 1e15}
BYTE_RATES: Final = {"gb/s": 1e9, "gib/s": GIB, "tb/s": 1e12}


def stated_in(row: Measurement, units: Mapping[str, float]) -> bool:
    """Tell whether a row's unit is one of these."""
    return row.unit.lower() in units


def unit_of(row: Measurement, units: Mapping[str, float]) -> float:
    """Return the row's unit in base units.

    Raises:
        NotModelled: it is none of these.
    """
    if not stated_in(row, units):
        raise NotModelled(f"{row.metric} in {row.unit}: not one of {', '.join(units)}")
    return units[row.unit.lower()]
