"""Decoders of GPT's line: layer norms, multi-head attention, a feed-forward network without gate."""

from __future__ import annotations

from typing import Any

from calc.activations import Activation
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, activation, assemble, fold, tied
from calc.importers.huggingface.decoder import rotated_dims
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Mask, Window
from calc.model import Layer, Model, Stack
from calc.records import replace


def heads(config: Config, d_model: int, n_heads: int, **structure: Any) -> GQA:
    """Return multi-head attention whose heads share d_model out among them."""
    head_dim = config.divided(d_model, "the width", n_heads, "the number of heads")
    return GQA(**{"n_heads": n_heads, "n_kv_heads": n_heads, "head_dim": head_dim, **structure})


def uniform(n_layers: int, layer: Layer) -> tuple[Stack, ...]:
    """Return n equal layers."""
    return (Stack(repeat=n_layers, layer=(layer,)),)


def learned(rows: int, offset: int = 0, **structure: Any) -> Embedding:
    """Return an embedding with a table of positions, ``offset`` rows longer than the positions it serves."""
    return Embedding(positions="learned", max_positions=rows + offset, **structure)


def _gpt_names(config: Config) -> tuple[int, int, int, int]:
    """Return d_model, layers, heads and the feed-forward width, 4 d where ``n_inner`` is null."""
    config.refuse("add_cross_attention")
    d_model = config.size("n_embd")
    d_ff = config.size("n_inner", default=4 * d_model)
    return d_model, config.layers("n_layer"), config.size("n_head"), d_ff


def gpt2(config: Config) -> Model:
    """Read GPT-2."""
    d_model, n_layers, n_heads, d_ff = _gpt_names(config)
    return _gpt2(config, d_model, n_layers, d_ff, heads(config, d_model, n_heads, qkv_bias=True, o_bias=True))


def gpt_bigcode(config: Config) -> Model:
    """Read SantaCoder and StarCoder 1: GPT-2 with one key-value head."""
    d_model, n_layers, n_heads, d_ff = _gpt_names(config)
    config.ignore("num_key_value_heads")  # what transformers writes; it reads multi_query
    n_kv_heads = 1 if config.flag("multi_query", default=True) else n_heads
    mixer = heads(config, d_model, n_heads, n_kv_heads=n_kv_heads, qkv_bias=True, o_bias=True)
    return _gpt2(config, d_model, n_layers, d_ff, mixer)


def _gpt2(config: Config, d_model: int, n_layers: int, d_ff: int, mixer: GQA) -> Model:
    positions = config.size("n_positions")
    ffn = DenseFFN(d_ff=d_ff, activation=activation(config, "activation_function"), bias=True)
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(n_layers, Layer(attention=mixer, ffn=ffn, norm=LAYER_NORM)),
        embedding=learned(positions),
        final_norm=LAYER_NORM,
        max_context=positions,
    )


def openai_gpt(config: Config) -> Model:
    """Read the first GPT: norms after each part, none at the end."""
    d_model, n_layers, n_heads = config.size("n_embd"), config.layers("n_layer"), config.size("n_head")
    positions = config.size("n_positions")
    layer = Layer(
        attention=heads(config, d_model, n_heads, qkv_bias=True, o_bias=True),
        # this family calls GPT's tanh form gelu
        ffn=DenseFFN(d_ff=4 * d_model, activation="gelu_tanh", bias=True),
        norm=LAYER_NORM,
        placement="sum",
    )
    if config.text("afn") not in ("gelu", "gelu_new"):
        raise config.error("afn is not gelu: not supported")
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(n_layers, layer),
        embedding=learned(positions),
        max_context=positions,
    )


def ctrl(config: Config) -> Model:
    """Read CTRL: sinusoidal positions, a ReLU network, a bias at the head."""
    d_model, n_layers, n_heads = config.size("n_embd"), config.layers("n_layer"), config.size("n_head")
    layer = Layer(
        attention=heads(config, d_model, n_heads, qkv_bias=True, o_bias=True),
        ffn=DenseFFN(d_ff=config.size("dff"), activation="relu", bias=True),
        norm=LAYER_NORM,
    )
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(n_layers, layer),
        embedding=Embedding(positions="sinusoidal", scaled=True),
        final_norm=LAYER_NORM,
        head=Head(tied=tied(config), bias=True),
        max_context=config.size("n_positions"),
    )


def gpt_neo(config: Config) -> Model:
    """Read GPT-Neo: local layers among global ones, scores not scaled, biases but at q, k and v."""
    config.ignore("attention_layers")
    d_model = config.size("hidden_size")
    n_layers = config.layers("num_layers", "num_hidden_layers")
    n_heads = config.size("num_heads", "num_attention_heads")
    positions = config.size("max_position_embeddings")
    mixer = heads(config, d_model, n_heads, o_bias=True, scaled=False)
    ffn = DenseFFN(
        d_ff=config.size("intermediate_size", default=4 * d_model),
        activation=activation(config, "activation_function"),
        bias=True,
    )

    def layer(mask: Mask) -> Layer:
        return Layer(attention=replace(mixer, mask=mask), ffn=ffn, norm=LAYER_NORM)

    return assemble(
        config,
        d_model=d_model,
        stack=fold(_neo_masks(config, n_layers), layer),
        embedding=learned(positions),
        final_norm=LAYER_NORM,
        max_context=positions,
    )


def _neo_masks(config: Config, n_layers: int) -> list[Mask]:
    """Expand ``[[["global", "local"], 12]]``; without it, global and local alternate."""
    local, full = Window(window=config.size("window_size")), Causal()
    groups = config.items("attention_types")
    if groups is None:
        return [local if index % 2 else full for index in range(n_layers)]
    kinds: list[str] = []
    for group in groups:
        match group:
            case [list(pattern), int(repeat)] if 0 < repeat <= n_layers and all(
                x in ("global", "local") for x in pattern
            ):
                kinds += pattern * repeat
            case _:
                raise config.error("attention_types is not a list of [[kinds], repeats]")
    if len(kinds) != n_layers:
        raise config.error(f"attention_types names {len(kinds)} layers, num_layers = {n_layers}")
    return [local if kind == "local" else full for kind in kinds]


def gptj(config: Config) -> Model:
    """Read GPT-J and CodeGen: parallel parts under one norm, biases in the network and at the head only."""
    d_model, n_layers, n_heads, d_ff = _gpt_names(config)
    mixer = heads(config, d_model, n_heads)
    config.ignore("rotary")
    mixer = replace(mixer, rotary_dim=config.size("rotary_dim", default=mixer.head_dim))
    ffn = DenseFFN(d_ff=d_ff, activation=activation(config, "activation_function"), bias=True)
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(n_layers, Layer(attention=mixer, ffn=ffn, norm=LAYER_NORM, parallel="one_norm")),
        final_norm=LAYER_NORM,
        head=Head(tied=tied(config), bias=True),
        max_context=config.size("n_positions"),
    )


def gpt_neox(config: Config) -> Model:
    """Read GPT-NeoX and Pythia: parallel parts, each under its own norm, a quarter of each head rotated."""
    d_model = config.size("hidden_size")
    mixer = heads(config, d_model, config.size("num_attention_heads"))
    bias = config.flag("attention_bias", default=True)
    share = config.number("rotary_pct", default=0.25)
    mixer = replace(mixer, qkv_bias=bias, o_bias=bias, rotary_dim=rotated_dims(config, mixer.head_dim, share))
    ffn = DenseFFN(d_ff=config.size("intermediate_size"), activation=activation(config, "hidden_act"), bias=True)
    parallel = config.flag("use_parallel_residual", default=True)
    layer = Layer(attention=mixer, ffn=ffn, norm=LAYER_NORM, parallel="two_norms" if parallel else None)
    n_layers = config.layers("num_hidden_layers")
    return assemble(config, d_model=d_model, stack=uniform(n_layers, layer), final_norm=LAYER_NORM)


def gpt_neox_japanese(config: Config) -> Model:
    """Read GPT-NeoX Japanese: no biases, but at the output projection of the last layer."""
    d_model = config.size("hidden_size")
    n_layers = config.layers("num_hidden_layers")
    mixer = heads(config, d_model, config.size("num_attention_heads"))
    share = config.number("rotary_pct", default=1.0)
    mixer = replace(mixer, rotary_dim=rotated_dims(config, mixer.head_dim, share))
    ffn = DenseFFN(
        d_ff=d_model * config.size("intermediate_multiple_size"),
        activation=activation(config, "hidden_act"),
    )

    def layer(last: bool) -> Layer:
        return Layer(attention=replace(mixer, o_bias=last), ffn=ffn, norm=LAYER_NORM)

    last = [index == n_layers - 1 for index in range(n_layers)]
    return assemble(config, d_model=d_model, stack=fold(last, layer), final_norm=LAYER_NORM)


def bloom(config: Config) -> Model:
    """Read BLOOM: ALiBi, a norm after the embedding, biases everywhere."""
    d_model = config.size("hidden_size", "n_embed")
    n_heads = config.size("n_head", "num_attention_heads")
    n_layers = config.layers("n_layer", "num_hidden_layers")
    layer = Layer(
        attention=heads(config, d_model, n_heads, qkv_bias=True, o_bias=True, position_bias="alibi"),
        ffn=DenseFFN(d_ff=4 * d_model, activation="gelu_tanh", bias=True),
        norm=LAYER_NORM,
    )
    config.ignore("apply_residual_connection_post_layernorm", "attention_softmax_in_fp32")
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(n_layers, layer),
        embedding=Embedding(norm=LAYER_NORM),
        final_norm=LAYER_NORM,
    )


def falcon(config: Config) -> Model:
    """Read Falcon: one key-value head under ``multi_query``, whatever ``num_kv_heads`` says in the old architecture."""
    d_model = config.size("hidden_size")
    n_heads = config.size("num_attention_heads", "n_head")
    bias = config.flag("bias", default=False)
    mixer = heads(config, d_model, n_heads, n_kv_heads=_falcon_kv_heads(config, n_heads), qkv_bias=bias, o_bias=bias)
    if config.flag("alibi", default=False):
        mixer = replace(mixer, position_bias="alibi")
    else:
        mixer = replace(mixer, rotary_dim=mixer.head_dim)
    layer = Layer(
        attention=mixer,
        ffn=DenseFFN(
            d_ff=config.size("ffn_hidden_size", default=4 * d_model),
            activation=activation(config, "activation", default="gelu"),
            bias=bias,
        ),
        norm=LAYER_NORM,
        parallel=_falcon_parallel(config),
    )
    n_layers = config.layers("num_hidden_layers", "n_layer")
    return assemble(config, d_model=d_model, stack=uniform(n_layers, layer), final_norm=LAYER_NORM)


def _falcon_kv_heads(config: Config, n_heads: int) -> int:
    multi_query = config.flag("multi_query", default=True)
    stated = config.size("num_kv_heads", "n_head_kv", default=n_heads)
    if config.flag("new_decoder_architecture", default=False):
        return stated
    return 1 if multi_query else n_heads


def _falcon_parallel(config: Config) -> Any:
    new = config.flag("new_decoder_architecture", default=False)
    norms = config.size("num_ln_in_parallel_attn", default=2 if new else 1, most=2)
    if not config.flag("parallel_attn", default=True):
        if new:
            raise config.error("parallel_attn = false with new_decoder_architecture is not supported for falcon")
        return None
    if norms == 2 and not new:
        raise config.error("num_ln_in_parallel_attn = 2 without new_decoder_architecture is not supported for falcon")
    return "two_norms" if norms == 2 else "one_norm"


def mpt(config: Config) -> Model:
    """Read MPT: ALiBi, no biases anywhere."""
    d_model = config.size("d_model", "hidden_size")
    config.ignore("learned_pos_emb", "norm_type", "embedding_fraction", "verbose", "init_config")
    inner = config.section("attn_config")
    inner.refuse("qk_ln")
    inner.refuse("prefix_lm")
    inner.ignore("alibi_bias_max", "clip_qkv", "softmax_scale", "attn_uses_sequence_id", "attn_impl")
    if inner.text("attn_type", default="multihead_attention") != "multihead_attention":
        raise config.error("attn_config.attn_type is not multihead_attention: not supported for mpt")
    if not inner.flag("alibi", default=True) or not config.flag("no_bias", default=True):
        raise config.error("mpt without ALiBi or with biases is not supported")
    layer = Layer(
        attention=heads(config, d_model, config.size("n_heads", "num_attention_heads"), position_bias="alibi"),
        ffn=DenseFFN(d_ff=d_model * config.size("expansion_ratio")),
        norm=NormSpec(kind="layer"),
    )
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(config.layers("n_layers", "num_hidden_layers"), layer),
        final_norm=NormSpec(kind="layer"),
        head=Head(tied=tied(config), scaled=config.states("logit_scale")),
        max_context=config.size("max_seq_len"),
    )


def opt(config: Config) -> Model:
    """Read OPT: learned positions with two rows more, OPT-350M's projections and norms after each part."""
    d_model = config.size("hidden_size")
    bias = config.flag("enable_bias", default=True)
    affine = config.flag("layer_norm_elementwise_affine", default=True)
    norm = NormSpec(kind="layer", scale=affine, bias=affine)
    before = config.flag("do_layer_norm_before", default=True)
    closing = before and not config.flag("_remove_final_layer_norm", default=False)
    positions = config.size("max_position_embeddings")
    d_embedding = config.size("word_embed_proj_dim", default=d_model)
    inner = None if d_embedding == d_model else d_embedding
    layer = Layer(
        attention=heads(config, d_model, config.size("num_attention_heads"), qkv_bias=bias, o_bias=bias),
        ffn=DenseFFN(d_ff=config.size("ffn_dim"), activation=activation(config, "activation_function"), bias=bias),
        norm=norm,
        placement="pre" if before else "sum",
    )
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(config.layers("num_hidden_layers"), layer),
        embedding=learned(positions, offset=2, d_embedding=inner),
        final_norm=norm if closing else None,
        head=Head(tied=tied(config), d_embedding=inner),
        max_context=positions,
    )


def biogpt(config: Config) -> Model:
    """Read BioGPT: OPT's positions, embeddings scaled by √d."""
    positions = config.size("max_position_embeddings")
    embedding = learned(positions, offset=2, scaled=config.flag("scale_embedding", default=True))
    width, act = config.size("hidden_size"), activation(config, "hidden_act")
    n_heads, d_ff = config.size("num_attention_heads"), config.size("intermediate_size")
    return _biased(config, width, config.layers("num_hidden_layers"), n_heads, d_ff, act, embedding)


def xglm(config: Config) -> Model:
    """Read XGLM: sinusoidal positions."""
    config.refuse("add_cross_attention")
    embedding = Embedding(positions="sinusoidal", scaled=config.flag("scale_embedding", default=True))
    width, act = config.size("d_model"), activation(config, "activation_function")
    n_heads, d_ff = config.size("attention_heads"), config.size("ffn_dim")
    return _biased(config, width, config.layers("num_layers"), n_heads, d_ff, act, embedding)


def _biased(
    config: Config, d_model: int, n_layers: int, n_heads: int, d_ff: int, act: Activation, embedding: Embedding
) -> Model:
    layer = Layer(
        attention=heads(config, d_model, n_heads, qkv_bias=True, o_bias=True),
        ffn=DenseFFN(d_ff=d_ff, activation=act, bias=True),
        norm=LAYER_NORM,
    )
    stack = uniform(n_layers, layer)
    return assemble(config, d_model=d_model, stack=stack, embedding=embedding, final_norm=LAYER_NORM)
