"""A run of so many requests, which come at a rate. Not every run has a steady state.

A benchmark that sends 500 requests at 32 a second is over before as many run as its rate asks for; and where the rate
is beyond what a deployment can answer, how long a request waits depends on how many have come. The run is followed as a
fluid in intervals of time: requests wait for a place and for room in the steps; all that run go forward by one token a
step, whose time is that of the replica at the moment.
"""

from __future__ import annotations

from collections import deque

from calc.records import Record, named_record
from calc.serving.steady import Replica

INTERVALS, OF_RESIDENCE = 200, 10
"""Into how many a run is cut at least, and a request's time in it."""
LONG = 10
"""Residences of a request after which a run is as good as without end."""


@named_record
class Run(Record):
    """What a run measures: means over its requests, in seconds; ``rate``: requests over the time to its end."""

    ttft: float
    itl: float
    rate: float


def run(replica: Replica, rate: float, requests: float) -> Run:
    """Return what ``requests`` requests see that come evenly at ``rate`` per second.

    A long run at a rate that can be answered is in its steady state. Where a shorter one comes near it, the wait of
    chance is added, which no fluid has.
    """
    steady = replica.at_rate(rate)
    places, decodes, most = float(replica.limits.sequences), float(replica.decodes), replica.most_prompts
    residence = float(steady.ttft - steady.queue) + decodes * float(steady.step)
    if steady.stable and LONG * rate * residence < requests:
        return Run(ttft=float(steady.ttft), itl=float(steady.itl), rate=rate)
    lasting = max(requests / min(rate, float(steady.saturation)), residence)
    interval = min(lasting / INTERVALS, residence / OF_RESIDENCE)
    now = first = to_first = spaced = 0.0
    step = float(steady.decode_step.seconds)
    entered = finished = done = 0.0  # requests, and steps since the start
    # requests that entered together: how many, when, at which step
    running: deque[tuple[float, float, float]] = deque()
    while finished < requests * (1 - 1e-6):
        inside = entered - finished
        leaving = _leaving(running, done + interval / step - decodes)
        come = min(rate * (now + interval), requests) - entered
        fresh = max(min(come, most * interval, places - inside + leaving), 0.0)
        step, first = replica.while_entering(inside + (fresh - leaving) / 2, fresh, interval, step)
        if fresh > 0:
            waited = max(now + interval / 2 - (entered + fresh / 2) / rate, 0.0)
            to_first += fresh * (waited + first)
            running.append((fresh, now + interval / 2, done + interval / 2 / step))
            entered += fresh
        before, now, done = done, now + interval, done + interval / step
        while running and running[0][2] + decodes <= done:
            number, since, at = running.popleft()
            ended = now - interval * min((done - at - decodes) / (done - before), 1.0)
            spaced += number * (ended - since)
            finished += number
    chance = float(steady.queue) if steady.stable and 2 * float(steady.running) < requests else 0.0
    return Run(
        ttft=to_first / requests + chance, itl=spaced / requests / max(decodes, 1), rate=requests / (now + first)
    )


def _leaving(running: deque[tuple[float, float, float]], step: float) -> float:
    """Return how many of those that run entered before a step."""
    total = 0.0
    for number, _, entered in running:
        if entered > step:
            break
        total += number
    return total
