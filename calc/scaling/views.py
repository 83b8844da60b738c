"""What people ask of scaling laws: the best size for a budget, and how a model and its tokens stand to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calc import catalog
from calc.checks import listed, whole
from calc.costs import Setting
from calc.errors import SpecError
from calc.model import Model
from calc.results import Cell, Figure, Grid, Result, Row
from calc.scaling.laws import Law, Optimum, positive
from calc.scaling.published import JOINT, LAWS, ROUTED, law
from calc.scaling.sizes import Size, training_flops_per_token
from calc.units import figure

ModelLike = str | Path | Model
JOINT_AT = (1, 8, 32)
"""Experts for which the joint law is shown."""


def scale(
    model: ModelLike | None = None,
    *,
    compute: float | None = None,
    tokens: float | None = None,
    laws: str | Sequence[str] = (),
    context: int | None = None,
) -> Result:
    """Return what the published laws say of a compute budget, or of a model trained on some tokens.

    With ``compute`` (FLOP): the best size and tokens, their ratio and the loss, by law. With a model and ``tokens``:
    the loss that each law foresees, the best split of the same compute (6·N·D) and how much lower its loss is, and
    what a token costs by the tables. With a model alone: the tokens for which each law finds its size the best.
    Units: parameters, tokens, FLOP, nats per token.

    Losses of different laws do not compare: other tokenizers, other validation text.

    Raises:
        SpecError: neither a budget nor a model, or both; a size that is none.
        UnknownName: no such law or model.

    >>> best = scale(compute=5.76e23, laws=["chinchilla-1"]).data["laws"][0]["optimum"]
    >>> round(best["size"] / 1e9), round(best["tokens"] / 1e12, 1)
    (68, 1.4)
    """
    chosen = [law(name) for name in listed(laws)]
    if model is None:
        if compute is None or tokens is not None:
            raise SpecError("give a compute budget, or a model with or without tokens")
        every = [*LAWS.values(), *map(JOINT.with_experts, JOINT_AT)]
        return _of_budget(positive("compute", compute), chosen or every)
    if compute is not None:
        raise SpecError("a model's compute is read off its tables: give its tokens, not a budget")
    loaded = catalog.load(model)
    length = Setting.of([loaded], context).context
    return _of_model(loaded, None if tokens is None else positive("tokens", tokens), chosen, length)


def _of_budget(compute: float, chosen: list[Law]) -> Result:
    rows, entries = [], []
    for each in chosen:
        best = each.optimum(compute)
        rows.append(Row(each.name, (each.title, *_split(best))))
        entries.append({**_about(each), "optimum": _optimum(best)})
    data = {"compute": compute, "model": None, "laws": entries}
    columns = ("law", "best size", "tokens", "tokens / size", "loss")
    title = f"Compute-optimal training, {Figure(compute, 'FLOP').value:.3g} FLOP"
    return Result(kind="scale", data=data, grids=(Grid(title, columns, tuple(rows), _NOTES), formulas(chosen)))


_NOTES = (
    "N is total, active or non-embedding parameters as each law counts them (JSON: counted); C = 6·N·D",
    "loss in nats per token of each law's own text: losses of different laws do not compare",
)


def curve(compute: float | Sequence[float], *, laws: str | Sequence[str] = ()) -> Result:
    """Return loss against compute: the best size, tokens and loss of every budget, by law.

    Units: FLOP, parameters, tokens, nats per token. For many budgets, a law reads a numpy array as well.

    Raises:
        SpecError: no budgets, or one that is none.
        UnknownName: no such law.

    >>> points = curve([1e21, 1e23], laws=["besiroglu"]).data["points"]
    >>> points[0]["loss"] > points[1]["loss"]
    True
    """
    budgets = listed(compute)
    if not budgets:
        raise SpecError("no budgets are given")
    chosen: list[Law] = [law(name) for name in listed(laws)] or [*LAWS.values(), *map(JOINT.with_experts, JOINT_AT)]
    rows, points = [], []
    for each in chosen:
        for number, budget in enumerate(budgets):
            best = each.optimum(positive("compute", budget))
            cells = (f"{budget:.3g}", *_split(best))
            rows.append(Row(f"{each.name}.{budget:.3g}", cells, section="" if number else each.title))
            points.append({"law": each.name, "compute": float(budget), **_optimum(best)})
    columns = ("FLOP", "best size", "tokens", "tokens / size", "loss")
    grids = (Grid("Loss against compute", columns, tuple(rows), _NOTES), formulas(chosen))
    return Result(kind="curve", data={"points": points, "laws": [_about(each) for each in chosen]}, grids=grids)


def _of_model(model: Model, tokens: float | None, chosen: list[Law], context: int) -> Result:
    size = Size.of(model)
    chosen = chosen or [*LAWS.values(), JOINT.with_experts(size.expansion)]
    per_token = training_flops_per_token(model, context)
    usual = 6 * size.active
    rows, entries = [], []
    for each in chosen:
        n = size.counted(each.counted)
        trained = _tokens_for(each, n) if tokens is None else tokens
        loss, best = each.loss(n, trained), each.optimum(6.0 * n * trained)
        excess = each.excess(n, trained)
        cells: tuple[Cell, ...] = (
            each.title,
            Figure(float(n), "parameters"),
            Figure(trained, "tokens"),
            Figure(trained / n),
            Figure(loss),
            *_split(best)[:2],
            Figure(excess),
        )
        rows.append(Row(each.name, cells))
        entries.append(
            {
                **_about(each),
                "size": n,
                "tokens": trained,
                "compute": 6.0 * n * trained,
                "loss": loss,
                "optimum": _optimum(best),
                "excess_loss": excess,
            }
        )
    data: dict[str, Any] = {
        "compute": None if tokens is None else per_token * tokens,
        "model": {
            "name": model.name,
            "tokens": tokens,
            "context": context,
            "flops_per_token": per_token,
            "six_n": usual,
            "expansion": size.expansion,
        },
        "laws": entries,
    }
    asked = "the tokens for which its size is the best" if tokens is None else f"{tokens:.4g} tokens"
    title = f"{model.heading}, {asked}"
    told = f"{per_token:.4g} FLOP for each token by its tables at {context:,} tokens: {per_token / usual:.3g} × 6·N"
    notes = (told, *_NOTES, *_of_experts(size))
    columns = ("law", "N", "tokens", "tokens / N", "loss", "best size", "its tokens", "loss above its")
    return Result(kind="scale", data=data, grids=(Grid(title, columns, tuple(rows), notes), formulas(chosen)))


def _of_experts(size: Size) -> list[str]:
    """Say how laws take a mixture of experts."""
    if size.expansion == 1:
        return []
    beyond = f", beyond the {JOINT.largest}-fold of its experiments" if size.expansion > JOINT.largest else ""
    return [f"dense laws are given the active parameters; {size.expansion:.3g}-fold experts for the joint law{beyond}"]


def _tokens_for(each: Law, size: float) -> float:
    """Return the tokens for which a size is the best: the budget whose optimum it is, by bisection of its logarithm."""
    low, high = 1.0, 1e40
    for _ in range(200):
        middle = (low * high) ** 0.5
        if each.optimum(middle).size < size:
            low = middle
        else:
            high = middle
    return float(each.optimum(high).tokens)


def _split(best: Optimum) -> tuple[Cell, ...]:
    return (
        Figure(best.size, "parameters"),
        Figure(best.tokens, "tokens"),
        Figure(best.tokens / best.size),
        Figure(best.loss),
    )


def _optimum(best: Optimum) -> dict[str, float | None]:
    return {"size": best.size, "tokens": best.tokens, "loss": best.loss}


def _about(each: Law) -> dict[str, str]:
    return {
        "name": each.name,
        "title": each.title,
        "counted": each.counted,
        "formula": each.formula,
        "source": each.source,
        "fitted": each.fitted,
    }


def formulas(chosen: list[Law]) -> Grid:
    """Return the laws with their coefficients, and where those are from."""
    rows = [Row(f"formula.{each.name}", (each.title, each.formula, each.source)) for each in chosen]
    return Grid("Formulas", ("law", "L(N, D)", "source"), tuple(rows))


def routed_laws(size: float, experts: int | Sequence[int | float] = (1, 2, 8, 32, 128, 512)) -> Result:
    """Return what the laws of routing say of a dense size widened by experts: loss and the dense size that equals it.

    Clark et al. at 130 billion tokens, one expert used of E; the benefit ends at the cutoff size.

    Raises:
        SpecError: a size or a number of experts that is not positive.
    """
    size = positive("size", size)
    rows, entries = [], []
    counts = listed(experts)
    for each in ROUTED.values():
        for count in counts:
            loss, equal = each.loss(size, whole("experts", count)), each.dense_equal(size, count)
            cells = (f"{count:,}", Figure(loss), Figure(equal, "parameters", ratio=equal / size))
            rows.append(Row(f"{each.name}.{count}", cells, section="" if count != counts[0] else each.name))
            entries.append({"law": each.name, "experts": count, "loss": loss, "dense_equal": equal})
    laws = [
        {"name": each.name, "formula": each.formula, "source": each.source, "cutoff": each.cutoff}
        for each in ROUTED.values()
    ]
    title = f"Routing at 130 B tokens, {figure(size, 'parameters')} parameters before experts"
    ends = [
        Row(f"formula.{each.name}", (each.name, each.formula, Figure(each.cutoff, "parameters")))
        for each in ROUTED.values()
    ]
    notes = ("one expert used of E; from the cutoff on routing does not help", f"source: {ROUTED['s-base'].source}")
    grids = (
        Grid(title, ("experts", "loss", "as good as dense"), tuple(rows)),
        Grid("Formulas", ("router", "loss", "cutoff"), tuple(ends), notes),
    )
    return Result(kind="routed", data={"size": size, "laws": laws, "points": entries}, grids=grids)
