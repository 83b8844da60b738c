"""Latent attention against the layers of the transformers package: parameters, matmul FLOPs, cache elements.

FLOPs are those that PyTorch's counter sees in the eager layer on the meta device: the naive form, in prefill and at a
decode step, in the ``full`` convention.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calc.attention import Attention
from calc.model import Block, Pass, cache_bytes, flops_by_operation, parameters
from calc.units import dtype

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.attention.layers import Case, layer_of  # noqa: E402

pytestmark = pytest.mark.oracle

BATCH, TOKENS, D_MODEL = 2, 24, 48
LATENT: dict[str, Any] = {
    "hidden_size": D_MODEL, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 16,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "num_hidden_layers": 2, "num_local_experts": 4,
}  # fmt: skip
INDEX: dict[str, Any] = {"index_n_heads": 3, "index_head_dim": 14, "index_topk": 6}
OURS: dict[str, Any] = {
    "kind": "mla", "n_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8,
    "v_head_dim": 10,
}  # fmt: skip
OUR_INDEX: dict[str, Any] = {"kind": "dsa", "n_index_heads": 3, "index_head_dim": 14, "n_selected": 6}


V3 = ("deepseek_v3", "DeepseekV3Attention", "DeepseekV3Config")
CASES: dict[str, Case] = {
    "deepseek-v3": Case(*V3),
    "deepseek-v3-direct-queries": Case(*V3, {"q_lora_rank": None}, {"q_lora_rank": None}),
    "deepseek-v3-biases": Case(*V3, {"attention_bias": True}, {"bias": True}),
    "deepseek-v2": Case("deepseek_v2", "DeepseekV2Attention", "DeepseekV2Config"),
    "minicpm3": Case("minicpm3", "MiniCPM3Attention", "MiniCPM3Config"),
    "kimi-linear": Case(
        "kimi_linear", "KimiLinearAttention", "KimiLinearConfig", {"layer_types": ["full_attention"] * 2},
        {"rotary": False},
    ),
    "ling-3": Case(
        "bailing_hybrid", "BailingHybridAttention", "BailingHybridConfig",
        {"layer_types": ["full_attention"] * 2, "q_lora_rank": None},
        {"q_lora_rank": None, "output_gate": "head"},
    ),
    "hunyuan-4": Case(
        "hy_v4", "HYV4Attention", "HYV4Config", {**INDEX, "indexer_types": ["full"] * 2},
        {**OUR_INDEX, "output_gate": "element", "sinks": True},
    ),
    "longcat-flash": Case("longcat_flash", "LongcatFlashMLA", "LongcatFlashConfig", ours={"latent_scaled": True}),
    "youtu": Case("youtu", "YoutuAttention", "YoutuConfig"),
    "glm-4-moe-lite": Case("glm4_moe_lite", "Glm4MoeLiteAttention", "Glm4MoeLiteConfig"),
    "deepseek-v3.2": Case("deepseek_v32", "DeepseekV32Attention", "DeepseekV32Config", INDEX, OUR_INDEX),
    "glm-5": Case("glm_moe_dsa", "GlmMoeDsaAttention", "GlmMoeDsaConfig", INDEX, OUR_INDEX),
    "glm-5-shared-index": Case(
        "glm_moe_dsa", "GlmMoeDsaAttention", "GlmMoeDsaConfig", {**INDEX, "indexer_types": ["full", "shared"]},
        {**OUR_INDEX, "shared_index": True}, index=1,
    ),
}  # fmt: skip


def ours(case: Case) -> Block:
    block = Block.of("attention", Attention.build({**OURS, **case.ours}))
    return replace(block, letters={"d": D_MODEL, **block.letters})


def run(layer: Any, case: Case, tokens: int, context: int, cache: Any) -> int:
    """Return the FLOPs of one call, after ``cache`` holds the positions before it."""
    with torch.device("meta"):
        x = torch.empty(BATCH, tokens, D_MODEL)
        mask = torch.zeros(BATCH, 1, tokens, context)
        angles = torch.empty(BATCH, tokens, LATENT["qk_rope_head_dim"])
        positions = torch.arange(context - tokens, context).expand(BATCH, -1)
        rotary: Any = (angles, angles)
        if case.package == "deepseek_v2":
            rotary = torch.polar(angles[..., ::2], angles[..., ::2])
        extra: dict[str, Any] = {"position_ids": positions} if "kind" in case.ours else {}
        if case.index:
            extra["prev_topk_indices"] = torch.zeros(BATCH, tokens, 6, dtype=torch.int32)
        if case.package != "kimi_linear":
            extra["position_embeddings"] = rotary
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            layer(hidden_states=x, attention_mask=mask, past_key_values=cache, **extra)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_parameters(case: Case) -> None:
    layer, _ = layer_of(case, LATENT)
    assert parameters([ours(case)]).total == sum(weight.numel() for weight in layer.parameters())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_flops_and_cache(case: Case) -> None:
    layer, config = layer_of(case, LATENT)
    cache = transformers.DynamicCache(config=config)
    block = ours(replace(case, ours={**case.ours, "form": "naive"}))
    steps = (
        (TOKENS, Pass.prefill(TOKENS, BATCH, causal=False)),
        (1, Pass.decode(TOKENS + 1, BATCH, causal=False)),
    )
    for tokens, pass_ in steps:
        counted = run(layer, case, tokens, pass_.context, cache)
        assert sum(flops_by_operation([block], pass_).values()) == counted
        held = sum(tensor.numel() for tensor in tensors(cache.layers[case.index]))
        assert cache_bytes([block], pass_, dtype("fp8")).bytes == held


def tensors(layer: Any) -> list[Any]:
    """Return the tensors that a cache layer holds."""
    return [value for value in vars(layer).values() if isinstance(value, torch.Tensor) and value.ndim > 1]


def test_the_form_by_phase_is_the_naive_one_in_prefill() -> None:
    case = CASES["deepseek-v3.2"]
    pass_ = Pass.prefill(TOKENS, BATCH, causal=False)
    counted = run(layer_of(case, LATENT)[0], case, TOKENS, TOKENS, None)
    assert sum(flops_by_operation([ours(case)], pass_).values()) == counted
