"""The steady state: conservation laws, limits, agreement of sweeps with numbers, and of loops with rates."""

from __future__ import annotations

import numpy as np
import pytest

import calc
from calc.catalog import load_accelerator
from calc.errors import SpecError
from calc.parallel import Layout
from calc.serving.deployment import Deployment, Settings
from calc.serving.engines import load_engine
from calc.serving.steady import Limits, Replica, Work

WORK = Work(input_tokens=1000, output_tokens=300)


def deployment(engine: str = "vllm", name: str = "llama-3-8b", **settings: object) -> Deployment:
    return Deployment(
        calc.load(name), load_accelerator("h100-sxm"), Layout(), load_engine(engine),
        settings=Settings(**settings),  # type: ignore[arg-type]
    )  # fmt: skip


def replica(engine: str = "vllm", work: Work = WORK, **options: object) -> Replica:
    found = deployment(engine)
    return Replica(found.steps, work, found.limits(work), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize("users", [1, 20, 150])
def test_littles_law_in_a_closed_loop(engine: str, users: int) -> None:
    one = replica(engine)
    found = one.at_users(users)
    residence = found.ttft - one.steps.engine.request_s + one.decodes * found.step
    assert found.rate * residence == pytest.approx(users, rel=0.02)
    assert found.running <= users


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_rate_gives_the_state_of_as_many_users(engine: str) -> None:
    one = replica(engine)
    closed = one.at_users(40)
    opened = one.at_rate(closed.rate)
    assert opened.itl == pytest.approx(closed.itl, rel=0.03)
    assert opened.running == pytest.approx(closed.running, rel=0.05)


def test_steps_with_prompts_are_slower_and_their_share_grows() -> None:
    one = replica()
    states = [one.at_rate(rate) for rate in (0.1, 2, 8)]
    assert [state.itl for state in states] == sorted(state.itl for state in states)
    assert [state.prompt_share for state in states] == sorted(state.prompt_share for state in states)
    assert states[0].itl == pytest.approx(states[0].decode_step.seconds, rel=0.03)
    assert all(state.prompt_step.seconds > state.decode_step.seconds for state in states)


def test_beyond_saturation_there_is_no_steady_state() -> None:
    one = replica()
    most = one.at_rate(1.0).saturation
    below, above = one.at_rate(0.9 * most), one.at_rate(1.1 * most)
    assert below.stable
    assert below.queue < 60
    assert not above.stable
    assert above.queue == above.ttft == float("inf")
    assert above.rate <= most


def test_users_beyond_the_places_wait() -> None:
    found = deployment(sequences=16)
    few, many = (Replica(found.steps, WORK, found.limits(WORK)).at_users(users) for users in (16, 64))
    assert few.queue == 0
    assert many.limited
    assert not few.limited
    assert many.rate == pytest.approx(few.rate, rel=0.02)
    assert many.ttft == pytest.approx(few.ttft + 48 / few.rate, rel=0.02)


def test_a_prefix_cache_spares_prompts() -> None:
    cold, warm = replica(), replica(work=Work(input_tokens=1000, output_tokens=300, cached=900))
    assert warm.at_users(64).itl < cold.at_users(64).itl
    assert warm.at_users(64).ttft < cold.at_users(64).ttft


def test_accepted_guesses_spare_steps() -> None:
    plain = replica().at_users(8)
    guessed = replica(accepted=2.5, width=4).at_users(8)
    assert plain.itl / 2.6 < guessed.itl < plain.itl / 2


def test_the_start_of_a_run_is_slower() -> None:
    steady, short = replica().at_users(64), replica().at_users(64, rounds=5)
    assert short.ttft > 1.5 * steady.ttft


def test_alike_requests_stay_together_where_prompts_run_alone() -> None:
    alike = Work(input_tokens=1000, output_tokens=128, spread=0.2)
    apart = Work(input_tokens=1000, output_tokens=128)
    assert replica("sglang", alike).at_users(128).ttft > 3 * replica("sglang", apart).at_users(128).ttft


def test_room_to_the_end_admits_fewer() -> None:
    work = Work(input_tokens=2000, output_tokens=6000)
    vllm, trt = (deployment(engine, sequences=4096) for engine in ("vllm", "tensorrt-llm"))
    assert trt.limits(work).sequences < vllm.limits(work).sequences
    assert trt.limits(work).sequences == pytest.approx(float(trt.capacity(8000).allocated_sequences))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="not one sequence fits"):
        deployment(name="llama-3-70b").limits(WORK)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_sweeps_are_numbers(engine: str) -> None:
    found = deployment(engine)
    limits = Limits(sequences=256.0, batched_tokens=8192)
    users, rates = np.array([1.0, 30.0, 400.0]), np.array([0.5, 4.0, 50.0])
    swept = Replica(found.steps, WORK, limits)
    closed, opened = swept.at_users(users), swept.at_rate(rates)
    for index in range(3):
        one = Replica(found.steps, WORK, limits).at_users(float(users[index]))
        assert closed.itl[index] == pytest.approx(one.itl, rel=0.01)
        assert closed.ttft[index] == pytest.approx(one.ttft, rel=0.02)
        other = Replica(found.steps, WORK, limits).at_rate(float(rates[index]))
        assert opened.itl[index] == pytest.approx(other.itl, rel=0.02)
        assert bool(opened.stable[index]) is bool(other.stable)


@pytest.mark.parametrize("engine", ["vllm", "tensorrt-llm"])
def test_prompts_are_no_more_than_steps_have_room_for(engine: str) -> None:
    """Short answers to long prompts: places are plenty, the budget of tokens is what all wait for."""
    work = Work(input_tokens=4000, output_tokens=20)
    one = replica(engine, work)
    found, budget = one.at_users(500), one.limits.batched_tokens
    tokens = found.rate * found.step * (work.input_tokens + one.decodes)
    assert tokens == pytest.approx(budget, rel=0.02)
    assert found.rate == pytest.approx(one.at_users(250).rate, rel=0.02)
    assert found.running < 0.5 * one.limits.sequences
    assert found.rate * (found.ttft - one.steps.engine.request_s + one.decodes * found.step) == pytest.approx(
        500, rel=0.02
    )
    assert not one.at_rate(1.05 * found.rate).stable
