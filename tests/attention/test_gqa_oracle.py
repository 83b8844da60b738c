"""Options of grouped-query attention against layers of the transformers package: parameters, FLOPs, cache elements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calc.attention.gqa import GQA
from calc.errors import SpecError
from calc.masks import Window
from calc.model import Block, Pass, cache_bytes, flops_by_operation, moved_bytes, parameters
from calc.units import dtype

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.attention.layers import Case, layer_of  # noqa: E402

pytestmark = pytest.mark.oracle

BATCH, TOKENS, D_MODEL = 2, 12, 48
SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 4,
    "num_local_experts": 4,
}  # fmt: skip
OURS: dict[str, Any] = {"n_heads": 6, "n_kv_heads": 2, "head_dim": 8, "rotary_dim": 8}
FULL = {"layer_types": ["full_attention"] * 4}
GEMMA = {**FULL, "num_kv_shared_layers": 2}
GEMMA4 = {
    "layer_types": ["sliding_attention", "full_attention"] * 2, "global_head_dim": 8, "num_global_key_value_heads": 1,
    "attention_k_eq_v": True, "num_kv_shared_layers": 0, "sliding_window": 64,
}  # fmt: skip
NORM = {"qk_norm": "rms"}


CASES: dict[str, Case] = {
    "qwen3-next": Case(
        "qwen3_next", "Qwen3NextAttention", "Qwen3NextConfig", FULL, {**NORM, "output_gate": "element"}
    ),
    "afmoe": Case("afmoe", "AfmoeAttention", "AfmoeConfig", FULL, {**NORM, "output_gate": "element"}),
    "step-3.7": Case(
        "step3p7", "Step3p7Attention", "Step3p7TextConfig", {**FULL, "gating": "per-head"},
        {**NORM, "output_gate": "head"},
    ),
    "gemma-3n": Case("gemma3n", "Gemma3nTextAttention", "Gemma3nTextConfig", GEMMA, {**NORM, "v_norm": True}),
    "gemma-3n-shared": Case(
        "gemma3n", "Gemma3nTextAttention", "Gemma3nTextConfig", GEMMA, {**NORM, "shared_kv": True}, index=3
    ),
    "gemma-4-local": Case("gemma4", "Gemma4TextAttention", "Gemma4TextConfig", GEMMA4, {**NORM, "v_norm": True}),
    "gemma-4-global": Case(
        "gemma4", "Gemma4TextAttention", "Gemma4TextConfig", GEMMA4,
        {**NORM, "v_norm": True, "v_from_k": True, "n_kv_heads": 1}, index=1,
    ),
    "llama-4": Case(
        "llama4", "Llama4TextAttention", "Llama4TextConfig", FULL, {**NORM, "qk_norm_scale": False}
    ),
    "llama-4-no-rotary": Case(
        "llama4", "Llama4TextAttention", "Llama4TextConfig", {**FULL, "no_rope_layers": [0] * 4},
        {"rotary_dim": None, "q_scaled": True},
    ),
    "mimo-v2-flash": Case(
        "mimo_v2_flash", "MiMoV2FlashAttention", "MiMoV2FlashConfig", {**FULL, "v_head_dim": 5},
        {"v_head_dim": 5, "v_scaled": True},
    ),
}  # fmt: skip


def block_of(case: Case) -> Block:
    block = Block.of("attention", GQA(**OURS | case.ours))
    return replace(block, letters={"d": D_MODEL, **block.letters})


def run(layer: Any, config: Any, case: Case, tokens: int, context: int, cache: Any) -> int:
    """Return the FLOPs of one call, after ``cache`` holds the positions before it."""
    with torch.device("meta"):
        angles = torch.empty(BATCH, tokens, 8)
        kv = torch.empty(BATCH, 2, context, 8)
        extra: dict[str, Any] = {"position_embeddings": (angles, angles)}
        if case.package == "llama4":
            extra["position_embeddings"] = torch.polar(angles[..., ::2], angles[..., ::2])
        if case.package in ("gemma3n", "gemma4"):
            extra["shared_kv_states"] = {config.layer_types[case.index]: (kv, kv)}
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            layer(
                hidden_states=torch.empty(BATCH, tokens, D_MODEL),
                attention_mask=torch.zeros(BATCH, 1, tokens, context),
                past_key_values=cache,
                **extra,
            )
    return int(counter.get_total_flops())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_parameters_flops_and_cache(case: Case) -> None:
    layer, config = layer_of(case, SIZES)
    block = block_of(case)
    assert parameters([block]).total == sum(weight.numel() for weight in layer.parameters())
    cache = transformers.DynamicCache(config=config)
    for tokens, pass_ in (
        (TOKENS, Pass.prefill(TOKENS, BATCH, causal=False)),
        (1, Pass.decode(TOKENS + 1, BATCH, causal=False)),
    ):
        counted = run(layer, config, case, tokens, pass_.context, cache)
        assert sum(flops_by_operation([block], pass_).values()) == counted
        kept = cache.layers[case.index] if case.index < len(cache.layers) else None
        held = kept.keys.numel() + kept.values.numel() if kept is not None and kept.keys is not None else 0
        assert cache_bytes([block], pass_, dtype("fp8")).bytes == held


def test_a_layer_with_shared_keys_reads_a_cache_that_it_does_not_count() -> None:
    forms = {role: dtype("fp8") for role in ("weight", "activation", "cache")}
    own, shared = block_of(Case("", "", "")), block_of(Case("", "", "", ours={"shared_kv": True}))
    step = Pass.decode(100)
    assert cache_bytes([own], step, dtype("fp8")).bytes == 100 * 2 * 2 * 8
    assert cache_bytes([shared], step, dtype("fp8")).bytes == 0
    for name in ("scores", "values"):
        (read,) = (moved_bytes(shared, op, step, forms)["cache"] for op in shared.operations if op.name == name)
        assert read == 100 * 2 * 8


def test_a_window_saturates_the_cache() -> None:
    block = block_of(Case("", "", "", ours={"mask": Window(window=7)}))
    assert [cache_bytes([block], Pass.decode(n), dtype("fp8")).bytes for n in (6, 7, 100)] == [192, 224, 224]
    assert cache_bytes([block], Pass.decode(7), dtype("fp8")).bytes_per_token == 0


def test_values_made_by_the_key_projection_have_its_width() -> None:
    with pytest.raises(SpecError, match="v_from_k needs v_head_dim = 5 to be head_dim = 8"):
        GQA(**OURS, v_from_k=True, v_head_dim=5)
