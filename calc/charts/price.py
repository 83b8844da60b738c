"""What a million tokens cost, across accelerators."""

from __future__ import annotations

from collections.abc import Iterator

from calc.charts.chart import Asked, Chart, several, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, size
from calc.charts.served import INPUT, OUTPUT, over_users
from calc.confidence import error_of
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.serving import Serving

SIZES = (1, 2, 4, 8)
USERS = tuple(2**power for power in range(11))
LIMIT = 0.05
"""Seconds between tokens that a user waits at most."""
MILLION = 1e6


def data(asked: Asked) -> ChartData:
    """Return the least price of a million written tokens on each accelerator, at an acceptable speed."""
    model = asked.models[0]
    found = {device: best for device in asked.accelerators if (best := _cheapest(asked, device)) is not None}
    if not found:
        raise SpecError(f"no accelerator named here with a known price serves {model.heading} at {LIMIT:g} s a token")
    ranked = sorted(found.values(), key=usd_per_million)
    prices = tuple(usd_per_million(each) for each in ranked)
    known = error_of("serving.throughput")
    panel = Panel(
        x=Axis(label="", unit="USD"),
        y=Axis(
            label="US dollars for a million tokens written, their prompts included",
            scale="names",
            names=tuple(f"{each.asked.gpus} × {each.asked.accelerator.title}" for each in ranked),
        ),
        series=(
            Series(
                name="US dollars for a million tokens",
                look="bar",
                x=prices,
                y=tuple(float(row) for row in range(len(ranked))),
                low=tuple(price / known.high for price in prices),
                high=tuple(price / known.low for price in prices),
                texts=tuple(_text(each) for each in ranked),
                provenance="modelled",
            ),
        ),
    )
    cheapest, dearest = ranked[0], ranked[-1]
    more = f", {times(prices[-1] / prices[0])} less than {dearest.asked.accelerator.title}" if len(ranked) > 1 else ""
    unpriced = several(device.title for device in asked.accelerators if not device.price)
    left_out = f" No price is known for {unpriced}." if unpriced else ""
    dates = sorted({device.price.date for device in found if device.price})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return ChartData(
        chart="price",
        finding=f"A million tokens of {model.heading} cost least on {cheapest.asked.accelerator.title}: "
        f"{prices[0]:.2f} USD{more}",
        panels=(panel,),
        conventions=f"Prompts of {INPUT:,} and answers of {OUTPUT:,} tokens, at most {LIMIT * 1e3:.0f} ms between "
        f"tokens, the cheapest of 1 to 8 devices and 1 to {USERS[-1]:,} users. List prices of {when}. "
        f"Modelled; throughput {known.text()}.{left_out}",
        source=sources(asked.models),
    )


def usd_per_million(of: Serving) -> float:
    """Return the price of a million written tokens when all of the time is paid for them."""
    return float(of.usd_per_hour or 0.0) / 3600 / float(of.output_tokens_per_s or 1.0) * MILLION


def _text(of: Serving) -> str:
    return f"{usd_per_million(of):.2f} USD, {of.asked.concurrency:,.0f} users, {1e3 * float(of.tpot_s or 0):.0f} ms"


def _cheapest(asked: Asked, device: Accelerator) -> Serving | None:
    """Return the cheapest deployment that is fast enough; None where there is none, or no price."""
    return min(fast_enough(asked, device), key=usd_per_million, default=None) if device.price else None


def fast_enough(asked: Asked, device: Accelerator) -> Iterator[Serving]:
    """Yield the deployments of one to eight devices that keep to the limit between tokens, over the number of users."""
    for gpus in SIZES if asked.gpus is None else (asked.gpus,):
        for one in over_users(asked, device, gpus, USERS):
            if one.steady is None or float(one.tpot_s or 0) > LIMIT:
                break
            yield one


CHART = Chart(
    about="What a million tokens cost across accelerators (modelled)",
    data=data,
    draw=draw,
    models=("llama-3-8b",),
    accelerators=("a100-80gb", "h100-sxm", "h200", "b200", "mi300x", "l40s", "l4", "a10g", "tpu-v5e", "tpu-v6e"),
    most=1,
    takes=("gpus", "weights_dtype", "cache_dtype", "accelerators"),
    size=size,
)
