"""RWKV's channel mixing."""

from __future__ import annotations

from calc.ffn.channel_mix import ChannelMix
from calc.validate.samples import Sample

SAMPLES = (
    Sample("wide", ChannelMix(d_ff=37)),
    Sample("no gate", ChannelMix(d_ff=41, gated=False)),
    Sample("narrow", ChannelMix(d_ff=5), d_model=13, batch=3),
)
