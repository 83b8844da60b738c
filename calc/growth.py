"""What each part of a layer costs as a formula of its dimensions, read off the tables without sympy.

A fourth reading, for the one question that comparisons ask: letters are bound to products of named symbols (``Terms``),
the sequence length to one huge number, so that only the leading power of it is left. ``calc formula`` gives the whole
expression, with masks, rounding and short contexts; here is what is left of it for long ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd, lcm, log2
from typing import Any, TypeAlias

from calc.algebra import Number
from calc.dims import LEGEND
from calc.model import Block, Model, Pass, running
from calc.operations import Einsum, State
from calc.records import Record, record

HUGE = 2**60
"""Stands for n: whatever does not grow with it vanishes beside it."""
FINEST = 2**24
"""Denominators that a mask can bring (strides, blocks) are smaller; what rounding leaves is not."""

Monomial: TypeAlias = tuple[str, ...]


class Terms:
    """A sum of products of symbols with numbers before them; adds and multiplies with its like and with numbers."""

    def __init__(self, terms: Mapping[Monomial, Fraction | int]) -> None:
        self.terms = {symbols: Fraction(number) for symbols, number in terms.items() if number}

    @classmethod
    def of(cls, value: Any) -> Terms:
        """Return a number as a sum of one term; a sum as it is."""
        return value if isinstance(value, Terms) else cls({(): Fraction(value)})

    def __add__(self, other: Any) -> Terms:
        total = dict(self.terms)
        for symbols, number in Terms.of(other).terms.items():
            total[symbols] = total.get(symbols, Fraction(0)) + number
        return Terms(total)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Terms:
        found: dict[Monomial, Fraction] = {}
        for mine, number in self.terms.items():
            for theirs, factor in Terms.of(other).terms.items():
                symbols = tuple(sorted((*mine, *theirs)))
                found[symbols] = found.get(symbols, Fraction(0)) + number * factor
        return Terms(found)

    __rmul__ = __mul__


def symbol(letter: str) -> str:
    """Write a letter of the legend as papers do, in one word.

    >>> symbol("c"), symbol("f"), symbol("a")
    ('d_c', 'd_ff', 'h')
    """
    return re.sub(r"\\text|[\\{}]", "", LEGEND[letter].symbol)


GROUP = "h/h_kv"
"""Query heads that share a key-value head, until it meets those."""
ORDER = {name: place for place, name in enumerate(dict.fromkeys(["d", "h", "h_kv", GROUP, *map(symbol, LEGEND)]))}
"""In which order a product is written."""


@record
class PartFormula(Record):
    """The formula of one part of a layer, and in how many layers it stands."""

    text: str
    layers: int


Rows = dict[str, list[PartFormula]]
"""By part: the formulas of the layers that differ in it, those of most layers first."""

PARTS: dict[str, tuple[str, str]] = {
    "attention": ("attention, pairs", "FLOP"),
    "projections": ("attention, projections", "FLOP"),
    "ffn": ("feed-forward", "FLOP"),
    "cache": ("cache of a token", "values"),
}
"""What a part is called, and what its formula counts."""


def formulas(model: Model) -> Rows:
    """Return the leading FLOPs of a prefill of n tokens, and the values cached for a token, per layer and part.

    ``attention``: products without weights (of queries with keys, of weights with values, of states); ``projections``:
    those with weights; ``ffn``: experts and router, too. Matmul FLOPs, the pairs that masks let through.

    >>> import calc
    >>> {part: found[0].text for part, found in formulas(calc.load("gpt-3")).items()}
    {'attention': '2·n²·h·d_h', 'projections': '8·n·d·h·d_h', 'ffn': '4·n·d·d_ff', 'cache': '2·h·d_h'}
    """
    found: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    for block in model.blocks():
        if block.name in ("attention", "cross", "beside"):
            found["attention"][_flops(block, weighted=False)] += block.repeat
            found["projections"][_flops(block, weighted=True)] += block.repeat
            if block.name != "cross":  # that of the source does not grow
                found["cache"][_cached(block)] += block.repeat
        elif block.name in ("ffn", "ffn_beside"):
            found["ffn"][_flops(block, weighted=True)] += block.repeat
    return {
        part: [PartFormula(text, layers) for text, layers in counted.most_common() if text]
        for part, counted in found.items()
    }


def _flops(block: Block, *, weighted: bool) -> str:
    """Write the leading FLOPs of a table's einsums, with or without weights."""
    costs = [_leading_terms(block, length, weighted) for length in (HUGE, 2 * HUGE)]
    return written(_growing(*costs))


def _leading_terms(block: Block, length: int, weighted: bool) -> Terms:
    total = Terms({})
    for _, operation, env in running([block], Pass.prefill(length)):
        if isinstance(operation, Einsum) and bool(operation.weight) == weighted:
            fixed = operation.over.letters if operation.over else ""
            total += operation.matmul_flops(_symbolic(block, env, fixed), True)
    return total


def _symbolic(block: Block, env: Mapping[str, Number], fixed: str = "") -> dict[str, Number]:
    """Bind a table's letters to their symbols; a pattern's stay numbers, because its counting compares them."""
    return {
        letter: value if letter not in block.letters or letter in fixed else _named(block, letter)
        for letter, value in env.items()
    }


def _named(block: Block, letter: str) -> Terms | int:
    """Return a letter's symbol: query heads are one, whether or not they share keys."""
    if letter == "g" and "k" in block.letters:
        return 1 if block.letters["g"] == 1 else Terms({(GROUP,): 1})
    if letter == "k" and block.letters.get("g") == 1:
        return Terms({(symbol("a"),): 1})
    of = LEGEND[letter].derived
    return Terms({(symbol(of if of in LEGEND else letter),): 1})


def _growing(one: Terms, two: Terms) -> dict[int | float, Terms]:
    """Sort terms by the power of n that they grow with, and divide it out of them."""
    found: dict[int | float, dict[Monomial, Fraction]] = {}
    for symbols, number in one.terms.items():
        power = round(2 * log2(two.terms[symbols] / number)) / 2
        scale = Fraction(HUGE) ** int(power) * (2**30 if power % 1 else 1)
        found.setdefault(power, {})[symbols] = (number / scale).limit_denominator(FINEST)
    return {power: Terms(terms) for power, terms in found.items()}


def written(by_power: Mapping[int | float, Terms]) -> str:
    """Write the terms of the highest power, what they share in front: ``n²·h·(d_n + d_r + d_v)``."""
    if not by_power:
        return ""
    power = max(by_power)
    terms = [(number, _joined(symbols)) for symbols, number in by_power[power].terms.items()]
    numerator, denominator = gcd(*(n.numerator for n, _ in terms)), lcm(*(n.denominator for n, _ in terms))
    common = Fraction(numerator, denominator)
    length = {1: "n", 1.5: "n√n", 2: "n²", 0: ""}.get(power, f"n^{power:g}")
    front = [f"{numerator:,}" if numerator != 1 else "", length]
    inner = factored([(number / common, list(symbols)) for number, symbols in terms])
    alone = not any(front) and denominator == 1
    factors = [
        *filter(None, front),
        *([f"({inner})" if _is_sum(inner) and not alone else inner] if inner != "1" else []),
    ]
    text = "·".join(factors) or "1"
    return f"{text}/{denominator:,}" if denominator != 1 else text


def factored(terms: list[tuple[Fraction, list[str]]]) -> str:
    """Write a sum of products with the symbol that most of them share in front of those, and so on inside.

    >>> factored([(Fraction(1), ["d", "h"]), (Fraction(2), ["d", "d_v"]), (Fraction(3), ["h"])])
    'd·(h + 2·d_v) + 3·h'
    """
    counts = Counter(symbol for _, symbols in terms for symbol in set(symbols))
    shared = sorted((name for name in counts if counts[name] > 1), key=lambda name: (-counts[name], ORDER[name]))
    if not shared:
        return " + ".join(_product(number, symbols) for number, symbols in terms)
    first = shared[0]
    inside = [(number, _without(symbols, first)) for number, symbols in terms if first in symbols]
    outside = [(number, symbols) for number, symbols in terms if first not in symbols]
    inner = factored(inside)
    text = f"{first}·({inner})" if _is_sum(inner) else f"{first}·{inner}"
    return f"{text} + {factored(outside)}" if outside else text


def _is_sum(text: str) -> bool:
    """Tell whether a text has a plus outside parentheses."""
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and not depth:
            return True
    return False


def _joined(symbols: Monomial) -> Monomial:
    """Return symbols in the legend's order; query heads for key heads times their groups."""
    names = list(symbols)
    while GROUP in names and "h_kv" in names:
        names.remove(GROUP)
        names.remove("h_kv")
        names.append("h")
    return tuple(sorted(names, key=ORDER.__getitem__))


def _without(symbols: list[str], name: str) -> list[str]:
    place = symbols.index(name)
    return symbols[:place] + symbols[place + 1 :]


def _product(number: Fraction, symbols: list[str]) -> str:
    factors = ([f"{number.numerator:,}"] if number.numerator != 1 else []) + symbols
    return "·".join(factors) or "1"


def _cached(block: Block) -> str:
    """Write the values that a layer caches for each token: of states that grow with the context."""
    held = [sum((_held(block, state, length) for state in block.states), Terms({})) for length in (HUGE, 2 * HUGE)]
    growing = _growing(*held)
    return written({0: growing[1]}) if 1 in growing else ""


def _held(block: Block, state: State, length: int) -> Terms:
    fixed = state.over.letters if state.over else ""
    env = {**Pass.decode(length).env(), **block.letters}
    return Terms.of(state.elements(_symbolic(block, env, fixed)))


def used_symbols(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the symbols that formulas use, each with its name, in the order in which products are written.

    >>> used_symbols(["n²·h·(d_n + d_v)"])
    [('h', 'n_heads'), ('d_v', 'v_head_dim'), ('d_n', 'qk_nope_head_dim')]
    """
    names = {symbol(letter): dim.name for letter, dim in reversed(LEGEND.items())}
    found = {name for text in texts for name in re.split(r"[·+/() ]+", text)}
    return [(name, names[name]) for name in ORDER if name in found and name in names]
