"""A prompt with images, sound and clips: tokens, towers, the parts of a prefill, attention between them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import calc
from calc import catalog
from calc.cli.app import build
from calc.errors import SpecError
from calc.media import media, read
from calc.media.shares import DEFAULT_TEXT, Media
from calc.model import Model, Pass, flops_by_operation
from calc.schema import Show

PROMPTS: dict[str, dict[str, str]] = {
    "gemma-3-4b": {"images": "2@1024x768", "video": "3s@1fps"},
    "paligemma-3b-pt-224": {"images": "2"},
    "llava-1.5-7b": {"images": "1"},
    "llava-v1.6-mistral-7b": {"images": "1024x768"},
    "qwen2.5-vl-7b": {"images": "3@640x480", "video": "4s@2fps@320x240"},
    "qwen3-vl-8b": {"images": "640x480,2@300x900", "video": "5s@2fps@320x240"},
    "qwen3-vl-30b-a3b": {"images": "640x480"},
    "qwen3.5-4b": {"images": "640x480"},
    "llama-4-scout": {"images": "3@1024x768"},
    "voxtral-mini-3b": {"audio": "45s"},
    "qwen2-audio-7b": {"audio": "2@12s"},
    "gemma-4-31b": {"images": "2@1024x768", "video": "3s@1fps@640x480"},
}


def prompt(name: str, **more: Any) -> tuple[Model, Media, Any]:
    model = catalog.load(name)
    found, setting = media(model, read(**PROMPTS[name]), **more)
    return model, found, setting


@pytest.mark.parametrize("name", PROMPTS)
def test_parts_add_up(name: str) -> None:
    model, found, setting = prompt(name, batch=3)
    assert found.tokens == setting.context
    assert next(part.span.start for part in found.parts) == 0
    assert all(one.span.stop == other.span.start for one, other in pairwise(found.parts))
    assert found.parts[-1].kind == "text"
    assert found.parts[-1].tokens == DEFAULT_TEXT
    causal = sum(flops_by_operation(model.blocks(), setting.phase("prefill")).values())
    whole = sum(part.prefill_flops for part in found.parts)
    if model.sees == "causal":
        assert whole == causal
    else:
        assert causal < whole <= model.flops(Pass.prefill(setting.context, 3, causal=False))
    assert sum(part.cache_bytes for part in found.parts) == model.cache(setting.context, 3).bytes


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_the_attention_add_up(name: str, causal: bool) -> None:
    """Scores and values of a prefill, block by block."""
    model, found, setting = prompt(name, causal=causal)
    products = [(key, flops) for key, flops in flops_by_operation(model.blocks(), setting.phase("prefill")).items()]
    attention = sum(
        flops for (path, op), flops in products if op in ("scores", "values") and path.endswith("attention")
    )
    if name == "qwen3.5-4b":
        attention = sum(flops for (path, op), flops in products if op in ("scores", "values") and "2.attention" in path)
    extra = sum(part.prefill_flops for part in found.parts) - sum(flops for _, flops in products)
    assert sum(one.flops for one in found.between) == attention + extra


def test_an_image_sees_itself_both_ways() -> None:
    """Against an explicit matrix: causal, or of the same image."""
    _model, found, setting = prompt("gemma-3-4b")
    n = setting.context
    query, key = np.arange(n)[:, None], np.arange(n)[None, :]
    image = np.full(n, -1)
    start = 0
    for one in found.inputs:  # where the markers stand between the images does not change how many pairs there are
        per_image = one.each.tokens // one.each.tiles
        for number in range(one.count * one.each.tiles):
            image[start : start + per_image] = number + 1000 * (one.kind == "video")
            start += per_image
        start += one.tokens - one.count * one.each.tiles * per_image
    same = (image[:, None] == image[None, :]) & (image[:, None] >= 0)
    for label, window in (("29 × gqa window 1,024", 1024), ("5 × gqa", n)):
        seen = ((key <= query) & (query - key < window)) | same
        for block in found.between:
            spans = {part.kind: part.span for part in found.parts}
            q, k = spans[block.query], spans[block.key]
            assert block.pairs[label] == seen[q.start : q.stop, k.start : k.stop].sum()


def test_a_prompt_that_sees_itself_both_ways() -> None:
    model, found, setting = prompt("paligemma-3b-pt-224")
    assert all(one.pairs == {"18 × gqa": len(q) * len(k)} for one, q, k in _with_spans(found))
    assert sum(part.prefill_flops for part in found.parts) == model.flops(Pass.prefill(setting.context, causal=False))


def _with_spans(found: Media) -> list[tuple[Any, range, range]]:
    spans = {part.kind: part.span for part in found.parts}
    return [(one, spans[one.query], spans[one.key]) for one in found.between]


def test_towers_are_charged_for_every_input_of_every_sequence() -> None:
    model = catalog.load("qwen3-vl-8b")
    one = media(model, read(images="640x480"))[0].inputs[0]
    many = media(model, read(images="3@640x480"), batch=2)[0].inputs[0]
    assert many.encoder_flops == 6 * one.encoder_flops
    assert many.projector_flops == 6 * one.projector_flops
    assert many.tokens == 3 * one.tokens


def test_what_is_left_of_a_context_is_text() -> None:
    found, setting = media(catalog.load("gemma-3-4b"), read(images="1"), 1000)
    assert setting.context == found.tokens == 1000
    assert found.parts[-1].tokens == 1000 - 258


def test_sound_that_is_cut_off_is_said() -> None:
    model = catalog.load("qwen2-audio-7b")
    (whole, _), (cut, _) = (media(model, read(audio=text)) for text in ("30s", "45s"))
    assert cut.notes == ("qwen2-audio-7b: the first 30 s of a sound are heard, the rest is cut off",)
    assert whole.notes == ()
    assert cut.inputs[0].encoder_flops == whole.inputs[0].encoder_flops


def test_transcribing_is_charged_by_chunks() -> None:
    model = catalog.load("whisper-large-v3")
    found, setting = media(model, read(audio="75s"))
    assert setting.source == 1500
    assert found.inputs[0].each.tiles == 3
    encoder = [block for block in model.blocks() if block.encoder]
    alone = sum(flops_by_operation(encoder, Pass.prefill(1, 3, source=1500)).values())
    assert found.inputs[0].encoder_flops == alone
    assert sum(part.cache_bytes for part in found.parts) == model.cache(DEFAULT_TEXT, source=1500).bytes


def test_tokens_that_a_maker_publishes_without_an_encoder() -> None:
    """ai.google.dev: 258 tokens for a tile and for a frame, 32 for a second of sound."""
    found, _ = media(catalog.load("gemini-2.5-pro"), read(images="300x384,1024x768", audio="10s", video="60s@1fps"))
    assert [one.tokens for one in found.inputs] == [258, 516, 320, 15_480]
    assert all(one.encoder_flops is None for one in found.inputs)
    assert [part.encoder_flops for part in found.parts] == [None, None, None, 0]
    assert any("not published" in note for note in found.notes)
    data = calc.show("gemini-2.5-pro", images="1024x768", video="9s@1fps").to_dict()
    assert Show.model_validate(data).media
    with pytest.raises(SpecError, match="reads any size"):
        media(catalog.load("gemini-2.5-pro"), read(images="2"))


def test_texts_compared_with_images_hold_no_image_tokens() -> None:
    found, setting = media(catalog.load("clip-vit-large-patch14"), read(images="2"))
    assert (found.inputs[0].tokens, setting.context) == (0, 77)
    assert any("compared" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("llama-3-8b", {"images": "1@9x9"}, "llama-3-8b reads no images: it has no towers"),
        ("qwen3-vl-8b", {"audio": "9s"}, "reads no audio: it has a tower of image only"),
        ("voxtral-mini-3b", {"video": "9s@1fps"}, "reads no video"),
        ("qwen3-vl-8b", {"images": "2"}, "reads any size, write it as 3@1024x768"),
        ("qwen3-vl-8b", {"video": "9s@1fps"}, "reads any size, write it as 60s@1fps@1280x720"),
        ("qwen3-vl-8b", {"images": "10x9000"}, "over 200 times the other"),
        ("gemma-3-4b", {"video": "1s@0.5fps"}, "not a single frame"),
        ("vit-large-patch16-224", {"images": "1"}, "reads images alone"),
    ],
)
def test_what_a_model_does_not_read_is_refused(name: str, asked: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        media(catalog.load(name), read(**asked))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": "3", "context": 700}, "take 774 tokens: that leaves nothing of a context of 700"),
        ({"images": "3", "context": 2000, "text": 5}, "give one of them"),
        ({"text": 5}, "belong to a prompt"),
        ({"images": "3", "text": -5}, "text = -5"),
        ({"images": "3", "batch": 0}, "batch = 0"),
    ],
)
def test_prompts_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        calc.show("gemma-3-4b", **options)


def test_crops_are_cut_where_a_model_can() -> None:
    whole = calc.show("gemma-3-4b", images="2048x700").data["media"]["tokens"]
    assert calc.show("gemma-3-4b", images="2048x700", crops=True).data["media"]["tokens"] == whole + 3 * 258
    with pytest.raises(SpecError, match="does not cut crops"):
        calc.show("qwen3-vl-8b", images="2048x700", crops=True)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(["show"]), ["show", *arguments])


@pytest.mark.parametrize("name", PROMPTS)
def test_the_command_keeps_its_contract(name: str) -> None:
    options = [part for kind, text in PROMPTS[name].items() for part in (f"--{kind}", text)]
    done = run(name, *options, "--format", "json")
    assert done.exit_code == 0, done.output
    answer = Show.model_validate(json.loads(done.stdout))
    assert answer.media is not None
    assert answer.towers


def test_the_command_shows_tables_and_one_line_for_what_cannot_be() -> None:
    done = run("gemma-3-4b", "--images", "3@1024x768", "--video", "60s@1fps")
    assert "What becomes of them" in done.stdout
    assert "video → images" in done.stdout
    refused = run("gemma-3-4b", "--images", "3@1024")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: images = '3@1024': write")
    assert refused.stderr.count("\n") == 1


def test_figures_without_a_prompt_name_the_towers_and_leave_them_out() -> None:
    data = calc.show("gemma-3-4b").data
    assert data["params"]["total"] == 3_880_263_168
    assert data["towers"][0]["params"] == 419_816_304
    assert "media" not in data
