"""What is put into a prompt, as people write it: ``3@1024x768``, ``60s``, ``60s@1fps@1280x720``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from calc.checks import whole
from calc.errors import SpecError, shortened
from calc.fields import LARGEST
from calc.records import Record, named_record

LONGEST_SIDE: Final = 100_000
MOST: Final = 1_000_000
"""Images or recordings of one kind."""
LONGEST: Final = 30 * 24 * 3600
"""Seconds of one recording."""
MOST_FRAMES: Final = 1_000

_SIZE: Final = re.compile(r"(\d+)[x×](\d+)")
_NUMBER: Final = r"\d+(?:\.\d+)?"
_RATE: Final = re.compile(rf"({_NUMBER})fps")
_TIME: Final = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m(?:in)?)?(?:({_NUMBER})s)?")


@named_record
class Picture(Record):
    """So many images of one size, in pixels; without a size where the tower resizes them to its own."""

    text: str
    count: int = 1
    width: int | None = None
    height: int | None = None


@named_record
class Recording(Record):
    """So many recordings of one length."""

    text: str
    count: int = 1
    seconds: Fraction


@named_record
class Clip(Record):
    """So many clips of one length, from which ``fps`` frames a second are taken."""

    text: str
    count: int = 1
    seconds: Fraction
    fps: Fraction
    width: int | None = None
    height: int | None = None


@named_record
class Asked(Record):
    """Everything that stands in a prompt beside its text, and the tokens of that."""

    images: tuple[Picture, ...] = ()
    audio: tuple[Recording, ...] = ()
    video: tuple[Clip, ...] = ()
    text: int | None = None

    @property
    def anything(self) -> bool:
        """Whether there is anything beside the text."""
        return bool(self.images or self.audio or self.video)


def read(
    images: str | None = None, audio: str | None = None, video: str | None = None, text: int | None = None
) -> Asked:
    """Read what is put into a prompt; several of a kind are separated by commas.

    Raises:
        SpecError: what cannot be read, and how it is written.

    >>> read(images="3@1024x768").images[0].count, read(audio="1m30s").audio[0].seconds
    (3, Fraction(90, 1))
    """
    text = None if text is None else whole("text", text, 0, LARGEST)
    return Asked(
        images=tuple(_picture(one) for one in _each("images", images)),
        audio=tuple(_recording(one) for one in _each("audio", audio)),
        video=tuple(_clip(one) for one in _each("video", video)),
        text=text,
    )


def _each(name: str, text: str | None) -> Iterator[str]:
    if text is None:
        return
    if not isinstance(text, str):
        raise SpecError(f"{name} = {shortened(repr(text))} is not a text")
    yield from text.split(",")


def _picture(text: str) -> Picture:
    how = "write the number and the size of images as 3@1024x768"
    found = _parts("images", text, how, size=True)
    return Picture(text=text.strip(), count=found.count, width=found.width, height=found.height)


def _recording(text: str) -> Recording:
    how = "write how long it is as 60s, 1m30s or 2@10s"
    found = _parts("audio", text, how, time=True)
    return Recording(text=text.strip(), count=found.count, seconds=found.needed(found.seconds))


def _clip(text: str) -> Clip:
    how = "write its length, the frames taken a second and their size as 60s@1fps@1280x720"
    found = _parts("video", text, how, size=True, time=True, rate=True)
    return Clip(
        text=text.strip(),
        count=found.count,
        seconds=found.needed(found.seconds),
        fps=found.needed(found.fps),
        width=found.width,
        height=found.height,
    )


class _Found:
    """The parts of one entry, each at most once."""

    def __init__(self, name: str, text: str, how: str) -> None:
        self.trouble = f"{name} = {shortened(repr(text), 60)}: {how}"
        self.count = 1
        self.width: int | None = None
        self.height: int | None = None
        self.seconds: Fraction | None = None
        self.fps: Fraction | None = None
        self.seen: set[str] = set()

    def once(self, what: str) -> None:
        if what in self.seen:
            raise SpecError(self.trouble)
        self.seen.add(what)

    def needed(self, value: Fraction | None) -> Fraction:
        if value is None:
            raise SpecError(self.trouble)
        return value

    def within(self, what: str, value: int | Fraction, most: int) -> None:
        if not 0 < value <= most:
            raise SpecError(f"{self.trouble}; {what} is from 1 to {most:,}")


def _parts(name: str, text: str, how: str, *, size: bool = False, time: bool = False, rate: bool = False) -> _Found:
    """Take an entry apart at its @ signs; a bare number is a count."""
    found = _Found(name, text, how)
    for part in text.strip().lower().split("@"):
        if part.isascii() and part.isdigit():
            found.once("count")
            found.count = int(part)
            found.within("a number", found.count, MOST)
        elif size and (match := _SIZE.fullmatch(part)):
            found.once("size")
            found.width, found.height = int(match[1]), int(match[2])
            found.within("a side", min(found.width, found.height), LONGEST_SIDE)
            found.within("a side", max(found.width, found.height), LONGEST_SIDE)
        elif rate and (match := _RATE.fullmatch(part)):
            found.once("rate")
            found.fps = Fraction(match[1])
            found.within("a rate", found.fps, MOST_FRAMES)
        elif time and part and (match := _TIME.fullmatch(part)):
            found.once("time")
            hours, minutes, seconds = (Fraction(each or 0) for each in match.groups())
            found.seconds = 3600 * hours + 60 * minutes + seconds
            found.within("a length in seconds", found.seconds, LONGEST)
        else:
            raise SpecError(found.trouble)
    return found
