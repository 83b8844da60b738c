"""The decoder that most families are a variation of, in the key names of Llama's config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold, head_size
from calc.importers.huggingface.reader import Config, shown
from calc.masks import Causal, Chunk, Mask, Window
from calc.model import Layer, Model, Parallel, Placement
from calc.records import replace


def width(config: Config) -> int:
    """Return d_model."""
    return config.size("hidden_size")


def depth(config: Config) -> int:
    """Return the number of layers."""
    return config.layers("num_hidden_layers")


def rotated_dims(config: Config, head_dim: int, share: float = 1.0) -> int | None:
    """Return how many dimensions of a head are rotated: a share of it, by default ``share``; None for none."""
    parameters = config.section("rope_parameters" if config.states("rope_parameters") else "rope_scaling")
    parameters.used.update(parameters.data)
    stated = parameters if parameters.data.get("partial_rotary_factor") is not None else config
    return rotary_of(config, head_dim, stated.number("partial_rotary_factor", default=share))


def rotary_of(config: Config, head_dim: int, share: float) -> int | None:
    """Return ⌊share · head_dim⌋, or None where it is zero.

    Raises:
        ConfigError: a share outside 0…1.
    """
    if not 0 <= share <= 1:
        raise config.error(f"a rotary share of {share} is not between 0 and 1")
    return int(head_dim * share) or None


def attention(
    config: Config,
    *,
    qkv_bias: bool | None = None,
    o_bias: bool | None = None,
    rotary: float = 1.0,
    head_dim: int | None = None,
    **structure: Any,
) -> GQA:
    """Return the attention; biases follow ``attention_bias`` and head sizes the file unless the family fixes them."""
    stated = config.flag("attention_bias", default=False) if qkv_bias is None or o_bias is None else False
    n_heads = config.size("num_attention_heads")
    head_dim = head_dim or head_size(config, width(config), n_heads)
    return GQA(
        n_heads=n_heads,
        n_kv_heads=key_value_heads(config, n_heads),
        head_dim=head_dim,
        qkv_bias=stated if qkv_bias is None else qkv_bias,
        o_bias=stated if o_bias is None else o_bias,
        rotary_dim=rotated_dims(config, head_dim, rotary),
        **structure,
    )


def key_value_heads(config: Config, n_heads: int) -> int:
    """Return the heads of keys and values; where the file leaves them to the class, as many as queries have, noted."""
    key = "num_key_value_heads"
    if key not in config.data and key in config.defaults and config.defaults[key] is None:
        config.note(f"{config.path}{key} is not in the file: {n_heads}, as many as attention heads")
    return config.size(key, default=n_heads)


def feed_forward(config: Config, *, gated: bool = True, bias: bool | None = None, act: str = "hidden_act") -> DenseFFN:
    """Return the feed-forward network; its bias follows ``mlp_bias`` unless the family fixes it."""
    return DenseFFN(
        d_ff=config.size("intermediate_size"),
        activation=activation(config, act),
        gated=gated,
        bias=config.flag("mlp_bias", default=False) if bias is None else bias,
    )


def masks(
    config: Config,
    n_layers: int,
    window: int | None,
    is_local: Callable[[int], bool] = lambda _: True,
) -> list[Mask]:
    """Return every layer's mask: by ``layer_types`` where the file has them, else by the family's rule.

    Raises:
        ConfigError: a window layer without a window, or a type of layer that this family does not have.
    """
    known = ("full_attention", "sliding_attention", "chunked_attention")
    kinds = config.choices("layer_types", length=n_layers, known=known)
    if kinds is not None:
        return [_mask(config, kind, window) for kind in kinds]
    local = Window(window=window) if window else Causal()
    return [local if is_local(index) else Causal() for index in range(n_layers)]


def local_layers(config: Config, windows: bool) -> Callable[[int], bool]:
    """Return which layers have windows: all but every n-th, or by letters (``LLLG``), of which the last is full."""
    pattern = config.data.get("sliding_window_pattern")
    config.ignore("sliding_window_pattern")
    if config.states("layer_types") or not windows:
        return lambda _: False
    if not isinstance(pattern, str):
        every = config.size("sliding_window_pattern", default=4)
        return lambda index: (index + 1) % every != 0
    if not pattern or set(pattern) - {"L", "G"}:
        raise config.error(f"{config.path}sliding_window_pattern = {shown(pattern)} is not of the letters L and G")
    last = depth(config) - 1
    return lambda index: index < last and pattern[index % len(pattern)] == "L"


def _mask(config: Config, kind: str, window: int | None) -> Mask:
    if kind == "full_attention":
        return Causal()
    if kind == "chunked_attention":
        return Chunk(window=config.size("attention_chunk_size"))
    if window is None:
        raise config.error(f"{config.path}layer_types names window layers, but there is no window size")
    return Window(window=window)


def decoder(
    config: Config,
    mixer: GQA,
    ffn: DenseFFN,
    *,
    norm: NormSpec = RMS,
    placement: Placement = "pre",
    parallel: Parallel | None = None,
    layer_masks: Sequence[Mask] | None = None,
    rotated: Sequence[bool] | None = None,
    residual_scaled: bool = False,
    embedding: Embedding | None = None,
    head: Head | None = None,
) -> Model:
    """Put a decoder together whose layers differ in mask and rotation at most."""
    n_layers = depth(config)
    kinds = list(
        zip(
            layer_masks if layer_masks is not None else masks(config, n_layers, None),
            rotated if rotated is not None else [True] * n_layers,
            strict=True,
        )
    )

    def layer(kind: tuple[Mask, bool]) -> Layer:
        mask, with_rotation = kind
        return Layer(
            attention=replace(mixer, mask=mask, rotary_dim=mixer.rotary_dim if with_rotation else None),
            ffn=ffn,
            norm=norm,
            placement=placement,
            parallel=parallel,
            residual_scaled=residual_scaled,
        )

    return assemble(
        config,
        d_model=width(config),
        stack=fold(kinds, layer),
        embedding=embedding,
        final_norm=norm,
        head=head,
    )
