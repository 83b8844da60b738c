"""Steps of one workload in tables: a few sweeps of the kernels, then any number of batches by interpolation.

A step's parts depend on one number each: products on the tokens of both phases together, attention on the sequences or
on the prompt tokens, logits on their rows. Each part is evaluated once, as a sweep over a geometric grid, and read
between its points linearly: what a planner asks a hundred thousand times costs a few microseconds each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from calc.algebra import Number, maximum
from calc.records import Record, named_record
from calc.serving.steps import Batch, Part, PartTime, Steps, StepTime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

PER_OCTAVE = 6
"""Grid points for a factor of two."""
_Lists: TypeAlias = tuple[list[float], tuple[tuple[str, list[float]], ...], list[float]]
EVERY = 16
"""Up to here every whole number is a grid point."""


@named_record
class _Curve(Record):
    """A part of a step over a grid."""

    grid: Any
    part: PartTime
    lists: _Lists
    """The same as lists, which are read many times faster where one size is asked for."""

    @classmethod
    def of(cls, grid: Values, part: PartTime) -> _Curve:
        """Return a part's curve."""

        def listed(values: Any) -> list[float]:
            import numpy as np

            found: list[float] = np.broadcast_to(values, grid.shape).tolist()
            return found

        kinds = tuple((kind, listed(values)) for kind, values in part.by_kind.items())
        return cls(grid=grid, part=part, lists=(listed(grid), kinds, listed(part.compute_bound)))

    def at(self, size: Number, present: Number = 1.0) -> PartTime:
        """Return the part at sizes between grid points, times whether it is there."""
        if isinstance(size, (int, float)):
            return self._at_one(size, present)
        return PartTime(
            by_kind={kind: present * between(size, self.grid, values) for kind, values in self.part.by_kind.items()},
            compute_bound=present * between(size, self.grid, self.part.compute_bound),
            launches=self.part.launches,
        )

    def _at_one(self, size: float, present: Number) -> PartTime:
        """Return what ``at`` does for one size: one place in the grid is looked up for all values."""
        points, kinds, bound = self.lists
        right = bisect_right(points, size)
        if right == 0 or right == len(points) or points[right - 1] == size:
            at = max(right - 1, 0)
            by_kind = {kind: present * values[at] for kind, values in kinds}
            return PartTime(by_kind=by_kind, compute_bound=present * bound[at], launches=self.part.launches)
        left = right - 1
        over, width = size - points[left], points[right] - points[left]
        return PartTime(
            by_kind={
                kind: present * ((values[right] - values[left]) / width * over + values[left]) for kind, values in kinds
            },
            compute_bound=present * ((bound[right] - bound[left]) / width * over + bound[left]),
            launches=self.part.launches,
        )


def between(size: Number, grid: Any, values: Any) -> Number:
    """Return a tabled value between grid points."""
    import numpy as np

    found = np.interp(size, grid, np.broadcast_to(values, grid.shape))
    return float(found) if np.ndim(size) == 0 else found


class StepTable:
    """The steps of a deployment under one workload, for batches up to a size.

    ``chunked(tokens)`` says how a step that carries so many prompt tokens is made up: (prompts, tokens of each, tokens
    that each has seen at its end).
    """

    def __init__(
        self,
        steps: Steps,
        *,
        context: Number,
        width: int,
        sequences: Number,
        tokens: Number,
        chunked: Callable[[Any], tuple[Any, Any, Any]],
    ) -> None:
        self.steps, self.context, self.width, self.chunked = steps, context, width, chunked
        self.most_sequences, self.most_tokens = _top(sequences), _top(tokens)

    def with_prompts(self, chunked: Callable[[Any], tuple[Any, Any, Any]]) -> StepTable:
        """Return the table with prompts made up another way; the parts that prompts have no part in are shared."""
        found = StepTable(
            self.steps, context=self.context, width=self.width, sequences=self.most_sequences, tokens=self.most_tokens,
            chunked=chunked,
        )  # fmt: skip
        found.shared, found.decode, found.head = self.shared, self.decode, self.head
        return found

    def time(self, sequences: Number, tokens: Number = 0.0, finishing: Number = 0.0) -> StepTime:
        """Return the step of ``sequences`` that decode and ``tokens`` of prompts, of which ``finishing`` end."""
        rows = sequences * self.width + finishing
        prompts = self.chunked(maximum(tokens, 1.0))[0] * _there(tokens)
        batches = self.steps.layout.pp
        together = batches * self.steps.in_one_batch(sequences, self.width, prompts, tokens)
        parts = (
            self.shared.at(maximum(together, 1.0)),
            self.decode.at(maximum(sequences, 1.0), _there(sequences)),
            self.prompt.at(maximum(tokens, 1.0), _there(tokens)),
            self.head.at(maximum(rows, 1.0)),
        )
        return self.steps.together(parts, sequences, prompts, tokens, finishing, self.width)

    @cached_property
    def shared(self) -> _Curve:
        """What tokens of both phases share."""
        most = self.most_sequences * self.width + self.steps.layout.pp * self.most_tokens
        return self._curve("shared", most, lambda grid: Batch(sequences=grid, context=self.context))

    @cached_property
    def decode(self) -> _Curve:
        """What is done for decoding sequences alone."""
        return self._curve(
            "decode", self.most_sequences, lambda grid: Batch(sequences=grid, context=self.context, width=self.width)
        )

    @cached_property
    def prompt(self) -> _Curve:
        """What is done for prompts alone."""

        def batch(grid: Any) -> Batch:
            prompts, chunk, seen = self.chunked(grid)
            return Batch(prompts=prompts, chunk=chunk, seen=seen)

        return self._curve("prompt", self.most_tokens, batch)

    @cached_property
    def head(self) -> _Curve:
        """The logits."""
        return self._curve("head", self.most_sequences * (self.width + 1), lambda grid: Batch(sequences=grid))

    def _curve(self, part: Part, most: float, batch: Callable[[Any], Batch]) -> _Curve:
        points = grid(most)
        return _Curve.of(points, self.steps.part(part, batch(points)))


def _top(value: Number) -> float:
    return float(value.max()) if hasattr(value, "max") else float(value)


def _there(value: Number) -> Number:
    from calc.algebra import if_at_most

    return if_at_most(1e-9, value, 1.0, 0.0)


def grid(most: float) -> Values:
    """Return whole numbers from 1 to at least ``most``: every one at first, then PER_OCTAVE for a factor of two.

    >>> grid(19).tolist()[-3:]
    [16.0, 18.0, 20.0]
    """
    import numpy as np

    octaves = max(np.log2(max(most, EVERY) / EVERY), 0.0)
    further = EVERY * 2.0 ** (np.arange(1, int(np.ceil(octaves * PER_OCTAVE)) + 1) / PER_OCTAVE)
    return np.concatenate([np.arange(1.0, EVERY + 1), np.round(further)])
