"""The steady state of continuous batching: how many sequences run, how long a step takes, what a request waits for.

A replica is one engine: a model copy on its layout. Of R requests that enter per second each brings N new prompt tokens
(without those found in a prefix cache) and leaves after O output tokens. With n sequences running and a mean step T:

    n = R · (O/L − 1) · T                   Little's law over the decode phase; L tokens are accepted in a step
    a = R · T                               prompts that arrive during a step

*Mixed* steps carry decode tokens and prompt tokens within one budget. Arrivals are Poisson: a share of steps carries
prompts, P tokens at a time, and T is the mean of both kinds of steps. *Alone*: prompts run in steps of their own, which
every running sequence waits for: T = T_decode / (1 − R · T_prompt).

In a closed loop of c users R follows from c = R · (time to first token + (O/L − 1) · T); at a rate it is given. What
exceeds the sequences that fit waits in a queue, whose mean wait is Sakasegawa's approximation of M/G/k (1977, "An
approximation formula L_q ≈ α·ρ^β/(1−ρ)", Annals of the Institute of Statistical Mathematics 29).

All functions take numbers or numpy arrays.
"""

from __future__ import annotations

from typing import Any

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.records import Record, named_record
from calc.serving.steps import Batch, Steps, StepTime

ROUNDS = 10
"""Repetitions after which the fixed point has settled: a step depends weakly on how many sequences run."""


@named_record
class Work(Record):
    """What every request asks for: tokens in and out, on average.

    ``cached``: prompt tokens whose keys and values a prefix cache already has. ``variation``: coefficient of variation
    of the work of a request; 0 where all are alike.
    """

    input_tokens: Number
    output_tokens: Number
    cached: Number = 0
    variation: float = 1.0

    @property
    def new(self) -> Number:
        """Prompt tokens to compute: at least the last one, whose logits are needed."""
        return maximum(self.input_tokens - self.cached, 1)

    @property
    def mean_context(self) -> Number:
        """Tokens that a running sequence sees on average."""
        return self.input_tokens + self.output_tokens / 2

    @property
    def longest(self) -> Number:
        """Tokens that it sees at its end."""
        return self.input_tokens + self.output_tokens


@named_record
class Limits(Record):
    """What bounds a replica: sequences that run at once (``fits`` for those that the cache holds), tokens of a step."""

    sequences: Number
    batched_tokens: Number


@named_record
class Steady(Record):
    """A replica in its steady state. Units: seconds, requests per second, tokens.

    ``itl``: mean time between a sequence's tokens (of accepted ones, where several come at once). ``queue``: wait for a
    place. ``saturation``: the rate at which all places are taken; beyond it the queue grows without end.
    ``prompt_share``: share of the device's time that prompts take.
    """

    rate: Number
    running: Number
    step: Number
    itl: Number
    ttft: Number
    queue: Number
    saturation: Number
    stable: Any
    prompt_share: Number
    decode_step: StepTime
    prompt_step: StepTime
    prompt_tokens: Number
    """Prompt tokens of a step that carries any."""
    limited: Any
    """Whether every place is taken."""

    @property
    def utilization(self) -> Number:
        """Rate over the rate of saturation."""
        return self.rate / self.saturation


@named_record
class _Point(Record):
    """The mean step at a rate and a number of running sequences."""

    step: Number
    first: Number
    """Seconds from a prompt's entry into the batch to its first token."""
    decode: StepTime
    prompt: StepTime
    tokens: Number
    share: Number


class Replica:
    """One engine under a workload."""

    def __init__(self, steps: Steps, work: Work, limits: Limits, *, accepted: Number = 1.0, width: int = 1) -> None:
        self.steps, self.work, self.limits = steps, work, limits
        self.accepted, self.width = accepted, width
        self.decode_steps = maximum(work.output_tokens / accepted - 1, 1)

    def at_users(self, users: Number) -> Steady:
        """Return the state in a closed loop: each of ``users`` sends its next request when the last is answered."""
        places = minimum(users, self.limits.sequences)
        found = self._closed(places)
        rate, point = found
        residence = point.first + self.decode_steps * point.step
        waiting = maximum(users / rate - residence, 0.0)
        return self._steady(rate, point, waiting, rate, if_at_most(users, self.limits.sequences, False, True))

    def at_rate(self, rate: Number) -> Steady:
        """Return the state under Poisson arrivals at ``rate`` requests per second.

        Beyond saturation the state is that of all places taken, and ``stable`` is False.
        """
        most, _ = self._closed(self.limits.sequences)
        running = minimum(rate * self.decode_steps * self._point(0.0 * rate, 1.0).step, self.limits.sequences)
        served = minimum(rate, 0.999 * most)
        for _ in range(2 * ROUNDS):
            point = self._point(served, running)
            running = 0.5 * running + 0.5 * minimum(served * self.decode_steps * point.step, self.limits.sequences)
        residence = point.first + self.decode_steps * point.step
        stable = if_at_most(rate, 0.999 * most, True, False)
        queue = _wait(served / most, self.limits.sequences, residence, self.work.variation)
        return self._steady(served, point, if_at_most(rate, 0.999 * most, queue, float("inf")), most, ~_array(stable))

    def _closed(self, places: Number) -> tuple[Number, _Point]:
        """Return the rate at which ``places`` are always taken, and the steps there."""
        running = places * 1.0
        rate = 0.0 * running
        for _ in range(ROUNDS):
            point = self._point(rate, running)
            rate = places / (point.first + self.decode_steps * point.step)
            running = minimum(rate * self.decode_steps * point.step, places)
        return rate, self._point(rate, running)

    def _point(self, rate: Number, running: Number) -> _Point:
        """Return the mean step with ``running`` sequences and ``rate`` prompts a second."""
        return self._mixed(rate, running) if self.steps.engine.prefill == "mixed" else self._alone(rate, running)

    def _decode(self, running: Number, **prompts: Number) -> StepTime:
        batch = Batch(sequences=running, context=self.work.mean_context, width=self.width, **prompts)
        return self.steps.time(batch)

    def _mixed(self, rate: Number, running: Number) -> _Point:
        """Return the mean over steps with and without prompts, which share one budget of tokens."""
        new = self.work.new
        decode = self._decode(running)
        room = maximum(self.limits.batched_tokens - running * self.width, 1.0)
        step, tokens = decode.seconds, minimum(new, room)
        for _ in range(2):
            arriving = maximum(rate * step, 1e-9)
            together = maximum(arriving / (1 - _exp(-arriving)), 1.0)  # prompts of a step that has any
            tokens = minimum(together * new, room)
            prompt = self._prompt_step(running, tokens)
            share = minimum(arriving * new / tokens, 1.0)
            step = (1 - share) * decode.seconds + share * prompt.seconds
        pieces = ceil_div(new, minimum(room, new) * 1.0)
        first = step / 2 + pieces * prompt.seconds
        extra = share * (prompt.seconds - decode.seconds) / step
        return _Point(step=step, first=first, decode=decode, prompt=prompt, tokens=tokens, share=extra)

    def _alone(self, rate: Number, running: Number) -> _Point:
        """Return the decode step stretched by prompts, which the engine runs first and by themselves."""
        new, budget = self.work.new, self.limits.batched_tokens
        decode = self._decode(running)
        step = decode.seconds
        for _ in range(2):
            together = minimum(maximum(rate * step, 1.0), maximum(budget / new, 1.0))
            prompt = self._prompt_step(0.0 * running, minimum(together * new, budget * 1.0))
            each = prompt.seconds * maximum(new / budget, 1.0) / together  # seconds of device time for one prompt
            busy = minimum(rate * each, 0.95)
            step = decode.seconds / (1 - busy)
        first = decode.seconds / 2 + each * together + busy / (1 - busy) * each * (1 + self.work.variation**2) / 2
        return _Point(
            step=step, first=first, decode=decode, prompt=prompt, tokens=minimum(together * new, budget), share=busy
        )

    def _prompt_step(self, running: Number, tokens: Number) -> StepTime:
        """Return a step that carries ``tokens`` of prompts: whole ones, or a piece of one halfway through."""
        new = self.work.new
        whole = maximum(tokens / new, 1.0)
        chunk = tokens / whole
        seen = self.work.input_tokens - (new - chunk) / 2
        return self._decode(running, prompts=whole, chunk=chunk, seen=seen, finishing=tokens / new)

    def _steady(self, rate: Number, point: _Point, queue: Number, saturation: Number, limited: Any) -> Steady:
        return Steady(
            rate=rate,
            running=minimum(rate * self.decode_steps * point.step, self.limits.sequences),
            step=point.step,
            itl=point.step / self.accepted,
            ttft=queue + point.first + self.steps.engine.request_s,
            queue=queue,
            saturation=saturation,
            stable=if_at_most(queue, 1e30, True, False),
            prompt_share=point.share,
            decode_step=point.decode,
            prompt_step=point.prompt,
            prompt_tokens=point.tokens,
            limited=limited,
        )


def _wait(load: Number, places: Number, service: Number, variation: float) -> Number:
    """Return the mean wait in an M/G/k queue: ρ^(√(2(k+1)) − 1) / (k·(1 − ρ)) · S · (1 + cv²)/2.

    >>> round(_wait(0.5, 1, 2.0, 1.0), 6)  # M/M/1: ρ/(1 − ρ) · S
    2.0
    """
    load = minimum(load, 0.999)
    power = (2 * (places + 1)) ** 0.5 - 1
    return load**power / (places * (1 - load)) * service * (1 + variation**2) / 2


def _exp(value: Number) -> Number:
    """Return e^value for a number or an array."""
    return 2.718281828459045**value


def _array(value: Any) -> Any:
    """Return something that ``~`` negates as a truth value."""
    import numpy as np

    return np.asarray(value, dtype=bool)
