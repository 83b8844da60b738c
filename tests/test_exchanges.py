"""``calc exchange``: what the devices of a layout send to each other, as an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import calc
from calc.errors import SpecError
from calc.exchanges import exchange
from calc.network import collective_time
from calc.parallel import Layout, Ways, collectives
from calc.schema import DOCUMENTS
from tests.conftest import Run, refused

Cli = Callable[..., Run]


def test_figures_are_those_of_the_collectives() -> None:
    layout = Layout(tp=4, dp=2, zero=1, sequence_parallel=True)
    found = exchange("llama-3-8b", layout, phase="train", context=2048, accelerator="h100-sxm").data
    calls = collectives(calc.load("llama-3-8b"), layout, calc.Pass.prefill(2048), training=True)
    assert [(one["after"], one["bytes"], one["count"]) for one in found["calls"]] == [
        (call.after, call.bytes, call.count) for call in calls
    ]
    device = calc.load_accelerator("h100-sxm")
    for when, total in found["total"].items():
        own = [call for call in calls if call.direction == when]
        assert total["sent_bytes"] == pytest.approx(sum(call.sent for call in own))
        assert total["seconds"] == pytest.approx(sum(collective_time(call, device) for call in own))
    assert found["error"]["n"] >= 41


def test_without_an_accelerator_there_is_no_time() -> None:
    result = exchange("mixtral-8x7b", Layout(ep=8, dp=8), ways=Ways(dispatch="once_per_rank"))
    assert all(one["seconds"] is None for one in result.data["calls"])
    assert {total["seconds"] for total in result.data["total"].values()} == {None}
    assert result.notes == ()
    DOCUMENTS["exchange"].model_validate(result.to_dict())


def test_what_is_not_sent_takes_no_time() -> None:
    alone = exchange("gpt2", Layout(), accelerator="h100-sxm").data
    assert [alone["total"][when]["seconds"] for when in ("forward", "backward", "step")] == [0, 0, 0]
    assert exchange("gpt2", Layout()).data["total"]["forward"]["seconds"] is None


def test_a_context_beyond_the_stated_one_is_said_to_be() -> None:
    said = "llama-3-8b: 9,000 tokens is beyond its stated 8,192"
    assert exchange("llama-3-8b", Layout(tp=2), context=9000).notes == (said,)
    assert calc.operation_table("llama-3-8b", context=9000).notes == (said,)
    assert calc.kernel_table("llama-3-8b", "h100-sxm", context=9000).notes[-1] == said


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        (Layout(tp=2, expert_tp=1), {}, "expert_tp = 1: llama-3-8b has no routed experts"),
        (Layout(tp=2), {"ways": Ways(dispatch="all_gather")}, "dispatch = 'all_gather': .* ep = 1"),
        (Layout(tp=2), {"ways": Ways(ring="all_gather")}, "ring = 'all_gather': .* cp = 1"),
        (Layout(tp=2), {"ways": Ways(recompute="full")}, "recompute = 'full': it is of training, not of a prefill"),
        (Layout(dp=2, zero=1), {}, "zero = 1: it is of training, not of a prefill"),
        (Layout(tp=2, zero=1), {"phase": "train"}, "zero = 1: copies share it, and dp·cp = 1"),
        (Layout(dp=2, sequence_parallel=True), {}, "sequence_parallel = True: .* tp = 1"),
        (Layout(tp=2), {"phase": "train", "mtp": True}, "mtp = True: llama-3-8b has no prediction modules"),
    ],
    ids=str,
)
def test_what_would_change_nothing_is_refused(layout: Layout, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        exchange("llama-3-8b", layout, **options)


def test_one_device_sends_nothing() -> None:
    result = exchange("gpt2", Layout(), phase="train", accelerator="h100-sxm")
    assert result.data["calls"] == []
    assert "1 device" in result.grids[0].title


def test_a_batch_is_that_of_a_copy_and_logits_those_of_the_last_position() -> None:
    one, two = (exchange("gpt2", Layout(tp=2, dp=dp), batch=4, context=64) for dp in (1, 2))
    assert "4 × 64 tokens, " in one.grids[0].title
    assert "4 × 64 tokens a copy, " in two.grids[0].title
    assert one.data["calls"] == two.data["calls"]
    [logits] = (call for call in one.data["calls"] if call["after"].endswith("lm_head"))
    assert logits["bytes"] == 4 * 2 * (50_257 + 1)  # the vocabulary in two even parts
    assert "last position" in one.grids[0].notes[0]
    assert not exchange("gpt2", Layout(tp=2), phase="decode").grids[0].notes


def test_where_nothing_is_sent_it_is_said() -> None:
    alone, copies = exchange("gpt2", Layout()), exchange("gpt2", Layout(dp=2))
    assert alone.grids[0].title.endswith("1 device")
    assert alone.notes == ("one device sends nothing: tp, pp, cp, ep and dp divide a model or its data",)
    assert copies.notes == ("nothing is sent in a prefill",)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="stage = 2 is not a whole number from 0 to 1"):
        exchange("gpt2", Layout(pp=2), stage=2)
    with pytest.raises(SpecError, match="phase = 'training' is none of"):
        exchange("gpt2", Layout(), phase="training")


def test_as_a_user_calls_it(calc_cli: Cli) -> None:
    call = ["exchange", "deepseek-v3", "--phase", "train", "--ep", "8", "--dp", "8", "--pp", "2", "--stage", "1"]
    done = calc_cli(*call, "--accelerator", "h100-sxm", "--format", "json")
    assert done.code == 0, done.err
    DOCUMENTS["exchange"].model_validate_json(done.out)
    table = calc_cli(*call)
    assert "all-to-all" in table.out
    assert "once a step" in table.out
    assert "n_kv_heads = 12 is not divisible by tp = 5" in refused(calc_cli("exchange", "gpt2", "--tp", "5"))
