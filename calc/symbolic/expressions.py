"""The formula of a quantity: read off the tables over symbols, arranged, with the numbers put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sympy import Add, Expr, Integer, Max, Min, Mul, Piecewise, cancel, ceiling, expand, floor
from sympy import factor as factored

from calc.algebra import Number
from calc.dims import BY_NAME
from calc.errors import SpecError
from calc.model import Block
from calc.operations import Counts, Role
from calc.records import Record, named_record, record, replace
from calc.symbolic.arrange import arranged, arranged_numbers, tidy_factors
from calc.symbolic.legend import BATCH, CONTEXT, FREE, SOURCE, Entry, Subject, symbol, symbolic_format
from calc.symbolic.limits import big_o, by_degree, leading, stepped, without_steps
from calc.symbolic.quantities import Point, Quantity
from calc.symbolic.styles import Latex, MathML, Unicode
from calc.symbolic.text import Walk
from calc.units import Format

LATE = (BATCH, CONTEXT, SOURCE)
PLACES = tuple(BY_NAME)
STEPS = (Min, Max, floor, ceiling, Piecewise)
LONG = 12
"""Operations beyond which a factor gets a name."""


@record
class Term(Record):
    """The share of one kind of table: how often it stands, and what one of it comes to."""

    path: str
    label: str
    count: Expr
    each: Expr


@named_record
class Formula(Record):
    """A quantity of a model or a mechanism as an expression over the legend's symbols.

    ``expression`` is general; ``numeric`` has the model's numbers in place of its sizes (None where a mechanism's sizes
    are not given). ``str`` writes one line of Unicode; ``latex`` and notebooks write the legend's symbols.
    """

    subject: Subject
    quantity: Quantity
    forms: Mapping[Role, Format]
    bytes_entries: tuple[Entry, ...]
    symbolic_forms: Mapping[Role, Format]
    causal: bool = True
    counts: Counts = "matmul"
    notes: tuple[str, ...] = ()

    # ---- the three readings

    def read(self, blocks: Sequence[Block], forms: Mapping[Role, Format], **at: Number) -> Number:
        """Return the quantity of some blocks at a point: what numbers, sweeps and symbols have in common."""
        point = Point(**{"source": None, **at}, forms=forms, causal=self.causal, counts=self.counts)
        return self.quantity.of(blocks, point)

    def at(self, **values: int) -> Number:
        """Return the figure at a context and batch, in exact integers.

        Raises:
            SpecError: a value that is missing, unknown or no positive whole number; a mechanism without its sizes.
        """
        return self.read(self.sized(values), self.forms, **self.point(values))

    def point(self, values: Mapping[str, int]) -> dict[str, int]:
        """Return context, batch and source: one token and one sequence unless given, as many source tokens."""
        free = {name: values[name] for name in ("context", "batch", "source") if name in values}
        return {"context": 1, "batch": 1, **free}

    def sized(self, values: Mapping[str, int]) -> Sequence[Block]:
        """Return the tables with integers for letters: the model's own, or a mechanism's with the values given."""
        if self.subject.numbers:
            return self.subject.numbers
        known = self._known(values)
        missing = [entry.name for entry in self.legend if entry.symbol in self._sizes and entry.symbol not in known]
        if missing:
            raise SpecError(f"{', '.join(missing)} has no value; give it as in --at {missing[0]}=128")
        return [
            replace(block, letters={letter: _whole(value, known) for letter, value in block.letters.items()})
            for block in self.subject.blocks
        ]

    def _known(self, values: Mapping[str, int]) -> dict[Any, int]:
        return self.subject.values() | {
            key: values[entry.name] for key, entry in self.subject.entries.items() if entry.name in values
        }

    def share_of(self, other: Formula) -> Expr | None:
        """Return this formula as a share of another, where the context and the batch cancel."""
        share = cancel(self.expression / other.expression)
        return None if share.free_symbols & set(LATE) or share.has(*STEPS) else factored(share)

    def valued(self, expression: Expr) -> float | None:
        """Return an expression of sizes alone as a number, or None where a size has no value."""
        number = expression.subs(self.subject.values())
        return None if number.free_symbols else float(number)

    # ---- the expression

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The shares of the tables that have one, layer by layer."""
        found = []
        source = SOURCE if self._has_source else None
        for block, count in zip(self.subject.blocks, self.subject.counts, strict=True):
            each = self.read([block], self.symbolic_forms, context=CONTEXT, batch=BATCH, source=source)
            if each != 0:
                each = tidy_factors(expand(each) if self._differences else each, self.subject.patterns)
                found.append(Term(block.path, block.label, count, each))
        return tuple(found)

    @property
    def _differences(self) -> bool:
        return self.quantity.name == "cache_per_token"

    @property
    def _patterns_alone(self) -> bool:
        return self.quantity.name == "pairs" and any(term.each.atoms(*STEPS) for term in self.terms)

    @property
    def _has_source(self) -> bool:
        return any(block.encoder or "m" in _letters(block) for block in self.subject.blocks)

    @cached_property
    def shown(self) -> Expr:
        """The general formula, arranged; a long factor over the context has a name of its own (``named``)."""
        total = Add(*(count * term for count, each in self._merged() for term in Add.make_args(each)))
        if self.quantity.name == "complexity":
            factor, power = leading(total)
            return self.tidy(Add(*(term * CONTEXT**power for term in Add.make_args(factor))))
        return total if self._patterns_alone else self.tidy(total)

    @cached_property
    def expression(self) -> Expr:
        """The general formula over sizes, context and batch alone."""
        return self.shown.xreplace({name: factor for factor, name in self.named.items()})

    @cached_property
    def named(self) -> dict[Expr, Any]:
        """Factors that are too long to be repeated, and the symbols that stand for them: what a mask lets through."""
        found: dict[Expr, Any] = {}
        if self._patterns_alone or self.quantity.name == "complexity":
            return found
        products = (product for term in self.terms for product in Add.make_args(term.each))
        for factor in (factor for product in products for factor in Mul.make_args(product)):
            if factor not in found and factor.atoms(*STEPS) and factor.count_ops() > LONG:
                found[factor] = symbol(f"seen_{len(found) + 1}")
        return found

    def _merged(self) -> list[tuple[Expr, Expr]]:
        """Add up what stands equally often; layers that agree in it count together."""
        kinds: dict[Expr, list[Expr]] = {}
        for term in self.terms:
            for product in Add.make_args(self._with_names(term.each)):
                kinds.setdefault(product, []).append(term.count)
        by_count: dict[Expr, list[Expr]] = {}
        for product, counts in kinds.items():
            by_count.setdefault(self._total(counts), []).append(product)
        return [(count, Add(*products)) for count, products in by_count.items()]

    def _with_names(self, expression: Expr) -> Expr:
        products = (Mul.make_args(product) for product in Add.make_args(expression))
        return Add(*(Mul(*(self.named.get(factor, factor) for factor in factors)) for factors in products))

    def _total(self, counts: Sequence[Expr]) -> Expr:
        """Add up how often something stands: in every kind of layer, it is the number of layers."""
        times, found = Counter(counts), []
        for total, parts in self.subject.layers.items():
            whole = min(times[part] for part in parts)
            times.subtract(dict.fromkeys(parts, whole))
            found.append(whole * total)
        return Add(*found, *(number * count for count, number in times.items()))

    def is_count(self, factor: Any) -> bool:
        """Tell whether a factor says how often something stands."""
        return bool(factor.free_symbols) and factor.free_symbols <= self._counting

    @cached_property
    def _counting(self) -> frozenset[Any]:
        return self.subject.counting

    @cached_property
    def numeric(self) -> Expr | None:
        """The formula with numbers for sizes and bytes; context, batch and source stay."""
        if not self.subject.numbers:
            return self.with_sizes({})
        source = SOURCE if self._has_source else None
        blocks = self.subject.numbers
        shares = (self.read([block], self.forms, context=CONTEXT, batch=BATCH, source=source) for block in blocks)
        total = sum(shares, Integer(0))
        total = expand(total) if self._differences else total
        if self.quantity.name == "complexity":
            factor, power = leading(total)
            total = factor * CONTEXT**power
        return arranged_numbers(total)

    def with_sizes(self, values: Mapping[str, int]) -> Expr | None:
        """Return the general formula with the numbers of all sizes put in, None while one is open."""
        known = self._known(values)
        if set(self._sizes) - set(known):
            return None
        numbers = {each: Integer(known[each]) for each in self._sizes}
        numbers |= {entry.symbol: Integer(entry.value) for entry in self.bytes_entries}
        return arranged_numbers(self.expression.xreplace(numbers))

    def with_values(self, values: Mapping[str, int]) -> Expr:
        """Return the formula in the context alone: every other symbol has its number."""
        sizes = self.with_sizes(values) if not self.subject.numbers else self.numeric
        if sizes is None:
            raise SpecError(f"give every size of {self.subject.name} with --at")
        at = self.point(values)
        source = Integer(at["source"]) if "source" in at else CONTEXT
        return sizes.xreplace({BATCH: Integer(at["batch"]), SOURCE: source})

    @property
    def _sizes(self) -> list[Any]:
        """The symbols of the expression that are neither left open nor bytes."""
        apart = {*FREE, *(entry.symbol for entry in self.bytes_entries)}
        return [each for each in self.expression.free_symbols if each not in apart]

    # ---- how it is shown

    @cached_property
    def entries(self) -> dict[Any, Entry]:
        """Every symbol that may appear."""
        found = {**self.subject.entries, **FREE, **{entry.symbol: entry for entry in self.bytes_entries}}
        for number, (factor, name) in enumerate(self.named.items(), start=1):
            meaning = f"what a pattern lets through: {Walk(Unicode(), dict.fromkeys(LATE, 600)).write(factor)}"
            found[name] = Entry(name, rf"\sigma_{{{number}}}", meaning)
        return found

    @cached_property
    def order(self) -> dict[Any, int]:
        """The order of factors: how often, sizes as they first appear, batch, context, source, bytes."""
        first = [each for each in self.entries if self.is_count(each)]
        last = [*LATE, *self.named.values(), *(entry.symbol for entry in self.bytes_entries)]
        middle = sorted((each for each in self.entries if each not in first and each not in last), key=_legend_place)
        places = {each: index for index, each in enumerate([*first, *middle])}
        return places | {each: 600 + index for index, each in enumerate(last)}

    @property
    def legend(self) -> tuple[Entry, ...]:
        """The symbols of the general formula, in the order in which it writes them."""
        used = self.shown.free_symbols | self.expression.free_symbols
        return tuple(sorted((self.entries[each] for each in used), key=lambda entry: self.order[entry.symbol]))

    def write(self, expression: Any, values: Mapping[Any, int] | None = None) -> str:
        """Write an expression over this formula's symbols; ``values`` are written in place of their symbols."""
        return Walk(Unicode(values), self.order).write(expression)

    def write_latex(self, expression: Any) -> str:
        """Write an expression in the legend's LaTeX symbols."""
        return Walk(Latex(self.entries), self.order).write(expression)

    def __repr__(self) -> str:
        return f"<{self.quantity.name} of {self.subject.name}: {self}>"

    def __str__(self) -> str:
        return self.write(self.shown)

    @property
    def latex(self) -> str:
        """The general formula in LaTeX."""
        return self.write_latex(self.shown)

    @property
    def mathml(self) -> str:
        """The general formula in MathML."""
        return self.write_mathml(self.shown)

    def write_mathml(self, expression: Any) -> str:
        """Write an expression in the legend's symbols as a MathML element."""
        return f'<math display="block">{Walk(MathML(self.entries), self.order).write(expression)}</math>'

    def mathml_pieces(self, expression: Any) -> tuple[str, ...]:
        """Write an expression as MathML elements between which a line may end: browsers break none inside."""
        return tuple(f"<math>{piece}</math>" for piece in Walk(MathML(self.entries), self.order).broken(expression))

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"

    def tidy(self, expression: Any) -> Expr:
        """Arrange a part of the formula as the whole is."""
        expression = self._with_names(expression)
        return arranged(expression, self.is_count, self.order)

    def leading(self) -> tuple[Expr | None, str]:
        """Return the leading term in the context and its order of growth.

        No term where the figure stays bounded but for rounding: the limit would leave out what rounding adds.
        """
        factor, power = leading(self.expression)
        if self._differences:
            powers = by_degree(without_steps(self.expression))
            power = max(powers)
            factor = powers[power]
        if power == 0 and (stepped(self.expression) or factor == 0):
            return None, big_o(power)
        return self.tidy(self.tidy(expand(factor)) * CONTEXT**power), big_o(power)


def _legend_place(symbol: Any) -> tuple[int, str]:
    """Return where the legend lists a size, whatever its subscript."""
    name = str(symbol)
    found = (index for index, known in enumerate(PLACES) if name == known or name.startswith(f"{known}_"))
    return max(found, default=len(PLACES)), name


def _letters(block: Block) -> str:
    texts = (operation.output + getattr(operation, "equation", "") for operation in block.operations)
    return "".join(texts)


def _whole(expression: Any, known: Mapping[Any, int]) -> int:
    """Return a letter's number; one that is left open does not matter to the quantity, and is 1.

    Raises:
        SpecError: a share that is no whole number.
    """
    if not expression.free_symbols <= known.keys():
        return 1
    value = expression.xreplace({each: Integer(known[each]) for each in expression.free_symbols})
    if not value.is_Integer:
        raise SpecError(f"{expression} is no whole number: {value}")
    return int(value)


def make(subject: Subject, quantity: Quantity, forms: Mapping[Role, Format], **options: Any) -> Formula:
    """Put a formula together: the number formats that the quantity depends on get a symbol each."""
    symbolic, entries = dict(forms), []
    for role in quantity.roles:
        symbolic[role], entry = symbolic_format(forms[role], role)
        entries += [entry] if entry else []
    return Formula(
        subject=subject,
        quantity=quantity,
        forms=forms,
        symbolic_forms=symbolic,
        bytes_entries=tuple(entries),
        **options,
    )
