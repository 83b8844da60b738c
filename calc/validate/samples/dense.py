"""The feed-forward network with every activation, plain and gated, with and without biases."""

from __future__ import annotations

from typing import get_args

from calc.activations import Activation
from calc.ffn.dense import DenseFFN
from calc.validate.samples import Sample

SAMPLES = (
    *(
        Sample(
            f"{activation}{', gated' if gated else ''}{', biases' if bias else ''}",
            DenseFFN(d_ff=37, activation=activation, gated=gated, bias=bias),
            context=5,
            steps=1,
        )
        for index, activation in enumerate(get_args(Activation))
        for gated, bias in (((False, True), (True, False)) if index % 2 else ((False, False), (True, True)))
    ),
    Sample("stored scalars", DenseFFN(d_ff=37, activation="xielu", n_scalars=4), context=5, steps=1),
    Sample(
        "bias of the last projection",
        DenseFFN(d_ff=37, activation="silu", gated=True, down_bias=True),
        context=5,
        steps=1,
    ),
    Sample("biases but of the last projection", DenseFFN(d_ff=37, bias=True, down_bias=False), context=5, steps=1),
    Sample("inner norm", DenseFFN(d_ff=37, activation="relu2", gated=True, inner_norm="rms"), context=5, steps=1),
)
