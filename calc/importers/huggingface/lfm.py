"""Liquid's models: short convolutions with a little attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calc.attention import Attention
from calc.attention.shortconv import ShortConv
from calc.embedding import Head
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import tied
from calc.importers.huggingface.decoder import attention, depth
from calc.importers.huggingface.experts import experts, factor, leading, one_size, sparse_layers
from calc.importers.huggingface.hybrid import mixed
from calc.importers.huggingface.mixers import FULL, WINDOW, layer_kinds
from calc.importers.huggingface.reader import Config
from calc.masks import Window
from calc.model import Model
from calc.records import replace


def _lfm_ff(config: Config) -> DenseFFN:
    """Return LFM2's network; its width is two thirds of ``intermediate_size``, rounded up, if the file says so."""
    inner = one_size(config, "block_ff_dim", "intermediate_size")
    multiplier = config.number("block_ffn_dim_multiplier", default=1.0)
    multiple = config.size("block_multiple_of", default=256)
    if config.flag("block_auto_adjust_ff_dim", default=True):
        inner = int(multiplier * int(2 * inner / 3))
        inner = multiple * -(-inner // multiple)
    return DenseFFN(d_ff=inner, activation="silu", gated=True)


def _lfm_mixers(config: Config, **structure: Any) -> dict[str, Callable[[], Attention]]:
    config.ignore("conv_dim", "conv_dim_out", "block_dim", "block_mlp_init_scale", "block_out_init_scale")
    config.ignore("block_use_swiglu", "block_use_xavier_init", "conv_use_xavier_init", "use_pos_enc", "block_norm_eps")

    def full() -> Attention:
        return attention(config, qkv_bias=False, o_bias=False, qk_norm="rms", **structure)

    def local() -> Attention:
        window = config.size("sliding_window")
        return attention(config, qkv_bias=False, o_bias=False, qk_norm="rms", mask=Window(window=window), **structure)

    def short() -> ShortConv:
        return ShortConv(conv_kernel=config.size("conv_L_cache"), bias=config.flag("conv_bias", default=False))

    return {FULL: full, WINDOW: local, "conv": short}


def _tied_by(config: Config) -> Head:
    """Return the head; ``tie_embedding`` of older files overrides the usual key."""
    stated = config.data.get("tie_embedding")
    config.ignore("tie_embedding")
    return Head(tied=stated if isinstance(stated, bool) else tied(config))


def lfm2(config: Config) -> Model:
    """Read LFM2: short convolutions, attention in the layers that the file names."""
    n_layers = depth(config)
    named = config.items("full_attn_idxs")
    full = set(named if named is not None else range(n_layers))
    kinds = layer_kinds(
        config, "layer_types", n_layers, lambda index: FULL if index in full else "conv", ("conv", FULL)
    )
    return mixed(config, kinds, _lfm_mixers(config), {False: lambda: _lfm_ff(config)}, head=_tied_by(config))


def lfm2_moe(config: Config) -> Model:
    """Read LFM2 with experts: sigmoid scores with a stored bias, the first layers dense."""
    n_layers = depth(config)
    named = config.items("full_attn_idxs")
    if named is None and not config.states("layer_types"):
        raise config.error("layer_types is missing")
    full = set(named or ())
    kinds = layer_kinds(
        config, "layer_types", n_layers, lambda index: FULL if index in full else "conv", ("conv", FULL)
    )

    def routed() -> FeedForward:
        return experts(
            config,
            activation="silu",
            scoring="sigmoid",
            correction_bias=config.flag("use_expert_bias", default=True),
            normalised=config.flag("norm_topk_prob", default=True),
            routed_scale=factor(config, "routed_scaling_factor"),
        )

    def dense() -> DenseFFN:
        return DenseFFN(d_ff=config.size("intermediate_size"), activation="silu", gated=True)

    sparse = sparse_layers(config, leading(config, "num_dense_layers"))
    return mixed(config, kinds, _lfm_mixers(config), {True: routed, False: dense}, sparse, head=_tied_by(config))


def lfm3(config: Config) -> Model:
    """Read LFM3: gates on the attention, some of it in windows, norms before and after each part."""
    kinds = layer_kinds(
        config,
        "layer_types",
        depth(config),
        lambda index: FULL if index % 4 == 2 else WINDOW if index % 4 == 0 and index else "conv",
        ("conv", FULL, WINDOW),
    )
    gate = "head" if config.flag("use_attention_gate", default=True) else None
    sandwich = config.flag("use_sandwich_norm", default=True)
    return mixed(
        config,
        kinds,
        _lfm_mixers(config, output_gate=gate),
        {False: lambda: DenseFFN(d_ff=config.size("intermediate_size"), activation="silu", gated=True)},
        finish=lambda _, layer: replace(layer, placement="both" if sandwich else "pre"),
        head=_tied_by(config),
    )
