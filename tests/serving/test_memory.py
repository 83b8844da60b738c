"""Weights as loaded, and the division of a device's memory, against figures from engines' logs."""

from __future__ import annotations

import pytest

import calc
from calc.catalog import load_accelerator
from calc.errors import SpecError
from calc.parallel import Layout
from calc.schemes import weight_forms
from calc.serving.deployment import Deployment
from calc.serving.engines import load_engine
from calc.serving.memory import divide, peak_bytes
from calc.serving.weights import LoadedWeights, loaded, rank_blocks
from calc.units import GIB


def load_on(name: str, form: str, layout: Layout | None = None, version: str | None = None) -> LoadedWeights:
    model = calc.load(name)
    forms = weight_forms(form, model.blocks())
    ranks = rank_blocks(model, layout or Layout())
    return max(
        (loaded(blocks, forms, load_engine("vllm", version), model.max_context) for blocks in ranks),
        key=lambda weights: weights.total,
    )


@pytest.mark.parametrize(
    ("name", "form", "version", "gib"),
    [
        ("llama-3.1-8b", "bf16", "0.8", 14.9889),  # vllm pull request 17122
        ("qwen3-8b", "bf16", "0.9.2", 15.2683),
        ("llama-3.1-70b", "int8-linear", "0.7", 67.7229),  # pull request 12569
        ("exaone-4.0-32b", "fp8-linear", "0.11", 30.9891),
        ("gpt-oss-120b", "gpt-oss-mxfp4", "0.10", 65.9651),  # issue 23278: Marlin
        ("gpt-oss-120b", "gpt-oss-mxfp4", "0.14.1", 64.38),  # issue 33155: Triton
    ],
)
def test_model_loading_took(name: str, form: str, version: str, gib: float) -> None:
    assert load_on(name, form, version=version).total / GIB == pytest.approx(gib, rel=0.01)


def test_ranks_hold_their_share_and_what_is_repeated() -> None:
    one, eight = load_on("deepseek-v3", "deepseek-fp8"), load_on("deepseek-v3", "deepseek-fp8", Layout(tp=8))
    assert one.stored / 8 < eight.stored < 1.03 * one.stored / 8  # latent projections and routers stand everywhere
    experts = load_on("deepseek-v3", "deepseek-fp8", Layout(dp=8, ep=8))
    assert experts.stored > eight.stored  # attention is repeated on every rank


def test_pipeline_stages_hold_layers() -> None:
    model = calc.load("llama-3-70b")
    ranks = rank_blocks(model, Layout(pp=4))
    forms = weight_forms("bf16", model.blocks())
    engine = load_engine("vllm")
    assert sum(loaded(blocks, forms, engine, None).stored for blocks in ranks) == model.weight_bytes("bf16")


def test_four_bit_checkpoints_keep_what_is_not_quantised() -> None:
    model = calc.load("llama-3-8b")
    head = 2 * model.vocab_size * model.d_model * 2  # embedding and head in 16 bits
    assert head < model.weight_bytes("int4-linear") < 0.36 * model.weight_bytes("bf16")
    kimi = calc.load("kimi-k2")
    assert kimi.weight_bytes("int4-experts") / GIB == pytest.approx(553.5, rel=0.01)
    assert kimi.weight_bytes("nvfp4-ffn") < kimi.weight_bytes("int4-experts")


@pytest.mark.parametrize(
    ("name", "tp", "batched", "sequences", "tokens"),
    [  # inference-sim testdata: blocks that vLLM 0.15 logged on H100 at the default fraction
        ("mistral-nemo-12b", 1, 2048, 128, 308_016),
        ("mistral-nemo-12b", 2, 1024, 128, 768_144),
        ("qwen2.5-7b", 1, 2048, 128, 1_045_632),
        ("yi-34b", 2, 2048, 128, 332_688),
    ],
)
def test_cache_from_the_accelerator_alone(name: str, tp: int, batched: int, sequences: int, tokens: int) -> None:
    model, engine, gpu = calc.load(name), load_engine("vllm"), load_accelerator("h100-sxm")
    (blocks,) = rank_blocks(model, Layout(tp=tp))
    weights = loaded(blocks, weight_forms("bf16", model.blocks()), engine, model.max_context)
    peak = peak_bytes(blocks, batched, sequences, model.vocab_size, engine)
    memory = divide(gpu, engine, weights, peak, batched_tokens=batched, sequences=sequences)
    per_token = model.cache(1).bytes_per_token / tp
    assert memory.cache / per_token == pytest.approx(tokens, rel=0.02)


def test_budgets_differ_as_the_engines_say() -> None:
    gpu, weights = load_accelerator("h100-sxm"), LoadedWeights(stored=20 * GIB)
    common = {"batched_tokens": 8192, "sequences": 256}
    vllm = divide(gpu, load_engine("vllm"), weights, GIB, **common)
    assert vllm.cache == pytest.approx(0.9 * gpu.capacity - 21 * GIB - load_engine("vllm").overhead_bytes)
    trt = divide(gpu, load_engine("tensorrt-llm"), weights, GIB, **common)
    assert trt.cache == pytest.approx(0.9 * (gpu.capacity - 21 * GIB - load_engine("tensorrt-llm").overhead_bytes))
    static = divide(gpu, load_engine("sglang"), weights, GIB, **common)
    reserve = (512 + 1.5 * 8192 + 2 * 256 + 128) / 1024  # GiB, as server_args.py adds it up
    assert static.cache / GIB == pytest.approx(gpu.capacity / GIB - 0.93 - 20 - reserve, abs=0.3)
    later = divide(gpu, load_engine("vllm", "0.19"), weights, GIB, **common)
    assert vllm.cache - later.cache == load_engine("vllm").graph_bytes


def test_what_does_not_fit_is_negative() -> None:
    gpu = load_accelerator("a100-40gb")
    memory = divide(gpu, load_engine("vllm"), LoadedWeights(stored=60 * GIB), 0, batched_tokens=2048, sequences=256)
    assert memory.cache < 0


@pytest.mark.parametrize("fraction", [0, 1.2, -0.1])
def test_a_fraction_that_is_none(fraction: float) -> None:
    with pytest.raises(SpecError, match="fraction"):
        divide(
            load_accelerator("h100-sxm"), load_engine("vllm"), LoadedWeights(stored=GIB), 0,
            fraction=fraction, batched_tokens=1, sequences=1,
        )  # fmt: skip


def test_experts_buffers_hold_the_tokens_of_all_copies() -> None:
    """Attention DP of TensorRT-LLM: k rows of input, width and output for every token of all ranks."""
    model, layout, trt = calc.load("qwen3-235b-a22b"), Layout(dp=8, ep=8), load_engine("tensorrt-llm")
    (blocks,) = rank_blocks(model, layout)
    one, all_of_them = (peak_bytes(blocks, 8192, 256, model.vocab_size, trt, gathered) for gathered in (1, 8))
    assert all_of_them > 8 * 8192 * 8 * (4096 + 1536) * 2 > 3 * one
    peaks = [
        Deployment(
            model, load_accelerator("h100-sxm"), layout, load_engine(name), weights_dtype="fp8-linear"
        ).memory.peak
        for name in ("tensorrt-llm", "sglang")
    ]
    assert peaks[0] > 3 * peaks[1]
