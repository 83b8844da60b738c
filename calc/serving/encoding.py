"""The towers of a served model: their weights on a rank, and the time for what stands in a prompt beside its text.

A tower is divided among the ranks of tensor parallelism as the language model is, with an all-reduce after every layer:
the default of vLLM (``mm_encoder_tp_mode = "weights"``, vllm.config.multimodal) and of SGLang
(docs.sglang.io/advanced_features/dp_for_multi_modal_encoder). Where its heads or widths do not divide, every rank does
all of it. Of a pipeline the first stage has it. Its weights are not quantised: schemes for serving leave towers out.
"""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number, maximum
from calc.errors import CalcError
from calc.hardware import Accelerator
from calc.kernels import kernels
from calc.layers import Block
from calc.media.shares import Input
from calc.modality.tower import Tower
from calc.model import Model
from calc.network import collective_time
from calc.parallel import Layout, check, collectives, shard
from calc.roofline import kernel_time
from calc.schemes import stored_bytes, weight_forms
from calc.serving.engines import Engine
from calc.serving.memory import peak_bytes
from calc.towers import as_model
from calc.units import dtype

FORM = "bf16"


def tower_bytes(model: Model, layout: Layout) -> Number:
    """Return the weights of a model's towers on a rank that has them."""
    total: Number = 0
    for tower in model.tower:
        blocks = _ranked(model, tower, layout)
        total = total + stored_bytes(blocks, weight_forms(FORM, blocks))
    return total


def encoding_s(
    model: Model, inputs: Iterable[Input], accelerator: Accelerator, layout: Layout, engine: Engine
) -> float:
    """Return the seconds that a rank spends on the images and sound of one prompt: kernels, and collectives."""
    seconds = 0.0
    for one in inputs:
        if one.tower is None:
            continue
        own, pass_ = _divided(model, one.tower, layout), one.each.pass_(one.count)
        forms = dict.fromkeys(("weight", "activation", "cache"), dtype(FORM))
        found = kernels(shard(one.tower.blocks(), own), pass_, forms)
        seconds += sum(float(kernel_time(kernel, accelerator).total) for kernel in found)
        calls = collectives(as_model(model, one.tower, one.each), own, pass_)
        seconds += sum(float(collective_time(call, accelerator, library=engine.all_reduce)) for call in calls)
    return seconds


def encoding_peak(model: Model, inputs: Iterable[Input], layout: Layout, engine: Engine) -> Number:
    """Return the bytes that are live at once at the worst point of reading one prompt's largest input."""
    most: Number = 0
    for one in inputs:
        if one.tower is not None and one.each.positions:
            positions = one.each.tiles * one.each.positions
            most = maximum(most, peak_bytes(_ranked(model, one.tower, layout), positions, 0, 0, engine))
    return most


def _ranked(model: Model, tower: Tower, layout: Layout) -> list[Block]:
    return shard(tower.blocks(), _divided(model, tower, layout))


def _divided(model: Model, tower: Tower, layout: Layout) -> Layout:
    """Return the degree at which a tower is divided: the language model's, or 1 where it does not divide."""
    wanted = Layout(tp=layout.tp)
    try:
        check(as_model(model, tower, None), wanted)
    except CalcError:
        return Layout()
    return wanted
