"""Decoders that mix attention with recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calc.attention import Attention
from calc.attention.gqa import GQA
from calc.attention.kda import KimiDelta
from calc.attention.lightning import Lightning
from calc.attention.mla import MLA
from calc.embedding import Embedding, Head
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold, tied
from calc.importers.huggingface.decoder import attention, depth, feed_forward, width
from calc.importers.huggingface.experts import (
    SIGMOID,
    experts,
    factor,
    groups,
    leading,
    network,
    one_size,
    predicting,
    shared_width,
    sparse_layers,
    with_mtp,
    without_mtp,
)
from calc.importers.huggingface.mixers import (
    BAMBA,
    FULL,
    NEMOTRON,
    RECURRENT,
    every,
    gated_delta,
    layer_kinds,
    mamba2,
    time_step_rank,
)
from calc.importers.huggingface.mla import latent
from calc.importers.huggingface.moe import qwen_sparse
from calc.importers.huggingface.reader import Config, shown
from calc.masks import Window
from calc.model import Layer, Model
from calc.records import replace


def mixed(
    config: Config,
    kinds: Sequence[str],
    mixers: Mapping[str, Callable[[], Attention]],
    ffns: Mapping[bool, Callable[[], FeedForward]],
    sparse: Sequence[bool] | None = None,
    *,
    finish: Callable[[str, Layer], Layer] = lambda _, layer: layer,
    **around: Any,
) -> Model:
    """Put a decoder together of layers that are each a kind of mixer, with or without experts.

    ``finish`` changes what else differs between kinds; ``around`` is what stands before and after the layers.
    """
    both = list(zip(kinds, sparse if sparse is not None else [False] * len(kinds), strict=True))
    made = {kind: mixers[kind]() for kind in dict.fromkeys(kinds)}
    networks = {one: ffns[one]() for one in dict.fromkeys(one for _, one in both)}

    def layer(kind: tuple[str, bool]) -> Layer:
        return finish(kind[0], Layer(attention=made[kind[0]], ffn=networks[kind[1]], norm=RMS))

    return assemble(config, d_model=width(config), stack=fold(both, layer), final_norm=RMS, **around)


def jamba(config: Config) -> Model:
    """Read Jamba: Mamba with learned inner norms, attention without positions in every n-th layer, experts likewise."""
    from calc.attention.mamba import Mamba

    d_model, n_layers = width(config), depth(config)
    period, offset = config.size("attn_layer_period"), config.count("attn_layer_offset")
    expert_period, expert_offset = config.size("expert_layer_period"), config.count("expert_layer_offset")
    config.ignore("use_mamba_kernels", "use_mambapy", "use_associative_scan", "mamba_inner_layernorms")
    kinds = [FULL if index % period == offset else RECURRENT for index in range(n_layers)]
    several = one_size(config, "num_experts") > 1
    sparse = [several and index % expert_period == expert_offset for index in range(n_layers)]

    def recurrent() -> Mamba:
        return Mamba(
            d_inner=int(config.number("mamba_expand") * d_model),
            d_state=config.size("mamba_d_state"),
            dt_rank=time_step_rank(config, "mamba_dt_rank", d_model),
            conv_kernel=config.size("mamba_d_conv"),
            conv_bias=config.flag("mamba_conv_bias", default=True),
            proj_bias=config.flag("mamba_proj_bias", default=False),
            inner_norm="learned",
        )

    mixers = {
        FULL: lambda: replace(attention(config, qkv_bias=False, o_bias=False), rotary_dim=None),
        RECURRENT: recurrent,
    }
    ffns = {False: lambda: network(config), True: lambda: experts(config, d_expert=config.size("intermediate_size"))}
    return mixed(config, kinds, mixers, ffns, sparse)


def bamba(config: Config) -> Model:
    """Read Bamba: Mamba-2, attention with half of each head rotated in the layers that the file names."""
    n_layers = depth(config)
    named = config.positions("attn_layer_indices")
    config.ignore("mamba_expand", "z_loss_coefficient")
    kinds = [FULL if index in named else RECURRENT for index in range(n_layers)]
    mixers = {FULL: lambda: attention(config, rotary=0.5), RECURRENT: lambda: mamba2(config, BAMBA)}
    return mixed(config, kinds, mixers, {False: lambda: feed_forward(config)})


def granitemoehybrid(config: Config) -> Model:
    """Read Granite 4: Mamba-2 and attention, a shared network beside experts or without any, Granite's constants."""
    n_layers = depth(config)
    kinds = layer_kinds(config, "layer_types", n_layers, lambda _: RECURRENT)
    rotated = config.data.get("position_embedding_type") == "rope"
    config.ignore("position_embedding_type", "mamba_expand", "normalization_function")
    shared = config.count("shared_intermediate_size", default=0)
    several = config.count("num_local_experts", default=0) > 0

    def routed() -> FeedForward:
        return experts(config, d_expert=config.size("intermediate_size"), shared=shared, scores_of="chosen")

    def dense() -> FeedForward:
        config.ignore("intermediate_size", "num_experts_per_tok")
        return network(config, "shared_intermediate_size")

    mixers = {
        FULL: lambda: attention(config) if rotated else replace(attention(config), rotary_dim=None),
        RECURRENT: lambda: mamba2(config, BAMBA),
    }
    scaled = factor(config, "residual_multiplier")
    return mixed(
        config,
        kinds,
        mixers,
        {True: routed, False: dense},
        [several] * n_layers,
        finish=lambda _, layer: replace(layer, residual_scaled=scaled),
        embedding=Embedding(scaled=factor(config, "embedding_multiplier")),
        head=Head(tied=tied(config), scaled=factor(config, "logits_scaling")),
    )


SLIDING = "sliding_attention"
_PATTERN = {"M": RECURRENT, "*": FULL, "-": "mlp", "E": "moe"}


def _nemotron_kinds(config: Config) -> list[str]:
    """Return what each layer of Nemotron-H is, from the pattern of letters or the list of words."""
    pattern = config.data.get("hybrid_override_pattern")
    config.ignore("hybrid_override_pattern", "num_hidden_layers")
    words = config.items("layers_block_type", "layer_types")
    if words is None and pattern is not None and not isinstance(pattern, (str, list)):
        raise config.error(f"{config.path}hybrid_override_pattern = {shown(pattern)} is not a pattern of letters")
    if words is None and pattern is None:
        words = [RECURRENT, "moe", FULL, "mlp"]
        config.note("layers_block_type is not in the file: four layers, the default of nemotron_h")
    named = [_PATTERN.get(str(one), "") for one in pattern] if words is None and pattern is not None else words or []
    found = [{"mamba": RECURRENT, "attention": FULL}.get(str(kind), str(kind)) for kind in named]
    wrong = next((kind for kind in found if kind not in _PATTERN.values()), None)
    if wrong is not None or not found:
        raise config.error(f"{config.path}hybrid_override_pattern or layers_block_type names an unknown layer")
    stated = config.data.get("num_hidden_layers")
    if stated is not None and stated != len(found):
        raise config.error(f"{config.path}num_hidden_layers = {stated!r}, but {len(found)} layers are named")
    return found


def nemotron_h(config: Config) -> Model:
    """Read Nemotron-H and Nemotron 3: each layer is one of Mamba-2, attention, network or experts, under one norm."""
    kinds = _nemotron_kinds(config)
    d_model = width(config)
    config.ignore("expand", "mamba_hidden_act", "moe_shared_expert_overlap", "n_shared_experts", "use_mamba_kernels")
    config.ignore("attention_head_dim", "time_step_rank")
    config.ignore("sliding_window")
    bias = config.flag("mlp_bias", default=False)
    act = activation(config, "mlp_hidden_act")

    def routed() -> FeedForward:
        d_latent = config.optional_size("moe_latent_size")
        return experts(
            config,
            **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
            activation=act,
            gated=False,
            shared=config.size("moe_shared_expert_intermediate_size"),
            shared_bias=bias,
            d_latent=d_latent,
            latent_bias=bias and d_latent is not None,
            routed_scale=factor(config, "routed_scaling_factor"),
            **groups(config),
        )

    makers: dict[str, Callable[[], Layer]] = {
        RECURRENT: lambda: Layer(attention=mamba2(config, NEMOTRON), norm=RMS),
        FULL: lambda: Layer(attention=replace(attention(config), rotary_dim=None), norm=RMS),
        "mlp": lambda: Layer(ffn=DenseFFN(d_ff=config.size("intermediate_size"), activation=act, bias=bias), norm=RMS),
        "moe": lambda: Layer(ffn=routed(), norm=RMS),
    }
    if "mlp" not in kinds:
        config.ignore("intermediate_size")
    stack = fold(kinds, lambda kind: makers[kind]())
    model = assemble(config, d_model=d_model, stack=stack, final_norm=RMS)
    return _nemotron_mtp(config, model, makers)


def _nemotron_mtp(config: Config, model: Model, makers: Mapping[str, Callable[[], Layer]]) -> Model:
    """Add the module that predicts further tokens: attention and experts under a norm each, which are one layer."""
    pattern = config.data.get("mtp_hybrid_override_pattern", config.data.get("mtp_layers_block_type"))
    config.ignore("mtp_layers_block_type", "mtp_hybrid_override_pattern")
    if pattern not in ("*E", ["attention", "moe"], ["full_attention", "moe"]):
        without_mtp(config)
        return model
    layer = Layer(attention=makers[FULL]().attention, ffn=makers["moe"]().ffn, norm=RMS)
    return with_mtp(config, model, stored=False, layer=layer)


def _qwen_mixers(config: Config) -> dict[str, Callable[[], Attention]]:
    """Return Qwen's mixers: gated delta nets, and attention with a gate and a quarter of each head rotated."""
    config.refuse("attention_bias")
    if config.data.get("attn_output_gate") is False:
        raise config.error(f"{config.path}attn_output_gate = false is not supported for {config.model_type}")
    config.ignore("attn_output_gate", "mamba_ssm_dtype")
    return {
        FULL: lambda: attention(config, rotary=0.25, qk_norm="rms", output_gate="element"),
        RECURRENT: lambda: gated_delta(config),
    }


def _qwen_kinds(config: Config) -> list[str]:
    interval = config.size("full_attention_interval", default=4)
    return layer_kinds(config, "layer_types", depth(config), every(interval))


def qwen3_next(config: Config) -> Model:
    """Read Qwen3-Next: three gated delta nets to one gated attention, experts with one gated shared expert."""
    sparse = qwen_sparse(config)

    def routed() -> FeedForward:
        normalised = config.flag("norm_topk_prob", default=True)
        shared = config.size("shared_expert_intermediate_size")
        return experts(config, shared=shared, shared_gate=True, normalised=normalised)

    if all(sparse):
        config.ignore("intermediate_size")
    return mixed(
        config, _qwen_kinds(config), _qwen_mixers(config), {True: routed, False: lambda: network(config)}, sparse
    )


def qwen3_5(config: Config) -> Model:
    """Read Qwen3.5: Qwen3-Next's mixers and a dense network."""
    config.ignore("mlp_only_layers")
    model = mixed(config, _qwen_kinds(config), _qwen_mixers(config), {False: lambda: network(config)})
    return _qwen_mtp(config, model)


def _qwen_mtp(config: Config, model: Model) -> Model:
    """Add the module that predicts a further token: a layer with full attention.

    Several would share the map that joins state and token, as in no published model.
    """
    layer = next((layer for layer in model.kinds_of_layer() if isinstance(layer.attention, GQA)), None)
    tables = config.flag("mtp_use_dedicated_embeddings", default=False)
    if layer is None or tables or predicting(config) > 1:
        without_mtp(config)
        return model
    return with_mtp(config, model, stored=False, layer=layer)


def qwen3_5_moe(config: Config) -> Model:
    """Read Qwen3.5 with experts: those of Qwen3-Next in every layer."""
    config.ignore("intermediate_size", "mlp_only_layers", "norm_topk_prob")

    def routed() -> FeedForward:
        shared = config.size("shared_expert_intermediate_size")
        return experts(config, shared=shared, shared_gate=True, normalised=True)

    model = mixed(config, _qwen_kinds(config), _qwen_mixers(config), {True: routed}, [True] * depth(config))
    return _qwen_mtp(config, model)


def lara_mini(config: Config) -> Model:
    """Read Lara Mini: two gated delta nets, two window layers and a full one without positions in turn; experts."""
    window, n_layers = config.size("sliding_window"), depth(config)
    pattern = (RECURRENT, SLIDING, RECURRENT, FULL, SLIDING)
    kinds = layer_kinds(
        config, "layer_types", n_layers, lambda index: pattern[index % 5], known=(RECURRENT, SLIDING, FULL)
    )
    config.ignore("intermediate_size", "mlp_only_layers", "decoder_sparse_step")
    mixer = attention(config, qk_norm="rms")
    mixers: dict[str, Callable[[], Attention]] = {
        FULL: lambda: replace(mixer, rotary_dim=None),
        SLIDING: lambda: replace(mixer, mask=Window(window=window)),
        RECURRENT: lambda: gated_delta(config),
    }

    def routed() -> FeedForward:
        shared = config.size("shared_expert_intermediate_size")
        return experts(config, shared=shared, normalised=config.flag("norm_topk_prob", default=True))

    return mixed(config, kinds, mixers, {True: routed}, [True] * n_layers)


def olmo_hybrid(config: Config) -> Model:
    """Read OLMo Hybrid: gated delta nets with norms before, attention with norms after each part."""
    config.ignore("linear_a_log_max", "linear_a_log_min", "linear_allow_neg_eigval", "linear_dt_init_floor")
    config.ignore("linear_dt_max", "linear_dt_min", "linear_use_gate")
    kinds = layer_kinds(config, "layer_types", depth(config), every(4))
    mixers = {
        FULL: lambda: attention(config, qk_norm="rms", qk_norm_over="all_heads"),
        RECURRENT: lambda: gated_delta(config),
    }
    return mixed(
        config,
        kinds,
        mixers,
        {False: lambda: network(config)},
        finish=lambda kind, layer: replace(layer, placement="post") if kind == FULL else layer,
    )


def kimi_linear(config: Config) -> Model:
    """Read Kimi Linear: Kimi delta attention, latent attention without rotation in every fourth layer."""
    inner = config.section("linear_attn_config")
    n_layers = depth(config)
    absent = inner.items("full_attn_layers") is None
    named = None if absent else inner.positions("full_attn_layers")  # counted from 1
    inner.ignore("kda_layers")

    def rule(index: int) -> str:
        return RECURRENT if (index + 1 not in named if named is not None else (index + 1) % 4) else FULL

    kinds = layer_kinds(config, "layer_types", n_layers, rule)
    config.ignore("mla_use_nope", "head_dim", "moe_router_activation_func", "use_grouped_topk", "moe_layer_freq")
    config.ignore("topk_method")
    without_mtp(config)
    inner.ignore("gate_lower_bound")
    full_gate = inner.flag("use_full_rank_gate", default=False)
    _residuals_over_depth(config, n_layers)

    def recurrent() -> KimiDelta:
        head_dim = _either(inner, "head_dim", config, "linear_head_dim")
        return KimiDelta(
            n_heads=_either(inner, "num_heads", config, "linear_num_heads"),
            head_dim=head_dim,
            gate_rank=head_dim,
            full_output_gate=full_gate,
            conv_kernel=_either(inner, "short_conv_kernel_size", config, "linear_conv_kernel_dim"),
        )

    gate = "element" if config.flag("mla_use_output_gate", default=False) else None
    mixers = {FULL: lambda: MLA(**latent(config, rotary=False, output_gate=gate)), RECURRENT: recurrent}
    return _delta_with_experts(config, kinds, mixers)


def _residuals_over_depth(config: Config, n_layers: int) -> None:
    """Say what Kimi K3's residuals over depth would add: a vector and a norm for each part, and for the head."""
    if config.states("attn_res_block_size"):
        count = (4 * n_layers + 2) * width(config)
        config.note(f"sums over the outputs of earlier blocks of layers are not counted: {count:,} parameters")


def bailing_hybrid(config: Config) -> Model:
    """Read Ling 2.5: Kimi delta attention with whole gate maps, latent attention with gates in every n-th layer."""
    n_layers = depth(config)
    kinds = layer_kinds(config, "layer_types", n_layers, every(config.size("layer_group_size", default=6)))
    config.ignore("kda_safe_gate", "kda_lower_bound")
    without_mtp(config)
    config.ignore("mtp_loss_scaling_factor")
    config.ignore("head_dim")

    def own(key: str, usual: str) -> int:
        """Return what the library writes for these layers, from the key that published files have instead."""
        return config.size(key if config.states(key) else usual)

    def recurrent() -> KimiDelta:
        return KimiDelta(
            n_heads=own("linear_num_heads", "num_attention_heads"),
            head_dim=own("linear_head_dim", "head_dim"),
            conv_kernel=own("linear_conv_kernel_dim", "short_conv_kernel_size"),
        )

    mixers = {FULL: lambda: MLA(**latent(config, output_gate="head")), RECURRENT: recurrent}
    return _delta_with_experts(config, kinds, mixers)


def ring_linear(config: Config) -> Model:
    """Read Ring-linear 2.0: lightning attention, grouped-query attention in the last of so many layers; Ling's experts.

    Source: modeling_bailing_moe_linear_v2.py of inclusionAI/Ring-mini-linear-2.0; arXiv:2510.19338.
    """
    n_layers, d_model = depth(config), width(config)
    group = config.size("layer_group_size")
    # what is left over after the last whole group is full attention too
    kinds = [RECURRENT if (i + 1) % group and i < n_layers // group * group else FULL for i in range(n_layers)]
    for key in ("use_bias", "use_qkv_bias", "linear_silu"):
        config.refuse(key)
    config.ignore("group_norm_size", "linear_mode", "linear_rope", "router_dtype", "use_rmsnorm", "rope_traditional")
    config.ignore("norm_head", "norm_softmax", "embedding_dropout", "output_dropout", "moe_router_topk_scaling_factor")
    normed = config.flag("use_qk_norm", default=False)
    mixer = attention(config, qkv_bias=False, o_bias=False, qk_norm="rms" if normed else None)

    def recurrent() -> Lightning:
        heads = mixer.n_heads
        each = config.divided(d_model, "hidden_size", heads, "num_attention_heads")
        share = mixer.rotary_dim and each * mixer.rotary_dim // mixer.head_dim
        return Lightning(n_heads=heads, head_dim=each, activated=False, qk_norm=normed, rotary_dim=share or None)

    def routed() -> FeedForward:
        shared = config.count("num_shared_experts", default=0)
        own = config.size("moe_shared_expert_intermediate_size", default=config.size("moe_intermediate_size"))
        return experts(
            config,
            shared=shared * own,
            **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
            routed_scale=factor(config, "routed_scaling_factor"),
            **groups(config),
        )

    if not config.flag("moe_router_enable_expert_bias", default=True):
        raise config.error("moe_router_enable_expert_bias = false is not supported for bailing_moe_linear")
    if config.text("score_function", default="sigmoid") != "sigmoid":
        raise config.error("score_function other than sigmoid is not supported for bailing_moe_linear")
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    mixers: dict[str, Callable[[], Attention]] = {FULL: lambda: mixer, RECURRENT: recurrent}
    ffns = {True: routed, False: lambda: network(config)}
    head = Head(tied=config.flag("tie_word_embeddings", default=False))
    model = mixed(config, kinds, mixers, ffns, sparse, head=head)
    without_mtp(config)
    return model


def falcon_h1(config: Config) -> Model:
    """Read Falcon-H1: attention and Mamba-2 side by side in every layer, on one input."""
    config.ignore("mamba_expand", "mamba_norm_before_gate", "mamba_use_mlp")
    config.ignore("attention_in_multiplier", "attention_out_multiplier", "key_multiplier", "lm_head_multiplier")
    config.ignore("mlp_multipliers", "ssm_in_multiplier", "ssm_multipliers", "ssm_out_multiplier")
    inner = config.optional_size("mamba_d_ssm")
    recurrent = mamba2(
        config,
        BAMBA,
        gated_norm=config.flag("mamba_rms_norm", default=False),
        out_bias=config.flag("projectors_bias", default=False),
    )
    if inner is not None and inner != recurrent.n_ssm_heads * recurrent.ssm_head_dim:
        raise config.error(f"{config.path}mamba_d_ssm = {inner} is not mamba_n_heads times mamba_d_head")
    layer = Layer(attention=attention(config), beside=recurrent, ffn=feed_forward(config), norm=RMS)
    scaled = Embedding(scaled=factor(config, "embedding_multiplier"))
    stack = fold([0] * depth(config), lambda _: layer)
    return assemble(config, d_model=width(config), stack=stack, embedding=scaled, final_norm=RMS)


def _either(inner: Config, nested: str, config: Config, plain: str) -> int:
    """Return a dimension that stands in the nested object of the published files, or under a name of its own."""
    return inner.size(nested) if inner.states(nested) else config.size(plain)


def _delta_with_experts(config: Config, kinds: list[str], mixers: Mapping[str, Callable[[], Attention]]) -> Model:
    config.ignore("activation_situ_beta", "activation_situ_linear_beta", "latent_moe_use_norm")
    d_latent = config.optional_size("routed_expert_hidden_size")
    if d_latent:  # Kimi K3's index has them whole, although its quantisation's list does not name them
        config.unquantised.append("re:.*routed_expert_(down|up)_proj.*")

    def routed() -> FeedForward:
        return experts(
            config,
            shared=shared_width(config, "num_shared_experts", "n_shared_experts"),
            d_latent=d_latent,
            latent_norm=d_latent is not None and config.flag("latent_moe_use_norm", default=False),
            **{**SIGMOID, "normalised": config.flag("moe_renormalize", "norm_topk_prob", default=True)},
            routed_scale=factor(config, "routed_scaling_factor"),
            **groups(config, "num_expert_group"),
        )

    sparse = sparse_layers(config, leading(config, "first_k_dense_replace", default=1))
    ffns = {True: routed, False: lambda: network(config)}
    return mixed(config, kinds, mixers, ffns, sparse, max_context=config.optional_size("model_max_length"))


def minimax(config: Config) -> Model:
    """Read MiniMax-01: lightning attention, full attention where the file says, experts in every layer."""
    n_layers = depth(config)
    listed = config.items("attn_type_list", length=n_layers)
    kinds = layer_kinds(
        config,
        "layer_types",
        n_layers,
        lambda index: (
            (FULL if listed[index] else RECURRENT) if listed else (RECURRENT if (index + 1) % 2 == 0 else FULL)
        ),
    )
    config.refuse("shared_intermediate_size", 0)
    config.refuse("sliding_window")
    config.ignore("postnorm", "shared_moe_mode", "layernorm_full_attention_alpha", "layernorm_full_attention_beta")
    config.ignore("layernorm_linear_attention_alpha", "layernorm_linear_attention_beta", "full_attn_alpha_factor")
    config.ignore("layernorm_mlp_alpha", "layernorm_mlp_beta", "full_attn_beta_factor", "linear_attn_alpha_factor")
    config.ignore("linear_attn_beta_factor", "mlp_alpha_factor", "mlp_beta_factor", "output_router_logits")
    mixer = attention(config, qkv_bias=False, o_bias=False)
    mixer = replace(mixer, rotary_dim=config.optional_size("rotary_dim") or mixer.rotary_dim)

    def recurrent() -> Lightning:
        chunk = config.size("block_size", default=256)
        return Lightning(n_heads=mixer.n_heads, head_dim=mixer.head_dim, chunk_size=chunk)

    ffns = {True: lambda: experts(config, d_expert=config.size("intermediate_size"), normalised=True)}
    return mixed(
        config,
        kinds,
        {FULL: lambda: mixer, RECURRENT: recurrent},
        ffns,
        [True] * n_layers,
        # both the input and the result of each part are multiplied by a constant
        finish=lambda _, layer: replace(layer, residual_scaled=True),
    )
