"""Masks over the patches of an image: square windows of a grid, and the positions that become tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.algebra import Number, floor_div, modulo
from calc.fields import Natural, Positive
from calc.masks import Env, Mask
from calc.records import named_record


@named_record
class Windows(Mask):
    """A grid of patches cut into squares of w × w from its corner; a patch sees its own square, cut off at the edge.

    A row of H patches holds ⌊H/w⌋ whole squares and a rest of r = H mod w; so do the columns, and pairs multiply:
    (⌊H/w⌋·w² + r²)·(⌊W/w⌋·w² + r'²). The width W of the grid is the pass's (``Pass.width``), or stands here; without
    either all patches stand in one row.

    Source: window attention of Qwen2.5-VL, Bai et al. 2025, arXiv:2502.13923 §2.1.1.

    >>> Windows(window_side=4, grid_width=6).pairs(36, 36, {"ϰ": 4, "ϵ": 6})
    400
    """

    both_ways: ClassVar[bool] = True
    kind: Literal["windows"] = "windows"
    window_side: Positive
    grid_width: Positive | None = None

    @property
    def letters(self) -> str:  # type: ignore[override]
        """The side, and the grid's width where it is fixed."""
        return "ϰ" if self.grid_width is None else "ϰϵ"

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the product of the pairs along both sides of the grid."""
        width = env.get("ϵ", t)
        return self._along(floor_div(t, width), env) * self._along(width, env)

    def _along(self, length: Number, env: Env) -> Number:
        side = env["ϰ"]
        rest = modulo(length, side)
        return floor_div(length, side) * side * side + rest * rest


@named_record
class Merged(Mask):
    """In place of queries, what becomes of an image's positions: without the first ϖ, Ж patches to a token.

    >>> Merged(n_prefix=1, n_merged=4).queries(577, 577, {"ϖ": 1, "Ж": 4})
    144
    """

    both_ways: ClassVar[bool] = True
    kind: Literal["merged"] = "merged"
    n_prefix: Natural = 0
    n_merged: Positive | None = None

    def bind(self) -> dict[str, Number]:
        """Bind the letters of what there is."""
        bound: dict[str, Number] = {"ϖ": self.n_prefix} if self.n_prefix else {}
        return bound | ({} if self.n_merged is None else {"Ж": self.n_merged})

    def queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return ⌊(t − ϖ)/Ж⌋."""
        patches = t - env["ϖ"] if self.n_prefix else t
        return patches if self.n_merged is None else floor_div(patches, env["Ж"])

    def dense_queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return the same: no kernel computes more."""
        return self.queries(t, s, env)
