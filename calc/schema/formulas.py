"""Formulas and crossovers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class Written(Document):
    """An expression, one line of Unicode and LaTeX."""

    unicode: str
    latex: str


class SubjectFacts(Document):
    """Whose formula it is."""

    kind: Literal["model", "mechanism"]
    name: str
    title: str
    source: str


class QuantityFacts(Document):
    """What the formula gives."""

    name: str
    unit: str
    meaning: str


class FormulaConvention(Document):
    """What is counted, and the number format of every role."""

    causal: bool
    counts: Literal["matmul", "all"]
    dtypes: dict[str, str]


class LegendEntry(Document):
    """A symbol; ``value`` is its number in the model, where it has one."""

    name: str
    latex: str
    meaning: str
    value: int | None


class Leading(Document):
    """What is left for long contexts; no term where only rounding is left."""

    term: Written | None
    order: str


class Share(Document):
    """The share of one table of the model."""

    path: str
    kind: str
    count: str
    each: str


class Substitution(Document):
    """The formula at ``--at``."""

    values: dict[str, int]
    substituted: str
    result: int | float


class SolutionFacts(Document):
    """The largest value within a budget, the figure there and at the next value."""

    for_: str = Field(alias="for")
    budget: int
    outcome: Literal["largest", "never", "always"]
    value: int | None
    figure: int | float | None
    next: int | float | None
    expression: Written | None


class MultiHead(Written):
    """What multi-head attention with the same heads would keep; ``share`` is the cache's share of it."""

    share: Written | None


class Formula(Answer):
    """``calc formula TARGET QUANTITY``."""

    kind: Literal["formula"]
    subject: SubjectFacts
    quantity: QuantityFacts
    convention: FormulaConvention
    formula: Written
    numbers: Written | None = Field(description="with the model's numbers; context, batch and source stay symbols")
    leading: Leading
    multi_head: MultiHead | None = Field(None, description="for a cache, where heads share or are compressed")
    at: Substitution | None = None
    solve: SolutionFacts | None = None
    terms: list[Share]
    legend: list[LegendEntry]


class ListedFormula(Written):
    """A line of the overview."""

    quantity: QuantityFacts
    order: str


class Formulas(Answer):
    """``calc formula TARGET``."""

    kind: Literal["formulas"]
    subject: SubjectFacts
    convention: FormulaConvention
    formulas: list[ListedFormula]
    legend: list[LegendEntry]


class Compared(Document):
    """One of the two models."""

    name: str
    source: str


class CrossoverConvention(Document):
    """What is counted."""

    causal: bool
    counts: Literal["matmul", "all"]
    batch: int


class StretchFacts(Document):
    """Contexts in which the same one is dearer, up to ``last`` (null: all further), and both figures at ``first``."""

    first: int
    last: int | None
    dearer: Literal["a", "b", "equal", "changing"]
    a: int | float
    b: int | float


class PieceFacts(Document):
    """The formulas between two turning points; ``root``: where they are equal, if inside."""

    first: int
    last: int | None
    a: str
    b: str
    root: str | None


class Crossover(Answer):
    """``calc crossover``."""

    kind: Literal["crossover"]
    a: Compared
    b: Compared
    quantity: QuantityFacts
    convention: CrossoverConvention
    answer: str
    crossings: list[int]
    stretches: list[StretchFacts]
    pieces: list[PieceFacts]
