"""Three ways to write the pieces of an expression: a line of Unicode, LaTeX, or MathML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from unicodedata import lookup

from sympy import Expr, Rational, Symbol

from calc.symbolic.legend import Entry

if TYPE_CHECKING:
    from calc.symbolic.text import Walk

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
RELATIONS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">", "==": "="}
LATEX_RELATIONS = {"<=": r"\le", ">=": r"\ge", "<": "<", ">": ">", "==": "="}


class Unicode:
    """``2·n_layers·context²``; ``numbers`` writes symbols as their values instead."""

    times, plus, minus, negative = "·", " + ", " − ", "−"

    def __init__(self, numbers: Mapping[Any, int] | None = None) -> None:
        self.numbers = numbers or {}

    def symbol(self, symbol: Symbol) -> str:
        """Write a symbol."""
        return f"{self.numbers[symbol]:,}" if symbol in self.numbers else str(symbol)

    def number(self, value: int) -> str:
        """Write a whole number, its digits in groups."""
        return f"{value:,}"

    def real(self, text: str) -> str:
        """Write a number that is not whole."""
        return text

    def fraction(self, top: str, bottom: str, simple: bool) -> str:
        """Write a quotient; ``simple`` divides by one factor alone."""
        return f"{top}/{bottom}" if simple else f"{top}/({bottom})"

    def power(self, base: str, exponent: Expr, walk: Walk) -> str:
        """Write a power."""
        if exponent.is_Integer:
            return base + str(exponent).translate(SUPERSCRIPTS)
        if exponent == Rational(1, 2):
            return f"√{base}"
        return f"{base}^{walk.bracketed(exponent, exponent.is_Symbol)}"

    def call(self, name: str, arguments: list[str]) -> str:
        """Write a function of arguments."""
        return f"{name}({', '.join(arguments)})"

    def floor(self, inner: str) -> str:
        """Write a number rounded down."""
        return f"⌊{inner}⌋"

    def ceiling(self, inner: str) -> str:
        """Write a number rounded up."""
        return f"⌈{inner}⌉"

    def parentheses(self, inner: str) -> str:
        """Write a part of a product."""
        return f"({inner})"

    def modulo(self, whole: str, by: str) -> str:
        """Write a remainder."""
        return f"{whole} mod {by}"

    def relation(self, sign: str) -> str:
        """Write a comparison."""
        return RELATIONS[sign]

    def cases(self, cases: list[tuple[str, str]]) -> str:
        """Write values with the conditions under which they hold."""
        return "{" + "; ".join(f"{value} if {when}" if when else f"{value} else" for value, when in cases) + "}"


class Latex:
    """The legend's symbols, as papers write them."""

    times, plus, minus, negative = r"\,", " + ", " − ", "−"

    def __init__(self, entries: Mapping[Any, Entry]) -> None:
        self.entries = entries

    def symbol(self, symbol: Symbol) -> str:
        """Write a symbol."""
        return self.entries[symbol].latex if symbol in self.entries else str(symbol)

    def number(self, value: int) -> str:
        """Write a whole number, its digits in groups."""
        return f"{value:,}".replace(",", "{,}")

    def real(self, text: str) -> str:
        """Write a number that is not whole."""
        return text

    def fraction(self, top: str, bottom: str, simple: bool) -> str:
        """Write a quotient; ``simple`` divides by one factor alone."""
        return rf"\frac{{{top}}}{{{bottom}}}"

    def power(self, base: str, exponent: Expr, walk: Walk) -> str:
        """Write a power."""
        if exponent == Rational(1, 2):
            return rf"\sqrt{{{base}}}"
        return f"{{{base}}}^{{{walk.write(exponent)}}}"

    def call(self, name: str, arguments: list[str]) -> str:
        """Write a function of arguments."""
        return rf"\{name}\left({', '.join(arguments)}\right)"

    def floor(self, inner: str) -> str:
        """Write a number rounded down."""
        return rf"\left\lfloor {inner} \right\rfloor"

    def ceiling(self, inner: str) -> str:
        """Write a number rounded up."""
        return rf"\left\lceil {inner} \right\rceil"

    def parentheses(self, inner: str) -> str:
        """Write a part of a product."""
        return rf"\left({inner}\right)"

    def modulo(self, whole: str, by: str) -> str:
        """Write a remainder."""
        return rf"{whole} \bmod {by}"

    def relation(self, sign: str) -> str:
        """Write a comparison."""
        return LATEX_RELATIONS[sign]

    def cases(self, cases: list[tuple[str, str]]) -> str:
        """Write values with the conditions under which they hold."""
        lines = [rf"{value} & \text{{if }} {when}" if when else rf"{value} & \text{{else}}" for value, when in cases]
        return r"\begin{cases}" + r" \\ ".join(lines) + r"\end{cases}"


class MathML:
    """Presentation MathML, which browsers set without a script; symbols as in ``Latex``."""

    times = "<mo>·</mo>"
    plus, minus, negative = '<mo form="infix">+</mo>', '<mo form="infix">−</mo>', "<mo>−</mo>"

    def __init__(self, entries: Mapping[Any, Entry]) -> None:
        self.entries = entries

    def symbol(self, symbol: Symbol) -> str:
        """Write a symbol."""
        return symbol_mathml(self.entries[symbol].latex) if symbol in self.entries else _text(str(symbol))

    def number(self, value: int) -> str:
        """Write a whole number, its digits in groups."""
        return f"<mn>{value:,}</mn>"

    def real(self, text: str) -> str:
        """Write a number that is not whole."""
        return f"<mn>{text}</mn>"

    def fraction(self, top: str, bottom: str, simple: bool) -> str:
        """Write a quotient; ``simple`` divides by one factor alone."""
        return f"<mfrac>{_row(top)}{_row(bottom)}</mfrac>"

    def power(self, base: str, exponent: Expr, walk: Walk) -> str:
        """Write a power."""
        if exponent == Rational(1, 2):
            return f"<msqrt>{base}</msqrt>"
        return f"<msup>{_row(base)}{_row(walk.write(exponent))}</msup>"

    def call(self, name: str, arguments: list[str]) -> str:
        """Write a function of arguments."""
        return f"<mi>{name}</mi>{self.parentheses('<mo>,</mo>'.join(arguments))}"

    def floor(self, inner: str) -> str:
        """Write a number rounded down."""
        return _row(f"<mo>⌊</mo>{inner}<mo>⌋</mo>")

    def ceiling(self, inner: str) -> str:
        """Write a number rounded up."""
        return _row(f"<mo>⌈</mo>{inner}<mo>⌉</mo>")

    def parentheses(self, inner: str) -> str:
        """Write a part of a product."""
        return f"<mo>(</mo>{inner}<mo>)</mo>"

    def modulo(self, whole: str, by: str) -> str:
        """Write a remainder."""
        return f"{whole}<mo>mod</mo>{by}"

    def relation(self, sign: str) -> str:
        """Write a comparison."""
        return f"<mo>{escape(RELATIONS[sign])}</mo>"

    def cases(self, cases: list[tuple[str, str]]) -> str:
        """Write values with the conditions under which they hold."""
        lines = "".join(
            f"<mtr><mtd>{value}</mtd><mtd>{_text(' if ' if when else ' else')}{when}</mtd></mtr>"
            for value, when in cases
        )
        return _row(f"<mo>{{</mo><mtable>{lines}</mtable>")


WORDS = {"ell": "ℓ", "square": "□", "max": "max"}
"""LaTeX commands of the legend that are no Greek letters, and what they write."""


def _command(name: str) -> str:
    """Return what a LaTeX command writes."""
    size = "SMALL" if name.islower() else "CAPITAL"
    try:
        return WORDS[name] if name in WORDS else lookup(f"GREEK {size} LETTER {name.upper()}")
    except KeyError:
        raise ValueError(f"no symbol: \\{name}") from None


def symbol_mathml(latex: str) -> str:
    r"""Write a symbol of the legend as MathML: a letter or a word, with what stands below and above.

    Raises:
        ValueError: LaTeX that no symbol of the legend uses.

    >>> symbol_mathml(r"d_{\text{ff},2}"), symbol_mathml(r"\beta")
    ('<msub><mi>d</mi><mrow><mtext>ff</mtext><mo>,</mo><mn>2</mn></mrow></msub>', '<mi>β</mi>')
    """
    pieces, rest = _pieces(latex)
    if rest or not pieces:
        raise ValueError(f"no symbol: {latex!r}")
    return pieces


def _pieces(latex: str) -> tuple[str, str]:
    """Return the MathML of what a LaTeX text begins with, up to its end or a closing brace, and the rest."""
    found: list[str] = []
    while latex and not latex.startswith("}"):
        if latex[0] in "_^'":
            scripts, latex = _scripts(latex)
            tag = {"_": "msub", "^": "msup"}.get("".join(scripts), "msubsup")
            found.append(f"<{tag}>{found.pop()}{''.join(scripts[sign] for sign in '_^' if sign in scripts)}</{tag}>")
        else:
            piece, latex = _one(latex)
            found.append(piece)
    return _row("".join(found)) if len(found) > 1 else "".join(found), latex


def _scripts(latex: str) -> tuple[dict[str, str], str]:
    """Return what stands below (``_``) and above (``^``; a prime does) of a symbol, and the rest."""
    scripts: dict[str, str] = {}
    while latex and latex[0] in "_^'":
        if latex[0] == "'":
            scripts["^"], latex = "<mo>′</mo>", latex[1:]
        else:
            sign = latex[0]
            scripts[sign], latex = _one(latex[1:])
    return scripts, latex


def _one(latex: str) -> tuple[str, str]:
    """Return the MathML of one argument, and the rest."""
    if latex.startswith("{"):
        inner, rest = _pieces(latex[1:])
        return inner, rest.removeprefix("}")
    if latex.startswith("\\text{"):
        word, _, rest = latex[6:].partition("}")
        return _text(word), rest
    if latex.startswith("\\"):
        name = "".join(takewhile(str.isalpha, latex[1:]))
        return f"<mi>{_command(name)}</mi>", latex[1 + len(name) :].lstrip()
    tag = "mn" if latex[0].isdigit() else "mi" if latex[0].isalpha() else "mo"
    sign = {"-": "−"}.get(latex[0], latex[0])
    return f"<{tag}>{escape(sign)}</{tag}>", latex[1:]


def _row(inner: str) -> str:
    return f"<mrow>{inner}</mrow>"


def _text(text: str) -> str:
    return f"<mtext>{escape(text)}</mtext>"
