"""Selective caching: a model that keeps a budget of positions where it kept them all."""

from __future__ import annotations

from typing import Any

from calc.masks import Budget
from calc.model import Layer, Model
from calc.records import replace


def with_budget(model: Model, recent: int, sinks: int = 0, heavy: int = 0) -> Model:
    """Return the model with every causal attention limited to a budget of cached positions.

    Windows, chunks, latents' widths and recurrent states stay as they are. The figures are those of ``masks.Budget``:
    min(s, sinks + heavy + recent) positions kept and read at a step.

    >>> import calc
    >>> model = with_budget(calc.load("llama-3-8b"), recent=1020, sinks=4)
    >>> model.cache(context=8192).bytes == calc.load("llama-3-8b").cache(context=1024).bytes
    True
    """
    budget = Budget(n_sinks=sinks, n_heavy=heavy, window=recent)
    stacks = tuple(
        replace(stack, layer=tuple(_limited(layer, budget) for layer in stack.layer)) for stack in model.stack
    )
    return replace(model, stack=stacks)


def _limited(layer: Layer, budget: Budget) -> Layer:
    attention: Any = layer.attention
    mask = getattr(attention, "mask", None)
    if mask is None or mask.kind != "causal":
        return layer
    return replace(layer, attention=replace(attention, mask=budget))
