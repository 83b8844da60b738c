"""Checks of what public functions are given: a value of the wrong kind or size is refused in one line that names it.

Each returns the value, numpy's numbers as Python's, so that it can be checked where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from numbers import Real
from operator import index
from typing import Any, TypeVar

from calc.errors import SpecError, shortened

T = TypeVar("T")


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from ``least`` to ``most``; truth values, floats and texts are none.

    Raises:
        SpecError: the value is no such number.

    >>> whole("tp", 8)
    8
    >>> whole("tp", 0)
    Traceback (most recent call last):
    calc.errors.SpecError: tp = 0 is not a whole number of 1 or more
    """
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        size = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
        raise _refused(name, value, f"a whole number {size}")
    return number


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number, and not a truth value."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    what: str = "number",
) -> float:
    """Return a finite number from ``least`` (or ``above``) to ``most`` (or ``below``); ``what`` says what it is.

    Raises:
        SpecError: the value is no such number.

    >>> number("rate", 0.5, above=0)
    0.5
    >>> number("rate", "8", above=0)
    Traceback (most recent call last):
    calc.errors.SpecError: rate = '8' is not a number above 0
    """
    if (
        not is_number(value)
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
        or (below is not None and value >= below)
    ):
        raise _refused(name, value, f"a {what} {_bounds(least, above, most, below)}".rstrip())
    return value if isinstance(value, (int, float)) else float(value)


def _bounds(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    """Write bounds: ``from 0 to 1``, ``above 0, at most 1``, ``from 0 on``, ``above 0``."""
    if least is not None:
        end = "on" if most is below is None else f"to {most:,}" if most is not None else f"to less than {below:,}"
        return f"from {least:,} {end}"
    start = "" if above is None else f"above {above:,}"
    end = f"at most {most:,}" if most is not None else f"less than {below:,}" if below is not None else ""
    return ", ".join(filter(None, (start, end)))


def share(name: str, value: Any, *, zero: bool = True, one: bool = True, what: str = "share") -> float:
    """Return a share (or a chance) from 0 to 1; without ``zero`` it is above 0, without ``one`` less than 1.

    Raises:
        SpecError: the value is no such share.

    >>> share("cached", 0.25)
    0.25
    >>> share("capacity", 0, zero=False)
    Traceback (most recent call last):
    calc.errors.SpecError: capacity = 0 is not a share above 0, at most 1
    """
    least, above = (0, None) if zero else (None, 0)
    most, below = (1, None) if one else (None, 1)
    return number(name, value, least=least, above=above, most=most, below=below, what=what)


def one_of(name: str, value: T, words: Iterable[Any]) -> T:
    """Return a value that is one of several words (or numbers).

    Raises:
        SpecError: it is none of them; says which there are.

    >>> one_of("phase", "decode", ("prefill", "decode"))
    'decode'
    >>> one_of("phase", "train", ("prefill", "decode"))
    Traceback (most recent call last):
    calc.errors.SpecError: phase = 'train' is neither 'prefill' nor 'decode'
    """
    known = tuple(words)
    if isinstance(value, bool) or not any(isinstance(value, type(word)) and value == word for word in known):
        listed = [repr(word) for word in known]
        choices = f"is neither {' nor '.join(listed)}" if len(listed) == 2 else f"is none of {', '.join(listed)}"
        raise SpecError(f"{name} = {shortened(repr(value))} {choices}")
    return value


def listed(value: Any) -> list[Any]:
    """Return one thing, or each of several once, in their order; a text is one thing.

    >>> listed("gpt2"), listed(("h200", "a30", "h200")), listed(8)
    (['gpt2'], ['h200', 'a30'], [8])
    """
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        return [value]
    found: list[Any] = []
    for one in value:
        if one not in found:
            found.append(one)
    return found


def idle(why: str, **given: tuple[object, object]) -> None:
    """Refuse options that would do nothing; each value stands beside the one that means that none was given.

    Raises:
        SpecError: one was given.

    >>> idle("gpt2 has no routed experts", ep=(1, 1), skew=(0.5, 0.0))
    Traceback (most recent call last):
    calc.errors.SpecError: skew = 0.5: gpt2 has no routed experts
    """
    for name, (value, nothing) in given.items():
        if value != nothing:
            raise SpecError(f"{name} = {shortened(repr(value))}: {why}")


def text(name: str, value: Any) -> str:
    """Return a text.

    Raises:
        SpecError: the value is none.
    """
    if not isinstance(value, str):
        raise _refused(name, value, "a text")
    return value


def _refused(name: str, value: Any, what: str) -> SpecError:
    return SpecError(f"{name} = {shortened(repr(value))} is not {what}")
