"""Engine presets: each loads and is validated, versions change what they say they change, wrong files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from calc import catalog
from calc.errors import SpecError, UnknownName
from calc.serving import serve
from calc.serving.engines import load_engine, parsed, validated

NAMES = catalog.names("engines")


@pytest.mark.parametrize("name", NAMES)
def test_preset_passes_the_validation_of_a_users_file(name: str) -> None:
    path = catalog.presets_folder() / "engines" / f"{name}.toml"
    again = validated(catalog.toml_table(path.read_text("utf-8"), str(path)), name, str(path))
    assert again.at(None) == load_engine(name)
    assert again.source
    assert again.version


def test_engines_are_there() -> None:
    assert NAMES == ["gpt-fast", "llama.cpp", "sglang", "tensorrt-llm", "vllm"]


@pytest.mark.parametrize(
    ("engine", "version", "field", "value"),
    [
        ("vllm", "0.7.3", "prefill", "alone"),
        ("vllm", "0.8.0", "prefill", "mixed"),
        ("vllm", "0.19.1", "graphs_in_budget", True),
        ("vllm", "0.19.1", "reported", "blocks"),
        ("vllm", "0.20", "reported", "concurrency"),
        ("tensorrt-llm", "0.17", "block_tokens", 64),
        ("tensorrt-llm", "1.0.0rc3", "block_tokens", 32),
    ],
)
def test_versions(engine: str, version: str, field: str, value: object) -> None:
    assert getattr(load_engine(engine, version), field) == value


@pytest.mark.parametrize(("version", "noted"), [(None, False), ("0.15.1", False), ("0.20.2", False), ("0.99", True)])
def test_a_version_that_nothing_is_known_of_is_noted(version: str | None, noted: bool) -> None:
    found = serve("llama-3.1-8b", "h100-sxm", input_tokens=100, output_tokens=10, concurrency=1, engine_version=version)
    assert any("is later than 0.20" in note for note in found.to_result().notes) is noted


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.9.2", (0, 9, 2)), ("V1 (about v0.15.1)", (0, 15, 1)), ("0.2.x", (0, 2)), ("b6000", (6000,))],
)
def test_versions_are_read_as_people_write_them(text: str, number: tuple[int, ...]) -> None:
    assert parsed(text) == number


def test_large_devices_have_larger_steps() -> None:
    vllm = load_engine("vllm")
    h100, a100, l4 = (catalog.load_accelerator(name) for name in ("h100-sxm", "a100-80gb", "a100-40gb"))
    assert [vllm.batched_tokens(each) for each in (h100, a100, l4)] == [8192, 2048, 2048]
    assert [vllm.sequences(each) for each in (h100, a100, l4)] == [1024, 256, 256]


def test_unknown_engine_is_refused_with_near_ones() -> None:
    with pytest.raises(UnknownName, match="vllm"):
        load_engine("vlm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "all"}, "budget"),
        ({"block_tokens": 0}, "block_tokens"),
        ({"speed": 3}, "speed"),
        ({"change": [{"since": "1", "speed": 3}]}, "speed"),
        ({"change": [{"block_tokens": 3}]}, "before or since"),
        ({"change": [{"since": "1", "block_tokens": -3}]}, "block_tokens"),
        ({"change": 3}, "change"),
    ],
)
def test_a_file_that_cannot_be_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    data = catalog.toml_table((catalog.presets_folder() / "engines" / "sglang.toml").read_text("utf-8"), "x")
    with pytest.raises(SpecError, match=message):
        validated({**data, **change}, "mine", "mine.toml")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    text = (catalog.presets_folder() / "engines" / "vllm.toml").read_text("utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text.replace("block_tokens = 16 ", "block_tokens = 64 "), "utf-8")
    assert load_engine(own).block_tokens == 64


def test_the_list() -> None:
    from typer.testing import CliRunner

    from calc.cli.app import build
    from calc.schema import DOCUMENTS
    from calc.serving.listing import engines

    found = DOCUMENTS["engines"].model_validate_json(engines().to_json())
    assert len(found.model_dump()["engines"]) == len(NAMES)
    shown = CliRunner().invoke(build(["list"]), ["list", "engines", "llama"])
    assert shown.exit_code == 0
    assert "llama.cpp" in shown.output
    assert "sglang" not in shown.output
