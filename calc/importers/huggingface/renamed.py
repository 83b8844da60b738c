"""Families in their files of before transformers had a class for them: other key names, the same layers."""

from __future__ import annotations

from typing import Any, Literal

from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, activation, assemble
from calc.importers.huggingface.decoder import attention, decoder, feed_forward
from calc.importers.huggingface.gpt_like import falcon, heads, uniform
from calc.importers.huggingface.reader import Config
from calc.model import Layer, Model
from calc.records import replace


def refined_web(config: Config) -> Model:
    """Read Falcon's first files: 7B has one key-value head, 40B two norms and the heads that ``n_head_kv`` says."""
    grouped = config.model_type == "RefinedWeb"
    config.assume(new_decoder_architecture=grouped, multi_query=not grouped, tie_word_embeddings=True)
    config.ignore("apply_residual_connection_post_layernorm")
    return falcon(config)


def stablelm_epoch(config: Config) -> Model:
    """Read StableLM's first files: layer norms with biases, a quarter of each head rotated."""
    config.ignore("norm_eps", "rotary_scaling_factor", "use_cache")
    mixer = attention(
        config,
        qkv_bias=config.flag("use_qkv_bias", default=False),
        o_bias=False,
        rotary=config.number("rope_pct", default=0.25),
    )
    head = Head(tied=config.flag("tie_word_embeddings", default=False))
    return decoder(config, mixer, feed_forward(config, bias=False), norm=LAYER_NORM, head=head)


def hf_olmo(config: Config) -> Model:
    """Read OLMo's first files: Llama with norms without parameters.

    One width counts gate and up projection together, but where the activation is named without its gate.
    """
    single = config.text("activation_type", default="swiglu") == "silu"
    for key, known in (("block_type", ("sequential", "llama")), ("activation_type", ("swiglu", "silu"))):
        if config.text(key, default=known[0]) not in known:
            raise config.error(f"{key} other than {known[0]} is not supported for {config.model_type}")
    kind = config.text("layer_norm_type", default="default")
    if kind not in ("default", "rms"):
        raise config.error(f"layer_norm_type = {kind[:20]!r} is not supported for {config.model_type}")
    for key in (
        "include_bias",
        "include_qkv_bias",
        "alibi",
        "attention_layer_norm",
        "bias_for_layer_norm",
    ):
        config.refuse(key)
    if not config.flag("rope", default=True):
        raise config.error("rope = false is not supported for hf_olmo")
    d_model, n_heads = config.size("d_model"), config.size("n_heads")
    config.ignore("multi_query_attention", "attention_layer_norm_with_affine", "rope_full_precision", "init_fn")
    config.ignore("scale_logits", "precision", "block_group_size", "mlp_ratio", "max_sequence_length", "vocab_size")
    config.ignore("flash_attention", "clip_qkv", "init_device", "init_std")
    shared = bool(config.data.get("multi_query_attention"))
    mixer = heads(config, d_model, n_heads, n_kv_heads=config.size("n_kv_heads", default=1 if shared else n_heads))
    ratio = config.number("mlp_ratio", default=4)
    inner = config.size("mlp_hidden_size", default=int(ratio * d_model))
    affine = config.flag("layer_norm_with_affine", default=True)
    norm = NormSpec(kind="rms" if kind == "rms" else "layer", scale=affine)
    layer = Layer(
        attention=replace(mixer, rotary_dim=mixer.head_dim),
        ffn=DenseFFN(
            d_ff=inner if single else config.divided(inner, "mlp_hidden_size", 2, "2"), activation="silu", gated=True
        ),
        norm=norm,
    )
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(config.layers("n_layers"), layer),
        final_norm=norm,
        head=Head(tied=config.flag("weight_tying", default=True)),
        # the table has rows up to a round number
        vocab_size=config.optional_size("embedding_size") or config.size("vocab_size"),
        max_context=config.optional_size("max_sequence_length"),
    )


def molmo(config: Config) -> Model:
    """Read the text model of Molmo: Qwen 2's or OLMo's layers, and rows for its image tokens in the embedding alone."""
    config.note("the text model of molmo alone: its image encoder is not counted")
    config.ignore(
        "hidden_act",
        "use_position_ids",
        "use_cache",
        "weight_tying",
        "vision_config",
        "layer_norm_eps",
        "embedding_size",
    )
    if config.text("layer_norm_type", default="rms") != "rms":
        raise config.error("layer_norm_type other than rms is not supported for molmo")
    norm: Literal["rms"] | None = "rms" if config.flag("attention_layer_norm", default=False) else None
    mixer = attention(
        config,
        qkv_bias=config.flag("qkv_bias", default=False),
        o_bias=False,
        qk_norm=norm,
        qk_norm_over="all_heads",
    )
    inner = config.divided(config.size("intermediate_size"), "intermediate_size", 2, "2")
    rows = config.optional_size("embedding_size") or config.size("vocab_size")
    model = decoder(
        config,
        mixer,
        DenseFFN(d_ff=inner, activation="silu", gated=True),
        placement="post" if config.flag("norm_after", default=False) else "pre",
        embedding=Embedding(n_rows=rows + config.count("additional_vocab_size", default=128)),
        head=Head(tied=config.flag("tie_word_embeddings", "weight_tying", default=False)),
    )
    return replace(model, vocab_size=rows)


def jais(config: Config) -> Model:
    """Read Jais: GPT-2 with ALiBi, a gated network and constants on embedding, scores and logits."""
    d_model, n_heads = config.size("n_embd"), config.size("n_head")
    config.ignore("scale_attn_weights", "scale_qk_dot_by_d", "alibi_scaling", "n_positions", "width_scale")
    config.ignore(
        "mup_width_scale", "mup_output_alpha", "mup_embeddings_scale", "mup_scale_qk_dot_by_d", "embeddings_scale"
    )
    alibi = config.text("position_embedding_type", default="learned") == "alibi"
    if not alibi:
        raise config.error("position_embedding_type other than alibi is not supported for jais")
    act = config.text("activation_function", default="gelu")
    gated = act == "swiglu"
    structure: dict[str, Any] = {"d_ff": config.size("n_inner", default=4 * d_model), "bias": True, "gated": gated}
    ffn = DenseFFN(**structure, activation="silu" if gated else activation(config, "activation_function"))
    mixer = heads(config, d_model, n_heads, qkv_bias=True, o_bias=True, position_bias="alibi")
    return assemble(
        config,
        d_model=d_model,
        stack=uniform(config.layers("n_layer"), Layer(attention=mixer, ffn=ffn, norm=LAYER_NORM)),
        final_norm=LAYER_NORM,
        head=Head(tied=config.flag("tie_word_embeddings", default=True), scaled=True),
        max_context=config.optional_size("n_positions"),
    )
