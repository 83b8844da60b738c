"""Samples of RWKV-7 time mixing: the first layer alone, and later layers that use its values."""

from __future__ import annotations

from calc.attention.rwkv7 import RWKV7
from calc.embedding import NormSpec
from calc.ffn.channel_mix import ChannelMix
from calc.model import Layer, Model, Stack
from calc.records import replace
from calc.validate.samples import Sample

FIRST = RWKV7(n_heads=3, head_dim=8, decay_rank=5, rate_rank=7, gate_rank=6)
NORM = NormSpec(kind="layer", bias=True)


def _layer(mixer: RWKV7) -> Layer:
    return Layer(attention=mixer, ffn=ChannelMix(d_ff=37, gated=False), norm=NORM)


SAMPLES: tuple[Sample, ...] = (
    Sample("first layer", FIRST),
    Sample("narrow", RWKV7(n_heads=2, head_dim=7, decay_rank=4, rate_rank=3, gate_rank=9)),
    Sample(
        "later layers",
        Model(
            name="later layers",
            d_model=24,
            vocab_size=29,
            stack=(
                Stack(layer=(_layer(FIRST),)),
                Stack(repeat=2, layer=(_layer(replace(FIRST, value_rank=4)),)),
            ),
            final_norm=NORM,
        ),
    ),
)
