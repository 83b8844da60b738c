"""Pairs of queries and keys between parts of a sequence: how many of them a mask lets through.

Parts are stretches of positions. A mask says how many pairs the first Q queries have with the first K keys; a block
between two stretches is the difference of four such corners.
"""

from __future__ import annotations

from calc.algebra import Number, ceil_div, floor_div, maximum, minimum, modulo, triangle
from calc.masks import Causal, Chunk, Full, Mask, Window
from calc.sparse_masks import Strided, sum_of_floors, sum_of_minima


def located(mask: Mask) -> bool:
    """Tell whether it is known which keys a query sees, and not only how many (which depends on the data).

    >>> located(Causal())
    True
    """
    return type(mask) in (Causal, Full, Window, Chunk, Strided)


def keeps_the_last(mask: Mask) -> bool:
    """Tell whether the positions that a mask keeps are the last ones."""
    return type(mask) in (Causal, Full, Window, Chunk)


def corner(mask: Mask, queries: Number, keys: Number) -> Number:
    """Return the pairs of the first queries with the first keys of one sequence.

    Causal: Σ_{i=1..Q} min(i, K). A window leaves out what lies before it, Σ_{i=1..Q−w} min(i, K), of which a strided
    pattern keeps every ℓ-th; a chunk leaves out what lies before its start.

    >>> corner(Causal(), 4, 2), corner(Window(window=2), 4, 2), corner(Chunk(window=2), 4, 2)
    (7, 4, 3)
    """
    if isinstance(mask, Full):
        return queries * keys
    seen = sum_of_minima(queries, keys)
    if isinstance(mask, Window):
        return seen - sum_of_minima(maximum(queries - mask.window, 0), keys)
    if isinstance(mask, Strided):
        far = maximum(queries - mask.window, 0)
        return seen - sum_of_minima(far, keys) + _strided(mask.stride, far, keys)
    if isinstance(mask, Chunk):
        return seen - _before_chunks(mask.window, queries, keys)
    return seen


def _strided(stride: int, queries: Number, keys: Number) -> Number:
    """Return the pairs with every ℓ-th key: Σ_{i=1..Q} ⌈min(i, K)/ℓ⌉."""
    near = minimum(queries, keys)
    return sum_of_floors(near + stride - 1, stride) + (queries - near) * ceil_div(keys, stride)


def _before_chunks(size: int, queries: Number, keys: Number) -> Number:
    """Return the pairs of queries with keys in earlier chunks: Σ_{q<Q} min(⌊q/w⌋·w, K)."""
    chunks = floor_div(queries, size)
    # chunks that start at or before the last key, and those after it
    near = minimum(chunks, floor_div(keys, size) + 1)
    whole = size * size * triangle(near - 1) + size * (chunks - near) * keys
    return whole + modulo(queries, size) * minimum(chunks * size, keys)


def block(mask: Mask, queries: range, keys: range) -> Number:
    """Return the pairs of a stretch of queries with a stretch of keys.

    >>> block(Causal(), range(4, 6), range(0, 4)), block(Causal(), range(0, 4), range(4, 6))
    (8, 0)
    """
    corners = (
        corner(mask, queries.stop, keys.stop),
        corner(mask, queries.start, keys.stop),
        corner(mask, queries.stop, keys.start),
        corner(mask, queries.start, keys.start),
    )
    return corners[0] - corners[1] - corners[2] + corners[3]
