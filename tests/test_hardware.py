"""Accelerators: every preset loads both ways, and says where each value is from."""

from __future__ import annotations

from pathlib import Path

import pytest

from calc import catalog
from calc.errors import CalcError, SpecError, UnknownName

FOLDER = catalog.presets_folder() / "accelerators"
NAMES = catalog.names("accelerators")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_and_loads_the_same_with_and_without_validation(name: str) -> None:
    path = FOLDER / f"{name}.toml"
    found = catalog.load_accelerator(name)
    assert catalog.parse_accelerator(path.read_text("utf-8"), str(path)) == found
    assert found.name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_source(name: str) -> None:
    found = catalog.load_accelerator(name)
    assert not [value for value in found.stated() if len(found.source_of(value)) < 10]
    assert all(len(link.source) > 10 for link in found.links)


@pytest.mark.parametrize(("name", "suggested"), [("h100", "h100-sxm"), ("A100_80GB", "a100-80gb?"), ("b2000", "b200")])
def test_a_near_miss_suggests_the_name(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match="no accelerator named") as caught:
        catalog.load_accelerator(name)
    assert suggested in str(caught.value)


def test_an_accelerator_is_found_by_name_file_and_itself(tmp_path: Path) -> None:
    named = catalog.load_accelerator("h100-sxm")
    copy = tmp_path / "copy.toml"
    copy.write_text((FOLDER / "h100-sxm.toml").read_text("utf-8"), "utf-8")
    assert catalog.load_accelerator(copy) == named
    assert catalog.load_accelerator(str(copy)) == named
    assert catalog.load_accelerator(named) is named
    assert hash(named) == hash(catalog.load_accelerator(copy))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("memory_bytes_per_s = 3.35e12", "memory_bytes_per_s = 0.0", "memory_bytes_per_s = 0.0"),
        ("memory_bytes_per_s = 3.35e12", 'memory_bytes_per_s = "3.35e12"', "memory_bytes_per_s"),
        ("memory_bytes_per_s = 3.35e12", "", "memory_bytes_per_s is missing"),
        ("bf16 = 989.4e12", "bf17 = 989.4e12", "bf17"),
        ("tdp_watts = 700", "tdp_watts = inf", "tdp_watts"),
        ("tdp_watts = 700", "watts = 700", "watts is not a known field"),
        ('kind = "nvlink"', 'kind = "rope"', "links.0.kind"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(old: str, new: str, words: str) -> None:
    text = (FOLDER / "h100-sxm.toml").read_text("utf-8")
    assert old in text
    with pytest.raises(SpecError) as caught:
        catalog.parse_accelerator(text.replace(old, new), "mine.toml")
    assert words in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_peaks_by_format() -> None:
    h100 = catalog.load_accelerator("h100-sxm")
    assert h100.peak("bfloat16") == h100.peak("bf16") == pytest.approx(989.4e12)
    assert h100.peak("fp8-block128") == h100.peak("mxfp8") == h100.flops["fp8"]
    with pytest.raises(CalcError, match="h100-sxm does not multiply nvfp4; it does tf32, bf16"):
        h100.peak("nvfp4")
    assert catalog.load_accelerator("b200").peak("nvfp4") == catalog.load_accelerator("b200").flops["fp4"]


def test_a_group_is_bound_by_the_innermost_link_that_joins_it() -> None:
    h100 = catalog.load_accelerator("h100-sxm")
    assert [h100.link(span).kind for span in (1, 8, 9, 4096)] == ["nvlink", "nvlink", "infiniband", "infiniband"]
