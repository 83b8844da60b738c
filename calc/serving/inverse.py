"""The question turned round: what context, how many users, how many devices, which cache format, which batch.

Capacities and steps grow with what is asked for, so that each answer is the last whole number for which a condition
holds; it is found by halving an interval and is exact to one. Nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calc.checks import idle
from calc.errors import SpecError
from calc.parallel import Layout, has_experts
from calc.records import Record, named_record, replace
from calc.serving.answer import Asked, Serving, answered
from calc.serving.steady import Replica, Steady
from calc.serving.steps import Batch
from calc.units import counted, dtype

MOST = 2**24
"""Neither contexts nor batches are looked for beyond this."""
CACHE_FORMATS = ("bf16", "fp8", "int4-g32", "nvfp4")
"""Formats of caches that engines have, the widest first."""
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of devices that deployments are built of."""


@named_record
class Inverse(Record):
    """An answer: ``value`` is None where there is none; ``condition`` is what holds up to it, in words."""

    question: str
    value: int | str | None
    unit: str
    condition: str


def last(holds: Callable[[int], bool], most: int = MOST) -> int | None:
    """Return the last whole number from 1 on for which a condition that ends once holds; None where it holds for none.

    >>> last(lambda n: n * n <= 90)
    9
    """
    if not holds(1):
        return None
    low, high = 1, 2
    while high <= most and holds(high):
        low, high = high, 2 * high
    if high > most:
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def longest_context(serving: Serving, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
    """Return the longest context of which as many sequences fit as there are users (one a copy, where none are stated).

    Within the limits where given: of prompts that leave room for the answer.
    """
    asked, deployment = serving.asked, serving.deployment
    limits = serving.limits(tpot=tpot, ttft=ttft)
    users = 1.0 if asked.concurrency is None else max(asked.concurrency / asked.copies, 1.0)
    load = asked if asked.rate is not None else replace(asked, concurrency=users * asked.copies)

    def holds(context: int) -> bool:
        if float(deployment.capacity(context).allocated_sequences) < users:
            return False
        prompt = max(context - asked.output_tokens, asked.media_tokens + 1)
        return not limits or _keeps(answered(replace(load, input_tokens=prompt)), tpot, ttft)

    each = f"{counted(users, 'sequence')} of this length in the cache of each copy"
    condition = " and ".join((each, *(limit.text() for limit in limits)))
    return Inverse(question="longest context", value=last(holds), unit="tokens", condition=condition)


def most_users(serving: Serving, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
    """Return the most users whose mean time per token and to first token stay within the limits (seconds).

    Raises:
        SpecError: no limit, or one that is none.
    """
    words = [limit.text() for limit in serving.limits(tpot=tpot, ttft=ttft)]
    if not words:
        raise SpecError("the most users within what latency? give tpot, ttft or both: seconds per token, to the first")
    if not serving.fits:
        return Inverse(question="most users", value=None, unit="users", condition=serving.reason)
    copies = serving.asked.copies

    def holds(users: int) -> bool:
        found = state_of(serving, users)
        return (tpot is None or float(found.itl) <= tpot) and (ttft is None or float(found.ttft) <= ttft)

    value = last(holds, 2**16)
    return Inverse(
        question="most users", value=None if value is None else value * copies, unit="users",
        condition=" and ".join(words) + (f", {copies} copies alike" if copies > 1 else ""),
    )  # fmt: skip


def state_of(serving: Serving, users: float) -> Steady:
    """Return the steady state of one copy with so many users of its own."""
    asked, deployment = serving.asked, serving.deployment
    if asked.prefill_gpus or asked.guesses:
        found = answered(replace(asked, concurrency=users * asked.copies, rate=None)).steady
        if found is None:
            raise SpecError(serving.reason)
        return found
    found = Replica(deployment.steps, serving.work, deployment.limits(serving.work)).at_users(float(users))
    return replace(found, ttft=found.ttft + serving.transfer_s)


def fewest_gpus(serving: Serving, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
    """Return the smallest number of devices (1, 2, 4, …) that answers the load, within the limits where given.

    Every division into copies and tensor parallelism within a node is tried; of several nodes pipelines of whole ones,
    too, and of a model with routed experts those shared by a copy's devices, or by all.
    """
    limits = [limit.text() for limit in serving.limits(tpot=tpot, ttft=ttft)]
    for count in COUNTS:
        for layout in _layouts(serving.asked, count):
            try:
                found = answered(replace(serving.asked, gpus=count, layout=layout, prefill_gpus=0))
            except SpecError:
                continue
            if _meets(found, tpot, ttft):
                condition = ", ".join((f"as {_words(layout)}", *limits))
                return Inverse(question="fewest devices", value=count, unit="devices", condition=condition)
    condition = ", ".join((f"not even {COUNTS[-1]}", *limits))
    return Inverse(question="fewest devices", value=None, unit="devices", condition=condition)


def _words(layout: Layout) -> str:
    if layout.pp > 1 or layout.ep > 1:
        return layout.text()
    return f"{layout.dp} × {layout.tp} devices" if layout.dp > 1 else f"tp {layout.tp}"


def _layouts(asked: Asked, count: int) -> list[Layout]:
    """Return the layouts of so many devices, the plainest first, then more copies first."""
    node = max(asked.accelerator.node_size, 1)
    degrees = [tp for tp in (1, 2, 4, 8, 16, 32, 64) if tp <= min(count, node) and count % tp == 0]
    found = [Layout(tp=tp, dp=count // tp) for tp in degrees]
    # what has no network beyond its node cannot have a copy on several
    nodes = count // degrees[-1] if asked.accelerator.networked else 1
    found += [Layout(tp=degrees[-1], pp=pp, dp=nodes // pp) for pp in COUNTS[1:] if nodes % pp == 0]
    if has_experts(asked.model):
        found += [Layout(tp=tp, dp=count // tp, ep=tp, expert_tp=1) for tp in degrees[1:]]
        if nodes > 1 or count <= node:
            found += [Layout(tp=tp, dp=count // tp, ep=count, expert_tp=1) for tp in degrees if tp < count]
    return found


def _meets(found: Serving, tpot: float | None, ttft: float | None) -> bool:
    """Tell whether a deployment serves its load: every user has a place, the queue ends, latencies are met."""
    if found.steady is None or not bool(found.steady.stable):
        return False
    if found.asked.concurrency is not None and bool(found.steady.limited):
        return False
    return _keeps(found, tpot, ttft)


def _keeps(found: Serving, tpot: float | None, ttft: float | None) -> bool:
    return all(limit.met for limit in found.limits(tpot=tpot, ttft=ttft))


def cache_dtype_that_fits(serving: Serving, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
    """Return the widest format of the cache with which all users have a place at their longest, within the limits."""
    asked, limits = serving.asked, [limit.text() for limit in serving.limits(tpot=tpot, ttft=ttft)]
    users = 1.0 if asked.concurrency is None else max(asked.concurrency / asked.copies, 1.0)
    for name in CACHE_FORMATS:
        if dtype(name).bits > dtype(asked.cache_dtype).bits:
            continue
        found = answered(replace(asked, cache_dtype=name))
        fits = found.deployment.fits and float(found.capacity.allocated_sequences) >= users
        if fits and _keeps(found, tpot, ttft):
            text = f"{float(found.capacity.allocated_sequences) * asked.copies:,.1f} sequences fit"
            return Inverse(
                question="cache format that fits", value=name, unit="", condition=" and ".join((text, *limits))
            )
    many = users * asked.copies
    within = f" within {' and '.join(limits)}" if limits else ""
    do = "do" if many > 1 else "does"
    text = f"{counted(many, 'sequence')} {do} not fit in {CACHE_FORMATS[-1]} either{within}"
    return Inverse(question="cache format that fits", value=None, unit="", condition=text)


def compute_bound_batch(serving: Serving) -> Inverse:
    """Return the first batch of one copy at which a decode step's products with weights are bound by arithmetic.

    Up to it their weights' way from memory takes longer. For a long product it is peak · bytes of a weight /
    (2 · bandwidth), which tiles, few cores and experts that stand idle move. None where attention comes first.
    """
    steps, context = serving.deployment.steps, serving.work.mean_context

    def bound_by_memory(batch: int) -> bool:
        compute, memory = steps.products(Batch(sequences=float(batch), context=float(context)))
        return float(compute) < float(memory)

    value = last(bound_by_memory, 2**16)
    found: Any = 1 if value is None else None if value >= 2**16 else value + 1
    return Inverse(
        question="batch from which decoding is bound by compute", value=found, unit="sequences",
        condition=f"products with weights, one copy, context {context:,g}",
    )  # fmt: skip


SOLVERS: dict[str, Callable[..., Inverse]] = {
    "context": longest_context,
    "users": most_users,
    "gpus": fewest_gpus,
    "cache-dtype": cache_dtype_that_fits,
    "compute-batch": compute_bound_batch,
}
"""What can be asked for → the function that answers."""


def solve(serving: Serving, what: str, *, tpot: float | None = None, ttft: float | None = None) -> Inverse:
    """Answer one of the inverse questions: context, users, gpus, cache-dtype or compute-batch.

    Raises:
        UnknownName: no such question.
        SpecError: users without a limit of latency, a compute-batch with one.

    >>> from calc.serving import serve
    >>> found = serve("llama-3.1-8b", "h100-sxm", input_tokens=1000, output_tokens=200, concurrency=64)
    >>> solve(found, "cache-dtype").value
    'bf16'
    """
    from calc.errors import UnknownName

    if what not in SOLVERS:
        raise UnknownName("question", what, SOLVERS)
    if what != "compute-batch":
        return SOLVERS[what](serving, tpot=tpot, ttft=ttft)
    idle("no latency limits the batch from which decoding is bound by compute", tpot=(tpot, None), ttft=(ttft, None))
    return compute_bound_batch(serving)
