"""Encoder–decoders of BART's line: LayerNorm, biased multi-head attention, a plain feed-forward network.

``architectures`` says which part the checkpoint holds: encoder and decoder with a head (``…ForConditionalGeneration``),
without (``…Model``), or the decoder alone (``…ForCausalLM``), whose cross-attention reads another model's states.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, activation, has_head, tied
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask
from calc.model import Encoder, Layer, Model, Placement, Stack
from calc.records import replace

Side = Literal["encoder", "decoder"]

PADDING_ROWS: Final = 2
"""Rows that BART's position tables have before the first position."""

FROM_FAIRSEQ: Final = (
    "normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits", "extra_layer_norm",
    "static_position_embeddings", "extra_pos_embeddings", "layernorm_variant", "do_blenderbot_90_layernorm",
    "output_past", "save_step", "force_bos_token_to_be_generated",
)  # fmt: skip
"""Keys that old configs keep and that transformers does not read."""


def bart(config: Config) -> Model:
    """BART, MVP, PLBart: norms after each part, and after the embedding."""
    config.refuse("use_prompt")
    config.ignore("prompt_length", "prompt_mid_dim")
    positions = config.size("max_position_embeddings") + PADDING_ROWS
    return _whole(config, "sum", Embedding(positions="learned", max_positions=positions, norm=LAYER_NORM))


def mbart(config: Config) -> Model:
    """mBART: norms before each part, and after the embedding."""
    positions = config.size("max_position_embeddings") + PADDING_ROWS
    return _whole(config, "pre", Embedding(positions="learned", max_positions=positions, norm=LAYER_NORM))


def pegasus(config: Config) -> Model:
    """Pegasus: norms before each part, sinusoidal positions that the checkpoint stores."""
    positions = config.size("max_position_embeddings")
    return _whole(config, "pre", Embedding(positions="sinusoidal", max_positions=positions))


def marian(config: Config) -> Model:
    """Marian: norms after each part, stored sinusoidal positions, two vocabularies where they are not shared."""
    embedding = Embedding(positions="sinusoidal", max_positions=config.size("max_position_embeddings"))
    vocab_size = config.size("vocab_size")
    target = config.size("decoder_vocab_size", default=vocab_size)
    if not config.flag("share_encoder_decoder_embeddings", default=True):
        if _part(config) == "decoder" and target != vocab_size:
            raise config.error("a Marian decoder alone with a vocabulary of its own is not supported")
        return _whole(config, "sum", embedding, shared=False, vocab_size=target)
    if target != vocab_size:
        raise config.error(f"decoder_vocab_size = {target} differs from vocab_size = {vocab_size}, which it shares")
    return _whole(config, "sum", embedding)


def blenderbot(config: Config) -> Model:
    """Blenderbot: norms before each part."""
    positions = config.size("max_position_embeddings")
    return _whole(config, "pre", Embedding(positions="learned", max_positions=positions))


def blenderbot_small(config: Config) -> Model:
    """Blenderbot 90M: norms after each part, and after the embedding."""
    positions = config.size("max_position_embeddings")
    return _whole(config, "sum", Embedding(positions="learned", max_positions=positions, norm=LAYER_NORM))


def bigbird_pegasus(config: Config) -> Model:
    """BigBird-Pegasus: norms before each part, block-sparse attention in the encoder."""
    from calc.sparse_masks import BigBird

    kind = config.text("attention_type")
    if kind not in ("block_sparse", "original_full"):
        raise config.error(f"attention_type = {kind[:40]!r} is neither block_sparse nor original_full")
    sparse = BigBird(block_size=config.size("block_size"), n_random=config.count("num_random_blocks"))
    bias = config.flag("use_bias")
    embedding = Embedding(positions="learned", max_positions=config.size("max_position_embeddings"))
    model = _whole(
        config,
        "pre",
        embedding,
        mask=sparse if kind == "block_sparse" else Full(),
        qkv_bias=bias,
        o_bias=bias,
    )
    if _part(config) == "decoder" and model.head:  # BigBirdPegasusForCausalLM ties nothing
        return replace(model, head=replace(model.head, tied=False))
    return model


def m2m_100(config: Config) -> Model:
    """M2M-100 and NLLB: norms before each part, sinusoidal positions, no bias on the logits."""
    model = _whole(config, "pre", Embedding(positions="sinusoidal"))
    return replace(model, head=replace(model.head, bias=False)) if model.head else model


def whisper(config: Config) -> Model:
    """Whisper: an encoder of audio frames; keys without bias."""
    positions = config.size("max_target_positions")
    audio = Embedding(
        positions="sinusoidal",
        max_positions=config.size("max_source_positions"),
        n_mels=config.size("num_mel_bins"),
    )
    config.ignore("classifier_proj_size", "use_weighted_layer_sum", "apply_spec_augment", "median_filter_width")
    config.ignore("max_position_embeddings")
    model = _whole(
        config,
        "pre",
        Embedding(positions="learned", max_positions=positions),
        audio=audio,
        k_bias=False,
        max_context=positions,
    )
    return replace(model, head=replace(model.head, bias=False)) if model.head else model


def trocr(config: Config) -> Model:
    """TrOCR's decoder, over the states of an image encoder."""
    positions = config.size("max_position_embeddings") + PADDING_ROWS
    stored = config.flag("use_learned_position_embeddings")
    return _alone(
        config,
        "sum",
        Embedding(
            positions="learned" if stored else "sinusoidal",
            max_positions=positions if stored else None,
            norm=LAYER_NORM if config.flag("layernorm_embedding") else None,
            scaled=config.flag("scale_embedding"),
        ),
        layer=_layer(
            config,
            "decoder",
            "sum",
            Causal(),
            crosses=True,
            d_source=config.optional_size("cross_attention_hidden_size"),
        ),
    )


# ---- parts


def _part(config: Config) -> Literal["decoder", "whole"]:
    """Tell whether the checkpoint holds the decoder alone."""
    names = config.items("architectures") or [""]
    name = names[0] if isinstance(names[0], str) else ""
    alone = name.endswith("ForCausalLM") or config.data.get("is_encoder_decoder") is False
    return "decoder" if alone else "whole"


def _layer(
    config: Config,
    side: Side,
    placement: Placement,
    mask: Mask,
    *,
    crosses: bool,
    d_source: int | None = None,
    **biases: bool,
) -> Layer:
    """Return a layer of one side; biases are those of both attentions."""
    d_model = config.size("d_model", "hidden_size")
    n_heads = config.size(f"{side}_attention_heads")
    heads: dict[str, Any] = {
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": config.divided(d_model, "d_model", n_heads, f"{side}_attention_heads"),
        "qkv_bias": True,
        "o_bias": True,
        **biases,
    }
    ffn = DenseFFN(d_ff=config.size(f"{side}_ffn_dim"), activation=activation(config, "activation_function"), bias=True)
    cross = CrossAttention(**heads, d_source=d_source) if crosses else None
    return Layer(attention=GQA(**heads, mask=mask), cross=cross, ffn=ffn, norm=LAYER_NORM, placement=placement)


def _stack(config: Config, side: Side, layer: Layer) -> tuple[Stack, ...]:
    return (Stack(repeat=config.layers(f"{side}_layers"), layer=(layer,)),)


def _alone(config: Config, placement: Placement, embedding: Embedding, layer: Layer, **model: Any) -> Model:
    """Return a decoder whose source is another model's."""
    config.note("cross-attention reads another model's states: as many as a pass has source tokens")
    encoder_keys = (key for key in config.data if key.startswith("encoder_"))
    config.ignore("num_hidden_layers", *encoder_keys)
    return Model(
        **{
            "name": config.model_type,
            "d_model": config.size("d_model", "hidden_size"),
            "vocab_size": config.size("vocab_size"),
            "max_context": embedding.max_positions,
            "embedding": embedding,
            "stack": _stack(config, "decoder", layer),
            "final_norm": LAYER_NORM if placement == "pre" else None,
            "head": Head(tied=tied(config)) if has_head(config) else None,
            "outside_source": True,
            **model,
        }
    )


def _whole(
    config: Config,
    placement: Placement,
    embedding: Embedding,
    *,
    audio: Embedding | None = None,
    shared: bool = True,
    mask: Mask | None = None,
    vocab_size: int | None = None,
    max_context: int | None = None,
    **biases: bool,
) -> Model:
    """Put both sides together, or the decoder alone; ``audio`` is the encoder's embedding where it hears."""
    config.ignore(*FROM_FAIRSEQ)
    embedding = replace(embedding, scaled=config.flag("scale_embedding", default=False))
    decoder = _layer(config, "decoder", placement, Causal(), crosses=True, **biases)
    max_context = max_context or config.size("max_position_embeddings")
    if _part(config) == "decoder":
        return _alone(config, placement, embedding, decoder, max_context=max_context)
    if not tied(config):
        raise config.error("tie_word_embeddings = false is not supported for an encoder-decoder of this family")
    config.ignore("num_hidden_layers")
    encoder = _layer(config, "encoder", placement, mask or Full(), crosses=False, **biases)
    rows = config.size("vocab_size")
    source = audio or replace(embedding, n_rows=None if shared or rows == vocab_size else rows)
    return Model(
        name=config.model_type,
        d_model=config.size("d_model", "hidden_size"),
        vocab_size=vocab_size or rows,
        max_context=max_context,
        embedding=replace(embedding, shared=shared and audio is None),
        stack=_stack(config, "decoder", decoder),
        final_norm=LAYER_NORM if placement == "pre" else None,
        # final_logits_bias, a buffer that the checkpoint stores
        head=Head(tied=True, bias=True) if has_head(config) else None,
        encoder=Encoder(
            stack=_stack(config, "encoder", encoder),
            embedding=source,
            final_norm=LAYER_NORM if placement == "pre" else None,
        ),
    )
