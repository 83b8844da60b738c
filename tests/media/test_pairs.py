"""Blocks of pairs against an explicit matrix."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.masks import Budget, Causal, Chunk, Full, Mask, Window
from calc.media.pairs import block, corner, located
from calc.sparse_masks import Strided, TopK

SMALL = st.integers(1, 9)
MASKS = st.one_of(st.builds(Causal), st.builds(Full), st.builds(Window, window=SMALL), st.builds(Chunk, window=SMALL))


def matrix(mask: Mask, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    query, key = np.arange(size)[:, None], np.arange(size)[None, :]
    if isinstance(mask, Full):
        return np.ones((size, size), dtype=np.bool_)
    seen = key <= query
    if isinstance(mask, Window):
        seen &= query - key < mask.window
    if isinstance(mask, Strided):
        seen &= (query - key < mask.window) | (key % mask.stride == 0)
    if isinstance(mask, Chunk):
        seen &= query // mask.window == key // mask.window
    return seen


@given(mask=MASKS, stops=st.lists(st.integers(0, 40), min_size=4, max_size=4))
def test_a_block_equals_an_explicit_matrix(mask: Mask, stops: list[int]) -> None:
    seen = matrix(mask, 40)
    queries, keys = range(*sorted(stops[:2])), range(*sorted(stops[2:]))
    expected = seen[queries.start : queries.stop, keys.start : keys.stop].sum()
    assert block(mask, queries, keys) == expected
    assert corner(mask, queries.stop, keys.stop) == seen[: queries.stop, : keys.stop].sum()


@given(mask=MASKS, cuts=st.lists(st.integers(0, 60), min_size=1, max_size=5), size=st.integers(1, 60))
def test_blocks_add_up_to_the_mask(mask: Mask, cuts: list[int], size: int) -> None:
    ends = sorted({0, size, *(cut for cut in cuts if cut < size)})
    spans = [range(start, stop) for start, stop in pairwise(ends)]
    assert sum(block(mask, one, other) for one in spans for other in spans) == mask.pairs(size, size, mask.bind())


@pytest.mark.parametrize("mask", [TopK(n_selected=4), Budget(window=3, n_sinks=2)], ids=lambda mask: mask.kind)
def test_other_masks_are_not_located(mask: Mask) -> None:
    assert not located(mask)
