"""Several models on one fleet: each planned for its own demand, devices and money added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calc.errors import SpecError
from calc.planning.answer import Plan
from calc.planning.api import plan
from calc.planning.demand import HOURS
from calc.progress import Progress
from calc.records import Record, named_record
from calc.results import Figure, Grid, Result, Row


@named_record
class Fleet(Record):
    """Plans of several models; sums are None, or leave a model out, where nothing would do for it."""

    plans: tuple[Plan, ...]

    @property
    def complete(self) -> bool:
        """Whether every model has a deployment, and all together no more devices than any may have."""
        return all(one.best for one in self.plans) and not self.beyond

    @property
    def beyond(self) -> int:
        """Devices of the busiest hour above the limit."""
        return max(0, sum(self.gpus.values()) - max(one.max_gpus for one in self.plans))

    @property
    def hours(self) -> Mapping[str, tuple[int, ...]]:
        """Devices by accelerator and hour of the day: models whose peaks differ share them."""
        found: dict[str, list[int]] = {}
        for one in self.plans:
            if one.best:
                total = found.setdefault(one.best.family.accelerator.name, [0] * HOURS)
                for hour, gpus in enumerate(one.hours):
                    total[hour] += gpus
        return {name: tuple(hours) for name, hours in found.items()}

    @property
    def gpus(self) -> Mapping[str, int]:
        """Devices to have of each accelerator: those of the busiest hour of all models together."""
        return {name: max(hours) for name, hours in self.hours.items()}

    @property
    def usd_per_day(self) -> float | None:
        """The day's bill; None where a price is not known or a model has no deployment."""
        bills = [one.usd_per_day for one in self.plans]
        return None if None in bills else float(sum(bill for bill in bills if bill is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract, base units."""
        return {
            "plans": [one.to_dict() for one in self.plans],
            "gpus": dict(self.gpus),
            "gpus_by_hour": {name: list(hours) for name, hours in self.hours.items()},
            "beyond": self.beyond,
            "usd_per_day": self.usd_per_day,
        }

    def to_result(self) -> Result:
        """Return the fleet as a table and data."""
        rows = [Row(f"model.{number}", _cells(one)) for number, one in enumerate(self.plans, start=1)]
        total = ", ".join(f"{count:,} × {name}" for name, count in self.gpus.items())
        figures = Figure(sum(self.gpus.values())), Figure(self.usd_per_day, "", "modelled")
        rows.append(Row("total", ("total", None, total, *figures), emphasis=True))
        columns = ("model", "requests/s", "deployment", "GPUs", "USD/day")
        notes = ("total: GPUs of the busiest hour; what each model needs: calc plan MODEL",)
        grid = Grid("A fleet", columns, tuple(rows), notes)
        said = [f"together {self.beyond:,} devices more than the limit of each"] if self.beyond else []
        said += dict.fromkeys(note for one in self.plans for note in one.notes)
        return Result(kind="fleet", data=self.to_dict(), grids=(grid,), notes=tuple(said))


def _cells(one: Plan) -> tuple[str | Figure | None, ...]:
    best = one.best
    if best is None:
        limits = ", ".join(sorted({each.limit for each in one.rejected}))
        return one.title, Figure(one.demand.rate), f"nothing would do: {limits}", None, None
    bill = Figure(one.usd_per_day, "", "modelled")
    return one.title, Figure(one.demand.rate), best.text(), Figure(best.gpus), bill


def fleet(
    demands: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, progress: Progress | None = None, **common: Any
) -> Fleet:
    """Return the plans of several models; each of ``demands`` are arguments of ``calc.plan``, ``common`` are shared.

    Raises:
        CalcError: as ``calc.plan``.
    """
    if not demands:
        raise SpecError("a fleet needs one model or more")
    demands = [demands] if isinstance(demands, Mapping) else demands
    return Fleet(plans=tuple(plan(**{**common, **one}, progress=progress) for one in demands))
