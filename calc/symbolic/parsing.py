"""What a user writes: ``context=8192,batch=4``, ``80GiB``, ``1e``-free numbers. Read by hand, never evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from calc.errors import SpecError, UnknownName
from calc.fields import LARGEST
from calc.units import parse_bytes

SUFFIXES: Final = {"K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


def assignments(text: str) -> dict[str, str]:
    """Read ``name=value,name=value``.

    Raises:
        SpecError: a term without a name or a value, or a name given twice.

    >>> assignments("context=8_192, batch=4")
    {'context': '8_192', 'batch': '4'}
    """
    found: dict[str, str] = {}
    for term in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in term.partition("="))
        if not (name and equals and value):
            raise SpecError(f"{term!r} is not name=value")
        if name in found:
            raise SpecError(f"{name} is given twice")
        found[name] = value
    return found


def whole(name: str, text: str) -> int:
    """Read a positive whole number; underscores may group its digits.

    Raises:
        SpecError: anything else.
    """
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 13 or not 1 <= int(digits) <= LARGEST:
        raise SpecError(f"{name} = {text!r} is not a whole number from 1 to {LARGEST:,}")
    return int(digits)


def values(text: str, allowed: Iterable[str], fixed: Iterable[str] = ()) -> dict[str, int]:
    """Read ``--at``.

    Raises:
        UnknownName: a name that the formula does not have.
        SpecError: a size that the model fixes, or no positive whole number.
    """
    names = list(allowed)
    found = {}
    for name, value in assignments(text).items():
        if name in fixed:
            raise SpecError(f"{name} is fixed by the model; values can be given to {', '.join(names)}")
        if name not in names:
            known = f"known: {', '.join(names)}" if names else "nothing can be put in, it depends on no size of a pass"
            raise UnknownName("value", name, names, known)
        found[name] = whole(name, value)
    return found


def budget(text: str, unit: str) -> int:
    """Read a budget in the unit of a quantity: bytes as ``80GiB``, other figures as ``1.5E`` or ``70B``.

    Raises:
        SpecError: not a positive number with a known suffix.

    >>> budget("80GiB", "B"), budget("2.5T", "FLOP")
    (85899345920, 2500000000000)
    """
    if unit == "B":
        return parse_bytes(text)
    shown = text.strip().upper().removesuffix("S").removesuffix("FLOP").strip().replace("_", "").replace(",", "")
    number, suffix = (shown[:-1], shown[-1]) if shown and shown[-1] in SUFFIXES else (shown, "")
    plain = number.strip().replace(".", "", 1)
    if not (plain.isascii() and plain.isdecimal()) or len(plain) > 40 or not Fraction(number.strip()):
        raise SpecError(f"{text!r} is not a positive number, with K, M, G, T, P or E after it where wanted")
    return int(Fraction(number.strip()) * SUFFIXES.get(suffix, 1))
