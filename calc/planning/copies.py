"""What one unit of a family gives at a share of the load, for every number of units at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from calc.errors import CalcError
from calc.media.shares import Input
from calc.model import Model
from calc.planning.demand import Lengths
from calc.planning.families import Family
from calc.records import Record, named_record, replace
from calc.serving.apart import prompt_wait, transfer_s
from calc.serving.deployment import Deployment, Settings
from calc.serving.quantiles import crowd_at, length_at, wait_at
from calc.serving.steady import NEARLY, Replica, Steady, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[Any]


@named_record
class States(Record):
    """Deployments of one family under a rate, an array each; infinite where the queue grows without end.

    Units: seconds, requests per second. ``ttft`` and ``tpot`` at the quantile asked for. ``most``: the rate at which
    the queue grows without end. ``reading``: units that only read prompts, beside ``units``.
    """

    units: Any
    reading: Any
    gpus: Any
    ttft: Any
    tpot: Any
    mean_ttft: Any
    mean_tpot: Any
    most: Any
    stable: Any

    def part(self, which: Any) -> States:
        """Return some of the deployments."""
        return States(**{name: values[which] for name, values in vars(self).items()})

    def meets(self, ttft: float, tpot: float) -> Values:
        """Return which of them are as fast as asked for."""
        found: Values = self.stable & (self.ttft <= ttft) & (self.tpot <= tpot)
        return found


class Unit:
    """One unit of a family under a workload; nothing of its kernels is counted before it is known to fit."""

    def __init__(
        self, model: Model, family: Family, lengths: Lengths, cached: float, inputs: Sequence[Input] = ()
    ) -> None:
        self.family, self.lengths, self._cached = family, lengths, cached
        self.deployment = Deployment(
            model, family.accelerator, family.layout, family.engine,
            weights_dtype=family.weights_dtype, cache_dtype=family.cache_dtype, settings=Settings(),
            inputs=inputs,
        )  # fmt: skip

    @cached_property
    def work(self) -> Work:
        """What each request asks for."""
        return replace(self.lengths.work(self._cached), encoding_s=self.deployment.encoding_s)

    def misses(self) -> tuple[str, float]:
        """Return why nothing can be served, and how many times the memory it would take; or an empty text."""
        memory = self.deployment.memory
        if not self.deployment.fits:
            lacking = -float(memory.cache)
            reason = f"memory: {lacking / 2**30:,.1f} GiB too little for the weights"
            return reason, 1 + lacking / float(memory.capacity)
        held = float(self.deployment.capacity(self.work.longest).allocated_sequences)
        return (f"memory: the cache holds {held:.2g} of one sequence", 1.0) if held < 1 else ("", 1.0)

    @cached_property
    def replica(self) -> Replica:
        """One copy that reads and decodes."""
        return Replica(self.deployment.steps, self.work, self.deployment.limits(self.work))

    @cached_property
    def decoder(self) -> Replica:
        """One copy that only decodes."""
        return self.replica.only_decoding()

    @cached_property
    def prompts_per_s(self) -> float:
        """Prompts per second of a copy that only reads them."""
        return float(self.replica.prompt_rate())

    def gpus(self, units: Values, readers: Values) -> Values:
        """Return the devices of so many units that decode, with those that read prompts for them."""
        import numpy as np

        found: Values = self.family.devices * (units + np.ceil(readers * units).astype(int))
        return found

    def together(self, units: Values, rate: float, quantile: float) -> States:
        """Return what ``units`` give that read and decode.

        Of the time to first token the prompt's part is that of a prompt of the quantile, and so is the wait for a
        place: quantiles added up lie on or above the quantile of the sum.
        """
        import numpy as np

        each = rate / (units * self.family.layout.dp)
        mean = self.replica.at_rate(each)
        read = mean.ttft - mean.queue
        waits = wait_at(quantile, mean.queue, self.replica.waiting_chance(each))
        return self._states(
            units, np.zeros(len(units)), self.replica, mean, each, quantile, most=mean.saturation,
            mean_ttft=mean.ttft, ttft=read * length_at(quantile, self.lengths.input_spread) + waits,
        )  # fmt: skip

    def apart(self, units: Values, readers: Values, rate: float, quantile: float) -> States:
        """Return what ``units`` that decode give, beside ``readers`` times as many that read prompts.

        The first token is that which a decoding copy sends: after the wait and the work of reading, and the cache's
        way over the link that joins all devices.
        """
        import numpy as np

        copies, one = units * self.family.layout.dp, 1 / self.prompts_per_s
        each = rate / copies
        read_most = self.prompts_per_s * np.ceil(readers * units) / units
        mean = self.decoder.at_rate(np.minimum(each, NEARLY * read_most))
        load = np.minimum(each / read_most, NEARLY)
        line = prompt_wait(load, one, self.lengths.input_spread)
        host = self.family.engine.request_s
        moving = self._moving(self.gpus(units, readers))
        waits = wait_at(quantile, line, load) + wait_at(quantile, mean.queue, self.decoder.waiting_chance(each))
        long = length_at(quantile, self.lengths.input_spread)
        return self._states(
            units, readers, self.decoder, mean, each, quantile, most=np.minimum(mean.saturation, read_most),
            mean_ttft=one + line + mean.queue + host + moving, ttft=(one + moving) * long + host + waits,
        )  # fmt: skip

    def _moving(self, gpus: Values) -> Values:
        """Return the seconds that a prompt's cache is on its way: within a node, or between nodes."""
        import numpy as np

        size = self.family.accelerator.node_size
        tokens = self.work.input_tokens
        across = transfer_s(self.deployment, tokens, size + 1)
        try:
            inside = transfer_s(self.deployment, tokens, size)
        except CalcError:  # devices of a node that only the network joins
            inside = across
        return np.where(gpus > size, across, inside)

    def _states(
        self, units: Values, readers: Values, replica: Replica, mean: Steady, each: Values, quantile: float, *,
        most: Any, mean_ttft: Values, ttft: Values,
    ) -> States:  # fmt: skip
        """Return states, infinite where unstable; a step is that of the quantile's number of sequences."""
        import numpy as np

        crowded = each * crowd_at(quantile, mean.running)
        tpot = replica.at_rate(np.minimum(crowded, NEARLY * NEARLY * most)).itl
        stable = (each < most) & np.asarray(mean.stable, dtype=bool)
        times = {"ttft": ttft, "tpot": tpot, "mean_ttft": mean_ttft, "mean_tpot": mean.itl}
        return States(
            units=units,
            reading=np.ceil(readers * units).astype(int),
            gpus=self.gpus(units, readers),
            most=np.broadcast_to(most, units.shape) * units * self.family.layout.dp,
            stable=stable,
            **{name: np.where(stable, values, np.inf) for name, values in times.items()},
        )
