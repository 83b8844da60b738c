"""What public functions are given is checked: nothing falsy becomes a default, nothing mistyped a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import calc
from calc.checks import number, one_of, share, text, whole
from calc.errors import CalcError, SpecError

LOAD = {"input_tokens": 100, "output_tokens": 10}
TRAFFIC = {"rate": 1, "input_tokens": 100, "output_tokens": 10, "ttft": 1, "tpot": 1}


def serve(**options: Any) -> Callable[[], object]:
    return lambda: calc.serve("llama-3-8b", "h100-sxm", **{**LOAD, **options})


def plan(**options: Any) -> Callable[[], object]:
    return lambda: calc.plan("llama-3-8b", **{**TRAFFIC, "accelerators": ["h100-sxm"], "max_gpus": 2, **options})


def reason(**options: Any) -> Callable[[], object]:
    return lambda: calc.reason("gpt2", **{"prompt": 5, "answer": 5, **options})


def adapt(**options: Any) -> Callable[[], object]:
    return lambda: calc.adapt("gpt2", **options)


def speculate(**options: Any) -> Callable[[], object]:
    return lambda: calc.speculate("llama-3-70b", "llama-3-8b", **{"acceptance": 0.5, **options})


def objective(**options: Any) -> Callable[[], object]:
    return lambda: calc.objective("ppo", "gpt2", **options)


def kernels(**options: Any) -> Callable[[], object]:
    return lambda: calc.kernel_table("gpt2", "h100-sxm", **options)


def exchange(**options: Any) -> Callable[[], object]:
    return lambda: calc.exchange("gpt2", calc.Layout(), **options)


def train(**options: Any) -> Callable[[], object]:
    return lambda: calc.train("gpt2", "h100-sxm", **{"gpus": 8, **options})


def memory(**options: Any) -> Callable[[], object]:
    return lambda: calc.training_memory("gpt2", **{"context": 8, **options})


REFUSED: list[tuple[Callable[[], object], str]] = [
    (train(context=0), "context = 0 is not a whole number"),
    (train(global_batch=0), "global_batch = 0 is not a whole number"),
    (train(gpus="8"), "gpus = '8' is not a whole number"),
    *((train(**{name: 0}), f"{name} = 0 is not a whole number") for name in ("tp", "pp", "cp", "ep", "dp", "gpus")),
    (train(micro_batch=1.5), "micro_batch = 1.5 is not a whole number"),
    (train(tokens=0), "tokens = 0 is not a whole number"),
    (train(usd_per_hour="2", tokens=1), "usd_per_hour = '2' is not a number from 0 on"),
    (train(zero=4), "zero = 4 is not a whole number from 0 to 3"),
    (train(schedule=""), "schedule = '' is none of 'gpipe'"),
    (train(search=True, context=0), "context = 0 is not a whole number"),
    (train(search=True, global_batch=0), "global_batch = 0 is not a whole number"),
    (train(search=True, precision="fp7"), "no training precision named 'fp7'"),
    (train(search=True, tokens="1T"), "tokens = '1T' is not a whole number"),
    (memory(context=0), "context = 0 is not a whole number"),
    (memory(micro_batch=0), "micro_batch = 0 is not a whole number"),
    (memory(global_batch=0), "global_batch = 0 is not a whole number"),
    (memory(micro_batches=0), "micro_batches = 0 is not a whole number"),
    (memory(stage=1), "stage = 1 is not a whole number from 0 to 0"),
    (memory(recompute="x"), "recompute = 'x' is none of 'none'"),
    (plan(accelerators=[]), "accelerators = () names no accelerator"),
    (plan(engines=()), "engines = () names no engine"),
    (plan(max_gpus=2.0), "max_gpus = 2.0 is not a whole number from 1 to 1,000,000"),
    (plan(cached="0.5"), "cached = '0.5' is not a share from 0 to 1"),
    (plan(usd_per_hour=0), "usd_per_hour = 0 is not a number above 0"),
    (plan(rate="1"), "rate = '1' is not a number of requests per second"),
    (plan(ttft=True), "ttft = True is not a number of seconds"),
    (plan(quantile=1), "quantile = 1 is not a number from 0.5 to less than 1"),
    (serve(concurrency="8"), "concurrency = '8' is not a number above 0"),
    (serve(rate=0), "rate = 0 is not a number above 0"),
    (serve(cached="0.5"), "cached = '0.5' is not a share"),
    (serve(gpus="8"), "gpus = '8' is not a whole number"),
    (serve(gpus=0), "gpus = 0 is not a whole number"),
    (serve(tp=0), "tp = 0 is not a whole number"),
    (serve(dp=0), "dp = 0 is not a whole number"),
    (serve(prefill_gpus=1), "prefill_gpus = 1 leaves none of 1 devices"),
    (serve(output_tokens=0), "output_tokens = 0 is not a whole number"),
    (serve(sequences=0), "sequences = 0 is not a whole number"),
    (serve(guesses=1.5, accepted=1), "guesses = 1.5 is not a whole number"),
    (serve(guesses=2, accepted="2"), "accepted = '2' is not a number"),
    (serve(memory_fraction="0.9"), "memory_fraction = '0.9' is not a share"),
    (serve(skew="1"), "skew = '1' is not a number from 0"),
    (serve(experts_on="disk"), "experts_on = 'disk' is neither 'device' nor 'host'"),
    (serve(cache_dtype=None), "dtype = None is not a text"),
    (lambda: serve()().usd_per_million("inputs"), "side = 'inputs' is neither 'input' nor 'output'"),  # type: ignore[attr-defined]
    (exchange(stage=0.5), "stage = 0.5 is not a whole number"),
    (exchange(phase="x"), "phase = 'x' is none of 'prefill', 'decode', 'train'"),
    (exchange(batch=0), "batch = 0 is not a whole number"),
    (exchange(context=0), "context = 0 is not a whole number"),
    (kernels(fusion="x"), "fusion = 'x' is none of 'fused'"),
    (kernels(launch="x"), "launch = 'x' is "),
    (kernels(tp=0), "tp = 0 is not a whole number"),
    (speculate(drafted=1.5), "drafted = 1.5 is not a whole number from 1 to 1,024"),
    (speculate(drafted=0), "drafted = 0 is not a whole number"),
    (speculate(acceptance=True), "acceptance = True is not a chance"),
    (reason(prompt="5"), "prompt = '5' is not a whole number"),
    (reason(attempts=1.5), "attempts = 1.5 is not a whole number"),
    (reason(counts="x"), "counts = 'x' is neither 'matmul' nor 'all'"),
    (reason(redo="0"), "redo = '0' is not a chance"),
    (reason(chance=0), "chance = 0 is not a chance above 0, at most 1"),
    (reason(usd_per_million="1"), "usd_per_million = '1' is not a number above 0"),
    (reason(tokens_per_second=0), "tokens_per_second = 0 is not a number above 0"),
    (adapt(exits={1: "a"}), "chance of the exit after layer 1 = 'a' is not a chance"),
    (adapt(exits={1.5: 0.5}), "layer of an exit = 1.5 is not a whole number"),
    (adapt(exits=[1]), "exits = [1]: write them as"),
    (adapt(exits={1: 0.5}, confidence="x"), "confidence = 'x' is neither 'head' nor 'none'"),
    (adapt(capacity="0.5"), "capacity = '0.5' is not a share above 0, at most 1"),
    (adapt(capacity=0.5, every=1.5), "every = 1.5 is not a whole number"),
    (objective(replay="0"), "replay = '0' is not a share"),
    (objective(value_bytes=3), "value_bytes = 3 is none of 1, 2, 4"),
    (objective(tokens=0), "tokens = 0 is not a number above 0"),
    (lambda: calc.granular_optimum(-1), "compute = -1 is not a number above 0"),
    (lambda: calc.granular_optimum(1e20, context=0), "context = 0 is not a whole number"),
    (lambda: calc.granular_optimum(1e20, most_layers=0), "most_layers = 0 is not a whole number"),
    (lambda: calc.lengths("llama-3-8b", counts="x"), "counts = 'x' is neither"),  # type: ignore[arg-type]
    (lambda: calc.find_accelerator(None), "text = None is not a text"),  # type: ignore[arg-type]
    (lambda: calc.accelerators(None), "search = None is not a text"),  # type: ignore[arg-type]
    (lambda: calc.listing(None), "search = None is not a text"),  # type: ignore[arg-type]
    (lambda: calc.formula("gpt2", "cache", counts="x"), "counts = 'x' is neither"),  # type: ignore[arg-type]
    (lambda: calc.sweep("gpt2", batch=1, context=8, counts="x"), "counts = 'x' is neither"),  # type: ignore[arg-type]
    (lambda: calc.operation_table("gpt2", phase="train"), "phase = 'train' is neither"),  # type: ignore[arg-type]
    (lambda: calc.calibrate(seconds=0), "seconds = 0 is not a number above 0, less than 86,400"),
    (lambda: calc.Layout(zero="1"), "zero = '1' is not a whole number from 0 to 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_is_refused_in_one_line(call: Callable[[], object], words: str) -> None:
    with pytest.raises(CalcError, match=re.escape(words)):
        call()


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, -1, [1], float("nan")])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(SpecError, match="is not a whole number of 1 or more"):
        whole("n", value)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400, 1j, [1.0]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(SpecError, match="is not a number"):
        number("x", value)


def test_numbers_of_numpy_are_numbers() -> None:
    assert type(whole("n", np.int64(3))) is int
    assert type(number("x", np.float32(0.5))) is float
    assert number("x", Fraction(1, 2)) == 0.5
    assert calc.Layout(tp=np.int64(8)) == calc.Layout(tp=8)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        ({}, (-1e9, 1e9), (), ""),
        ({"least": 0}, (0, 5), (-1,), "a number from 0 on"),
        ({"above": 0}, (0.1,), (0,), "a number above 0"),
        ({"least": 0, "most": 1}, (0, 1), (-0.1, 1.1), "a number from 0 to 1"),
        ({"least": 0, "below": 1}, (0, 0.9), (1,), "a number from 0 to less than 1"),
        ({"above": 0, "most": 1}, (1,), (0, 2), "a number above 0, at most 1"),
        ({"above": 0, "below": 10**9}, (1,), (0, 10**9), "a number above 0, less than 1,000,000,000"),
    ],
)
def test_bounds_are_kept_and_said(
    bounds: dict[str, float], inside: tuple[float, ...], outside: tuple[float, ...], said: str
) -> None:
    assert all(number("x", value, **bounds) == value for value in inside)  # type: ignore[arg-type]
    for value in outside:
        with pytest.raises(SpecError, match=re.escape(f"x = {value} is not {said}") + "$"):
            number("x", value, **bounds)  # type: ignore[arg-type]


def test_shares_words_and_texts() -> None:
    assert share("x", 0) == 0
    assert one_of("x", 2, (1, 2, 4)) == 2
    assert text("x", "") == ""
    with pytest.raises(SpecError, match="x = True is none of 1, 2, 4"):
        one_of("x", True, (1, 2, 4))
    with pytest.raises(SpecError, match=r"x = \[\] is neither 'a' nor 'b'"):
        one_of("x", [], ("a", "b"))
