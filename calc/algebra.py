"""Arithmetic that reads the same for the three readings of a table.

Every function takes Python integers (exact), numpy float64 arrays (a sweep) or sympy expressions
(a formula) and answers in kind. Neither numpy nor sympy is imported unless an argument comes from it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

Number: TypeAlias = Any
"""An int, a numpy array or a sympy expression: the type says nothing on purpose, the readings are one."""


_PLAIN = (int, float)


def _library(*values: Number) -> Any | None:
    """Return numpy or sympy when any value comes from it (sympy wins), None for plain numbers."""
    for value in values:  # not all(…): asked millions of times, and a generator takes three times as long
        if type(value) not in _PLAIN:
            break
    else:
        return None
    roots = {type(value).__module__.partition(".")[0] for value in values}
    for name in ("sympy", "numpy"):
        if name in roots:
            return sys.modules[name]  # loaded, since a value comes from it
    return None


def product(factors: Iterable[Number]) -> Number:
    """Multiply; the empty product is 1.

    >>> product([2, 3, 7])
    42
    """
    result: Number = 1
    for factor in factors:
        result = result * factor
    return result


def minimum(a: Number, b: Number) -> Number:
    """Return the smaller of two.

    >>> minimum(3, 5)
    3
    """
    library = _library(a, b)
    if library is None:
        return min(a, b)
    return library.Min(a, b) if library.__name__ == "sympy" else library.minimum(a, b)


def maximum(a: Number, b: Number) -> Number:
    """Return the larger of two.

    >>> maximum(3, 5)
    5
    """
    library = _library(a, b)
    if library is None:
        return max(a, b)
    return library.Max(a, b) if library.__name__ == "sympy" else library.maximum(a, b)


def logarithm(x: Number, base: Number = None) -> Number:
    """Return the natural logarithm, or that to another base.

    >>> round(logarithm(1000, 10), 12)
    3.0
    """
    library = _library(x)
    if library is None:
        from math import log

        return log(x) if base is None else log(x, base)
    return library.log(x) if base is None else library.log(x) / library.log(base)


def floor_div(a: Number, b: Number) -> Number:
    """Return ⌊a / b⌋.

    >>> floor_div(7, 2)
    3
    """
    library = _library(a, b)
    if library is None:
        return a // b
    if library.__name__ != "sympy":
        return library.floor_divide(a, b)
    # what b goes into without rest stands outside: ⌊(a + b)/b⌋ = ⌊a/b⌋ + 1
    terms = library.Add.make_args((library.sympify(a) / b).expand())
    whole = sum(term for term in terms if term.is_Integer)
    return library.floor((library.sympify(a) - whole * b) / b) + whole


def ceil_div(a: Number, b: Number) -> Number:
    """Return ⌈a / b⌉.

    >>> ceil_div(7, 2)
    4
    """
    library = _library(a, b)
    if library is None:
        return -(-a // b)
    return library.ceiling(library.sympify(a) / b) if library.__name__ == "sympy" else library.ceil(a / b)


def modulo(a: Number, b: Number) -> Number:
    """Return a - b * ⌊a / b⌋.

    >>> modulo(7, 4)
    3
    """
    return a - b * floor_div(a, b)


def exact_div(a: Number, b: Number) -> Number:
    """Return a / b where b is known to divide a, so that integers stay integers.

    >>> exact_div(6, 2)
    3
    """
    library = _library(a, b)
    if library is None:
        return a // b
    return library.sympify(a) / b if library.__name__ == "sympy" else a / b


def ratio(a: Number, b: Number) -> Number:
    """Return a / b, exactly: of integers an integer, or a fraction where there is a rest.

    >>> ratio(6, 3), ratio(7, 2)
    (2, Fraction(7, 2))
    """
    if not all(isinstance(value, (int, Fraction)) for value in (a, b)):
        return a / b
    found = Fraction(a, b)
    return found if found.denominator > 1 else found.numerator


def if_at_most(a: Number, b: Number, then: Number, otherwise: Number) -> Number:
    """Return ``then`` where a ≤ b, else ``otherwise``; both are computed.

    >>> if_at_most(3, 5, "then", "otherwise")
    'then'
    """
    library = _library(a, b, then, otherwise)
    if library is None:
        return then if a <= b else otherwise
    if library.__name__ == "sympy":
        return library.Piecewise((then, library.Le(a, b)), (otherwise, True))
    return library.where(a <= b, then, otherwise)


def square_root(a: Number) -> Number:
    """Return √a.

    >>> square_root(9)
    3.0
    """
    library = _library(a)
    if library is None:
        return float(a) ** 0.5
    return library.sqrt(a)


def triangle(n: Number) -> Number:
    """Return 1 + 2 + … + n = n (n + 1) / 2.

    >>> triangle(4)
    10
    """
    return exact_div(n * (n + 1), 2)


def expected_distinct(total: Number, chosen: Number, draws: Number) -> Number:
    """Return the expected number of distinct items when each of ``draws`` picks ``chosen`` of ``total``.

    total · (1 − (1 − chosen/total)^draws), for uniform and independent picks: the experts that a batch of
    ``draws`` tokens touches. With one draw it is ``chosen``; it never exceeds ``total``.

    >>> expected_distinct(256, 8, 1)
    8.0
    """
    library = _library(total, chosen, draws)
    if library is not None and library.__name__ == "sympy":
        return total * (1 - (1 - library.sympify(chosen) / total) ** draws)
    return total * (1 - (1 - chosen / total) ** draws)


@lru_cache(maxsize=64)
def zipf_shares(total: int, chosen: int, exponent: float) -> tuple[float, ...]:
    """Return the probability that each of ``total`` items is among the ``chosen`` picked, popular ones first.

    p_i ∝ 1/i^exponent with Σ p_i = chosen and no p_i above 1: what exceeds 1 is spread over the others in proportion.

    >>> zipf_shares(4, 2, 0.0)
    (0.5, 0.5, 0.5, 0.5)
    >>> zipf_shares(3, 2, 4.0)[0]
    1.0
    """
    weights = [1 / rank**exponent for rank in range(1, total + 1)]
    certain = 0
    while True:
        scale = (chosen - certain) / sum(weights[certain:]) if certain < chosen else 0.0
        if certain >= chosen or weights[certain] * scale <= 1:
            return (1.0,) * certain + tuple(weight * scale for weight in weights[certain:])
        certain += 1


def expected_distinct_skewed(total: int, chosen: int, draws: Number, exponent: float) -> Number:
    """Return the expected number of distinct items when popularity follows Zipf's law: Σ 1 − (1 − p_i)^draws.

    With exponent 0 it is ``expected_distinct``; the more skewed, the fewer items a batch touches.

    >>> round(expected_distinct_skewed(256, 8, 1, 1.0), 9), round(expected_distinct_skewed(256, 8, 64, 1.0), 1)
    (8.0, 145.1)
    """
    distinct: Number = 0
    for share, same in _runs(zipf_shares(total, chosen, exponent)):
        distinct = distinct + same * (1 - (1 - share) ** draws)
    return distinct


def _runs(values: Iterable[float]) -> list[tuple[float, int]]:
    """Return the distinct values, each with how often it stands."""
    counted: dict[float, int] = {}
    for value in values:
        counted[value] = counted.get(value, 0) + 1
    return list(counted.items())
