"""The verdict on a claim: stated, computed and primary held against one another."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal, TypeAlias

from calc.claims.claim import Claim, Convention
from calc.claims.quantities import find
from calc.claims.registry import Computed, compute
from calc.claims.stated import Span
from calc.errors import CalcError, SpecError
from calc.records import Record, named_record

Verdict: TypeAlias = Literal["holds", "convention", "off", "contradicted", "unchecked"]

VERDICTS: Final[dict[Verdict, str]] = {
    "holds": "holds",
    "convention": "holds under another convention",
    "off": "off",
    "contradicted": "contradicted by the primary source",
    "unchecked": "not checkable",
}


@named_record
class Judgement(Record):
    """A claim, what it was held against, the verdict and the reason for it."""

    claim: Claim
    verdict: Verdict
    why: str
    computed: Computed | None = None
    convention: Convention | None = None
    """Under which the claim holds."""
    by_convention: Computed | None = None
    """What is computed under it."""


def judge(claim: Claim) -> Judgement:
    """Hold a claim against what can be computed and what its primary source says.

    A primary source that says otherwise contradicts, whatever is computed. What rests on dimensions that were never
    published proves nothing and is not checkable. Otherwise the claim holds if the computed figure lies within what its
    digits claim, or under the first convention of which that is true, and is off if there is none.

    Raises:
        SpecError: a quantity, model or argument that does not exist or does not fit; names the claim.
    """
    try:
        return _judge(claim)
    except CalcError as error:
        raise SpecError(f"claim {claim.id}: {error}") from None


def _judge(claim: Claim) -> Judgement:
    span, said = claim.span, claim.primary_span
    if span is None or (claim.quantity is None and said is None):
        return Judgement(claim=claim, verdict="unchecked", why=claim.unchecked)
    computed = None if claim.quantity is None else _computed(claim, None)
    if said is not None and claim.primary is not None and not span.meets(said):
        agrees = computed is not None and not computed.estimate and span.holds(_span(computed))
        why = f"{claim.primary.source}{', though the computed figure agrees' if agrees else ''}"
        return Judgement(claim=claim, verdict="contradicted", why=why, computed=computed)
    if computed is None:
        return Judgement(claim=claim, verdict="holds", why=claim.primary.source if claim.primary else "")
    if computed.estimate:
        why = "its maker published no sizes"
        return Judgement(claim=claim, verdict="unchecked", why=why, computed=computed)
    if span.holds(_span(computed)):
        return Judgement(claim=claim, verdict="holds", why="", computed=computed)
    for convention in claim.convention:
        other = _computed(claim, convention)
        if span.holds(_span(other)) and not other.estimate:
            return Judgement(
                claim=claim,
                verdict="convention",
                why=convention.name,
                computed=computed,
                convention=convention,
                by_convention=other,
            )
    also = "; the primary source says it too" if said is not None else ""
    return Judgement(claim=claim, verdict="off", why=f"{distance(span, computed)}{also}", computed=computed)


def _computed(claim: Claim, convention: Convention | None) -> Computed:
    name, model, at = claim.quantity or "", claim.model, dict(claim.at)
    if convention is not None:
        another = convention.quantity not in (None, claim.quantity)
        at = dict(convention.at) if another else {**at, **convention.at}
        name = convention.quantity or name
        model = convention.model or (model if find(name).of_model else None)
    asked = find(name)
    if asked.unit != claim.measured_in.base:
        raise SpecError(f"{name} is in {asked.unit or 'plain numbers'}, which unit = {claim.unit!r} does not measure")
    return compute(asked, model, at)


def _span(computed: Computed) -> Span:
    return Span(computed.low, computed.high)


def distance(span: Span, computed: Computed) -> str:
    """Say by how much a statement is off: in percent, or as a multiple where it is far off.

    >>> distance(Span(Fraction(15), Fraction(15)), Computed(Fraction(45), Fraction(45), Fraction(45)))
    '3 times too low'
    """
    middle = (span.low + span.high) / 2
    if computed.low != computed.high:
        return "the computed range goes beyond it"
    if not middle or not computed.value or middle / computed.value < 0:
        return f"off by {float(middle - computed.value):.3g}"
    factor = middle / computed.value
    way = "high" if factor > 1 else "low"
    times = factor if factor > 1 else 1 / factor
    if times >= 2:
        return f"{_times(times)} times too {way}"
    return f"{float(abs(factor - 1)) * 100:.2g} % too {way}"


def _times(value: Fraction) -> str:
    return f"{float(value):,.0f}" if 100 <= value < 10**9 else f"{float(value):.3g}"
