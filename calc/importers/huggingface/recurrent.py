"""Models without softmax attention, or with a little of it in windows: Mamba, RWKV, RecurrentGemma."""

from __future__ import annotations

from calc.attention.rglru import RGLRU
from calc.attention.rwkv import RWKV
from calc.attention.rwkv7 import RWKV7
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.channel_mix import ChannelMix
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, RMS, activation, assemble, fold, tied
from calc.importers.huggingface.decoder import attention, depth, width
from calc.importers.huggingface.mixers import MAMBA2, mamba, mamba2
from calc.importers.huggingface.reader import Config
from calc.masks import Window
from calc.model import Layer, Model
from calc.records import replace


def mamba1(config: Config) -> Model:
    """Read Mamba: a mixer in every layer and nothing else."""
    return _alone(config, Layer(attention=mamba(config, width(config)), norm=RMS))


def falcon_mamba(config: Config) -> Model:
    """Read Falcon-Mamba: Mamba with norms, without scales, of the time step, B and C."""
    config.ignore("mixer_rms_eps")
    return _alone(config, Layer(attention=mamba(config, width(config), inner_norm="plain"), norm=RMS))


def mamba_2(config: Config) -> Model:
    """Read Mamba-2: a mixer in every layer and nothing else."""
    config.ignore("expand", "time_step_rank", "rms_norm")
    return _alone(config, Layer(attention=mamba2(config, MAMBA2), norm=RMS))


def _alone(config: Config, layer: Layer) -> Model:
    stack = fold([0] * depth(config), lambda _: layer)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


def rwkv(config: Config) -> Model:
    """Read RWKV-4: time mixing and channel mixing, layer norms, one more on the embedding."""
    d_model = width(config)
    inner = config.size("attention_hidden_size", default=d_model)
    ffn = ChannelMix(d_ff=config.size("intermediate_size", default=4 * d_model))
    layer = Layer(attention=RWKV(d_inner=inner), ffn=ffn, norm=LAYER_NORM)
    config.ignore("rescale_every")
    return assemble(
        config,
        d_model=d_model,
        stack=fold([0] * depth(config), lambda _: layer),
        embedding=Embedding(norm=LAYER_NORM),
        final_norm=LAYER_NORM,
        max_context=config.optional_size("context_length"),
    )


def rwkv7(config: Config) -> Model:
    """Read RWKV-7: a delta rule and channel mixing without a gate, layer norms, one more on the embedding.

    Source: ``RWKV7ForCausalLM`` of flash-linear-attention; arXiv:2503.14456.
    """
    d_model, n_layers = width(config), depth(config)
    head_dim = config.size("head_dim", "head_size", default=64)
    n_heads = config.divided(d_model, "hidden_size", head_dim, "head_dim")
    config.ignore("num_heads", "num_attention_heads", "hidden_ratio", "attn_mode", "fuse_norm", "fuse_cross_entropy")
    config.ignore("fuse_linear_cross_entropy", "use_l2warp")
    config.refuse("attn")
    if any(value != d_model for value in config.items("value_dim", length=n_layers) or ()):
        raise config.error(f"value_dim other than hidden_size = {d_model} is not supported for {config.model_type}")
    if config.text("hidden_act", default="sqrelu") not in ("sqrelu", "relu2"):
        raise config.error(f"hidden_act other than sqrelu is not supported for {config.model_type}")
    first = RWKV7(
        n_heads=n_heads,
        head_dim=head_dim,
        decay_rank=config.size("decay_low_rank_dim"),
        rate_rank=config.size("a_low_rank_dim"),
        gate_rank=config.size("gate_low_rank_dim"),
    )
    shared = config.size("v_low_rank_dim")
    ffn = ChannelMix(d_ff=config.size("intermediate_size", default=4 * d_model), gated=False)
    norm = NormSpec(kind="layer", bias=config.flag("norm_bias", default=True))

    def layer(later: bool) -> Layer:
        return Layer(attention=replace(first, value_rank=shared) if later else first, ffn=ffn, norm=norm)

    return assemble(
        config,
        d_model=d_model,
        stack=fold([index > 0 for index in range(n_layers)], layer),
        embedding=Embedding(norm=norm if config.flag("norm_first", default=True) else None),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )


def recurrent_gemma(config: Config) -> Model:
    """Read RecurrentGemma: gated linear recurrences, attention with a window in every third layer."""
    d_model, n_layers = width(config), depth(config)
    pattern = config.items("block_types", "_block_types") or ["recurrent", "recurrent", "attention"]
    if not set(map(str, pattern)) <= {"recurrent", "attention"}:
        raise config.error(f"{config.path}block_types holds a kind that is not supported for {config.model_type}")
    kinds = [str(pattern[index % len(pattern)]) for index in range(n_layers)]
    n_heads = config.size("num_attention_heads")
    channels = config.size("lru_width", default=d_model)
    window = config.size("attention_window_size", "sliding_window")
    config.ignore("w_init_variance_scale", "embeddings_scale_by_sqrt_dim", "layers_block_type", "layer_types")
    ffn = DenseFFN(
        d_ff=config.divided(config.size("intermediate_size"), "intermediate_size", 2, "2"),
        activation=activation(config, "hidden_activation"),
        gated=True,
        bias=True,
    )

    def layer(kind: str) -> Layer:
        if kind == "attention":
            mask = Window(window=window)
            return Layer(attention=attention(config, o_bias=True, rotary=0.5, mask=mask), ffn=ffn, norm=RMS)
        head_dim = config.divided(channels, "lru_width", n_heads, "num_attention_heads")
        taps = config.size("conv1d_width", default=4)
        return Layer(attention=RGLRU(n_heads=n_heads, head_dim=head_dim, conv_kernel=taps), ffn=ffn, norm=RMS)

    return assemble(
        config,
        d_model=d_model,
        stack=fold(kinds, layer),
        embedding=Embedding(scaled=True),
        final_norm=RMS,
        head=Head(tied=tied(config), softcap=config.number("logits_soft_cap", default=0.0) > 0),
    )
