"""The steady state of continuous batching: how many sequences run, how long a step takes, what a request waits for.

A replica is one engine: a model copy on its layout. Of R requests that enter per second each brings N new prompt tokens
(without those found in a prefix cache) and leaves after O output tokens. With n sequences running and a mean step T:

    n = R · D · T        Little's law over the decode phase of D = O/L − 1 steps, where a step yields L tokens
    a = R · T            prompts that arrive during a step

*Mixed* steps carry decode tokens and prompt tokens within one budget: arrivals are Poisson, a share of steps carries
prompts, and T is the mean of both kinds; at most all of them do, and are full. *Alone*: prompts run first, in steps of
their own, which every running sequence waits for: T = T_decode + a · T_prompt. In a closed loop of c users
R = c / (time to first token + D · T); at a rate R is given. Both are fixed points in T, which is found by iteration: a
step depends weakly on n.

What exceeds the sequences that fit waits in a queue, whose mean wait is Sakasegawa's approximation of M/G/k (1977, "An
approximation formula L_q ≈ α·ρ^β/(1−ρ)", Annals of the Institute of Statistical Mathematics 29).

All functions take numbers or numpy arrays.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from calc.algebra import Number, ceil_div, if_at_most, maximum, minimum
from calc.records import Record, named_record, replace
from calc.serving.steps import Steps, StepTime
from calc.serving.tables import StepTable

ROUNDS = 12
"""Iterations after which the fixed point has settled."""
SETTLED = 2e-3
"""Relative change below which an iteration has come to rest."""
NEARLY = 0.999
"""Load up to which a queue is said to have a steady state."""


@named_record
class Work(Record):
    """What every request asks for: tokens in and out, on average.

    ``cached``: prompt tokens whose keys and values a prefix cache already has. ``variation``: coefficient of variation
    of the work of a request. ``encoding_s``: seconds for the images and sound of a prompt, of which a prefix cache
    saves its share. ``spread``: (longest − shortest) / longest output, where the requests of a closed loop are
    so alike that they stay in step; None for lengths of all kinds.
    """

    input_tokens: Number
    output_tokens: Number
    cached: Number = 0
    variation: float = 1.0
    encoding_s: float = 0.0
    spread: float | None = None

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
    """What bounds a replica: sequences that run at once, tokens of a step."""

    sequences: Number
    batched_tokens: Number


@named_record
class Steady(Record):
    """A replica in its steady state. Units: seconds, requests per second, tokens.

    ``itl``: mean time between a sequence's tokens (of accepted ones, where several come at once). ``queue``: wait for a
    place. ``saturation``: the rate at which all places are taken; beyond it the queue grows without end.
    ``prompt_share``: share of the device's time that prompts take. ``limited``: whether every place is taken.
    """

    rate: Number
    running: Number
    step: Number
    itl: Number
    ttft: Number
    queue: Number
    saturation: Number
    stable: Any
    limited: Any
    prompt_share: Number
    prompt_tokens: Number
    """Prompt tokens of a step that carries any."""
    decode_step: StepTime
    prompt_step: StepTime


@named_record
class _Mean(Record):
    """The mean step with so many sequences and prompts.

    ``first``: seconds from a prompt's entry into the batch to its first token. ``each``: device time of one prompt.
    """

    step: Number
    first: Number
    each: Number
    share: Number
    tokens: Number
    decode: StepTime
    prompt: StepTime


class Replica:
    """One engine under a workload.

    ``accepted``: tokens that a step yields for a sequence, of ``width`` that it computes (speculative decoding).
    """

    def __init__(self, steps: Steps, work: Work, limits: Limits, *, accepted: Number = 1.0, width: int = 1) -> None:
        self.steps, self.work, self.limits = steps, work, limits
        self.accepted, self.width = accepted, width
        self.decodes = maximum(work.output_tokens / accepted - 1, 0)
        """Decode steps of one request."""
        self.table = StepTable(
            steps, context=work.mean_context, width=width, chunked=self._chunked,
            sequences=limits.sequences, tokens=limits.batched_tokens,
        )  # fmt: skip
        self._decoded: tuple[Number, StepTime] | None = None

    def at_users(self, users: Number, rounds: float = float("inf")) -> Steady:
        """Return the state in a closed loop: each of ``users`` sends its next request when the last is answered.

        ``rounds``: requests that each user sends; where they are few, means include the start, at which all prompts
        come at once.
        """
        places = minimum(users, self.limits.sequences)
        rate, mean = self._closed(places)
        residence = mean.first + self.decodes * mean.step
        queue = maximum(users / rate - residence, 0.0)
        full = if_at_most(users, self.limits.sequences, False, True)
        steady = self._steady(rate, mean, queue, rate, full, step=mean.step)
        return self._with_bursts(steady, mean, places, rounds)

    def at_rate(self, rate: Number) -> Steady:
        """Return the state under Poisson arrivals at ``rate`` requests per second.

        Beyond saturation it is the state with all places taken: ``stable`` is False and the wait infinite.
        """
        most, full = self._full
        served = minimum(rate, NEARLY * most)
        step = full.decode.seconds * 1.0
        mean = full
        for _ in range(2 * ROUNDS):
            running = minimum(served * self.decodes * step, self.limits.sequences)
            mean = self._mean(running, served * step)
            before, step = step, 0.5 * (step + mean.step)
            if _settled(before, step):
                break
        residence = mean.first + self.decodes * mean.step
        stable = if_at_most(rate, NEARLY * most, True, False)
        wait = _wait(served / most, self.limits.sequences, residence, self.work.variation)
        queue = if_at_most(rate, NEARLY * most, wait, float("inf"))
        return self._steady(served, mean, queue, most, if_at_most(rate, NEARLY * most, False, True), stable=stable)

    def only_decoding(self) -> Replica:
        """Return the engine to which prompts come read, but for their last token, which yields the first of answers."""
        work = replace(self.work, cached=self.work.input_tokens - 1)
        found = Replica(self.steps, work, self.limits, accepted=self.accepted, width=self.width)
        found.table = self.table.with_prompts(found._chunked)
        return found

    def prompt_rate(self) -> Number:
        """Return the requests per second of an engine that only reads prompts (disaggregated prefill)."""
        return 1 / self._mean(0.0 * self.work.new, 1.0).each

    @cached_property
    def _full(self) -> tuple[Number, _Mean]:
        """The rate at which all places are taken, and the mean step there."""
        return self._closed(self.limits.sequences)

    def waiting_chance(self, rate: Number) -> Number:
        """Return the chance that a request waits at all at ``rate``: ρ^(√(2(k+1)) − 1), as in ``_wait``."""
        load = minimum(rate / self._full[0], NEARLY)
        return load ** ((2 * (self.limits.sequences + 1)) ** 0.5 - 1)

    @cached_property
    def most_prompts(self) -> float:
        """The most prompts per second: where they share steps with decode tokens, what these have room for."""
        return float(minimum(self._full_steps[0], NEARLY * self.prompt_rate()))

    def while_entering(self, running: float, prompts: float, seconds: float, step: float) -> tuple[float, float]:
        """Return the mean step and the time to a first token while ``prompts`` prompts enter in ``seconds``.

        ``step`` is a first guess.
        """
        # those that wait for room fill every step
        least = self._full_steps[1] if prompts / seconds >= NEARLY * self.most_prompts else 0.0
        mean = self._mean(running, max(min(prompts * step / seconds, prompts), least))
        for _ in range(ROUNDS):
            before, mean = mean, self._mean(running, max(min(prompts * float(mean.step) / seconds, prompts), least))
            if _settled(before.step, mean.step):
                break
        return float(mean.step), float(mean.first) + self.steps.engine.request_s

    def _closed(self, places: Number) -> tuple[Number, _Mean]:
        """Return the rate at which ``places`` are always taken, and the mean step there."""
        mean = self._mean(places * 1.0, 0.0 * places)
        step, first = mean.step, mean.first
        most, together = self._full_steps
        asked = places / (first + self.decodes * step)
        for _ in range(ROUNDS):
            rate = minimum(asked, most)
            running = minimum(rate * self.decodes * step, places)
            # prompts that wait for room fill every step
            mean = self._mean(running, maximum(rate * step, if_at_most(most, asked, together, 0.0)))
            before = first + self.decodes * step
            step, first = 0.5 * (step + mean.step), 0.5 * (first + mean.first)
            asked = places / (first + self.decodes * step)
            if _settled(before, first + self.decodes * step):
                break
        return minimum(asked, most), mean

    @cached_property
    def _full_steps(self) -> tuple[Number, Number]:
        """The most prompts per second, and the prompts of a step then, where they and decode tokens share a budget B.

        Every step is full: N·R·T prompt tokens and those of n = min(R·D·T, places) sequences are B. A prompt that finds
        no room waits, however many places are left.
        """
        if self.steps.engine.prefill != "mixed":
            return float("inf"), 0.0
        budget, new, decoded = self.limits.batched_tokens * 1.0, self.work.new, self.decodes * self.width
        running = minimum(budget * self.decodes / (new + decoded), self.limits.sequences)
        tokens = maximum(budget - running * self.width, 1.0)
        return tokens / (new * self._prompt_step(running, tokens).seconds), tokens / new

    def _mean(self, running: Number, arriving: Number) -> _Mean:
        """Return the mean step with ``running`` sequences, into which ``arriving`` prompts come."""
        if self.steps.engine.prefill == "mixed":
            return self._mixed(running, arriving)
        return self._alone(running, arriving)

    def _decode(self, running: Number) -> StepTime:
        # iterations over the prompts ask for the same sequences again and again
        if self._decoded is None or self._decoded[0] is not running:
            self._decoded = running, self.table.time(running)
        return self._decoded[1]

    def _mixed(self, running: Number, arriving: Number) -> _Mean:
        """Return the mean over steps with and without prompts, which share one budget of tokens."""
        new = self.work.new
        decode = self._decode(running)
        room = maximum(self.limits.batched_tokens - running * self.width, 1.0)
        some = maximum(arriving, 1e-9)
        together = maximum(some / (1 - _exp(-some)), 1.0)  # prompts of a step that has any
        tokens = minimum(together * new, room)
        prompt = self._prompt_step(running, tokens)
        share = minimum(some * new / tokens, 1.0)
        step = (1 - share) * decode.seconds + share * prompt.seconds
        pieces = ceil_div(new, minimum(room, new) * 1.0)
        added = prompt.seconds - decode.seconds
        return _Mean(
            step=step, first=step / 2 + pieces * prompt.seconds, each=added * new / tokens,
            share=share * added / step, tokens=tokens, decode=decode, prompt=prompt,
        )  # fmt: skip

    def _alone(self, running: Number, arriving: Number) -> _Mean:
        """Return the decode step and the prompts that come during it, which the engine runs first, by themselves."""
        new, budget = self.work.new, self.limits.batched_tokens * 1.0
        decode = self._decode(running)
        together = minimum(maximum(arriving, 1.0), maximum(budget / new, 1.0))
        tokens = minimum(together * new, budget)
        prompt = self._prompt_step(0.0 * running, tokens)
        each = prompt.seconds * new / tokens
        step = decode.seconds + arriving * each
        share = arriving * each / step
        # one prompt waits for half a step, for those before it (M/G/1 at the share's load), and for its own
        load = minimum(share, NEARLY)
        waiting = load / (1 - load) * each * (1 + self.work.variation**2) / 2
        first = decode.seconds / 2 + minimum(waiting, running * each) + maximum(prompt.seconds, each)
        return _Mean(step=step, first=first, each=each, share=share, tokens=tokens, decode=decode, prompt=prompt)

    def _chunked(self, tokens: Number) -> tuple[Number, Number, Number]:
        """Return the prompts of a step with so many tokens of them: whole ones, or a piece of one halfway through."""
        new = self.work.new
        whole = maximum(tokens / new, 1.0)
        chunk = tokens / whole
        return whole, chunk, self.work.input_tokens - (new - chunk) / 2

    def _prompt_step(self, running: Number, tokens: Number) -> StepTime:
        """Return a step that carries ``tokens`` of prompts."""
        found = self.table.time(running, tokens, tokens / self.work.new)
        if not self.work.encoding_s:
            return found
        added = self.work.encoding_s * tokens / self.work.input_tokens
        return replace(found, seconds=found.seconds + added, compute_bound=found.compute_bound + added, encoding=added)

    def _steady(
        self, rate: Number, mean: _Mean, queue: Number, saturation: Number, limited: Any, *,
        step: Number = None, stable: Any = True,
    ) -> Steady:  # fmt: skip
        step = mean.step if step is None else step
        return Steady(
            rate=rate,
            running=minimum(rate * self.decodes * step, self.limits.sequences),
            step=step,
            itl=step / self.accepted,
            ttft=queue + mean.first + self.steps.engine.request_s,
            queue=queue,
            saturation=saturation,
            stable=stable,
            limited=limited,
            prompt_share=mean.share,
            prompt_tokens=mean.tokens,
            decode_step=mean.decode,
            prompt_step=mean.prompt,
        )

    def _with_bursts(self, steady: Steady, mean: _Mean, places: Number, rounds: float) -> Steady:
        """Return the state with the share of requests whose prompts come together.

        At the start of a run all do: 1/rounds of the requests wait for each other's prompts. Requests that are alike
        stay near each other: their decode phases end within ``spread``, so that prompts come together again, the more
        so the longer the start took. Where prompts run alone and first, it is the whole burst; where they share steps
        with decode tokens, those of one full step.
        """
        if rounds == float("inf") and self.work.spread is None:
            return steady
        alone = self.steps.engine.prefill == "alone"
        budget = self.limits.batched_tokens * 1.0
        whole = places * self.work.new
        pieces = maximum(whole / budget, 1.0)
        full = self._prompt_step(0.0 * places, minimum(whole, budget)).seconds
        burst = full * pieces
        wait = burst * (pieces + 1) / (2 * pieces)
        start: Number = 1 / rounds
        near: Number = 0.0
        if self.work.spread is not None:
            near = burst / (burst + self.work.spread * self.decodes * mean.decode.seconds)
        extra = self.steps.engine.request_s + steady.queue
        if alone:
            start = maximum(start, near)
            together = mean.decode.seconds + (burst - wait) / maximum(self.decodes, 1)
            step = (1 - start) * steady.step + start * together
            later = steady.ttft
        else:
            step = steady.step
            later = (1 - near) * steady.ttft + near * maximum(steady.ttft, steady.step / 2 + full + extra)
        ttft = (1 - start) * later + start * (wait + extra)
        return replace(steady, ttft=ttft, step=step, itl=step / self.accepted)


def _wait(load: Number, places: Number, service: Number, variation: float) -> Number:
    """Return the mean wait in an M/G/k queue: ρ^(√(2(k+1)) − 1) / (k·(1 − ρ)) · S · (1 + cv²)/2.

    >>> round(_wait(0.5, 1, 2.0, 1.0), 6)  # M/M/1: ρ/(1 − ρ) · S
    2.0
    """
    load = minimum(load, NEARLY)
    power = (2 * (places + 1)) ** 0.5 - 1
    return load**power / (places * (1 - load)) * service * (1 + variation**2) / 2


def _settled(before: Number, after: Number) -> bool:
    """Tell whether an iteration has come to rest, at every point of a sweep."""
    change = abs(after / before - 1)
    return bool(change.max() < SETTLED) if hasattr(change, "max") else bool(change < SETTLED)


def _exp(value: Number) -> Number:
    """Return e^value for a number or an array."""
    return 2.718281828459045**value
