"""Encoder–decoders."""

from __future__ import annotations

from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.masks import Full
from calc.model import Encoder, Layer, Model, Stack
from calc.validate.samples import Sample

RMS, LAYER_NORM = NormSpec(kind="rms"), NormSpec(kind="layer", bias=True)
RELU = DenseFFN(d_ff=41, activation="relu", bias=True)
GATED = DenseFFN(d_ff=41, activation="gelu_tanh", gated=True)
SINUSOIDS = Embedding(positions="sinusoidal", scaled=True)


def _mixer(both_ways: bool, **options: object) -> GQA:
    mask = {"mask": Full()} if both_ways else {}
    return GQA(n_heads=4, n_kv_heads=4, head_dim=5, **mask, **options)  # type: ignore[arg-type]


def _relative(both_ways: bool, owner: bool) -> GQA:
    buckets = 8 if owner else None
    return _mixer(both_ways, position_bias="relative", n_buckets=buckets, scaled=False)


CROSS = CrossAttention(n_heads=4, n_kv_heads=4, head_dim=5)
UNSCALED = CrossAttention(n_heads=4, n_kv_heads=4, head_dim=5, scaled=False)

SAMPLES = (
    Sample(
        "original",
        Model(
            name="original",
            d_model=20,
            vocab_size=29,
            embedding=Embedding(positions="sinusoidal", scaled=True, shared=True),
            stack=(
                Stack(
                    repeat=2,
                    layer=(Layer(attention=_mixer(False), cross=CROSS, ffn=RELU, norm=LAYER_NORM, placement="sum"),),
                ),
            ),
            head=Head(tied=True),
            encoder=Encoder(
                embedding=SINUSOIDS,
                stack=(
                    Stack(repeat=3, layer=(Layer(attention=_mixer(True), ffn=RELU, norm=LAYER_NORM, placement="sum"),)),
                ),
            ),
        ),
    ),
    Sample(
        "relative positions, head of its own",
        Model(
            name="relative",
            d_model=18,
            vocab_size=29,
            embedding=Embedding(shared=True),
            stack=tuple(
                Stack(
                    repeat=repeat,
                    layer=(Layer(attention=_relative(False, owner), cross=UNSCALED, ffn=GATED, norm=RMS),),
                )
                for repeat, owner in ((1, True), (2, False))
            ),
            final_norm=RMS,
            encoder=Encoder(
                stack=tuple(
                    Stack(repeat=repeat, layer=(Layer(attention=_relative(True, owner), ffn=GATED, norm=RMS),))
                    for repeat, owner in ((1, True), (1, False))
                ),
                final_norm=RMS,
            ),
        ),
        source=13,
    ),
    Sample(
        "frames of a spectrogram",
        Model(
            name="frames",
            d_model=20,
            vocab_size=29,
            embedding=Embedding(positions="learned", max_positions=16),
            stack=(Stack(layer=(Layer(attention=_mixer(False), cross=CROSS, ffn=RELU, norm=LAYER_NORM),)),),
            head=Head(tied=True),
            encoder=Encoder(
                embedding=Embedding(positions="sinusoidal", max_positions=8, n_mels=9, conv_kernel=3),
                stack=(Stack(layer=(Layer(attention=_mixer(True), ffn=RELU, norm=LAYER_NORM),)),),
                final_norm=LAYER_NORM,
            ),
        ),
    ),
    Sample(
        "states of another model",
        Model(
            name="outside",
            d_model=18,
            vocab_size=29,
            stack=(
                Stack(
                    layer=(
                        Layer(
                            attention=_mixer(False),
                            cross=CrossAttention(n_heads=4, n_kv_heads=2, head_dim=5, d_source=23, k_bias=True),
                            ffn=RELU,
                            norm=RMS,
                        ),
                    ),
                ),
            ),
            outside_source=True,
        ),
    ),
)
