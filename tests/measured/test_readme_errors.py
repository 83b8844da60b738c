"""The errors that the README states are those that were recorded, and no figure of the record is missing there."""

from __future__ import annotations

import re

from calc.confidence import known_errors
from tests.conftest import ROOT

NAMES = {
    "training: memory": "training.memory",
    "training: step time": "training.time",
    "training: GPU hours": "training.gpu_hours",
    "single operators": "operator",
    "serving: weights": "serving.weights",
    "serving: KV tokens in an engine's log": "serving.cache_given_memory",
    "serving: KV tokens, from device": "serving.cache",
    "serving: time per token": "serving.tpot",
    "serving: time to first token": "serving.ttft",
    "serving: offline throughput": "serving.throughput",
}


def test_the_readmes_errors_are_the_recorded_ones() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \| ([\d.]+) % (mean|median) \|$", text, re.M)
    found = {}
    for name, n, error, statistic in rows:
        key = next(key for start, key in NAMES.items() if name.startswith(start))
        found[key] = (int(n.replace(",", "")), f"{float(error):.2g}", statistic)
    assert set(found) == set(NAMES.values())
    for key, (n, error, statistic) in found.items():
        known = known_errors()[key]
        assert n == known.n, key
        assert error == f"{float(f'{100 * getattr(known, statistic):.2g}'):.2g}", key
