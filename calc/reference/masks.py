"""Masks by their definition: which position sees which, one pair at a time. Nothing here is a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from calc.grid_masks import Windows
from calc.masks import Budget, Chunk, Mask, Window
from calc.sparse_masks import BigBird, Local, Strided

Sees = Callable[[Any, Tensor, Tensor], Tensor]
"""(mask, positions of queries [t, 1], positions of keys [1, s]) → booleans [t, s]."""


def _causal(mask: Mask, query: Tensor, key: Tensor) -> Tensor:
    return key <= query


def _full(mask: Mask, query: Tensor, key: Tensor) -> Tensor:
    return (key >= 0) & (query >= 0)


def _window(mask: Window, query: Tensor, key: Tensor) -> Tensor:
    return (key <= query) & (query - key < mask.window)


def _chunk(mask: Chunk, query: Tensor, key: Tensor) -> Tensor:
    return (key <= query) & (key // mask.window == query // mask.window)


def _budget(mask: Budget, query: Tensor, key: Tensor) -> Tensor:
    # which positions are heavy depends on the data; any choice has as many, and the earliest are never dropped again
    lasting = key < mask.n_sinks + mask.n_heavy
    return (key <= query) & (lasting | (query - key < mask.window))


def _strided(mask: Strided, query: Tensor, key: Tensor) -> Tensor:
    return (key <= query) & ((query - key < mask.window) | (key % mask.stride == 0))


def _local(mask: Local, query: Tensor, key: Tensor) -> Tensor:
    return ((query - key).abs() <= mask.window) | (torch.minimum(query, key) < mask.n_global)


def _bigbird(mask: BigBird, query: Tensor, key: Tensor) -> Tensor:
    size, last = mask.block_size, int(key.max()) // mask.block_size
    if int(key.max()) < (5 + 2 * mask.n_random) * size:
        return _full(mask, query, key)
    row, column = query // size, key // size
    edges = (row == 0) | (row == last) | (column == 0) | (column == last)
    # which blocks are random is a choice made once; the first ones that the window does not hold are as good as any
    others = torch.arange(1, last, device=key.device)
    free = (others - row).abs() > 1
    nth = free.cumsum(1).masked_fill(~free, 0)
    chosen = torch.where((nth > 0) & (nth <= mask.n_random), others, -1)
    return edges | ((row - column).abs() <= 1) | (column[..., None] == chosen[:, None]).any(-1)


def _windows(mask: Windows, query: Tensor, key: Tensor) -> Tensor:
    # without a width of its own, all patches stand in one row
    width, side = mask.grid_width or int(key.max()) + 1, mask.window_side
    rows = query // width // side == key // width // side
    return rows & (query % width // side == key % width // side)


VISIBLE: dict[str, Sees] = {
    "causal": _causal, "full": _full, "window": _window, "chunk": _chunk, "budget": _budget, "strided": _strided,
    "local": _local, "bigbird": _bigbird, "windows": _windows,
}  # fmt: skip


def visible(mask: Mask, queries: Tensor, keys: Tensor) -> Tensor:
    """Return booleans [t, s]: whether the query at a position sees the key at a position."""
    return VISIBLE[mask.kind](mask, queries[:, None], keys[None, :])


def kept(mask: Mask, positions: int) -> Tensor:
    """Return the positions that a cache holds after ``positions`` positions: what the last query and later ones see.

    The next query may need one position less than the last one saw; implementations join, attend and then drop.
    """
    past = torch.arange(positions)
    if not positions:
        return past
    if isinstance(mask, Chunk):  # implementations keep the last w positions, as with a window
        return past[-mask.window :]
    # the next 256 queries stand for all later ones, at the small sizes that twins run with
    later = torch.arange(positions - 1, positions + 256)
    return past[visible(mask, later, past).any(0)]
