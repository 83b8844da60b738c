"""What generating costs: a prompt, then token after token; and models that end in a number instead of a vocabulary.

Everything is read off the tables: the decode steps of a whole generation are one numpy sweep over their contexts.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from calc.errors import SpecError
from calc.layers import Block
from calc.model import Model, Pass, flops_by_operation
from calc.operations import Counts, Einsum
from calc.records import replace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST: Final = 2**22
"""Tokens of one generation that are swept; no model states a longer context."""


def check_writes(model: Model) -> None:
    """Refuse a model that writes no tokens one after the other.

    Raises:
        SpecError: an encoder.
    """
    masks = [operation.over for block in model.blocks() for operation in block.operations if operation.over is not None]
    if model.head is None or any(mask.both_ways for mask in masks):
        raise SpecError(f"{model.name} is an encoder: it writes no tokens one after the other")


PADDED: Final = 0.01
"""Share of a vocabulary by which models of one tokenizer differ: some pad it to a multiple."""


def other_tokens(model: Model, drafter: Model) -> tuple[str, ...]:
    """Return the note that a drafter's tokens cannot be the model's own; none where they may be.

    >>> import calc
    >>> other_tokens(calc.load("llama-3-70b"), calc.load("llama-3.2-1b"))
    ()
    """
    if abs(drafter.vocab_size / model.vocab_size - 1) <= PADDED:
        return ()
    return (
        f"{drafter.name} writes tokens of a vocabulary of {drafter.vocab_size:,}, {model.name} of one of "
        f"{model.vocab_size:,}: a guess is checked token by token, which takes one tokenizer",
    )


def scored(model: Model, each: Literal["sequence", "token"]) -> list[Block]:
    """Return a model's tables with one number in place of its vocabulary: a reward for a sequence, a value for a token.

    Parameters: d more, head and pooler less. Matmul FLOPs: 2·d for each sequence or token.
    Source: Ouyang et al. 2022, arXiv:2203.02155 §3.5 (the unembedding layer removed, a projection to a scalar).

    >>> import calc
    >>> from calc.model import parameters
    >>> parameters(scored(calc.load("llama-3-8b"), "token")).total
    7504928768
    """
    rows = "bt" if each == "token" else "b"
    end = Einsum("value", f"{rows}d,dν->{rows}ν", weight="dν")
    letters = {"d": model.d_model, "o": model.d_model, "v": model.vocab_size, "ν": 1}
    kept = replace(model, head=None, pooler=None).blocks()
    return [*kept, Block(name="value", part="head", operations=(end,), letters=letters)]


class Generation:
    """The decode steps of one sequence from a prompt on: FLOPs of any stretch of new tokens, each passed once."""

    def __init__(self, model: Model, prompt: int, longest: int, counts: Counts = "matmul") -> None:
        if prompt < 1 or longest < 0:
            raise SpecError(f"a prompt of {prompt:,} and {longest:,} new tokens: both must be there")
        if prompt + longest > LONGEST:
            raise SpecError(f"{prompt + longest:,} tokens in one sequence are more than {LONGEST:,}")
        self.model, self.prompt, self.longest, self.counts = model, prompt, longest, counts

    @cached_property
    def prefill(self) -> int:
        """FLOPs of the prompt, with the logits of every position."""
        return int(self.model.flops(Pass.prefill(self.prompt), self.counts))

    @cached_property
    def _upto(self) -> NDArray[np.float64]:
        """FLOPs of the first n decode steps, for n from 0 on."""
        import numpy as np

        contexts = np.arange(self.prompt + 1, self.prompt + self.longest + 1, dtype=np.float64)
        pass_ = Pass.decode(contexts, source=np.float64(self.prompt))
        steps = sum(flops_by_operation(self.model.blocks(), pass_, self.counts).values())
        return np.concatenate([[0.0], np.cumsum(np.broadcast_to(steps, contexts.shape))])

    def between(self, first: int, last: int) -> float:
        """Return the FLOPs of the new tokens after ``first`` up to ``last``, counted from the prompt's end."""
        return float(self._upto[last] - self._upto[first])
