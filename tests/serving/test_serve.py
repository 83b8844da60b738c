"""calc serve: the question and its answer, as a library, as JSON and on the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

import calc
from calc import catalog
from calc.cli.app import build
from calc.errors import CalcError, SpecError
from calc.schema import DOCUMENTS
from calc.serving import Serving, serve

SMALL: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 200}


def ask(model: str = "llama-3.1-8b", accelerator: str = "h100-sxm", **options: Any) -> Serving:
    return serve(model, accelerator, **{**SMALL, **options})


def test_an_answer_keeps_its_own_arithmetic() -> None:
    found = ask(concurrency=32)
    assert found.fits
    assert found.steady is not None
    assert found.e2e_s == pytest.approx(found.ttft_s + 199 * found.tpot_s)
    assert found.output_tokens_per_s == pytest.approx(200 * found.requests_per_s)
    assert 32 / found.requests_per_s == pytest.approx(found.e2e_s, rel=0.03)
    hourly = found.usd_per_million("input") * 1e-3 + found.usd_per_million("output") * 0.2e-3
    assert hourly * found.requests_per_s * 3600 == pytest.approx(found.usd_per_hour)
    assert found.joules_per_output_token == pytest.approx(700 / found.output_tokens_per_s)


@pytest.mark.parametrize("model", catalog.names())
def test_every_model_that_writes_is_served(model: str) -> None:
    try:
        found = ask(model, "b300", concurrency=4)
    except SpecError as error:
        assert "encoder" in str(error)  # noqa: PT017 - the only reason why a model on one device is refused
        return
    if found.fits:
        assert 0 < found.tpot_s < 0.5
        assert 0 < found.ttft_s < 5
    assert found.memory.weights.total > 0


def test_copies_share_the_load() -> None:
    one, four = ask(concurrency=16), ask(gpus=4, dp=4, concurrency=64)
    assert four.requests_per_s == pytest.approx(4 * one.requests_per_s, rel=1e-6)
    assert four.tpot_s == one.tpot_s


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 8},
        {"rate": 2.0},
        {},
        {"rate": 1e5},
        {"concurrency": 8, "engine": "sglang"},
        {"concurrency": 8, "engine": "tensorrt-llm", "cache_dtype": "fp8"},
        {"model": "llama-3.1-70b"},
        {"model": "deepseek-v3", "accelerator": "h200", "gpus": 8, "dp": 8, "ep": 8, "guesses": 1, "accepted": 1.8},
        {"model": "qwen3-30b-a3b", "experts_on": "host", "concurrency": 1},
        {"model": "llama-3.1-70b", "gpus": 8, "tp": 4, "prefill_gpus": 4, "rate": 2.0},
        {"concurrency": 8, "cached": 0.5, "cached_on": "host"},
        {"model": "gemma-3-27b", "gpus": 2, "concurrency": 8},
        {"model": "qwen3-next-80b-a3b", "gpus": 4, "concurrency": 8},
        {"accelerator": "rtx-4090", "weights_dtype": "q4_k_m", "engine": "llama.cpp", "concurrency": 1},
    ],
)
def test_every_answer_is_the_documented_json(options: dict[str, Any]) -> None:
    text = ask(**options).to_result().to_json()
    found = DOCUMENTS["serve"].model_validate_json(text)
    assert found.model_dump(by_alias=True, exclude_none=True)
    assert "Infinity" not in text


def test_what_does_not_fit_is_an_answer_that_says_what_would() -> None:
    found = ask("llama-3.1-70b")
    assert not found.fits
    assert found.tpot_s is None
    assert found.bound.startswith("memory")
    best = found.alternatives[0]
    assert best.fits
    assert best.gain == float("inf")
    long = ask(input_tokens=2_000_000)
    assert "one sequence" in long.reason


def test_a_drafter_with_another_tokenizer_is_noted() -> None:
    found = ask("llama-3.1-70b", gpus=4, concurrency=1, guesses=4, accepted=2.5, drafter="qwen3-0.6b").to_result()
    assert any("one tokenizer" in note for note in found.notes)
    assert found.grids[0].title.endswith(", 1 user")


def test_beyond_saturation() -> None:
    found = ask(rate=1e4)
    assert found.fits
    assert not found.steady.stable
    assert found.bound.startswith("rate")
    assert json.loads(found.to_result().to_json())["ttft_s"] is None
    [share] = (row.cells[2] for row in found.to_result().grids[0].rows if row.key == "throughput.saturation")
    assert re.fullmatch(r"asked for: \d+,\d{3} % of it", share)


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({"concurrency": 1}, "memory bandwidth"),
        ({"concurrency": 4000, "sequences": 4000, "batched_tokens": 8192}, "memory: the cache is full"),
        ({"concurrency": 400, "sequences": 64}, "sequences"),
        ({"concurrency": 900, "input_tokens": 4000, "output_tokens": 8, "sequences": 50}, "sequences"),
        ({"concurrency": 8, "input_tokens": 8000, "output_tokens": 4}, "compute"),
        ({"model": "llama-3.2-1b", "accelerator": "h200", "gpus": 8, "concurrency": 1}, "the engine's work"),
        ({"model": "llama-3.1-70b", "accelerator": "l40s", "gpus": 8, "concurrency": 200}, "communication"),
    ],
)
def test_the_first_limit_is_named(options: dict[str, Any], bound: str) -> None:
    assert ask(**options).bound.startswith(bound)


def test_the_caches_format_is_asked_for_and_not_inferred() -> None:
    eight = ask(weights_dtype="fp8-linear", concurrency=8)
    assert eight.asked.cache_dtype == "bf16"
    assert ask(cache_dtype="fp8").capacity.logical_tokens == pytest.approx(2 * ask().capacity.logical_tokens, rel=0.01)


def test_speculation_pays_in_small_batches_and_less_in_large_ones() -> None:
    def gain(users: int) -> float:
        plain = ask(concurrency=users)
        guessed = ask(concurrency=users, guesses=3, accepted=2.5, drafter="ngram")
        return plain.tpot_s / guessed.tpot_s

    assert 1.8 < gain(1) <= 2.6
    assert gain(400) < gain(1)
    drafted = ask(concurrency=1, guesses=3, accepted=2.5, drafter="llama-3.2-1b")
    assert drafted.tpot_s > ask(concurrency=1, guesses=3, accepted=2.5, drafter="ngram").tpot_s


def test_apart_prompts_do_not_disturb_decoding() -> None:
    common = {"model": "llama-3.1-70b", "gpus": 8, "tp": 4, "input_tokens": 4000}
    mixed = ask(rate=2.0, dp=2, **common)
    apart = ask(rate=2.0, prefill_gpus=4, **common)
    assert apart.tpot_s < mixed.tpot_s
    assert apart.transfer_s > 0
    assert apart.requests_per_s == pytest.approx(2.0, rel=0.01)


def test_host_experts_fit_where_they_would_not() -> None:
    device = ask("qwen3-235b-a22b", weights_dtype="int4-experts", concurrency=1)
    host = ask("qwen3-235b-a22b", weights_dtype="int4-experts", concurrency=1, experts_on="host")
    assert not device.fits
    assert host.fits
    assert 0.01 < host.tpot_s < 0.3
    everything = device.deployment.memory.weights.stored
    assert host.deployment.host_bytes == everything - host.deployment.memory.weights.stored > 0.8 * everything
    assert device.deployment.host_bytes == 0
    assert any("host's memory" in note for note in host.to_result().grids[0].notes)
    assert not any("host's memory" in note for note in device.to_result().grids[0].notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 8, "rate": 2}, "two kinds of load"),
        ({"concurrency": 0.5}, "less than one user"),
        ({"rate": -1}, "rate"),
        ({"gpus": 0}, "gpus"),
        ({"gpus": 3, "tp": 2}, "is not the number of devices, 3$"),
        ({"tp": 2}, "is not the number of devices, 1; give gpus, too$"),
        ({"gpus": 3}, "not divisible"),
        ({"cached": 2}, "share"),
        ({"guesses": 2}, "both guesses and accepted"),
        ({"guesses": 2, "accepted": 9}, "between 1 and"),
        ({"guesses": 2, "accepted": 2}, "no prediction modules"),
        ({"input_tokens": 0}, "input_tokens"),
        ({"cache_dtype": "posit"}, "posit"),
        ({"model": "llama-3.1-8"}, "did you mean"),
        ({"accelerator": "h100x"}, "did you mean"),
        ({"engine": "vlllm"}, "did you mean"),
        ({"ep": 4, "gpus": 4}, "no routed experts"),
        ({"rate": True}, "rate"),
        ({"sequences": 0}, "sequences"),
        ({"batched_tokens": -5}, "batched_tokens"),
        ({"skew": -1}, "skew"),
        ({"prefill_gpus": 1}, "leaves none of 1 devices"),
        ({"gpus": 4, "prefill_gpus": -4}, "prefill_gpus = -4 is not a whole number"),
        ({"gpus": 6, "tp": 4, "prefill_gpus": 2}, "no multiple"),
        ({"memory_fraction": 3.0}, "memory_fraction = 3.0 is not a share"),
        ({"model": "t5-base"}, "has an encoder"),
        ({"model": "bert-base-uncased"}, "is an encoder"),
        ({"experts_on": "moon"}, "experts_on"),
        ({"experts_on": "host"}, "experts_on = 'host': llama-3.1-8b has no routed experts"),
        ({"skew": 0.5}, "skew = 0.5: llama-3.1-8b has no routed experts"),
        ({"cached_on": "host"}, "cached_on = 'host': nothing is cached"),
        ({"drafter": "ngram"}, "drafter = 'ngram': nothing is drafted"),
        ({"drafter": "qwen3-8b"}, "drafter = 'qwen3-8b': nothing is drafted"),
        ({"gpus": 4, "prefill_gpus": 3, "tp": 1}, "copy|devices"),
    ],
)
def test_questions_that_cannot_be(options: dict[str, Any], message: str) -> None:
    if message == "copy|devices":
        assert ask(**options).asked.copies == 1
        return
    with pytest.raises(CalcError, match=message):
        ask(**options)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(["serve"]), ["serve", *arguments])


def test_the_command_line() -> None:
    asked = ["llama-3.1-8b", "-a", "h100-sxm", "-i", "1000", "-o", "200", "-c", "8"]
    table = run(*asked)
    assert table.exit_code == 0
    for word in ("time to first token", "first limit", "what helps most", "not modelled", "["):
        assert word in table.output
    data = json.loads(run(*asked, "--format", "json").stdout)
    assert {"memory", "ttft_s", "tpot_s", "throughput", "cost", "bound"} <= set(data)
    assert run(*asked, "--format", "csv").exit_code == run(*asked, "--format", "md").exit_code == 0


def test_it_does_not_fit_is_exit_0_unless_it_must() -> None:
    asked = ["llama-3.1-70b", "-a", "h100-sxm", "-i", "1000", "-o", "200"]
    assert run(*asked).exit_code == 0
    refused = run(*asked, "--require-fit")
    assert (refused.exit_code, refused.stderr) == (1, "")
    assert run("llama-3.1-70b").exit_code == 2


def test_limits_of_latency_are_held_against_the_answer() -> None:
    asked = ["llama-3.1-8b", "-a", "h100-sxm", "-i", "1000", "-o", "200", "-c", "8"]
    both = [*asked, "--tpot", "0.02", "--ttft", "0.001"]
    lines = run(*both).stdout.splitlines()
    kept, missed = (next(line for line in lines if name in line) for name in ("TPOT ≤ 20 ms", "TTFT ≤ 1 ms"))
    assert " yes " in kept
    assert " no " in missed
    data = json.loads(run(*both, "-f", "json").stdout)
    assert [(one["name"], one["limit"], one["met"]) for one in data["limits"]] == [
        ("ttft", 0.001, False), ("tpot", 0.02, True),
    ]  # fmt: skip
    assert [one["value"] for one in data["limits"]] == [data["ttft_s"], data["tpot_s"]]
    assert run(*both).exit_code == 0
    assert run(*both, "--require-fit").exit_code == 1
    assert run(*asked, "--tpot", "0.02", "--require-fit").exit_code == 0
    assert json.loads(run(*asked, "-f", "json").stdout)["limits"] == []
    assert "tpot = 0.0 is not a number of seconds above 0" in run(*asked, "--tpot", "0").stderr


@pytest.mark.parametrize("options", [{"rate": 1e6}, {"input_tokens": 10**6}], ids=str)
def test_what_is_not_answered_keeps_no_limit(options: dict[str, Any]) -> None:
    [limit] = ask(**options).limits(tpot=1e6)
    assert (limit.value, limit.met) == (None, False)


@pytest.mark.parametrize(("tp", "dp", "ep"), [(8, 1, 2), (8, 1, 8), (4, 2, 8), (1, 8, 8), (2, 4, 8)])
def test_experts_are_shared_in_every_way(tp: int, dp: int, ep: int) -> None:
    found = ask("qwen3-30b-a3b", gpus=8, tp=tp, dp=dp, ep=ep, concurrency=32)
    assert found.fits
    assert found.memory.weights.stored < 0.62 * found.asked.model.weight_bytes("bf16")


def test_it_is_public() -> None:
    assert calc.serve is serve
    assert calc.Serving is Serving


@pytest.mark.parametrize("ep", [2, 4, 8])
def test_experts_on_the_ranks_of_tensor_parallelism_are_served(ep: int) -> None:
    found = calc.serve("mixtral-8x7b", "h100-sxm", gpus=8, tp=8, ep=ep, input_tokens=100, output_tokens=10)
    assert found.fits
    assert any(each.change == "twice the devices (tp 16)" and each.fits for each in found.alternatives)


@pytest.mark.parametrize("tokens", [2000, 8000])
def test_a_lone_prompt_passes_all_stages(tokens: int) -> None:
    """It is as fast as on one device at best, and bound by the arithmetic of all layers."""
    asked = {"input_tokens": tokens, "output_tokens": 100, "concurrency": 1}
    one = calc.serve("llama-3.1-8b", "h100-sxm", **asked)
    staged = calc.serve("llama-3.1-8b", "h100-sxm", gpus=8, tp=1, pp=8, **asked)
    assert staged.ttft_s >= 0.99 * one.ttft_s
    flops = calc.load("llama-3.1-8b").flops(calc.Pass.prefill(tokens))
    assert staged.ttft_s > flops / 989.4e12


def test_many_prompts_keep_all_stages_busy() -> None:
    asked = {"input_tokens": 2000, "output_tokens": 20}
    one, staged = (calc.serve("llama-3.1-8b", "h100-sxm", gpus=n, tp=1, pp=n, **asked) for n in (1, 4))
    assert 2 < staged.output_tokens_per_s / one.output_tokens_per_s < 4.2


def test_engines_load_sixteen_bits_of_thirty_two() -> None:
    found = calc.serve("gemma-2-27b", "h100-sxm", input_tokens=100, output_tokens=10)
    assert found.asked.weights == "bf16"
    assert found.memory.weights.stored == 2 * calc.load("gemma-2-27b").params().total
    asked = calc.serve("gemma-2-27b", "b300", input_tokens=100, output_tokens=10, weights_dtype="fp32")
    assert asked.memory.weights.stored == 4 * calc.load("gemma-2-27b").params().total


def test_a_drafter_takes_memory() -> None:
    asked = {"input_tokens": 1000, "output_tokens": 100, "gpus": 4, "concurrency": 4}
    plain = calc.serve("llama-3.1-70b", "h100-sxm", **asked)
    guessing = {"guesses": 3, "accepted": 2.5}
    small = calc.serve("llama-3.1-70b", "h100-sxm", **asked, **guessing, drafter="llama-3.1-8b")
    share = calc.serve("llama-3.1-8b", "h100-sxm", **asked).memory.weights.stored
    assert small.memory.weights.total - plain.memory.weights.total == share
    # the drafter keeps keys and values of its own
    assert small.capacity.logical_bytes == pytest.approx(plain.capacity.logical_bytes * (1 + 32 / 80))
    free = calc.serve("llama-3.1-70b", "h100-sxm", **asked, **guessing, drafter="ngram")
    assert free.memory.weights.total == plain.memory.weights.total


def test_prediction_modules_that_guess_take_memory() -> None:
    model, asked = calc.load("deepseek-v3"), {"input_tokens": 1000, "output_tokens": 100, "gpus": 8, "tp": 8}
    plain = calc.serve(model, "h200", **asked)
    own = calc.serve(model, "h200", **asked, guesses=1, accepted=1.8)
    more = own.memory.weights.total - plain.memory.weights.total
    assert 1 < more / (plain.memory.weights.stored / 61) < 1.6  # a layer like the 61, its table and head
    assert own.capacity.logical_bytes == pytest.approx(plain.capacity.logical_bytes * 62 / 61)


def test_stages_beyond_a_node_need_a_network_and_copies_within_one_do_not() -> None:
    asked = {"gpus": 64, "input_tokens": 1000, "output_tokens": 200, "concurrency": 8}
    with pytest.raises(CalcError, match="no link of rtx-4090 joins one domain of 8 devices to the next"):
        serve("llama-3.1-70b", "rtx-4090", tp=4, pp=16, **asked)
    assert serve("llama-3.1-70b", "rtx-4090", tp=4, pp=2, dp=8, **asked).fits
