"""Weight bytes as an engine loads them on one rank: its share of every tensor, and the copies and tables it adds."""

from __future__ import annotations

from collections.abc import Iterable

from calc.algebra import Number, ceil_div, product
from calc.layers import Block
from calc.model import Model
from calc.parallel import Layout, is_expert, shard, stages
from calc.records import Record, named_record, replace
from calc.schemes import Forms, stored_bytes
from calc.serving.engines import Engine
from calc.units import dtype


@named_record
class LoadedWeights(Record):
    """Bytes on one rank.

    ``stored``: the checkpoint's tensors as divided. ``tables``: rotary angles, which logs of some engines count as
    weights. ``copies``: matrices kept a second time in another form. ``towers``: encoders of images and sound.
    ``drafter``: what guesses tokens ahead.
    """

    stored: Number
    tables: Number = 0
    copies: Number = 0
    towers: Number = 0
    drafter: Number = 0

    @property
    def total(self) -> Number:
        """All of it."""
        return self.stored + self.tables + self.copies + self.towers + self.drafter


def served_form(model: Model) -> str:
    """Return the format that engines load weights in where none is asked for: the published one, of 32 bits 16.

    vLLM's ``--dtype auto`` takes 16 bits for models in FP32 (docs.vllm.ai, engine arguments).
    """
    return "bf16" if model.weights_dtype == "fp32" else model.weights_dtype


def rank_blocks(model: Model, layout: Layout) -> list[list[Block]]:
    """Return the tables of one rank of every pipeline stage."""
    return [shard(stage, layout) for stage in stages(model, layout)]


def loaded(
    blocks: Iterable[Block],
    forms: Forms,
    engine: Engine,
    max_context: int | None,
    *,
    without_experts: bool = False,
) -> LoadedWeights:
    """Return what a rank with these tables holds in weights.

    ``max_context`` is the rows of the rotary table (the model's longest context), in 16 bits. An engine that absorbs
    the up-projections of latent attention keeps the products' matrices beside the stored ones, in 16 bits.
    """
    blocks = list(blocks)
    if without_experts:
        blocks = [
            replace(block, operations=tuple(op for op in block.operations if not is_expert(op))) for block in blocks
        ]
    stored = stored_bytes(_padded(blocks, forms, engine), forms)
    tables: Number = 0
    if engine.rotary_table and max_context:
        tables = 2 * max_context * sum(_rotary_widths(blocks))
    copies = _absorbed(blocks) if engine.absorbed_copies else 0
    return LoadedWeights(stored=stored, tables=tables, copies=copies)


def _padded(blocks: list[Block], forms: Forms, engine: Engine) -> list[Block]:
    """Return the tables with the experts' dimensions as the engine pads them, where MXFP4 weights are loaded."""
    if "mxfp4" not in forms.name or engine.mxfp4_width_multiple == engine.mxfp4_model_multiple == 1:
        return blocks
    multiples = {"x": engine.mxfp4_width_multiple, "d": engine.mxfp4_model_multiple}

    def padded(block: Block) -> Block:
        letters = {
            x: ceil_div(n, multiples[x]) * multiples[x] if x in multiples else n for x, n in block.letters.items()
        }
        return replace(block, letters=letters) if "x" in block.letters and "e" in block.letters else block

    return [padded(block) for block in blocks]


def _rotary_widths(blocks: Iterable[Block]) -> list[int]:
    """Return the width of every distinct rotary table: layers of another reach have another base."""
    found = {
        (block.letters["r"], block.letters.get("w", 0))
        for block in blocks
        if any(operation.name.endswith("_rotary") and "r" in operation.output for operation in block.operations)
    }
    return [width for width, _ in found]


def _absorbed(blocks: Iterable[Block]) -> Number:
    """Return the bytes of matrices that a decode step multiplies by in another form than a prompt does."""
    total: Number = 0
    for block in blocks:
        tied = [op for op in block.operations if op.phase == "decode" and getattr(op, "tied", False)]
        elements = sum(product(block.letters[x] for x in weight.dims) for op in tied for weight in op.weights)
        total = total + block.repeat * dtype("bf16").bytes(elements)
    return total
