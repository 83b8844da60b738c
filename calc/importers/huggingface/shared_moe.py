"""Decoders with grouped-query attention, leading dense layers, and shared beside routed experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calc.attention import Attention
from calc.attention.gqa import GQA
from calc.attention.msa import MSA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import RMS, tied
from calc.importers.huggingface.decoder import attention, depth, masks
from calc.importers.huggingface.experts import (
    SIGMOID,
    experts,
    factor,
    groups,
    leading,
    network,
    one_size,
    shared_width,
    sparse_decoder,
    sparse_layers,
    with_mtp,
    without_mtp,
)
from calc.importers.huggingface.hybrid import mixed
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Mask
from calc.model import Model
from calc.records import replace

SCALED_LAYER_NORM = NormSpec(kind="layer")


def glm4_moe(config: Config) -> Model:
    """Read GLM-4.5 and 4.6: DeepSeek-V3's experts, half of each head rotated, no bias in the output projection."""
    norm = "rms" if config.flag("use_qk_norm", default=False) else None
    # where the file has no head_dim, the reference code divides without asking for a remainder
    head_dim = config.optional_size("head_dim") or config.size("hidden_size") // config.size("num_attention_heads")
    model = _deepseek_experts(config, attention(config, o_bias=False, rotary=0.5, head_dim=head_dim, qk_norm=norm))
    return with_mtp(config, model, stored=False)


def sarvam_moe(config: Config) -> Model:
    """Read Sarvam 30B: GLM-4.5 with whole heads rotated, under the names of its first code."""
    config.rename(num_experts="n_routed_experts", num_shared_experts="n_shared_experts", use_qkv_bias="attention_bias")
    config.refuse("num_mtp_layers", 0)
    norm = "rms" if config.flag("use_qk_norm", default=True) else None
    return _deepseek_experts(config, attention(config, o_bias=False, qk_norm=norm))


def solar_open(config: Config) -> Model:
    """Read Solar Open: GLM-4.5 with experts in every layer."""
    norm = "rms" if config.flag("use_qk_norm", default=False) else None
    return _deepseek_experts(config, attention(config, o_bias=False, qk_norm=norm))


def _deepseek_experts(config: Config, mixer: GQA, layers: list[Mask] | None = None) -> Model:
    moe = experts(
        config,
        shared=shared_width(config, "n_shared_experts", "num_shared_experts"),
        **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    config.ignore("scoring_func", "topk_method", "moe_layer_freq")
    return sparse_decoder(
        config,
        mixer,
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, leading(config, "first_k_dense_replace")),
        layer_masks=layers,
    )


def dots1(config: Config) -> Model:
    """Read dots.llm1: queries and keys normalised head by head; windows from ``max_window_layers`` up, if any."""
    n_layers = depth(config)
    lowest = config.count("max_window_layers", default=n_layers)
    layers = masks(config, n_layers, config.optional_size("sliding_window"), lambda index: index >= lowest)
    return _deepseek_experts(config, attention(config, qk_norm="rms"), layers)


def ernie4_5_moe(config: Config) -> Model:
    """Read ERNIE 4.5 MoE: experts in every n-th of a range of layers; one key for the biases outside the experts."""
    bias = config.flag("use_bias", default=False)
    n_layers = depth(config)
    first, step = config.count("moe_layer_start_index", default=0), config.size("moe_layer_interval", default=1)
    end = config.number("moe_layer_end_index", default=-1)
    last = n_layers - 1 if end == -1 else end
    shared = shared_width(config, "moe_num_shared_experts")
    moe = experts(config, shared=shared, shared_bias=bias and bool(shared), correction_bias=True, normalised=True)
    return sparse_decoder(
        config,
        attention(config, qkv_bias=bias, o_bias=bias),
        moe,
        dense=lambda: network(config, bias=bias),
        sparse=sparse_layers(config, lambda index: (index + 1) % step == 0 and first <= index <= last),
        head=Head(tied=tied(config), bias=bias),
    )


def ernie4_5_vl(config: Config) -> Model:
    """Read the text model of ERNIE 4.5 VL: ERNIE 4.5 with further experts that only tokens of images use."""
    pair = config.data.get("moe_intermediate_size", config.defaults.get("moe_intermediate_size")) or [1536, 512]
    first = {
        key: value[0]
        for key, value in {**config.data, "moe_intermediate_size": pair}.items()
        if key.startswith("moe_") and isinstance(value, list) and value
    }
    number = config.data.get("moe_num_experts", 64)
    config.data = {**config.data, **first}
    config.ignore("moe_use_aux_free", "moe_norm_min", "vision_config", "moe_multimodal_dispatch_use_allgather")
    if not config.states("mlp_layer_types", "moe_layer_start_index"):
        config.data = {**config.data, "moe_layer_start_index": 1}
    model = ernie4_5_moe(config)
    d_model, many = model.d_model, number[1] if isinstance(number, list) else config.size("moe_num_experts")
    width = pair[1] if isinstance(pair, list) else pair
    layers = sum(stack.repeat * sum(isinstance(layer.ffn, MoE) for layer in stack.layer) for stack in model.stack)
    # their matrices, and a router's with its bias
    left = layers * (many * 3 * d_model * width + many * (d_model + 1))
    config.note(f"experts that only tokens of images use are not counted: {left:,} parameters")
    return model


def hy_v3(config: Config) -> Model:
    """Read Hunyuan 3: DeepSeek-V3's experts, one shared; queries and keys normalised head by head."""
    moe = experts(
        config,
        shared=shared_width(config, "num_shared_experts"),
        **SIGMOID,
        routed_scale=factor(config, "router_scaling_factor"),
    )
    bias = config.flag("mlp_bias", default=False)
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms"),
        replace(moe, shared_bias=bias),
        dense=lambda: network(config, bias=bias),
        sparse=sparse_layers(config, lambda index: index > 0),
    )


def exaone_moe(config: Config) -> Model:
    """Read EXAONE MoE: three window layers to one full; full layers among windows are not rotated."""
    window = config.optional_size("sliding_window")
    layers = masks(config, depth(config), window, lambda index: (index + 1) % 4 != 0)
    config.ignore("sliding_window_pattern", "first_last_k_dense_replace", "scoring_func", "topk_method")
    without_mtp(config)
    listed = config.items("is_moe_layer", length=depth(config))
    rule = (lambda index: bool(listed[index])) if listed else leading(config, "first_k_dense_replace")
    moe = experts(
        config,
        shared=shared_width(config, "num_shared_experts"),
        **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    return sparse_decoder(
        config,
        attention(config, qkv_bias=False, o_bias=False, qk_norm="rms"),
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, rule),
        layer_masks=layers,
        rotated=[window is None or mask.kind == "window" for mask in layers],
    )


def kolibri1(config: Config) -> Model:
    """Read Kolibri: four window layers to one full, norms before and after each part."""
    window = config.optional_size("sliding_window")
    layers = masks(config, depth(config), window, lambda index: (index + 1) % 5 != 0)
    moe = experts(
        config,
        shared=config.size("shared_expert_intermediate_size"),
        scoring="sigmoid",
        scores_of="chosen",
        correction_bias=True,
        normalised=config.flag("norm_topk_prob", default=False),
    )
    return sparse_decoder(
        config,
        attention(config, qkv_bias=False, o_bias=False, qk_norm="rms"),
        moe,
        layer_masks=layers,
        rotated=[window is None or mask.kind == "window" for mask in layers],
        placement="both",
    )


def afmoe(config: Config) -> Model:
    """Read Trinity: gated attention, norms before and after each part; full layers are not rotated."""
    every = config.size("global_attn_every_n_layers", default=4)
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % every != 0)
    moe = experts(
        config,
        shared=shared_width(config, "num_shared_experts"),
        **SIGMOID,
        routed_scale=factor(config, "route_scale"),
    )
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms", output_gate="element"),
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, leading(config, "num_dense_layers")),
        layer_masks=layers,
        rotated=[mask.kind == "window" for mask in layers],
        placement="both",
        embedding=Embedding(scaled=config.flag("mup_enabled", default=False)),
    )


def laguna(config: Config) -> Model:
    """Read Laguna: gated attention, DeepSeek-V3's experts with one shared."""
    heads = config.items("num_attention_heads_per_layer", length=depth(config))
    if heads and set(map(repr, heads)) != {repr(config.size("num_attention_heads"))}:
        raise config.error("num_attention_heads_per_layer differs from num_attention_heads, which is not supported")
    gating = config.data.get("gating", config.defaults.get("gating", True))
    config.ignore("gating")
    config.refuse("moe_apply_router_weight_on_input")
    moe = experts(
        config,
        shared=config.size("shared_expert_intermediate_size"),
        **SIGMOID,
        routed_scale=factor(config, "moe_routed_scaling_factor"),
    )
    mixer = attention(config, qk_norm="rms", output_gate="head" if gating in (True, "per-head") else "element")
    return sparse_decoder(
        config,
        mixer,
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, lambda index: index > 0),
        layer_masks=masks(config, depth(config), config.optional_size("sliding_window"), lambda _: False),
    )


def cohere2_moe(config: Config) -> Model:
    """Read Command with experts: attention and experts side by side under one norm; full layers are not rotated."""
    every = config.size("sliding_window_pattern", default=4)
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % every != 0)
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    forced = config.size("prefix_dense_sliding_window_pattern", default=1) == 1
    config.ignore("shared_expert_combination_strategy")
    inner = config.size("intermediate_size")
    moe = experts(
        config,
        d_expert=inner,
        shared=config.count("num_shared_experts", default=0) * inner,
        scoring=config.text("expert_selection_fn", default="softmax"),
        scores_of="chosen",
        normalised=config.flag("norm_topk_prob", default=True),
    )
    return sparse_decoder(
        config,
        attention(config),
        moe,
        dense=lambda: network(config, "prefix_dense_intermediate_size", "intermediate_size"),
        sparse=sparse,
        layer_masks=layers,
        rotated=[m.kind == "window" or (forced and not s) for m, s in zip(layers, sparse, strict=True)],
        norm=RMS if config.states("rms_norm_eps") else SCALED_LAYER_NORM,
        parallel="one_norm",
        head=Head(tied=tied(config), scaled=factor(config, "logit_scale")),
    )


def minimax_m3(config: Config) -> Model:
    """Read MiniMax-M3's text model: full attention, and layers that select blocks of positions."""
    n_layers = depth(config)
    _published_m3(config, n_layers)
    config.ignore("index_local_blocks")  # the query's own block is always among the selected
    kinds = config.choices("layer_types", length=n_layers, known=("full_attention", "minimax_m3_sparse"))
    moe = experts(
        config,
        d_expert=config.size("intermediate_size"),
        shared=config.count("shared_intermediate_size", default=0),
        activation="quick_gelu",
        **SIGMOID,
        routed_scale=factor(config, "routed_scaling_factor"),
        clamped=True,
        up_offset=True,
    )
    full = attention(config, qkv_bias=False, o_bias=False, qk_norm="rms", mask=Causal())
    full = replace(full, rotary_dim=config.optional_size("rotary_dim") or full.rotary_dim)
    mixers: dict[str, Callable[[], Attention]] = {
        "full_attention": lambda: full,
        "minimax_m3_sparse": lambda: _selecting(config, full),
    }
    config.ignore("hidden_act")  # files call it swigluoai
    dense = DenseFFN(d_ff=one_size(config, "dense_intermediate_size"), activation="quick_gelu", gated=True)
    sparse = sparse_layers(config, lambda _: True)
    ffns: dict[bool, Callable[[], FeedForward]] = {True: lambda: moe, False: lambda: dense}
    if "minimax_m3_sparse" not in (kinds or ()):
        config.ignore("index_n_heads", "index_head_dim", "index_block_size", "index_topk_blocks")
    return mixed(config, kinds or ["full_attention"] * n_layers, mixers, ffns, sparse)


_M3_INDEXER = {
    "sparse_num_index_heads": "index_n_heads",
    "sparse_index_dim": "index_head_dim",
    "sparse_block_size": "index_block_size",
    "sparse_topk_blocks": "index_topk_blocks",
    "sparse_local_block": "index_local_blocks",
}


def _published_m3(config: Config, n_layers: int) -> None:
    """Read the keys of MiniMax-M3's published files as those of its class, which replaces them in the same way."""
    nested = config.section("sparse_attention_config")
    freq = nested.items("sparse_attention_freq", length=n_layers)
    listed = config.items("moe_layer_freq", length=n_layers)
    nested.ignore("use_sparse_attention", "sparse_disable_index_value", "sparse_init_block", "sparse_score_type")
    nested.ignore(*_M3_INDEXER)
    config.ignore("moe_intermediate_size", "n_shared_experts", "first_k_dense_replace", "scoring_func")
    for key, only in (("use_qk_norm", True), ("use_routing_bias", True), ("use_gemma_norm", True)):
        if config.flag(key, default=only) is not only:
            raise config.error(f"{config.path}{key} = false is not supported for {config.model_type}")
    config.refuse("qk_norm_type", "per_head")
    config.refuse("attention_output_gate")
    without_mtp(config)
    renamed = {name: nested.data[key] for key, name in _M3_INDEXER.items() if key in nested.data}
    if freq:
        renamed["layer_types"] = ["minimax_m3_sparse" if on else "full_attention" for on in freq]
    if listed:
        renamed["mlp_layer_types"] = ["sparse" if on else "dense" for on in listed]
    config.data = {**renamed, **config.data}


def _selecting(config: Config, full: GQA) -> MSA:
    """Return the attention over selected blocks, whose indexer has a head for each key-value head."""
    if config.size("index_n_heads") != full.n_kv_heads:
        raise config.error(f"{config.path}index_n_heads other than num_key_value_heads is not supported")
    return MSA(
        n_heads=full.n_heads,
        n_kv_heads=full.n_kv_heads,
        head_dim=full.head_dim,
        rotary_dim=full.rotary_dim or full.head_dim,
        index_head_dim=config.size("index_head_dim"),
        block_size=config.size("index_block_size"),
        n_selected=config.size("index_topk_blocks"),
    )


def mimo_v2(config: Config) -> Model:
    """Read MiMo-V2 and V2.5: window layers with sinks and key-value heads of their own, values narrower than keys."""
    if config.model_type == "mimo_v2":  # its files have the encoders' sections beside the keys of the text model
        given = [key.removesuffix("_config") for key in ("vision_config", "audio_config") if config.data.get(key)]
        if given:
            config.note(f"the text model of mimo_v2 alone: its {' and '.join(given)} parts are not counted")
        config.ignore("vision_config", "audio_config", "processor_config", "attention_projection_layout")
        config.assume(hidden_act="silu", tie_word_embeddings=False)
    n_layers = depth(config)
    pattern = config.items("hybrid_layer_pattern", length=n_layers)
    listed = config.items("moe_layer_freq", length=n_layers)
    window = one_size(config, "sliding_window", "sliding_window_size")
    local = [bool(one) for one in pattern] if pattern else [(i != 0 and (i + 1) % 6 != 0) for i in range(n_layers)]
    layers = masks(config, n_layers, window, lambda index: local[index])
    config.ignore("swa_rope_theta", "attention_chunk_size", "scoring_func", "topk_method")
    mixer = attention(
        config,
        o_bias=False,
        v_head_dim=config.size("v_head_dim"),
        v_scaled=factor(config, "attention_value_scale"),
    )
    sinks = {
        "causal": config.flag("add_full_attention_sink_bias", default=False),
        "window": config.flag("add_swa_attention_sink_bias", default=True),
    }
    in_windows: dict[str, Any] = {
        "n_heads": config.size("swa_num_attention_heads", default=mixer.n_heads),
        "n_kv_heads": config.size("swa_num_key_value_heads", default=2 * mixer.n_kv_heads),
        "head_dim": config.size("swa_head_dim", default=mixer.head_dim),
        "v_head_dim": config.size("swa_v_head_dim", default=mixer.v_head_dim),
    }

    def change(mixer: GQA, mask: Mask) -> GQA:
        sizes = in_windows if mask.kind == "window" else {}
        return replace(mixer, sinks=sinks[mask.kind], **sizes)

    config.refuse("n_shared_experts")
    moe = experts(
        config,
        **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    return sparse_decoder(
        config,
        mixer,
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, lambda index: bool(listed[index]) if listed else index > 0),
        layer_masks=layers,
        change=change,
    )


def step3p5(config: Config) -> Model:
    """Read Step 3.5 and 3.7 Flash: window layers with more heads, gated attention, the first layers dense.

    Files repeat the kinds of layers for the modules that predict further tokens.
    """
    n_layers = depth(config)
    config.data = {
        **config.data,
        "layer_types": (config.items("layer_types") or ["full_attention"] * n_layers)[:n_layers],
    }
    layers = masks(config, n_layers, config.optional_size("sliding_window"))
    without_mtp(config)
    config.ignore("swiglu_limits", "swiglu_limits_shared", "yarn_only_types", "partial_rotary_factors")
    config.ignore("use_rope_layers", "sink", "zero_centered", "att_impl_type", "max_seq_len", "per_layer_config")
    config.ignore(
        "mtp_layer_types",
        "mtp_mlp_layer_types",
        "need_fp32_gate",
        "use_moe_router_bias",
        "moe_router_activation",
        "use_mfa",
        "use_moe",
    )
    config.ignore("use_head_wise_attn_gate", "use_qk_norm", "moe_every_n_layer", "moe_layer_offset", "use_im_start_end")
    for key, only in (("use_head_wise_attn_gate", True), ("norm_expert_weight", True), ("use_moe_router_bias", True)):
        if config.flag(key, default=only) is not only:
            raise config.error(f"{config.path}{key} = false is not supported for {config.model_type}")
    mixer = attention(config, qk_norm="rms", output_gate="head")
    other = config.section("attention_other_setting")
    other.ignore("attention_type", "num_attention_groups", "head_dim", "true_head_dim")
    in_windows = config.optional_size("num_sliding_attention_heads") or other.size(
        "num_attention_heads", default=mixer.n_heads
    )
    for key, same in (("num_attention_groups", mixer.n_kv_heads), ("head_dim", mixer.head_dim)):
        if other.data.get(key, same) != same:
            raise config.error(f"{config.path}attention_other_setting.{key} other than {same} is not supported")
    named = _named_layers(config, n_layers)
    moe = experts(
        config,
        shared=config.size("share_expert_dim", "share_expert_dims"),
        **SIGMOID,
        routed_scale=factor(config, "moe_router_scaling_factor"),
    )
    return sparse_decoder(
        config,
        mixer,
        moe,
        dense=lambda: network(config),
        sparse=[index in named for index in range(n_layers)],
        layer_masks=layers,
        change=lambda mixer, mask: replace(mixer, n_heads=in_windows) if mask.kind == "window" else mixer,
    )


def _named_layers(config: Config, n_layers: int) -> set[int]:
    """Return the layers with experts: of words, or of numbers in one text; all but the first three without either."""
    kinds = config.items("mlp_layer_types")
    listed = config.data.get("moe_layers_enum")
    config.ignore("moe_layers_enum")
    if kinds is not None:
        return {index for index, kind in enumerate(kinds) if kind == "sparse"}
    if listed is None:
        return set(range(3, n_layers))
    numbers = listed.split(",") if isinstance(listed, str) else listed
    try:
        return {int(one) for one in numbers if str(one).strip()}
    except (TypeError, ValueError):
        raise config.error(f"{config.path}moe_layers_enum is not a list of layers") from None


def beam(config: Config) -> Model:
    """Read Beam: five window layers to one full and a full last one, gated attention, norms before and after."""
    last = depth(config) - 1
    layers = masks(
        config,
        last + 1,
        config.optional_size("sliding_window"),
        lambda index: (index + 1) % 6 != 0 and index != last,
    )
    moe = experts(
        config,
        **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    return sparse_decoder(
        config,
        attention(config, qk_norm="rms", output_gate="element", gate_bias=True),
        moe,
        dense=lambda: network(config),
        sparse=sparse_layers(config, lambda index: index > 2),
        layer_masks=layers,
        rotated=[mask.kind == "window" for mask in layers],
        change=lambda mixer, mask: mixer if mask.kind == "window" else replace(mixer, q_scaled=True),
        placement="both",
        residual_scaled=True,
        head=Head(tied=tied(config), softcap=config.number("final_logit_softcapping", default=0.0) > 0),
    )
