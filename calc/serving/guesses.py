"""Speculative decoding in an engine: a drafter guesses tokens, one step of the model verifies them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calc.algebra import if_at_most, maximum
from calc.errors import SpecError
from calc.kernels import kernels
from calc.layers import Block
from calc.model import Model
from calc.parallel import shard
from calc.roofline import Launch, kernel_time
from calc.serving.steps import Batch, Steps, StepTime

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
                drafter, self.accelerator, replace(self.layout, ep=1, expert_tp=None), self.engine,
                cache_dtype=options.get("cache_dtype", "bf16"), calibration=self.calibration,
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

    def time(self, batch: Batch, launch: Launch = "graph", *, overlapped: bool = False) -> StepTime:
        """Return the time of a step that verifies, and of the drafts before it."""
        found = super().time(batch, launch, overlapped=overlapped)
        draft: Any = 0.0
        if self.drafting is not None:
            draft = self.drafting.time(Batch(sequences=batch.sequences, context=batch.context)).seconds
        elif self.modules:
            now = self._pass(maximum(batch.sequences, 1), 1, batch.context, "decode")
            draft = sum(
                kernel_time(each, self.accelerator, self.calibration, launch=launch).total
                for each in kernels(self.modules, now, self.forms)
            )
        drafts = if_at_most(1e-9, batch.sequences, self.guesses * draft, 0.0)
        return replace(found, seconds=found.seconds + drafts)


def expected_tokens(acceptance: float, guesses: int) -> float:
    """Return the tokens that a step yields when each guess stands with a chance, as long as all before it do.

    Σ_{i=0..k} α^i = (1 − α^{k+1})/(1 − α). Leviathan et al. 2022, arXiv:2211.17192 §3.1.

    >>> round(expected_tokens(0.7, 3), 3)
    2.533
    """
    return sum(acceptance**power for power in range(guesses + 1))
