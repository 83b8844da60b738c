"""Constants, and how a figure is written: the only place that knows 1024.

Inside the package every figure is in base units (bytes, FLOP, seconds, USD, joules); the functions here are
called once, when something is shown.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from calc.errors import SpecError
from calc.formats import FORMATS, Format, dtype

__all__ = [
    "FORMATS", "GIB", "KIB", "MIB", "SIZES", "TIB", "Format", "big_o", "count", "dtype", "duration", "figure", "flop",
    "memory", "parse_bytes", "parse_count", "span",
]  # fmt: skip

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
TIB: Final = 1024**4


_SI: Final = (
    (10**24, "Y"),
    (10**21, "Z"),
    (10**18, "E"),
    (10**15, "P"),
    (10**12, "T"),
    (10**9, "G"),
    (10**6, "M"),
    (10**3, "k"),
)
_COUNT: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_BINARY: Final = ((1024**5, "PiB"), (TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))
_STEPS: Final[dict[str, tuple[tuple[tuple[int, str], ...], str]]] = {
    "B": (_BINARY, "B"),
    "FLOP": (tuple((step, f"{prefix}FLOP") for step, prefix in _SI), "FLOP"),
    "parameters": (_COUNT, ""),
}
"""The prefixes of units that have them, the largest first, and the unit without one."""


def _scaled(value: float, steps: tuple[tuple[int, str], ...], digits: int) -> tuple[str, str]:
    for step, prefix in steps:
        if abs(value) >= step:
            return f"{value / step:.{digits}g}" if abs(value) < 999.5 * step else f"{value / step:,.0f}", prefix
    return (f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"), ""


def count(value: float, digits: int = 4) -> str:
    """Write a count the way model sizes are written: K, M, B, T are powers of 1000.

    >>> count(8_030_261_248)
    '8.03 B'
    """
    text, suffix = _scaled(value, _COUNT, digits)
    return f"{text} {suffix}".strip()


def flop(value: float, digits: int = 4) -> str:
    """Write floating-point operations with a decimal prefix.

    >>> flop(3_140_000_000_000)
    '3.14 TFLOP'
    """
    text, prefix = _scaled(value, _SI, digits)
    return f"{text} {prefix}FLOP"


def memory(value: float, digits: int = 4) -> str:
    """Write bytes with a binary prefix.

    >>> memory(131_072), memory(80 * 1024**3)
    ('128 KiB', '80 GiB')
    """
    text, unit = _scaled(value, _BINARY, digits)
    return f"{text} {unit or 'B'}"


_RATES: Final = ("B/s", "FLOP/s", "OP/s", "Hz")
_DURATIONS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def duration(value: float, digits: int = 4) -> str:
    """Write seconds in the unit that people would use.

    >>> duration(2.7e-6), duration(0.0125), duration(42), duration(5400), duration(86400 * 54)
    ('2.7 µs', '12.5 ms', '42 s', '1.5 h', '54 d')
    """
    for step, unit in _DURATIONS:
        if abs(value) >= step:
            scaled = value / step
            return f"{scaled:,.0f} {unit}" if scaled >= 10**digits else f"{scaled:.{digits}g} {unit}"
    return f"{value * 1e9:.{digits}g} ns" if value else "0 s"


def big_o(power: float) -> str:
    """Write an exponent of n the way papers do.

    >>> big_o(2.0), big_o(1.5), big_o(1)
    ('O(n²)', 'O(n√n)', 'O(n)')
    """
    known = {2: "O(n²)", 1.5: "O(n√n)", 1: "O(n)", 0: "O(1)"}
    return known.get(power, f"O(n^{power:g})")


def figure(value: object, unit: str) -> str:
    """Write a raw value in base units for a person; ``unit`` is one of those that results carry.

    >>> figure(8_030_261_248, "parameters"), figure(0.125, "ratio"), figure(None, "B")
    ('8.03 B', '0.125', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    if unit == "B":
        return memory(value)
    if unit == "FLOP":
        return flop(value)
    if unit in ("parameters", "tokens"):
        return count(value)
    if unit == "percent":
        return f"{_round(100 * value, 3)} %"
    if unit == "FLOP/B":
        return f"{value:,.1f}"
    if unit in _RATES:
        text, prefix = _scaled(value, _SI, 4)
        return f"{text} {prefix}{unit}"
    if unit == "s":
        return duration(value)
    if unit in ("days", "h"):
        return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"
    if unit == "J":
        text, prefix = _scaled(value, _SI, 4)
        return f"{text} {prefix}J"
    if unit == "tokens/s":
        return f"{value:,.4g} tok/s" if abs(value) < 10_000 else f"{value:,.0f} tok/s"
    if unit == "USD" and abs(value) >= 10**6:
        return f"{count(value)} USD"
    if unit in ("USD", "USD/h"):
        return f"{value:,.2f} {unit}" if abs(value) >= 0.1 or not value else f"{value:.3g} {unit}"
    if unit == "W":
        return f"{value:,.4g} W"
    if unit == "exponent":
        return big_o(value)
    return f"{value:,}" if isinstance(value, int) else _round(value, 4) if abs(value) < 10**12 else f"{value:.4g}"


def times(value: float) -> str:
    """Write how many times something is something else.

    >>> times(1.0149), times(664.4), times(12_345.6)
    ('1.01', '664', '12,346')
    """
    return _round(value, 3)


def counted(number: float, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "user"), counted(8192, "token"), counted(0.5, "request")
    ('1 user', '8,192 tokens', '0.5 requests')
    """
    written = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{written} {noun}" if number == 1 else f"{written} {noun}s"


def span(low: object, high: object, unit: str, digits: int = 4, around: object = None) -> str:
    """Write a range: both ends in the prefix of the higher one, and one figure where they are written alike.

    The range ``around`` a figure that stands beside it has that figure's prefix.

    >>> span(2 * 10**11, 4 * 10**11, "FLOP"), span(5 * 10**11, 10**12, "parameters"), span(48, 80, "")
    ('200 – 400 GFLOP', '0.5 – 1 T', '48 – 80')
    >>> span(900 * GIB, 1100 * GIB, "B", around=990 * GIB)
    '900 – 1,100 GiB'
    """
    steps, base = _STEPS.get(unit, ((), ""))
    if not steps or not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        first, last = figure(low, unit), figure(high, unit)
        return first if first == last else f"{first.removesuffix(' %')} – {last}"
    largest = abs(float(f"{around if isinstance(around, (int, float)) else high:.{digits}g}"))
    step, prefix = next(((step, name) for step, name in steps if largest >= step), (1, ""))
    first, last = (_round(end / step, digits, ",") for end in (low, high))
    return f"{first if first == last else f'{first} – {last}'} {prefix or base}".strip()


def _round(value: float, digits: int, group: str = "") -> str:
    text = f"{value:{group}.{digits}g}"
    return text if abs(float(f"{value:.{digits}g}")) < 10**digits else f"{value:,.0f}"


_MULTIPLES: Final = {
    "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18, "Z": 10**21, "Y": 10**24,
}  # fmt: skip


def parse_count(text: str) -> float:
    """Read a number of tokens, parameters or FLOP: ``1.4T``, ``300 B``, ``5.76e23``, ``24Z``; B and G are billions.

    Raises:
        SpecError: not a positive number with at most one of K, M, B, G, T, P, E, Z, Y behind it.

    >>> parse_count("1.4T"), parse_count("5.76e23")
    (1400000000000.0, 5.76e+23)
    """
    stripped = text.strip().replace("_", "").replace(",", "")
    number, multiple = stripped, 1
    last = stripped[-1:] if stripped[-1:] == "e" else stripped[-1:].upper()  # 1e is half a number, 1E an exa
    if last in _MULTIPLES:
        number, multiple = stripped[:-1], _MULTIPLES[last]
    try:
        value = Fraction(number.strip()) * multiple
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 10**40:
        raise SpecError(f"{text!r} is not a number such as 1.4T, 300B or 5.76e23")
    return float(value)


SIZES: Final = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB,
}  # fmt: skip
_SIZES: Final = {name.upper(): size for name, size in SIZES.items()}


def parse_bytes(text: str) -> int:
    """Read a size such as ``80GiB``, ``24 GB`` or ``1000000``; decimal and binary units are kept apart.

    Raises:
        SpecError: not a positive number followed by B, kB, MB, GB, TB, KiB, MiB, GiB or TiB.

    >>> parse_bytes("80GiB"), parse_bytes("1.5 GB")
    (85899345920, 1500000000)
    """
    stripped = text.strip()
    number = stripped.rstrip("BbKkMmGgTtIi ")
    unit = stripped[len(number) :].strip().upper() or "B"
    try:
        value = Fraction(number.replace("_", "").replace(",", ""))
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if unit not in _SIZES or value <= 0:
        raise SpecError(f"{text!r} is not a size; write it as 80GiB, 24GB or a number of bytes")
    return int(value * _SIZES[unit])
