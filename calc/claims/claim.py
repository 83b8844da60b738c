"""A claim: words, where they stand, the number that they state, and what to hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from calc.claims.stated import Span, Stated, Unit, span_of, unit
from calc.errors import CalcError, SpecError
from calc.records import Record, named_record


@named_record
class Primary(Record):
    """What the source of a claim's subject says itself: the paper, the released config, the maker's documentation."""

    value: Stated
    source: str
    """Where, precise enough to look it up."""


@named_record
class Convention(Record):
    """Another way to count, under which a claim may hold: whatever it names replaces what the claim says.

    Another ``quantity`` has arguments of its own; the model stays, where that is a figure of a model.
    """

    name: str
    """In a few words, to follow "holds": ``without the embedding table``."""
    quantity: str | None = None
    model: str | None = None
    at: Mapping[str, Any] = field(default_factory=dict)


@named_record
class Claim(Record):
    """One number that somebody states.

    It is held against what ``quantity`` computes (for ``model``, with the arguments ``at``), against what the
    ``primary`` source says, or both. ``unchecked`` says why neither is possible.

    Raises:
        SpecError: nothing to hold it against; a unit that does not exist; a range or a tolerance that cannot be.
    """

    id: str
    """Stable and short: letters, digits, points and hyphens."""
    says: str
    """The words of the document, as short as they can be quoted."""
    where: str = ""
    """The chapter or table in which they stand."""
    stated: Stated | None = None
    """In ``unit``. It claims the digits that it is written with (``calc.claims.stated``)."""
    unit: str = ""
    tolerance: float | None = None
    """Relative, for claims that say "about"; takes the place of what the digits claim."""
    quantity: str | None = None
    """A name of the registry (``calc audit --quantities``)."""
    model: str | None = None
    """A preset's name, or a path to a preset file or a config.json."""
    at: Mapping[str, Any] = field(default_factory=dict)
    """The quantity's arguments."""
    primary: Primary | None = None
    convention: tuple[Convention, ...] = ()
    unchecked: str = ""
    note: str = ""
    """What a reader should know beside the verdict."""

    def __post_init__(self) -> None:
        if not self.id or not self.id.replace("-", "").replace(".", "").isalnum() or not self.id.isascii():
            raise SpecError(f"id = {self.id!r} may hold letters, digits, points and hyphens only")
        if not self.says.strip():
            raise SpecError(f"claim {self.id} quotes no words: says is empty")
        held = self.quantity is not None or self.primary is not None
        if held == bool(self.unchecked.strip()):
            raise SpecError(
                f"claim {self.id} needs either a quantity, a primary source or both, or unchecked = why not"
            )
        if held and self.stated is None:
            raise SpecError(f"claim {self.id} states no number: stated is missing")
        if self.quantity is None and (self.model is not None or self.at or self.convention):
            raise SpecError(f"claim {self.id} has a model, arguments or conventions but names no quantity")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise SpecError(f"claim {self.id}: tolerance = {self.tolerance} is not from 0 to below 1")
        try:
            self.span, self.primary_span  # noqa: B018 - checks units and ranges
        except CalcError as error:
            raise SpecError(f"claim {self.id}: {error}") from None

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Claim:
        """Build from trusted data."""
        values = dict(data)
        for name in ("stated", "primary"):
            if name in values:
                values[name] = _tuple(values[name]) if name == "stated" else _primary(values[name])
        if "tolerance" in values:
            values["tolerance"] = float(values["tolerance"])
        values["convention"] = tuple(Convention(**each) for each in data.get("convention", ()))
        return cls(**values)

    @property
    def measured_in(self) -> Unit:
        """The unit."""
        return unit(self.unit)

    @property
    def span(self) -> Span | None:
        """What the number claims, in base units."""
        return None if self.stated is None else span_of(self.stated, self.measured_in, self.tolerance)

    @property
    def primary_span(self) -> Span | None:
        """What the primary source says, in base units, with the digits that it is written with."""
        return None if self.primary is None else span_of(self.primary.value, self.measured_in, None)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _primary(data: Mapping[str, Any]) -> Primary:
    return Primary(**{**data, "value": _tuple(data["value"])})


@named_record
class Document(Record):
    """The claims of one document.

    Raises:
        SpecError: an id that stands twice.
    """

    title: str
    source: str
    """Whose document it is, and where it is."""
    claim: tuple[Claim, ...]

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claim]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise SpecError(f"id = {twice[0]!r} stands twice")
        if not ids:
            raise SpecError("a document needs at least one claim")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Document:
        """Build from trusted data."""
        return cls(**{**data, "claim": tuple(Claim.build(each) for each in data["claim"])})
