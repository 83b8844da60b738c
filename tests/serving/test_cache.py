"""Cache capacity against engines' own rules, computed by hand, and against figures that their logs printed."""

from __future__ import annotations

import numpy as np
import pytest

import calc
from calc.catalog import load_accelerator
from calc.model import cache_bytes
from calc.parallel import Layout, shard
from calc.passes import Pass
from calc.serving.cache import capacity, grouping, kept
from calc.serving.deployment import Deployment
from calc.serving.engines import load_engine
from calc.units import GIB, dtype

BF16 = dtype("bf16")


def blocks_of(name: str, tp: int = 1) -> list:
    return shard(calc.load(name).blocks(), Layout(tp=tp))


@pytest.mark.parametrize(
    ("name", "tp", "gib", "tokens", "version"),
    [
        ("qwen3-8b", 1, 18.69, 136_080, "0.9.2"),  # a log of vLLM 0.9.2: 8,505 blocks
        ("qwen3-235b-a22b", 8, 11.51, 256_800, "0.10.2"),  # 4 key-value heads on 8 ranks: one on each
        ("phi-4", 1, 45.21, 237_040, "0.7"),
    ],
)
def test_vllm_logs(name: str, tp: int, gib: float, tokens: int, version: str) -> None:
    found = capacity(blocks_of(name, tp), BF16, load_engine("vllm", version), gib * GIB, 4096, batched_tokens=2048)
    assert found.reported_tokens == pytest.approx(tokens, rel=0.0005)


def test_latent_cache_stands_on_every_rank() -> None:
    # SGLang on eight ranks: 2,454,421 tokens took 160.63 GiB of each
    found = capacity(blocks_of("kimi-k2", 8), BF16, load_engine("sglang"), 160.63 * GIB, 4096, batched_tokens=8192)
    assert found.reported_tokens == pytest.approx(2_454_421, rel=1e-4)


@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v3.2", "jamba-v0.1"])
def test_kept_adds_up_to_the_logical_cache(name: str) -> None:
    blocks, context = blocks_of(name), 20_000
    held = cache_bytes(blocks, Pass.decode(context), BF16)
    total = sum(
        layer.layers * (layer.bytes_per_token * min(context, layer.reach or context) + layer.state_bytes)
        for layer in kept(blocks, BF16)
    )
    assert total == held.bytes + held.state_bytes


def test_groups_of_a_window_model() -> None:
    # Gemma 3 27B: 52 window layers, 10 full ones: groups of 10, six of them for windows (vLLM pads the last)
    group = grouping(kept(blocks_of("gemma-3-27b"), BF16), 16)
    assert group.size == 10
    assert sorted(reach or 0 for _, reach in group.groups) == [0, 1024, 1024, 1024, 1024, 1024, 1024]


def test_a_page_of_a_hybrid_model_holds_a_state() -> None:
    layers = kept(blocks_of("qwen3-next-80b-a3b"), BF16)
    group = grouping(layers, 16)
    state = max(layer.state_bytes for layer in layers)
    width = max(layer.bytes_per_token for layer in layers)
    assert group.size == 12
    assert group.page >= state > group.page - 16 * width
    assert [tokens for tokens, _ in group.groups].count(0) == 3


def test_allocated_never_exceeds_logical() -> None:
    for engine in ("vllm", "sglang", "tensorrt-llm"):
        for name in ("llama-3-8b", "gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v3"):
            found = capacity(blocks_of(name), BF16, load_engine(engine), 40 * GIB, 5000, batched_tokens=2048)
            assert found.allocated_sequences <= found.logical_sequences, (engine, name)


def test_reported_since_0_20_is_concurrency_times_length() -> None:
    blocks = blocks_of("qwen3-next-80b-a3b")
    room, context = 30 * GIB, 32_768
    old, new = (
        capacity(blocks, BF16, load_engine("vllm", version), room, context, batched_tokens=2048)
        for version in ("0.19", "0.20")
    )
    assert new.reported_tokens == int(new.allocated_sequences * context)
    assert old.reported_tokens < new.reported_tokens  # the old log divided the pool by all groups alike


def test_arrays_give_what_numbers_give() -> None:
    for name in ("llama-3-8b", "gemma-3-27b", "qwen3-next-80b-a3b"):
        for engine in ("vllm", "sglang"):
            blocks, used = blocks_of(name), load_engine(engine)
            room, context = np.array([10.0, 20.0, 40.0]) * GIB, np.array([1000.0, 9000.0, 70_000.0])
            found = capacity(blocks, BF16, used, room, context, batched_tokens=2048)
            for index in range(3):
                one = capacity(blocks, BF16, used, room[index], int(context[index]), batched_tokens=2048)
                assert found.allocated_sequences[index] == pytest.approx(one.allocated_sequences)
                assert found.reported_tokens[index] == one.reported_tokens


def test_a_model_without_cache_has_no_limit() -> None:
    found = capacity(blocks_of("bert-base-uncased"), BF16, load_engine("vllm"), GIB, 512, batched_tokens=512)
    assert found.allocated_sequences == float("inf")


def test_windows_are_an_option_of_engines_built_ahead() -> None:
    """TensorRT-LLM before 1.0: max_attention_window_size is off by default."""
    model, gpu = calc.load("mistral-7b-v0.1"), load_accelerator("h100-sxm")
    before, now = (Deployment(model, gpu, Layout(), load_engine("tensorrt-llm", at)) for at in ("0.17", "1.0"))
    full = Deployment(calc.load("mistral-7b-v0.3"), gpu, Layout(), load_engine("tensorrt-llm", "0.17"))
    assert float(before.capacity(20_000).allocated_sequences) == pytest.approx(
        float(full.capacity(20_000).allocated_sequences), rel=0.01
    )
    assert float(now.capacity(20_000).allocated_sequences) > 4 * float(before.capacity(20_000).allocated_sequences)
