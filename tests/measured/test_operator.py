"""Operators of published benchmarks: how near the time model is, and what it says of rows it does not know."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from calc.errors import SpecError
from calc.measured import Measurement, NotModelled, read
from calc.measured.readers.operator import predict


def row(op: str, metric: str = "latency", unit: str = "us", source: str = "", **config: Any) -> Measurement:
    config = {"op": op, "hardware": "H100 SXM 80GB", **config}
    return Measurement(id="x", kind="operator", source=source, config=config, metric=metric, value=1.0, unit=unit)


def value(of: Measurement) -> float:
    found = predict(of)
    assert found is not None
    return found.value


def errors(words: str) -> list[float]:
    rows = [one for one in read() if one.kind == "operator" and one.tier != "anchor" and words in one.source]
    predictions = [(one, predict(one)) for one in rows]
    return [abs(found.value / one.value - 1) for one, found in predictions if found is not None]


def test_the_time_model_is_within_its_bar_over_all_published_operators() -> None:
    found = errors("")
    assert len(found) >= 170
    assert median(found) <= 0.12


@pytest.mark.parametrize(
    "source", ["gemm/trtllm", "attention/trtllm", "mla/trtllm", "DeepGEMM", "InferSim", "vidur", "flash-attention"]
)
def test_the_time_model_is_within_its_bar_for_every_source(source: str) -> None:
    assert median(errors(source)) <= 0.12


@pytest.mark.parametrize(
    ("op", "config", "low", "high"),
    [
        # rates that can be neither above the peak nor far below what libraries reach
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "float16"}, 500e12, 989e12),
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "fp8_static", "hardware": "H200"}, 800e12, 1979e12),
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "bf16", "hardware": "h20_sxm"}, 120e12, 148e12),
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "int8", "hardware": "A100 PCIe 80GB"}, 250e12, 624e12),
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "bf16", "hardware": "L40S"}, 200e12, 362e12),
        ("gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "nvfp4", "hardware": "GB200"}, 2e15, 10e15),
    ],
)
def test_other_devices_and_formats_are_read(op: str, config: dict[str, Any], low: float, high: float) -> None:
    assert low < 2 * 8192**3 / (value(row(op, **config)) * 1e-6) < high


def test_weights_alone_in_four_bits_save_memory_and_no_products() -> None:
    shape = {"n": 8192, "k": 8192}
    few = [value(row("gemm", m=1, dtype=dtype, **shape)) for dtype in ("int4_wo", "bf16")]
    many = [value(row("gemm", m=8192, dtype=dtype, **shape)) for dtype in ("int4_wo", "bf16")]
    assert few[0] < 0.5 * few[1]
    assert many[0] == pytest.approx(many[1], rel=0.05)


def test_units_of_a_row_are_kept() -> None:
    shape = {"m": 4096, "n": 4096, "k": 4096, "dtype": "bf16"}
    seconds = value(row("gemm", unit="us", **shape)) * 1e-6
    assert value(row("gemm", unit="ms", **shape)) == pytest.approx(seconds * 1e3)
    assert value(row("gemm", metric="throughput", unit="TFLOP/s", **shape)) == pytest.approx(
        2 * 4096**3 / seconds / 1e12
    )
    assert value(row("gemm", metric="bandwidth", unit="GB/s", **shape)) == pytest.approx(
        3 * 2 * 4096**2 / seconds / 1e9
    )


def test_attention_by_other_names() -> None:
    shape = {"batch_size": 4, "heads": 32, "kv_heads": 8, "head_dim": 128}
    plain = value(row("context_attention", seq_len=4096, **shape))
    assert value(row("mha prefill (FlashAttention-3)", isl=4096, dtype="bf16", **shape)) == plain
    step = value(row("generation_attention", kv_len=8192, **shape))
    assert value(row("gqa decode", context=8192, dtype="bf16", **shape)) == step
    assert value(row("generation_attention", kv_len=8192, kv_dtype="fp8", **shape)) < step
    both = value(row("FlashAttention-2 fwd+bwd", seq_len=4096, **shape))
    parts = [value(row(f"FlashAttention-2 {one}", seq_len=4096, **shape)) for one in ("fwd", "bwd")]
    assert sum(parts) == pytest.approx(both, rel=0.01)
    assert value(row("context_attention", seq_len=4096, causal=False, **shape)) > 1.6 * plain


def test_experts_take_longer_the_more_of_them_are_touched() -> None:
    shape = {"hidden_size": 7168, "inter_size": 2048, "topk": 8, "num_experts": 256, "moe_dtype": "fp8_block"}
    few, many = (value(row("moe", num_tokens=tokens, moe_ep_size=8, **shape)) for tokens in (1, 128))
    assert few < many
    whole = value(row("moe", num_tokens=128, moe_ep_size=1, **shape))
    assert whole > 5 * many
    product = row("grouped gemm decode", tokens_per_expert=16, num_local_experts=32, hidden_size=7168,
                  intermediate_size=2048, dtype="fp8")  # fmt: skip
    assert value(product) > 1e6 * 32 * 3 * 7168 * 2048 / 3.35e12 / 2


def test_a_collective_is_another_readers() -> None:
    assert predict(row("all_reduce", size=1024)) is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row("gemm", m=1, n=2), "k is not stated"),
        (row("gemm", m=1, n=2, k=3, dtype="ternary"), "ternary is not a format"),
        (row("fft", n=1024), "fft is not an operator"),
        (row("gemm", m=1, n=2, k=3, unit="J"), "neither a time nor a rate"),
        (row("pytorch attention fwd", seq_len=512, heads=8), "writes its scores to memory"),
    ],
)
def test_what_is_not_modelled_says_why(bad: Measurement, why: str) -> None:
    with pytest.raises(NotModelled, match=why):
        predict(bad)


def test_hardware_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SpecError, match="names no accelerator"):
        predict(row("gemm", m=1, n=2, k=3, hardware="abacus"))
    with pytest.raises(NotModelled, match="hardware is not stated"):
        predict(replace(row("gemm"), config={"op": "gemm", "m": 1, "n": 2, "k": 3}))
