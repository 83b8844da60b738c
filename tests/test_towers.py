"""A tower as a model of its own: every question that a model answers, and the same figures as in its place."""

from __future__ import annotations

import pytest
from sympy import Integer

import calc
from calc import catalog
from calc.errors import CalcError
from calc.model import Pass, flops_by_operation, parameters
from calc.symbolic.legend import BATCH, CONTEXT, of_model
from calc.symbolic.quantities import QUANTITIES, Point
from calc.units import dtype
from calc.validate.shrink import sample

SIZED = {"qwen2.5-vl-7b": "@1024x768", "qwen3-vl-8b": "@640x480", "qwen3.5-4b": "@640x480"}
TOWERS = [
    f"{name}:{tower.modality}{SIZED.get(name, '')}"
    for name in (
        *("gemma-3-4b", "paligemma-3b-pt-224", "llama-4-scout", "clip-vit-large-patch14", "siglip-so400m-patch14-384"),
        *("llava-v1.6-mistral-7b", "voxtral-mini-3b", "qwen2-audio-7b", *SIZED),
    )
    for tower in catalog.load(name).tower
]


@pytest.mark.parametrize("name", TOWERS)
def test_its_figures_are_those_of_the_tower(name: str) -> None:
    alone = catalog.load(name)
    model, _, rest = name.partition(":")
    tower = catalog.load(model).tower[0]
    assert alone.params().total == parameters(tower.blocks()).total
    assert alone.max_context
    one = tower.image(768, 1024) if rest == "image@1024x768" else None
    one = tower.image(480, 640) if rest == "image@640x480" else one
    pass_ = one.pass_(3) if one else Pass.prefill(alone.max_context, 3)
    assert alone.flops(Pass.prefill(alone.max_context, 3)) == sum(flops_by_operation(tower.blocks(), pass_).values())


@pytest.mark.parametrize("name", TOWERS)
def test_it_reads_the_same_as_a_formula(name: str) -> None:
    alone = catalog.load(name)
    subject = of_model(alone)
    forms = {role: dtype("bf16") for role in ("weight", "activation", "cache")}
    context = alone.max_context or 1
    numbers = {symbol: Integer(value) for symbol, value in subject.values().items()}
    numbers |= {CONTEXT: Integer(context), BATCH: Integer(2)}
    for quantity in ("params", "flops.prefill", "flops.train", "pairs"):
        of = QUANTITIES[quantity].of
        exact = of(alone.blocks(), Point(context=context, batch=2, source=None, forms=forms))  # type: ignore[arg-type]
        total = Integer(0)
        for block, count in zip(subject.blocks, subject.counts, strict=True):
            each = of([block], Point(context=CONTEXT, batch=BATCH, source=None, forms=forms))  # type: ignore[arg-type]
            total += count.xreplace(numbers) * (Integer(0) + each).xreplace(numbers)
        assert total == exact, quantity


@pytest.mark.parametrize("name", TOWERS)
def test_it_shrinks(name: str) -> None:
    small = sample(catalog.load(name))
    assert small.context < 256


def test_it_is_shown_compared_and_taken_apart() -> None:
    assert calc.show("gemma-3-4b:image").data["model"]["name"] == "gemma-3-4b:image"
    both = calc.compare(["gemma-3-4b:image", "qwen2.5-vl-7b:image@1024x768"]).data["models"]
    assert [one["params"]["total"] for one in both] == [419_816_304, 676_550_144]
    paths = {one["path"] for one in calc.operation_table("voxtral-mini-3b:audio").data["operations"]}
    assert {"embedding", "projector"} <= paths


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen2.5-vl-7b:image", "write qwen2.5-vl-7b:image@1024x768"),
        ("llama-3-8b:image", "llama-3-8b has no tower of image"),
        ("gemma-3-4b:audio", "gemma-3-4b has no tower of audio"),
        ("voxtral-mini-3b:audio@3x4", "sound has no width and height"),
        ("gemma-3-4b:image@0x4", "has none"),
        ("qwen3-vl-8b:image@9x9999", "over 200 times"),
        ("nope:image", "no preset named 'nope'"),
        ("gemma-3-4b:smell", "no preset named 'gemma-3-4b:smell'"),
    ],
)
def test_what_is_no_tower_is_refused(name: str, words: str) -> None:
    with pytest.raises(CalcError, match=words):
        catalog.load(name)


def test_presets_are_found_by_what_they_read() -> None:
    found = {entry["name"] for entry in calc.listing("image tower").data["models"]}
    assert {"gemma-3-4b", "llama-4-scout", "qwen3-vl-8b"} <= found
    assert "llama-3-8b" not in found
