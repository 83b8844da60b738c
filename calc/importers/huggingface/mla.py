"""Decoders with multi-head latent attention, plain or over selected positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from calc.attention.dsa import DSA
from calc.attention.mla import MLA
from calc.embedding import Embedding
from calc.ffn.moe import MoE
from calc.hyper import HyperConnection
from calc.importers.huggingface.beside import deepseek
from calc.importers.huggingface.blocks import RMS, assemble, fold
from calc.importers.huggingface.decoder import depth, feed_forward, width
from calc.importers.huggingface.experts import (
    SIGMOID,
    experts,
    factor,
    groups,
    leading,
    network,
    shared_width,
    sparse_layers,
    with_mtp,
)
from calc.importers.huggingface.reader import Config
from calc.model import Layer, Model, Placement
from calc.records import replace


def latent(config: Config, **structure: Any) -> dict[str, Any]:
    """Return the fields of a latent attention; ``head_dim`` and ``num_key_value_heads`` say nothing here."""
    config.ignore("head_dim", "num_key_value_heads", "qk_head_dim", "rope_interleave", "indexer_rope_interleave")
    return {
        "n_heads": config.size("num_attention_heads"),
        "q_lora_rank": config.optional_size("q_lora_rank"),
        "kv_lora_rank": config.size("kv_lora_rank"),
        "qk_nope_head_dim": config.size("qk_nope_head_dim"),
        "qk_rope_head_dim": config.size("qk_rope_head_dim"),
        "v_head_dim": structure.pop("v_head_dim", 0) or config.size("v_head_dim"),
        "bias": config.flag("attention_bias", default=False),
        **structure,
    }


def indexer(config: Config) -> dict[str, Any]:
    """Return the fields of the indexer that selects positions."""
    return {
        "n_index_heads": config.size("index_n_heads"),
        "index_head_dim": config.size("index_head_dim"),
        "n_selected": config.size("index_topk"),
    }


def dense_mla(config: Config) -> Model:
    """Read Youtu: latent attention and a dense network."""
    ffn = feed_forward(config, bias=config.flag("mlp_bias", default=False))
    layer = Layer(attention=MLA(**latent(config)), ffn=ffn, norm=RMS)
    return assemble(config, d_model=width(config), stack=fold([0] * depth(config), lambda _: layer), final_norm=RMS)


def minicpm3(config: Config) -> Model:
    """Read MiniCPM3: as Youtu, with constants on embedding, residuals and logits."""
    config.ignore("scale_depth", "dim_model_base")
    ffn = feed_forward(config, bias=config.flag("mlp_bias", default=False))
    # the class derives what its files do not say
    each = config.divided(width(config), "hidden_size", config.size("num_attention_heads"), "num_attention_heads")
    mixer = MLA(**latent(config, v_head_dim=config.size("v_head_dim", default=each)))
    layer = Layer(attention=mixer, ffn=ffn, norm=RMS, residual_scaled=True)
    return assemble(
        config,
        d_model=width(config),
        stack=fold([0] * depth(config), lambda _: layer),
        embedding=Embedding(scaled=factor(config, "scale_emb")),
        final_norm=RMS,
    )


def deepseek_experts(config: Config) -> MoE:
    """Return DeepSeek-V3's experts."""
    config.ignore("scoring_func", "topk_method", "ep_size", "moe_layer_freq")
    return experts(
        config,
        shared=shared_width(config, "n_shared_experts", "num_shared_experts"),
        **{**SIGMOID, "normalised": config.flag("norm_topk_prob", default=True)},
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )


def _decoder(
    config: Config,
    kinds: Sequence[tuple[bool, bool]],
    mixer: Callable[[bool], Any],
    moe: MoE,
    *,
    sparse_placement: Placement | None = None,
) -> Model:
    """Put a decoder together of layers that are each (with experts?, with a selection of their own?)."""
    bias = config.flag("mlp_bias", default=False)
    plain = None if all(sparse for sparse, _ in kinds) else network(config, bias=bias)

    def layer(kind: tuple[bool, bool]) -> Layer:
        sparse, own = kind
        placement = sparse_placement if sparse else None
        return Layer(attention=mixer(own), ffn=moe if sparse else plain, norm=RMS, ffn_placement=placement)

    return assemble(config, d_model=width(config), stack=fold(kinds, layer), final_norm=RMS)


def _every(config: Config) -> None:
    """Require that the layers after the dense ones all have experts.

    Raises:
        ConfigError: only every n-th has.
    """
    if config.count("moe_layer_freq", default=1) != 1:
        raise config.error(f"{config.path}moe_layer_freq other than 1 is not supported for {config.model_type}")


def deepseek_v2(config: Config) -> Model:
    """Read DeepSeek-V2: softmax scores, groups ranked by their best expert; files without latents say so."""
    if not config.flag("use_mla", default=True):
        return deepseek(config)
    _every(config)
    limited = config.text("topk_method", default="greedy") == "group_limited_greedy"
    limit = groups(config)
    config.ignore("scoring_func", "ep_size", "norm_topk_prob", "seq_aux")
    shared = shared_width(config, "n_shared_experts")
    moe = experts(
        config,
        shared=shared,
        shared_bias=bool(shared) and config.flag("mlp_bias", default=False),
        routed_scale=factor(config, "routed_scaling_factor"),
        **({**limit, "group_score": "max"} if limited and limit else {}),
    )
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    mixer = MLA(**latent(config))
    return _decoder(config, [(one, True) for one in sparse], lambda _: mixer, moe)


def deepseek_v3(config: Config) -> Model:
    """Read DeepSeek-V3 and what has its layers: Kimi K2, GLM-4.7-Flash."""
    _every(config)
    dense = 1 if config.model_type == "glm4_moe_lite" else 0
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace", default=dense))
    mixer = MLA(**latent(config))
    model = _decoder(config, [(one, True) for one in sparse], lambda _: mixer, deepseek_experts(config))
    return with_mtp(config, model, stored=True)


def mistral4(config: Config) -> Model:
    """Read Mistral Small 4: latent attention, softmax scores."""
    moe = experts(
        config,
        shared=shared_width(config, "n_shared_experts"),
        normalised=config.flag("norm_topk_prob", default=True),
        routed_scale=factor(config, "routed_scaling_factor"),
        **groups(config),
    )
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    mixer = MLA(**latent(config))
    return _decoder(config, [(one, True) for one in sparse], lambda _: mixer, moe)


def sarvam_mla(config: Config) -> Model:
    """Read Sarvam 105B: DeepSeek-V3 without a latent of queries, under the names of its first code."""
    config.rename(num_experts="n_routed_experts", num_shared_experts="n_shared_experts")
    config.refuse("num_mtp_layers", 0)
    config.ignore("head_dim", "q_head_dim")
    return deepseek_v3(config)


def axk1(config: Config) -> Model:
    """Read A.X K1: DeepSeek-V3 with a norm after the experts as well."""
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace", default=1))
    mixer = MLA(**latent(config))
    kinds = [(one, True) for one in sparse]
    return _decoder(config, kinds, lambda _: mixer, deepseek_experts(config), sparse_placement="both")


def deepseek_v32(config: Config) -> Model:
    """Read DeepSeek-V3.2: attention over the positions that an indexer selects."""
    _every(config)
    config.ignore("layer_types")
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    mixer = DSA(**latent(config), **indexer(config))
    model = _decoder(config, [(one, True) for one in sparse], lambda _: mixer, deepseek_experts(config))
    return with_mtp(config, model, stored=True)


def glm_moe_dsa(config: Config) -> Model:
    """Read GLM-5: DeepSeek-V3.2 in which some layers use the selection of an earlier one."""
    _every(config)
    config.ignore("layer_types")
    n_layers = depth(config)
    kinds = config.choices("indexer_types", length=n_layers, known=("full", "shared"))
    if kinds is None:
        kinds = _index_pattern(config, n_layers)
    config.ignore("index_topk_freq", "index_skip_topk_offset", "index_share_for_mtp_iteration", "moe_router_dtype")
    sparse = sparse_layers(config, leading(config, "first_k_dense_replace"))
    fields = {**latent(config), **indexer(config)}

    def mixer(own: bool) -> DSA:
        return DSA(**fields, shared_index=not own)

    own = [kind == "full" for kind in kinds]
    model = _decoder(config, list(zip(sparse, own, strict=True)), mixer, deepseek_experts(config))
    return with_mtp(config, model, stored=False)


def _index_pattern(config: Config, n_layers: int) -> list[str]:
    """Return which layers select for themselves, by the pattern or the frequency that the file gives."""
    letters = {"F": "full", "S": "shared"}
    pattern = config.data.get("index_topk_pattern")
    config.ignore("index_topk_pattern")
    if pattern is not None:
        found = [letters.get(str(one), str(one)) for one in pattern]
        if len(found) != n_layers or not set(found) <= set(letters.values()):
            raise config.error(f"{config.path}index_topk_pattern does not name each of {n_layers} layers F or S")
        return found
    every = max(config.count("index_topk_freq", default=1), 1)
    offset = config.count("index_skip_topk_offset", default=2)
    return ["full" if max(index - offset + 1, 0) % every == 0 else "shared" for index in range(n_layers)]


def longcat_flash(config: Config) -> Model:
    """Read LongCat-Flash: a layer is two of latent attention and network, with experts beside the first network."""
    mixer = MLA(**latent(config, latent_scaled=True))
    d_ff = config.size("ffn_hidden_size", "intermediate_size")
    dense = network(config, "ffn_hidden_size", "intermediate_size")
    zero = config.count("zero_expert_num", default=0)
    config.ignore("zero_expert_type", "mla_scale_q_lora", "mla_scale_kv_lora", "attention_method")
    # the experts read what the first network reads and are added later: the network counts as a shared expert
    moe = experts(
        config,
        shared=d_ff,
        correction_bias=True,
        routed_scale=factor(config, "routed_scaling_factor"),
        router_bias=config.flag("router_bias", default=False),
        n_zero_experts=zero or None,
    )

    def layer(with_experts: bool) -> Layer:
        return Layer(attention=mixer, ffn=moe if with_experts else dense, norm=RMS)

    n_layers = config.layers("num_layers", "num_hidden_layers")
    stack = fold([True, False] * n_layers, layer)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


def hy_v4(config: Config) -> Model:
    """Read Hunyuan 4: latent attention over selected positions with sinks and gates, streams that are not mixed."""
    config.ignore("layer_types", "hc_magnitude", "hc_eps", "learnable_sink_init", "swiglu_limit")
    n_layers = depth(config)
    kinds = config.choices("indexer_types", length=n_layers, known=("full", "shared"))
    own = [kind == "full" for kind in kinds] if kinds else [index < 2 or index % 4 == 1 for index in range(n_layers)]
    fields = {**latent(config, sinks=True, output_gate="element"), **indexer(config)}
    sparse = sparse_layers(config, lambda index: index > 0)
    moe, plain = replace(deepseek_experts(config), clamped=True), network(config)
    hyper = HyperConnection(n_streams=config.size("hc_mult"), mixing=False)

    def layer(kind: tuple[bool, bool]) -> Layer:
        mixer = DSA(**fields, shared_index=not kind[1])
        return Layer(attention=mixer, ffn=moe if kind[0] else plain, norm=RMS, hyper=hyper)

    stack = fold(list(zip(sparse, own, strict=True)), layer)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


def dots3_note(config: Config) -> Model:
    """Read dots.note: indexed layers, and window layers whose heads and latents have sizes of their own."""
    n_layers = depth(config)
    kinds = config.choices("layer_types", length=n_layers, known=("indexed_attention", "sliding_attention"))
    if kinds is None:
        indexed = [index < 2 or index % 4 == 1 for index in range(n_layers)]
        kinds = ["indexed_attention" if one else "sliding_attention" for one in indexed]
    common = latent(config, rope_norm=True, output_gate="head")
    window = _window_sizes(config, kinds)
    bias = config.flag("mlp_bias", default=False)
    sparse = sparse_layers(config, lambda index: index > 0)
    plain = network(config, bias=bias)
    moe = replace(deepseek_experts(config), d_shared=config.size("shared_experts_intermediate_size"))

    def layer(kind: tuple[bool, str]) -> Layer:
        if kind[1] == "indexed_attention":
            return Layer(attention=DSA(**common, **indexer(config)), ffn=moe if kind[0] else plain, norm=RMS)
        mixer = MLA(**{**common, **window}, window=config.size("sliding_window"))
        return Layer(attention=mixer, ffn=moe if kind[0] else plain, norm=RMS)

    stack = fold(list(zip(sparse, kinds, strict=True)), layer)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


_WINDOW_KEYS = {
    "num_attention_heads": "n_heads",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_head_dim",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim",
    "q_lora_rank": "q_lora_rank",
}


def _window_sizes(config: Config, kinds: list[str]) -> dict[str, Any]:
    """Return the sizes of the window layers, which ``per_layer_config`` writes once for each of them."""
    written = config.data.get("per_layer_config")
    config.ignore("per_layer_config")
    if "sliding_attention" not in kinds:
        return {}
    if not isinstance(written, dict) or not written:
        raise config.error(f"{config.path}per_layer_config is missing: it holds the sizes of the window layers")
    changes = {repr(sorted(change.items())) if isinstance(change, dict) else "" for change in written.values()}
    first = next(iter(written.values()))
    if len(changes) != 1 or not isinstance(first, dict) or not set(first) <= {*_WINDOW_KEYS, "num_key_value_heads"}:
        raise config.error(f"{config.path}per_layer_config gives window layers different sizes, or unknown ones")
    return {_WINDOW_KEYS[key]: config.whole(key, value) for key, value in first.items() if key in _WINDOW_KEYS}
