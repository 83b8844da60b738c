"""The proof of collectives: its instrument on known calls, its cases, and that it can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from calc.errors import CalcError
from calc.parallel import Layout
from calc.schema import DOCUMENTS
from calc.validate import prove
from calc.validate.ranks import run
from calc.validate.ranks.cases import CASES, RANKS, Case
from calc.validate.ranks.counter import CollectiveCounter
from calc.validate.ranks.process import Report
from calc.validate.run import Check
from tests.conftest import Run

Cli = Callable[..., Run]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A world of one rank."""
    store = FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=30))
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
def test_the_counter_sees_every_call_with_its_bytes() -> None:
    x, out = torch.ones(6, 4), torch.empty(6, 4)
    counter = CollectiveCounter({dist.group.WORLD.group_name: "world"})
    counter.phase = "forward"
    with counter:
        dist.all_reduce(x)
        dist.all_gather_into_tensor(out, x)
        dist.all_gather([out], x)
        dist.reduce_scatter_tensor(out, x)
        dist.all_to_all_single(out, x)
        x + out
    kinds = [(sent.kind, sent.bytes, sent.group, sent.size) for sent in counter.sent]
    assert kinds == [
        (kind, 6 * 4 * 4, "world", 1)
        for kind in ("all_reduce", "all_gather", "all_gather", "reduce_scatter", "all_to_all")
    ]
    dist.all_reduce(x)
    assert len(counter.sent) == 5


@pytest.mark.usefixtures("alone")
def test_the_counter_knows_what_it_does_not_know() -> None:
    with pytest.raises(KeyError), CollectiveCounter({dist.group.WORLD.group_name: "world"}):
        dist.broadcast(torch.ones(2), 0)


@pytest.fixture(scope="module")
def reports() -> dict[str, list[Report]]:
    """What the processes of every case did."""
    return dict(zip((case.name for case in CASES), run.reports(CASES), strict=True))


@pytest.fixture(scope="module")
def checks(reports: dict[str, list[Report]]) -> list[Check]:
    return [check for case in CASES for check in run.compare(case, reports[case.name])]


def test_every_case_holds(checks: list[Check]) -> None:
    assert [check for check in checks if not check.holds] == []
    assert [check.target for check in checks if check.quantity == "agreement"] == [case.name for case in CASES]


def test_cases_between_them_use_every_kind_and_axis(checks: list[Check]) -> None:
    kinds = {check.operation.split()[0] for check in checks if check.counted}
    axes = {check.path.split()[0] for check in checks if check.counted}
    assert kinds == {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"}
    assert axes >= {"tp", "cp", "ep", "dp", "expert_dp", "pp"}


@pytest.fixture
def reported(reports: dict[str, list[Report]]) -> tuple[Case, list[Report]]:
    case = next(case for case in CASES if case.name == "tensor, sequence")
    return case, reports[case.name]


def test_another_layout_is_disproved(reported: tuple[Case, list[Report]]) -> None:
    case, reports = reported
    assert all(check.holds for check in run.compare(case, reports))
    assert len(reports) == RANKS
    for layout in (Layout(tp=4), Layout(tp=2, dp=2, sequence_parallel=True)):
        assert not all(check.holds for check in run.compare(replace(case, layout=layout), reports))


def test_a_byte_or_a_call_too_few_is_disproved(reported: tuple[Case, list[Report]]) -> None:
    case, (first, *others) = reported
    less = replace(first, sent=first.sent[1:])
    smaller = replace(first, sent=(replace(first.sent[0], bytes=first.sent[0].bytes - 4), *first.sent[1:]))
    further = replace(first, error=0.1)
    for changed in (less, smaller, further):
        assert not all(check.holds for check in run.compare(case, [changed, *others]))


def test_a_process_that_fails_is_told_and_ends_the_others() -> None:
    broken = replace(CASES[0], name="broken", context=17, layout=Layout(tp=4, sequence_parallel=True))
    with pytest.raises(CalcError, match="broken: a process ended with"):
        run.prove_collectives(cases=[broken])


def test_as_a_user_calls_it(calc_cli: Cli) -> None:
    done = calc_cli("validate", "--collectives", "tensor", "--format", "json")
    assert done.code == 0, done.err
    DOCUMENTS["validate"].model_validate_json(done.out)
    [target] = done.json["targets"]
    assert target["holds"] is True
    assert {check["quantity"] for check in target["checks"]} == {"calls", "agreement"}


def test_a_case_that_does_not_exist() -> None:
    with pytest.raises(CalcError, match="no proof of collectives named 'tensr'; did you mean tensor"):
        prove(["tensr"], collectives=True)
