"""Decoders whose code stands beside their checkpoints: transformers has no class for them, so no defaults either."""

from __future__ import annotations

from typing import Any, Final

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import LAYER_NORM, RMS, assemble, fold
from calc.importers.huggingface.decoder import attention, decoder, depth, feed_forward, rotary_of, width
from calc.importers.huggingface.experts import (
    experts,
    factor,
    groups,
    leading,
    network,
    shared_width,
    sparse_decoder,
    sparse_layers,
    with_mtp,
)
from calc.importers.huggingface.llama_like import qwen2
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Window
from calc.model import Layer, Model
from calc.records import replace

_HARMLESS: Final = """
    apply_residual_connection_post_layernorm assistant_token_id attention_softmax_in_fp32 attn_impl bf16
    classifier_dropout ep_size fp16 fp32 fp32_residual_connection max_window_layers model_max_length
    mtp_loss_scaling_factor norm_head norm_softmax onnx_safe pre_seq_len prefix_projection rope_ratio router_dtype
    scale_attn_weights seq_length softmax_in_fp32 use_cache_kernel use_cache_quantization use_dynamic_ntk
    use_logn_attn z_loss_weight
"""

HARMLESS: Final = tuple(_HARMLESS.split())
"""Keys of these files that shape nothing."""


def _head(config: Config, *, tied: bool = False, scaled: bool = False) -> Head:
    return Head(tied=config.flag("tie_word_embeddings", default=tied), scaled=scaled)


def _activation(config: Config) -> None:
    """Take SiLU where a file leaves the activation to the code beside it, which knows no other."""
    if config.data.get("hidden_act") is None:
        config.data = {**config.data, "hidden_act": "silu"}


def plain(config: Config) -> Model:
    """Read XVERSE, Skywork, Aquila, the first Yi and TeleChat 3: Llama, before or without its class."""
    config.ignore(*HARMLESS)
    _activation(config)
    config.refuse("num_experts", 0)
    return decoder(config, attention(config), feed_forward(config), head=_head(config))


def solar(config: Config) -> Model:
    """Read Solar Pro: Llama with further residual connections, which are fixed sums of two layers' outputs."""
    config.ignore("bskcn_1", "bskcn_2", "bskcn_3", "bskcn_4", "bskcn_tv", "sliding_window")
    config.note("sums of the outputs of far layers are not counted")
    return plain(config)


def phi3small(config: Config) -> Model:
    """Read Phi-3-small: biases everywhere, layer norms; block-sparse layers, which are counted as full ones."""
    config.ignore("blocksparse_homo_head_pattern", "blocksparse_block_size", "blocksparse_num_local_blocks")
    config.ignore(
        "blocksparse_vert_stride", "blocksparse_triton_kernel_block_size", "dummy_token_indices", "gegelu_limit"
    )
    config.ignore("gegelu_pad_to_256", "ff_dim_multiplier", "mup_use_scaling", "mup_width_multiplier")
    config.ignore("mup_attn_multiplier", "reorder_and_upcast_attn", "pad_sequence_to_multiple_of_64")
    if config.size("dense_attention_every_n_layers", default=1) != 1:
        config.note("block-sparse layers are counted as full ones: attention's FLOPs are upper bounds")
    if config.text("hidden_act", default="gegelu") != "gegelu":
        raise config.error("hidden_act other than gegelu is not supported for phi3small")
    mixer = attention(config, qkv_bias=True, o_bias=True)
    ffn = DenseFFN(d_ff=config.size("ff_intermediate_size"), activation="quick_gelu", gated=True, bias=True)
    mup = config.states("mup_embedding_multiplier")
    config.ignore("mup_embedding_multiplier")
    embedding, head = Embedding(scaled=mup), _head(config, tied=True, scaled=mup)
    return decoder(config, mixer, ffn, norm=LAYER_NORM, embedding=embedding, head=head)


def smallthinker(config: Config) -> Model:
    """Read SmallThinker: experts with ReLU chosen before the attention; window layers are rotated, full ones not."""
    n_layers = depth(config)
    windows = config.items("sliding_window_layout", length=n_layers) or [0] * n_layers
    rotated = config.items("rope_layout", length=n_layers) or [1] * n_layers
    listed = config.items("moe_layer_layout", length=n_layers) or [1] * n_layers
    config.ignore("moe_enable_early_router", "moe_enable_secondary_experts", "moe_secondary_expert_size", "hidden_act")
    config.refuse("moe_enable_secondary_experts")
    size = config.optional_size("sliding_window_size")
    softmax = config.flag("moe_primary_router_apply_softmax", default=False)
    moe = MoE(
        n_experts=config.size("moe_num_primary_experts"),
        n_active_experts=config.size("moe_num_active_primary_experts"),
        d_expert=config.size("moe_ffn_hidden_size"),
        activation="relu",
        scoring="softmax" if softmax else "sigmoid",
        scores_of="chosen",
        normalised=config.flag("norm_topk_prob", default=True),
    )
    return sparse_decoder(
        config,
        attention(config, qkv_bias=False, o_bias=False),
        moe,
        dense=lambda: DenseFFN(d_ff=config.size("ffn_hidden_size"), activation="relu", gated=True),
        sparse=[bool(one) for one in listed],
        layer_masks=[Window(window=size) if one and size else Causal() for one in windows],
        rotated=[bool(one) for one in rotated],
        head=_head(config),
    )


def internlm(config: Config) -> Model:
    """Read InternLM 1 and 2 and openPangu Embedded: Llama, with one key for the biases of the whole attention."""
    config.ignore(*HARMLESS)
    bias = config.flag("bias", default=True)
    mixer = attention(config, qkv_bias=bias, o_bias=bias)
    return decoder(config, mixer, feed_forward(config, bias=False), head=_head(config))


def baichuan(config: Config) -> Model:
    """Read Baichuan 1 and 2: Llama; files that state no ``max_position_embeddings`` are of models with ALiBi (13B)."""
    config.ignore(*HARMLESS)
    _activation(config)
    mixer = attention(config, qkv_bias=False, o_bias=False)
    longest = config.optional_size("max_position_embeddings", "model_max_length")
    if not config.states("max_position_embeddings"):
        mixer = replace(mixer, rotary_dim=None, position_bias="alibi")
    model = decoder(config, mixer, feed_forward(config, bias=False), head=_head(config))
    return replace(model, max_context=longest)


def orion(config: Config) -> Model:
    """Read Orion: Llama with layer norms."""
    config.ignore(*HARMLESS)
    return decoder(
        config,
        attention(config),
        feed_forward(config, bias=False),
        norm=LAYER_NORM,
        head=_head(config),
    )


def minicpm(config: Config) -> Model:
    """Read MiniCPM 1, 2 and 4: Llama with constants on embedding, residuals and logits."""
    config.ignore(*HARMLESS, "mup_denominator")
    if config.states("sparse_config"):
        sparse = config.section("sparse_config")
        sparse.ignore(*sparse.data)
        config.note("sparse_config: attention is counted as full, as it is up to dense_len tokens")
    around: dict[str, Any] = {
        "residual_scaled": config.states("scale_depth"),
        "embedding": Embedding(scaled=factor(config, "scale_emb")),
        "head": _head(config, tied=True, scaled=config.size("dim_model_base", default=width(config)) != width(config)),
    }
    if config.count("num_experts", default=0):
        moe = experts(config, d_expert=config.size("intermediate_size"), normalised=True)
        return sparse_decoder(config, attention(config), moe, **around)
    return decoder(config, attention(config), feed_forward(config, bias=False), **around)


def qwen(config: Config) -> Model:
    """Read Qwen 1: biases on queries, keys and values; ``intermediate_size`` counts gate and up projection together."""
    config.ignore(*HARMLESS, "kv_channels", "rotary_pct", "hidden_act")
    config.ignore("no_bias")  # of the other maps: those of queries, keys and values have one in any case
    inner = config.divided(config.size("intermediate_size"), "intermediate_size", 2, "2")
    mixer = attention(config, qkv_bias=True, o_bias=False, head_dim=config.optional_size("kv_channels"))
    model = decoder(config, mixer, DenseFFN(d_ff=inner, activation="silu", gated=True), head=_head(config))
    return replace(model, max_context=config.optional_size("max_position_embeddings", "seq_length"))


def mimo(config: Config) -> Model:
    """Read MiMo-7B: Qwen 2 with modules that predict further tokens."""
    config.ignore("attention_bias", "use_mrope")
    return with_mtp(config, qwen2(config), stored=False)


def chatglm(config: Config) -> Model:
    """Read ChatGLM 2 and 3 and GLM-4-9B: half of each head rotated, groups of queries, SwiGLU."""
    config.ignore(*HARMLESS, "original_rope", "interleaved_qkv")
    for key in ("position_encoding_2d", "inner_hidden_size"):
        config.refuse(key)  # the first ChatGLM is another model under the same name
    for key, only in (("rmsnorm", True), ("post_layer_norm", True)):
        if config.flag(key, default=only) is not only:
            raise config.error(f"{key} = false is not supported for {config.model_type}")
    n_heads, head_dim = config.size("num_attention_heads"), config.size("kv_channels")
    grouped = config.flag("multi_query_attention", default=False)
    config.ignore("multi_query_group_num")
    bias = config.flag("add_bias_linear", default=False)
    mixer = GQA(
        n_heads=n_heads,
        n_kv_heads=config.size("multi_query_group_num") if grouped else n_heads,
        head_dim=head_dim,
        qkv_bias=config.flag("add_qkv_bias", default=False) or bias,
        o_bias=bias,
        rotary_dim=rotary_of(config, head_dim, 0.5),
    )
    ffn = DenseFFN(d_ff=config.size("ffn_hidden_size"), activation="silu", gated=True, bias=bias)
    layer = Layer(attention=mixer, ffn=ffn, norm=RMS)
    return assemble(
        config,
        d_model=width(config),
        stack=fold([0] * config.layers("num_layers", "num_hidden_layers"), lambda _: layer),
        final_norm=RMS,
        head=_head(config),
        vocab_size=config.size("padded_vocab_size", "vocab_size"),
        max_context=config.optional_size("seq_length"),
    )


_LATENT: Final = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Keys that files of DeepSeek-V2's class set to nothing where they have no latents (DeepSeek-VL2, DeepSeek-OCR)."""


def deepseek(config: Config) -> Model:
    """Read DeepSeek-MoE: Llama's attention; small experts beside shared ones, the first layers dense."""
    config.ignore(*HARMLESS, "scoring_func", "lm_head", "rm_head", "topk_method", "n_group", "topk_group")
    config.ignore("use_mla", *(key for key in _LATENT if config.data.get(key) in (None, 0)))
    step = config.size("moe_layer_freq", default=1)
    dense = leading(config, "first_k_dense_replace")
    sparse = sparse_layers(config, lambda index: dense(index) and index % step == 0)
    moe = experts(
        config,
        shared=shared_width(config, "n_shared_experts"),
        normalised=config.flag("norm_topk_prob", default=False),
    )
    return sparse_decoder(
        config, attention(config), moe, dense=lambda: network(config), sparse=sparse, head=_head(config)
    )


def bailing_moe(config: Config) -> Model:
    """Read Ling 1 and 2: Llama's attention, in the second with norms on queries and keys and DeepSeek-V3's router."""
    config.ignore(*HARMLESS, "multi_gate", "use_sliding_window", "moe_router_topk_scaling_factor")
    config.refuse("use_bias")
    second = config.flag("moe_router_enable_expert_bias", default=False)
    scoring: dict[str, Any] = {
        "scoring": config.text("score_function", default="sigmoid" if second else "softmax"),
        "correction_bias": second,
        "normalised": config.flag("norm_topk_prob", default=second),
    }
    moe = experts(
        config,
        shared=shared_width(config, "num_shared_experts"),
        **scoring,
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    mixer = attention(
        config,
        qkv_bias=config.flag("use_qkv_bias", default=False),
        o_bias=False,
        qk_norm="rms" if config.flag("use_qk_norm", default=False) else None,
    )
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    model = sparse_decoder(config, mixer, moe, dense=lambda: network(config), sparse=sparse, head=_head(config))
    return with_mtp(config, model, stored=False)


def telechat(config: Config) -> Model:
    """Read TeleChat 1 and 2: Llama with biases in the maps back to the residual stream alone.

    Source: modeling_telechat.py of Tele-AI/Telechat; ``TeleChat2ForCausalLM`` of vLLM.
    """
    config.rename(n_layer="num_hidden_layers", n_head="num_attention_heads", ffn_hidden_size="intermediate_size")
    config.ignore(*HARMLESS, "training_seqlen", "skip_bias_add", "skip_bias_add_qkv", "semi_causal", "n_inner", "logn")
    for key in ("embed_layernorm", "apply_residual_connection_post_layernorm", "num_experts"):
        config.refuse(key)
    _activation(config)
    ffn = replace(feed_forward(config, bias=False), down_bias=True)
    model = decoder(config, attention(config, qkv_bias=False, o_bias=True), ffn, head=_head(config, tied=True))
    return replace(model, max_context=config.optional_size("max_position_embeddings", "seq_length"))
