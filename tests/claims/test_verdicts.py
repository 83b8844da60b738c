"""Every shipped claim's verdict, pinned; every kind of verdict, reached on purpose."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import calc
from calc import catalog
from calc.claims import files
from calc.claims.claim import Claim
from calc.claims.judge import VERDICTS, judge

PINNED = Path(__file__).parent / "pinned.csv"


def shipped() -> dict[str, dict[str, Any]]:
    """Return the facts of every shipped claim by document and id."""
    documents = calc.audit().data["documents"]
    return {f"{each['name']}.{claim['id']}": claim for each in documents for claim in each["claims"]}


FACTS = shipped()


def pinned() -> dict[str, tuple[str, str, str]]:
    """Return verdict, computed figure and reason as they were looked at one by one."""
    with PINNED.open(encoding="utf-8", newline="") as file:
        return {row[0]: (row[1], row[2], row[3]) for row in csv.reader(file)}


def test_every_shipped_claim_is_pinned() -> None:
    assert set(pinned()) == set(FACTS)
    assert len(FACTS) >= 60


@pytest.mark.parametrize("name", FACTS)
def test_a_verdict_is_the_one_that_was_looked_at(name: str) -> None:
    claim = FACTS[name]
    computed = claim["computed_by_convention"] if claim["verdict"] == "convention" else claim["computed"]
    assert (claim["verdict"], figure(computed), claim["why"]) == pinned()[name]


def figure(value: Any) -> str:
    """Write a figure with the digits that matter."""
    if value is None:
        return ""
    return " ".join(f"{end:.6g}" for end in (value if isinstance(value, list) else [value]))


def test_every_kind_of_verdict_is_among_them() -> None:
    assert {claim["verdict"] for claim in FACTS.values()} == set(VERDICTS)


@pytest.mark.parametrize("name", catalog.names("claims"))
def test_a_shipped_document_passes_the_validation_of_foreign_ones(name: str) -> None:
    path = catalog.presets_folder() / "claims" / f"{name}.toml"
    assert files.load(path) == files.load(name)


# ---- what the issue names, with the figures that must come out


@pytest.mark.parametrize(
    ("name", "verdict", "computed"),
    [
        ("d-k", "holds", 64),
        ("gpt3-params", "holds", 174_604_259_328),
        ("gpt3-training", "convention", 6 * 174_604_259_328 * 300 * 10**9),
        ("mla-16384", "convention", 128 * 128),
        ("mla-97", "convention", 1 - 512 / 16_384),
        ("mha-32768", "holds", 2 * 128 * 128),
        ("mla-640", "contradicted", 512 + 64),
        ("mla-98", "holds", 1 - 576 / 32_768),
        ("v3-shared", "contradicted", 1),
        ("v3-d-c", "contradicted", 512),
        ("v3-expert-size", "convention", 7_168 * 2_048),
        ("v3-10-of-258", "holds", 10 / 258),
        ("v3-active-share", "convention", (37_552_297_472 - 129_280 * 7_168) / 671_026_419_200),
        ("v3-cost", "holds", 5_576_000),
        ("v3-gpu-hours", "holds", 2_788_000),
        ("v3-learning-rate", "contradicted", None),
        ("image-patches", "holds", 256),
        ("audio-frames", "holds", 98),
        ("video-minute", "holds", 15_360),
        ("gemini-order", "convention", 1.5),
        ("cache-8-bit", "holds", 0.5),
        ("gemini-params", "unchecked", [500_278_568_960, 999_980_742_656]),
    ],
)
def test_a_number_of_the_article(name: str, verdict: str, computed: Any) -> None:
    claim = FACTS[f"seed.{name}"]
    assert claim["verdict"] == verdict
    found = claim["computed_by_convention"] if verdict == "convention" else claim["computed"]
    assert found == (computed if computed is None else pytest.approx(computed, rel=1e-12))


# ---- the rules


def claim(**values: Any) -> Claim:
    return Claim.build({"id": "one", "says": "words", "stated": 576, "unit": "values", **values})


LAYER = {"quantity": "cache.values_per_layer", "model": "deepseek-v3"}


@pytest.mark.parametrize(
    ("values", "verdict", "why"),
    [
        ({**LAYER}, "holds", ""),
        ({**LAYER, "stated": 640}, "off", "11 % too high"),
        ({**LAYER, "stated": 64}, "off", "9 times too low"),
        ({**LAYER, "stated": 5 * 10**40}, "off", "8.68e+37 times too high"),
        ({**LAYER, "stated": 600, "tolerance": Decimal("0.05")}, "holds", ""),
        ({**LAYER, "stated": 600, "tolerance": Decimal("0.03")}, "off", "4.2 % too high"),
        ({**LAYER, "stated": [500, 600]}, "holds", ""),
        ({**LAYER, "stated": [600, 700]}, "off", "13 % too high"),
        ({**LAYER, "stated": Decimal("58e1")}, "holds", ""),  # two digits: from 575 to 585
        ({**LAYER, "stated": Decimal("580e0")}, "off", "0.69 % too high"),  # three: from 579.5
        (
            {
                **LAYER,
                "stated": 512,
                "convention": [{"name": "alone", "quantity": "number.sum", "at": {"terms": [512]}}],
            },
            "convention",
            "alone",
        ),
        (
            {
                **LAYER,
                "stated": 500,
                "convention": [{"name": "alone", "quantity": "number.sum", "at": {"terms": [512]}}],
            },
            "off",
            "13 % too low",
        ),
        ({**LAYER, "stated": 640, "primary": {"value": 576, "source": "paper"}}, "contradicted", "paper"),
        (
            {**LAYER, "primary": {"value": 640, "source": "paper"}},
            "contradicted",
            "paper, though the computed figure agrees",
        ),
        (
            {**LAYER, "stated": 640, "primary": {"value": 640, "source": "paper"}},
            "off",
            "11 % too high; the primary source says it too",
        ),
        ({"primary": {"value": 576, "source": "paper"}}, "holds", "paper"),
        ({"primary": {"value": [500, 600], "source": "paper"}}, "holds", "paper"),
        ({"primary": {"value": 577, "source": "paper"}}, "contradicted", "paper"),
        ({"stated": None, "unchecked": "no source"}, "unchecked", "no source"),
        (
            {"stated": 10**12, "unit": "parameters", "quantity": "params.total", "model": "gemini-2.5-pro"},
            "unchecked",
            "its maker published no sizes",
        ),
        (  # what does not depend on the estimate can be checked
            {"stated": 2, "unit": "exponent", "quantity": "complexity.exponent", "model": "gemini-2.5-pro"},
            "holds",
            "",
        ),
        (
            {
                "stated": [10, 20],
                "unit": "%",
                "quantity": "number.share",
                "at": {"part": [100, 200], "whole": [500, 1000]},
            },
            "off",
            "the computed range goes beyond it",
        ),
        (
            {
                "stated": [10, 40],
                "unit": "%",
                "quantity": "number.share",
                "at": {"part": [100, 200], "whole": [500, 1000]},
            },
            "holds",
            "",
        ),
        (  # KB and KiB are kept apart
            {"stated": Decimal("70.272"), "unit": "KB", "quantity": "cache.bytes_per_token", "model": "deepseek-v3"},
            "holds",
            "",
        ),
        (
            {"stated": Decimal("70.272"), "unit": "KiB", "quantity": "cache.bytes_per_token", "model": "deepseek-v3"},
            "off",
            "2.4 % too high",
        ),
    ],
)
def test_the_rules_of_a_verdict(values: dict[str, Any], verdict: str, why: str) -> None:
    found = judge(claim(**values))
    assert (found.verdict, found.why) == (verdict, why)


def test_a_convention_changes_only_what_it_names() -> None:
    of_model = {"stated": 128, "quantity": "model.field", "model": "deepseek-v3", "at": {"name": "kv_lora_rank"}}
    other = judge(claim(**of_model, unit="", convention=[{"name": "heads", "at": {"name": "n_heads"}}]))
    assert (other.verdict, other.by_convention.value if other.by_convention else None) == ("convention", 128)
    elsewhere = judge(
        claim(
            **{**of_model, "stated": 96, "at": {"name": "n_heads"}},
            unit="",
            convention=[{"name": "GPT-3", "model": "gpt-3"}],
        )
    )
    assert (elsewhere.verdict, elsewhere.why) == ("convention", "GPT-3")
