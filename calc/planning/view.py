"""A plan as tables: what to take, what else would do, the front, the day, and what was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from calc.planning.answer import DAYS, NOT_MODELLED, Choice, Plan, Point, Rejected
from calc.planning.demand import HOURS
from calc.planning.families import LINEAR
from calc.results import Figure, Grid, Row
from calc.roofline.efficiency import measured
from calc.units import counted

SHOWN = 8
"""Lines of a table at most."""
DEARER = 10
"""Times the fewest devices up to which a faster deployment is shown."""
BARS = "▁▂▃▄▅▆▇█"


def grids(plan: Plan) -> tuple[Grid, ...]:
    """Return the tables of a plan."""
    found = [_choices(plan), _quantiles(plan), _day(plan), _front(plan), _rejected(plan)]
    return tuple(grid for grid in found if grid.rows)


def _choices(plan: Plan) -> Grid:
    lengths, wanted, rate = plan.demand.lengths, plan.objectives, plan.demand.rate
    title = (
        f"{plan.title}: {counted(rate, 'request')}/s of {lengths.input_tokens:,.0f} + "
        f"{lengths.output_tokens:,.0f} tokens, TTFT ≤ {wanted.ttft:g} s, TPOT ≤ {1000 * wanted.tpot:g} ms "
        f"at p{100 * wanted.quantile:g}"
    )
    rows = [_choice(number, one, _named(plan)) for number, one in enumerate(shown(plan.choices), start=1)]
    if not rows:
        rows = [Row("none", (f"nothing of up to {counted(plan.max_gpus, 'GPU')} would do", *(None,) * 6))]
    columns = ("deployment", "GPUs", "TTFT", "TPOT", "load", "USD/h", "USD/M")
    return Grid(title, columns, tuple(rows), tuple(_notes(plan)))


def _named(plan: Plan) -> Mapping[str, bool]:
    """Return what the name of a deployment must say, because choices differ in it."""
    formats = {one.family.weights_dtype for one in plan.choices}
    return {"form": len(formats) > 1, "engine": len({one.family.engine.name for one in plan.choices}) > 1}


def _choice(number: int, one: Choice, named: Mapping[str, bool]) -> Row:
    cells = (
        one.text(**named), Figure(one.gpus), _seconds(one.ttft_s), _seconds(one.tpot_s),
        Figure(one.rate / one.saturation, "percent", "modelled"), Figure(one.usd_per_hour),
        Figure(one.usd_per_million_output_tokens, "", "modelled"),
    )  # fmt: skip
    return Row(f"choice.{number}", cells, emphasis=number == 1)


def shown(choices: Sequence[Choice]) -> list[Choice]:
    """Return the cheapest choice of each accelerator, then of each layout and format, up to SHOWN; cheapest first."""
    kept: dict[int, Choice] = {}
    for key in (_accelerator, _layout):
        seen = {key(one) for one in kept.values()}
        for index, one in enumerate(choices):
            if key(one) not in seen and len(kept) < SHOWN:
                seen.add(key(one))
                kept[index] = one
    return [kept[index] for index in sorted(kept)]


def _accelerator(one: Choice) -> str:
    return one.family.accelerator.name


def _in_eight_bits(one: Choice) -> bool:
    """Tell whether a deployment's weights are in a format that the search chose, not the publisher."""
    return one.family.weights_dtype.endswith(LINEAR)


def _layout(one: Choice) -> str:
    return f"{one.family.text()} {bool(one.reading_units)}"


def _notes(plan: Plan) -> Iterator[str]:
    yield f"{plan.evaluated:,} deployments looked at: the cheapest of each accelerator, then of other layouts"
    if any(one.reading_units for one in shown(plan.choices)):
        yield "a + b ×: a units only read prompts, b only decode"
    names = {"serving.ttft": "TTFT", "serving.tpot": "TPOT", "serving.throughput": "throughput"}
    yield from (f"{names[name]}: {error.text()}" for name, error in plan.errors.items())
    unpriced = sorted({_accelerator(one) for one in plan.choices if one.usd_per_hour is None})
    if unpriced:
        yield f"no price is known of {', '.join(unpriced)}: ranked last, by GPUs"
    if plan.best and not _named(plan)["form"]:
        yield f"weights in {plan.best.family.weights_dtype}"
    eight = sorted({one.family.weights_dtype.removesuffix(LINEAR) for one in plan.choices if _in_eight_bits(one)})
    if eight:
        yield f"{', '.join(eight)}: matrices in 8 bits, tried beside the published format; --weights-dtype names one"
    unlike = sorted({_accelerator(one) for one in plan.choices if not measured(one.family.accelerator)})
    if unlike:
        yield f"no step was measured on {', '.join(unlike)} or their like: times may be further off than that"
    yield "load: requests over those at which the queue grows without end"
    yield "USD/M: a million output tokens, with all that is paid; prices: calc show ACCELERATOR"
    yield f"not modelled: {NOT_MODELLED}"


def _quantiles(plan: Plan) -> Grid:
    best = plan.best
    if best is None:
        return Grid("", (), ())
    rows = [Row("mean", ("mean", _seconds(best.mean_ttft_s), _seconds(best.mean_tpot_s)))]
    for at, (ttft, tpot) in plan.quantiles.items():
        name = f"p{100 * at:g}"
        rows.append(Row(name, (name, _seconds(ttft), _seconds(tpot)), emphasis=at == plan.objectives.quantile))
    return Grid("Times of the cheapest", ("", "TTFT", "TPOT"), tuple(rows))


def _seconds(value: float) -> Figure:
    return Figure(value, "s", "modelled")


def _day(plan: Plan) -> Grid:
    """Return runs of hours with equally many devices, and the bill."""
    if not plan.hours or min(plan.hours) == max(plan.hours):
        return Grid("", (), ())
    rows = []
    for gpus, run in groupby(range(HOURS), key=lambda hour: plan.hours[hour]):
        hours = list(run)
        most = max(plan.demand.profile[hour] for hour in hours) * plan.demand.rate
        span = f"{hours[0]:02}–{hours[-1] + 1:02}"
        rows.append(Row(f"hours.{span}", (span, Figure(most), Figure(gpus))))
    whole = HOURS * max(plan.hours)
    notes = [
        f"{''.join(BARS[min(7, 8 * gpus // (max(plan.hours) + 1))] for gpus in plan.hours)}  "
        f"{sum(plan.hours):,} GPU hours a day, {sum(plan.hours) / whole:.0%} of {whole:,} without scaling"
    ]
    if plan.usd_per_day is not None:
        notes.append(f"{plan.usd_per_day:,.0f} USD a day, {plan.usd_per_month:,.0f} USD in {DAYS} days")
    columns = ("hours", "requests/s at most", "GPUs")
    return Grid("The cheapest over the day", columns, tuple(rows), tuple(notes))


def _front(plan: Plan) -> Grid:
    rows = [
        Row(
            f"front.{number}",
            (
                point.choice.text(**_named(plan)), Figure(point.choice.gpus), Figure(point.per_user, "", "modelled"),
                Figure(point.per_gpu, "", "modelled"),
            ),
        )
        for number, point in enumerate(_thinned(plan.front), start=1)
    ]  # fmt: skip
    title = "Output tokens a second of a user against those of a GPU: none is beaten in both"
    return Grid(title, ("deployment", "GPUs", "a user's", "a GPU's"), tuple(rows))


def _thinned(every: Sequence[Point]) -> list[Point]:
    """Return both ends of a front and what lies most evenly between them on a logarithmic scale of speed.

    Deployments of more than DEARER times the fewest devices are left to the JSON.
    """
    front = [point for point in every if point.choice.gpus <= DEARER * every[0].choice.gpus]
    if len(front) <= SHOWN:
        return list(front)
    low, high = front[0].per_user, front[-1].per_user
    wanted = [low * (high / low) ** (step / (SHOWN - 1)) for step in range(SHOWN)]
    nearest = {min(range(len(front)), key=lambda i: abs(front[i].per_user - speed)) for speed in wanted}
    return [front[index] for index in sorted(nearest)]


def _rejected(plan: Plan) -> Grid:
    """Return one line for each accelerator and limit: of the family that came nearest to it."""
    grouped: dict[tuple[str, str], list[Rejected]] = {}
    for one in plan.rejected:
        grouped.setdefault((one.family.accelerator.name, one.limit), []).append(one)
    rows = []
    for (name, limit), found in grouped.items():
        nearest = min(found, key=lambda one: one.miss)
        apart = " apart" if nearest.family.readers else ""
        cells = (name, Figure(len(found)), f"{nearest.reason} ({nearest.family.unit()}{apart})")
        rows.append(Row(f"rejected.{name}.{limit}", cells))
    return Grid("Rejected", ("accelerator", "families", "limit of what came nearest"), tuple(rows))
