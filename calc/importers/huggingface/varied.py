"""Decoders whose layers differ in their sizes: found by a search, or scaled from the first layer to the last."""

from __future__ import annotations

from typing import Any, Literal

from calc.attention.gqa import GQA
from calc.embedding import Head
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold
from calc.importers.huggingface.decoder import depth, width
from calc.importers.huggingface.reader import Config
from calc.model import Layer, Model

_UNUSED = ("sparsify", "num_sink_tokens", "window_length", "unshifted_sink", "use_prefill_window_in_sink_attention")
"""Keys of a block that stand for other kinds of attention; false or null in every published file."""


def nemotron_nas(config: Config) -> Model:
    """Read Nemotron Super and Ultra: Llama whose layers have widths of their own, or no attention or network at all."""
    blocks = config.items("block_configs", length=depth(config))
    if blocks is None:
        raise config.error("block_configs is missing: it holds the sizes of the layers")
    config.ignore("num_key_value_heads", "intermediate_size")
    d_model, n_heads = width(config), config.size("num_attention_heads")
    head_dim = config.divided(d_model, "hidden_size", n_heads, "num_attention_heads")
    bias, act = config.flag("attention_bias", default=False), activation(config, "hidden_act")
    mlp_bias = config.flag("mlp_bias", default=False)

    def layer(kind: tuple[int | None, int | None]) -> Layer:
        group, d_ff = kind
        mixer = None
        if group:
            heads = config.divided(n_heads, "num_attention_heads", group, "n_heads_in_group")
            mixer = GQA(
                n_heads=n_heads, n_kv_heads=heads, head_dim=head_dim, qkv_bias=bias, o_bias=bias, rotary_dim=head_dim
            )
        ffn = DenseFFN(d_ff=d_ff, activation=act, gated=True, bias=mlp_bias) if d_ff else None
        return Layer(attention=mixer, ffn=ffn, norm=RMS)

    kinds = [_block(config, index, block, d_model) for index, block in enumerate(blocks)]
    # a layer with neither part passes its input on and stores nothing
    stack = fold([kind for kind in kinds if kind != (None, None)], layer)
    head = Head(tied=config.flag("tie_word_embeddings", default=False))
    return assemble(config, d_model=d_model, stack=stack, final_norm=RMS, head=head)


def _block(config: Config, index: int, block: Any, d_model: int) -> tuple[int | None, int | None]:
    """Return how many query heads share a key-value head, and the network's width; None for a part that is not there.

    Raises:
        ConfigError: a part of a kind that is not supported.
    """
    here = f"block_configs[{index}]"
    if not isinstance(block, dict) or not all(isinstance(block.get(key), dict) for key in ("attention", "ffn")):
        raise config.error(f"{here} is not an object with attention and ffn")
    found: list[int | None] = []
    for name, key in (("attention", "n_heads_in_group"), ("ffn", "ffn_mult")):
        part = block[name]
        other = next((one for one in ("replace_with_linear", *_UNUSED) if part.get(one) not in (None, False)), None)
        if other:
            raise config.error(f"{here}.{name}.{other} is not supported")
        if part.get("no_op"):
            found.append(None)
        elif name == "attention":
            found.append(config.whole(f"{here}.{name}.{key}", part.get(key)))
        else:
            factor = part.get(key)
            if not _is_factor(factor, 100):
                raise config.error(f"{here}.{name}.{key} is not a number above 0")
            # two thirds of the plain width, rounded up to a multiple of 256
            found.append(256 * -(-int(2 * factor * d_model / 3) // 256))
    return found[0], found[1]


def _is_factor(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < most


def openelm(config: Config) -> Model:
    """Read OpenELM: more heads and wider networks from layer to layer, queries and keys normalised head by head."""
    n_layers = config.layers("num_transformer_layers")
    d_model, head_dim = config.size("model_dim"), config.size("head_dim")
    lists = {key: config.items(key, length=n_layers) for key in ("num_query_heads", "num_kv_heads", "ffn_multipliers")}
    missing = next((key for key, value in lists.items() if value is None), None)
    if missing:
        raise config.error(f"{missing} is missing: it holds the sizes of the layers")
    heads = [config.whole("num_query_heads", one) for one in lists["num_query_heads"] or ()]
    kv_heads = [config.whole("num_kv_heads", one) for one in lists["num_kv_heads"] or ()]
    step = config.size("ffn_dim_divisor")
    config.ignore("num_gqa_groups", "qkv_multipliers", "rope_freq_constant", "rope_max_length")
    config.ignore("normalization_layer_name")
    if not config.flag("ffn_with_glu", default=True):
        raise config.error("ffn_with_glu = false is not supported for openelm")
    norm: Literal["rms"] | None = "rms" if config.flag("normalize_qk_projections", default=True) else None
    act = activation(config, "activation_fn_name", default="swish")

    def layer(kind: tuple[int, int, int]) -> Layer:
        n_heads, n_kv_heads, d_ff = kind
        mixer = GQA(n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=head_dim, rotary_dim=head_dim, qk_norm=norm)
        return Layer(attention=mixer, ffn=DenseFFN(d_ff=d_ff, activation=act, gated=True), norm=RMS)

    widths = [_nearest(config, one, d_model, step) for one in lists["ffn_multipliers"] or ()]
    return assemble(
        config,
        d_model=d_model,
        stack=fold(list(zip(heads, kv_heads, widths, strict=True)), layer),
        final_norm=RMS,
        head=Head(tied=config.flag("share_input_output_layers", default=True)),
        max_context=config.optional_size("max_context_length"),
    )


def _nearest(config: Config, factor: Any, d_model: int, step: int) -> int:
    """Return factor · d to the nearest multiple of a step, but at least nine tenths of it.

    Raises:
        ConfigError: the factor is not a number above 0.
    """
    if not _is_factor(factor, 1000):
        raise config.error("ffn_multipliers holds something that is not a number above 0")
    exact = factor * d_model  # a float, as in the class: 1.9 · 1280 is half-way between two multiples of 256
    near = max(step, int(exact + step / 2) // step * step)
    return near + step if near < 0.9 * exact else near
