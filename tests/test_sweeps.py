"""Sweeps: the integer reading at every point, in one evaluation and bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

import calc
from calc.errors import SpecError
from calc.model import Pass
from calc.sweeps import FIGURES, sweep


def test_every_point_is_the_integer_reading() -> None:
    model = calc.load("llama-3-8b")
    batch, context = np.array([[1], [7]]), np.array([1, 513, 8192])
    found = sweep(model, batch=batch, context=context)
    assert found.shape == (2, 3)
    for row, b in enumerate((1, 7)):
        for column, n in enumerate((1, 513, 8192)):
            held = model.cache(n, b)
            assert found.batch[row, column] == b
            assert found.context[row, column] == n
            assert found.flops_prefill[row, column] == model.flops(Pass.prefill(n, b))
            assert found.flops_decode[row, column] == model.flops(Pass.decode(n, b))
            assert found.flops_train[row, column] == model.training_flops(n, b)
            assert found.cache_bytes[row, column] == held.bytes
            assert found.cache_bytes_per_token[row, column] == held.bytes_per_token
            assert found.state_bytes[row, column] == held.state_bytes
    assert found.params == model.params().total
    assert found.active_params == model.params().active
    assert found.weight_bytes == model.weight_bytes()


def test_a_million_points_at_once() -> None:
    model = calc.load("mistral-7b-v0.1")
    batch, context = np.arange(1, 1001)[:, None], 64 * np.arange(1, 1001)
    found = sweep(model, batch=batch, context=context)
    assert found.flops_prefill.size == 10**6
    for b, n in ((1, 1), (500, 700), (1000, 1000)):
        assert found.cache_bytes[b - 1, n - 1] == model.cache(64 * n, b).bytes
        assert found.flops_decode[b - 1, n - 1] == model.flops(Pass.decode(64 * n, b))


@pytest.mark.parametrize("shapes", [((11, 1), (13,)), ((7,), (7,)), ((), (29,)), ((2, 1, 5), (3, 1)), ((), ())])
def test_chunks_do_not_show(shapes: tuple[tuple[int, ...], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, context = (1 + np.arange(np.prod(shape, dtype=int)).reshape(shape) for shape in shapes)
    whole = sweep("llama-3-8b", batch=batch, context=context)
    monkeypatch.setattr("calc.sweeps.CHUNK", 4)
    parts = sweep("llama-3-8b", batch=batch, context=context)
    assert whole.shape == parts.shape == np.broadcast_shapes(*shapes)
    for name in FIGURES:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_settings_are_those_of_the_other_questions() -> None:
    model = calc.load("llama-3-8b")
    found = sweep(model, context=[4096], cache_dtype="fp8", weights_dtype="int8", causal=False, counts="all")
    assert found.cache_bytes[0] == model.cache(4096, form="fp8").bytes
    assert found.weight_bytes == model.weight_bytes("int8")
    assert found.flops_prefill[0] == model.flops(Pass.prefill(4096, causal=False), "all")


def test_an_encoder_reads_its_own_length() -> None:
    model = calc.load("t5-small")
    found = sweep(model, context=[10, 20], source=[[100], [300]])
    assert found.shape == (2, 2)
    assert found.flops_prefill[1, 0] == model.flops(Pass.prefill(10, source=300))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"context": [0]}, "context = 0 is not a whole number"),
        ({"context": [1.5]}, "context = 1.5"),
        ({"context": [2**53]}, "context = 9007199254740992"),
        ({"context": [float("nan")]}, "context = nan"),
        ({"context": ["many"]}, "context holds"),
        ({"context": [True]}, "context holds bool"),
        ({"context": [[1, 2], [3]]}, "context is not an array"),
        ({"context": [1, 2], "batch": [1, 2, 3]}, "do not broadcast"),
        ({"context": [1], "batch": [-1]}, "batch = -1"),
        ({"context": [1], "counts": "some"}, "counts = 'some'"),
    ],
)
def test_inputs_that_cannot_be(inputs: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        sweep("llama-3-8b", **inputs)  # type: ignore[arg-type]


def test_no_points_is_an_empty_answer() -> None:
    assert sweep("llama-3-8b", context=np.array([], dtype=int)).flops_prefill.shape == (0,)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16])
def test_whole_numbers_of_numpy_do_not_overflow(kind: type[np.integer]) -> None:
    model = calc.load("llama-3-8b")
    exact = model.flops(Pass.prefill(30000, 4096))
    assert model.flops(Pass.prefill(kind(30000), kind(4096))) == exact
    swept = model.flops(Pass.prefill(np.array([30000], kind), np.array([4096], kind)))
    assert swept == pytest.approx([exact])
