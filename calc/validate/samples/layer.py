"""Layers: where norms stand, parallel parts, residuals, streams, what layers lend to each other."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.embedding import NormSpec
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.hyper import HyperConnection
from calc.masks import Window
from calc.model import Layer, Model, Stack
from calc.records import replace
from calc.validate.samples import Sample

RMS, LAYER_NORM = NormSpec(kind="rms"), NormSpec(kind="layer", bias=True)
MIXER = GQA(n_heads=4, n_kv_heads=2, head_dim=6, rotary_dim=6)
NETWORK = DenseFFN(d_ff=37, activation="silu", gated=True)
EXPERTS = MoE(n_experts=5, n_active_experts=2, d_expert=7, normalised=True)
LOCAL = replace(MIXER, mask=Window(window=4))


def _sample(name: str, *stack: Stack) -> Sample:
    model = Model(name=name, d_model=20, vocab_size=29, stack=stack, final_norm=RMS)
    return Sample(name, model)


def _layer(attention: GQA = MIXER, **around: object) -> Layer:
    return Layer(attention=attention, ffn=NETWORK, **around)  # type: ignore[arg-type]


SAMPLES = (
    _sample("no norms", Stack(layer=(_layer(),))),
    _sample("norms before", Stack(repeat=2, layer=(_layer(norm=RMS),))),
    _sample("norms after", Stack(layer=(_layer(norm=LAYER_NORM, placement="post"),))),
    _sample("norms of the sums", Stack(layer=(_layer(norm=LAYER_NORM, placement="sum"),))),
    _sample("norms before and after", Stack(layer=(_layer(norm=RMS, placement="both"),))),
    _sample("parallel, one norm", Stack(layer=(_layer(norm=LAYER_NORM, parallel="one_norm"),))),
    _sample("parallel, two norms", Stack(layer=(_layer(norm=LAYER_NORM, parallel="two_norms"),))),
    _sample("parallel, norms after too", Stack(layer=(_layer(norm=RMS, parallel="two_norms", placement="both"),))),
    _sample("feed-forward with norms after it", Stack(layer=(_layer(norm=RMS, ffn_placement="both"),))),
    _sample("a mixer beside the attention", Stack(repeat=2, layer=(_layer(norm=RMS, beside=LOCAL),))),
    _sample(
        "experts beside attention and network",
        Stack(repeat=2, layer=(Layer(attention=MIXER, ffn=EXPERTS, ffn_beside=NETWORK, norm=RMS),)),
    ),
    _sample("two networks, no norms", Stack(layer=(_layer(ffn_beside=replace(NETWORK, d_ff=23)),))),
    _sample("no norm before the attention", Stack(layer=(_layer(norm=RMS, attention_norm=False),))),
    _sample("one gate a part", Stack(repeat=2, layer=(_layer(norm=RMS, gate="scalar"),))),
    _sample("a gate for each channel", Stack(layer=(_layer(norm=RMS, gate="channel"),))),
    _sample("scaled residuals", Stack(layer=(_layer(norm=RMS, residual_scaled=True),))),
    _sample("attention alone, feed-forward alone", Stack(layer=(Layer(attention=MIXER, norm=RMS), Layer(ffn=NETWORK)))),
    _sample("local and global", Stack(repeat=2, layer=(_layer(LOCAL, norm=RMS), _layer(norm=RMS)))),
    _sample(
        "keys and values of an earlier layer",
        Stack(layer=(_layer(LOCAL), _layer())),
        Stack(layer=(_layer(replace(LOCAL, shared_kv=True)), _layer(replace(MIXER, shared_kv=True)))),
    ),
    _sample(
        "relative positions of the first layer",
        Stack(layer=(_layer(replace(MIXER, position_bias="relative", n_buckets=8)),)),
        Stack(repeat=2, layer=(_layer(replace(MIXER, position_bias="relative")),)),
    ),
    _sample(
        "streams", Stack(repeat=2, layer=(_layer(norm=RMS, hyper=HyperConnection(n_streams=3, sinkhorn_iters=4)),))
    ),
    _sample("streams apart", Stack(layer=(_layer(norm=RMS, hyper=HyperConnection(n_streams=3, mixing=False)),))),
)
