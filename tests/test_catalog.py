"""Every shipped preset: it loads, it is valid, and it agrees with what its maker published."""

from __future__ import annotations

import json
import math
import re
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc import catalog
from calc.errors import CalcError, SpecError, UnknownName
from calc.model import Model, parameters
from calc.views import show

FOLDER = catalog.presets_folder() / "models"
NAMES = catalog.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_and_loads_the_same_with_and_without_validation(name: str) -> None:
    path = FOLDER / f"{name}.toml"
    assert catalog.parse_toml(path.read_text("utf-8"), str(path)) == catalog.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is_and_where_from(name: str) -> None:
    model = catalog.load(name)
    assert model.name == name
    assert model.title
    assert len(model.source) > 10
    params = model.params()
    assert params.active <= params.total
    assert params.active_matmul <= params.active + model.d_model * model.vocab_size


PUBLISHED = [name for name in NAMES if "params_total" in catalog.load(name).published]


def test_most_presets_carry_a_published_size() -> None:
    assert len(PUBLISHED) >= 0.8 * len(NAMES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_its_published_size(name: str) -> None:
    """Within 1 %, or within the tolerance that the preset states and explains."""
    model = catalog.load(name)
    tolerance = model.published.get("tolerance", 0.01)
    assert model.params().total == pytest.approx(model.published["params_total"], rel=tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if "params_total_exact" in catalog.load(name).published])
def test_a_preset_has_its_exact_size(name: str) -> None:
    model = catalog.load(name)
    assert model.params().total == model.published["params_total_exact"]


@pytest.mark.parametrize("name", [name for name in NAMES if catalog.load(name).tower])
def test_a_preset_has_its_exact_size_with_its_towers(name: str) -> None:
    model = catalog.load(name)
    towers = parameters(model.tower_blocks()).total
    assert model.params().total + towers == model.published["params_with_towers_exact"]
    assert all(tower.source for tower in model.tower)


def test_a_model_is_found_by_name_file_and_folder(tmp_path: Path) -> None:
    named = catalog.load("llama-3-8b")
    copy = tmp_path / "copy.toml"
    copy.write_text((FOLDER / "llama-3-8b.toml").read_text("utf-8"), "utf-8")
    assert catalog.load(copy) == named
    assert catalog.load(str(copy)) == named
    assert catalog.load(named) is named


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("llama3-8b", "llama-3-8b?"),
        ("LLAMA-3-8B", "llama-3-8b?"),
        ("Llama_3.1_8B", "llama-3.1-8b?"),
        ("lamma-3-8b", "llama-3-8b,"),
        ("gpt3", "gpt-3?"),
        ("GPT-2", "gpt2?"),
        ("gemma2-9b", "gemma-2-9b?"),
        ("mixtral", "mixtral-8x7b,"),
        ("deepsek-v3", "deepseek-v3,"),
        ("falcon-7", "falcon-7b,"),
    ],
)
def test_a_near_miss_suggests_the_name(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match=rf"did you mean {re.escape(suggested)}"):
        catalog.load(name)


def test_a_name_like_no_other_suggests_none() -> None:
    with pytest.raises(UnknownName, match="`calc list` shows all presets"):
        catalog.load("zzzz")


def test_a_list_of_long_names_is_not_cut_within_one() -> None:
    names = [f"{number:03}-{'x' * 30}" for number in range(300)]
    listed = str(UnknownName("preset", "zzzz", names)).partition("known: ")[2]
    shown, _, more = listed.rpartition(" and ")
    assert shown.split(", ") == names[: shown.count(",") + 1]
    assert more == f"{300 - shown.count(',') - 1} more"


CONFIGS = sorted((Path(__file__).parent / "data" / "configs").glob("*.json"))
PLAIN = (
    None,
    0,
    -1,
    1.5,
    10**9,
    10**40,
    1e308,
    math.inf,
    math.nan,
    True,
    False,
    "",
    "x",
    "\x1b[31m",
    "a\nb",
    "é" * 2_000,
)
NESTED = ((), (1,), (None,) * 32, ("full_attention",), {}, {"type": "x"})
ODD = st.sampled_from(PLAIN) | st.sampled_from(NESTED)


@given(config=st.sampled_from(CONFIGS), changes=st.lists(st.tuples(st.integers(0, 10**6), ODD), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_changed_config_is_answered_or_refused_in_one_line(config: Path, changes: list[tuple[int, object]]) -> None:
    data = json.loads(config.read_text("utf-8"))
    for place, value in changes:
        keys = sorted(data)
        data[keys[place % len(keys)]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(data), "utf-8")
        refusal, figures = "", {}
        try:
            figures = show(path).data
        except CalcError as error:
            refusal = str(error)
    assert refusal.isprintable()
    assert len(refusal) <= 610
    if refusal:
        return
    assert min(figures["params"].values()) >= 0
    assert min(figures["flops"].values()) >= 0
    assert figures["cache"]["bytes"] >= 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "preset.toml"
    with pytest.raises(SpecError, match="cannot write"):
        catalog.save_preset("text", target)
    target = tmp_path / "preset.toml"
    catalog.save_preset("text", target)
    assert target.read_text("utf-8") == "text"
    with pytest.raises(SpecError, match="exists"):
        catalog.save_preset("other", target)
    assert target.read_text("utf-8") == "text"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_data_that_a_person_can_read(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    assert all(len(line) <= 160 for line in text.splitlines()), name
    assert isinstance(Model.build(tomllib.loads(text)), Model)
