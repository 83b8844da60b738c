"""T5Gemma: an encoder and a decoder of Gemma 2's layers."""

from __future__ import annotations

from typing import Any, Final

from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.importers.huggingface.blocks import RMS, assemble, fold, tied
from calc.importers.huggingface.decoder import attention, depth, masks, width
from calc.importers.huggingface.gemma import gemma_network, squashed
from calc.importers.huggingface.reader import Config
from calc.masks import Full, Mask
from calc.model import Encoder, Layer, Model
from calc.records import replace

_MODULE: Final[dict[str, Any]] = {
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192, "sliding_window": 4096, "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}  # fmt: skip
"""Defaults of ``T5GemmaModuleConfig``, the class of either side."""


def t5gemma(config: Config) -> Model:
    """Read T5Gemma: an encoder and a decoder of Gemma 2's layers, each with a table of its own; the head is tied.

    Source: ``T5GemmaForConditionalGeneration`` of transformers.
    """
    name = str((config.items("architectures") or ["T5GemmaForConditionalGeneration"])[0])
    if not name.endswith("ForConditionalGeneration"):
        raise config.error(f"architectures names {name[:40]}: only the whole encoder-decoder is supported")
    sides = [config.section(key, _MODULE) for key in ("encoder", "decoder")]
    for side in sides:
        side.ignore("is_decoder", "cross_attention_hidden_size", "query_pre_attn_scalar", "tie_word_embeddings")
    encoder, decoder = sides
    d_model = width(decoder)
    if width(encoder) != d_model:
        raise config.error(f"encoder.hidden_size = {width(encoder)} and decoder.hidden_size = {d_model} differ")
    if encoder.size("vocab_size") != decoder.size("vocab_size"):
        raise config.error("encoder.vocab_size and decoder.vocab_size differ")
    windows = masks(decoder, depth(decoder), decoder.size("sliding_window"), lambda index: index % 2 == 0)
    encoder.ignore("layer_types", "sliding_window")
    config.ignore("vocab_size")
    config.note("windows to both sides of the encoder are counted as full attention: its FLOPs are upper bounds")
    inner = _side_attention(decoder)
    cross = CrossAttention(
        n_heads=inner.n_heads,
        n_kv_heads=inner.n_kv_heads,
        head_dim=inner.head_dim,
        qkv_bias=inner.qkv_bias,
        o_bias=inner.o_bias,
        softcap=inner.softcap,
    )
    ffn, outer = gemma_network(decoder), _side_attention(encoder)

    def layer(mask: Mask) -> Layer:
        return Layer(attention=replace(inner, mask=mask), cross=cross, ffn=ffn, norm=RMS, placement="both")

    both_ways = Layer(attention=replace(outer, mask=Full()), ffn=gemma_network(encoder), norm=RMS, placement="both")
    return assemble(
        config,
        d_model=d_model,
        stack=fold(windows, layer),
        embedding=Embedding(scaled=True),
        final_norm=RMS,
        head=Head(tied=tied(config), softcap=squashed(decoder, "final_logit_softcapping")),
        encoder=Encoder(
            stack=fold([0] * depth(encoder), lambda _: both_ways), embedding=Embedding(scaled=True), final_norm=RMS
        ),
        vocab_size=decoder.size("vocab_size"),
        max_context=decoder.optional_size("max_position_embeddings"),
    )


def _side_attention(side: Config) -> GQA:
    return attention(side, softcap=squashed(side, "attn_logit_softcapping"))
