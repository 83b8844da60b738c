"""Towers: what belongs together, what becomes of an input, figures of published models."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

import calc
from calc import catalog
from calc.embedding import Embedding
from calc.errors import SpecError
from calc.ffn.dense import DenseFFN
from calc.modality.patches import Patches
from calc.modality.projector import Projector
from calc.modality.resize import Fixed
from calc.modality.tower import Sound, Tower
from calc.model import Layer, Model, Stack, parameters

STACK = (Stack(layer=(Layer(ffn=DenseFFN(d_ff=8)),)),)
IMAGE: dict[str, Any] = {
    "modality": "image", "d_model": 4, "stack": STACK, "patches": Patches(patch_size=2), "resize": Fixed(image_size=8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patches": None}, "needs patches and resize"),
        ({"resize": None}, "needs patches and resize"),
        ({"modality": "audio"}, "needs sound and an embedding with n_mels"),
        ({"stack": ()}, "at least one stack"),
        ({"projector": (Projector(d_out=4), Projector(d_out=4))}, "one projector"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Tower(**{**IMAGE, **changes})


def test_a_projector_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="pooled needs"):
        Projector(d_out=4, pooled=True)
    with pytest.raises(SpecError, match="d_middle needs"):
        Projector(d_out=4, d_middle=3)
    with pytest.raises(SpecError, match="do not go together"):
        Patches(patch_size=2, positions="learned")


def test_a_tower_does_one_thing() -> None:
    with pytest.raises(SpecError, match="hears nothing"):
        Tower(**IMAGE).audio(Fraction(1))
    hearing = Tower(modality="audio", d_model=4, stack=STACK, embedding=Embedding(n_mels=8), sound=Sound())
    with pytest.raises(SpecError, match="sees nothing"):
        hearing.image(3, 3)


def test_a_model_reads_tokens_or_images() -> None:
    with pytest.raises(SpecError, match="a model of images"):
        Model(name="x", d_model=4, vocab_size=0, stack=STACK)
    with pytest.raises(SpecError, match="a model of images"):
        Model(name="x", d_model=4, vocab_size=9, patches=Patches(patch_size=2), stack=STACK, head=None)
    with pytest.raises(SpecError, match="two towers read the same"):
        Model(name="x", d_model=4, vocab_size=9, stack=STACK, tower=(Tower(**IMAGE), Tower(**IMAGE)))


def test_a_second_of_sound_is_a_hundred_frames() -> None:
    assert Sound().frames_per_second == 100
    tower = catalog.load("voxtral-mini-3b").tower[0]
    heard = tower.audio(Fraction(30))
    assert (heard.tiles, heard.positions, heard.tokens) == (1, 1500, 375)
    assert tower.audio(Fraction(31)).tiles == 2
    assert catalog.load("qwen2-audio-7b").tower[0].audio(Fraction(1)).tokens == 25


def test_a_tower_that_reads_one_chunk_cuts_off_the_rest() -> None:
    """Qwen2AudioProcessor pads and truncates to 30 s; VoxtralProcessor does not truncate."""
    cut, whole = (catalog.load(name).tower[0] for name in ("qwen2-audio-7b", "voxtral-mini-3b"))
    assert (cut.sound, whole.sound) == (Sound(truncated=True), Sound(padded=True))
    for seconds, tokens in ((20, 500), (30, 750), (45, 750)):
        heard = cut.audio(Fraction(seconds))
        assert (heard.tiles, heard.positions, heard.tokens) == (1, 1500, tokens)
    heard = whole.audio(Fraction(45))
    assert (heard.tiles, heard.tokens) == (2, 750)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("gemma-3-27b", 417),  # arXiv:2503.19786 Table 1, without the projector
        ("clip-vit-large-patch14", 304),  # arXiv:2010.11929 Table 1 less the classes
        ("siglip-so400m-patch14-384", 428),  # "400M", arXiv:2305.13035 Table 1
        ("llama-4-scout", 872),
        ("qwen2.5-vl-7b", 676),
    ],
)
def test_image_towers_have_their_published_size(name: str, millions: int) -> None:
    blocks = catalog.load(name).tower[0].blocks()
    counted = [block for block in blocks if name != "gemma-3-27b" or block.name != "projector"]
    assert parameters(counted).total / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "shape", "tokens"),
    [
        ("gemma-3-4b", (4000, 3000), 256),
        ("paligemma-3b-pt-224", (300, 500), 256),
        ("llava-1.5-7b", (300, 500), 576),
        ("llama-4-scout", (300, 300), 144),
        ("qwen2.5-vl-7b", (1092, 8204), 11427),  # Qwen2.5-VL report, Figure 1: an image of 8204 × 1092
        ("qwen2.5-vl-7b", (28, 224), 8),  # and one of 28 × 224
        ("qwen2.5-vl-7b", (700, 1260), 1125),  # and one of 1260 × 700
    ],
)
def test_an_image_becomes_as_many_tokens_as_its_maker_says(name: str, shape: tuple[int, int], tokens: int) -> None:
    assert catalog.load(name).tower[0].image(*shape).tokens == tokens


def test_towers_change_no_figure_of_the_text_model() -> None:
    model = catalog.load("gemma-3-4b")
    alone = Model(**{**vars(model), "tower": (), "sees": "causal"})
    assert calc.show(alone).data["flops"] == calc.show(model).data["flops"]
    assert calc.show(alone).data["params"] == calc.show(model).data["params"]
