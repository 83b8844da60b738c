"""A plan: what was chosen, what else would do, what was rejected and why, and the day's bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from calc.confidence import KnownError, known
from calc.errors import MissingExtra
from calc.planning.demand import Demand, Objectives
from calc.planning.families import Family
from calc.records import Record, named_record
from calc.results import Result

if TYPE_CHECKING:
    import pandas

DAYS = 30.4
"""Of a month."""
NOT_MODELLED = (
    "failures and spare devices, routing that is not even, prompts and answers whose lengths go together, discounts of "
    "long contracts; what calc serve does not model"
)


@named_record
class Choice(Record):
    """A deployment that meets the objectives. Units: seconds, requests per second, USD per hour."""

    family: Family
    units: int
    """Of the family, that decode."""
    reading_units: int
    """That only read prompts."""
    gpus: int
    ttft_s: float
    """At the objective's quantile."""
    tpot_s: float
    mean_ttft_s: float
    mean_tpot_s: float
    rate: float
    saturation: float
    """Requests per second at which the queue grows without end."""
    output_tokens_per_s_per_gpu: float
    usd_per_hour: float | None
    usd_per_million_output_tokens: float | None
    """All that is paid, prompts' part too, over what is written."""

    def text(self, *, form: bool = True, engine: bool = False) -> str:
        """Say it in a few words: accelerator, units, what a unit is; the weights' format and the engine if asked."""
        count = f"{self.reading_units} + {self.units}" if self.reading_units else f"{self.units}"
        unit = self.family.unit() if form else self.family.degrees()
        words = f"{self.family.accelerator.name} {count} × {unit}"
        return f"{words} {self.family.engine.name}" if engine else words

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract."""
        family, layout = self.family, self.family.layout
        own = {name: value for name, value in vars(self).items() if name != "family"}
        return {
            "accelerator": family.accelerator.name, "engine": family.engine.name, "tp": layout.tp, "pp": layout.pp,
            "ep": layout.ep, "dp": layout.dp, "weights_dtype": family.weights_dtype,
            "cache_dtype": family.cache_dtype, "disaggregated": bool(self.reading_units), **own,
        }  # fmt: skip


@named_record
class Point(Record):
    """A deployment of the front: tokens per second of one user, and of one device."""

    per_user: float
    per_gpu: float
    choice: Choice


@named_record
class Rejected(Record):
    """A family with which no number of units would do, and the first limit that it hits."""

    family: Family
    reason: str
    miss: float
    """How many times too much it takes, or too slow it is: what came nearest has the least."""

    @property
    def limit(self) -> str:
        """The limit's name: memory, rate, TTFT, TPOT, devices or refused."""
        return self.reason.partition(":")[0]


@named_record
class Plan(Record):
    """The answer of ``calc.plan``.

    ``choices``: one for each family that can meet the objectives, cheapest first. ``front``: deployments that no other
    beats in both tokens per second of a device and of a user. ``hours``: devices of the first choice's family by hour
    of the day. ``quantiles``: its TTFT and TPOT in seconds at several of them.
    """

    model: str
    title: str
    demand: Demand
    objectives: Objectives
    max_gpus: int
    evaluated: int
    """Deployments that were looked at."""
    choices: tuple[Choice, ...]
    front: tuple[Point, ...]
    rejected: tuple[Rejected, ...]
    hours: tuple[int, ...]
    quantiles: Mapping[float, tuple[float, float]]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Choice | None:
        """The cheapest deployment, or None where nothing would do."""
        return self.choices[0] if self.choices else None

    @property
    def usd_per_day(self) -> float | None:
        """The day's bill where devices are returned in quiet hours; None without a price."""
        if self.best is None or self.best.usd_per_hour is None:
            return None
        return sum(self.hours) * self.best.usd_per_hour / self.best.gpus

    @property
    def usd_per_month(self) -> float | None:
        """The bill of 30.4 such days."""
        return None if self.usd_per_day is None else DAYS * self.usd_per_day

    @property
    def errors(self) -> Mapping[str, KnownError]:
        """Measured errors of the kinds of figures that a plan rests on."""
        names = ("serving.ttft", "serving.tpot", "serving.throughput")
        return {name: error for name in names if (error := known(name))}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract, base units."""
        demand, lengths = self.demand, self.demand.lengths
        return {
            "model": self.model,
            "demand": {"rate": demand.rate, **asdict(lengths), "profile": list(demand.profile)},
            "objectives": asdict(self.objectives),
            "max_gpus": self.max_gpus,
            "evaluated": self.evaluated,
            "choices": [choice.to_dict() for choice in self.choices],
            "quantiles": [
                {"quantile": at, "ttft_s": ttft, "tpot_s": tpot} for at, (ttft, tpot) in self.quantiles.items()
            ],
            "front": [
                {
                    "tokens_per_s_per_user": point.per_user,
                    "output_tokens_per_s_per_gpu": point.per_gpu,
                    "deployment": point.choice.to_dict(),
                }
                for point in self.front
            ],
            "rejected": [
                {"family": one.family.text(), "disaggregated": one.family.readers > 0, "reason": one.reason}
                for one in self.rejected
            ],
            "gpus_by_hour": list(self.hours),
            "usd_per_day": self.usd_per_day,
            "usd_per_month": self.usd_per_month,
            "errors": {name: asdict(error) for name, error in self.errors.items()},
            "not_modelled": NOT_MODELLED,
        }

    def to_result(self) -> Result:
        """Return the plan as tables and data."""
        from calc.planning.view import grids

        return Result(kind="plan", data=self.to_dict(), grids=grids(self), notes=self.notes)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the choices as a table of pandas, one line each.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise MissingExtra("to_pandas needs pandas: pip install pandas") from None
        return DataFrame([choice.to_dict() for choice in self.choices])
