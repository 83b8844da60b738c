"""Towers: patches and frames, square windows, projectors, what makes one vector of an image."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.embedding import Embedding, NormSpec, Pooler
from calc.ffn.dense import DenseFFN
from calc.grid_masks import Windows
from calc.masks import Full
from calc.modality.attention_pool import AttentionPool
from calc.modality.patches import Patches
from calc.modality.projector import Projector
from calc.modality.resize import Fixed
from calc.modality.tower import Sound, Tower
from calc.model import Layer, Model, Stack
from calc.records import replace
from calc.validate.samples import Sample

RMS, LAYER_NORM = NormSpec(kind="rms"), NormSpec(kind="layer", bias=True)
MIXER = GQA(n_heads=4, n_kv_heads=4, head_dim=5, qkv_bias=True, o_bias=True, mask=Full())
NETWORK = DenseFFN(d_ff=37, activation="gelu_tanh", bias=True)
LAYER = Layer(attention=MIXER, ffn=NETWORK, norm=LAYER_NORM)
IN_WINDOWS = replace(LAYER, attention=replace(MIXER, rotary_dim=4, mask=Windows(window_side=3)))


def _image(patches: Patches, *layers: Layer, **rest: object) -> Tower:
    return Tower(
        modality="image",
        d_model=20,
        patches=patches,
        stack=(Stack(repeat=2, layer=layers or (LAYER,)),),
        resize=Fixed(image_size=64),
        **rest,  # type: ignore[arg-type]
    )


def _model(name: str, patches: Patches, **rest: object) -> Sample:
    stack = (Stack(repeat=2, layer=(LAYER,)),)
    spec = Model(name=name, d_model=20, vocab_size=0, patches=patches, stack=stack, head=None, **rest)  # type: ignore[arg-type]
    return Sample(name, spec, context=13)


CLASS = Patches(patch_size=3, bias=True, n_prefix=1, positions="learned", max_positions=64)

SAMPLES = (
    _model("vision transformer with classes", CLASS, final_norm=LAYER_NORM, pooler=Pooler(square=False, n_labels=7)),
    _model("vision transformer with a pooler", CLASS, final_norm=LAYER_NORM, pooler=Pooler()),
    _model(
        "pooled by attention",
        replace(CLASS, n_prefix=None),
        final_norm=LAYER_NORM,
        attention_pool=AttentionPool(n_heads=4, head_dim=5, d_ff=29, norm=LAYER_NORM),
    ),
    Sample(
        "joint space",
        _image(
            Patches(patch_size=4, n_prefix=1, positions="learned", max_positions=64, norm=LAYER_NORM),
            pooler=Pooler(norm=LAYER_NORM, square=False, d_projection=11, n_scalars=2),
        ),
        context=16,
        width=5,
    ),
    Sample(
        "mean of patches",
        _image(
            Patches(patch_size=3, bias=True, positions="learned", max_positions=64),
            final_norm=LAYER_NORM,
            projector=(Projector(n_merged=4, pooled=True, norm=RMS, norm_over="token", d_out=31),),
        ),
        context=24,
        width=6,
    ),
    Sample(
        "tables for rows and columns, a standardised mean",
        _image(
            Patches(patch_size=3, positions="axes", max_positions=64),
            replace(LAYER, norm=RMS, placement="both"),
            projector=(
                Projector(
                    n_merged=9,
                    pooled=True,
                    standardised=True,
                    norm=NormSpec(kind="rms", scale=False),
                    norm_over="token",
                    d_out=31,
                ),
            ),
        ),
        context=27,
        width=9,
    ),
    Sample(
        "clips in windows, patches side by side",
        _image(
            Patches(patch_size=3, frames_per_patch=2),
            IN_WINDOWS,
            LAYER,
            projector=(Projector(n_merged=4, norm=RMS, d_ff=80, d_out=31, bias=True),),
        ),
        context=40,
        width=8,
    ),
    Sample(
        "interpolated positions, projectors beside the chain",
        _image(
            Patches(patch_size=3, frames_per_patch=2, bias=True, positions="interpolated", max_positions=36),
            projector=(
                Projector(n_merged=4, norm=LAYER_NORM, d_ff=80, d_out=31, bias=True),
                Projector(n_merged=4, norm=LAYER_NORM, norm_over="token", d_ff=80, d_out=31, bias=True, copies=2),
            ),
        ),
        context=24,
        width=6,
    ),
    Sample(
        "three maps, a class token left out",
        _image(
            Patches(patch_size=3, n_prefix=1, positions="learned", max_positions=64, norm=LAYER_NORM),
            final_norm=LAYER_NORM,
            projector=(Projector(n_prefix=1, n_merged=4, d_ff=29, d_middle=23, d_out=31),),
        ),
        context=25,
        width=6,
    ),
    Sample(
        "two maps, a learned end of rows",
        _image(CLASS, projector=(Projector(n_prefix=1, d_ff=31, d_out=31, bias=True, newline=True),)),
        context=13,
        width=4,
    ),
    Sample(
        "three maps, the first two without an activation between them",
        _image(
            Patches(patch_size=3, norm=RMS),
            projector=(Projector(n_merged=4, norm=RMS, d_ff=20, d_middle=31, d_out=31, linear_first=True),),
        ),
        context=24,
        width=6,
    ),
    Sample(
        "one map, and a norm behind it",
        _image(CLASS, projector=(Projector(bias=True, norm=LAYER_NORM, norm_over="result", d_out=31),)),
        context=13,
        width=4,
    ),
    Sample(
        "frames of a spectrogram",
        Tower(
            modality="audio",
            d_model=20,
            embedding=Embedding(positions="sinusoidal", max_positions=64, n_mels=9),
            stack=(Stack(repeat=2, layer=(LAYER,)),),
            final_norm=LAYER_NORM,
            projector=(Projector(n_merged=4, d_ff=29, d_out=31),),
            sound=Sound(),
        ),
        context=16,
    ),
)
