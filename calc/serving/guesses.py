"""Speculative decoding in an engine: a drafter guesses tokens, one step of the model verifies them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from calc.algebra import Number, if_at_most, maximum
from calc.errors import SpecError
from calc.kernels import kernels
from calc.layers import Block
from calc.model import Model
from calc.parallel import Layout, shard
from calc.records import Record, named_record, replace
from calc.roofline import kernel_time
from calc.schemes import Forms, stored_bytes, weight_forms
from calc.serving.steps import Batch, Steps
from calc.serving.tables import between, grid
from calc.serving.weights import rank_blocks, served_form

DRAFT_CONTEXT = 2048
"""Context at which drafting is timed: a drafter is small, and its attention a small part of it."""
MOST_SEQUENCES = 2**14
"""Of a batch that drafts."""
FREE = "ngram"
"""A drafter that looks guesses up in the text so far."""


class GuessingSteps(Steps):
    """Steps of a deployment that first drafts ``guesses`` tokens for every sequence, one after the other.

    ``drafter``: ``mtp`` for the model's own prediction modules, a small model that runs on the same layout, or
    ``ngram``, which costs nothing on the device.

    Raises:
        SpecError: no guesses, or a model without prediction modules.
    """

    def __init__(self, *args: Any, guesses: int, drafter: str | Model = "mtp", **options: Any) -> None:
        super().__init__(*args, **options)
        if guesses < 1:
            raise SpecError(f"guesses = {guesses}: speculative decoding needs one or more")
        self.guesses = guesses
        self.drafting: Steps | None = None
        self.modules: list[Block] = []
        if isinstance(drafter, Model):
            self.drafting = Steps(
                drafter, self.accelerator, _on_ranks(self.layout), self.engine,
                cache_dtype=options.get("cache_dtype", "bf16"),
            )  # fmt: skip
        elif drafter == "mtp":
            self.modules = self._own_modules()
        elif drafter != FREE:
            raise SpecError(f"drafter = {drafter!r} is neither a model, 'mtp' nor 'ngram'")

    def _own_modules(self) -> list[Block]:
        """Return the tables of one prediction module, with the head that it shares, on one rank."""
        if self.model.mtp is None:
            raise SpecError(f"{self.model.name} has no prediction modules: name a drafter (a model, or ngram)")
        head = [block for block in self.model.blocks() if block.part == "head"]
        blocks = [replace(block, repeat=block.repeat // self.model.mtp.modules) for block in self.model.mtp_blocks()]
        return shard([*blocks, *head], self.layout)

    def drafting_s(self, sequences: Number, width: int) -> Number:
        """Return the time of the drafts before a step that verifies them."""
        if self.drafting is None and not self.modules:
            return 0.0
        points, seconds = self._drafts
        return if_at_most(1e-9, sequences, self.guesses * between(maximum(sequences, 1.0), points, seconds), 0.0)

    @cached_property
    def _drafts(self) -> tuple[Any, Any]:
        """The time of one draft, over a grid of sequences."""
        points = grid(MOST_SEQUENCES)
        if self.drafting is not None:
            return points, self.drafting.time(Batch(sequences=points, context=DRAFT_CONTEXT)).seconds
        now = self._pass(points, 1, DRAFT_CONTEXT, "decode")
        found = kernels(self.modules, now, self.forms)
        return points, sum(kernel_time(each, self.accelerator).total for each in found)


@named_record
class Drafter(Record):
    """What guesses tokens on a rank: its tables, and the format of its weights."""

    blocks: tuple[Block, ...] = ()
    forms: Forms | None = None

    @classmethod
    def of(cls, model: Model, layout: Layout, drafter: str | Model, weights_dtype: str | None = None) -> Drafter:
        """Return a model of its own, or the model's prediction modules, which share its table and head; or nothing."""
        if isinstance(drafter, Model):
            [blocks] = rank_blocks(drafter, _on_ranks(layout))
            return cls(blocks=tuple(blocks), forms=weight_forms(served_form(drafter), drafter.blocks()))
        if drafter == FREE or model.mtp is None:
            return cls()
        every = [*model.blocks(), *model.mtp_blocks()]
        blocks = shard(model.mtp_blocks(), layout)
        return cls(blocks=tuple(blocks), forms=weight_forms(weights_dtype or served_form(model), every))

    @property
    def weight_bytes(self) -> Number:
        """Weights on a rank."""
        return 0 if self.forms is None else stored_bytes(self.blocks, self.forms)


def _on_ranks(layout: Layout) -> Layout:
    """Return the layout of a drafter that lies on the ranks of the model's tensor parallelism."""
    return Layout(tp=layout.tp)
