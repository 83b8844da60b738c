"""Tables of steps: exact at their points, near between them, and fast enough for a planner."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

import calc
from calc.catalog import load_accelerator
from calc.parallel import Layout
from calc.serving.deployment import Deployment
from calc.serving.engines import load_engine
from calc.serving.steady import Limits, Replica, Work
from calc.serving.steps import Batch, Steps
from calc.serving.tables import EVERY, grid

WORK = Work(input_tokens=900, output_tokens=300)


def replica(name: str, tp: int = 1, engine: str = "vllm") -> Replica:
    steps = Steps(calc.load(name), load_accelerator("h100-sxm"), Layout(tp=tp), load_engine(engine))
    return Replica(steps, WORK, Limits(sequences=1024.0, batched_tokens=8192))


@pytest.mark.parametrize("most", [1, 16, 17, 100, 8192, 100_000])
def test_the_grid(most: int) -> None:
    points = grid(most)
    assert points[0] == 1
    assert points[-1] >= most
    assert (np.diff(points) > 0).all()
    assert list(points[:EVERY]) == list(range(1, EVERY + 1))
    assert (points == np.round(points)).all()


@pytest.mark.parametrize(
    ("name", "tp"), [("llama-3-8b", 1), ("deepseek-v2-lite", 1), ("qwen3-30b-a3b", 2), ("qwen3-next-80b-a3b", 4)]
)
@pytest.mark.parametrize("sequences", [1, 7, 33, 150, 700])
def test_a_table_agrees_with_the_step(name: str, tp: int, sequences: int) -> None:
    one = replica(name, tp)
    exact = one.steps.time(Batch(sequences=float(sequences), context=WORK.mean_context))
    assert one.table.time(float(sequences)).seconds == pytest.approx(exact.seconds, rel=0.03)
    mixed = Batch(
        sequences=float(sequences), context=WORK.mean_context, prompts=2.0, chunk=900.0, seen=900.0, finishing=2.0
    )
    found = one.table.time(float(sequences), 1800.0, 2.0)
    assert found.seconds == pytest.approx(one.steps.time(mixed).seconds, rel=0.04)
    assert found.by_kind["attention"] > 0


def test_a_hundred_thousand_deployments_in_seconds() -> None:
    model, gpu, engine = calc.load("llama-3.1-8b"), load_accelerator("h100-sxm"), load_engine("vllm")
    deployment = Deployment(model, gpu, Layout(), engine)
    rates = np.linspace(0.01, 60, 100_000)
    start = perf_counter()
    found = Replica(deployment.steps, WORK, deployment.limits(WORK)).at_rate(rates)
    assert perf_counter() - start < 20
    assert found.itl.shape == rates.shape
    assert (np.diff(found.itl[found.itl < 0.02]) > -1e-6).all()
    assert found.stable.any()
    assert not found.stable.all()
