"""Which model a measured row is about, and how many ranks a collective has."""

from __future__ import annotations

import pytest

from calc.measured.models import model_of
from calc.measured.readers.collectives import predict
from calc.measured.rows import Measurement, NotModelled


def row(metric: str = "time", unit: str = "us", **config: object) -> Measurement:
    return Measurement(id="", kind="operator", source="", config=config, metric=metric, value=1, unit=unit)


@pytest.mark.parametrize("layers", [1, 2, 3, 8, 41, 42])
def test_a_model_is_cut_to_its_first_layers(layers: int) -> None:
    whole, cut = model_of(row(model="gemma-2-9b")), model_of(row(model="gemma-2-9b", layers=layers))
    assert (whole.n_layers, cut.n_layers) == (42, layers)
    assert [layer for stack in cut.stack for layer in stack.repeat * stack.layer] == [
        layer for stack in whole.stack for layer in stack.repeat * stack.layer
    ][:layers]


def test_a_cut_may_end_in_any_stack() -> None:
    whole = model_of(row(model="deepseek-v3"))
    assert [model_of(row(model="deepseek-v3", layers=layers)).n_layers for layers in (2, 3, 4, 60)] == [2, 3, 4, 60]
    assert len(whole.stack) > 1


def test_ranks_that_are_not_stated_are_not_guessed() -> None:
    stated = {"op": "all_reduce", "size": 2**20, "hardware": "h100-sxm"}
    assert predict(row(**stated, ranks=8)) is not None
    with pytest.raises(NotModelled, match="num_gpus is not stated"):
        predict(row(**stated))
    two = predict(row(**{**stated, "op": "send"}))
    assert two == predict(row(**{**stated, "op": "send"}, ranks=2))
