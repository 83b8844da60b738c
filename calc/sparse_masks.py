"""Sparse patterns: strided, selected, block-sparse, and masks over compressed entries in place of positions.

Every count is a closed form; the tests compare each with an explicit matrix of booleans.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.algebra import (
    Number,
    ceil_div,
    floor_div,
    if_at_most,
    maximum,
    minimum,
    modulo,
    square_root,
    triangle,
)
from calc.errors import SpecError
from calc.fields import Natural, Positive
from calc.masks import Env, Mask
from calc.records import named_record


def sum_of_minima(n: Number, cap: Number) -> Number:
    """Return Σ_{i=1..n} min(i, cap).

    >>> sum_of_minima(5, 3)
    12
    """
    below = minimum(n, cap)
    return triangle(below) + cap * (n - below)


def sum_of_floors(n: Number, step: Number) -> Number:
    """Return Σ_{i=1..n} ⌊i / step⌋.

    >>> sum_of_floors(7, 3)
    7
    """
    whole = floor_div(n, step)
    return step * triangle(whole - 1) + whole * (modulo(n, step) + 1)


def optimal_stride(n: Number) -> Number:
    """Return the stride ℓ that makes a strided pattern with a window of ℓ cheapest for n positions: √(n/2).

    About n·w + n²/(2ℓ) pairs are visible; with w = ℓ the derivative n − n²/(2ℓ²) is zero at ℓ = √(n/2), and
    n·√(2n) pairs are left: O(n√n).

    >>> optimal_stride(32768)
    128.0
    """
    return square_root(2 * n) / 2


@named_record
class Strided(Mask):
    """A local window of w and every ℓ-th position of the whole past: positions 0, ℓ, 2ℓ, … (a global stride).

    A query at position p (from 0) sees min(p + 1, w) positions of its window and, before it, ⌈(p − w + 1)/ℓ⌉ global
    ones; a global position inside the window counts once. The first n positions see
    Σ min(i, w) + Σ_{x=1..n−w} ⌈x/ℓ⌉ pairs, O(n√n) at ℓ = w = √(n/2) (``optimal_stride``).

    The pattern of Child et al. 2019, arXiv:1904.10509 §4.3, with the summary position at the start of each stride.

    >>> Strided(window=3, stride=4).pairs(9, 9, {"w": 3, "l": 4})
    32
    """

    letters: ClassVar[str] = "wl"
    kind: Literal["strided"] = "strided"
    window: Positive
    stride: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ min(i, w) and the global positions before each window."""
        far = maximum(n - env["w"], 0)
        whole, rest = floor_div(far, env["l"]), modulo(far, env["l"])
        return sum_of_minima(n, env["w"]) + env["l"] * triangle(whole) + rest * (whole + 1)

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return min(s, w + t − 1) and the global positions before them."""
        near = minimum(s, env["w"] + t - 1)
        return near + ceil_div(s - near, env["l"])

    def kept(self, s: Number, env: Env) -> Number:
        """Return the window and the global positions before it."""
        return self.keys(1, s, env)

    def period(self, env: Env) -> Number:
        """Return the stride."""
        return env["l"]


@named_record
class TopK(Mask):
    """Of the positions so far, the k that an indexer scores highest: Σ min(i, k) pairs (DeepSeek sparse attention).

    Every position must stay cached, since a later query may select it. ``keys``: t queries select at most t·k distinct
    positions of s; one query exactly min(s, k).

    Source: DeepSeek-AI 2025, DeepSeek-V3.2, arXiv:2512.02556 §2.1.

    >>> mask = TopK(n_selected=3)
    >>> mask.pairs(5, 5, {"J": 3}), mask.keys(1, 9, {"J": 3}), mask.kept(9, {"J": 3})
    (12, 3, 9)
    """

    letters: ClassVar[str] = "J"
    kind: Literal["topk"] = "topk"
    n_selected: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} min(i, k)."""
        return sum_of_minima(n, env["J"])

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return min(s, t·k), the most that can be selected."""
        return minimum(s, t * env["J"])


@named_record
class Local(Mask):
    """A position sees w positions on each side of it, and some first positions see and are seen by all.

    Longformer's pattern (its ``attention_window`` is 2·w); without global positions, the local layers of ModernBERT.
    With u = min(n_glob, n): pairs = 2·u·n − u² + Σ over the rest of the band, 2·w + 1 wide.

    Source: Beltagy et al. 2020, arXiv:2004.05150 §3.1.

    >>> Local(window=1).pairs(5, 5, {"w": 1, "U": 0}), Local(window=1, n_global=1).pairs(5, 5, {"w": 1, "U": 1})
    (13, 19)
    """

    letters: ClassVar[str] = "wU"
    both_ways: ClassVar[bool] = True
    kind: Literal["local"] = "local"
    window: Positive
    n_global: Natural = 0

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the rows of global queries, the global columns of the others, and their band."""
        width, first = env["w"], minimum(env["U"], s)
        all_seeing = minimum(maximum(first - (s - t), 0), t)
        rows, columns = t - all_seeing, s - first
        back = sum_of_minima(columns - 1, width) - sum_of_minima(columns - rows - 1, width)
        ahead = sum_of_minima(rows - 1, width)
        return all_seeing * s + rows * (first + 1) + back + ahead

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the band that the t last positions reach and the global positions; all of them for a global query."""
        first = minimum(env["U"], s)
        near = minimum(s, t + env["w"])
        return if_at_most(first, s - t, minimum(s, near + first), s)


@named_record
class BigBird(Mask):
    """Blocks of B positions: a window of three blocks, the first and the last block global, and r random blocks.

    The first and the last block of queries see all; the second and the last but one 4 + r blocks, the others 5 + r.
    Up to (5 + 2·r)·B positions the pattern would be as dear as full attention, which takes its place.

    Source: Zaheer et al. 2020, arXiv:2007.14062 §2 and appendix D; ``BigBirdBlockSparseAttention`` of transformers.

    >>> BigBird(block_size=64, n_random=3).pairs(4096, 4096, {"Z": 64, "M": 3}) // 64**2
    622
    """

    letters: ClassVar[str] = "ZM"
    both_ways: ClassVar[bool] = True
    kind: Literal["bigbird"] = "bigbird"
    block_size: Positive
    n_random: Natural = 3

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the rows of each kind of block, from the last to the first, times the positions that they see."""
        size, extra = env["Z"], env["M"]
        last = modulo(s - 1, size) + 1
        blocks = ceil_div(s, size)
        narrow, wide = (3 + extra) * size + last, (4 + extra) * size + last
        found: Number = 0
        left = t
        for rows, sees in ((last, s), (size, narrow), ((blocks - 4) * size, wide), (size, narrow), (size, s)):
            taken = minimum(left, rows)
            found, left = found + taken * sees, left - taken
        return if_at_most(s, (5 + 2 * extra) * size, t * s, found)


@named_record
class Entries(Mask):
    """Base of the masks over compressed entries: one begins every m positions and stands for l of them.

    In einsums over such a mask the letter ``s`` is an entry. An entry is complete, and visible, when its last position
    is: after n positions there are ⌊(n − l)/m⌋ + 1. Without ``compress_block`` entries stand side by side, l = m.

    Raises:
        SpecError: a stride longer than the block.
    """

    letters: ClassVar[str] = "D"
    compress_block: Positive | None = None
    compress_stride: Positive

    def __post_init__(self) -> None:
        if self.compress_block is not None and self.compress_stride > self.compress_block:
            raise SpecError(
                f"compress_stride = {self.compress_stride} is longer than compress_block = {self.compress_block}"
            )

    def bind(self) -> dict[str, Number]:
        """Bind the letters; that of the block only where it is not the stride."""
        return super().bind() | ({} if self.compress_block is None else {"C": self.compress_block})

    def started(self, n: Number, env: Env) -> Number:
        """Return the positions of n that count: an entry is complete l − m positions after its stride."""
        return n if self.compress_block is None else maximum(n - (env["C"] - env["D"]), 0)

    def dense_pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return t times the entries: eager code masks what a query does not see."""
        return t * self.kept(s, env)

    def dense_keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the entries."""
        return self.kept(s, env)

    def kept(self, s: Number, env: Env) -> Number:
        """Return the entries that are complete after s positions."""
        return floor_div(self.started(s, env), env["D"])

    def period(self, env: Env) -> Number:
        """Return the positions from one entry to the next."""
        return env["D"]


@named_record
class Compressed(Entries):
    """All compressed entries that are complete: Σ (⌊(i − l)/m⌋ + 1) pairs.

    Source: Yuan et al. 2025 (native sparse attention), arXiv:2502.11089 eq. 7; the compressors of DeepSeek-V4, l = m.

    >>> Compressed(compress_block=4, compress_stride=2).pairs(8, 8, {"C": 4, "D": 2})
    9
    """

    kind: Literal["compressed"] = "compressed"

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} (⌊(i − l)/m⌋ + 1)."""
        return sum_of_floors(self.started(n, env), env["D"])

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the entries that are complete after s positions."""
        return self.kept(s, env)


@named_record
class TopKCompressed(Entries):
    """Of the compressed entries that are complete, the k that an indexer scores highest (DeepSeek-V4's CSA).

    >>> TopKCompressed(compress_stride=2, n_selected=2).pairs(8, 8, {"D": 2, "J": 2})
    12
    """

    letters: ClassVar[str] = "DJ"
    kind: Literal["topk_compressed"] = "topk_compressed"
    n_selected: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} min(k, entries complete after i)."""
        started = self.started(n, env)
        below = minimum(started, env["J"] * env["D"])
        return sum_of_floors(below, env["D"]) + env["J"] * (started - below)

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the most that t queries can select."""
        return minimum(self.kept(s, env), t * env["J"])


@named_record
class TopKBlocks(Mask):
    """Of the blocks of B positions so far, the k that score highest, the query's own always among them.

    A query that ends i positions sees all of them while they fill at most k blocks, then (k − 1)·B and those of its own
    block up to itself.

    Source: Yuan et al. 2025 (native sparse attention), arXiv:2502.11089 §3.3.2.

    >>> TopKBlocks(block_size=2, n_selected=2).pairs(6, 6, {"Z": 2, "J": 2})
    17
    """

    letters: ClassVar[str] = "ZJ"
    kind: Literal["topk_blocks"] = "topk_blocks"
    block_size: Positive
    n_selected: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ i while the blocks last, then the selected ones and the query's own."""
        size, chosen = env["Z"], env["J"]
        below = minimum(n, size * chosen)
        past = n - below
        own = floor_div(past, size) * triangle(size) + triangle(modulo(past, size))
        return triangle(below) + past * (chosen - 1) * size + own

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the most that t queries can select: s, or what the last one sees and k blocks for each other."""
        return minimum(s, self.pairs(1, s, env) + (t - 1) * env["J"] * env["Z"])
