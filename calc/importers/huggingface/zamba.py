"""Zamba: Mamba layers, some of which share one transformer block."""

from __future__ import annotations

from collections.abc import Callable

from calc.attention import Attention
from calc.attention.mamba import Mamba
from calc.attention.shared_block import SharedBlock
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold
from calc.importers.huggingface.decoder import depth, key_value_heads, width
from calc.importers.huggingface.mixers import RECURRENT, ZAMBA2, layer_kinds, mamba2, time_step_rank
from calc.importers.huggingface.reader import Config
from calc.model import Layer, Model
from calc.records import replace

HYBRID = "hybrid"


def zamba(config: Config) -> Model:
    """Read Zamba: Mamba, and one transformer block that every sixth layer or so passes first."""
    d_model, n_layers = width(config), depth(config)
    config.ignore("hidden_mamba_act", "use_mamba_kernels", "use_mambapy", "use_associative_scan")
    period, offset = config.size("attn_layer_period", default=6), config.count("attn_layer_offset", default=4)
    config.ignore("n_mamba_heads")  # the maps of Δ, B and C are cut into heads, and have as many parameters
    kinds = layer_kinds(
        config,
        "layers_block_type",
        n_layers,
        # the third layer, and those that the period names
        lambda index: HYBRID if index == 2 or (index > 2 and index % period == offset) else RECURRENT,
        (RECURRENT, HYBRID),
    )
    recurrent = Mamba(
        d_inner=int(config.number("mamba_expand") * d_model),
        d_state=config.size("mamba_d_state"),
        dt_rank=time_step_rank(config, "mamba_dt_rank", d_model),
        conv_kernel=config.size("mamba_d_conv"),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        proj_bias=config.flag("mamba_proj_bias", default=False),
    )
    return _decoder(config, kinds, recurrent, lambda _: _block(config), n_blocks=1)


def zamba2(config: Config) -> Model:
    """Read Zamba2: Mamba-2, and one or two transformer blocks in turn, with low-rank adapters for each use."""
    n_layers = depth(config)
    config.ignore("mamba_expand", "kv_channels", "num_query_groups", "use_mamba_kernels", "use_mem_eff_path")
    config.ignore("use_long_context")
    named = config.positions("hybrid_layer_ids")
    kinds = layer_kinds(
        config,
        "layers_block_type",
        n_layers,
        lambda index: HYBRID if index in named else RECURRENT,
        (RECURRENT, HYBRID),
    )
    bias = config.flag("add_bias_linear", default=False)
    rotated = config.flag("use_mem_rope", default=False)
    rank = config.size("adapter_rank")
    adapters = config.flag("use_shared_attention_adapter", default=False)

    def block(_: int) -> SharedBlock:
        plain = _block(config)
        return replace(
            plain,
            rotary_dim=plain.head_dim if rotated else None,
            adapter_rank=rank,
            attention_adapters=adapters,
            ffn_bias=bias,
        )

    return _decoder(config, kinds, mamba2(config, ZAMBA2), block, n_blocks=config.size("num_mem_blocks", default=1))


def _block(config: Config) -> SharedBlock:
    n_heads = config.size("num_attention_heads")
    inner = config.size("attention_hidden_size", default=2 * width(config))
    head_dim = config.size("attention_head_dim", default=inner // n_heads)
    return SharedBlock(
        n_heads=n_heads,
        n_kv_heads=key_value_heads(config, n_heads),
        head_dim=head_dim,
        d_ff=config.size("intermediate_size", default=4 * width(config)),
        activation=activation(config, "hidden_act"),
    )


def _decoder(
    config: Config, kinds: list[str], recurrent: Attention, block: Callable[[int], SharedBlock], *, n_blocks: int
) -> Model:
    """Put the layers together: the first use of each block stores its weights, the later ones use them again."""
    seen = 0
    uses: list[str] = []
    for kind in kinds:
        uses.append(kind if kind != HYBRID else "first" if seen < n_blocks else "again")
        seen += kind == HYBRID

    def layer(use: str) -> Layer:
        if use == RECURRENT:
            return Layer(attention=recurrent, norm=RMS)
        return Layer(attention=recurrent, beside=replace(block(0), reused=use == "again"), norm=RMS)

    return assemble(config, d_model=width(config), stack=fold(uses, layer), final_norm=RMS)
