"""Rows of inference benchmarks: layouts, lengths and engines as rows state them, refusals, errors within the bars."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from calc.measured.models import model_of
from calc.measured.readers import predict
from calc.measured.readers.inference import deployment_of, layout_of, lengths_of
from calc.measured.rows import Measurement, NotModelled, read
from calc.parallel import Layout


def row(metric: str = "tpot", unit: str = "ms", note: str = "", **config: Any) -> Measurement:
    data = {
        "id": "x", "kind": "inference", "source": "test", "metric": metric, "value": 1.0, "unit": unit,
        "config": config, "note": note,
    }  # fmt: skip
    return Measurement.of(data, "test")


RUN = {
    "model": "Qwen/Qwen3-32B", "system": "h100_sxm", "engine": "vllm 0.12.0", "isl": 1024, "osl": 1024,
    "concurrency": 32, "tp": 2, "precision": "bf16",
}  # fmt: skip


def test_latency_under_load_in_the_rows_unit() -> None:
    tpot, ttft = predict(row(**RUN)), predict(row("ttft", **RUN))
    assert (tpot.quantity, ttft.quantity) == ("serving.tpot", "serving.ttft")
    assert tpot.value == pytest.approx(20, rel=0.2)  # aiconfigurator's silicon sample
    assert predict(row("mean_itl", "s", **RUN)).value == pytest.approx(tpot.value / 1e3)
    renamed = {**{key: value for key, value in RUN.items() if key != "system"}, "hardware": "2x H100 SXM 80GB"}
    assert predict(row(**renamed)).value == pytest.approx(tpot.value)


@pytest.mark.parametrize(
    ("model", "config", "layout"),
    [
        ("Qwen3-32B", {"tp": 4}, Layout(tp=4)),
        ("Qwen3-32B", {"num_gpus": 4}, Layout(tp=4)),
        ("Qwen3-32B", {"num_gpus": 8, "tp": 4}, Layout(tp=4, dp=2)),
        ("Qwen3-235B-A22B", {"tp": 4, "moe_tp": 4, "moe_ep": 1}, Layout(tp=4)),
        ("Qwen3-235B-A22B", {"tp": 4, "moe_tp": 1, "moe_ep": 4}, Layout(tp=4, ep=4, expert_tp=1)),
        ("Qwen3-235B-A22B", {"tp": 4, "moe_tp": 2, "moe_ep": 2}, Layout(tp=4, ep=2, expert_tp=2)),
        ("Qwen3-235B-A22B", {"tp": 1, "moe_tp": 1, "moe_ep": 8}, Layout(dp=8, ep=8, expert_tp=1)),
        ("DeepSeek-R1", {"tp": 8, "moe_tp": 8, "moe_ep": 1}, Layout(tp=8)),
    ],
)
def test_layouts_as_rows_state_them(model: str, config: dict[str, Any], layout: Layout) -> None:
    one = row(model=model, **config)
    assert layout_of(one, model_of(one)) == layout


def test_attention_dp_as_a_note_states_it() -> None:
    one = row(model="Qwen3-235B-A22B", tp=8, num_gpus=8, note="MoE rows use attention-DP + EP")
    assert layout_of(one, model_of(one)) == Layout(dp=8, ep=8)


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        ({"isl": 128, "osl": 2048}, (128, 2048)),
        ({"input_tokens": 100, "output_tokens": 20}, (100, 20)),
        ({"model": "llama2-70b-99", "scenario": "Offline"}, (294, 294)),
        ({"model": "llama3.1-405b", "scenario": "Offline", "mean_output_tokens": 683.2}, (9428, 683)),
    ],
)
def test_lengths(config: dict[str, Any], lengths: tuple[int, int]) -> None:
    assert lengths_of(row(**config)) == lengths


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"concurrency": None}, "neither a request rate nor a number of users"),
        ({"isl": None}, "tokens in and out"),
        ({"engine": "our own"}, "engine"),
        ({"system": "abacus"}, "accelerator"),
        ({"model": "nobody/knows-7b"}, "not known"),
        ({"tp": 1, "model": "Llama-3.1-405B"}, "not one sequence fits"),
        ({"concurrency": None, "request_rate_qps": 1e4}, "no steady state"),
        ({"tp": 7}, "divi"),
    ],
)
def test_what_cannot_be_predicted_is_refused(change: dict[str, Any], reason: str) -> None:
    config = {key: value for key, value in {**RUN, **change}.items() if value is not None}
    with pytest.raises(NotModelled, match=reason):
        predict(row(**config))


def test_single_batches() -> None:
    config = {"model": "LLaMA 3 8B", "precision": "F16", "hardware": "3090 24GB", "engine": "llama.cpp (-ngl 10000)"}
    speed = predict(row("decode_tokens_per_second", "tokens/s", batch_size=1, gen_tokens=1024, **config))
    assert speed.value == pytest.approx(46.5, rel=0.2)
    prompt = predict(row("prefill_tokens_per_second", "tokens/s", prompt_tokens=1024, **config))
    assert prompt.value == pytest.approx(4240, rel=0.2)
    two = {**config, "hardware": "3090 24GB * 2"}
    assert deployment_of(row(**two), Layout(pp=2)).layout.gpus == 2
    fast = {"model": "Mixtral-8x7B", "precision": "bf16", "num_gpus": 2, "tp": 2, "hardware": "A100-80GB, 330W cap"}
    found = predict(row("decode_tokens_per_second", "tokens/s", batch_size=1, prompt_tokens=5, **fast))
    assert found.value == pytest.approx(96.7, rel=0.25)


@pytest.mark.parametrize(
    ("quantity", "metrics", "bar"),
    [
        ("serving.tpot", ("tpot", "mean_inter_token_latency"), 0.17),
        ("serving.throughput", ("total_output_throughput",), 0.2),
    ],
)
def test_published_rows_are_within_the_bar(quantity: str, metrics: tuple[str, ...], bar: float) -> None:
    errors = []
    for one in read()[::5]:  # every fifth, for the test's sake
        if one.metric in metrics and one.tier != "anchor":
            try:
                found = predict(one)
            except NotModelled:
                continue
            assert found.quantity == quantity
            errors.append(abs(found.value / one.value - 1))
    assert len(errors) > 20
    assert median(errors) < bar


def test_loads_within_latency_limits() -> None:
    config = {"model": "llama2-70b-99", "hardware": "8x H200 SXM 141GB", "num_gpus": 8, "precision": "fp8"}
    found = {
        scenario: predict(row("tokens_per_second", "tokens/s", scenario=scenario, **config)).value
        for scenario in ("Offline", "Server", "Interactive")
    }
    assert found["Interactive"] < found["Server"] < found["Offline"]
    assert found["Offline"] == pytest.approx(34_700, rel=0.25)
    with pytest.raises(NotModelled, match="limits of llama2-70b"):
        predict(row("tokens_per_second", "tokens/s", scenario="Whispered", **config))


def test_nodes_that_share_experts() -> None:
    config = {"model": "DeepSeek-V3/R1", "hardware": "8x H800 per node", "precision": "fp8 GEMM"}
    prompts = row("input_tokens_per_second_per_node", "tokens/s/node", deployment="4 nodes, EP32, DP32", **config)
    cached = row("input_tokens_per_second_per_node", "tokens/s/node", deployment="EP32", cache_hit_pct=50, **config)
    assert predict(cached).value == pytest.approx(2 * predict(prompts).value)
    with pytest.raises(NotModelled, match="ranks that share"):
        predict(row("input_tokens_per_second_per_node", "tokens/s/node", **config))


@pytest.mark.parametrize(
    ("source", "config", "form"),
    [
        ("perf-overview.md (v1.0, trtllm-bench)", {"engine": "TensorRT-LLM 1.0", "precision": "FP8 weights"}, "fp8"),
        ("perf-overview.md (v1.0, trtllm-bench)", {"engine": "TensorRT-LLM 1.0", "precision": "bf16"}, "bf16"),
        ("a report", {"engine": "TensorRT-LLM 1.0", "precision": "FP8 weights"}, "bf16"),
        ("MLPerf", {"scenario": "Offline", "precision": "fp4"}, "fp8"),
        ("a report", {"engine": "vllm 0.17", "precision": "nvfp4"}, "fp8"),
        ("a report", {"engine": "vllm 0.17", "precision": "nvfp4", "kv_dtype": "bf16"}, "bf16"),
        ("a report", {"engine": "vllm 0.17", "precision": "fp8"}, "bf16"),
    ],
)
def test_the_caches_format_that_software_makes_of_a_checkpoint(source: str, config: dict[str, Any], form: str) -> None:
    one = replace(row(model="Llama-3.1-8B", hardware="B200", **config), source=source)
    assert deployment_of(one, default_engine="tensorrt-llm").cache_form.name == form


def test_a_run_of_so_many_requests() -> None:
    """TensorRT-LLM 0.14 online (performance/perf-overview.md): beyond saturation, and all at once."""
    base = {
        "model": "Llama-3.1-70B", "hardware": "H100 SXM 80GB", "tp": 4, "engine": "TensorRT-LLM 0.14", "isl": 467,
        "osl": 256, "precision": "BF16", "num_requests": 500,
    }  # fmt: skip
    assert predict(row("ttft", request_rate_qps=32, **base)).value == pytest.approx(1229, rel=0.3)
    assert predict(row("ttft", **base)).value == pytest.approx(9123, rel=0.3)
    endless = {key: value for key, value in base.items() if key != "num_requests"}
    with pytest.raises(NotModelled, match="no steady state"):
        predict(row("ttft", request_rate_qps=32, **endless))
