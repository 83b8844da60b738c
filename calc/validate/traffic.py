"""An instrument for unfused traffic: the bytes that each operation takes in and hands on, every tensor once.

What counts is what crosses the border of an operation, whatever kernels run inside it: floating-point numbers that
were there before it (activations, parameters, caches), each read once, and numbers that it made and somebody uses
later, each written once. Memory is what is counted, not its views: a key that several heads share is read once. Rows
picked from a table are read as often as they are picked. Masks, positions and indices are not counted, and views move
nothing. An operation that changes memory that it did not make is not known here; twins do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from torch import Tensor
from torch.utils._pytree import tree_leaves

from calc.reference.base import Key
from calc.validate.instrument import Instrument, memory

PICKING = frozenset(("embedding", "gather", "index", "index_select"))
"""Kernels that read of their first argument what they return."""

Marks: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


class TrafficCounter(Instrument):
    """Bytes read and written by operation; ``finish`` tells it what is used after the last operation."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[Key] = Counter()
        self.written: Counter[Key] = Counter()
        self._call = 0
        self._entered: dict[int, tuple[Marks, int]] = {}
        """What the running operation reads: marks and bytes of an element, by memory."""
        self._makers: dict[int, tuple[Key | None, int]] = {}
        """Which operation made a memory, and in which of its calls."""
        self._used: dict[int, tuple[Marks, int]] = {}
        """What is used of the memory that operations made."""
        self._alive: list[Any] = []

    def enter(self, key: Key) -> None:
        """Begin with nothing read."""
        super().enter(key)
        self._call += 1

    def leave(self, key: Key) -> None:
        """Add up what was read."""
        super().leave(key)
        self.read[key] += _bytes(self._entered.values())
        self._entered.clear()

    def finish(self, outputs: Iterable[Tensor]) -> None:
        """Hear what is used after the last operation, and add up what was written."""
        for output in outputs:
            self._take(output)
        for used, marks in self._used.items():
            maker, _ = self._makers[used]
            if maker is not None:
                self.written[maker] += _bytes([marks])

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel, and note what it takes from outside the operation and what it makes."""
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        taken = _tensors((args, kwargs))
        made = _tensors(out)
        name = function.name().partition("::")[2].partition(".")[0]
        sources = {memory(tensor) for tensor in taken}
        if made and all(memory(tensor) in sources for tensor in made) and not name.endswith("_"):
            return out  # a view
        if name in PICKING and self.running is not None and made and self._outside(args[0]):
            self.read[self.running] += made[0].numel() * made[0].element_size()
            taken = [tensor for tensor in taken if tensor is not args[0]]
        for tensor in taken:
            self._take(tensor)
        for tensor in made:
            if memory(tensor) not in sources:
                self._makers[memory(tensor)] = (self.running, self._call)
                self._alive.append(tensor.untyped_storage())
        return out

    def _outside(self, tensor: Tensor) -> bool:
        """Tell whether the running operation did not make a tensor itself."""
        return self._makers.get(memory(tensor)) != (self.running, self._call)

    def _take(self, tensor: Tensor) -> None:
        """Mark what is used of a memory: as read by the running operation, as written by its maker."""
        if not self._outside(tensor):
            return
        if self.running is not None:
            _mark(self._entered, tensor)
        if memory(tensor) in self._makers:
            _mark(self._used, tensor)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _mark(marked: dict[int, tuple[Marks, int]], tensor: Tensor) -> None:
    """Mark the elements of a memory that a tensor looks at."""
    size = tensor.element_size()
    marks, _ = marked.setdefault(
        memory(tensor), (np.zeros(tensor.untyped_storage().nbytes() // size, dtype=np.bool_), size)
    )
    as_strided(marks[tensor.storage_offset() :], tuple(tensor.shape), tensor.stride())[...] = True


def _bytes(marked: Iterable[tuple[Marks, int]]) -> int:
    return sum(int(marks.sum()) * size for marks, size in marked)
