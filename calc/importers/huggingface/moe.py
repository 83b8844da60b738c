"""Decoders with grouped-query attention and a mixture of experts."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import ACTIVATIONS, LAYER_NORM, assemble, fold, tied
from calc.importers.huggingface.decoder import attention, depth, masks
from calc.importers.huggingface.experts import (
    SIGMOID,
    experts,
    factor,
    network,
    sparse_decoder,
    sparse_layers,
    without_mtp,
)
from calc.importers.huggingface.reader import Config
from calc.masks import Mask
from calc.model import Layer, Model
from calc.records import replace

SCALED_LAYER_NORM = NormSpec(kind="layer")


def mixtral(config: Config) -> Model:
    """Read Mixtral: experts in every layer, a window in every layer where ``sliding_window`` is a number."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"))
    mixer = attention(config, qkv_bias=False, o_bias=False)
    moe = experts(config, d_expert=config.size("intermediate_size"), normalised=True)
    return sparse_decoder(config, mixer, moe, layer_masks=layers)


def minimax_m2(config: Config) -> Model:
    """Read MiniMax-M2: sigmoid scores, queries and keys normalised over all heads."""
    over = config.text("qk_norm_type", default="per_layer")
    if over != "per_layer" or not config.flag("use_qk_norm", default=True):
        raise config.error(f"qk_norm_type = {over!r} with use_qk_norm is not supported for {config.model_type}")
    mixer = attention(config, qkv_bias=False, o_bias=False, qk_norm="rms", qk_norm_over="all_heads")
    rotated = config.optional_size("rotary_dim")
    mixer = replace(mixer, rotary_dim=rotated) if rotated else mixer
    if not config.flag("use_routing_bias", default=True):
        raise config.error(f"use_routing_bias = false is not supported for {config.model_type}")
    config.ignore("scoring_func", "attn_type_list", "mtp_transformer_layers", "use_mtp")
    config.refuse("shared_intermediate_size", 0)
    without_mtp(config)
    moe = experts(config, d_expert=config.size("intermediate_size"), **SIGMOID)
    return sparse_decoder(config, mixer, moe)


def phimoe(config: Config) -> Model:
    """Read Phi-3.5-MoE: layer norms, biases in all of the attention and in the head."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"))
    moe = experts(config, d_expert=config.size("intermediate_size"))
    head = Head(tied=tied(config), bias=config.flag("lm_head_bias", default=False))
    return sparse_decoder(config, attention(config), moe, layer_masks=layers, norm=LAYER_NORM, head=head)


def qwen_sparse(config: Config) -> list[bool]:
    """Return which of Qwen's layers have experts: every n-th, except those that are named dense."""
    step = config.size("decoder_sparse_step", default=1)
    named = config.positions("mlp_only_layers")
    return sparse_layers(config, lambda index: index not in named and (index + 1) % step == 0)


def qwen2_moe(config: Config) -> Model:
    """Read Qwen1.5-MoE and Qwen2-MoE: a gated shared expert; biases on queries, keys and values."""
    n_layers = depth(config)
    config.ignore("sliding_window")
    window = config.optional_size("sliding_window") if config.flag("use_sliding_window", default=False) else None
    lowest = config.count("max_window_layers", default=n_layers)
    layers = masks(config, n_layers, window, lambda index: (index + 1) % 2 != 0 and index < lowest)
    moe = experts(
        config,
        shared=config.size("shared_expert_intermediate_size"),
        shared_gate=True,
        normalised=config.flag("norm_topk_prob", default=False),
    )
    mixer = attention(config, qkv_bias=config.flag("qkv_bias", default=True), o_bias=False)
    return sparse_decoder(
        config, mixer, moe, dense=lambda: network(config), sparse=qwen_sparse(config), layer_masks=layers
    )


def qwen3_moe(config: Config) -> Model:
    """Read Qwen3-MoE: queries and keys normalised head by head; a window, if it is switched on, in every layer."""
    config.ignore("sliding_window", "max_window_layers", "shared_expert_intermediate_size", "use_qk_norm")
    window = config.optional_size("sliding_window") if config.flag("use_sliding_window", default=False) else None
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms"),
        experts(config, normalised=config.flag("norm_topk_prob", default=False)),
        dense=lambda: network(config),
        sparse=qwen_sparse(config),
        layer_masks=masks(config, depth(config), window),
    )


def mellum(config: Config) -> Model:
    """Read Mellum: Qwen3-MoE with window layers."""
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms"),
        experts(config, normalised=config.flag("norm_topk_prob", default=False)),
        dense=lambda: network(config),
        sparse=sparse_layers(config, lambda _: True),
        layer_masks=masks(config, depth(config), config.optional_size("sliding_window"), lambda _: False),
    )


def flint(config: Config) -> Model:
    """Read Flint: sinks, window layers, a shared expert without a gate; full layers are not rotated."""
    n_layers = depth(config)
    layers = masks(
        config,
        n_layers,
        config.optional_size("sliding_window"),
        lambda index: not (index < 2 or index % 4 == 1 or index == n_layers - 1),
    )
    moe = experts(
        config,
        shared=config.size("shared_expert_intermediate_size"),
        scoring="sigmoid",
        normalised=config.flag("norm_topk_prob", default=True),
    )
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms", sinks=True),
        moe,
        dense=lambda: network(config),
        sparse=qwen_sparse(config),
        layer_masks=layers,
        rotated=[mask.kind == "window" for mask in layers],
    )


def olmoe(config: Config) -> Model:
    """Read OLMoE: queries and keys normalised over all heads."""
    mixer = attention(config, qk_norm="rms", qk_norm_over="all_heads")
    moe = experts(
        config,
        d_expert=config.size("intermediate_size"),
        normalised=config.flag("norm_topk_prob", default=False),
    )
    return sparse_decoder(config, mixer, moe)


def flex_olmo(config: Config) -> Model:
    """Read FlexOlmo: OLMoE with norms after each part."""
    mixer = attention(config, qk_norm="rms", qk_norm_over="all_heads")
    moe = experts(
        config,
        d_expert=config.size("intermediate_size"),
        normalised=config.flag("norm_topk_prob", default=False),
    )
    return sparse_decoder(config, mixer, moe, placement="post")


def granitemoe(config: Config) -> Model:
    """Read Granite MoE: Granite's constants; in the ``shared`` types a shared network beside the experts."""
    return _granite(config, attention(config))


def granitemoe_swa(config: Config) -> Model:
    """Read Granite MoE with windows: sinks in every layer, every fourth layer full."""
    config.ignore("layer_rope_theta")
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: index % 4 != 0)
    return _granite(config, attention(config, sinks=True), layers)


def _granite(config: Config, mixer: GQA, layers: list[Mask] | None = None) -> Model:
    moe = experts(
        config,
        d_expert=config.size("intermediate_size"),
        shared=config.count("shared_intermediate_size", default=0),
        scores_of="chosen",
    )
    return sparse_decoder(
        config,
        mixer,
        moe,
        layer_masks=layers,
        residual_scaled=factor(config, "residual_multiplier"),
        embedding=Embedding(scaled=factor(config, "embedding_multiplier")),
        head=Head(tied=tied(config), scaled=factor(config, "logits_scaling")),
    )


def dbrx(config: Config) -> Model:
    """Read DBRX: keys of its own, nested; layer norms without biases."""
    d_model, n_heads = config.size("d_model"), config.size("n_heads")
    inner, outer = config.section("ffn_config"), config.section("attn_config")
    outer.ignore("rope_theta", "clip_qkv", "attn_pdrop", "kv_n_heads")
    inner.ignore("moe_jitter_eps", "moe_loss_weight", "moe_normalize_expert_weights", "hidden_size")
    head_dim = config.divided(d_model, "d_model", n_heads, "n_heads")
    mixer = GQA(n_heads=n_heads, n_kv_heads=outer.size("kv_n_heads", default=1), head_dim=head_dim, rotary_dim=head_dim)
    act = inner.section("ffn_act_fn").text("name", default="silu")
    if act not in ACTIVATIONS:
        raise config.error(f"ffn_config.ffn_act_fn.name = {act[:40]!r} is not an activation that is understood")
    moe = MoE(
        n_experts=inner.size("moe_num_experts", default=4),
        n_active_experts=inner.size("moe_top_k", default=1),
        d_expert=inner.size("ffn_hidden_size", default=3584),
        activation=ACTIVATIONS[act],
        normalised=inner.data.get("moe_normalize_expert_weights", 1) is not None,
    )
    layer = Layer(attention=mixer, ffn=moe, norm=SCALED_LAYER_NORM)
    return assemble(
        config,
        d_model=d_model,
        stack=fold([0] * config.layers("n_layers"), lambda _: layer),
        final_norm=SCALED_LAYER_NORM,
        max_context=config.optional_size("max_seq_len"),
    )


def gpt_oss(config: Config) -> Model:
    """Read gpt-oss: sinks, every second layer a window; biases in attention, router and experts."""
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % 2 != 0)
    config.ignore("initial_context_length")
    moe = experts(
        config,
        d_expert=config.size("intermediate_size"),
        activation="quick_gelu",
        scores_of="chosen",
        router_bias=True,
        expert_bias=True,
        clamped=True,
        up_offset=True,
    )
    return sparse_decoder(config, attention(config, sinks=True), moe, layer_masks=layers)


def hunyuan_v1_moe(config: Config) -> Model:
    """Read Hunyuan-A13B: shared experts beside the others; its files repeat sizes for each layer."""
    config.refuse("use_cla")
    config.refuse("moe_layer_num_skipped", 0)
    config.ignore(
        "attention_head_dim", "moe_drop_tokens", "moe_random_routing_dropped_token", "norm_type", "cla_share_factor"
    )
    chosen = same_for_all(config, "moe_topk", "num_experts_per_tok")
    inner = same_for_all(config, "intermediate_size")
    shared = config.states("num_shared_expert") and same_for_all(config, "num_shared_expert")
    moe = experts(
        config,
        n_active_experts=chosen,
        d_expert=same_for_all(config, "moe_intermediate_size") if config.states("moe_intermediate_size") else inner,
        shared=inner * (shared or 1) if config.flag("use_mixed_mlp_moe", default=True) else None,
        normalised=True,
    )
    norm = "rms" if config.flag("use_qk_norm", default=True) else None
    return sparse_decoder(config, attention(config, qk_norm=norm), moe)


def same_for_all(config: Config, *keys: str) -> int:
    """Return a number that may be written once or once a layer.

    Raises:
        ConfigError: layers differ.
    """
    key = next((key for key in keys if config.states(key)), keys[0])
    if not isinstance(config.data.get(key), list):
        return config.size(key)
    values = config.items(key, length=depth(config)) or []
    if len(set(map(repr, values))) != 1:
        raise config.error(f"{config.path}{key} differs from layer to layer, which is not supported")
    return config.whole(key, values[0])


def aria_text(config: Config) -> Model:
    """Read Aria's text model: shared experts as wide as the routed ones."""
    inner = config.size("intermediate_size")
    shared = config.count("moe_num_shared_experts") * inner
    bias = bool(shared) and config.flag("mlp_bias", default=False)
    moe = experts(config, d_expert=inner, shared=shared, shared_bias=bias, scores_of="chosen")
    return sparse_decoder(config, attention(config), moe)
