"""From which context on one model is dearer than another: in closed form, exact to the token."""

from __future__ import annotations

from typing import Any

from sympy import Expr, Rational, expand, sqrt

from calc.algebra import Number
from calc.errors import SpecError
from calc.fields import LARGEST
from calc.records import Record, named_record, record, replace
from calc.results import Figure, Grid, Result, Row
from calc.symbolic import parsing
from calc.symbolic.expressions import Formula
from calc.symbolic.limits import stepped
from calc.symbolic.signs import coefficients, compiled, pieces, sign_runs, smoothed
from calc.symbolic.views import Options, Target, formula

SHOWN = 12
"""Changes and pieces that are listed."""


@record
class Stretch(Record):
    """Contexts in which the same one is dearer: ``a``, ``b``, ``equal``; ``changing`` where they keep alternating."""

    first: int
    last: int | None
    dearer: str


@record
class Piece(Record):
    """Contexts in which no window fills up: the two formulas there, and where their difference is zero."""

    first: int
    last: int | None
    a: Expr
    b: Expr
    root: Expr | None


@named_record
class Crossover(Record):
    """Two figures over the context. ``stretches`` cover all contexts from 1 on; ``crossings`` are where they change."""

    a: Formula
    b: Formula
    names: tuple[str, str]
    batch: int
    source: int | None
    stretches: tuple[Stretch, ...]
    pieces: tuple[Piece, ...]

    @property
    def crossings(self) -> tuple[int, ...]:
        """The contexts from which on another one is dearer than at the context before."""
        return tuple(stretch.first for stretch in self.stretches[1:])

    def at(self, context: int) -> tuple[Number, Number]:
        """Return both figures at a context, in exact integers."""
        point = {"context": context, "batch": self.batch}
        point |= {"source": self.source} if self.source else {}
        return self.a.at(**point), self.b.at(**point)

    @property
    def answer(self) -> str:
        """The answer in a sentence."""
        a, b = self.names
        words = {
            "a": f"{a} is dearer than {b}",
            "b": f"{a} is cheaper than {b}",
            "equal": "they cost the same",
            "changing": "they keep changing places",
        }
        if len(self.stretches) == 1:
            return f"{words[self.stretches[0].dearer]} at every context"
        told = [f"{_reach(stretch)} {words[stretch.dearer]}" for stretch in self.stretches[:SHOWN]]
        more = f"; and {len(self.stretches) - SHOWN} more changes" if len(self.stretches) > SHOWN else ""
        return "; ".join(told) + more

    def result(self) -> Result:
        """Return the answer as a result."""
        quantity = self.a.quantity
        rows = []
        for stretch in self.stretches[:SHOWN]:
            cost = self.at(stretch.first)
            name = {"a": self.names[0], "b": self.names[1], "equal": "equal", "changing": "alternating"}
            ratio = cost[1] / cost[0] if cost[0] else None
            figures = (Figure(cost[0], quantity.unit), Figure(cost[1], quantity.unit, ratio=ratio))
            cells = (_range(stretch), name[stretch.dearer], *figures)
            rows.append(Row(f"from {stretch.first}", cells))
        columns = ("context", "dearer", *(f"{name}, at its start" for name in self.names))
        title = f"{quantity.name}, batch {self.batch:,}: {self.answer}"
        grids = [Grid(title, columns, tuple(rows))]
        if self.pieces:
            grids.append(self._formulas())
        return Result(kind="crossover", data=self._data(), grids=tuple(grids), notes=self.a.notes + self.b.notes)

    def _formulas(self) -> Grid:
        rows = []
        for piece in self.pieces:
            root = "" if piece.root is None else f"{self.a.write(piece.root)} ≈ {float(piece.root):,.2f}"
            cells = (_range(piece), self._written(piece.a), self._written(piece.b), root)
            rows.append(Row(f"from {piece.first}", cells))
        return Grid("Formulas in the context", ("context", *self.names, "equal at"), tuple(rows))

    def _written(self, expression: Expr) -> str:
        """Write a formula; one that is rounded in many places, by what it comes to without rounding."""
        if not stepped(expression):
            return self.a.write(expression)
        return f"≈ {self.a.write(smoothed(expression))}"

    def _data(self) -> dict[str, Any]:
        quantity = self.a.quantity
        stretches = []
        for stretch in self.stretches:
            a, b = self.at(stretch.first)
            stretches.append({"first": stretch.first, "last": stretch.last, "dearer": stretch.dearer, "a": a, "b": b})
        formulas = [
            {
                "first": piece.first,
                "last": piece.last,
                "a": self.a.write(piece.a),
                "b": self.a.write(piece.b),
                "root": None if piece.root is None else self.a.write(piece.root),
            }
            for piece in self.pieces
        ]
        return {
            "a": {"name": self.a.subject.name, "source": self.a.subject.source},
            "b": {"name": self.b.subject.name, "source": self.b.subject.source},
            "quantity": {"name": quantity.name, "unit": quantity.unit, "meaning": quantity.meaning},
            "convention": {"causal": self.a.causal, "counts": self.a.counts, "batch": self.batch},
            "answer": self.answer,
            "crossings": list(self.crossings),
            "stretches": stretches,
            "pieces": formulas,
        }


def crossover(
    a: Target,
    b: Target,
    of: str = "cache",
    *,
    batch: int = 1,
    source: int | None = None,
    options_a: Options = None,
    options_b: Options = None,
    **setting: Any,
) -> Crossover:
    """Return from which context on ``a`` is dearer than ``b``; takes what ``formula`` takes.

    Windows split the contexts into pieces with a polynomial each, whose signs are settled in integers; the figures on
    both sides of every change are read from the tables again.

    Raises:
        CalcError: an unknown model, quantity or option; a mechanism, whose sizes are open.

    >>> crossover("llama-3-8b", "llama-3-8b", "flops.decode").answer
    'they cost the same at every context'
    """
    for name, value in (("batch", batch), ("source", 1 if source is None else source)):
        parsing.whole(name, str(value))
    one = formula(a, of, options=options_a, **setting)
    two = formula(b, of, options=options_b, **setting)
    values = {"batch": batch} | ({"source": source} if source else {})
    for each in (one, two):
        if not each.subject.numbers:
            raise SpecError(f"{each.subject.name} is a mechanism, whose sizes are open; a crossover takes models")
    if one.quantity.name == "complexity":
        raise SpecError("complexity is a leading term; take flops.prefill")
    left, right = one.with_values(values), two.with_values(values)
    names = _names(one, two, options_a, options_b)
    runs = sign_runs(left - right)
    dearer = {1: "a", -1: "b", 0: "equal", None: "changing"}
    stretches = tuple(Stretch(first, None if last == LARGEST else last, dearer[kind]) for first, last, kind in runs)
    return Crossover(
        a=one,
        b=two,
        names=names,
        batch=batch,
        source=source,
        stretches=stretches,
        pieces=_pieces(left, right),
    )


def _names(one: Formula, two: Formula, options_a: Options, options_b: Options) -> tuple[str, str]:
    """Return what the two are called; options tell two forms of one model apart."""
    names = []
    for each, options in ((one, options_a), (two, options_b)):
        given = parsing.assignments(options) if isinstance(options, str) else dict(options or {})
        told = ", ".join(f"{name}={value}" for name, value in given.items())
        names.append(f"{each.subject.name} ({told})" if told else each.subject.name)
    return names[0], names[1]


def _pieces(left: Expr, right: Expr) -> tuple[Piece, ...]:
    """Return the polynomials between the contexts at which a window fills up."""
    found: list[Piece] = []
    for first, last, a in pieces(left):
        for start, end, b in pieces(right, first, last):
            one, two = (each if stepped(each) else expand(each) for each in (a, b))
            if found and _same_at(found[-1], one, two, start) and start == end:
                found[-1] = replace(found[-1], last=end)
                continue
            if found and found[-1].first == found[-1].last and _same_at(found[-1], one, two, found[-1].first):
                start = found.pop().first
            root = None if stepped(one - two) else _root(expand(one - two), start, end)
            found.append(Piece(start, None if end == LARGEST else end, one, two, root))
            if len(found) == SHOWN:
                return tuple(found)
    return tuple(found)


def _same_at(piece: Piece, a: Expr, b: Expr, context: int) -> bool:
    """Tell whether two pairs of formulas agree at one context: a turning point belongs to both of its sides."""
    return all(compiled(one - two)(context) == 0 for one, two in ((piece.a, a), (piece.b, b)))


def _root(difference: Expr, first: int, last: int) -> Expr | None:
    """Return where a linear or quadratic difference is zero inside a piece."""
    numbers = [Rational(each.numerator, each.denominator) for each in coefficients(difference)]
    if len(numbers) == 2:
        roots = [-numbers[0] / numbers[1]]
    elif len(numbers) == 3:
        constant, slope, square = numbers
        under = slope**2 - 4 * square * constant
        roots = [(-slope + side * sqrt(under)) / (2 * square) for side in (1, -1)] if under >= 0 else []
    else:
        return None
    inside = [root for root in roots if first - 1 < float(root) < last + 1]
    return max(inside, key=float, default=None)


def _reach(stretch: Stretch) -> str:
    if stretch.last is None:
        return f"from {stretch.first:,} on"
    if stretch.first == stretch.last:
        return f"at {stretch.first:,}"
    return f"from {stretch.first:,} to {stretch.last:,}"


def _range(of: Stretch | Piece) -> str:
    if of.last is None:
        return f"{of.first:,} –"
    return f"{of.first:,}" if of.first == of.last else f"{of.first:,} – {of.last:,}"
