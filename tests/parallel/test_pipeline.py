"""Pipeline stages hold the model once, in order; bubbles are those of the papers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc import catalog
from calc.errors import SpecError
from calc.model import Block, Pass, flops_by_operation, parameters
from calc.parallel import Layout, bubble, chunks, stages
from calc.parallel.pipeline import sizes

MODELS = ["llama-3.1-405b", "deepseek-v3", "gemma-2-9b", "jamba-v0.1", "gpt2", "qwen3-next-80b-a3b"]


def interleaved(pp: int, virtual: int) -> Layout:
    schedule = "interleaved" if virtual > 1 else "1f1b"
    return Layout(pp=pp, virtual_stages=virtual, schedule=schedule)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("pp", "virtual"), [(1, 1), (2, 1), (4, 1), (4, 2), (5, 1)])
def test_stages_hold_the_model_once(name: str, pp: int, virtual: int) -> None:
    model = catalog.load(name)
    split = stages(model, interleaved(pp, virtual))
    assert len(split) == pp
    pass_ = Pass.prefill(128)
    whole = sum(flops_by_operation(model.blocks(), pass_).values())
    assert sum(sum(flops_by_operation(stage, pass_).values()) for stage in split) == whole
    copied = model.vocab_size * model.d_model if model.head and model.head.tied and pp > 1 else 0
    assert sum(parameters(stage).total for stage in split) == model.params().total + copied
    places = sorted(place for stage in split for place in _layers(stage))
    assert places == list(range(model.n_layers))


def _layers(stage: list[Block]) -> list[int]:
    return [place for block in stage if block.name == "residual" for run in block.positions for place in run]


def test_ends_stand_in_the_first_and_the_last_stage() -> None:
    first, *_, last = stages(catalog.load("deepseek-v3"), Layout(pp=4), mtp=True)
    assert "embedding" in {block.name for block in first}
    assert {"final_norm", "head"} <= {block.name for block in last}
    assert any(block.layer == "mtp" for block in last)
    assert not any(block.layer == "mtp" for block in first)


def test_the_last_stage_stores_one_copy_of_a_table_that_it_reads() -> None:
    """A tied head (Gemma 2), a prediction module's embedding (DeepSeek-V3, once for all modules)."""
    gemma, deepseek = catalog.load("gemma-2-9b"), catalog.load("deepseek-v3")
    assert deepseek.mtp is not None
    shared = replace(deepseek.mtp, modules=3, stores_embedding=False, stores_head=False)
    several = replace(deepseek, mtp=shared)
    for model, mtp in (
        (gemma, False),
        (several, True),
        (replace(deepseek, mtp=replace(shared, stores_head=True)), True),
    ):
        table = model.vocab_size * model.d_model
        split = stages(model, Layout(pp=3), mtp=mtp)
        stored = sum(parameters(stage).total for stage in split)
        modules = parameters(several.mtp_blocks()).total if mtp else 0
        assert stored == model.params().total + modules + table


def test_virtual_stages_alternate() -> None:
    """Narayanan et al. 2021 §2.2: 16 layers, 4 devices, 2 chunks each: device 0 has layers 0, 1, 8, 9."""
    assert sizes(16, interleaved(4, 2)) == [2] * 8
    first = stages(catalog.load("gpt2-medium"), interleaved(4, 3))[0]
    assert sorted(_layers(first)) == [0, 1, 8, 9, 16, 17]


def test_uneven_layers_spare_the_ends() -> None:
    assert sizes(126, Layout(pp=16)) == [7, *[8] * 14, 7]
    assert sizes(61, Layout(pp=16))[-1] == 3
    assert sizes(61, Layout(pp=4, first_layers=13, last_layers=16)) == [13, 16, 16, 16]
    with pytest.raises(SpecError, match="4 layers cannot be dealt out to 2 stages with 5 in the first or the last"):
        sizes(4, Layout(pp=2, first_layers=5))


@settings(max_examples=100, deadline=None)
@given(n_layers=st.integers(1, 200), pp=st.integers(1, 32))
def test_layers_are_dealt_out_evenly(n_layers: int, pp: int) -> None:
    if n_layers == pp - 2:
        assert sizes(n_layers, Layout(pp=pp)) == [0, *[1] * n_layers, 0]  # table and head are counted as layers
        return
    if n_layers < pp:
        with pytest.raises(SpecError):
            sizes(n_layers, Layout(pp=pp))
        return
    dealt = sizes(n_layers, Layout(pp=pp))
    assert sum(dealt) == n_layers
    assert max(dealt) - min(dealt) <= 1


def test_a_model_on_one_stage_is_whole() -> None:
    model = catalog.load("gpt2")
    assert stages(model, Layout()) == [model.blocks()]
    assert chunks(model, Layout()) == [model.blocks()]


def test_bubbles_are_those_of_the_papers() -> None:
    idle = bubble(Layout(pp=4), 8)
    assert idle / (1 + idle) == pytest.approx(3 / 11)  # (p − 1)/(m + p − 1), GPipe §2.3
    assert bubble(Layout(pp=4, schedule="gpipe"), 8) == idle
    assert bubble(interleaved(4, 2), 8) == pytest.approx(idle / 2)
    zero = Layout(pp=4, schedule="zero_bubble")
    assert bubble(zero, 8) == pytest.approx(idle / 3)  # Qi et al. 2023 §2.3: a third where T_F = T_B = T_W
    assert bubble(zero, 8, forward=1, input_grad=1, weight_grad=2) == 0
    assert bubble(Layout(), 8) == 0


def test_a_schedule_run_step_by_step_idles_as_long() -> None:
    """1F1B by simulation: each stage's forwards and backwards in order, each waiting for its neighbour."""
    for pp, micro_batches in ((2, 4), (4, 8), (4, 4), (8, 24)):
        end = _one_forward_one_backward(pp, micro_batches, forward=1, backward=2)
        assert end / (3 * micro_batches) - 1 == pytest.approx(bubble(Layout(pp=pp), micro_batches))


def _one_forward_one_backward(pp: int, micro_batches: int, forward: int, backward: int) -> int:
    orders = []
    for stage in range(pp):
        warm = min(pp - 1 - stage, micro_batches)
        order = [("F", index) for index in range(warm)]
        for index in range(micro_batches - warm):
            order += [("F", warm + index), ("B", index)]
        orders.append(order + [("B", index) for index in range(micro_batches - warm, micro_batches)])
    done: dict[tuple[str, int, int], int] = {}
    free, at = [0] * pp, [0] * pp
    while any(place < len(order) for place, order in zip(at, orders, strict=True)):
        for stage, order in enumerate(orders):
            if at[stage] == len(order):
                continue
            kind, index = order[at[stage]]
            before = ("F", stage - 1, index) if kind == "F" else ("B", stage + 1, index)
            first = stage == 0 if kind == "F" else stage == pp - 1
            if not first and before not in done:
                continue
            start = max(free[stage], 0 if first else done[before])
            free[stage] = done[kind, stage, index] = start + (forward if kind == "F" else backward)
            at[stage] += 1
    return max(free)
