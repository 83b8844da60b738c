"""The search: families one by one, each swept over its units; the least that do, and why others do not."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any

from calc.errors import CalcError, SpecError
from calc.media.shares import Input
from calc.model import Model
from calc.planning.answer import Choice, Plan, Point, Rejected
from calc.planning.copies import States, Unit
from calc.planning.demand import Demand, Objectives
from calc.planning.families import Family
from calc.records import Record, named_record
from calc.units import times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]

DENSE = 1024
"""Numbers of units up to which every one is looked at; beyond, steps of a hundredth first, then all between two."""
SHOWN_QUANTILES = (0.5, 0.9, 0.99)
TELLING = 0.01
"""Gain in both directions from which a point of the front is another one."""


@named_record
class Question(Record):
    """What every family is asked."""

    model: Model
    demand: Demand
    wanted: Objectives
    cached: float
    max_gpus: int
    usd_per_hour: float | None
    disaggregated: bool
    inputs: tuple[Input, ...] = ()
    """What stands in every prompt beside its text; the demand's lengths are with it."""


class Search:
    """Looks at families, then says what was found."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.choices: list[Choice] = []
        self.rejected: list[Rejected] = []
        self.evaluated = 0
        self._swept: list[tuple[Family, States]] = []

    def look(self, family: Family) -> None:
        """Find the least units of a family that do, or why none do; prompts read together and apart."""
        try:
            asked = self.question
            unit = Unit(asked.model, family, asked.demand.lengths, asked.cached, asked.inputs)
            reason, miss = unit.misses()
        except CalcError as error:
            reason, miss = f"refused: {error}", inf
        if reason:
            self.rejected.append(Rejected(family=family, reason=reason, miss=miss))
            return
        variants = [family, *(family.apart() if self.question.disaggregated else ())]
        for group in (variants[:1], variants[1:]):
            for variant, states in self._sweep(unit, group):
                self._judge(unit, variant, states)

    def _sweep(self, unit: Unit, variants: list[Family]) -> Iterator[tuple[Family, States]]:
        """Yield the states of several variants, all computed in one sweep."""
        import numpy as np

        counts = [self._counts(unit, variant) for variant in variants]
        if not sum(map(len, counts)):
            return
        readers = np.repeat([variant.readers for variant in variants], [len(each) for each in counts])
        states = self._states(unit, np.concatenate(counts), readers, self.question.demand.rate)
        self.evaluated += len(states.units)
        ends = np.cumsum([len(each) for each in counts])
        for variant, start, end in zip(variants, [0, *ends], ends, strict=False):
            if end > start:  # a unit and its readers fit in the devices
                yield variant, states.part(slice(start, end))

    def _states(self, unit: Unit, units: Values, readers: Values, rate: float, quantile: float | None = None) -> States:
        at = self.question.wanted.quantile if quantile is None else quantile
        if readers.any():
            return unit.apart(units, readers, rate, at)
        return unit.together(units, rate, at)

    def _counts(self, unit: Unit, variant: Family) -> Values:
        """Return the numbers of units to look at first."""
        import numpy as np

        most = self.question.max_gpus // variant.devices
        counts = np.arange(1, min(most, DENSE) + 1)
        if most > DENSE:
            steps = int(np.ceil(np.log(most / DENSE) / np.log1p(1 / 100)))
            counts = np.concatenate([counts, np.geomspace(DENSE, most, steps + 1)[1:].round().astype(int)])
        fits: Values = counts[unit.gpus(counts, np.full(len(counts), variant.readers)) <= self.question.max_gpus]
        return fits

    def _judge(self, unit: Unit, variant: Family, states: States) -> None:
        self._swept.append((variant, states.part(states.stable)))
        meets = states.meets(self.question.wanted.ttft, self.question.wanted.tpot)
        if not meets.any():
            reason, miss = self._why(states)
            self.rejected.append(Rejected(family=variant, reason=reason, miss=miss))
            return
        least = self._least(unit, variant, states, int(meets.argmax()), self.question.demand.rate)
        self.choices.append(self._choice(variant, least, 0))

    def _least(self, unit: Unit, variant: Family, states: States, first: int, rate: float) -> States:
        """Return the first deployment that does, found among all those since the last looked at.

        A load's fixed point comes to rest within 0.2 % (``calc.serving.steady``): as close is the least of thousands.
        """
        import numpy as np

        before = int(states.units[first - 1]) if first else 0
        if int(states.units[first]) - before <= 1:
            return states.part(slice(first, first + 1))
        between = np.arange(before + 1, int(states.units[first]) + 1)
        found = self._states(unit, between, np.full(len(between), variant.readers), rate)
        self.evaluated += len(between)
        meets = found.meets(self.question.wanted.ttft, self.question.wanted.tpot)
        index = int(meets.argmax()) if meets.any() else len(between) - 1
        return found.part(slice(index, index + 1))

    def _why(self, states: States) -> tuple[str, float]:
        """Return the first limit that a family hits with all its units, and by how many times it misses."""
        wanted, gpus = self.question.wanted, f"{self.question.max_gpus:,} GPUs"
        if not states.stable.any():
            most = float(states.most.max())
            return f"rate: {most:,.3g} requests/s at most on {gpus}", self.question.demand.rate / most
        tpot, ttft = float(states.tpot.min()), float(states.ttft.min())
        if (miss := tpot / wanted.tpot) > 1:
            return f"TPOT: {1000 * tpot:,.3g} ms at best, {times(miss)} times the objective", miss
        if (miss := ttft / wanted.ttft) > 1:
            return f"TTFT: {ttft:,.3g} s at best, {times(miss)} times the objective", miss
        return f"devices: {gpus} meet one objective, not both", 1.0

    def _choice(self, family: Family, states: States, index: int) -> Choice:
        demand, gpus = self.question.demand, int(states.gpus[index])
        tokens = demand.rate * demand.lengths.output_tokens
        price = self.question.usd_per_hour
        if price is None and family.accelerator.price is not None:
            price = float(family.accelerator.price.usd_per_hour)
        hourly = None if price is None else price * gpus
        times = ("ttft", "tpot", "mean_ttft", "mean_tpot")
        return Choice(
            family=family,
            units=int(states.units[index]),
            reading_units=int(states.reading[index]),
            gpus=gpus,
            rate=demand.rate,
            saturation=float(states.most[index]),
            output_tokens_per_s_per_gpu=tokens / gpus,
            usd_per_hour=hourly,
            usd_per_million_output_tokens=None if hourly is None else 1e6 * hourly / 3600 / tokens,
            **{f"{name}_s": float(getattr(states, name)[index]) for name in times},
        )

    def plan(self) -> Plan:
        """Return the plan of all families looked at.

        Raises:
            SpecError: every one was refused, as of a model that writes no tokens.
        """
        question = self.question
        if self.rejected and all(one.limit == "refused" for one in self.rejected) and not self.choices:
            raise SpecError(self.rejected[0].reason.partition(": ")[2])
        self.choices.sort(key=_rank)
        front, hours, quantiles = self._front(), self._hours(), self._quantiles()
        lengths = question.demand.lengths
        return Plan(
            model=question.model.name,
            title=question.model.heading,
            demand=question.demand,
            objectives=question.wanted,
            max_gpus=question.max_gpus,
            evaluated=self.evaluated,
            choices=tuple(self.choices),
            front=front,
            rejected=tuple(self.rejected),
            hours=hours,
            quantiles=quantiles,
            notes=question.model.beyond(round(lengths.input_tokens + lengths.output_tokens)),
        )

    def _front(self) -> tuple[Point, ...]:
        """Return the deployments that none beats in both tokens per second of a user and of a device."""
        import numpy as np

        swept = [(family, states) for family, states in self._swept if len(states.units)]
        if not swept:
            return ()
        user = np.concatenate([1 / states.mean_tpot for _, states in swept])
        gpus = np.concatenate([states.gpus for _, states in swept])
        origin = np.repeat(np.arange(len(swept)), [len(states.units) for _, states in swept])
        within = np.concatenate([np.arange(len(states.units)) for _, states in swept])
        tokens = self.question.demand.rate * self.question.demand.lengths.output_tokens
        found: list[Point] = []
        for index in np.lexsort((gpus, -user)):
            speed, each = float(user[index]), tokens / float(gpus[index])
            last = found[-1] if found else None
            if last is None or (each > (1 + TELLING) * last.per_gpu and speed < last.per_user / (1 + TELLING)):
                family, states = swept[origin[index]]
                choice = self._choice(family, states, int(within[index]))
                found.append(Point(per_user=speed, per_gpu=each, choice=choice))
        return tuple(reversed(found))

    def _best(self) -> tuple[Choice, Unit] | None:
        if not self.choices:
            return None
        best = self.choices[0]
        asked = self.question
        return best, Unit(asked.model, best.family, asked.demand.lengths, asked.cached, asked.inputs)

    def _hours(self) -> tuple[int, ...]:
        """Return the devices of the best family by hour: the least units that meet the objectives at its rate."""
        import numpy as np

        if (now := self._best()) is None:
            return ()
        best, unit = now
        demand, wanted, needed = self.question.demand, self.question.wanted, {0.0: 0, 1.0: best.gpus}
        units = np.arange(1, best.units + 1)
        readers = np.full(len(units), best.family.readers)
        for share in set(demand.profile) - set(needed):
            states = self._states(unit, units, readers, share * demand.rate)
            meets = states.meets(wanted.ttft, wanted.tpot)
            needed[share] = int(states.gpus[meets.argmax()]) if meets.any() else best.gpus
        return tuple(needed[share] for share in demand.profile)

    def _quantiles(self) -> dict[float, tuple[float, float]]:
        """Return TTFT and TPOT of the best deployment at several quantiles."""
        import numpy as np

        if (now := self._best()) is None:
            return {}
        best, unit = now
        wanted = sorted({*SHOWN_QUANTILES, self.question.wanted.quantile})  # the order of the answer
        units, readers = np.array([best.units]), np.array([best.family.readers])
        states = {at: self._states(unit, units, readers, best.rate, at) for at in wanted}
        times = {at: (float(each.ttft[0]), float(each.tpot[0])) for at, each in states.items()}
        return times | {self.question.wanted.quantile: (best.ttft_s, best.tpot_s)}


def _rank(one: Choice) -> tuple[Any, ...]:
    """Return what choices are sorted by: price, devices, then whether prompts are read apart, then load."""
    return one.usd_per_hour is None, one.usd_per_hour or 0.0, one.gpus, one.reading_units > 0, one.rate / one.saturation
