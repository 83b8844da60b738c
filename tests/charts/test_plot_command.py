"""``calc plot`` as a user meets it, and the gallery it draws."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import calc
from calc.charts import KINDS
from calc.charts.chart import chart
from calc.charts.gallery import command, page
from calc.schema import DOCUMENTS
from tests.charts.test_charts import PROOF
from tests.conftest import ROOT, Run, refused

Cli = Callable[..., Run]
GALLERY = ROOT / "plots"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_chart_is_written(suffix: str, calc_cli: Cli, tmp_path: Path) -> None:
    run = calc_cli("plot", "cache", "gpt2", "-o", tmp_path / f"a.{suffix}", "--size", "4x3", "--dark")
    assert (run.code, run.out) == (0, "")
    assert run.err.splitlines()[0].startswith("GPT-2 small")
    assert run.err.splitlines()[1] == f"wrote {tmp_path / f'a.{suffix}'}"
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_without_a_file_it_is_called_after_the_chart(calc_cli: Cli, tmp_path: Path) -> None:
    run = calc_cli("plot", "experts", "mixtral-8x7b", cwd=tmp_path)
    assert run.code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["experts.png"]


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_values_are_printed_in_four_formats(form: str, calc_cli: Cli, tmp_path: Path) -> None:
    run = calc_cli("plot", "cache", "gpt2", "--format", form, cwd=tmp_path)
    assert run.code == 0
    assert not list(tmp_path.iterdir())
    if form == "json":
        DOCUMENTS["plot"].model_validate_json(run.out)
        assert run.json["panels"][0]["series"][0]["y"][-1] == calc.load("gpt2").cache(1024).bytes
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(run.out)))
        assert rows[-1][-2:] == ["1024", str(calc.load("gpt2").cache(1024).bytes)]


def test_a_chart_of_characters_needs_neither_colour_nor_width(calc_cli: Cli) -> None:
    run = calc_cli("plot", "parameters", "gpt2", "deepseek-v3", "--terminal")
    assert run.code == 0
    assert all(len(line) <= 80 for line in run.out.splitlines())
    assert "\x1b" not in run.out
    ascii_run = calc_cli("plot", "parameters", "gpt2", "-t", env={"PYTHONIOENCODING": "ascii"})
    assert ascii_run.code == 0
    assert ascii_run.out.isascii()
    assert "?" not in ascii_run.out


def test_the_charts_are_listed(calc_cli: Cli) -> None:
    for arguments in (["--list"], []):
        run = calc_cli("plot", *arguments, "--format", "json")
        DOCUMENTS["charts"].model_validate_json(run.out)
        assert [entry["name"] for entry in run.json["charts"]] == list(KINDS)


def test_a_chart_of_what_another_command_printed(calc_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(json.dumps(PROOF), "utf-8")
    run = calc_cli("plot", "proof", "--from", tmp_path / "proof.json", "-t")
    assert run.code == 0
    assert "1 differ" in run.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cahce", "gpt2"], "no chart named 'cahce'; did you mean cache?"),
        (["cache", "gpt22"], "gpt22"),
        (["cache", "gpt2", "-o", "a.gif"], "does not end in .png, .svg or .pdf"),
        (["cache", "gpt2", "--size", "big"], "size = 'big'"),
        (["cache", "gpt2", "--size", "900x900"], "inches"),
        (["cache", "gpt2", "--dpi", "5"], "dpi = 5"),
        (["cache", "gpt2", "-o", "/nowhere/a.png"], "cannot write /nowhere/a.png"),
        (["parameters", "gpt2", "--batch", "3"], "batch changes nothing"),
        (["proof", "--from", "/nowhere.json"], "cannot read /nowhere.json"),
        (["proof", "--from", str(ROOT / "README.md")], "is not JSON"),
        (["cache", "--all"], "leave cache out"),
        (["--all", "-o", str(ROOT / "calc"), "--from", "PROOF"], "which is no part of a gallery"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments: list[str], words: str, calc_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "PROOF").write_text(json.dumps(PROOF), "utf-8")
    assert words in refused(calc_cli("plot", *arguments, cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["PROOF"]


def test_the_gallery_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {name: KINDS[name] for name in ("experts", "proof")}
    monkeypatch.setattr("calc.charts.KINDS", shown)
    monkeypatch.setattr("calc.charts.gallery.KINDS", shown)
    folder = tmp_path / "plots"
    seen: list[tuple[str, int, int]] = []
    result = calc.draw_gallery(folder, results=[PROOF], progress=lambda *told: seen.append(told))
    DOCUMENTS["gallery"].model_validate_json(result.to_json())
    assert seen == [("experts", 0, 2), ("proof", 1, 2), ("", 2, 2)]
    files = {f"{name}{end}" for name in shown for end in (".png", "-dark.png")} | {"README.md"}
    assert {path.name for path in folder.iterdir()} == files
    (folder / "experts.png").write_bytes(b"old")
    (folder / "gone.png").write_bytes(b"of a chart that is no more")
    calc.draw_gallery(folder)
    assert {path.name for path in folder.iterdir()} == {"experts.png", "experts-dark.png", "README.md"}
    assert (folder / "experts.png").read_bytes().startswith(b"\x89PNG")
    (folder / "mine.txt").write_text("do not lose this", "utf-8")
    with pytest.raises(calc.CalcError, match=r"mine\.txt, which is no part of a gallery"):
        calc.draw_gallery(folder)
    assert (folder / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]


def test_a_failure_leaves_the_gallery_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calc.charts.gallery.KINDS", {"proof": KINDS["proof"]})
    folder = tmp_path / "plots"
    calc.draw_gallery(folder, results=[PROOF])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(calc.CalcError):
        calc.draw_gallery(folder, results=[{"kind": "show"}])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]


# ---- the gallery that is kept with the source


def kept() -> str:
    return (GALLERY / "README.md").read_text("utf-8")


def test_the_kept_gallery_shows_every_chart_and_is_small() -> None:
    names = {path.name for path in GALLERY.iterdir()}
    assert names == {f"{name}{end}" for name in KINDS for end in (".png", "-dark.png")} | {"README.md"}
    for path in GALLERY.glob("*.png"):
        assert path.stat().st_size < 150_000, path.name


@pytest.mark.parametrize("name", [name for name in KINDS if not chart(name).of_answers])
def test_the_kept_gallery_says_what_is_computed_today(name: str) -> None:
    picture = calc.plot(name)
    section = page({name: picture}).split("\n", 3)[3].strip()
    assert section in kept(), f"`calc plot --all` would draw {name} otherwise"
    words = command(name).split()
    models: list[Any] = words[3 : words.index("-o")]
    assert calc.plot(words[2], models).data == picture.data, "the printed command draws something else"


def test_the_kept_gallery_shows_the_plan_of_today(calc_cli: Cli) -> None:
    asked, _, _ = command("plan").partition(" > ")
    answer = calc_cli(*asked.split()[1:]).json
    section = page({"plan": calc.plot("plan", results=[answer])}).split("\n", 3)[3].strip()
    assert section in kept(), "`calc plot --all` would draw plan otherwise"


def test_the_kept_gallery_prints_the_command_of_each_chart() -> None:
    assert re.findall(r"```sh\n(.*)\n```", kept()) == [command(name) for name in KINDS]
