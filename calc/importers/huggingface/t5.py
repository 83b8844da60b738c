"""T5, mT5 and UMT5: an encoder and a decoder with learned biases by relative position."""

from __future__ import annotations

from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import ACTIVATIONS, RMS, assemble, fold
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask
from calc.model import Encoder, Layer, Model, Stack
from calc.records import replace


def t5(config: Config) -> Model:
    """Read T5 and mT5: the first layer of each side owns the table of position biases."""
    return _t5(config, every_layer=False)


def umt5(config: Config) -> Model:
    """Read UMT5: every layer owns a table of position biases."""
    return _t5(config, every_layer=True)


def _t5(config: Config, every_layer: bool) -> Model:
    name = (config.items("architectures") or ["T5ForConditionalGeneration"])[0]
    if not str(name).endswith(("ForConditionalGeneration", "WithLMHeadModel")):
        raise config.error(f"architectures names {str(name)[:40]}: only the whole encoder-decoder is supported")
    config.ignore("is_gated_act", "dense_act_fn", "n_positions", "output_past", "scale_decoder_outputs")
    d_model = config.size("d_model")
    n_layers = config.layers("num_layers")
    n_heads, head_dim = config.size("num_heads"), config.size("d_kv")
    tie = config.flag("tie_word_embeddings", default=True)
    if "tie_word_embeddings" not in config.data:
        config.note("tie_word_embeddings is not in the file: the head is taken as tied")
    ffn = _feed_forward(config)
    mixer = GQA(
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        position_bias="relative",
        n_buckets=config.size("relative_attention_num_buckets"),
        scaled=False,
    )
    cross = CrossAttention(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim, scaled=False)

    def side(n: int, mask: Mask, source: CrossAttention | None) -> tuple[Stack, ...]:
        def layer(owns_table: bool) -> Layer:
            buckets = mixer.n_buckets if owns_table else None
            return Layer(attention=replace(mixer, mask=mask, n_buckets=buckets), cross=source, ffn=ffn, norm=RMS)

        return fold([every_layer or index == 0 for index in range(n)], layer)

    return assemble(
        config,
        d_model=d_model,
        stack=side(config.layers("num_decoder_layers", default=n_layers), Causal(), cross),
        embedding=Embedding(shared=True),
        final_norm=RMS,
        # T5 multiplies what a tied head reads by 1/√d
        head=Head(tied=tie, scaled=tie and config.model_type == "t5"),
        encoder=Encoder(stack=side(n_layers, Full(), None), final_norm=RMS),
    )


def _feed_forward(config: Config) -> DenseFFN:
    """Read ``feed_forward_proj``: ``relu`` or ``gated-gelu``, whose GELU is the tanh form.

    Raises:
        ConfigError: an activation that has no rule.
    """
    stated = config.text("feed_forward_proj")
    act = "gelu_new" if stated == "gated-gelu" else stated.removeprefix("gated-")
    if act not in ACTIVATIONS:
        raise config.error(f"feed_forward_proj = {stated[:40]!r} is not understood")
    return DenseFFN(d_ff=config.size("d_ff"), activation=ACTIVATIONS[act], gated=stated.startswith("gated-"))
