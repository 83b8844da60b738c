"""Decoders whose code stands beside their checkpoints: published files and the parameters of what they describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calc.errors import ConfigError
from calc.importers.huggingface import Imported, from_config
from calc.model import parameters

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
COMMON: dict[str, Any] = {"hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


def sizes(d: int, inner: int, layers: int, heads: int, vocabulary: int, kv: int | None = None) -> dict[str, Any]:
    """Return the dimensions in Llama's key names."""
    return {
        **COMMON, "hidden_size": d, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "vocab_size": vocabulary, **({"num_key_value_heads": kv} if kv else {}),
    }  # fmt: skip


GLM = {
    "model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13_696, "num_attention_heads": 32,
    "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128, "add_qkv_bias": True,
    "add_bias_linear": False, "rmsnorm": True, "post_layer_norm": True, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "original_rope": True, "fp32_residual_connection": False,
}  # fmt: skip
LING = {
    **sizes(2048, 5120, 20, 16, 157_184, 4), "model_type": "bailing_moe", "head_dim": 128, "num_experts": 256,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 512, "n_group": 8, "topk_group": 4,
    "first_k_dense_replace": 1, "use_qk_norm": True, "use_qkv_bias": False, "use_bias": False,
    "score_function": "sigmoid", "moe_router_enable_expert_bias": True, "routed_scaling_factor": 2.5,
    "norm_topk_prob": True, "partial_rotary_factor": 0.5, "num_nextn_predict_layers": 0,
    "max_position_embeddings": 32_768,
}  # fmt: skip

INTERNLM = {"model_type": "internlm2", "bias": False, **sizes(4096, 14_336, 32, 32, 92_544, 8)}
BAICHUAN = {"model_type": "baichuan", "max_position_embeddings": 4096, **sizes(4096, 11_008, 32, 32, 64_000)}
BAICHUAN_13B = {"model_type": "baichuan", "model_max_length": 4096, **sizes(5120, 13_696, 40, 40, 64_000)}
QWEN = {
    "model_type": "qwen", "kv_channels": 128, "no_bias": True, "seq_length": 8192,
    **sizes(4096, 22_016, 32, 32, 151_936),
}  # fmt: skip
MINICPM = {
    "model_type": "minicpm", "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256,
    **sizes(2304, 5760, 40, 36, 122_753, 36), "tie_word_embeddings": True,
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek", **sizes(2048, 10_944, 28, 16, 102_400, 16), "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1,
    "moe_layer_freq": 1, "norm_topk_prob": False, "scoring_func": "softmax", "aux_loss_alpha": 0.001,
}  # fmt: skip

MIMO = {
    "model_type": "mimo", **sizes(4096, 11_008, 36, 32, 151_680, 8), "head_dim": 128, "attention_bias": True,
    "sliding_window": 32_768, "max_window_layers": 32, "use_sliding_window": False, "use_mrope": False,
    "num_nextn_predict_layers": 1,
}  # fmt: skip

COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("internlm/internlm2-7b", INTERNLM, 7_737_708_544),
    # README.md of baichuan-inc/Baichuan-13B-Base states both
    ("baichuan-inc/Baichuan-7B", BAICHUAN, 7_000_559_616),
    ("baichuan-inc/Baichuan-13B", BAICHUAN_13B, 13_264_901_120),
    # arXiv:2404.06395 Table 3 states 2,442,057,984 without the table of 122,753 × 2,304
    ("openbmb/MiniCPM-2B", MINICPM, 2_442_057_984 + 122_753 * 2304),
    ("Qwen/Qwen-7B", QWEN, 7_721_324_544),
    ("THUDM/chatglm2-6b", {**GLM, "num_layers": 28, "padded_vocab_size": 65_024}, 6_243_584_000),
    ("THUDM/glm-4-9b", {**GLM, "num_layers": 40, "padded_vocab_size": 151_552}, 9_399_951_360),
    ("deepseek-ai/deepseek-moe-16b-base", DEEPSEEK, 16_375_728_128),
    # modeling_bailing_moe_v2.py, bundled with NVIDIA-NeMo/Megatron-Bridge, on the meta device
    ("inclusionAI/Ling-mini-2.0", LING, 16_255_643_392),
]
"""Parameters in the safetensors files of the hub, or where a comment says so."""


def read(data: dict[str, Any]) -> Imported:
    return from_config(data, name="model", origin="config.json")


@pytest.mark.parametrize(("data", "total"), [row[1:] for row in COUNTS], ids=[row[0] for row in COUNTS])
def test_parameters_of_published_models(data: dict[str, Any], total: int) -> None:
    found = read(data)
    assert found.model.params().total == total
    assert not [note for note in found.notes if note.startswith("not understood")]


LLAMA = {"model_type": "llama", "max_position_embeddings": 4096}
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("InternLM 2", INTERNLM, {**INTERNLM, **LLAMA}),
    ("InternLM 1", {**INTERNLM, "model_type": "internlm", "bias": True}, {**INTERNLM, **LLAMA, "attention_bias": True}),
    ("Baichuan", BAICHUAN, {**BAICHUAN, **LLAMA}),
    ("MiMo", MIMO, {**MIMO, "model_type": "qwen2"}),
    ("Qwen", QWEN, {**QWEN, "model_type": "qwen2", "intermediate_size": 11_008, "num_key_value_heads": 32}),
    (
        "GLM-4",
        {**GLM, "num_layers": 40, "padded_vocab_size": 151_552},
        {"model_type": "glm", **sizes(4096, 13_696, 40, 32, 151_552, 2), "head_dim": 128, "attention_bias": True},
    ),
]  # fmt: skip
"""Files, and those of the type of transformers to which their checkpoints are converted: there the oracle proves it."""


@pytest.mark.parametrize(("data", "converted"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_a_model_is_what_its_checkpoint_is_converted_to(data: dict[str, Any], converted: dict[str, Any]) -> None:
    assert read(data).model.stack == read(converted).model.stack


def test_layer_norms_and_linear_biases_tell_orion_and_the_large_baichuan_from_llama() -> None:
    orion = {"model_type": "orion", "attention_bias": False, **sizes(5120, 15_360, 40, 40, 84_608, 40)}
    llama = read({**orion, **LLAMA}).model.params().total
    assert read(orion).model.params().total == llama + (2 * 40 + 1) * 5120  # a bias in every norm
    assert '"alibi"' not in repr(read(BAICHUAN).model.stack)
    assert "alibi" in repr(read(BAICHUAN_13B).model.stack)


def test_a_module_of_ling_that_predicts_a_token() -> None:
    model = read({**LING, "num_nextn_predict_layers": 1}).model
    assert model.params().total + parameters(model.mtp_blocks()).total == 17_083_504_896  # the same code


def test_a_module_of_mimo_that_predicts_a_token() -> None:
    found = read(MIMO)
    layer = 4096 * (2 * 4096 + 2 * 1024 + 3 * 11_008 + 2) + 4096 + 2 * 1024
    assert parameters(found.model.mtp_blocks()).total == layer + 2 * 4096**2 + 3 * 4096  # MiMoMTPLayers
    assert not [note for note in found.notes if note.startswith("not understood")]


def test_the_first_ling_has_softmax_scores_and_no_bias() -> None:
    first = {key: value for key, value in LING.items() if key not in ("score_function", "n_group", "topk_group")}
    plain = read({**first, "moe_router_enable_expert_bias": False, "use_qk_norm": False}).model
    assert read(LING).model.params().total - plain.params().total == 19 * 256 + 20 * 2 * 128


def test_minimax_m1_is_read_as_minimax_01() -> None:
    data = json.loads((CONFIGS / "minimax-text-01.json").read_text("utf-8"))
    assert read({**data, "model_type": "minimax_m1"}).model.stack == read(data).model.stack


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**MINICPM, "num_experts": 8}, "num_experts = 8 is not supported"),
        ({**QWEN, "intermediate_size": 22_017}, "is not divisible"),
        ({**GLM, "num_layers": 2, "padded_vocab_size": 100, "rmsnorm": False}, "rmsnorm = false is not supported"),
        ({**GLM, "num_layers": 2, "padded_vocab_size": 100, "position_encoding_2d": True}, "is not supported"),
        ({**LING, "use_bias": True}, "use_bias = true is not supported"),
    ],
)
def test_what_the_code_beside_has_and_we_do_not_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(data)
