"""A tower: the encoder of one kind of input beside a language model, with what turns its output into tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import field
from fractions import Fraction
from typing import Any, Literal

from calc.embedding import Embedding, NormSpec, Pooler, norm_or_none
from calc.errors import SpecError
from calc.fields import Positive
from calc.layers import Block, Stack, side_blocks
from calc.modality.attention_pool import AttentionPool
from calc.modality.patches import Patches
from calc.modality.projector import Projector
from calc.modality.resize import Grid, Resize
from calc.passes import Pass
from calc.records import Record, named_record, replace

Modality = Literal["image", "audio"]


@named_record
class Sound(Record):
    """How sound becomes frames: a window of the short-time Fourier transform every hop, read in chunks.

    A second makes 1000/hop_ms frames (Whisper: windows of 25 ms every 10 ms, 100 frames). A chunk of ``chunk_seconds``
    is read whole: what is missing is silence. ``padded``: silence becomes tokens too (Voxtral); otherwise the tokens of
    the sound alone are handed on (Qwen2-Audio). ``truncated``: only the first chunk is read, the rest is cut off
    (Qwen2-Audio). The transform itself is not counted.

    Source: Whisper, Radford et al. 2022, arXiv:2212.04356 §2.2.
    """

    window_ms: Positive = 25
    hop_ms: Positive = 10
    chunk_seconds: Positive = 30
    padded: bool = False
    truncated: bool = False

    @property
    def frames_per_second(self) -> Fraction:
        """Frames of the spectrogram that a second makes."""
        return Fraction(1000, self.hop_ms)

    def heard(self, seconds: Fraction) -> Fraction:
        """Return the seconds of a sound that are read."""
        return min(seconds, Fraction(self.chunk_seconds)) if self.truncated else seconds

    def frames(self, seconds: Fraction) -> int:
        """Return the frames of a sound."""
        return math.ceil(self.heard(seconds) * self.frames_per_second)

    def chunks(self, seconds: Fraction) -> int:
        """Return the chunks that it is read in."""
        return math.ceil(self.heard(seconds) / self.chunk_seconds)


@named_record
class Encoding(Record):
    """What a tower does for one input: ``tiles`` passes over ``positions`` each, and the tokens that come out."""

    tiles: int
    positions: int | None
    """What the layers see in each; None where no encoder is known."""
    width: int | None
    """Patches in a row; None for sound."""
    tokens: int
    markers: int = 0

    def pass_(self, times: int = 1) -> Pass:
        """Return the pass through the tower's tables for ``times`` equal inputs."""
        one = Pass.prefill(self.positions, times * self.tiles)
        return one if self.width is None else replace(one, width=self.width)


@named_record
class Tower(Record):
    """An encoder with the projector after it. The batch of its passes are tiles or chunks, the positions are patches.

    Image towers have ``patches`` and ``resize``, audio towers an ``embedding`` of frames and ``sound``. What the
    projectors hand on stands among the text's tokens. An image tower reads the frames of a video, too.

    Raises:
        SpecError: what belongs together is not there.
    """

    modality: Modality
    source: str = ""
    d_model: Positive
    patches: Patches | None = None
    embedding: Embedding = field(default_factory=Embedding)
    stack: tuple[Stack, ...]
    final_norm: NormSpec | None = None
    pooler: Pooler | None = None
    attention_pool: AttentionPool | None = None
    projector: tuple[Projector, ...] = ()
    """One makes the tokens; those with ``copies`` stand beside it."""
    resize: Resize | None = None
    sound: Sound | None = None

    def __post_init__(self) -> None:
        sees, hears = self.patches is not None and self.resize is not None, self.sound is not None
        if self.modality == "image" and not sees:
            raise SpecError("a tower of images needs patches and resize")
        if self.modality == "audio" and not (hears and self.embedding.n_mels):
            raise SpecError("a tower of audio needs sound and an embedding with n_mels")
        if not self.stack:
            raise SpecError("a tower needs at least one stack of layers")
        if len([each for each in self.projector if each.copies is None]) > 1:
            raise SpecError("a tower has one projector, and others in copies beside it")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Tower:
        """Build from trusted data."""
        values = dict(data)
        values["stack"] = tuple(Stack.build(stack) for stack in data["stack"])
        values["embedding"] = Embedding.build(data.get("embedding", {}))
        values["patches"] = Patches.build(data["patches"]) if "patches" in data else None
        values["final_norm"] = norm_or_none(data.get("final_norm"))
        values["pooler"] = Pooler.build(data["pooler"]) if "pooler" in data else None
        values["attention_pool"] = AttentionPool.build(data["attention_pool"]) if "attention_pool" in data else None
        values["projector"] = tuple(Projector.build(each) for each in data.get("projector", ()))
        values["resize"] = Resize.build(data["resize"]) if "resize" in data else None
        values["sound"] = Sound(**data["sound"]) if "sound" in data else None
        return cls(**values)

    @property
    def n_layers(self) -> int:
        """Layers of the stack."""
        return sum(stack.repeat * len(stack.layer) for stack in self.stack)

    @property
    def d_out(self) -> int:
        """Width of what it hands on."""
        return self._projector.d_out if self._projector else self.d_model

    @property
    def joins(self) -> bool:
        """Whether what it hands on stands among the text's tokens; without a projector it is compared with texts."""
        return self._projector is not None

    @property
    def _projector(self) -> Projector | None:
        return next((each for each in self.projector if each.copies is None), None)

    # ---- tables

    def blocks(self) -> list[Block]:
        """Return every distinct table once, in its place, with how often it stands."""
        found = [*side_blocks(self), *self._outlets()]
        own = {"d": self.d_model, "o": self.d_model, "v": 0}
        return [replace(block, tower=self.modality, letters={**own, **block.letters}) for block in found]

    def _outlets(self) -> Iterator[Block]:
        if self.pooler:
            yield Block.of("pooler", self.pooler)
        if self.attention_pool:
            yield Block.of("attention_pool", self.attention_pool)
        yield from projector_blocks(self.projector)

    # ---- what becomes of an input

    def image(self, height: int, width: int) -> Encoding:
        """Return what becomes of one image of height × width pixels.

        Raises:
            SpecError: it is no tower of images, or refuses such an image.
        """
        patches, resize = self._sight()
        return self._seen(resize.image(height, width, patches.patch_size))

    def video(self, frames: int, height: int, width: int) -> Encoding:
        """Return what becomes of a clip, of which ``frames`` frames are asked for."""
        patches, resize = self._sight()
        return self._seen(resize.video(resize.frames(frames), height, width, patches.patch_size))

    def audio(self, seconds: Fraction) -> Encoding:
        """Return what becomes of a sound."""
        if self.sound is None:
            raise SpecError(f"a tower of {self.modality}s hears nothing")
        chunks, each = self.sound.chunks(seconds), self.embedding.frames_per_position
        whole = self.sound.frames(Fraction(self.sound.chunk_seconds))
        positions = whole // each
        heard = chunks * whole if self.sound.padded else self.sound.frames(seconds)
        return Encoding(tiles=chunks, positions=positions, width=None, tokens=self._tokens(-(-heard // each)))

    def _sight(self) -> tuple[Patches, Resize]:
        if self.patches is None or self.resize is None:
            raise SpecError(f"a tower of {self.modality} sees nothing")
        return self.patches, self.resize

    def _seen(self, grid: Grid) -> Encoding:
        prefix = (self.patches and self.patches.n_prefix) or 0
        positions = grid.height * grid.width + prefix
        tokens = grid.tiles * self._tokens(positions) if grid.tokens is None else grid.tokens
        return Encoding(tiles=grid.tiles, positions=positions, width=grid.width, tokens=tokens, markers=grid.markers)

    def _tokens(self, positions: int) -> int:
        """Return the tokens that the projector makes of positions."""
        projector = self._projector
        if projector is None:
            return positions
        return (positions - (projector.n_prefix or 0)) // (projector.n_merged or 1)


def projector_blocks(projectors: tuple[Projector, ...]) -> Iterator[Block]:
    """Yield the tables of projectors."""
    for number, projector in enumerate(projectors, start=1):
        name = "projector" if len(projectors) == 1 else f"projector{number}"
        yield replace(Block.of(name, projector), repeat=projector.copies or 1)
