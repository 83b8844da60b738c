"""``calc.plan``: every deployment that might do, swept over its copies; the cheapest that meets the objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from calc.catalog import load
from calc.checks import number, share, whole
from calc.errors import SpecError
from calc.media.asked import read
from calc.media.shares import inputs_of
from calc.model import Model
from calc.planning.answer import Plan
from calc.planning.demand import Demand, Lengths, Objectives
from calc.planning.families import Wanted, families
from calc.planning.search import Question, Search
from calc.progress import Progress
from calc.units import dtype

Rows: TypeAlias = Iterable[Sequence[float] | Mapping[str, float]]


def plan(
    model: str | Path | Model,
    *,
    rate: float,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
    lengths: Lengths | str | Path | Rows | None = None,
    ttft: float,
    tpot: float,
    quantile: float = 0.9,
    profile: Sequence[float] | str | Path | None = None,
    accelerators: Wanted | None = None,
    max_gpus: int = 1024,
    engines: str | Sequence[str] = "vllm",
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
    cached: float = 0.0,
    disaggregated: bool = True,
    usd_per_hour: float | None = None,
    images: str | None = None,
    audio: str | None = None,
    video: str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Return the cheapest deployments that answer ``rate`` requests per second within the objectives.

    Looked at are accelerators (by default those with a known price), layouts, weights as published and in 8 bits,
    engines, prompts read by the same devices or by others, and every number of copies that ``max_gpus`` devices hold.

    ``ttft`` and ``tpot`` hold at ``quantile``: waits are exponential among those who wait, prompts log-normal with the
    spread of ``lengths`` (also the rows of a histogram, or a file of them), a step as long as with that quantile of a
    Poisson number of sequences. ``profile``: 24 shares of the peak ``rate``, by hour, or a file of them. ``cached``:
    share of each prompt in a prefix cache.
    ``usd_per_hour``: price of one device, instead of the known ones. ``images``, ``audio`` and ``video`` stand in every
    prompt before the text that ``input_tokens`` or ``lengths`` tell of, written as ``calc.serve`` takes them.
    Units: requests per second, tokens, seconds.
    The model of a copy under its load is that of ``calc.serve``.

    Raises:
        CalcError: an unknown model, accelerator, engine or format; a demand or objective that is none.

    >>> found = plan("llama-3.1-8b", rate=20, input_tokens=1000, output_tokens=200, ttft=1, tpot=0.03,
    ...              accelerators=["h100-sxm"], max_gpus=8, disaggregated=False)
    >>> found.best.gpus <= 4, found.best.tpot_s <= 0.03
    (True, True)
    """
    import numpy as np

    loaded = load(model)
    inputs = inputs_of(loaded, read(images, audio, video))
    demand = Demand(
        rate=rate,
        lengths=_lengths(lengths, input_tokens, output_tokens).behind(sum(one.tokens for one in inputs)),
        **({} if profile is None else {"profile": _profile(profile)}),
    )
    question = Question(
        model=loaded, demand=demand, wanted=Objectives(ttft=ttft, tpot=tpot, quantile=quantile), cached=cached,
        max_gpus=max_gpus, usd_per_hour=usd_per_hour, disaggregated=disaggregated, inputs=inputs,
    )  # fmt: skip
    _check(question, cache_dtype)
    every = list(
        families(
            question.model, accelerators=accelerators, max_gpus=max_gpus, weights_dtype=weights_dtype,
            cache_dtype=cache_dtype, engines=engines,
        )
    )  # fmt: skip
    search = Search(question)
    with np.errstate(all="ignore"):  # unstable queues are infinite, and refused as such
        for number, family in enumerate(every):
            if progress:
                progress(family.text(), number, len(every))
            search.look(family)
        return search.plan()


def _lengths(
    lengths: Lengths | str | Path | Rows | None, input_tokens: float | None, output_tokens: float | None
) -> Lengths:
    """Return lengths from what was given: means, or all in one.

    Raises:
        SpecError: both, or neither.
    """
    if lengths is None:
        if input_tokens is None or output_tokens is None:
            raise SpecError("give input_tokens and output_tokens, or lengths")
        return Lengths(input_tokens=input_tokens, output_tokens=output_tokens)
    if input_tokens is not None or output_tokens is not None:
        raise SpecError("lengths say what input_tokens and output_tokens would: give one or the other")
    if isinstance(lengths, Lengths):
        return lengths
    if isinstance(lengths, (str, Path)):
        return Lengths.read(lengths)
    return Lengths.of_histogram(lengths)


def _profile(profile: Sequence[float] | str | Path) -> tuple[float, ...]:
    return Demand.read_profile(str(profile)) if isinstance(profile, (str, Path)) else tuple(profile)


def _check(question: Question, cache_dtype: str) -> None:
    """Refuse numbers that are none."""
    most, cached, price = question.max_gpus, question.cached, question.usd_per_hour
    whole("max_gpus", most, most=10**6)
    share("cached", cached)
    if price is not None:
        number("usd_per_hour", price, above=0, below=10**9)
    dtype(cache_dtype)
