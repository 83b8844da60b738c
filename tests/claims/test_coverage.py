"""Every system that the article names has its place in the program."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import calc
from calc import attention, catalog, ffn
from calc.claims import files
from calc.embedding import Embedding, Head, NormSpec
from calc.fields import load_class
from calc.formats import FORMATS
from calc.layers import Layer
from calc.model import Model

SYSTEMS = tomllib.loads((Path(__file__).parent / "article.toml").read_text("utf-8"))["system"]
PLACES = [(system["name"], place) for system in SYSTEMS for place in system["at"]]
RECORDS: dict[str, type[Any]] = {
    "model": Model,
    "layer": Layer,
    "embedding": Embedding,
    "head": Head,
    "norm": NormSpec,
    **{kind: load_class(target) for kind, target in {**attention.KINDS, **ffn.KINDS}.items()},
}


def has_preset(name: str) -> bool:
    return calc.load(name).name == name


def has_accelerator(name: str) -> bool:
    return bool(calc.load_accelerator(name).title)


def has_mechanism(kind: str) -> bool:
    return kind in {**attention.KINDS, **ffn.KINDS} or bool(import_module(f"calc.modality.{kind}"))


def has_mask(kind: str) -> bool:
    found = [vars(import_module(f"calc.{name}")) for name in ("masks", "sparse_masks", "grid_masks")]
    return any(getattr(each, "kind", None) == kind for module in found for each in module.values())


def has_option(text: str) -> bool:
    path, _, value = text.partition("=")
    record, _, name = path.partition(".")
    declared = {field.name: str(field.type) for field in fields(RECORDS[record])}
    if not value:
        return name in declared
    kinds = import_module(RECORDS[record].__module__).__dict__
    return f"'{value}'" in written(declared[name], kinds) or f'"{value}"' in written(declared[name], kinds)


def written(type_: str, names: dict[str, Any]) -> str:
    """Return a type as written, with what an alias stands for."""
    return f"{type_} {names.get(type_, '')}"


def has_quantity(name: str) -> bool:
    from calc.symbolic.quantities import QUANTITIES

    return name in QUANTITIES


def has_claim(text: str) -> bool:
    document, _, name = text.partition(".")
    return name in {claim.id for claim in files.load(document).claim}


HAS: dict[str, Callable[[str], bool]] = {
    "preset": has_preset,
    "accelerator": has_accelerator,
    "mechanism": has_mechanism,
    "mask": has_mask,
    "option": has_option,
    "quantity": has_quantity,
    "format": FORMATS.__contains__,
    "call": calc.__all__.__contains__,
    "claim": has_claim,
}


@pytest.mark.parametrize(("name", "place"), PLACES, ids=[f"{place}" for _, place in PLACES])
def test_a_system_is_where_the_list_says(name: str, place: str) -> None:
    kind, _, where = place.partition(":")
    assert HAS[kind](where), (name, place)


def test_the_list_is_whole() -> None:
    names = [system["name"] for system in SYSTEMS]
    assert len(names) == len(set(names)) >= 40
    for system in SYSTEMS:
        assert system["at"], system["name"]


def test_a_place_that_is_none_is_found_out() -> None:
    assert not has_mask("strided2")
    assert not has_option("moe.scoring=tanh")
    assert not has_option("moe.no_such")
    assert not has_quantity("cost")
    assert not has_claim("seed.nothing")
    with pytest.raises(calc.CalcError):
        has_preset("gpt-4")
    with pytest.raises(ModuleNotFoundError):
        has_mechanism("telepathy")


def test_objectives_are_those_of_the_article(calc_cli: Callable[..., Any]) -> None:
    said = calc_cli("objective", "--help").out
    for name in ("next-token", "multi-token", "contrastive", "instruction", "dpo", "ppo", "distillation", "continual"):
        assert name in said


def test_every_document_of_claims_is_in_the_catalogue() -> None:
    assert {"seed", "transformer", "gpt-3", "deepseek-v2", "deepseek-v3", "deepseek-moe", "gemini"} <= set(
        catalog.names("claims")
    )
