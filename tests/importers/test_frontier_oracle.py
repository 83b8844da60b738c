"""Families with experts, latent, sparse or recurrent layers against transformers, each as a small model.

Parameters, matmul FLOPs of a prompt and of a decode step, and bytes of cache and state are compared to the integer. The
library and the tables count a few things differently on purpose; each is named here and corrected for exactly:

* a cache of the library for a window of w keeps w − 1 positions, as the next token brings the w-th;
* its convolutions run over K − 1 positions that are cut off again (one at a decode step);
* it writes some products as ``(a * b).sum()`` or as a triangular solve (``HIDDEN``), which its counter does not see;
* its decode step of latent attention rebuilds keys and values from all latents (our ``naive`` form);
* Llama 4's code runs every expert on every token;
* its cache keeps the key that is its own value twice in DeepSeek-V4's local layers (once in the compressed ones);
* a decode step of its RWKV broadcasts the batch against itself: the work of each sequence ``BATCH`` times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from math import prod
from typing import Any

import pytest

from calc.importers.huggingface import from_config
from calc.importers.huggingface.registry import FAMILIES
from calc.model import Block, Model, Pass, flops_by_operation
from calc.operations import Einsum

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

MODULES = (
    "moe", "shared_moe", "llama4", "mla", "deepseek_v4", "hybrid", "lfm", "recurrent", "gemma_next", "zamba",
)  # fmt: skip
OURS = sorted(kind for kind, target in FAMILIES.items() if target.partition(":")[0] in MODULES)
ALIASES = {
    "kimi_k2", "minimax_text_01", "minimax_m1", "minimax_m3", "mimo_v2", "ernie4_5_moe_vl", "bailing_moe_linear",
    "bailing_moe_linear_v2", "rwkv7", "rwkv7_fla",
}  # fmt: skip
"""Types of published files that transformers does not have: read as another type's, or proven in ``test_beside``."""
PARTS = {
    "qwen3_vl_moe_text", "qwen3_omni_moe_text", "glm4v_moe_text", "ernie4_5_vl_moe_text", "step3p5",
    "mistral4", "hy_v4_vl_text",
}  # fmt: skip
"""Text models that stand inside a multimodal one alone (``test_towers_oracle``, ``test_inner_models``)."""

BATCH, TOKENS, WINDOW = 2, 13, 7
# the decode step after TOKENS ends a chunk of WINDOW: there a chunk sees what a window does, which is how it is cached
SIZES: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
    "intermediate_size": 40, "vocab_size": 96, "sliding_window": WINDOW, "max_position_embeddings": 64,
    "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "num_experts": 8, "num_local_experts": 8,
    "n_routed_experts": 8, "moe_num_experts": 8, "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_k": 2,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1, "q_lora_rank": 18,
    "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 11, "index_topk": 64,
    "index_head_dim": 8, "index_n_heads": 3, "linear_key_head_dim": 6, "linear_value_head_dim": 7,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_head_dim": 6, "linear_num_heads": 4,
    "mamba_d_state": 5, "mamba_n_heads": 8, "mamba_d_head": 12, "mamba_chunk_size": 4, "mamba_n_groups": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PATTERN = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
MAMBA = {"num_heads": 8, "head_dim": 12, "state_size": 5, "n_groups": 2, "chunk_size": 4}
LATENT: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": 6}
MIXED = ["linear_attention", "full_attention", "linear_attention", "linear_attention"]
ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}

CASES: dict[str, list[dict[str, Any]]] = {
    "mixtral": [{}, {"sliding_window": None}],
    "minimax_m2": [{}],
    "phimoe": [{"attention_bias": True, "lm_head_bias": True}, {"sliding_window": None}],
    "qwen2_moe": [
        {}, {"mlp_only_layers": [1], "qkv_bias": False}, {"use_sliding_window": True, "max_window_layers": 3},
    ],
    "qwen3_moe": [{}, {"decoder_sparse_step": 2, "attention_bias": True}, {"use_sliding_window": True}],
    "mellum": [{"layer_types": PATTERN, "rope_parameters": ROPE}],
    "flint": [{"layer_types": PATTERN}],
    "olmoe": [{}],
    "flex_olmo": [{}],
    "granitemoe": [{"residual_multiplier": 0.5, "logits_scaling": 4.0}],
    "granitemoeshared": [{"shared_intermediate_size": 24}, {"shared_intermediate_size": 0}],
    "granitemoe_swa": [{"layer_types": PATTERN, "layer_rope_theta": [1e4] * 4}],
    "dbrx": [{}],
    "gpt_oss": [{"layer_types": PATTERN}],
    "glm4_moe": [{}, {"use_qk_norm": True, "attention_bias": True, "n_group": 2, "topk_group": 1}],
    "solar_open": [{}],
    "dots1": [{"n_shared_experts": 2, "layer_types": PATTERN}],
    "ernie4_5_moe": [{"moe_layer_start_index": 1}, {"use_bias": True, "moe_layer_interval": 2}],
    "hunyuan_v1_moe": [{"moe_topk": 2}],
    "hy_v3": [{}],
    "exaone_moe": [{"layer_types": PATTERN}],
    "kolibri1": [{"layer_types": PATTERN}],
    "afmoe": [{"layer_types": PATTERN}, {"mup_enabled": True, "layer_types": PATTERN}],
    "laguna": [
        {"num_attention_heads_per_layer": [4] * 4, "layer_types": PATTERN, "gating": gating}
        for gating in (True, "per-element")
    ],
    "aria_text": [{"moe_topk": 2}],
    "cohere2_moe": [{"layer_types": PATTERN, "num_shared_experts": 1}, {"first_k_dense_replace": 1}],
    "minimax_m3_vl_text": [
        {"shared_intermediate_size": 24, "dense_intermediate_size": 44, "rotary_dim": 6, **options}
        for options in (
            {}, {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2, "index_n_heads": 2, "index_block_size": 4,
                 "index_topk_blocks": 8},
        )
    ],
    "mimo_v2_flash": [{"layer_types": PATTERN, "head_dim": 14}],
    "beam": [{"layer_types": PATTERN}],
    "llama4_text": [
        {"moe_layers": [1, 3], "no_rope_layers": [1, 1, 1, 0], "num_experts_per_tok": 1, "attention_chunk_size": WINDOW,
         "intermediate_size_mlp": 44}
    ],
    "youtu": [LATENT],
    "minicpm3": [LATENT],
    "deepseek_v2": [
        LATENT | {"n_group": 4, "topk_group": 2, "topk_method": "group_limited_greedy"}, LATENT | {"q_lora_rank": None},
    ],
    "deepseek_v3": [LATENT | {"n_group": 4, "topk_group": 2}, LATENT | {"attention_bias": True}],
    "glm4_moe_lite": [LATENT],
    "axk1": [LATENT],
    "sarvam_mla": [LATENT],
    "sarvam_moe": [{}],
    "lara_mini": [{}],
    "deepseek_v32": [LATENT],
    "glm_moe_dsa": [LATENT | {"indexer_types": ["full", "shared", "full", "shared"]}],
    "deepseek_v4": [
        {"layer_types": ["heavily_compressed_attention", "sliding_attention", "compressed_sparse_attention"] * 2,
         "mlp_layer_types": ["hash_moe", *["moe"] * 5], "num_hidden_layers": 6, "num_key_value_heads": 1,
         "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}, "o_groups": 2,
         "o_lora_rank": 5, "hc_mult": 3}
    ],
    "longcat_flash": [LATENT | {"num_layers": 2, "moe_topk": 2, "zero_expert_num": 0, "ffn_hidden_size": 44}],
    "hy_v4": [LATENT | {"indexer_types": ["full", "full", "shared", "full"], "hc_mult": 3}],
    "dots3_note_text": [
        LATENT | {
            "head_dim": 18,
            "layer_types": ["indexed_attention", "indexed_attention", "sliding_attention", "indexed_attention"],
            "per_layer_config": {
                2: {"num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 16, "qk_nope_head_dim": 12}
            },
            "shared_experts_intermediate_size": 24,
        }
    ],
    "zamba": [
        {"layers_block_type": ["linear_attention", "hybrid"] * 2, "mamba_dt_rank": 4, "attention_head_dim": 24,
         "attention_hidden_size": 96, "num_key_value_heads": 4}
    ],
    "zamba2": [
        {"layers_block_type": ["linear_attention", "hybrid"] * 3, "hybrid_layer_ids": [1, 3, 5], "n_mamba_heads": 8,
         "mamba_headdim": 12, "mamba_ngroups": 2, "attention_head_dim": 24, "attention_hidden_size": 96,
         "num_key_value_heads": 4, "adapter_rank": 5, "chunk_size": 4, "num_hidden_layers": 6, **options}
        for options in ({}, {"num_mem_blocks": 2, "use_shared_attention_adapter": True, "use_mem_rope": True})
    ],
    "jamba": [{"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4}],
    "bamba": [{"attn_layer_indices": [1], "attention_bias": True}],
    "granitemoehybrid": [
        {"layer_types": MIXED, "shared_intermediate_size": 24},
        {"layer_types": MIXED, "shared_intermediate_size": 24, "num_local_experts": 0},
    ],
    "nemotron_h": [
        {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"], "mamba_num_heads": 8,
         "mamba_head_dim": 12, "ssm_state_size": 5, "n_groups": 2, "chunk_size": 4,
         "moe_shared_expert_intermediate_size": 24, "moe_latent_size": latent}
        for latent in (None, 16)
    ],
    "qwen3_next": [{"layer_types": MIXED}],
    "qwen3_5_text": [{"layer_types": MIXED}],
    "qwen3_5_moe_text": [{"layer_types": MIXED}],
    "olmo_hybrid": [{"layer_types": MIXED, "linear_num_key_heads": 4}],
    "kimi_linear": [LATENT | {"layer_types": MIXED, "q_lora_rank": None}],
    "bailing_hybrid": [LATENT | {"layer_types": MIXED, "num_expert_group": 1}],
    "falcon_h1": [{"mamba_d_ssm": 96}, {"mamba_d_ssm": 96, "mamba_rms_norm": True}],
    "minimax": [{"block_size": 4, "layer_types": MIXED, "sliding_window": None}],
    "lfm2": [{"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": None, "block_multiple_of": 8}],
    "lfm2_moe": [{"layer_types": ["conv", "full_attention"] * 2}],
    "lfm3": [{"layer_types": ["conv", *PATTERN[:2], "conv"]}],
    "mamba": [{"state_size": 5, "time_step_rank": 4}],
    "falcon_mamba": [{"state_size": 5, "time_step_rank": 4}],
    "mamba2": [MAMBA],
    "rwkv": [{"attention_hidden_size": 48}],
    "recurrent_gemma": [
        {"lru_width": 48, "attention_window_size": 64, "num_hidden_layers": 5, "num_key_value_heads": 1}
    ],
    "gemma3n_text": [
        {"intermediate_size": [40, 40, 44, 44], "num_kv_shared_layers": 2, "layer_types": PATTERN, "laurel_rank": 6,
         "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 90,
         "activation_sparsity_pattern": [0.0] * 4}
    ],
    "gemma4_text": [
        {"layer_types": PATTERN, "hidden_size_per_layer_input": 0, "global_head_dim": 20, "attention_k_eq_v": True,
         "num_global_key_value_heads": 1},
        {"layer_types": PATTERN, "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 90,
         "num_kv_shared_layers": 2, "use_double_wide_mlp": True, "global_head_dim": 20},
        {"layer_types": PATTERN, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "top_k_experts": 2,
         "global_head_dim": 20},
    ],
    "gemma4_unified_text": [{"layer_types": PATTERN, "global_head_dim": 20}],
}  # fmt: skip

HIDDEN: dict[str, dict[str, set[str]]] = {
    "gated_delta": {"prefill": {"solve_values", "solve_keys"}, "decode": {"step_recall", "step_read"}},
    "kda": {"prefill": {"key_scores", "scores"}, "decode": {"step_recall", "step_read"}},
    **{
        kind: dict.fromkeys(("prefill", "decode"), names)
        for kind, names in {"csa": {"index_scores"}, "hyperconnection": {"collapse"}, "hyperhead": {"collapse"}}.items()
    },
}
"""By kind of mixer and phase: products that the library writes elementwise, or as a triangular solve."""


def small(kind: str, changes: dict[str, Any]) -> Any:
    """Return a small configuration of a type: of the common sizes, those that its class has."""
    made = transformers.CONFIG_MAPPING[kind]
    if kind == "dbrx":
        config = made(
            d_model=48, n_heads=4, n_layers=2, vocab_size=96, max_seq_len=64,
            attn_config={"kv_n_heads": 2, "clip_qkv": 8.0},
            ffn_config={"hidden_size": 48, "ffn_hidden_size": 20, "moe_num_experts": 8, "moe_top_k": 2},
        )  # fmt: skip
        config.attn_config.rope_theta = 1e4  # the library reads it and does not set it
        return config
    known = {field.name for field in fields(made)}
    return made(**({key: value for key, value in SIZES.items() if key in known} | changes))


def built(config: Any) -> Any:
    auto = transformers.AutoModelForCausalLM
    # these ask which tokens an expert has, so their tensors need data
    with torch.device("cpu" if config.model_type in ("dbrx", "longcat_flash") else "meta"):
        model = auto.from_config(config, attn_implementation="eager", experts_implementation="batched_mm")
    return model.eval().requires_grad_(False)


def imported(config: Any) -> Model:
    data = json.loads(json.dumps(config.to_dict()))
    return from_config(data, name="small", origin="config.json").model


def stored(model: Any) -> int:
    """Return the elements that a checkpoint holds: parameters, shared ones once, and persistent buffers."""
    kept = model.state_dict().keys()
    # the decays of lightning attention are constants, which published checkpoints do not hold
    constants = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
    buffers = [buffer for name, buffer in model.named_buffers() if name in kept and not name.endswith(constants)]
    return sum(parameter.numel() for parameter in model.parameters()) + sum(buffer.numel() for buffer in buffers)


def counted(model: Any, tokens: int, **more: Any) -> tuple[int, Any]:
    ids = torch.zeros(BATCH, tokens, dtype=torch.long, device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(input_ids=ids, use_cache=True, **more)
    return counter.get_total_flops(), output


def tensors(held: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the tensors of a cache object that hold numbers of the model, each once."""
    if id(held) in seen:
        return
    seen.add(id(held))
    if isinstance(held, torch.Tensor):
        yield from (held,) if held.is_floating_point() else ()  # not its counters of positions
    elif isinstance(held, dict):
        for value in held.values():
            yield from tensors(value, seen)
    elif isinstance(held, (list, tuple)):
        for value in held:
            yield from tensors(value, seen)
    elif type(held).__module__.startswith("transformers"):
        yield from tensors(vars(held), seen)


def cache_of(output: Any) -> tuple[str, Any]:
    for key in ("cache", "past_key_values", "cache_params", "state"):
        if key in output.keys() and output[key] is not None:  # noqa: SIM118 - a name of before 5.24 is found by get
            return key, output[key]
    return "", None


def kind_of(block: Block) -> str:
    """Return the kind of a mixer's table."""
    return block.label.split(" ")[0]


def expected_flops(model: Model, pass_: Pass, kind: str) -> int:
    """Return what the library's counter should see in a pass."""
    blocks = model.blocks()
    total = 0
    for block in blocks:
        found = flops_by_operation([block], pass_)
        hidden = HIDDEN.get(kind_of(block), {}).get(pass_.phase, set())
        total += sum(value for (_, name), value in found.items() if name not in hidden)
        total += block.repeat * thrown_away(block, pass_)
        if kind == "llama4_text":
            experts = sum(value for (_, name), value in found.items() if name in ("gate_proj", "up_proj", "down_proj"))
            if kind_of(block) == "moe":
                total += (block.letters["e"] // block.letters["j"] - 1) * experts
    return BATCH * total if kind == "rwkv" and pass_.phase == "decode" else total


def thrown_away(block: Block, pass_: Pass) -> int:
    """Return the FLOPs of a convolution at positions that are cut off again."""
    kernels = [op.weight for op in block.operations if isinstance(op, Einsum) and op.weight.endswith("K")]
    if not kernels:
        return 0
    if kind_of(block) == "rglru":  # a decode step of RecurrentGemma multiplies and sums the convolution's window
        positions = block.letters["K"] - 1 if pass_.phase == "prefill" else -1
    else:
        positions = block.letters["K"] - 1 if pass_.phase == "prefill" else 1
    return 2 * BATCH * positions * sum(prod(block.letters[letter] for letter in weight) for weight in kernels)


def expected_elements(model: Model, tokens: int) -> int:
    """Return the elements that the library's cache should hold: a window keeps one position less."""
    total = 0
    for block in model.blocks():
        for state in block.states:
            if state.tied:
                continue
            env = {"s": tokens, **block.letters}
            if state.over is not None and state.over.kind in ("window", "chunk"):
                env["w"] -= 1
            times = 2 if kind_of(block) == "local_kv" else 1
            total += times * block.repeat * state.elements(env)
    return BATCH * total


EVERY = [(kind, changes) for kind, options in CASES.items() for changes in options]


def test_every_family_has_a_case() -> None:
    assert sorted(CASES) == sorted(set(OURS) - ALIASES - PARTS)


@pytest.mark.parametrize(("kind", "changes"), EVERY, ids=[f"{kind}-{index}" for index, (kind, _) in enumerate(EVERY)])
def test_small_models_agree(kind: str, changes: dict[str, Any]) -> None:
    config = small(kind, changes)
    theirs, ours = built(config), imported(config)
    assert ours.params().total == stored(theirs)

    ours = ours.in_form("naive") if "naive" in ours.forms() else ours
    flops, output = counted(theirs, TOKENS)
    assert flops == expected_flops(ours, Pass.prefill(TOKENS, BATCH, causal=False), kind)

    key, held = cache_of(output)
    if held is None:
        assert kind == "recurrent_gemma"  # its state lives in the modules
        return
    assert sum(tensor.numel() for tensor in tensors(held, set())) == expected_elements(ours, TOKENS)
    decode, _ = counted(theirs, 1, **{key: held})
    # a step sees what the cache holds and the new token: windows count as they are, and indexers select all of so few
    assert decode == expected_flops(ours, Pass.decode(TOKENS + 1, BATCH), kind)
