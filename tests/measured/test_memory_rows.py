"""Training memory against the published measurements: bars by source, and rows that cannot be what they say."""

from __future__ import annotations

from statistics import fmean

import pytest

from calc.measured.readers import predict
from calc.measured.rows import Measurement, NotModelled, read

SOURCES = {
    "SimuMax": ("MooreThreads/SimuMax", "allocated"),
    "SimuMax, reserved": ("MooreThreads/SimuMax", "reserved"),
    "Korthikanti": ("Korthikanti", ""),
    "LitGPT": ("litgpt tutorials", ""),
    "bigscience": ("bigscience", ""),
}
BARS = {"SimuMax": 0.005, "SimuMax, reserved": 0.03, "Korthikanti": 0.005, "LitGPT": 0.025, "bigscience": 0.06}


def _rows() -> list[Measurement]:
    return [each for row in read() for each in (row, *row.further()) if each.kind == "memory" and row.tier != "anchor"]


def _errors(rows: list[Measurement]) -> list[float]:
    found = []
    for row in rows:
        try:
            prediction = predict(row)
        except NotModelled:
            continue
        if prediction.quantity == "training.memory":
            found.append(abs(prediction.value / row.value - 1))
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_errors_by_source(name: str) -> None:
    source, metric = SOURCES[name]
    errors = _errors([row for row in _rows() if source in row.source and metric in row.metric])
    assert len(errors) >= 8
    assert fmean(errors) < BARS[name]


def test_the_mean_error_of_all_sources_is_within_the_bar() -> None:
    errors = _errors(_rows())
    assert len(errors) > 110
    assert fmean(errors) < 0.05


def _row(**config: object) -> Measurement:
    return Measurement(
        id="t", kind="memory", source="Lightning-AI/litgpt config_hub", config=config, metric="peak_memory", value=1,
        unit="GB",
    )  # fmt: skip


def test_a_run_that_its_device_cannot_hold_is_not_predicted() -> None:
    row = _row(
        model="llama-3.2-3b", config="llama-3.2-3b/full.yaml", method="full", seq_len=512, micro_batch_size=4,
        hardware="1xA10G",
    )  # fmt: skip
    with pytest.raises(NotModelled, match="weights, gradients and optimizer alone take 27 GiB, more than 1xA10G has"):
        predict(row)


def test_rows_that_lack_what_is_needed_say_what() -> None:
    with pytest.raises(NotModelled, match="longest_example_tokens is not stated"):
        predict(_row(model="tiny-llama", method="lora", micro_batch_size=1, hardware="1xA10G"))


def test_generating_on_one_device_takes_weights_a_short_cache_and_one_matrix_in_16_bits() -> None:
    rows = [row for row in _rows() if "Inference" in str(row.config.get("task"))]
    errors = [abs(prediction.value / row.value - 1) for row in rows if (prediction := predict(row))]
    assert len(errors) >= 8
    assert max(errors) < 0.01
