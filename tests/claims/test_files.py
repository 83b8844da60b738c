"""Files of claims from anywhere: what is understood, and what is refused in one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

import calc
from calc import catalog
from calc.claims import files
from calc.report.layout import cells, lines
from calc.schema import DOCUMENTS, schema
from tests.conftest import Run, refused

Cli = Callable[..., Run]

GOOD = """
title = "Our report"
source = "example.org/report"

[[claim]]
id = "total"
says = "Llama 3 8B has 8.03 billion parameters"
stated = 8.03e9
unit = "parameters"
quantity = "params.total"
model = "llama-3-8b"

[[claim]]
id = "cache"
says = "and caches 256 KiB a token"
stated = 256
unit = "KiB"
quantity = "cache.bytes_per_token"
model = "llama-3-8b"

[[claim.convention]]
name = "in fp32"
at = { dtype = "fp32" }
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.toml"
    path.write_text(GOOD, "utf-8")
    return path


def test_anyone_can_audit_a_document(report: Path) -> None:
    claims = calc.audit(report).data["documents"][0]["claims"]
    assert [(one["verdict"], one["computed"]) for one in claims] == [("holds", 8_030_261_248), ("convention", 131_072)]
    assert claims[1]["computed_by_convention"] == 262_144


def replaced(old: str, new: str) -> str:
    """Return the good file with one thing changed."""
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def added(line: str) -> str:
    """Return the good file with a line more in its first claim."""
    return replaced('quantity = "params.total"', f'quantity = "params.total"\n{line}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("title = ", "is not valid TOML"),
        ('title = "x"\nsource = "y"', "claim is missing"),
        ('title = "x"\nsource = "y"\nclaim = []', "a document needs at least one claim"),
        ('title = "x"\nsource = "y"\nclaim = [3]', "claim.0"),
        ('title = "x"\nsource = "y"\nclaim = 3', "claim = 3"),
        (replaced('title = "Our report"', "title = 5"), "title = 5"),
        (replaced('id = "total"\n', ""), "claim.0.id is missing"),
        (replaced('id = "total"', 'id = "to tal"'), "id = 'to tal' may hold letters"),
        (replaced('id = "total"', 'id = "cache"'), "id = 'cache' stands twice"),
        (replaced('says = "Llama 3 8B has 8.03 billion parameters"', 'says = " "'), "says is empty"),
        (replaced("stated = 8.03e9", 'stated = "8.03e9"'), "claim total: claim.0.stated = '8.03e9': must be"),
        (replaced("stated = 8.03e9", "stated = true"), "must be a number"),
        (replaced("stated = 8.03e9", "stated = nan"), "must be a finite number"),
        (replaced("stated = 8.03e9", "stated = inf"), "must be a finite number"),
        (replaced("stated = 8.03e9", "stated = 1e999999999"), "must be a finite number"),
        (replaced("stated = 8.03e9", "stated = [1, 2, 3]"), "a range has two ends"),
        (replaced("stated = 8.03e9", "stated = [2, 1]"), "claim total: the range from 2 to 1 ends before it"),
        (replaced("stated = 8.03e9\n", ""), "claim total states no number"),
        (replaced('unit = "parameters"', 'unit = "parametres"'), "no unit named 'parametres'; did you mean"),
        (replaced('unit = "parameters"', 'unit = "GB"'), "params.total is in parameters, which unit = 'GB'"),
        (replaced('unit = "parameters"\n', ""), "params.total is in parameters, which unit = '' does not measure"),
        (replaced('quantity = "params.total"', 'quantity = "params.totl"'), "no quantity named 'params.totl'"),
        (replaced('quantity = "params.total"', 'quantity = "__import__(\'os\')"'), "no quantity named"),
        (replaced('model = "llama-3-8b"', 'model = "llama-3-8bb"'), "did you mean llama-3-8b"),
        (replaced('model = "llama-3-8b"', 'model = "/no/such.toml"'), "claim total: no such file: /no/such.toml"),
        (replaced('model = "llama-3-8b"\n', ""), "claim total: params.total is a figure of a model"),
        (replaced('quantity = "params.total"\n', ""), "claim total needs either a quantity, a primary source"),
        (replaced('quantity = "params.total"', 'unchecked = "why"'), "has a model, arguments or conventions but"),
        (added('unchecked = "w"'), "needs either"),
        (added('tolerance = 2'), "tolerance = 2"),
        (added('tolerance = "x"'), "claim.0.tolerance = 'x'"),
        (added('primary = 5'), "claim.0.primary"),
        (added('primary = {value = 5}'), "source is missing"),
        (added('nonsense = 5'), "nonsense is not a known field"),
        (replaced('at = { dtype = "fp32" }', 'at = { dtype = "fp33" }'), "claim cache: no dtype named 'fp33'"),
        (replaced('at = { dtype = "fp32" }', "at = 5"), "claim.1.convention.0.at = 5"),
        (replaced('name = "in fp32"\n', ""), "claim cache: claim.1.convention.0.name is missing"),
    ],
)  # fmt: skip
def test_an_odd_file_is_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(calc.CalcError) as error:
        calc.audit(path)
    line = str(error.value)
    assert words in line, line
    assert "\n" not in line
    assert "odd.toml" in line


def test_too_many_claims_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_CLAIMS", 1)
    path = tmp_path / "many.toml"
    path.write_text(GOOD, "utf-8")
    with pytest.raises(calc.CalcError, match="2 claims are more than 1"):
        calc.audit(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sed"], "no document named 'sed'; did you mean seed?"),
        ([""], "no document named ''"),
        (["no/such.toml"], "no such file: no/such.toml"),
        (["claims/seeds.toml"], "did you mean the document seed?"),
        (["seed", "--verdict", "of"], "no verdict named 'of'; did you mean off?"),
        (["seed", "--claim", "v3-parms"], "no claim named 'v3-parms'; did you mean v3-params"),
    ],
)
def test_bad_arguments_get_one_line(arguments: list[str], words: str, calc_cli: Cli) -> None:
    assert words in refused(calc_cli("audit", *arguments))


# ---- what is printed


def test_require_hold_fails_where_something_shown_is_wrong(calc_cli: Cli, report: Path) -> None:
    assert calc_cli("audit", report, "--require-hold").code == 0  # a convention holds
    assert calc_cli("audit", "seed").code == 0
    wrong = calc_cli("audit", "seed", "--require-hold")
    assert (wrong.code, wrong.err) == (1, "")
    assert "contradicted" in wrong.out
    assert calc_cli("audit", "seed", "--verdict", "holds", "--require-hold").code == 0


def test_verdicts_can_be_asked_for() -> None:
    found = calc.audit("seed", verdict=["off", "contradicted"]).data
    kinds = {claim["verdict"] for claim in found["documents"][0]["claims"]}
    assert kinds == {"off", "contradicted"}
    assert found["verdicts"]["holds"] == 0
    assert calc.audit("transformer", verdict="off").grids[0].notes == ("no such claims",)


@pytest.mark.parametrize("form", ["json", "csv", "md"])
def test_the_formats(form: str, calc_cli: Cli) -> None:
    run = calc_cli("audit", "seed", "deepseek-v2", "--format", form)
    assert run.code == 0
    if form == "json":
        DOCUMENTS["audit"].model_validate_json(run.out)
        assert [each["name"] for each in run.json["documents"]] == ["seed", "deepseek-v2"]
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(run.out)))
        assert len({len(row) for row in rows}) == 1
        assert "seed.d-k" in {row[0] for row in rows}
    else:
        assert "| claim | stated" in run.out


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_quantities_are_listed(form: str, calc_cli: Cli) -> None:
    run = calc_cli("audit", "--quantities", "--format", form)
    assert run.code == 0
    assert "cache.values_per_layer" in run.out
    if form == "json":
        DOCUMENTS["quantities"].model_validate_json(run.out)


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_a_terminal_in_one_piece(width: int) -> None:
    text = ["".join(piece for piece, _ in line) for line in lines(calc.audit().grids[0], width)]
    assert max(map(cells, text)) <= width
    assert sum(line.startswith("claim ") for line in text) == 1


def test_one_claim_is_told_in_full() -> None:
    card = calc.audit("seed", claim="gpt3-training").grids[0]
    text = "\n".join("".join(piece for piece, _ in line) for line in lines(card))
    for words in (
        "3.14 × 10²³",
        "318.6 ZFLOP",
        "tokens = 300,000,000,000",
        "314.3 ZFLOP",
        "Table D.1",
        "holds by the rule",
    ):
        assert words in text, words


def test_the_schema_of_a_file_names_the_quantities() -> None:
    found = schema("claims")
    quantities = found["$defs"]["Claim"]["properties"]["quantity"]["anyOf"][0]["enum"]
    assert "cache.saving" in quantities
    assert "GiB" in found["$defs"]["Claim"]["properties"]["unit"]["enum"]


def test_shipped_documents_say_whose_they_are() -> None:
    for name in catalog.names("claims"):
        document = files.load(name)
        assert document.title
        assert document.source
        for claim in document.claim:
            assert len(claim.says) <= 120, claim.id
