"""Inverse questions: exact to one, and consistent with the question asked forwards."""

from __future__ import annotations

from typing import Any

import pytest

from calc.errors import CalcError
from calc.serving import serve
from calc.serving.inverse import last, state_of


def ask(model: str = "llama-3.1-8b", accelerator: str = "h100-sxm", **options: Any) -> Any:
    return serve(model, accelerator, **{"input_tokens": 1000, "output_tokens": 200, **options})


@pytest.mark.parametrize("end", [1, 2, 3, 9, 1000, 12_345])
def test_the_last_number_for_which_it_holds(end: int) -> None:
    assert last(lambda n: n <= end) == end


def test_none_and_all() -> None:
    assert last(lambda n: False) is None
    assert last(lambda n: True, most=100) == 100


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-12b", "deepseek-v2-lite"])
def test_longest_context_is_exact_to_the_token(model: str) -> None:
    found = ask(model, concurrency=20)
    context = found.solve("context").value
    assert float(found.deployment.capacity(context).allocated_sequences) >= 20
    assert float(found.deployment.capacity(context + 1).allocated_sequences) < 20


def test_most_users_within_a_latency() -> None:
    found = ask()
    users = found.solve("users", tpot=0.015).value
    assert float(state_of(found, users).itl) <= 0.015 < float(state_of(found, users + 1).itl) * 1.005
    assert found.solve("users", tpot=0.015, ttft=0.045).value <= users
    assert found.solve("users", tpot=1e-6).value is None


def test_fewest_devices() -> None:
    assert ask().solve("gpus").value == 1
    assert ask("llama-3.1-70b", concurrency=4).solve("gpus").value == 2
    assert ask("llama-3.1-70b", concurrency=4).solve("gpus", tpot=0.015).value == 8
    assert ask("llama-3.1-70b", weights_dtype="int4-linear", concurrency=4).solve("gpus").value == 1


def test_fewest_devices_of_what_no_node_holds() -> None:
    """A copy spans nodes: as a pipeline, or with its experts spread over all devices."""
    dense = ask("llama-3.1-405b", concurrency=4).solve("gpus")
    assert (dense.value, dense.condition) == (16, "as tp8 pp2")
    routed = ask("deepseek-v3", gpus=32, ep=32, tp=1, input_tokens=32_768, concurrency=200)
    found = routed.solve("gpus")
    assert routed.fits
    assert (found.value, found.condition) == (32, "as ep32 dp32")
    assert ask("llama-3.1-405b", "rtx-4090").solve("gpus").value is None  # nothing joins several hosts of it


def test_the_cache_format_that_fits() -> None:
    assert ask(concurrency=16).solve("cache-dtype").value == "bf16"
    tight = ask(input_tokens=100_000, concurrency=7)
    assert tight.solve("cache-dtype").value == "fp8"
    assert ask(input_tokens=100_000, concurrency=500).solve("cache-dtype").value is None


def test_the_batch_at_which_decoding_turns() -> None:
    batch = ask().solve("compute-batch").value
    steps = ask().deployment.steps
    assert 100 < batch < 600  # peak/bandwidth is 295 FLOP/B: 295 sequences for two-byte weights
    from calc.serving.steps import Batch

    below, above = (steps.products(Batch(sequences=float(n), context=1100.0)) for n in (batch - 1, batch))
    assert below[0] < below[1]
    assert above[0] >= above[1]


def test_the_longest_context_within_a_latency_is_exact_to_the_token() -> None:
    found = ask(concurrency=20)
    context = found.solve("context", tpot=0.012).value
    assert 200 < context < found.solve("context").value
    assert ask(concurrency=20, input_tokens=context - 200).tpot_s <= 0.012
    assert ask(concurrency=20, input_tokens=context - 199).tpot_s > 0.012
    assert found.solve("context", tpot=1).value == found.solve("context").value
    assert found.solve("context", ttft=1e-6).value is None


def test_a_narrower_cache_where_a_latency_asks_for_it() -> None:
    found = ask(input_tokens=30_000, concurrency=8)
    assert found.solve("cache-dtype").value == "bf16"
    limit = (found.tpot_s + ask(input_tokens=30_000, concurrency=8, cache_dtype="fp8").tpot_s) / 2
    assert found.solve("cache-dtype", tpot=limit).value == "fp8"
    assert found.solve("cache-dtype", tpot=1e-6).value is None


def test_a_batch_has_no_limit_of_latency() -> None:
    with pytest.raises(CalcError, match=r"tpot = 0\.1: no latency limits the batch"):
        ask().solve("compute-batch", tpot=0.1)


@pytest.mark.parametrize(("what", "message"), [("users", "what latency"), ("colour", "question")])
def test_questions_that_are_none(what: str, message: str) -> None:
    with pytest.raises(CalcError, match=message):
        ask().solve(what)


def test_in_the_answer() -> None:
    found = ask(concurrency=8)
    data = found.to_result([found.solve("context")]).data
    assert data["solved"][0]["question"] == "longest context"
