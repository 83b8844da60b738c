"""How an expression is written: sums and products in the order in which people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Add, Float, Integer, Max, Min, Mul, Piecewise, Pow, Rational, Symbol, ceiling, expand, floor
from sympy.core.relational import Relational

from calc.symbolic.legend import BATCH, CONTEXT, SOURCE
from calc.symbolic.styles import Latex, MathML, Unicode

LINE = 12
"""Operations that stay on one line where an expression is written in pieces."""


class Walk:
    """Writes an expression in a style; sums and products are put in the order in which people read them."""

    def __init__(self, style: Unicode | Latex | MathML, order: Mapping[Any, int]) -> None:
        self.style = style
        self.order = order
        self._ranks: dict[Any, tuple[Any, ...]] = {}

    def write(self, expression: Any) -> str:
        """Return the text of an expression."""
        style = self.style
        if isinstance(expression, Symbol):
            return style.symbol(expression)
        if isinstance(expression, Integer):
            return style.number(int(expression))
        if isinstance(expression, Float):
            return style.real(f"{float(expression):.6g}")
        if isinstance(expression, Add):
            return self._sum(expression)
        if isinstance(expression, (Mul, Rational)) or (isinstance(expression, Pow) and _negative(expression.exp)):
            return self._product(expression)
        if isinstance(expression, Pow):
            whole = isinstance(expression.base, Symbol)
            return style.power(self.bracketed(expression.base, whole), expression.exp, self)
        if isinstance(expression, (Min, Max)):
            name = "min" if isinstance(expression, Min) else "max"
            return style.call(
                name, [self.write(each) for each in sorted(expression.args, key=self._rank, reverse=True)]
            )
        if isinstance(expression, floor):
            return style.floor(self._quotient(expression.args[0]))
        if isinstance(expression, ceiling):
            return style.ceiling(self._quotient(expression.args[0]))
        if isinstance(expression, Piecewise):
            return style.cases([(self.write(value), self._condition(when)) for value, when in expression.args])
        if isinstance(expression, Relational):
            return self._condition(expression)
        raise TypeError(f"no way to write {type(expression).__name__}")

    def broken(self, expression: Any) -> list[str]:
        """Return an expression in pieces between which a line may end: before the summands of long sums."""
        if expression.count_ops() <= LINE:
            return [self.write(expression)]
        if isinstance(expression, Add) and not _remainder(expression)[0]:
            pieces: list[str] = []
            for term in sorted(expression.args, key=self._term_rank):
                negative = _coefficient(term) < 0
                first, *others = self.broken(-term if negative else term)
                sign = (self.style.minus if negative else self.style.plus) if pieces else ""
                pieces += [(sign or (self.style.negative if negative else "")) + first, *others]
            return pieces
        sums = [factor for factor in Mul.make_args(expression) if isinstance(factor, Add)]
        if len(sums) != 1 or expression.as_numer_denom()[1] != 1 or expression == sums[0]:
            return [self.write(expression)]
        first, *others = self.broken(sums[0])
        opened, closed = self.style.parentheses("\0").split("\0")
        pieces = [f"{self.write(expression / sums[0])}{self.style.times}{opened}{first}", *others]
        return [*pieces[:-1], pieces[-1] + closed]

    def _quotient(self, expression: Any) -> str:
        top, bottom = expression.as_numer_denom()
        if bottom == 1:
            return self.write(expression)
        return self.style.fraction(self._factor(top), self._factor(bottom), simple=True)

    def bracketed(self, expression: Any, whole: bool) -> str:
        """Return the text, in parentheses unless it is one whole."""
        text = self.write(expression)
        return text if whole else self.style.parentheses(text)

    def _condition(self, when: Any) -> str:
        if not isinstance(when, Relational):
            return ""
        relation = self.style.relation(when.rel_op)
        return f"{self.write(when.lhs)} {relation} {self.write(when.rhs)}"

    def _sum(self, expression: Any) -> str:
        remainder, rest = _remainder(expression)
        text = self._modulo(*remainder, alone=not rest) if remainder else ""
        for term in sorted(rest, key=self._term_rank):
            negative = _coefficient(term) < 0
            written = self.write(-term if negative else term)
            sign = self.style.minus if negative else self.style.plus
            text += sign + written if text else (self.style.negative if negative else "") + written
        return text

    def _modulo(self, whole: Any, by: Any, alone: bool) -> str:
        shared = _coefficient(by)
        whole, by = expand(whole / shared), by / shared
        text = self.style.modulo(self.bracketed(whole, not isinstance(whole, Add)), self.bracketed(by, by.is_Atom))
        if shared != 1:
            return f"{self.write(shared)}{self.style.times}{self.style.parentheses(text)}"
        return text if alone else self.style.parentheses(text)

    def _product(self, expression: Any) -> str:
        sign = ""
        top: list[Any] = []
        bottom: list[Any] = []
        number = _coefficient(expression)
        if number < 0:
            sign, number = self.style.negative, -number
        for factor in (
            expression.args if isinstance(expression, Mul) else () if expression.is_Rational else (expression,)
        ):
            if factor.is_Rational:
                continue
            inverse = isinstance(factor, Pow) and _negative(factor.exp)
            (bottom if inverse else top).append(1 / factor if inverse else factor)
        above = [self._factor(factor) for factor in sorted(top, key=self._rank)]
        below = [self._factor(factor) for factor in sorted(bottom, key=self._rank)]
        if number.p != 1 or not above:
            above.insert(0, self.style.number(int(number.p)))
        if number.q != 1:
            below.insert(0, self.style.number(int(number.q)))
        written = self.style.times.join(above)
        if below:
            written = self.style.fraction(written, self.style.times.join(below), len(below) == 1)
        return sign + written

    def _factor(self, factor: Any) -> str:
        return self.bracketed(factor, not isinstance(factor, (Add, Mul)))

    def _rank(self, expression: Any) -> tuple[Any, ...]:
        """Order factors: how often, sizes, what is added up, then batch and context, then bytes."""
        if expression not in self._ranks:
            self._ranks[expression] = self._rank_of(expression)
        return self._ranks[expression]

    def _rank_of(self, expression: Any) -> tuple[Any, ...]:
        if isinstance(expression, Symbol):
            return (self.order.get(expression, 500), str(expression))
        if isinstance(expression, Pow) and isinstance(expression.base, Symbol):
            return self._rank(expression.base)
        free = expression.free_symbols
        late = free & {CONTEXT, BATCH, SOURCE}
        if expression.is_number:
            return (-1, str(expression))
        return (max(self.order.get(each, 500) for each in late) + 0.5 if late else 400, str(expression))

    def _term_rank(self, expression: Any) -> tuple[Any, ...]:
        """Order summands: numbers and what is subtracted last, else by their first factor."""
        negative = bool(_coefficient(expression) < 0)
        factors = expression.args if isinstance(expression, Mul) else (expression,)
        ranks = sorted(self._rank(factor) for factor in factors if not factor.is_Rational)
        degree = sum(factor.as_base_exp()[1] for factor in factors if factor.as_base_exp()[0] == CONTEXT)
        return (negative, expression.is_number, ranks, -degree)


def _remainder(total: Any) -> tuple[tuple[Any, Any] | None, list[Any]]:
    """Split x − q·⌊x/q⌋ off a sum: (x, q) and the other terms; None and all terms where there is no such pair."""
    terms = list(total.args)
    for term in terms:
        for step in (factor for factor in Mul.make_args(term) if isinstance(factor, floor)):
            by = -term / step
            whole = Add.make_args(by * step.args[0])
            others = [each for each in terms if each != term]
            if not by.has(floor) and all(each in others for each in whole):
                return (Add(*whole), by), [each for each in others if each not in whole]
    return None, terms


def _negative(exponent: Any) -> bool:
    return bool(exponent.is_Rational and exponent < 0)


def _coefficient(expression: Any) -> Any:
    """Return the rational in front."""
    if expression.is_Rational:
        return expression
    if isinstance(expression, Mul) and expression.args[0].is_Rational:
        return expression.args[0]
    return Integer(1)
