"""Rows from engines' logs: other spellings of the same facts are read alike, what cannot be told is refused."""

from __future__ import annotations

from typing import Any

import pytest

from calc.measured.models import model_of
from calc.measured.readers import predict
from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.setups import cache_dtype_of, engine_of, weights_of


def row(
    metric: str = "kv_cache_capacity_tokens", unit: str = "tokens", secondary: Any = None, **config: Any
) -> Measurement:
    data = {
        "id": "x", "kind": "memory", "source": "test", "metric": metric, "value": 1.0, "unit": unit,
        "config": config, "secondary": secondary or {},
    }  # fmt: skip
    return Measurement.of(data, "test")


LOG = {"engine": "vLLM 0.9.2 V1", "model": "Qwen3-8B", "tp": 1, "gpu": "A100-SXM4-40GB", "gpu_memory_utilization": 0.9}


def given_memory(config: dict[str, Any], **secondary: float) -> Prediction:
    one = row(secondary=secondary, **config)
    (further,) = [each for each in one.further() if each.metric.endswith("given_memory")]
    return predict(further)


def test_tokens_from_the_memory_that_the_log_states() -> None:
    found = given_memory(LOG, available_kv_cache_gib_per_gpu=18.69)
    assert found.quantity == "serving.cache_given_memory"
    assert found.value == pytest.approx(136_080, rel=0.001)
    assert given_memory(LOG, k_gib=9.345, v_gib=9.345).value == found.value


def test_tokens_from_the_device_alone() -> None:
    assert predict(row(**LOG)).value == pytest.approx(136_080, rel=0.05)
    assert predict(row(**{**LOG, "gpu": "1x A100 40 GB"})).value == predict(row(**LOG)).value
    more = predict(row(**{**LOG, "total_gpu_gib": 39.49})).value
    assert more == pytest.approx(136_080, rel=0.05)


def test_a_cache_of_stated_dimensions_needs_no_known_model() -> None:
    config = {"engine": "vLLM 0.11", "model": "Something-7B", "layers": 28, "kv_heads": 4, "head_dim": 128, "tp": 2}
    assert given_memory(config, available_kv_cache_gib=10).value == pytest.approx(
        10 * 2**30 / (28 * 2 * 128 * 4), abs=16
    )
    latent = {"engine": "SGLang", "model": "Latent-1T", "layers": 61, "kv_latent": 576, "tp": 8}
    assert given_memory(latent, available_kv_cache_gib=10).value == pytest.approx(10 * 2**30 / (61 * 576 * 2), abs=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gpu_memory_utilization": None}, "fraction of memory"),
        ({"gpu": None}, "accelerator"),
        ({"gpu": "a very large one"}, "accelerator"),
        ({"engine": "my own server"}, "engine"),
        ({"engine": None}, "engine"),
        ({"model": "no such model"}, "no such model"),
        ({"model": "Llama-3.2-11B-Vision"}, "encoder"),
        ({"kv_dtype": "posit"}, "posit"),
    ],
)
def test_what_cannot_be_told_is_refused(change: dict[str, Any], reason: str) -> None:
    config = {key: value for key, value in {**LOG, **change}.items() if value is not None}
    with pytest.raises(NotModelled, match=reason):
        predict(row(**config))


def test_weights_in_the_rows_unit() -> None:
    gib = predict(row("model_weights_per_gpu", "GiB", dtype="bf16", **LOG))
    assert gib.quantity == "serving.weights"
    assert gib.value == pytest.approx(15.2683, rel=0.01)
    assert predict(row("model_weights_per_gpu", "MiB", dtype="bf16", **LOG)).value == pytest.approx(1024 * gib.value)


@pytest.mark.parametrize(
    ("model", "config", "scheme"),
    [
        ("Qwen3-235B-A22B-FP8", {}, "fp8-linear"),
        ("Qwen/Qwen3-32B", {"precision": "fp8", "gemm_quant": "fp8_block"}, "deepseek-fp8"),
        ("DeepSeek-R1", {"dtype": "fp8 weights"}, "deepseek-fp8"),
        ("DeepSeek-R1", {"precision": "fp4"}, "nvfp4-ffn"),
        ("openai/gpt-oss-120b", {"precision": "fp8"}, "gpt-oss-mxfp4"),
        ("moonshotai/Kimi-K2.5", {}, "int4-experts"),
        ("moonshotai/Kimi-K2.5", {"precision": "fp4", "gemm_quant": "nvfp4"}, "nvfp4-ffn"),
        ("Meta-Llama-3.1-70B-Instruct w8a8", {"dtype": "int8 weights and activations"}, "int8-linear"),
        ("LLaMA 3 8B", {"precision": "Q4_K_M"}, "q4_k_m"),
        ("LLaMA 3 8B", {"precision": "F16"}, "bf16"),
        ("Phi-4 14B (bnb 4-bit)", {}, "nf4-linear"),
        ("Qwen2.5-7B-Instruct-AWQ", {}, "int4-linear"),
        ("Llama-2-70B", {"dtype": "fp16"}, "bf16"),
    ],
)
def test_weights_as_people_write_them(model: str, config: dict[str, Any], scheme: str) -> None:
    one = row(model=model, **config)
    assert weights_of(one, model_of(one)) == scheme


@pytest.mark.parametrize(
    ("config", "form"),
    [
        ({"dtype": "fp8 weights"}, "bf16"),  # never inferred from the weights
        ({"kv_dtype": "bf16/fp16"}, "bf16"),
        ({"kv_dtype": "fp8_e4m3"}, "fp8"),
        ({"precision": "FP8 weights+activations, FP8 KV"}, "fp8"),
        ({"kv_dtype": "f16"}, "fp16"),
        ({"kv_cache_dtype": "auto"}, "bf16"),
    ],
)
def test_the_caches_format(config: dict[str, Any], form: str) -> None:
    assert cache_dtype_of(row(**config)) == form


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("vLLM (V1, about v0.15.1)", "vllm", "0.15.1"),
        ("vLLM 0.9-0.10", "vllm", "0.9"),
        ("trtllm 1.0.0rc3", "tensorrt-llm", "1.0.0"),
        ("TensorRT-LLM 0.14 + Triton backend", "tensorrt-llm", "0.14"),
        ("SGLang", "sglang", None),
        ("llama.cpp (-ngl 10000, layer split)", "llama.cpp", None),
    ],
)
def test_engines_as_people_write_them(text: str, name: str, version: str | None) -> None:
    found = engine_of(row(engine=text))
    assert found.name == name
    assert version is None or found.version == version
