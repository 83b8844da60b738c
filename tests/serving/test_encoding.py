"""Towers in serving: weights on a rank, the time of images and sound, and what they do to a deployment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import calc
from calc.catalog import load, load_accelerator
from calc.errors import CalcError, SpecError
from calc.media.asked import read
from calc.media.shares import inputs_of
from calc.model import parameters
from calc.parallel import Layout
from calc.schema import DOCUMENTS
from calc.serving.encoding import encoding_peak, encoding_s, tower_bytes
from calc.serving.engines import load_engine
from tests.conftest import Run

Cli = Callable[..., Run]
H100, VLLM = load_accelerator("h100-sxm"), load_engine("vllm")
QWEN = load("qwen2.5-vl-7b")


def seconds(images: str, model: str = "qwen2.5-vl-7b", tp: int = 1) -> float:
    loaded = load(model)
    return encoding_s(loaded, inputs_of(loaded, read(images=images)), H100, Layout(tp=tp), VLLM)


def served(**asked: Any) -> calc.Serving:
    return calc.serve("qwen2.5-vl-7b", "h100-sxm", **{"input_tokens": 1000, "output_tokens": 100, **asked})


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "gemma-3-27b", "llama-4-scout", "voxtral-mini-3b"])
def test_a_rank_holds_its_share_of_the_towers(name: str) -> None:
    model = load(name)
    whole = sum(2 * parameters(tower.blocks()).total for tower in model.tower)
    assert tower_bytes(model, Layout()) == whole
    # norms, biases and what stands before the layers are on every rank
    assert 0.5 * whole <= tower_bytes(model, Layout(tp=2)) < 0.55 * whole


def test_a_tower_that_does_not_divide_is_whole_on_every_rank() -> None:
    # 3,420 is no multiple of 8
    assert tower_bytes(QWEN, Layout(tp=8)) == tower_bytes(QWEN, Layout())
    assert seconds("1@1024x768", tp=8) == seconds("1@1024x768")


def test_a_model_without_towers_has_none() -> None:
    assert tower_bytes(load("llama-3-8b"), Layout()) == 0
    assert calc.serve("llama-3-8b", "h100-sxm", input_tokens=9, output_tokens=9).to_result().data["encoding_s"] == 0


def test_the_time_is_that_of_the_towers_arithmetic() -> None:
    """Kernels reach between a fifth and all of the peak, and several images take as much longer as they are more."""
    for name, images in (("qwen2.5-vl-7b", "1@1024x768"), ("gemma-3-27b", "1"), ("llama-4-scout", "1@1024x768")):
        [one] = inputs_of(load(name), read(images=images))
        flops = (one.encoder_flops or 0) + (one.projector_flops or 0)
        assert 1 < seconds(images, name) / (flops / H100.peak("bf16")) < 5
    assert seconds("4@1024x768") == pytest.approx(4 * seconds("1@1024x768"), rel=0.15)
    assert seconds("1@1024x768,3@640x480") == pytest.approx(seconds("1@1024x768") + seconds("3@640x480"))


def test_ranks_share_the_time_and_exchange() -> None:
    whole, half = seconds("1@1024x768"), seconds("1@1024x768", tp=2)
    assert 0.5 * whole < half < 0.8 * whole


def test_what_is_live_grows_with_the_image() -> None:
    sizes = ("1@640x480", "1@4096x3072")
    small, large = (encoding_peak(QWEN, inputs_of(QWEN, read(images=size)), Layout(), VLLM) for size in sizes)
    assert 0 < small < large
    assert served(images="1@4096x3072").memory.peak == max(large, served().memory.peak)


def test_images_take_places_and_time() -> None:
    images, text = served(images="2@1024x768", concurrency=16), served(input_tokens=3002, concurrency=16)
    assert images.asked.input_tokens == 3002
    assert images.asked.media_tokens == 2002
    # the cache is that of as much text, the towers come on top
    assert images.capacity.allocated_sequences == text.capacity.allocated_sequences
    assert images.ttft_s > text.ttft_s + 0.9 * images.deployment.encoding_s  # type: ignore[operator]
    assert images.output_tokens_per_s < text.output_tokens_per_s  # type: ignore[operator]
    assert images.usd_per_million("input") > text.usd_per_million("input")  # type: ignore[operator]


def test_a_prefix_cache_saves_the_towers_too() -> None:
    images, text = (
        served(cached=1.0, concurrency=16, **asked) for asked in ({"images": "2@1024x768"}, {"input_tokens": 3002})
    )
    assert images.ttft_s == pytest.approx(text.ttft_s, rel=0.01)


def test_devices_that_read_prompts_have_the_towers() -> None:
    apart = {"rate": 1.0, "gpus": 2, "prefill_gpus": 1}
    images, text = served(images="2@1024x768", **apart), served(input_tokens=3002, **apart)
    assert images.tpot_s == pytest.approx(text.tpot_s, rel=0.01)
    assert images.ttft_s > text.ttft_s + 0.9 * images.deployment.encoding_s  # type: ignore[operator]


def test_the_first_stage_of_a_pipeline_has_the_towers() -> None:
    first, *others = served(gpus=2, tp=1, pp=2).deployment.memories
    assert first.weights.towers == tower_bytes(QWEN, Layout())
    assert [float(other.weights.towers) for other in others] == [0.0]


def test_as_a_user_asks_for_it(calc_cli: Cli) -> None:
    arguments = ("-a", "h100-sxm", "-i", "500", "-o", "100", "--images", "2@1024x768", "-c", "8")
    run = calc_cli("serve", "qwen2.5-vl-7b", *arguments, "-f", "json")
    DOCUMENTS["serve"].model_validate_json(run.out)
    assert run.json["load"]["media"] == [{"kind": "image", "asked": "2@1024x768", "tokens": 2002}]
    assert run.json["load"]["input_tokens"] == 2502
    assert run.json["memory"]["towers"] == tower_bytes(QWEN, Layout())
    table = calc_cli("serve", "qwen2.5-vl-7b", *arguments).out
    assert "2,502 tokens (2@1024x768 images, 500 of text) in" in table
    assert "of it images and sound" in table


@pytest.mark.parametrize(
    ("model", "asked", "why"),
    [
        ("llama-3-8b", {"images": "1@640x480"}, "reads no images"),
        ("qwen2.5-vl-7b", {"audio": "60s"}, "reads no audio"),
        ("qwen2.5-vl-7b", {"images": "1"}, "reads any size"),
        ("qwen2.5-vl-7b", {"images": "many"}, "write the number and the size"),
    ],
)
def test_what_a_model_does_not_read_is_refused(model: str, asked: dict[str, str], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        calc.serve(model, "h100-sxm", input_tokens=10, output_tokens=10, **asked)  # type: ignore[arg-type]


def test_a_plan_counts_images(calc_cli: Cli) -> None:
    common: dict[str, Any] = {
        "rate": 20, "input_tokens": 500, "output_tokens": 100, "ttft": 2, "tpot": 0.05, "accelerators": ["h100-sxm"],
        "max_gpus": 64, "disaggregated": False,
    }  # fmt: skip
    text = calc.plan("qwen2.5-vl-7b", **{**common, "input_tokens": 2502})
    images = calc.plan("qwen2.5-vl-7b", **common, images="2@1024x768")
    assert images.best.gpus >= text.best.gpus > 0  # type: ignore[union-attr]
    assert images.best.saturation / images.best.gpus < text.best.saturation / text.best.gpus  # type: ignore[union-attr]
    with pytest.raises(CalcError, match="reads no images"):
        calc.plan("llama-3-8b", **common, images="1@640x480")
    run = calc_cli(
        "plan", "qwen2.5-vl-7b", "--rate", "5", "-i", "500", "-o", "100", "--ttft", "2", "--tpot", "0.05",
        "-a", "h100-sxm", "-n", "8", "--images", "1@640x480", "-f", "json",
    )  # fmt: skip
    assert run.code == 0, run.err
