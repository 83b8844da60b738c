"""What Gemma 3n and 4 add beside the parts of a layer."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.extras import AltUp, AltUpIn, AltUpOut, Extra, Laurel, LayerScale, PerLayerInput, PerLayerTable
from calc.ffn.dense import DenseFFN
from calc.masks import Window
from calc.model import Layer, Model, Stack
from calc.records import replace
from calc.validate.samples import Sample

RMS = NormSpec(kind="rms")
LAYER = Layer(
    attention=GQA(n_heads=4, n_kv_heads=2, head_dim=6, rotary_dim=6, qk_norm="rms", v_norm=True, mask=Window(window=4)),
    ffn=DenseFFN(d_ff=37, activation="gelu_tanh", gated=True),
    norm=RMS,
    placement="both",
)


def _sample(name: str, layer: tuple[Extra, ...], model: tuple[Extra, ...] = ()) -> Sample:
    spec = Model(
        name=name,
        d_model=20,
        vocab_size=29,
        embedding=Embedding(scaled=True),
        stack=(Stack(repeat=3, layer=(replace(LAYER, extra=layer),)),),
        final_norm=RMS,
        head=Head(tied=True, softcap=True),
        extra=model,
    )
    return Sample(name, spec)


TABLE = PerLayerTable(d_per_layer=5, n_fed_layers=3, per_layer_vocab=23)
INPUT = PerLayerInput(d_per_layer=5)

SAMPLES = (
    _sample("layer scale", (LayerScale(),)),
    _sample("low-rank residual", (Laurel(laurel_rank=3),)),
    _sample("vectors of each layer", (INPUT, LayerScale()), (TABLE,)),
    _sample("alternating updates", (AltUp(n_streams=3),), (AltUpIn(n_streams=3), AltUpOut(n_streams=3))),
    _sample(
        "all of Gemma 3n",
        (AltUp(n_streams=4), Laurel(laurel_rank=3), INPUT),
        (TABLE, AltUpIn(n_streams=4), AltUpOut(n_streams=4)),
    ),
)
