"""The audit as a result: a line for each claim, a card for one, the quantities that claims can name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from calc import catalog
from calc.claims import files
from calc.claims.claim import Claim, Document
from calc.claims.judge import VERDICTS, Judgement, judge
from calc.claims.quantities import find, names
from calc.claims.registry import Computed, written
from calc.claims.stated import Stated, Unit
from calc.errors import CalcError, SpecError, UnknownName
from calc.results import Cell, Figure, Grid, Result, Row
from calc.units import figure, span


def audit(
    documents: str | Path | Iterable[str | Path] = (),
    *,
    verdict: str | Iterable[str] = (),
    claim: str | None = None,
    require_hold: bool = False,
) -> Result:
    """Return a verdict for every claim of documents: shipped ones by name, files by path; without any, all shipped.

    ``verdict`` keeps the claims with one of these verdicts: holds, convention, off, contradicted, unchecked. ``claim``
    keeps one, by its id, and tells all about it. With ``require_hold`` the result has failed unless every claim holds
    or cannot be checked.

    Raises:
        CalcError: an unknown document, verdict or claim; a file that is not one of claims.

    >>> audit("seed", claim="d-k").data["documents"][0]["claims"][0]["verdict"]
    'holds'
    """
    named = [documents] if isinstance(documents, (str, Path)) else list(documents)
    wanted = _verdicts(verdict)
    judged = [_judged(name) for name in named or catalog.names("claims")]
    if claim is not None:
        judged = _one(judged, claim)
    kept = [(name, document, [one for one in found if one.verdict in wanted]) for name, document, found in judged]
    fails = any(one.verdict in WRONG for _, _, found in kept for one in found)
    data = {
        "documents": [_document(name, document, found) for name, document, found in kept],
        "verdicts": _counts(kept),
    }
    grids = _cards(kept) if claim is not None else (_table(kept),)
    return Result(kind="audit", data=data, grids=grids, failed=require_hold and fails)


Judged = list[tuple[str, Document, list[Judgement]]]


def _judged(name: str | Path) -> tuple[str, Document, list[Judgement]]:
    document = files.load(name)
    try:
        return str(name), document, list(map(judge, document.claim))
    except CalcError as error:
        raise SpecError(f"{error} ({name})") from None


def _verdicts(verdict: str | Iterable[str]) -> set[str]:
    asked = {verdict} if isinstance(verdict, str) else set(verdict)
    for name in asked:
        if name not in VERDICTS:
            raise UnknownName("verdict", name, VERDICTS, f"known: {', '.join(VERDICTS)}")
    return asked or set(VERDICTS)


def _one(judged: Judged, claim: str) -> Judged:
    kept = [(name, document, [one for one in found if one.claim.id == claim]) for name, document, found in judged]
    found = [each for each in kept if each[2]]
    if not found:
        raise UnknownName("claim", claim, [one.claim.id for _, _, each in judged for one in each])
    return found


def _counts(judged: Judged) -> dict[str, int]:
    counted = Counter(one.verdict for _, _, found in judged for one in found)
    return {name: counted[name] for name in VERDICTS}


# ---- for a person


def _table(judged: Judged) -> Grid:
    mixed = any(one.verdict not in WRONG for _, _, found in judged for one in found)  # then the wrong ones stand out
    rows = []
    for name, document, found in judged:
        for index, one in enumerate(found):
            claim, unit = one.claim, one.claim.measured_in
            cells = (claim.says, stated_cell(claim.stated, unit), computed_cell(one.computed, unit), _says(one))
            rows.append(
                Row(
                    claim.id if len(judged) == 1 else f"{name}.{claim.id}",
                    cells,
                    emphasis=mixed and one.verdict in WRONG,
                    section="" if index else document.title,
                )
            )
    counts = _counts(judged)
    number = sum(counts.values())
    total = f"{number} claim{'s' * (number != 1)}: " + ", ".join(f"{n} {_SHORT[v]}" for v, n in counts.items() if n)
    return Grid("", ("claim", "stated", "computed", "verdict"), tuple(rows), (total,) if rows else ("no such claims",))


WRONG = ("off", "contradicted")

_SHORT = {
    "holds": "hold",
    "convention": "hold under another convention",
    "off": "off",
    "contradicted": "contradicted by the primary source",
    "unchecked": "not checkable",
}


def _says(one: Judgement) -> str:
    """Write a verdict and its reason; a primary source that contradicts, with what it says."""
    if one.verdict == "convention":
        return f"holds {one.why}"
    if one.verdict == "contradicted" and one.claim.primary:
        says = _written(stated_cell(one.claim.primary.value, one.claim.measured_in))
        return f"contradicted: {says} ({one.why})"
    if one.verdict == "holds":
        return f"holds ({one.why})" if one.why else "holds"
    return f"{'not checkable' if one.verdict == 'unchecked' else one.verdict}: {one.why}"


def _cards(judged: Judged) -> tuple[Grid, ...]:
    return tuple(_card(document, one) for _, document, found in judged for one in found)


def _card(document: Document, one: Judgement) -> Grid:
    claim, unit = one.claim, one.claim.measured_in
    rows = [
        Row("says", ("says", claim.says)),
        Row("where", ("where", " – ".join(filter(None, (document.title, claim.where))))),
        Row("stated", ("stated", _range_text(claim, unit))),
    ]
    if one.computed is not None and claim.quantity is not None:
        rows += [
            Row("computed", ("computed", _exact(computed_cell(one.computed, unit)))),
            Row("quantity", ("  as", f"{claim.quantity}: {find(claim.quantity).meaning}")),
            Row("of", ("  of", _asked(claim.model, claim.at))),
        ]
    if one.convention is not None:
        rows += [
            Row("convention", (one.why, _exact(computed_cell(one.by_convention, unit)))),
            Row("convention.of", ("  of", _asked(one.convention.model, one.convention.at, one.convention.quantity))),
        ]
    if claim.primary is not None:
        rows += [
            Row("primary", ("primary source", _exact(stated_cell(claim.primary.value, unit)))),
            Row("primary.source", ("  where", claim.primary.source)),
        ]
    rows.append(Row("verdict", ("verdict", _says(one)), emphasis=True))
    return Grid(claim.id, ("", ""), tuple(rows), (claim.note,) if claim.note else ())


def _asked(model: str | None, at: Any, quantity: str | None = None) -> str:
    given = ", ".join(f"{name} = {written(value)}" for name, value in at.items())
    return ", ".join(filter(None, (quantity, model, given))) or "nothing else"


def _range_text(claim: Claim, unit: Unit) -> str:
    text = _exact(stated_cell(claim.stated, unit))
    return text if claim.tolerance is None else f"{text}, about (within {claim.tolerance:.0%})"


def _written(cell: Cell) -> str:
    """Write a figure as a table does."""
    if not isinstance(cell, Figure):
        return "–"
    return figure(cell.value, cell.unit) if cell.low is None else span(cell.low, cell.high, cell.unit)


def _exact(cell: Cell) -> str:
    """Write a figure as a table does, and in full behind it where the table rounds an integer."""
    text = _written(cell)
    if not isinstance(cell, Figure) or not isinstance(cell.value, int) or cell.unit == "s" or cell.value >= 10**15:
        return text
    return text if f"{cell.value:,}" in text else f"{text}  ({cell.value:,})"


def stated_cell(value: Stated | None, unit: Unit) -> Cell:
    """Return a stated number or range as a figure in base units."""
    if value is None:
        return None
    ends = [_plain(Fraction(each) * unit.factor) for each in (value if isinstance(value, tuple) else (value,))]
    return Figure(ends[0], unit.base) if len(ends) == 1 else Figure(None, unit.base, low=ends[0], high=ends[1])


def computed_cell(computed: Computed | None, unit: Unit) -> Cell:
    """Return a computed value or range as a figure in base units."""
    if computed is None:
        return None
    low, value, high = map(_plain, (computed.low, computed.value, computed.high))
    if low == high:
        return Figure(value, unit.base)
    if computed.estimate:
        return Figure(None, unit.base, "estimate", low=low, high=high)
    return Figure(None, unit.base, low=low, high=high)


def _plain(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


# ---- for a program


def _document(name: str, document: Document, found: list[Judgement]) -> dict[str, Any]:
    return {
        "name": name,
        "title": document.title,
        "source": document.source,
        "claims": [_facts(one) for one in found],
    }


def _facts(one: Judgement) -> dict[str, Any]:
    claim, unit = one.claim, one.claim.measured_in
    asked = claim.quantity is not None
    return {
        "id": claim.id,
        "says": claim.says,
        "where": claim.where,
        "unit": unit.base,
        "stated": _ends(stated_cell(claim.stated, unit)),
        "tolerance": None if claim.tolerance is None else float(claim.tolerance),
        "quantity": claim.quantity,
        "model": claim.model,
        "at": {key: _json(value) for key, value in claim.at.items()},
        "computed": _ends(computed_cell(one.computed, unit)),
        "provenance": ("estimate" if one.computed and one.computed.estimate else "exact") if asked else None,
        "primary": _ends(stated_cell(claim.primary.value, unit)) if claim.primary else None,
        "primary_source": claim.primary.source if claim.primary else None,
        "verdict": one.verdict,
        "why": one.why,
        "convention": None if one.convention is None else one.convention.name,
        "computed_by_convention": _ends(computed_cell(one.by_convention, unit)),
        "note": claim.note,
    }


def _ends(cell: Cell) -> Any:
    """Return a number, a pair of numbers for a range, or nothing."""
    if not isinstance(cell, Figure):
        return None
    return cell.value if cell.low is None else [cell.low, cell.high]


def _json(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return _plain(Fraction(value))
    return [_json(each) for each in value] if isinstance(value, (list, tuple)) else value


# ---- what can be asked for


def quantities() -> Result:
    """Return the quantities that a claim may name: unit, arguments, meaning."""
    found = [find(name) for name in names()]
    data = [
        {
            "name": each.name,
            "unit": each.unit,
            "meaning": each.meaning,
            "of_model": each.of_model,
            "arguments": [
                {"name": argument.name, "type": argument.kind, "required": argument.required}
                for argument in each.arguments
                if argument.name != "model"
            ],
        }
        for each in found
    ]
    rows = tuple(
        Row(
            each.name,
            (
                each.name,
                each.unit or "–",
                ", ".join(("model" if a.name == "model" else a.text()) for a in each.arguments),
                each.meaning,
            ),
        )
        for each in found
    )
    grid = Grid("", ("quantity", "unit", "arguments", "meaning"), rows)
    return Result(kind="quantities", data={"quantities": data}, grids=(grid,))
