"""Claims held against what is computed and what primary sources say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from calc.schema.base import Answer, Document

Value = int | float | tuple[int | float, int | float] | None
"""A number, or a range from one to another, in base units."""


class ClaimFacts(Document):
    """One claim and the verdict on it; figures are in ``unit``, a base unit."""

    id: str
    says: str
    where: str
    unit: str
    stated: Value
    tolerance: float | None
    quantity: str | None
    model: str | None
    at: dict[str, Any] = Field(description="the quantity's arguments")
    computed: Value
    provenance: Literal["exact", "estimate"] | None
    primary: Value
    primary_source: str | None
    verdict: Literal["holds", "convention", "off", "contradicted", "unchecked"]
    why: str
    convention: str | None = Field(description="under which the claim holds")
    computed_by_convention: Value
    note: str


class ClaimsDocument(Document):
    """The claims of one document."""

    name: str
    title: str
    source: str
    claims: list[ClaimFacts]


class Audit(Answer):
    """``calc audit``."""

    kind: Literal["audit"]
    documents: list[ClaimsDocument]
    verdicts: dict[str, int] = Field(description="how many of those shown have each verdict")


class ArgumentFacts(Document):
    """An argument that a claim gives under ``at``."""

    name: str
    type: str
    required: bool


class ClaimQuantity(Document):
    """A quantity that a claim may name."""

    name: str
    unit: str
    meaning: str
    of_model: bool
    arguments: list[ArgumentFacts]


class Quantities(Answer):
    """``calc audit --quantities``."""

    kind: Literal["quantities"]
    quantities: list[ClaimQuantity]
