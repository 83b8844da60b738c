"""What people write into a prompt beside its text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.errors import CalcError, SpecError
from calc.media import Asked, read


def test_images() -> None:
    one, other = read(images="3@1024x768, 640×480").images
    assert (one.count, one.width, one.height) == (3, 1024, 768)
    assert (other.count, other.width, other.height) == (1, 640, 480)
    assert read(images="4").images[0].width is None
    assert read(images="1024X768@2").images[0].count == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1m30s", 90), ("2h", 7200), ("1.5s", Fraction(3, 2)), ("2min", 120), ("2@5s", 5)],
)
def test_sound(text: str, seconds: Fraction) -> None:
    assert read(audio=text).audio[0].seconds == seconds


def test_clips() -> None:
    clip = read(video="2@60s@0.5fps@1280x720").video[0]
    assert (clip.count, clip.seconds, clip.fps, clip.width, clip.height) == (2, 60, Fraction(1, 2), 1280, 720)


def test_nothing_is_nothing() -> None:
    assert read() == Asked()
    assert not read(text=5).anything
    assert read(audio="3s").anything


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"images": ""}, "images = ''"),
        ({"images": "abc"}, "3@1024x768"),
        ({"images": "3@"}, "3@1024x768"),
        ({"images": "-3@10x10"}, "3@1024x768"),
        ({"images": "3@0x10"}, "a side is from 1 to 100,000"),
        ({"images": "3@10x1000000"}, "a side is from 1 to 100,000"),
        ({"images": "0@10x10"}, "a number is from 1"),
        ({"images": "3@3"}, "3@1024x768"),
        ({"images": "3@10x10@10x10"}, "3@1024x768"),
        ({"images": "3@60s"}, "3@1024x768"),
        ({"images": "1@2x2,"}, "images = ''"),
        ({"images": 3}, "images = 3 is not a text"),
        ({"audio": "60"}, "60s, 1m30s"),
        ({"audio": "0s"}, "a length in seconds is from 1"),
        ({"audio": "99999h"}, "a length in seconds is from 1"),
        ({"audio": "s"}, "60s, 1m30s"),
        ({"audio": "60s@1fps"}, "60s, 1m30s"),
        ({"video": "60s"}, "60s@1fps@1280x720"),
        ({"video": "1fps"}, "60s@1fps@1280x720"),
        ({"video": "60s@0fps"}, "a rate is from 1"),
        ({"video": "60s@1e9fps"}, "60s@1fps@1280x720"),
        ({"images": "²@10x10"}, "3@1024x768"),
        ({"text": -1}, "text = -1"),
        ({"text": True}, "text = True"),
    ],
)
def test_what_cannot_be_read_says_how_it_is_written(given: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError) as error:
        read(**given)  # type: ignore[arg-type]
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=30), st.sampled_from(["images", "audio", "video"]))
def test_any_text_is_read_or_refused_in_one_line(text: str, name: str) -> None:
    said = ""
    try:
        read(**{name: text})
    except CalcError as error:
        said = str(error)
    assert "\n" not in said
