"""DeepSeek-V4: compressed attentions, hyper-connections, experts by hash in the first layers."""

from __future__ import annotations

from typing import Any, Final

from calc.attention import Attention
from calc.attention.compressed import CSA, HCA, LocalKV
from calc.ffn.moe import MoE
from calc.hyper import HyperConnection
from calc.importers.huggingface.blocks import RMS, assemble, fold
from calc.importers.huggingface.decoder import depth, width
from calc.importers.huggingface.experts import experts, factor, shared_width, without_mtp
from calc.importers.huggingface.reader import Config
from calc.model import Layer, Model

LOCAL: Final = "sliding_attention"
CSA_KIND: Final = "compressed_sparse_attention"
HCA_KIND: Final = "heavily_compressed_attention"
KINDS: Final = (LOCAL, CSA_KIND, HCA_KIND)


def deepseek_v4(config: Config) -> Model:
    """Read DeepSeek-V4: one key head that is its own value, a window and compressed entries of the past."""
    n_layers = depth(config)
    kinds, rates = _attention_kinds(config, n_layers)
    hashed = _hashed(config, n_layers)
    hyper = HyperConnection(
        n_streams=config.size("hc_mult"),
        sinkhorn_iters=config.size("hc_sinkhorn_iters", default=20),
    )
    mixers = {kind: _mixer(config, kind, rates) for kind in dict.fromkeys(kinds)}
    networks = {one: _experts(config, one) for one in dict.fromkeys(hashed)}

    def layer(kind: tuple[str, bool]) -> Layer:
        return Layer(attention=mixers[kind[0]], ffn=networks[kind[1]], norm=RMS, hyper=hyper)

    without_mtp(config, "tokens are joined with several residual streams")
    stack = fold(list(zip(kinds, hashed, strict=True)), layer)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


def _attention_kinds(config: Config, n_layers: int) -> tuple[list[str], dict[str, int]]:
    """Return every layer's kind of attention and the positions that an entry of each kind stands for.

    Older files write one rate a layer, 0 for none: the smaller of the others is CSA's, the larger HCA's. Entries beyond
    the layers belong to the modules for multi-token prediction.
    """
    section = config.section("compress_rates")
    ratios = config.items("compress_ratios")
    if ratios is not None:
        if len(ratios) < n_layers:
            raise config.error(f"{config.path}compress_ratios has {len(ratios)} entries for {n_layers} layers")
        values = [config.whole("compress_ratios", ratio, least=0) for ratio in ratios[:n_layers]]
        used = sorted({value for value in values if value})
        if len(used) > 2:
            raise config.error(f"{config.path}compress_ratios has more than two rates, which is not supported")
        if len(used) == 1 and used[0] not in (4, 128):
            raise config.error(f"{config.path}compress_ratios does not tell which attention has the rate {used[0]}")
        named = {0: LOCAL, **dict(zip(used, (CSA_KIND, HCA_KIND) if used != [128] else (HCA_KIND,), strict=False))}
        return [named[value] for value in values], {kind: rate for rate, kind in named.items()}
    rates = {CSA_KIND: section.size(CSA_KIND, default=4), HCA_KIND: section.size(HCA_KIND, default=128)}
    stated = config.choices("layer_types", length=n_layers, known=KINDS)
    if stated is not None:
        return stated, rates
    return [HCA_KIND if index < 2 or index % 2 == 0 else CSA_KIND for index in range(n_layers)], rates


def _hashed(config: Config, n_layers: int) -> list[bool]:
    """Return which layers pick experts by a stored table."""
    stated = config.choices("mlp_layer_types", length=n_layers, known=("hash_moe", "moe"))
    first = config.count("num_hash_layers", default=3)
    return [kind == "hash_moe" for kind in stated] if stated else [index < first for index in range(n_layers)]


def _mixer(config: Config, kind: str, rates: dict[str, int]) -> Attention:
    head_dim = config.size("head_dim")
    share = config.number("partial_rotary_factor", default=0.0)
    config.ignore("num_key_value_heads", "compress_rope_theta", "attention_bias")
    common: dict[str, Any] = {
        "n_heads": config.size("num_attention_heads"),
        "head_dim": head_dim,
        "q_lora_rank": config.size("q_lora_rank"),
        "rotary_dim": config.size("qk_rope_head_dim") if config.states("qk_rope_head_dim") else int(share * head_dim),
        "window": config.size("sliding_window"),
        "o_groups": config.size("o_groups"),
        "o_lora_rank": config.size("o_lora_rank"),
    }
    if kind == LOCAL:
        return LocalKV(**common)
    if kind == HCA_KIND:
        return HCA(**common, compress_stride=rates[kind])
    return CSA(
        **common,
        compress_stride=rates[kind],
        n_index_heads=config.size("index_n_heads"),
        index_head_dim=config.size("index_head_dim"),
        n_selected=config.size("index_topk"),
    )


def _experts(config: Config, hashed: bool) -> MoE:
    config.ignore("topk_method", "swiglu_limit", "n_group", "topk_group", "expert_dtype")
    return experts(
        config,
        shared=shared_width(config, "n_shared_experts"),
        scoring=config.text("scoring_func", default="sqrtsoftplus"),
        normalised=config.flag("norm_topk_prob", default=True),
        routed_scale=factor(config, "routed_scaling_factor"),
        clamped=True,
        correction_bias=not hashed,
        choice="hash" if hashed else "token",
    )
