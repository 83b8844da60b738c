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

TELECHAT = {
    "model_type": "telechat", "architectures": ["TelechatForCausalLM"], "hidden_size": 4096, "n_head": 32,
    "n_layer": 30, "ffn_hidden_size": 12_288, "vocab_size": 160_256, "seq_length": 8192, "skip_bias_add": True,
    "skip_bias_add_qkv": False, "embed_layernorm": False, "training_seqlen": 8192, "n_inner": None,
    "apply_residual_connection_post_layernorm": False, "torch_dtype": "float16",
}  # fmt: skip
TELECHAT_12B = {
    **TELECHAT, "hidden_size": 5120, "n_layer": 38, "vocab_size": 120_000, "tie_word_embeddings": False, "logn": False,
    "semi_causal": False,
}  # fmt: skip
TELECHAT_2 = {
    **TELECHAT_12B, "hidden_size": 6144, "n_head": 48, "n_layer": 64, "ffn_hidden_size": 20_480, "vocab_size": 131_072,
}  # fmt: skip
"""Sizes of predict_telechat_35b.yaml and predict_telechat_115b.yaml of mindspore-lab/mindformers."""
TELECHAT_115B = {
    **TELECHAT_2, "hidden_size": 8192, "n_head": 64, "num_key_value_heads": 8, "n_layer": 96,
    "ffn_hidden_size": 40_960,
}  # fmt: skip
GROK = {
    "model_type": "grok-1", **sizes(6144, 32_768, 64, 48, 131_072, 8), "num_experts": 8, "num_experts_per_tok": 2,
    "attn_output_multiplier": 0.088, "embedding_multiplier_scale": 78.4, "output_multiplier_scale": 0.577,
    "max_attn_value": 30.0, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip
GROK_2 = {
    "model_type": "git", "architectures": ["Grok1ForCausalLM"], **sizes(8192, 32_768, 64, 64, 131_072, 8),
    "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16_384,
    "residual_moe": True, "embedding_multiplier_scale": 90.5, "output_multiplier_scale": 0.5,
    "final_logit_softcapping": 50, "attn_logit_softcapping": 30.0, "router_logit_softcapping": 30.0,
}  # fmt: skip
HUNYUAN = {
    "model_type": "hunyuan", **sizes(6400, 18_304, 64, 80, 129_024, 8), "use_cla": True, "cla_share_factor": 2,
    "num_experts": 16, "moe_topk": 1, "num_shared_expert": 1, "use_mixed_mlp_moe": True, "use_qk_norm": True,
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
# dimensions from memory; the model card's 480B, 17B active, 10B dense and 128 × 3.66B agree with them
ARCTIC = {
    "model_type": "arctic", "architectures": ["ArcticForCausalLM"], **sizes(7168, 4864, 35, 56, 32_000, 8),
    "num_local_experts": 128, "num_experts_per_tok": 2, "moe_layer_frequency": 1, "parallel_attn_mlp_res": True,
    "use_residual": True, "moe_eval_capacity_factor": 1, "moe_min_capacity": 0, "moe_token_dropping": False,
    "enable_expert_tensor_parallelism": False, "moe_train_capacity_factor": 1, "max_position_embeddings": 4096,
}  # fmt: skip
STEP3 = {
    "model_type": "step3_vl", "architectures": ["Step3VLForConditionalGeneration"], "vision_config": {},
    "text_config": {
        "architectures": ["Step3TextForCausalLM"], "hidden_size": 7168, "intermediate_size": 18_432,
        "num_hidden_layers": 61, "num_attention_heads": 64, "num_attention_groups": 1, "head_dim": 256,
        "share_q_dim": 2048, "vocab_size": 128_815, "moe_layers_enum": ",".join(map(str, range(4, 60))),
        "moe_intermediate_size": 5120, "moe_num_experts": 48, "moe_top_k": 3, "share_expert_dim": 5120,
        "norm_expert_weight": False, "max_position_embedding": 65_536, "max_seq_len": 65_536, "rms_norm_eps": 1e-5,
        "rope_theta": 500_000, "torch_dtype": "bfloat16",
    },
}  # fmt: skip
"""The defaults of ``Step3TextConfig`` of vLLM; the README of stepfun-ai/Step3 states the same sizes."""
RWKV_7 = {
    "model_type": "rwkv7", "architectures": ["RWKV7ForCausalLM"], "head_dim": 64, "hidden_act": "sqrelu",
    "hidden_ratio": 4.0, "attn": None, "attn_mode": "chunk", "fuse_norm": False, "fuse_cross_entropy": True,
    "norm_first": True, "norm_bias": True, "norm_eps": 1e-05, "num_heads": 32, "tie_word_embeddings": False,
    "vocab_size": 65_536, "max_position_embeddings": 2048, "torch_dtype": "float32",
}  # fmt: skip


def rwkv_7(d_model: int, layers: int, decay: int, value: int, gate: int) -> dict[str, Any]:
    return RWKV_7 | {
        "hidden_size": d_model, "intermediate_size": 4 * d_model, "num_hidden_layers": layers,
        "decay_low_rank_dim": decay, "a_low_rank_dim": decay, "v_low_rank_dim": value, "gate_low_rank_dim": gate,
    }  # fmt: skip


PLAMO_2 = {
    "model_type": "plamo2", "architectures": ["PlamoForCausalLM"], "attention_window_size": 2048,
    "capacity_factor": 1.0, "eval_attention_n_bit": None, "eval_mlp_n_bit": None, "expert_dropout": 0.0,
    "fp8_accum_dtype": "bfloat16", "group_size": 1024, "hidden_size": 2048, "hidden_size_per_head": 128,
    "image_feature_size": None, "image_proj_type": "linear", "image_token_id": None, "intermediate_size": 8192,
    "k_expert": None, "linear_type": "fp8", "mamba_chunk_size": 256, "mamba_d_conv": 4, "mamba_d_state": 64,
    "mamba_enabled": True, "mamba_num_heads": 32, "mamba_step": 2, "max_position_embeddings": 10_485_760,
    "n_expert": None, "num_attention_heads": 16, "num_hidden_layers": 16, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06, "shared_intermediate_size": None, "sliding_window": 2048, "sparse_intermediate_size": None,
    "sparse_step": None, "torch_dtype": "float32", "use_predefined_initial_state": False, "vocab_size": 100_000,
}  # fmt: skip
"""config.json of pfnet/plamo-2-1b, as mlx-community/plamo-2-1b has it."""
FALCON = {
    "alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False, "parallel_attn": True,
    "vocab_size": 65_024, "torch_dtype": "bfloat16",
}  # fmt: skip
FALCON_7B = {**FALCON, "model_type": "RefinedWebModel", "hidden_size": 4544, "n_head": 71, "n_layer": 32}
FALCON_40B = {**FALCON, "model_type": "RefinedWeb", "hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60}
OLMO = {
    "model_type": "hf_olmo", "d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22_016,
    "embedding_size": 50_304, "vocab_size": 50_280, "weight_tying": False, "layer_norm_type": "default", "rope": True,
    "block_type": "sequential", "activation_type": "swiglu", "include_bias": False, "max_sequence_length": 2048,
    "layer_norm_with_affine": False,
}  # fmt: skip
STABLELM = {
    "model_type": "stablelm_epoch", **sizes(2560, 6912, 32, 32, 50_304, 32), "rope_pct": 0.25, "norm_eps": 1e-5,
}  # fmt: skip
LLADA = {
    "model_type": "llada", "d_model": 4096, "n_heads": 32, "n_kv_heads": 32, "n_layers": 32, "mlp_hidden_size": 12_288,
    "embedding_size": 126_464, "vocab_size": 126_464, "weight_tying": False, "layer_norm_type": "rms", "rope": True,
    "block_type": "llama", "activation_type": "silu", "layer_norm_with_affine": True, "mask_token_id": 126_336,
}  # fmt: skip
DREAM = {"model_type": "Dream", **sizes(3584, 18_944, 28, 28, 152_064, 4), "mask_token_id": 151_666}
PHI_3_SMALL = {
    "model_type": "phi3small", "hidden_size": 4096, "ff_intermediate_size": 14_336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 100_352, "hidden_act": "gegelu",
    "dense_attention_every_n_layers": 2, "mup_embedding_multiplier": 10.0, "mup_width_multiplier": 8.0,
}  # fmt: skip
SMALLTHINKER = {
    "model_type": "smallthinker", **sizes(2560, 0, 52, 28, 151_936, 4), "intermediate_size": None, "head_dim": 128,
    "moe_num_primary_experts": 64, "moe_num_active_primary_experts": 6, "moe_ffn_hidden_size": 768,
    "moe_layer_layout": [1] * 52, "rope_layout": [0, 1, 1, 1] * 13, "sliding_window_layout": [0, 1, 1, 1] * 13,
    "sliding_window_size": 4096, "moe_enable_early_router": True, "norm_topk_prob": True,
}  # fmt: skip
MOLMO = {
    "model_type": "molmo", **sizes(3584, 37_888, 28, 28, 152_064, 4), "embedding_size": 152_064, "qkv_bias": True,
    "attention_layer_norm": False, "layer_norm_type": "rms", "norm_after": False,
}  # fmt: skip
ERNIE_VL = {
    "model_type": "ernie4_5_moe_vl", **sizes(2560, 12_288, 28, 20, 103_424, 4), "moe_num_experts": [64, 64],
    "moe_intermediate_size": [1536, 512], "moe_k": 6, "moe_num_shared_experts": 2, "moe_layer_interval": 1,
    "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "tie_word_embeddings": True, "use_bias": False,
}  # fmt: skip
RING = {
    **{key: value for key, value in LING.items() if key not in ("max_position_embeddings", "num_nextn_predict_layers")},
    "model_type": "bailing_moe_linear", "layer_group_size": 5, "group_norm_size": 4, "linear_silu": False,
    "moe_shared_expert_intermediate_size": 512, "use_rmsnorm": True, "router_dtype": "fp32",
}  # fmt: skip
"""config.json of inclusionAI/Ring-mini-linear-2.0, whose sizes are Ling-mini-2.0's."""
MIMO_PRO = {
    "model_type": "mimo_v2", "architectures": ["MiMoV2ForCausalLM"], "vocab_size": 152_576, "hidden_size": 6144,
    "num_hidden_layers": 70, "num_attention_heads": 128, "num_key_value_heads": 8, "head_dim": 192, "v_head_dim": 128,
    "swa_num_attention_heads": 128, "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128,
    "partial_rotary_factor": 0.334, "sliding_window": 128, "sliding_window_size": 128, "intermediate_size": 16_384,
    "hybrid_layer_pattern": [0, *[1] * 69], "moe_layer_freq": [0, *[1] * 69], "n_routed_experts": 384,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "routed_scaling_factor": None, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "n_group": 1, "norm_topk_prob": True, "attention_value_scale": 0.612,
    "add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False, "vision_config": {"depth": 24},
    "quantization_config": {
        "quant_method": "fp8", "weight_block_size": [128, 128], "store_dtype": "mxfp4", "mxfp4_block_size": 32,
    },
}  # fmt: skip
"""Its kinds of layers are not in their order."""
MULTIPLIERS = [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0]
OPENELM = {
    "model_type": "openelm", "model_dim": 1280, "head_dim": 64, "num_transformer_layers": 16, "vocab_size": 32_000,
    "num_query_heads": [12] * 5 + [16] * 7 + [20] * 4, "num_kv_heads": [3] * 5 + [4] * 7 + [5] * 4,
    "ffn_multipliers": MULTIPLIERS, "ffn_dim_divisor": 256, "ffn_with_glu": True, "normalize_qk_projections": True,
    "share_input_output_layers": True, "activation_fn_name": "swish", "max_context_length": 2048,
}  # fmt: skip
JAIS = {
    "model_type": "jais", "n_embd": 5120, "n_head": 40, "n_layer": 40, "n_inner": 13_653, "n_positions": 2048,
    "vocab_size": 84_992, "activation_function": "swiglu", "position_embedding_type": "alibi",
}  # fmt: skip
XVERSE = {"model_type": "xverse", **sizes(8192, 22_016, 80, 64, 100_534)}
SOLAR = {"model_type": "solar", **sizes(5120, 17_920, 64, 40, 32_128, 10), "bskcn_1": [12], "bskcn_tv": [0.9, 0.8]}
KIMI_VL = {
    "model_type": "kimi_vl", "vision_config": {"model_type": "moonvit"}, "text_config": {
        **sizes(2048, 11_264, 27, 16, 163_840, 16), "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2,
        "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "n_group": 1,
        "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.446,
    },
}  # fmt: skip
VL2_TINY = {
    "model_type": "deepseek_vl_v2", "language_config": {
        "model_type": "deepseek_v2", **sizes(1280, 6848, 12, 10, 129_280, 10), "use_mla": False, "kv_lora_rank": None,
        "q_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 896, "first_k_dense_replace": 1,
        "topk_method": "greedy", "n_group": 1, "topk_group": 1, "lm_head": True, "rm_head": False,
    },
}  # fmt: skip


def nemotron_block(group: int | None, factor: float | None) -> dict[str, Any]:
    return {
        "attention": {"n_heads_in_group": group, "no_op": group is None, "replace_with_linear": False},
        "ffn": {"ffn_mult": factor, "no_op": factor is None, "replace_with_linear": False},
    }


_FACTORS = {5.25: 1, 1.3125: 10, 1.0: 8, 0.5: 6, 2.625: 5, 3.28125: 1}
NEMOTRON = {
    "model_type": "nemotron-nas", **sizes(8192, 0, 80, 64, 128_256), "intermediate_size": None,
    "num_key_value_heads": None, "attention_bias": False, "mlp_bias": False, "block_configs": [
        nemotron_block(8, 2.625), *[nemotron_block(8, 5.25)] * 48,
        *[nemotron_block(None, factor) for factor, times in _FACTORS.items() for _ in range(times)],
    ],
}  # fmt: skip
"""The layers of nvidia/Llama-3_3-Nemotron-Super-49B-v1, not in their order."""

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
    ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", NEMOTRON, 49_867_145_216),
    ("apple/OpenELM-270M", OPENELM, 271_527_168),
    ("GSAI-ML/LLaDA-8B-Base", LLADA, 8_015_581_184),
    ("Dream-org/Dream-v0-Base-7B", DREAM, 7_615_616_512),
    ("microsoft/Phi-3-small-8k-instruct", PHI_3_SMALL, 7_392_272_384),
    # Ernie4_5_VLMoeModel of transformers: 28,624,635,776 in its language model, less the experts for images
    ("baidu/ERNIE-4.5-VL-28B-A3B", ERNIE_VL, 28_624_635_776 - 6_799_197_888),
    # Qwen 2.5's 7,615,616,512, and 128 rows
    ("allenai/Molmo-7B-D-0924", MOLMO, 7_615_616_512 + 128 * 3584),
    # total_size of pytorch_model.bin.index.json in models/7B and models/12B-V2 of Tele-AI/Telechat, two bytes each
    ("Tele-AI/telechat-7B", TELECHAT, 14_400_036_864 // 2),
    ("Tele-AI/TeleChat-12B-v2", TELECHAT_12B, 24_772_864_000 // 2),
    # docs/PUBLISHED_MODELS.md of wangyue114514's conversions states the numbers of the checkpoints of BlinkDL/rwkv7-g1
    ("RWKV/RWKV7-Goose-World2.8-0.1B", rwkv_7(768, 12, 64, 32, 128), 191_034_624),
    ("RWKV/RWKV7-Goose-World2.9-0.4B", rwkv_7(1024, 24, 64, 32, 128), 450_767_872),
    ("RWKV/RWKV7-Goose-World3-1.5B", rwkv_7(2048, 24, 96, 64, 256), 1_527_404_544),
    ("RWKV/RWKV7-Goose-World3-2.9B", rwkv_7(2560, 32, 96, 64, 320), 2_947_735_040),
    ("stabilityai/stablelm-3b-4e1t", STABLELM, 2_795_443_200),
    ("allenai/OLMo-7B", OLMO, 6_888_095_744),
    ("tiiuae/falcon-7b before it had a class", FALCON_7B, 6_921_720_704),
    ("tiiuae/falcon-40b before it had a class", FALCON_40B, 41_303_293_952),
    # modeling_bailing_moe_v2.py, bundled with NVIDIA-NeMo/Megatron-Bridge, on the meta device
    ("inclusionAI/Ling-mini-2.0", LING, 16_255_643_392),
]
"""Parameters in the safetensors files of the hub, or where a comment says so."""


ROUNDED: list[tuple[str, dict[str, Any], float, float | None]] = [
    # README.md of xai-org/grok-1: 314B, 25 % of the weights active
    ("xai-org/grok-1", GROK, 314e9, None),
    # README.md of xai-org/grok-2 states the size of the files, about 500 GB (of 1024³), two bytes each
    ("xai-org/grok-2", GROK_2, 500 * 2**30 / 2, None),
    # arXiv:2411.02265, abstract: 389B and 52B
    ("tencent/Tencent-Hunyuan-Large", HUNYUAN, 389e9, 52e9),
    # README.md of Snowflake/snowflake-arctic-instruct: 480B, 17B active
    ("Snowflake/snowflake-arctic-instruct", ARCTIC, 480e9, 17e9),
    # README.md of stepfun-ai/Step3: 316B of the language model, 38B active
    ("stepfun-ai/step3", STEP3, 316e9, 38e9),
    # README.md of Tele-AI/TeleChat2
    ("TeleAI/TeleChat2-35B", TELECHAT_2, 35e9, None),
    ("TeleAI/TeleChat2-115B", TELECHAT_115B, 115e9, None),
    # arXiv:2504.07491 §2: 16B and 2.8B of the language model
    ("moonshotai/Kimi-VL-A3B-Instruct", KIMI_VL, 16e9, 2.8e9),
    # arXiv:2507.20984, abstract: 21B, 3B active
    ("Tiiny/SmallThinker-21BA3B-Instruct", SMALLTHINKER, 21e9, None),
    # README.md of inclusionAI/Ring-mini-linear-2.0: 16.4B, 1.6B active
    ("inclusionAI/Ring-mini-linear-2.0", RING, 16.4e9, 1.6e9),
    # README.md of XiaomiMiMo/MiMo-V2.5-Pro: 1.02T, 42B active
    ("XiaomiMiMo/MiMo-V2.5-Pro", MIMO_PRO, 1.02e12, 42e9),
    ("inceptionai/jais-13b", JAIS, 13e9, None),
    ("xverse/XVERSE-65B", XVERSE, 66e9, None),
    ("upstage/solar-pro-preview-instruct", SOLAR, 22e9, None),
    # 3.4B on the hub, 0.43B of them in the image encoder
    ("deepseek-ai/deepseek-vl2-tiny", VL2_TINY, 2.97e9, None),
    ("openbmb/MiniCPM-MoE-8x2B", {**MINICPM, "num_experts": 8, "num_experts_per_tok": 2}, 13.6e9, None),
]
"""Rounded figures of the makers: parameters, and active ones."""


@pytest.mark.parametrize(("data", "total", "active"), [row[1:] for row in ROUNDED], ids=[row[0] for row in ROUNDED])
def test_rounded_parameters_of_published_models(data: dict[str, Any], total: float, active: float | None) -> None:
    found = read(data)
    params = found.model.params()
    assert params.total == pytest.approx(total, rel=0.025)
    assert params.active == pytest.approx(active or params.active, rel=0.05)
    assert not [note for note in found.notes if note.startswith("not understood")]


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


def test_arctic_is_a_dense_model_of_ten_billion_and_128_experts_over_all_layers() -> None:
    model = read(ARCTIC).model
    dense = read({key: value for key, value in ARCTIC.items() if "expert" not in key} | {"num_local_experts": 1,
        "num_experts_per_tok": 1}).model  # fmt: skip
    each = 35 * 3 * 7168 * 4864  # README.md of Snowflake/snowflake-arctic-instruct: 10B and 128 x 3.66B
    assert each == pytest.approx(3.66e9, rel=0.001)
    assert model.params().total - dense.params().total == 127 * (each + 35 * 7168)
    assert dense.params().total - each == pytest.approx(10e9, rel=0.01)
    norms, plain = 35 * 7168, read({**ARCTIC, "parallel_attn_mlp_res": False, "use_residual": False}).model
    assert model.params().total - plain.params().total == norms + 35 * 3 * 7168**2
    every_second = read({**ARCTIC, "moe_layer_frequency": 2}).model
    assert model.params().total - every_second.params().total == 18 * (
        127 * 3 * 7168 * 4864 + 128 * 7168 + 3 * 7168**2 + 7168
    )
    with pytest.raises(ConfigError, match="contradict"):
        read({**ARCTIC, "use_residual": False})


def test_step3_caches_one_head_and_squeezes_queries() -> None:
    model = read(STEP3).model
    assert model.cache(1).bytes == 61 * 2 * 256 * 2
    mixer = model.stack[0].layer[0].attention
    assert mixer is not None
    table = {op.name: op.parameters({"d": 7168, **mixer.bind()}) for op in mixer.operations()}
    assert table["q_a_proj"] + table["q_a_norm"] + table["q_proj"] == 7168 * 2048 + 2048 + 2048 * 64 * 256


def test_rwkv_7_keeps_a_matrix_for_each_head_and_the_last_inputs() -> None:
    model = read(rwkv_7(768, 12, 64, 32, 128)).model
    assert model.cache(1).bytes == 0
    assert model.cache(1000).state_bytes == 12 * (12 * 64 * 64 * 4 + 2 * 768 * 2)  # matrices always in fp32


def test_plamo_2_is_its_tensors_added_up() -> None:
    """Shapes of ``Plamo2MambaMixer``, ``Plamo2AttentionMixer`` and ``DenseMLP`` of vLLM: no total is published."""
    d, inner, heads, state, rank = 2048, 32 * 128, 32, 64, 128
    mamba = 2 * d * inner + 4 * inner + inner * (rank + 2 * state) + rank * heads + 3 * heads + rank + 2 * state
    mamba += inner * d
    attention = d * (16 + 2) * 128 + 16 * 128 * d + (16 + 1) * 128
    total = 8 * mamba + 8 * attention + 16 * (3 * d * 8192 + 4 * d) + 100_000 * d + d
    found = read(PLAMO_2)
    assert found.model.params().total == total
    assert not [note for note in found.notes if note.startswith("not understood")]
    assert found.model.cache(5000).bytes == 8 * 2048 * 2 * 128 * 2
    full = read({**PLAMO_2, "full_attention_idx": [1]}).model
    assert full.cache(5000).bytes - found.model.cache(5000).bytes == (5000 - 2048) * 2 * 128 * 2


def test_ring_is_ling_with_lightning_attention_in_four_of_five_layers() -> None:
    ring, ling = read(RING).model, read(LING).model
    # 16 heads of keys and values in place of 4, a gate of their width, and a norm over all heads
    more = 2 * 12 * 128 * 2048 + 2048 * 2048 + 2048
    assert ring.params().total - ling.params().total == 16 * more
    assert ring.cache(1).bytes == 4 * 2 * 4 * 128 * 2
    assert ring.cache(1).state_bytes == 16 * 16 * 128 * 128 * 2


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
        ({**XVERSE, "num_experts": 8}, "num_experts = 8 is not supported"),
        ({**QWEN, "intermediate_size": 22_017}, "is not divisible"),
        ({**GLM, "num_layers": 2, "padded_vocab_size": 100, "rmsnorm": False}, "rmsnorm = false is not supported"),
        ({**GLM, "num_layers": 2, "padded_vocab_size": 100, "position_encoding_2d": True}, "is not supported"),
        ({**STEP3["text_config"], "model_type": "step3_text", "moe_layers_enum": "4,61"}, "numbers of 61 layers"),
        (
            {**STEP3["text_config"], "model_type": "step3_text", "num_attention_groups": 8},
            "attention_groups = 8 is not supported",
        ),
        ({**TELECHAT, "embed_layernorm": True}, "embed_layernorm = true is not supported"),
        (rwkv_7(768, 12, 64, 32, 128) | {"attn": {"layers": [3]}}, "attn = .* is not supported for rwkv7"),
        (rwkv_7(768, 12, 64, 32, 128) | {"value_dim": [768] * 11 + [512]}, "value_dim other than hidden_size"),
        ({**PLAMO_2, "n_expert": 8}, "n_expert = 8 is not supported"),
        ({**PLAMO_2, "mamba_step": 1}, "mamba_step = 1 leaves no rule"),
        ({**LING, "use_bias": True}, "use_bias = true is not supported"),
    ],
)
def test_what_the_code_beside_has_and_we_do_not_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(data)


def test_mimo_stores_experts_in_four_bits_and_the_rest_in_blocks_of_eight() -> None:
    found = read(MIMO_PRO)
    assert found.model.weights_dtype.startswith("experts=mxfp4,attention=fp8-block128,ffn=fp8-block128")
    assert found.notes == ("the text model of mimo_v2 alone: its vision parts are not counted",)
    other = {**MIMO_PRO, "quantization_config": {**MIMO_PRO["quantization_config"], "store_dtype": "nvfp4"}}
    assert any("unquantised format" in note for note in read(other).notes)
