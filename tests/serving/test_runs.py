"""Runs of so many requests: long ones are steady, short ones never get there, those beyond saturation wait."""

from __future__ import annotations

import pytest

import calc
from calc.catalog import load_accelerator
from calc.parallel import Layout
from calc.serving.deployment import Deployment
from calc.serving.engines import load_engine
from calc.serving.runs import run
from calc.serving.steady import Replica, Work

ENGINES = ["vllm", "sglang", "tensorrt-llm"]


def replica(engine: str = "vllm", inputs: int = 1000, outputs: int = 300) -> Replica:
    found = Deployment(calc.load("llama-3-8b"), load_accelerator("h100-sxm"), Layout(), load_engine(engine))
    work = Work(input_tokens=inputs, output_tokens=outputs)
    return Replica(found.steps, work, found.limits(work))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_run_is_steady(engine: str) -> None:
    one = replica(engine)
    state = one.at_rate(5)
    longest, long = run(one, 5, 10_000), run(one, 5, 9.9 * 5 * float(state.ttft + one.decodes * state.step))
    assert (longest.itl, longest.ttft, longest.rate) == (state.itl, state.ttft, 5)
    assert long.itl == pytest.approx(state.itl, rel=0.05)
    assert long.ttft == pytest.approx(state.ttft, rel=0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_few_requests_are_not_in_each_others_way(engine: str) -> None:
    one = replica(engine)
    few, state = run(one, 15, 20), one.at_rate(15)
    assert float(state.running) > 20
    assert few.itl < 0.9 * state.itl
    assert few.itl > one.at_users(1).decode_step.seconds


@pytest.mark.parametrize("engine", ENGINES)
def test_beyond_saturation_the_wait_grows_with_the_run(engine: str) -> None:
    one = replica(engine)
    most = float(one.at_rate(1).saturation)
    waits = [run(one, 1.5 * most, requests) for requests in (500, 1000, 2000)]
    assert 1.5 < waits[2].ttft / waits[1].ttft < 3
    assert waits[2].rate == pytest.approx(most, rel=0.15)


def test_all_at_once_enter_as_fast_as_steps_have_room() -> None:
    """500 prompts of 4,000 tokens, 20 tokens each: half of them have entered after half of the time that all take."""
    one = replica(inputs=4000, outputs=20)
    found = run(one, float("inf"), 500)
    assert found.ttft == pytest.approx(500 / 2 / one.most_prompts, rel=0.1)
    assert found.rate == pytest.approx(one.most_prompts, rel=0.1)


def test_alike_requests_that_fit_at_once_end_at_once() -> None:
    one = replica(inputs=10, outputs=500)
    found, state = run(one, float("inf"), 64), one.at_users(64)
    assert 64 / found.rate == pytest.approx(500 * float(state.step), rel=0.1)
