"""Stated numbers: what their digits claim, and their units.

A number claims the digits that it is written with: 3.14e23 holds from 3.135e23 to 3.145e23, 97 % from 96.5 % to 97.5 %.
A whole number of things that are counted (heads, tokens, values) claims itself and nothing else.
A claim that says "about" carries a relative ``tolerance`` instead.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from calc.errors import SpecError, UnknownName
from calc.records import Record, record
from calc.units import SIZES

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

LARGEST_EXPONENT = 60
"""Nothing that is stated about a computer has more digits before or behind the point."""


class _Stated:
    """A finite number or a pair of them; from TOML a Decimal, which remembers its digits. No booleans, no strings."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(stated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one = {"type": "number"}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 2, "maxItems": 2}]}


def stated(value: Any) -> Any:
    """Check a number or a range.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError("a range has two ends")
        return tuple(map(number, value))
    return number(value)


def number(value: Any) -> int | Decimal:
    """Check one number, and keep the digits that it is written with.

    Raises:
        ValueError: none, not finite, or with more digits than a quantity can have.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError("must be a number")
    written = value if isinstance(value, int) else Decimal(str(value))
    exact = Decimal(written)
    if not exact.is_finite() or (exact and abs(exact.adjusted()) > LARGEST_EXPONENT) or _scale(exact) > 100:
        raise ValueError("must be a finite number of at most 60 digits")
    return written


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return abs(exponent) if isinstance(exponent, int) else 0


Number: TypeAlias = int | Decimal
Stated: TypeAlias = Annotated[Number | tuple[Number, Number], _Stated()]
"""A number, or a range ``[from, to]``."""


@record
class Unit(Record):
    """A unit that a claim may be stated in: its base unit, how many of those it is, whether it counts things."""

    base: str
    factor: Fraction = Fraction(1)
    counted: bool = False


def _units() -> dict[str, Unit]:
    found = {
        "": Unit("", counted=True),
        "parameters": Unit("parameters", counted=True),
        "values": Unit("", counted=True),
        "tokens": Unit("tokens", counted=True),
        "exponent": Unit("exponent", counted=True),
        "FLOP": Unit("FLOP", counted=True),
        "PFLOP/s-days": Unit("FLOP", Fraction(10**15 * 86_400)),
        "ratio": Unit("percent"),
        "%": Unit("percent", Fraction(1, 100)),
        "USD": Unit("USD"),
        "GPU hours": Unit("", counted=True),
        "s": Unit("s"),
        "hours": Unit("s", Fraction(3_600)),
        "days": Unit("s", Fraction(86_400)),
        "years": Unit("s", Fraction(86_400 * 365)),
    }
    found |= {
        f"{prefix}FLOP": Unit("FLOP", Fraction(10**power))
        for prefix, power in (("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18), ("Z", 21))
    }
    return found | {name: Unit("B", Fraction(size), counted=name == "B") for name, size in SIZES.items()}


UNITS: Final = _units()


def unit(name: str) -> Unit:
    """Find a unit.

    Raises:
        UnknownName: no such unit.
    """
    try:
        return UNITS[name]
    except KeyError:
        raise UnknownName("unit", name, UNITS, f"known: {', '.join(filter(None, UNITS))}") from None


@record
class Span(Record):
    """From ``low`` to ``high``, both included, in base units."""

    low: Fraction
    high: Fraction

    def holds(self, other: Span) -> bool:
        """Tell whether all of another span lies within this one."""
        return self.low <= other.low and other.high <= self.high

    def meets(self, other: Span) -> bool:
        """Tell whether the spans have more in common than an end; of a single number, whether it lies in the other."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return low < high or (low == high and (self.low == self.high or other.low == other.high))


def claimed(value: int | Decimal, of: Unit, tolerance: float | None) -> Span:
    """Return what a number claims.

    >>> span = claimed(Decimal("3.14e23"), unit("FLOP"), None)
    >>> float(span.low), float(span.high)
    (3.135e+23, 3.145e+23)
    >>> claimed(256, unit("tokens"), None) == claimed(256, unit("tokens"), 0)
    True
    """
    middle = Fraction(value)
    if tolerance is not None:
        half = abs(middle) * Fraction(str(tolerance))
    elif isinstance(value, int):
        half = Fraction(0 if of.counted else 1, 2)
    else:
        exponent = value.as_tuple().exponent
        half = Fraction(Decimal(5).scaleb(exponent - 1)) if isinstance(exponent, int) else Fraction(0)
    return Span((middle - half) * of.factor, (middle + half) * of.factor)


def plain(value: Fraction) -> int | float:
    """Return an integer where it is one, else a float."""
    return value.numerator if value.denominator == 1 else float(value)


def span_of(value: Number | tuple[Number, Number], of: Unit, tolerance: float | None) -> Span:
    """Return what a number, or a range from one number to another, claims.

    Raises:
        SpecError: a range that ends before it begins.
    """
    if not isinstance(value, tuple):
        return claimed(value, of, tolerance)
    low, high = (claimed(end, of, tolerance) for end in value)
    if Fraction(value[0]) > Fraction(value[1]):
        raise SpecError(f"the range from {value[0]} to {value[1]} ends before it begins")
    return Span(low.low, high.high)
