"""``calc ops`` with an accelerator: kernels with their time, as a person and as a program meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import calc
from calc.calibration.report import header
from calc.catalog import load_accelerator
from calc.constants import Calibration, Efficiency
from calc.deviations import Errors
from calc.errors import CalcError
from calc.hardware import Accelerator
from calc.schema import DOCUMENTS
from tests.conftest import Run

Cli = Callable[..., Run]
ERRORS = {"n": 12, "median": 0.04, "mean": 0.05, "p90": 0.1, "bias": 0.01, "low": 0.9, "high": 1.1}


def calibrated(name: str = "h100-sxm", **constants: Any) -> Accelerator:
    found = Calibration(
        device="a test",
        date="2026-01-01",
        constants=Efficiency(**constants),
        errors={"all": Errors(**ERRORS)},
        versions={"transformer-calc": "0"},
    )
    return replace(load_accelerator(name), calibration=found)


def document(**constants: Any) -> dict[str, Any]:
    return {"schema_version": 1, "kind": "calibration", **header(calibrated(**constants))}


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_table_comes_in_four_formats(form: str, calc_cli: Cli) -> None:
    run = calc_cli("ops", "llama-3-8b", "-a", "h100-sxm", "-p", "decode", "--format", form)
    assert run.code == 0
    assert "q_proj+k_proj+v_proj" in run.out
    if form == "json":
        DOCUMENTS["kernels"].model_validate_json(run.out)
    else:
        assert "times are modelled: ±" in run.err


def test_shares_add_up_and_the_total_is_the_sum() -> None:
    data = calc.kernel_table("deepseek-v3", "h200", phase="decode", context=4096, batch=64).data
    kernels, total = data["kernels"], data["total"]
    assert sum(each["share"] for each in kernels) == pytest.approx(1)
    assert sum(each["seconds"] for each in kernels) == pytest.approx(total["seconds"])
    assert sum(each["seconds"] for each in kernels if each["bound"] == "memory") == total["memory_bound_seconds"]
    assert total["low"] < total["seconds"] < total["high"]
    assert all(0 < each["of_roofline"] <= 1 for each in kernels if each["bytes"] > 1e9)
    assert data["provenance"] == "modelled"
    assert data["error"]["n"] > 100


def test_a_training_pass_is_forward_and_backward() -> None:
    train, prefill = (
        calc.kernel_table("llama-3-8b", "h100-sxm", phase=phase, context=4096).data for phase in ("train", "prefill")
    )
    assert 2.8 < train["total"]["seconds"] / prefill["total"]["seconds"] < 3.2
    assert {each["direction"] for each in train["kernels"]} == {"forward", "backward"}


def test_tensor_parallel_devices_share_the_products() -> None:
    one, eight = (calc.kernel_table("llama-3-70b", "h100-sxm", tp=tp, context=4096).data for tp in (1, 8))
    assert eight["total"]["flops"] == pytest.approx(one["total"]["flops"] / 8, rel=0.01)
    assert eight["total"]["seconds"] < one["total"]["seconds"] / 5
    with pytest.raises(CalcError, match="tp"):
        calc.kernel_table("llama-3-70b", "h100-sxm", tp=7)


def test_a_file_of_a_calibration_is_read_back_and_used(tmp_path: Path, calc_cli: Cli) -> None:
    path = tmp_path / "h100.json"
    path.write_text(json.dumps(document(memory=0.4)))
    assert load_accelerator(path) == calibrated(memory=0.4)
    ours = calc_cli("ops", "llama-3-8b", "-p", "decode", "-a", str(path), "-f", "json").json
    theirs = calc_cli("ops", "llama-3-8b", "-p", "decode", "-a", "h100-sxm", "-f", "json").json
    assert ours["accelerator"] == "h100-sxm"
    assert ours["total"]["seconds"] > 1.5 * theirs["total"]["seconds"]
    assert ours["error"]["n"] == 12


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "show"}, "is no calibration"),
        ({"schema_version": 99}, "schema_version = 99"),
        ({"constants": {"magic": 1}}, "calibration.constants.magic is not a known field"),
        ({"constants": {"memory": "much"}}, "calibration.constants.memory = 'much'"),
        ({"constants": {"memory": -0.5}}, "calibration.constants.memory = -0.5"),
        ({"accelerator": {"name": "x"}}, "is missing"),
        ({"accelerator": None}, "accelerator is missing"),
        ({"errors": {}}, "says nothing of its error"),
        ({"versions": None}, "calibration.versions"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**document(), **change}))
    with pytest.raises(CalcError, match=why):
        calc.kernel_table("llama-3-8b", path)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "llama-3-8b", "-n", "8", "-f", "json"),
        ("serve", "llama-3-8b", "-i", "512", "-o", "64", "-f", "json"),
        ("exchange", "llama-3-8b", "--tp", "8", "-f", "json"),
        ("reason", "llama-3-8b", "-f", "json"),
    ],
    ids=lambda command: command[0],
)
def test_a_calibration_is_an_accelerator_everywhere(command: tuple[str, ...], tmp_path: Path, calc_cli: Cli) -> None:
    """What every command says of a calibrated device differs by its constants alone."""
    path = tmp_path / "h100.json"
    path.write_text(json.dumps(document(memory=0.1)))
    run = calc_cli(*command, "-a", str(path))
    assert run.code == 0, run.err
    slow, fast = run.json, calc_cli(*command, "-a", "h100-sxm").json
    assert slow != fast or command[0] == "exchange"  # its links were not calibrated


def test_a_calibrated_device_has_a_card(tmp_path: Path, calc_cli: Cli) -> None:
    path = tmp_path / "h100.json"
    path.write_text(json.dumps(document()))
    run = calc_cli("show", str(path), "-f", "json")
    DOCUMENTS["accelerator"].model_validate_json(run.out)
    assert run.json["calibration"]["errors"]["kernels"]["n"] == 12
    assert "calibrated on a test, 2026-01-01; median errors: kernels 4 %" in calc_cli("show", str(path)).out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-a", "h1000"], "h100"),
        (["--tp", "2"], "--tp is about kernels"),
        (["-p", "train"], "--phase train is about kernels"),
        (["-a", "h100-sxm", "--counts", "all"], "--counts is about operations"),
        (["-a", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(arguments: list[str], why: str, calc_cli: Cli) -> None:
    run = calc_cli("ops", "llama-3-8b", *arguments)
    assert run.code == 1
    assert why in run.err
    assert len(run.err.strip().splitlines()) == 1
    assert not run.out


def test_a_phase_that_is_none_is_refused() -> None:
    with pytest.raises(CalcError, match="phase = 'dream'"):
        calc.kernel_table("llama-3-8b", "h100-sxm", phase="dream")  # type: ignore[arg-type]


def test_a_device_of_large_cores_is_bound_by_memory_at_a_decode_step() -> None:
    for name in ("tpu-v5p", "tpu-v6e", "trainium2", "mi300x", "m2-max"):
        found = calc.kernel_table("llama-3-8b", name, phase="decode", context=4096)
        weights = 15e9 / load_accelerator(name).memory_bytes_per_s
        assert weights < found.data["total"]["seconds"] < 2.5 * weights, name
        assert any("may be further off" in note for note in found.notes)
    assert len(calc.kernel_table("llama-3-8b", "h100-sxm").notes) == 1
    assert len(calc.kernel_table("llama-3-8b", calibrated("tpu-v5p")).notes) == 1
