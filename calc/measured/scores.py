"""The model against the world: predictions beside published measurements, and the errors by whatever groups them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calc.confidence import wider
from calc.deviations import Errors, deviations
from calc.errors import UnknownName
from calc.files import write_json
from calc.measured.readers import predict
from calc.measured.rows import Measurement, NotModelled, read
from calc.progress import Progress
from calc.records import Record, record
from calc.results import Figure, Grid, Result, Row

BARS: Mapping[str, tuple[str, float]] = {
    "operator": ("median", 0.12),
    "serving.cache_given_memory": ("median", 0.005),
    "serving.cache": ("median", 0.05),
    "serving.weights": ("median", 0.01),
    "serving.tpot": ("median", 0.15),
    "serving.ttft": ("median", 0.35),
    "serving.throughput": ("median", 0.20),
    "training.memory": ("mean", 0.05),
    "training.time": ("mean", 0.08),
    "training.gpu_hours": ("mean", 0.15),
}
"""What this program sets out to reach: quantity → (statistic, error)."""


@record
class Scored(Record):
    """A measurement and what the program predicts for it."""

    row: Measurement
    quantity: str
    predicted: float

    @property
    def error(self) -> float:
        """Predicted / measured − 1."""
        return self.predicted / self.row.value - 1


@record
class Accuracy(Record):
    """Every measurement of a file, predicted or refused."""

    scored: tuple[Scored, ...]
    refused: tuple[tuple[Measurement, str], ...]

    def groups(self, by: str) -> dict[str, Errors]:
        """Return the errors by quantity (and wider quantities), kind, source, hardware or model."""
        grouped: dict[str, list[Scored]] = {}
        for one in self.scored:
            for key in GROUPINGS[by](one):
                grouped.setdefault(key, []).append(one)
        return {key: deviations([1 + one.error for one in scored]) for key, scored in sorted(grouped.items())}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract: errors by every grouping, each prediction, each refusal."""
        return {
            "errors": {by: {key: asdict(errors) for key, errors in self.groups(by).items()} for by in GROUPINGS},
            "bars": {name: {"statistic": kind, "at_most": most} for name, (kind, most) in BARS.items()},
            "rows": [
                {
                    "id": one.row.id, "quantity": one.quantity, "metric": one.row.metric, "unit": one.row.unit,
                    "measured": one.row.value, "predicted": one.predicted, "error": one.error,
                    "source": one.row.source,
                }
                for one in self.scored
            ],
            "not_modelled": [{"id": row.id, "source": row.source, "reason": reason} for row, reason in self.refused],
        }  # fmt: skip


def short_source(row: Measurement) -> str:
    """Return the source without its commit, path details and retrieval notes."""
    return row.source.partition(" (")[0].partition(" @")[0].partition(", values")[0].partition(", ID")[0][:70]


GROUPINGS: Mapping[str, Callable[[Scored], Iterable[str]]] = {
    "quantity": lambda one: wider(one.quantity),
    "kind": lambda one: [one.row.kind],
    "source": lambda one: [f"{one.quantity} – {short_source(one.row)}"],
    "hardware": lambda one: [f"{one.quantity} – {one.row.first('hardware', 'gpu', 'system') or 'not stated'}"],
    "model": lambda one: [f"{one.quantity} – {one.row.first('model') or 'stated dimensions'}"],
}


def score(rows: Iterable[Measurement], progress: Progress | None = None) -> Accuracy:
    """Predict every measurement, second figures included, or say why not."""
    every = [further for row in rows for further in (row, *row.further())]
    scored: list[Scored] = []
    refused: list[tuple[Measurement, str]] = []
    for number, row in enumerate(every):
        if progress:
            progress(row.id, number, len(every))
        try:
            found = predict(row)
        except NotModelled as reason:
            refused.append((row, str(reason)))
            continue
        scored.append(Scored(row, found.quantity, found.value))
    return Accuracy(tuple(scored), tuple(refused))


def accuracy(
    file: str | Path | None = None, *, by: str = "quantity", rows: bool = False, progress: Progress | None = None
) -> Result:
    """Return the errors of the modelled figures on published measurements, and why some rows cannot be predicted.

    ``file`` is a JSON list of measurements (id, kind, source, config, metric, value, unit, tier); by default the ones
    that the program carries. ``by``: quantity, kind, source, hardware or model. ``rows`` adds every prediction.

    Raises:
        SpecError: the file cannot be read or holds no measurements.
        UnknownName: an unknown grouping.
    """
    if by not in GROUPINGS:
        raise UnknownName("grouping", by, GROUPINGS)
    found = score(read(file), progress)
    grids = [_errors(found, by), *([_rows(found)] if rows else []), _refusals(found)]
    return Result(kind="accuracy", data=found.to_dict(), grids=tuple(grids))


def record_errors(result: Result, path: str | Path) -> None:
    """Write the errors by quantity to a file, whole or not at all: what ``calc.confidence`` reads.

    Raises:
        SpecError: it cannot be written.
    """
    write_json({"errors": result.data["errors"]["quantity"]}, path)


def _errors(found: Accuracy, by: str) -> Grid:
    columns = ("", "n", "median", "mean", "90 %", "bias", "bar")
    lines = [
        Row(
            f"{by}.{key}",
            (key, Figure(errors.n), *(Figure(x, "percent") for x in (errors.median, errors.mean, errors.p90)),
             Figure(errors.bias, "percent"), _bar(key, errors) if by == "quantity" else ""),
        )
        for key, errors in found.groups(by).items()
    ]  # fmt: skip
    note = "errors are |predicted / measured − 1|; bias keeps the sign; bar: what this program sets out to reach"
    return Grid(f"Predicted against measured, by {by}", columns, tuple(lines), (note,))


def _bar(quantity: str, errors: Errors) -> str:
    if quantity not in BARS:
        return ""
    statistic, most = BARS[quantity]
    reached = getattr(errors, statistic) <= most
    return f"{statistic} {'≤' if reached else '>'} {100 * most:g} %"


def _rows(found: Accuracy) -> Grid:
    lines = [
        Row(f"row.{one.row.id}", (one.row.id, one.quantity, Figure(one.row.value), Figure(one.predicted),
                                  one.row.unit, Figure(one.error, "percent")))
        for one in found.scored
    ]  # fmt: skip
    return Grid("Every prediction", ("row", "quantity", "measured", "predicted", "unit", "error"), tuple(lines))


def _refusals(found: Accuracy) -> Grid:
    reasons = Counter(reason for _, reason in found.refused)
    example = {reason: row.id for row, reason in reversed(found.refused)}
    lines = [
        Row(f"refused.{number}", (Figure(count), reason, example[reason]))
        for number, (reason, count) in enumerate(reasons.most_common(), start=1)
    ]
    total = len(found.refused)
    title = f"Not modelled: {total:,} of {total + len(found.scored):,}"
    return Grid(title, ("rows", "why", "for example"), tuple(lines))
