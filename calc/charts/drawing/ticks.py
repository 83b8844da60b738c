"""Where ticks stand and what they say: few, round, in the units that people read."""

from __future__ import annotations

from math import ceil, floor, log, log10

from calc.charts.data import Axis
from calc.units import figure

MOST = 7
PLAIN = ("", "tokens", "ratio", "x", "FLOP/B")
"""Units whose values are written as bare numbers: the axis says the unit."""


POWER = "10^n"
"""Unit of an axis whose values are written as powers of ten."""
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def power_of_ten(value: float) -> str:
    """Write a value as a power of ten, with a factor where it is none.

    >>> power_of_ten(1e24), power_of_ten(5.6e24)
    ('10²⁴', '5.6·10²⁴')
    """
    power = floor(log10(value) + 1e-9)
    factor = f"{value / 10.0**power:.2g}"
    return ("" if factor == "1" else f"{factor}·") + "10" + str(power).translate(RAISED)


def limits(axis: Axis, values: list[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows some values; what the axis itself fixes is kept.

    >>> limits(Axis(label="", scale="log"), [3.0, 700.0])
    (3.0, 700.0)
    """
    if axis.scale == "log":
        values = [value for value in values if value > 0] or [1.0]
        low, high = min(values), max(values)
        if low == high:
            low, high = low / axis.base, high * axis.base
    else:
        low, high = min([0.0, *values]), max([0.0, *values])
        high += (high == low) * 1.0
    return (low if axis.low is None else axis.low, high if axis.high is None else axis.high)


def padded(axis: Axis, low: float, high: float, share: float = 0.04) -> tuple[float, float]:
    """Return the ends of an axis moved apart, so that what is extreme does not lie upon the frame; 0 stays the end.

    >>> padded(Axis(label=""), 0, 100)
    (0, 104.0)
    """
    if axis.scale == "log":
        more = (high / low) ** share
        return (low / more if axis.low is None else low, high * more if axis.high is None else high)
    more = (high - low) * share
    return (low - more if low < 0 else low, high + more if axis.high is None and high else high)


def ticks(axis: Axis, low: float, high: float, most: int = MOST) -> list[float]:
    """Return at most ``most`` round values between the ends.

    >>> ticks(Axis(label="context", scale="log", base=2), 1024, 131072, most=4)
    [1024.0, 4096.0, 16384.0, 65536.0]
    >>> ticks(Axis(label="share"), 0, 1, most=6)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if axis.scale == "names":
        return [float(index) for index in range(len(axis.names))]
    return (
        _log_ticks(axis, low, high, most) if axis.scale == "log" else _linear_ticks(low, high, most, axis.unit == "B")
    )


def _log_ticks(axis: Axis, low: float, high: float, most: int) -> list[float]:
    first, last = ceil(log(low, axis.base) - 1e-9), floor(log(high, axis.base) + 1e-9)
    if axis.base == 10 and last - first < 2:
        return _fine_ticks(low, high, most)
    steps = (1, 2, 3, 4, 5, 6, 10, 20, 30, 40) if axis.base == 2 else (1, 2, 3, 6, 9, 12)
    step = next((step for step in steps if (last - first) // step < most), last - first or 1)
    if axis.unit == "B" and step > 2:  # whole prefixes: 1 KiB, 32 KiB, 1 MiB
        step = next((wide for wide in (5, 10, 20, 40) if (last - first) // wide < most), step)
        first = ceil(first / 5) * 5
    return [float(axis.base) ** power for power in range(first, last + 1, step)]


def _fine_ticks(low: float, high: float, most: int) -> list[float]:
    """Return 1, 2, 5, 10, … for a logarithmic axis of less than two decades."""
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        powers = range(floor(log(low, 10)) - 1, ceil(log(high, 10)) + 1)
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most:
            return found
    return found


def _linear_ticks(low: float, high: float, most: int, binary: bool) -> list[float]:
    raw = (high - low) / max(most - 1, 1)
    power = floor(log(raw, 10))
    step = next(digit * 10.0**power for digit in (1, 2, 5, 10) if digit * 10.0**power >= raw * (1 - 1e-9))
    if binary:  # 16 GiB, 32 GiB
        step = 2.0 ** ceil(log(raw, 2) - 1e-9)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 12 - power) for index in range(first, last + 1)]


def said(axis: Axis, value: float) -> str:
    """Write a tick or a value of an axis.

    >>> said(Axis(label="", unit="B"), 2.0**30), said(Axis(label="", unit="tokens"), 131072.0)
    ('1 GiB', '131,072')
    """
    if axis.names:
        return axis.names[int(value)]
    if axis.unit == POWER:
        return power_of_ten(value)
    whole = float(value).is_integer() and abs(value) < 1e15
    if axis.unit in PLAIN:
        return f"{int(value):,}" if whole else f"{value:.3g}"
    return figure(int(value) if whole else value, axis.unit)
