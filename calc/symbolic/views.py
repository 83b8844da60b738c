"""What people ask of formulas, as objects and results: one formula explained, all of them listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calc import catalog
from calc.checks import one_of
from calc.errors import SpecError, UnknownName
from calc.model import Model
from calc.operations import Counts, Role
from calc.records import replace
from calc.results import Figure, Grid, Result, Row
from calc.schemes import Scheme, weight_forms
from calc.symbolic import parsing
from calc.symbolic.expressions import Formula, make
from calc.symbolic.legend import BATCH, CONTEXT, SOURCE, Entry, Subject, of_model
from calc.symbolic.mechanisms import kinds, of_mechanism
from calc.symbolic.quantities import MULTI_HEAD, QUANTITIES, Quantity, quantity
from calc.symbolic.solve import VARIABLES, Solution, solve
from calc.symbolic.variants import with_options
from calc.tensors import COUNTS
from calc.units import Format, dtype, figure

Target = str | Model
Options = Mapping[str, str] | str | None

APART = ("traffic.prefill", "traffic.decode")
"""Long formulas, which the overview leaves out."""
SAME = {"params.active": "params", "state+cache": "cache", MULTI_HEAD: "cache"}
"""What the overview leaves out where it is the same formula."""


def formula(
    target: Target,
    of: str = "cache",
    *,
    options: Options = None,
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
    causal: bool = True,
    counts: Counts = "matmul",
) -> Formula:
    """Return the formula of a quantity of a model, or of one layer of a mechanism.

    ``options`` choose the structure: ``{"form": "naive"}`` or ``"form=naive"``. Notebooks show the result in LaTeX.

    Raises:
        CalcError: an unknown model, mechanism, quantity, option or dtype.

    >>> print(formula("gqa", "cache"))
    2·n_kv_heads·head_dim·batch·context·bytes
    >>> formula("llama-3-8b", "cache").at(context=8192, batch=4)
    4294967296
    """
    wanted = quantity(of)
    subject = _subject_with(target, options)
    published = _published(subject, weights_dtype)
    if published and "weight" in wanted.roles:
        raise SpecError(
            f"{subject.name} stores its weights in several formats ({published}), which have no one formula of "
            f"{of}; name one with --weights-dtype"
        )
    return _formula(subject, wanted, weights_dtype, cache_dtype, causal, counts)


def _subject_with(target: Target, options: Options) -> Subject:
    return subject_of(target, parsing.assignments(options) if isinstance(options, str) else dict(options or {}))


def _formula(
    subject: Subject, wanted: Quantity, weights_dtype: str | None, cache_dtype: str, causal: bool, counts: Counts
) -> Formula:
    """Return a formula; where weights are stored in several formats, one in which they all had 16 bits."""
    one_of("counts", counts, COUNTS)
    form = weight_forms(weights_dtype or (subject.model.weights_dtype if subject.model else "bf16"))
    if isinstance(form, Scheme):
        if weights_dtype:
            raise SpecError(
                f"weights in {weights_dtype!r} have a format for each tensor, and no one formula; name one format"
            )
        form = dtype("bf16")
    notes: tuple[str, ...] = ()
    if subject.model and subject.model.low:
        notes = (f"{subject.name} is an estimate, and its formula the middle of a range",)
    forms: dict[Role, Format] = {"weight": form, "activation": dtype("bf16"), "cache": dtype(cache_dtype)}
    return make(subject, wanted, forms, causal=causal, counts=counts, notes=notes)


def _published(subject: Subject, weights_dtype: str | None) -> str:
    """Return the scheme of several formats that weights are published in, where no other format is asked for."""
    if weights_dtype or subject.model is None or not isinstance(weight_forms(subject.model.weights_dtype), Scheme):
        return ""
    return subject.model.weights_dtype


def subject_of(target: Target, options: Mapping[str, str]) -> Subject:
    """Return the symbols of a model or of a mechanism, by name or path."""
    known = kinds()
    if isinstance(target, str) and target in known:
        return of_mechanism(target, options)
    try:
        model = catalog.load(target)
    except UnknownName:
        names = [*catalog.names(), *known]
        raise UnknownName("preset or mechanism", str(target), names, "`calc list` shows all presets") from None
    return of_model(with_options(model, options))


def formulas(
    target: Target,
    *,
    latex: bool = False,
    options: Options = None,
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
    causal: bool = True,
    counts: Counts = "matmul",
) -> Result:
    """Return the formula of every quantity that is not zero, on a line of its own; takes what ``formula`` takes.

    Raises:
        CalcError: an unknown model, mechanism, option or dtype.
    """
    rows, records = [], []
    used: dict[Any, Entry] = {}
    subject = _subject_with(target, options)
    found = [
        _formula(subject, wanted, weights_dtype, cache_dtype, causal, counts)
        for name, wanted in QUANTITIES.items()
        if name not in APART
    ]
    written: dict[str, str] = {}
    for each in found:
        text = written[each.quantity.name] = str(each)
        if each.expression == 0 or text == written.get(SAME.get(each.quantity.name, "")):
            continue
        order = each.leading()[1] if CONTEXT in each.expression.free_symbols else ""
        rows.append(Row(each.quantity.name, (each.quantity.name, _shown(each, each.shown, latex), order)))
        records.append({"quantity": _quantity(each), **_written(each, each.shown), "order": order})
        used |= {entry.symbol: entry for entry in each.legend}
    notes = [f"{_convention(found[0])}; also: {', '.join(APART)}", f"source: {subject.source}"]
    if published := _published(subject, weights_dtype):
        notes.insert(0, f"weights are published in several formats ({published}); the formula is that of one")
    grid = Grid(subject.title, ("quantity", "formula", "growth"), tuple(rows), tuple(notes))
    data = {"subject": _subject(subject), "convention": _conventions(found[0]), "formulas": records}
    ordered = sorted(used.values(), key=lambda entry: found[0].order.get(entry.symbol, 10**6))
    legend = [_legend_row(entry) for entry in ordered]
    data["legend"] = [_legend_data(entry) for entry in ordered]
    return Result(kind="formulas", data=data, grids=(grid, _legend_grid(legend)))


def explain(
    target: Target,
    of: str = "",
    *,
    at: str | Mapping[str, int] = "",
    solve_for: str = "",
    budget: str | int = "",
    latex: bool = False,
    **setting: Any,
) -> Result:
    """Return a formula step by step: general, with numbers, its leading term, at values, and solved for a variable.

    Without a quantity, every formula on a line of its own. Takes what ``formula`` takes besides.

    Raises:
        CalcError: what ``formula`` raises; values or a budget that cannot be; a budget without ``solve_for``.

    >>> explain("llama-3-8b", "cache", at="context=8192").data["at"]["result"]
    1073741824
    """
    if bool(solve_for) != bool(budget):
        raise SpecError("--solve-for and --budget go together: --solve-for context --budget 80GiB")
    if of:
        return _explained(formula(target, of, **setting), at, solve_for, budget, latex)
    if at or solve_for:
        raise SpecError(f"--at and --solve-for need a quantity: {', '.join(QUANTITIES)}")
    return formulas(target, latex=latex, **setting)


def _explained(asked: Formula, at: str | Mapping[str, int], solve_for: str, budget: str | int, latex: bool) -> Result:
    values = _values(asked, at)
    rows = [Row("formula", ("formula", _shown(asked, asked.shown, latex)))]
    data: dict[str, Any] = {
        "subject": _subject(asked.subject),
        "quantity": _quantity(asked),
        "convention": _conventions(asked),
        "formula": _written(asked, asked.shown),
        "numbers": None,
    }
    numeric = asked.with_sizes(values) if not asked.subject.numbers else asked.numeric
    if numeric is not None:
        data["numbers"] = _written(asked, numeric)
        if numeric != asked.expression:
            rows.append(Row("numbers", ("with its numbers", _shown(asked, numeric, latex))))
    term, order = asked.leading()
    data["leading"] = {"term": None if term is None else _written(asked, term), "order": order}
    if CONTEXT in asked.expression.free_symbols:
        shown = order if term is None else f"{_shown(asked, term, latex)}   {order}"
        rows.append(Row("leading", ("long contexts", shown)))
    legend = asked.legend
    if asked.quantity.name == "cache":
        other = replace(asked, quantity=quantity(MULTI_HEAD))
        rows += _against_multi_head(asked, other, latex, data)
        legend += tuple(entry for entry in other.legend if data["multi_head"] and entry not in legend)
    if values and not solve_for:
        rows += _substituted(asked, numeric, values, data)
    if solve_for:
        wanted = parsing.budget(budget, asked.quantity.unit) if isinstance(budget, str) else budget
        solution = solve(asked, solve_for, wanted, values)
        rows += _solved(asked, solution, values, latex, data)
    data["terms"] = _terms(asked)
    data["legend"] = [_legend_data(entry) for entry in legend]
    title = f"{asked.quantity.name} of {asked.subject.title}: {asked.quantity.meaning}"
    counted = (_convention(asked),) if asked.quantity.unit in ("FLOP", "pairs") else ()
    grids = [Grid(title, ("", ""), tuple(rows), (*counted, f"source: {asked.subject.source}"))]
    if len(asked.terms) > 1:
        shares = (
            Row(term.path, (term.path, term.label, asked.write(term.count), asked.write(asked.tidy(term.each))))
            for term in asked.terms
        )
        grids.append(Grid("Where it comes from", ("table", "kind", "times", "each"), tuple(shares)))
    if legend:
        grids.append(_legend_grid([_legend_row(entry) for entry in legend]))
    longest = data["solve"]["value"] if solve_for == "context" else values.get("context")
    beyond = asked.subject.model.beyond(longest) if asked.subject.model and longest else ()
    return Result(kind="formula", data=data, grids=tuple(grids), notes=(*asked.notes, *beyond))


def _against_multi_head(asked: Formula, other: Formula, latex: bool, data: dict[str, Any]) -> list[Row]:
    """Return what multi-head attention would keep and the share that this cache is of it, where they differ."""
    data["multi_head"] = None
    if other.expression == 0 or other.expression == asked.expression or other.numeric == asked.numeric is not None:
        return []
    share = asked.share_of(other)
    rows = [Row("multi_head", ("multi-head keeps", _shown(other, other.shown, latex)))]
    data["multi_head"] = {**_written(other, other.shown), "share": None if share is None else _written(asked, share)}
    if share is not None:
        value = asked.valued(share)
        shown = _shown(asked, share, latex)
        text = shown if value is None else f"{shown} = {value:.2%}: {1 - value:.0%} less"
        rows.append(Row("share", ("share of it", text)))
    return rows


def _values(asked: Formula, at: str | Mapping[str, int]) -> dict[str, int]:
    used = [name for name, symbol in VARIABLES.items() if symbol in asked.expression.free_symbols]
    sizes = [entry.name for entry in asked.subject.entries.values()]
    free = [*VARIABLES] if used else []
    allowed, fixed = (free, sizes) if asked.subject.numbers else ([*free, *sizes], [])
    if isinstance(at, str):
        return parsing.values(at, allowed, fixed)
    return parsing.values(",".join(f"{name}={value}" for name, value in at.items()), allowed, fixed)


def _substituted(asked: Formula, numeric: Any, values: Mapping[str, int], data: dict[str, Any]) -> list[Row]:
    """Return the steps from the numbers to the result; without values for all that is open there is none."""
    point = asked.point(values)
    source = point.get("source", point["context"])
    open_symbols = {CONTEXT: point["context"], BATCH: point["batch"], SOURCE: source}
    result = asked.at(**values)
    assumed = [
        f"{name} = {open_symbols[symbol]:,}"
        for name, symbol in VARIABLES.items()
        if name not in values and symbol in asked.expression.free_symbols
    ]
    steps = asked.write(numeric, open_symbols)
    label = "put in" + (f" ({', '.join(assumed)})" if assumed else "")
    data["at"] = {"values": {**point, **values}, "substituted": steps, "result": result}
    exact = f"{result:,}" if isinstance(result, int) else f"≈ {result:,.0f}"
    rows = [Row("substituted", (label, steps))] if numeric.free_symbols else []
    written = figure(result, asked.quantity.unit)
    unit = {"B": "bytes", "FLOP": "FLOP"}.get(asked.quantity.unit, asked.quantity.unit)
    shown = f"{exact} {unit}" + (f" = {written}" if written not in exact else "")
    return [*rows, Row("result", ("result", shown), emphasis=True)]


def _solved(asked: Formula, found: Solution, values: Mapping[str, int], latex: bool, data: dict[str, Any]) -> list[Row]:
    unit, name = asked.quantity.unit, found.variable
    budget = figure(found.budget, unit)
    given = ", ".join(f"{key} = {value:,}" for key, value in asked.point(values).items() if key != name)
    if found.outcome == "never":
        text = f"never: one {_singular(name)} already comes to {figure(found.beyond, unit)}, over {budget}"
    elif found.outcome == "always":
        text = f"always: it never comes to more than {figure(found.figure, unit)}, within {budget}"
    else:
        text = f"{found.value:,}   ({figure(found.figure, unit)} of {budget}; {given})"
    data["solve"] = {
        "for": name,
        "budget": found.budget,
        "outcome": found.outcome,
        "value": found.value,
        "figure": found.figure,
        "next": found.beyond,
        "expression": None if found.expression is None else _written(asked, found.expression),
    }
    rows = []
    if found.expression is not None:
        rows.append(Row("solution", (f"{name} ≤", _shown(asked, found.expression, latex))))
    return [*rows, Row("solve", (f"largest {name}", text), emphasis=True)]


def _singular(name: str) -> str:
    return {"context": "token", "batch": "sequence", "source": "source token"}[name]


def _terms(asked: Formula) -> list[dict[str, Any]]:
    return [
        {
            "path": term.path,
            "kind": term.label,
            "count": asked.write(term.count),
            "each": asked.write(asked.tidy(term.each)),
        }
        for term in asked.terms
    ]


def _shown(asked: Formula, expression: Any, latex: bool) -> str:
    return asked.write_latex(expression) if latex else asked.write(expression)


def _written(asked: Formula, expression: Any) -> dict[str, str]:
    return {"unicode": asked.write(expression), "latex": asked.write_latex(expression)}


def _subject(subject: Subject) -> dict[str, Any]:
    kind = "model" if subject.model else "mechanism"
    return {"kind": kind, "name": subject.name, "title": subject.title, "source": subject.source}


def _quantity(asked: Formula) -> dict[str, str]:
    return {"name": asked.quantity.name, "unit": asked.quantity.unit, "meaning": asked.quantity.meaning}


def _conventions(asked: Formula) -> dict[str, Any]:
    forms = {role: form.name for role, form in asked.forms.items()}
    return {"causal": asked.causal, "counts": asked.counts, "dtypes": forms}


def _convention(asked: Formula) -> str:
    pairs = "causal: the pairs that masks let through" if asked.causal else "full: all T·S pairs"
    return f"{asked.counts} FLOPs, {pairs}"


def _legend_data(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "latex": entry.latex, "meaning": entry.meaning, "value": entry.value}


def _legend_row(entry: Entry) -> Row:
    value = Figure(entry.value) if entry.value is not None else None
    return Row(entry.name, (entry.name, entry.latex, entry.meaning, value))


def _legend_grid(rows: list[Row]) -> Grid:
    return Grid("Symbols", ("name", "LaTeX", "meaning", "value"), tuple(rows))
