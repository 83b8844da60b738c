"""Every mask against an explicit matrix of booleans, and its three readings against each other."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from calc.errors import SpecError
from calc.grid_masks import Merged, Windows
from calc.masks import KINDS, Budget, Causal, Chunk, Full, Mask, Window, make
from calc.sparse_masks import (
    BigBird,
    Compressed,
    Local,
    Strided,
    TopK,
    TopKBlocks,
    TopKCompressed,
    optimal_stride,
)

Matrix = np.ndarray[Any, np.dtype[np.bool_]]


def causal(s: int, sees: Callable[[int, int], bool]) -> Matrix:
    return np.array([[j <= p and sees(p, j) for j in range(s)] for p in range(s)], dtype=bool).reshape(s, s)


def strided(mask: Strided, s: int) -> Matrix:
    return causal(s, lambda p, j: p - j < mask.window or j % mask.stride == 0)


def topk(mask: TopK, s: int) -> Matrix:
    picked = random.Random(s)
    chosen = [set(picked.sample(range(p + 1), min(p + 1, mask.n_selected))) for p in range(s)]
    return causal(s, lambda p, j: j in chosen[p])


def local(mask: Local, s: int) -> Matrix:
    near = [[abs(p - j) <= mask.window or min(p, j) < mask.n_global for j in range(s)] for p in range(s)]
    return np.array(near, dtype=bool).reshape(s, s)


def bigbird(mask: BigBird, s: int) -> Matrix:
    size, last = mask.block_size, (s - 1) // mask.block_size
    if s <= (5 + 2 * mask.n_random) * size:
        return np.ones((s, s), dtype=bool)
    picked = random.Random(s)
    blocks = np.zeros((last + 1, last + 1), dtype=bool)
    for row in range(last + 1):
        near = {row - 1, row, row + 1} & set(range(last + 1))
        others = sorted(set(range(1, last)) - near)
        seen = near | {0, last} | set(picked.sample(others, mask.n_random))
        blocks[row, list(range(last + 1)) if row in (0, last) else list(seen)] = True
    return np.kron(blocks, np.ones((size, size), dtype=bool))[:s, :s]


def compressed(mask: Compressed, s: int) -> Matrix:
    """Rows are positions, columns entries: entry e stands for e·stride … e·stride + block − 1."""
    block = mask.compress_block or mask.compress_stride
    entries = max(0, (s - block) // mask.compress_stride + 1)
    complete = [[e * mask.compress_stride + block <= p + 1 for e in range(entries)] for p in range(s)]
    return np.array(complete, dtype=bool).reshape(s, entries)


def topk_compressed(mask: TopKCompressed, s: int) -> Matrix:
    picked, seen = random.Random(s), compressed(mask, s)
    for row in seen:
        complete = np.flatnonzero(row)
        row[picked.sample(list(complete), max(0, len(complete) - mask.n_selected))] = False
    return seen


def topk_blocks(mask: TopKBlocks, s: int) -> Matrix:
    picked = random.Random(s)

    def chosen(p: int) -> set[int]:
        own = p // mask.block_size
        return {own} | set(picked.sample(range(own), min(own, mask.n_selected - 1)))

    blocks = [chosen(p) for p in range(s)]
    return causal(s, lambda p, j: j // mask.block_size in blocks[p])


def plain(mask: Mask, s: int) -> Matrix:
    rules: dict[str, Callable[[int, int], bool]] = {
        "causal": lambda p, j: True,
        "window": lambda p, j: p - j < mask.bind()["w"],
        "budget": lambda p, j: j < mask.bind()["σ"] + mask.bind()["χ"] or p - j < mask.bind()["w"],
        "chunk": lambda p, j: p // mask.bind()["w"] == j // mask.bind()["w"],
    }
    return np.ones((s, s), dtype=bool) if mask.kind == "full" else causal(s, rules[mask.kind])


def windows(mask: Windows, s: int) -> Matrix:
    places = [divmod(index, mask.grid_width or s) for index in range(s)]
    squares = [(row // mask.window_side, column // mask.window_side) for row, column in places]
    return np.array([[one == other for other in squares] for one in squares], dtype=bool).reshape(s, s)


MATRICES: dict[str, Callable[[Any, int], Matrix]] = {
    "strided": strided,
    "topk": topk,
    "local": local,
    "bigbird": bigbird,
    "compressed": compressed,
    "topk_compressed": topk_compressed,
    "topk_blocks": topk_blocks,
    "windows": windows,
}

SMALL = st.integers(1, 9)
MASKS: dict[str, st.SearchStrategy[Any]] = {
    "causal": st.builds(Causal),
    "full": st.builds(Full),
    "window": st.builds(Window, window=SMALL),
    "chunk": st.builds(Chunk, window=SMALL),
    "budget": st.builds(Budget, n_sinks=st.integers(0, 3), n_heavy=st.integers(0, 3), window=SMALL),
    "strided": st.builds(Strided, window=SMALL, stride=SMALL),
    "topk": st.builds(TopK, n_selected=SMALL),
    "local": st.builds(Local, window=SMALL, n_global=st.integers(0, 9)),
    "bigbird": st.builds(BigBird, block_size=st.integers(1, 4), n_random=st.integers(0, 3)),
    "compressed": st.builds(
        lambda step, more: Compressed(compress_block=None if more is None else step + more, compress_stride=step),
        SMALL,
        st.none() | st.integers(0, 9),
    ),
    "topk_compressed": st.builds(
        lambda step, more, chosen: TopKCompressed(compress_block=step + more, compress_stride=step, n_selected=chosen),
        SMALL,
        st.integers(0, 9),
        SMALL,
    ),
    "topk_blocks": st.builds(TopKBlocks, block_size=SMALL, n_selected=SMALL),
    "windows": st.builds(Windows, window_side=SMALL, grid_width=st.none() | SMALL),
}
SELECTING = ("topk", "topk_compressed", "topk_blocks")
"""Masks whose distinct keys depend on the data: ``keys`` is the most there can be, and exact for one query."""


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), s=st.integers(1, 60))
def test_counts_equal_an_explicit_matrix(kind: str, data: st.DataObject, s: int) -> None:
    mask = data.draw(MASKS[kind])
    if isinstance(mask, Windows):  # a whole grid is seen at once
        s *= mask.grid_width or 1
    t = s if isinstance(mask, Windows) else data.draw(st.integers(1, s))
    env = mask.bind()
    seen = MATRICES.get(kind, plain)(mask, s)[s - t :]
    assert mask.pairs(t, s, env) == seen.sum()
    touched = seen.any(axis=0).sum()
    if kind in SELECTING and t > 1:
        assert touched <= mask.keys(t, s, env) <= max(seen.shape[1], touched)
    else:
        assert mask.keys(t, s, env) == touched
    assert mask.dense_pairs(t, s, env) == t * seen.shape[1]
    assert mask.dense_keys(t, s, env) == seen.shape[1]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), s=st.integers(1, 40), later=st.integers(0, 12))
def test_what_later_queries_see_of_the_past_is_kept(kind: str, data: st.DataObject, s: int, later: int) -> None:
    mask = data.draw(MASKS[kind])
    seen = MATRICES.get(kind, plain)(mask, s + later + 1)
    past = MATRICES.get(kind, plain)(mask, s).shape[1]
    assert seen[s:, :past].any(axis=0).sum() <= mask.kept(s, mask.bind())


@pytest.mark.parametrize(
    "mask",
    [
        Strided(window=5, stride=3),
        TopK(n_selected=7),
        Local(window=3, n_global=2),
        BigBird(block_size=4, n_random=1),
        Compressed(compress_block=6, compress_stride=4),
        TopKCompressed(compress_stride=4, n_selected=5),
        TopKBlocks(block_size=4, n_selected=3),
        Windows(window_side=4, grid_width=7),
    ],
    ids=lambda mask: mask.kind,
)
def test_three_readings_are_equal(mask: Mask) -> None:
    env, t, s = mask.bind(), sp.Symbol("t", integer=True, positive=True), sp.Symbol("s", integer=True, positive=True)
    letters = {letter: sp.Symbol(f"l_{letter}", integer=True, nonnegative=True) for letter in env}
    numbers = {letters[letter]: value for letter, value in env.items()}
    sizes = [(1, 1), (1, 40), (7, 40), (40, 40), (64, 101)]
    ts, ss = (np.array(column, dtype=float) for column in zip(*sizes, strict=True))
    for count in ("pairs", "keys", "dense_pairs", "dense_keys"):
        whole = [getattr(mask, count)(t_, s_, env) for t_, s_ in sizes]
        formula = getattr(mask, count)(t, s, letters)
        assert [formula.subs({t: t_, s: s_, **numbers}) for t_, s_ in sizes] == whole
        assert np.broadcast_to(getattr(mask, count)(ts, ss, env), ts.shape).tolist() == whole
        assert all(isinstance(value, int) for value in whole)
    kept = mask.kept(s, letters)
    assert [kept.subs({s: s_, **numbers}) for _, s_ in sizes] == [mask.kept(s_, env) for _, s_ in sizes]


def test_the_optimal_stride_is_where_the_derivative_vanishes() -> None:
    n, stride = sp.symbols("n l", positive=True)
    window = Strided(window=1, stride=1)
    pairs = n * stride + n**2 / (2 * stride)
    exact = window.pairs(10**6, 10**6, {"w": 707, "l": 707})
    assert exact == pytest.approx(float(pairs.subs({n: 10**6, stride: 707})), rel=2e-3)
    assert sp.solve(sp.diff(pairs, stride), stride) == [optimal_stride(n)]
    assert sp.simplify(pairs.subs(stride, optimal_stride(n)) - n * sp.sqrt(2 * n)) == 0


def test_the_optimal_stride_makes_the_fewest_pairs() -> None:
    n = 2 * 64**2
    pairs = {w: Strided(window=w, stride=w).pairs(n, n, {"w": w, "l": w}) for w in (32, 48, 64, 96, 128)}
    assert optimal_stride(n) == 64
    assert min(pairs, key=lambda w: pairs[w]) == 64


@pytest.mark.parametrize(
    ("wide", "narrow"), [(Strided(window=50, stride=7), Causal()), (TopK(n_selected=50), Causal())]
)
def test_a_pattern_as_wide_as_the_context_is_the_full_one(wide: Mask, narrow: Mask) -> None:
    assert wide.pairs(50, 50, wide.bind()) == narrow.pairs(50, 50, {})
    assert wide.kept(50, wide.bind()) == 50


def test_bigbird_block_pairs_of_the_paper() -> None:
    # 64 blocks: two rows of 64, two of 4 + 3, sixty of 5 + 3 blocks
    mask = BigBird(block_size=64, n_random=3)
    assert mask.pairs(4096, 4096, mask.bind()) == (2 * 64 + 2 * 7 + 60 * 8) * 64**2


def test_a_mask_is_built_from_data() -> None:
    assert make({"kind": "strided", "window": 512, "stride": 64}) == Strided(window=512, stride=64)
    with pytest.raises(SpecError, match="compress_stride = 8 is longer than compress_block = 4"):
        make({"kind": "compressed", "compress_block": 4, "compress_stride": 8})


@given(n_prefix=st.integers(0, 3), n_merged=st.none() | SMALL, tokens=st.integers(0, 9))
def test_positions_become_tokens(n_prefix: int, n_merged: int | None, tokens: int) -> None:
    mask = Merged(n_prefix=n_prefix, n_merged=n_merged)
    positions = n_prefix + tokens * (n_merged or 1)
    assert mask.queries(positions, positions, mask.bind()) == tokens
    assert mask.dense_queries(positions, positions, mask.bind()) == tokens
