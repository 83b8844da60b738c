"""``calc.serve``: what a deployment gives its users, what it costs, and what stops it first."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.checks import idle, number, one_of, share, whole
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.media.asked import read
from calc.media.shares import Input, inputs_of
from calc.model import Model
from calc.parallel import Layout, has_experts
from calc.records import Record, named_record, replace
from calc.serving.apart import prompt_wait, transfer_s
from calc.serving.cache import Capacity
from calc.serving.deployment import Deployment, Settings
from calc.serving.engines import Engine, load_engine
from calc.serving.guesses import Drafter, GuessingSteps
from calc.serving.memory import ServingMemory
from calc.serving.steady import Limits, Replica, Steady, Work
from calc.serving.steps import StepTime
from calc.serving.weights import served_form
from calc.units import dtype, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calc.results import Result
    from calc.serving.inverse import Inverse

HOST_LINK_BYTES_PER_S = 50e9
"""What a device copies from its host's memory: PCIe 5.0 ×16 is 63 GB/s by its rate, of which copies reach four fifths
(PCI Express Base Specification 5.0)."""
SHARE_THAT_NAMES = 0.35
"""Share of a step from which on communication or the host is named as the limit."""


@named_record
class Asked(Record):
    """The question: every argument of ``serve``, so that it can be asked again with one of them changed."""

    model: Model
    accelerator: Accelerator
    engine: Engine
    gpus: int
    layout: Layout
    input_tokens: int
    output_tokens: int
    concurrency: float | None = None
    rate: float | None = None
    weights_dtype: str | None = None
    cache_dtype: str = "bf16"
    settings: Settings
    cached: float = 0.0
    cached_on: str = "device"
    guesses: int = 0
    accepted: float = 1.0
    drafter: str | Model = "mtp"
    prefill_gpus: int = 0
    usd_per_hour: float | None = None
    skew: float = 0.0
    inputs: tuple[Input, ...] = ()
    """What stands in every prompt beside its text; ``input_tokens`` are with them."""

    @property
    def media_tokens(self) -> int:
        """Tokens of a prompt that are not text."""
        return sum(one.tokens for one in self.inputs)

    @property
    def weights(self) -> str:
        """The format of the weights."""
        return self.weights_dtype or served_form(self.model)

    @property
    def copies(self) -> int:
        """Model copies that decode, each with its share of the users."""
        return (self.gpus - self.prefill_gpus) // (self.layout.tp * self.layout.pp)

    def work(self, encoding_s: float) -> Work:
        """Return what each request asks for, with the seconds for its images and sound."""
        found = int(self.cached * self.input_tokens)
        return Work(
            input_tokens=self.input_tokens, output_tokens=self.output_tokens, cached=min(found, self.input_tokens - 1),
            encoding_s=encoding_s,
        )  # fmt: skip


@named_record
class Serving(Record):
    """A deployment under a load. Units: seconds, tokens per second, bytes, US dollars, joules.

    Figures of time are None where the model does not fit (``reason`` says why). ``bound`` is the first limit, in a few
    words. Modelled figures carry the error that ``calc accuracy`` measured when they are shown (``to_result``).
    """

    asked: Asked
    deployment: Deployment
    memory: ServingMemory
    capacity: Capacity
    """Of one model copy, for sequences of the whole length."""
    fits: bool
    reason: str
    steady: Steady | None
    transfer_s: float
    """Moving a prompt's cache from the devices that read it to those that decode, or from host memory."""
    bound: str

    @property
    def work(self) -> Work:
        """What each request asks for."""
        return self.asked.work(self.deployment.encoding_s)

    @property
    def ttft_s(self) -> float | None:
        """Mean time to first token."""
        return None if self.steady is None else float(self.steady.ttft)

    @property
    def tpot_s(self) -> float | None:
        """Mean time between tokens of one user."""
        return None if self.steady is None else float(self.steady.itl)

    @property
    def e2e_s(self) -> float | None:
        """Mean time to the last token."""
        if self.steady is None:
            return None
        later = (self.asked.output_tokens - 1) * float(self.steady.itl)
        return float(self.steady.ttft) + later + (self.transfer_s if self.asked.prefill_gpus else 0.0)

    @property
    def requests_per_s(self) -> float | None:
        """Requests answered per second, of the whole deployment."""
        return None if self.steady is None else float(self.steady.rate) * self.asked.copies

    @property
    def output_tokens_per_s(self) -> float | None:
        """Tokens written per second, of the whole deployment."""
        return None if self.requests_per_s is None else self.requests_per_s * self.asked.output_tokens

    @property
    def output_tokens_per_s_per_gpu(self) -> float | None:
        """Tokens written per second and device."""
        return None if self.output_tokens_per_s is None else self.output_tokens_per_s / self.asked.gpus

    @property
    def usd_per_hour(self) -> float | None:
        """What all devices cost by the hour, where a price is known."""
        price = self.asked.usd_per_hour
        if price is None and self.asked.accelerator.price is not None:
            price = float(self.asked.accelerator.price.usd_per_hour)
        return None if price is None else price * self.asked.gpus

    @property
    def prompt_share(self) -> float | None:
        """Share of the devices' time that prompts take."""
        if self.steady is None:
            return None
        if self.asked.prefill_gpus:
            return self.asked.prefill_gpus / self.asked.gpus
        return float(self.steady.prompt_share)

    def usd_per_million(self, side: str) -> float | None:
        """Return the price of a million ``input`` or ``output`` tokens: the devices' time, by what takes it.

        Raises:
            SpecError: neither of the two.
        """
        one_of("side", side, ("input", "output"))
        if self.usd_per_hour is None or not self.requests_per_s or self.prompt_share is None:
            return None
        share = self.prompt_share if side == "input" else 1 - self.prompt_share
        tokens = self.asked.input_tokens if side == "input" else self.asked.output_tokens
        return 1e6 * self.usd_per_hour / 3600 * share / (self.requests_per_s * tokens)

    @property
    def joules_per_output_token(self) -> float | None:
        """Energy of all devices at their power limit per token written: an upper bound, without hosts and cooling."""
        watts = self.asked.accelerator.tdp_watts
        if watts is None or not self.output_tokens_per_s:
            return None
        return float(watts) * self.asked.gpus / self.output_tokens_per_s

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The same question with one thing changed, the most helpful first."""
        from calc.serving.changes import alternatives

        return alternatives(self)

    def limits(self, *, tpot: float | None = None, ttft: float | None = None) -> tuple[Limit, ...]:
        """Hold the mean time per output token and to the first against limits in seconds, as far as they are given.

        Raises:
            SpecError: a limit that is no positive number.
        """
        steady = self.steady is not None and bool(self.steady.stable)
        asked = (("ttft", ttft, self.ttft_s), ("tpot", tpot, self.tpot_s))
        return tuple(
            Limit(
                name=name, limit=number(name, limit, above=0, what="number of seconds"), value=value if steady else None
            )
            for name, limit, value in asked
            if limit is not None
        )

    def solve(self, what: str, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
        """Turn the question round: ``context``, ``users``, ``gpus``, ``cache-dtype`` or ``compute-batch``.

        ``tpot`` and ``ttft`` are limits in seconds that the answer keeps, too.

        Raises:
            CalcError: no such question, users without a limit, or a compute-batch with one.
        """
        from calc.serving.inverse import solve

        return solve(self, what, tpot=tpot, ttft=ttft)

    def to_result(self, solved: Sequence[Inverse] = (), limits: Sequence[Limit] = ()) -> Result:
        """Return the answer, those to inverse questions, and limits held against it, as tables and as JSON."""
        from calc.serving.view import result

        return result(self, solved, limits)


@named_record
class Limit(Record):
    """A limit of a mean latency (``ttft``, ``tpot``) and what there is, None where nothing is answered. Units: s."""

    name: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.value is not None and self.value <= self.limit

    def text(self) -> str:
        """Say it in a few words.

        >>> Limit(name="tpot", limit=0.03, value=0.02).text()
        'TPOT ≤ 30 ms'
        """
        return f"{self.name.upper()} ≤ {duration(self.limit)}"


@named_record
class Alternative(Record):
    """One change, and what it gives: output tokens per second and device at saturation, time per token."""

    change: str
    fits: bool
    output_tokens_per_s_per_gpu: float | None
    tpot_s: float | None
    gain: float
    """Times the tokens per second and device of the question; infinite where it alone makes the model fit."""


def serve(
    model: str | Path | Model,
    accelerator: str | Path | Accelerator,
    *,
    gpus: int = 1,
    input_tokens: int,
    output_tokens: int,
    concurrency: float | None = None,
    rate: float | None = None,
    tp: int | None = None,
    pp: int = 1,
    ep: int = 1,
    dp: int | None = None,
    engine: str | Path | Engine = "vllm",
    engine_version: str | None = None,
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
    memory_fraction: float | None = None,
    batched_tokens: int | None = None,
    sequences: int | None = None,
    cached: float = 0.0,
    cached_on: str = "device",
    guesses: int = 0,
    accepted: float | None = None,
    drafter: str | Path | Model = "mtp",
    prefill_gpus: int = 0,
    experts_on: str = "device",
    usd_per_hour: float | None = None,
    skew: float = 0.0,
    images: str | None = None,
    audio: str | None = None,
    video: str | None = None,
) -> Serving:
    """Return what ``gpus`` accelerators give users of a model: memory, latency, throughput, money, and the first limit.

    The load is a number of users who each wait for their answer (``concurrency``), Poisson arrivals at ``rate``
    requests per second, or neither: as many users as there are places. A copy takes ``tp``·``pp`` devices; ``dp`` is
    the number of copies, ``ep`` the ranks that share the experts (of one copy, or of several: attention is repeated).

    ``cached``: share of the prompt that a prefix cache has, on the ``device`` or in ``host`` memory. ``guesses`` tokens
    are drafted for a step, of which ``accepted`` come out on average, the model's own one included. ``prefill_gpus`` of
    the devices read prompts and send the cache to the others. ``experts_on = "host"`` leaves routed experts in host
    memory, whose processors multiply them. ``cache_dtype`` is never inferred from that of the weights. ``images``,
    ``audio`` and ``video`` stand in every prompt before its ``input_tokens`` of text, written as ``3@1024x768``,
    ``60s``, ``60s@1fps@1280x720``; towers read them, divided as the model is.

    Units: tokens, requests per second, US dollars per device and hour. Not modelled: see the answer's last line.
    Source of the model of load: ``calc.serving.steady``; of memory: the engine's preset.

    Raises:
        CalcError: an unknown model, accelerator, engine or format; a layout that cannot be; a load that is none.

    >>> found = serve("llama-3.1-8b", "h100-sxm", input_tokens=1000, output_tokens=200, concurrency=32)
    >>> found.fits, 0.004 < found.tpot_s < 0.02
    (True, True)
    """
    loaded = catalog.load(model)
    device = catalog.load_accelerator(accelerator)
    gpus, prefill_gpus = whole("gpus", gpus), whole("prefill_gpus", prefill_gpus, 0)
    if prefill_gpus >= gpus:
        raise SpecError(f"prefill_gpus = {prefill_gpus} leaves none of {gpus} devices to decode")
    layout = _layout(gpus - prefill_gpus, tp, pp, ep, dp)
    input_tokens, output_tokens = whole("input_tokens", input_tokens), whole("output_tokens", output_tokens)
    guesses = whole("guesses", guesses, 0)
    inputs = inputs_of(loaded, read(images, audio, video))
    asked = Asked(
        model=loaded,
        accelerator=device,
        engine=load_engine(engine, engine_version),
        gpus=gpus,
        layout=layout,
        input_tokens=input_tokens + sum(one.tokens for one in inputs),
        output_tokens=output_tokens,
        concurrency=concurrency,
        rate=rate,
        weights_dtype=weights_dtype,
        cache_dtype=cache_dtype,
        settings=Settings(
            memory_fraction=memory_fraction, batched_tokens=batched_tokens, sequences=sequences,
            host_experts=experts_on == "host",
        ),
        cached=cached,
        cached_on=cached_on,
        guesses=guesses,
        accepted=1.0 if accepted is None else float(number("accepted", accepted)),
        drafter=drafter if drafter in ("mtp", "ngram") else catalog.load(drafter),
        prefill_gpus=prefill_gpus,
        usd_per_hour=usd_per_hour,
        skew=skew,
        inputs=inputs,
    )  # fmt: skip
    _checked(asked, experts_on, accepted)
    return answered(asked)


def _layout(gpus: int, tp: int | None, pp: int, ep: int, dp: int | None) -> Layout:
    """Return the layout of the devices that decode: what is not given follows from their number.

    Raises:
        SpecError: numbers that do not multiply to that of the devices.
    """
    for name, value in (("tp", tp), ("pp", pp), ("ep", ep), ("dp", dp)):
        if value is not None:
            whole(name, value)
    if tp is None:
        tp = max(gpus // (pp * (1 if dp is None else dp)), 1)
    if dp is None:
        dp = max(gpus // (tp * pp), 1)
    if tp * pp * dp != gpus:
        unsaid = "; give gpus, too" if gpus == 1 else ""
        raise SpecError(f"tp·pp·dp = {tp}·{pp}·{dp} = {tp * pp * dp} is not the number of devices, {gpus}{unsaid}")
    if ep == 1:
        return Layout(tp=tp, pp=pp, dp=dp)
    # ranks beyond those that share the experts divide each expert's width
    return Layout(tp=tp, pp=pp, dp=dp, ep=ep, expert_tp=max(tp // ep, 1))


def _checked(asked: Asked, experts_on: str, accepted: float | None) -> None:
    """Refuse a load that is none, or options that contradict each other."""
    for name in ("concurrency", "rate", "usd_per_hour"):
        value = getattr(asked, name)
        if value is not None:
            number(name, value, above=0, below=10**12)
    for name in ("batched_tokens", "sequences"):
        value = getattr(asked.settings, name)
        if value is not None:
            whole(name, value)
    if asked.settings.memory_fraction is not None:
        share("memory_fraction", asked.settings.memory_fraction, zero=False)
    number("skew", asked.skew, least=0, below=100)
    if asked.concurrency is not None and asked.rate is not None:
        raise SpecError("concurrency and rate are two kinds of load: give one of them")
    if asked.concurrency is not None and asked.concurrency < 1:
        raise SpecError(f"concurrency = {asked.concurrency} is less than one user")
    share("cached", asked.cached)
    for name, value in (("cached_on", asked.cached_on), ("experts_on", experts_on)):
        one_of(name, value, ("device", "host"))
    if not has_experts(asked.model):
        idle(f"{asked.model.name} has no routed experts", experts_on=(experts_on, "device"), skew=(asked.skew, 0))
    if not asked.cached:
        idle("nothing is cached: give cached, a share of each prompt", cached_on=(asked.cached_on, "device"))
    if not asked.guesses:
        drafter = asked.drafter.name if isinstance(asked.drafter, Model) else asked.drafter
        idle("nothing is drafted: give guesses and accepted", drafter=(drafter, "mtp"))
    if bool(asked.guesses) != (accepted is not None):
        raise SpecError(
            "speculative decoding needs both guesses and accepted, the tokens that a step yields on average"
        )
    if asked.guesses and not 1 <= asked.accepted <= asked.guesses + 1:
        raise SpecError(f"accepted = {asked.accepted} is not between 1 and guesses + 1 = {asked.guesses + 1}")
    if asked.prefill_gpus % (asked.layout.tp * asked.layout.pp):
        size = asked.layout.tp * asked.layout.pp
        raise SpecError(f"prefill_gpus = {asked.prefill_gpus} is no multiple of the {size} devices of a copy")
    dtype(asked.cache_dtype)


def answered(asked: Asked) -> Serving:
    """Answer a question that has been checked."""
    deployment = Deployment(
        asked.model, asked.accelerator, asked.layout, asked.engine,
        weights_dtype=asked.weights_dtype, cache_dtype=asked.cache_dtype, settings=asked.settings, skew=asked.skew,
        inputs=asked.inputs,
        drafter=Drafter.of(asked.model, asked.layout, asked.drafter, asked.weights_dtype) if asked.guesses else None,
    )  # fmt: skip
    work = asked.work(deployment.encoding_s)
    capacity = deployment.capacity(work.longest)
    common: dict[str, Any] = {
        "asked": asked, "deployment": deployment, "memory": deployment.memory, "capacity": capacity,
    }  # fmt: skip
    reason = _reason(deployment, capacity, asked)
    if reason:
        return Serving(**common, fits=False, reason=reason, steady=None, transfer_s=0.0, bound=reason)
    limits = deployment.limits(work)
    transfer = _transfer(asked, deployment)
    steady = _state(asked, deployment, work, limits, transfer)
    return Serving(
        **common,
        fits=True,
        reason="",
        steady=steady,
        transfer_s=transfer,
        bound=_bound(asked, deployment, limits, steady),
    )


def _reason(deployment: Deployment, capacity: Capacity, asked: Asked) -> str:
    """Return why nothing can be served, or an empty text."""
    if not deployment.fits:
        return "memory: the weights leave no room for a cache"
    if float(capacity.allocated_sequences) < 1:
        return f"memory: the cache does not hold one sequence of {asked.input_tokens + asked.output_tokens:,} tokens"
    return ""


def _steps(asked: Asked, deployment: Deployment) -> Any:
    if not asked.guesses:
        return deployment.steps
    return GuessingSteps(
        asked.model, asked.accelerator, asked.layout, asked.engine,
        weights_dtype=asked.weights_dtype, cache_dtype=asked.cache_dtype, skew=asked.skew,
        host_experts=asked.settings.host_experts, guesses=asked.guesses, drafter=asked.drafter,
    )  # fmt: skip


def _state(asked: Asked, deployment: Deployment, work: Work, limits: Limits, transfer: float) -> Steady:
    """Return the steady state of one model copy under its share of the load."""
    if asked.prefill_gpus:
        return _apart(asked, deployment, work, limits)
    replica = Replica(_steps(asked, deployment), work, limits, accepted=asked.accepted, width=asked.guesses + 1)
    if asked.rate is not None:
        found = replica.at_rate(asked.rate / asked.copies)
    else:
        places = float(limits.sequences)
        found = replica.at_users(places if asked.concurrency is None else max(asked.concurrency / asked.copies, 1.0))
    return replace(found, ttft=found.ttft + transfer)


def _apart(asked: Asked, deployment: Deployment, work: Work, limits: Limits) -> Steady:
    """Return the steady state where some devices only read prompts and the others only decode.

    Prompts wait in front of the first (M/G/1 for each copy), the cache moves, and decode steps carry no prompts. The
    slower of the two sides bounds the rate.
    """
    prompts = Replica(deployment.steps, work, limits)
    readers = asked.prefill_gpus / (asked.layout.tp * asked.layout.pp)
    most_read = float(prompts.prompt_rate()) * readers / asked.copies
    decoding = Replica(
        _steps(asked, deployment), replace(work, cached=work.input_tokens - 1), limits,
        accepted=asked.accepted, width=asked.guesses + 1,
    )  # fmt: skip
    if asked.rate is not None:
        rate = asked.rate / asked.copies
        found = decoding.at_rate(min(rate, 0.999 * most_read))
    else:
        users = float(limits.sequences) if asked.concurrency is None else max(asked.concurrency / asked.copies, 1.0)
        found = decoding.at_users(users)
        rate = min(float(found.rate), 0.999 * most_read)
        if float(found.rate) > rate:
            found = decoding.at_rate(rate)
    each = readers / asked.copies / most_read
    reading = each + prompt_wait(rate / most_read, each, work.variation)
    stable = bool(found.stable) and rate < most_read
    saturation = min(float(found.saturation), most_read)
    first = reading + asked.engine.request_s + float(found.queue) if stable else float("inf")
    return replace(found, ttft=first, saturation=saturation, stable=stable)


def _transfer(asked: Asked, deployment: Deployment) -> float:
    """Return the seconds that a prompt's cache is on its way: over the network, or from host memory.

    Every rank sends its own share over its own adapter.
    """
    if not asked.prefill_gpus and not (asked.cached and asked.cached_on == "host"):
        return 0.0
    if asked.prefill_gpus:
        return transfer_s(deployment, asked.input_tokens, asked.gpus)
    held = deployment.capacity(max(int(asked.cached * asked.input_tokens), 1))
    return float(held.logical_bytes) / HOST_LINK_BYTES_PER_S


def _bound(asked: Asked, deployment: Deployment, limits: Limits, steady: Steady) -> str:
    """Return the first limit, in a few words."""
    if not bool(steady.stable):
        return "rate: more requests come than are answered, the queue grows without end"
    if bool(steady.limited) or asked.concurrency is asked.rate is None:
        if float(limits.sequences) < deployment.sequences:
            return "memory: the cache is full"
        if bool(steady.limited):
            return f"sequences: the engine runs at most {deployment.sequences:,} at once"
    mean = _mean_step(steady)
    named = {"communication": "communication between devices", "host": "the engine's work on the host"}
    largest = max(named, key=lambda name: mean[name])
    if mean[largest] > SHARE_THAT_NAMES:
        return named[largest]
    return "compute" if mean["compute"] > 0.5 * (1 - mean["communication"] - mean["host"]) else "memory bandwidth"


def _mean_step(steady: Steady) -> dict[str, float]:
    """Return the shares of communication, host and compute-bound kernels in the mean step."""
    share = float(steady.prompt_share)

    def of(name: str) -> float:
        parts = (steady.decode_step, 1 - share), (steady.prompt_step, share)
        return sum(weight * _share(step, name) for step, weight in parts)

    return {name: of(name) for name in ("communication", "host", "compute")}


def _share(step: StepTime, name: str) -> float:
    part = {"communication": step.communication, "host": step.host, "compute": step.compute_bound}[name]
    return float(part) / float(step.seconds)


__all__ = ["Alternative", "Asked", "Limit", "Serving", "answered", "serve"]
