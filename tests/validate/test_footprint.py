"""Peak memory and time beside the proof: the path of a GPU, measured here by a meter that counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from calc.catalog import load_accelerator
from calc.errors import SpecError
from calc.schema import DOCUMENTS
from calc.validate import prove, record_proof
from calc.validate.footprint import SEQUENCES, CudaMeter, footprints
from calc.validate.report import result
from calc.validate.run import prove_all, subjects


class Counting:
    """A meter without a device: it runs each call once, and answers by what was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def resident(self) -> int:
        return 1000

    def peak(self, call: Callable[[], object]) -> int:
        self._run(call)
        return 5000

    def seconds(self, call: Callable[[], object]) -> float:
        self._run(call)
        return 0.25

    def _run(self, call: Callable[[], object]) -> None:
        outputs = call()
        assert isinstance(outputs, list)
        assert all(isinstance(output, torch.Tensor) for output in outputs)
        self.calls += 1


@pytest.mark.parametrize("name", ["gqa", "mla", "moe", "gated_delta"])
def test_every_sample_is_measured_forward_and_in_training(name: str) -> None:
    meter = Counting()
    (sample, *_) = subjects([name], everything=False)[name]
    found = list(footprints(sample, "cpu", meter, load_accelerator("h100-sxm")))
    assert [one.phase for one in found] == ["forward", "training"]
    assert meter.calls == 4
    assert {(one.resident, one.peak, one.seconds, one.batch) for one in found} == {(1000, 5000, 0.25, SEQUENCES)}
    forward, training = (one.modelled for one in found)
    assert forward is not None
    assert training is not None
    assert 2 * forward < training < 5 * forward


def test_what_was_measured_is_in_the_answer_and_in_the_record(tmp_path: Path) -> None:
    meter = Counting()
    wanted = subjects(["gqa"], everything=False)
    answer = result(prove_all(wanted, "cpu", meter=meter), detailed=False)
    DOCUMENTS["validate"].model_validate_json(answer.to_json())
    assert len(answer.data["measured"]) == 2 * len(wanted["gqa"])
    assert all(each["modelled"] is None for each in answer.data["measured"])  # "cpu" is no accelerator
    assert "Measured on cpu" in [grid.title for grid in answer.grids]
    record = json.loads(record_proof(answer, tmp_path / "proof.json").read_text())
    assert {"device", "date", "versions", "targets", "measured"} <= set(record)
    with pytest.raises(SpecError, match="cannot write"):
        record_proof(answer, tmp_path / "nowhere" / "proof.json")


def test_a_proof_on_the_cpu_measures_nothing_beside() -> None:
    assert prove(["gqa"]).data["measured"] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_tells_memory_and_time() -> None:
    meter = CudaMeter("cuda")
    size = 2**22
    before = meter.resident()
    assert meter.peak(lambda: torch.empty(size, dtype=torch.uint8, device="cuda")) == before + size
    assert meter.resident() == before
    one = torch.empty(2**26, device="cuda")
    assert 0 < meter.seconds(lambda: one.add_(1)) < 1
    found = prove(["gqa"], device="cuda").data
    assert found["holds"]
    assert all(each["peak"] > each["resident"] > 0 for each in found["measured"])
