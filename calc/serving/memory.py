"""What a device's memory goes to when a model is served, and what is left for the cache."""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number, maximum
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.layers import Block
from calc.operations import PARTS, Operation
from calc.parallel import is_expert
from calc.passes import Pass, running
from calc.records import Record, named_record
from calc.serving.engines import Engine
from calc.serving.weights import LoadedWeights

ELEMENT_BYTES = 2
"""Activations are bf16 or fp16."""


@named_record
class ServingMemory(Record):
    """Bytes of one device; they add up to ``capacity`` less what no budget gives out.

    ``peak``: activations and logits at the largest step. ``cache``: what keys, values and states may have; negative
    where the rest does not fit.
    """

    capacity: Number
    weights: LoadedWeights
    peak: Number
    overhead: Number
    graphs: Number
    cache: Number

    @property
    def beside(self) -> Number:
        """What is neither weights nor cache: activations, logits, context, graphs."""
        return self.peak + self.overhead + self.graphs


def peak_bytes(
    blocks: Iterable[Block], batched_tokens: Number, sequences: Number, vocab_size: Number, engine: Engine,
    gathered: Number = 1,
) -> Number:  # fmt: skip
    """Return the bytes that are live at once at the worst point of a step of ``batched_tokens`` tokens.

    Inside a layer: the operands and the result of its widest operation (attention keeps no scores), beside the residual
    stream and the layer's input. At its end: the logits of every sequence, gathered over ranks. The larger of the two.
    ``gathered``: ranks whose tokens come together before experts, where buffers are sized for all of them on one rank.
    """
    now = Pass(batch=1, tokens=batched_tokens, context=batched_tokens, source=0)
    widest: Number = 0
    d_model: Number = 0
    for block, operation, env in running(blocks, now):
        d_model = env["d"]
        if block.part in ("attention", "ffn") and operation.over is None and _of_tokens(operation):
            moved = operation.writes(env, True) + sum(elements for _, elements in operation.reads(env, True))
            widest = maximum(widest, moved * gathered if is_expert(operation) else moved)
    stream = 2 * batched_tokens * d_model
    inside = ELEMENT_BYTES * (widest + stream)
    logits = engine.logit_bytes * sequences * vocab_size + ELEMENT_BYTES * stream
    return maximum(inside, logits) if engine.logit_bytes else inside


def _of_tokens(operation: Operation) -> bool:
    """Tell whether an operation's result is one row per token, not a table of pairs."""
    return "t" in operation.output and "s" not in operation.output and operation.part in (None, *PARTS)


def divide(
    accelerator: Accelerator,
    engine: Engine,
    weights: LoadedWeights,
    peak: Number,
    *,
    fraction: float | None = None,
    batched_tokens: int,
    sequences: int,
    n_gpus: int = 1,
    graphs: bool = True,
) -> ServingMemory:
    """Divide a device's memory as the engine does; ``fraction`` is its memory fraction, None its default.

    Raises:
        SpecError: a fraction that is none.
    """
    if fraction is not None and not 0 < fraction <= 1:
        raise SpecError(f"memory fraction = {fraction} is not between 0 and 1")
    capacity = accelerator.capacity
    overhead = engine.overhead_bytes
    recorded = engine.graph_bytes if graphs else 0
    used = weights.total + peak + overhead
    if engine.budget == "static":
        before = capacity - overhead
        kept_out = engine.reserve(accelerator, batched_tokens, sequences, n_gpus) / capacity
        cache = before - weights.total - before * (kept_out if fraction is None else 1 - fraction)
    else:
        share = engine.memory_fraction if fraction is None else fraction
        if share is None:
            raise SpecError(f"{engine.name} states no memory_fraction: give one")
        if engine.budget == "free":
            cache = share * (capacity - used)
        else:
            cache = share * capacity - used - (recorded if engine.graphs_in_budget else 0)
    return ServingMemory(
        capacity=capacity,
        weights=weights,
        peak=peak,
        overhead=overhead,
        graphs=recorded,
        cache=cache,
    )
