"""Tokens that a maker publishes for images and sound where it publishes no encoder (Gemini)."""

from __future__ import annotations

import math
from fractions import Fraction

from calc.algebra import ceil_div
from calc.fields import Positive
from calc.records import Record, named_record


@named_record
class Rates(Record):
    """What an interface counts: tokens for a tile of an image, for a frame of a clip, for a second of sound.

    An image of at most ``small_side`` pixels a side is one tile; a larger one is cut into squares of ``tile_side``.
    How it is scaled before that is not published: squares of its own pixels are counted.

    >>> Rates(tile_tokens=258, frame_tokens=258, audio_tokens_per_second=32).image(768, 1024)
    516
    """

    tile_tokens: Positive
    frame_tokens: Positive
    audio_tokens_per_second: Positive
    small_side: Positive = 384
    tile_side: Positive = 768
    source: str = ""

    def tiles(self, height: int, width: int) -> int:
        """Return the tiles of an image."""
        if max(height, width) <= self.small_side:
            return 1
        return int(ceil_div(height, self.tile_side) * ceil_div(width, self.tile_side))

    def image(self, height: int, width: int) -> int:
        """Return the tokens of an image."""
        return self.tile_tokens * self.tiles(height, width)

    def video(self, frames: int) -> int:
        """Return the tokens of so many frames; a clip's sound is counted as sound."""
        return self.frame_tokens * frames

    def audio(self, seconds: Fraction) -> int:
        """Return the tokens of a sound."""
        return math.ceil(self.audio_tokens_per_second * seconds)
