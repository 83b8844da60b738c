"""Layouts: what they refuse by themselves, their groups of ranks."""

from __future__ import annotations

from typing import Any

import pytest

from calc.errors import SpecError
from calc.parallel import Layout


def test_devices_are_the_product_of_the_degrees_that_hold_other_work() -> None:
    assert Layout(tp=8, pp=4, cp=2, dp=3, ep=16, expert_tp=1).gpus == 8 * 4 * 2 * 3


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"tp": 0}, "tp = 0 is not a whole number of 1 or more"),
        ({"dp": 2.0}, "dp = 2.0 is not a whole number"),
        ({"pp": True}, "pp = True is not a whole number"),
        ({"zero": 4}, "zero = 4 is not a whole number from 0 to 3"),
        ({"schedule": "dualpipe"}, "schedule = 'dualpipe' is none of 'gpipe', '1f1b'"),
        ({"tp": 4, "expert_tp": 3}, "expert_tp = 3 does not divide tp = 4"),
        ({"ep": 4, "dp": 6}, "ep = 4 does not divide tp·cp·dp = 6"),
        ({"ep": 4, "tp": 2, "dp": 2}, "ep·expert_tp = 4·2 does not divide tp·cp·dp = 4"),
        ({"schedule": "interleaved", "pp": 4}, "needs pp and virtual_stages of 2 or more"),
        ({"virtual_stages": 2, "pp": 4}, "needs schedule = 'interleaved'"),
        ({"first_layers": 3}, "need pp of 2 or more"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason.replace(".", r"\.")):
        Layout(**given)


def test_groups_follow_the_order_of_ranks() -> None:
    """World of 64 ranks, tp innermost: Megatron-Core's ``tp-cp-ep-dp-pp`` with ep over dp ranks."""
    layout = Layout(tp=4, cp=2, dp=4, pp=2, ep=8, expert_tp=1)
    assert layout.group("tp") == (4, 1)
    assert layout.group("cp") == (2, 4)
    assert layout.group("dp") == (8, 4)
    assert layout.group("pp") == (2, 32)
    assert layout.group("ep") == (8, 1)
    assert layout.group("expert_dp") == (4, 8)


def test_text_names_what_is_not_one() -> None:
    assert Layout().text() == "1 device"
    assert Layout(tp=8, pp=2, sequence_parallel=True, zero=1).text() == "tp8 pp2 zero1 sp"
