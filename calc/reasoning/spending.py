"""Time and money of a chain: by the user's rates, or modelled on one accelerator."""

from __future__ import annotations

from typing import Any

from calc.checks import number
from calc.confidence import KnownError, operator_error
from calc.costs import Setting
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.model import Model, Pass
from calc.reasoning.chains import Chain
from calc.records import Record, named_record
from calc.results import Figure
from calc.roofline import time_pass
from calc.units import memory


@named_record
class SharedCache(Record):
    """The cache of samples at their longest context, which share the prompt's positions. Units: bytes.

    ``unshared_bytes``: with the prompt's positions for every sample. ``state_bytes``: each keeps a state of its own.
    """

    bytes: int
    unshared_bytes: int
    state_bytes: int

    @classmethod
    def of(cls, model: Model, prompt: int, peak: int, samples: int, form: str) -> SharedCache:
        """Count it for contexts of ``peak`` tokens behind a prompt."""
        before, then = int(model.cache(prompt, form=form).bytes), model.cache(peak, form=form)
        return cls(
            bytes=before + samples * (int(then.bytes) - before),
            unshared_bytes=samples * int(then.bytes),
            state_bytes=samples * int(then.state_bytes),
        )


@named_record
class Spent(Record):
    """Seconds and dollars, None where no rate says; ``error`` is that of a modelled time."""

    seconds: float | None = None
    usd: float | None = None
    how: str = ""
    price: str = ""
    accelerator: str | None = None
    tokens_per_second: float | None = None
    error: KnownError | None = None
    usd_modelled: bool = False
    """Whether the money is that of a modelled time."""

    def time(self) -> Figure:
        """Return the time, with the error that it carries."""
        return self.error.figure(self.seconds, "s") if self.error and self.seconds else Figure(self.seconds, "s")

    def money(self) -> Figure:
        """Return the money, with the error of the time that is in it."""
        modelled = self.error if self.usd_modelled and self.usd else None
        return modelled.figure(self.usd or 0.0, "USD") if modelled else Figure(self.usd, "USD")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON carries of the time."""
        low, high = (None, None)
        if self.error and self.seconds is not None:
            low, high = self.seconds * self.error.low, self.seconds * self.error.high
        return {
            "seconds": self.seconds,
            "low": low,
            "high": high,
            "tokens_per_second": self.tokens_per_second,
            "accelerator": self.accelerator,
            "provenance": "modelled" if self.error else "exact",
        }


@named_record
class Rates(Record):
    """What time and money are asked by; everything may be missing.

    ``tokens_per_second``: of one sequence; ``usd_per_hour``: of what serves it; by a million tokens otherwise.

    Raises:
        SpecError: a rate that is not positive; both an accelerator and its tokens a second; money by the hour without
            a time.
    """

    accelerator: Accelerator | None = None
    tokens_per_second: float | None = None
    usd_per_hour: float | None = None
    usd_per_million: float | None = None
    usd_per_million_input: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens_per_second", "usd_per_hour", "usd_per_million", "usd_per_million_input"):
            rate = getattr(self, name)
            if rate is not None:
                number(name, rate, above=0)
        if self.accelerator and self.tokens_per_second:
            raise SpecError("give either an accelerator or its tokens_per_second")
        if self.usd_per_hour and not (self.tokens_per_second or self.accelerator):
            raise SpecError("usd_per_hour needs tokens_per_second or an accelerator: how long it takes")
        if self.usd_per_hour and (self.usd_per_million or self.usd_per_million_input):
            raise SpecError("give a price by the hour or by a million tokens, not both")

    def spent(self, model: Model, chain: Chain, prompt: int, samples: int, cache_dtype: str) -> Spent:
        """Return the time of samples that run side by side, and what it costs.

        Raises:
            SpecError: the model and the caches do not fit on one accelerator.
        """
        seconds, speed, how, error = None, self.tokens_per_second, "", None
        if self.tokens_per_second:
            seconds = float(chain.generated) / self.tokens_per_second
            how = f"at {self.tokens_per_second:g} tokens a second, samples side by side"
        elif self.accelerator:
            seconds = seconds_on(self.accelerator, model, chain, prompt, samples, cache_dtype)
            speed = float(chain.generated) / seconds
            how = f"one {self.accelerator.name}, {speed:,.3g} tokens a second of one sample"
            error = operator_error(self.accelerator)
        usd, price, modelled = self._money(chain, prompt, samples, seconds)
        return Spent(
            seconds=seconds,
            usd=usd,
            how=how,
            price=price,
            accelerator=self.accelerator.name if self.accelerator else None,
            tokens_per_second=speed,
            error=error,
            usd_modelled=modelled,
        )

    def _money(self, chain: Chain, prompt: int, samples: int, seconds: float | None) -> tuple[float | None, str, bool]:
        """Return dollars, what they go by, and whether a modelled time is in them."""
        if self.usd_per_million or self.usd_per_million_input:
            generated = (self.usd_per_million or 0) * samples * float(chain.generated)
            return (generated + (self.usd_per_million_input or 0) * prompt) / 1e6, "at the rates given", False
        listed = self.accelerator.price if self.accelerator else None
        hourly = self.usd_per_hour or (listed.usd_per_hour if listed else None)
        if hourly is None or seconds is None:
            return None, "", False
        whose = "" if self.usd_per_hour or not listed else f", listed {listed.date}"
        return hourly * seconds / 3600, f"at {hourly:g} USD an hour{whose}", self.accelerator is not None


def mean_context(chain: Chain, prompt: int) -> float:
    """Return the mean context of the generated tokens, each counted as often as it is expected to be generated.

    >>> mean_context(Chain(steps=1, step_tokens=3, answer_tokens=0), 10)
    12.0
    """
    attempt = chain.step_tokens + chain.check_tokens
    starts = sum(step * chain.step_tokens for step in range(chain.steps))
    thinking = float(chain.tries) * attempt * (starts + chain.steps * (attempt + 1) / 2)
    answer = chain.answer_tokens * (chain.steps * chain.step_tokens + (chain.answer_tokens + 1) / 2)
    return float(prompt + (thinking + answer) / float(chain.generated))


def seconds_on(
    device: Accelerator, model: Model, chain: Chain, prompt: int, samples: int, cache_dtype: str = "bf16"
) -> float:
    """Return the modelled seconds of a chain on one device: the prompt, then a step of all samples for every token.

    Samples share the prompt's cache in memory; each reads it for itself. The time of a decode step is linear in the
    context between the ends of the chain, at which it is modelled.

    Raises:
        SpecError: weights and caches do not fit on one device.
    """
    peak = int(chain.peak(prompt))
    setting = Setting.of([model], peak, batch=samples, cache_dtype=cache_dtype)
    blocks = model.blocks()
    forms = setting.forms(model, blocks)
    kept = SharedCache.of(model, prompt, peak, samples, cache_dtype)
    needed = int(model.weight_bytes()) + kept.bytes + kept.state_bytes
    if needed > device.capacity:
        raise SpecError(
            f"{model.name} with {samples:,} samples needs {memory(needed)}, one {device.name} has "
            f"{memory(device.capacity)}: give tokens_per_second of what serves it"
        )

    def seconds(pass_: Pass) -> float:
        return float(sum(each.total for each in time_pass(blocks, pass_, device, forms)))

    first, last = seconds(Pass.decode(prompt + 1, samples)), seconds(Pass.decode(peak, samples))
    share = (mean_context(chain, prompt) - prompt - 1) / float(max(peak - prompt - 1, 1))
    step = first + share * (last - first)
    return seconds(Pass.prefill(prompt)) + float(chain.generated) * step
