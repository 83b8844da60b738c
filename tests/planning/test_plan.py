"""calc plan: small plans worked through, what must hold of any, and its contract."""

from __future__ import annotations

import builtins
import json
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from typer.testing import CliRunner

import calc
from calc.cli.app import build
from calc.errors import MissingExtra, SpecError, UnknownName
from calc.planning import Fleet, Lengths, Plan, fleet, plan
from calc.planning.view import SHOWN, grids
from calc.schema import DOCUMENTS

LOAD: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 200, "ttft": 1.0, "tpot": 0.03}
DAY = (0.0,) * 6 + (0.3,) * 6 + (1.0,) * 8 + (0.5,) * 4


@cache
def small(**options: Any) -> Plan:
    """Return a plan of a small model on few devices of one kind."""
    asked = {**LOAD, "rate": 60, "accelerators": ("h100-sxm",), "max_gpus": 16, **options}
    return plan("llama-3.1-8b", **asked)


def test_the_cheapest_meets_the_objectives_and_one_unit_less_does_not() -> None:
    found = small(disaggregated=False)
    best = found.best
    assert best is not None
    assert best.ttft_s <= 1.0
    assert best.tpot_s <= 0.03
    assert best.gpus == best.units * best.family.devices
    for choice in found.choices:
        assert choice.usd_per_hour == pytest.approx(choice.gpus * 3.78)
        assert choice.usd_per_million_output_tokens == pytest.approx(choice.usd_per_hour / 3600 * 1e6 / (60 * 200))
        if choice.units > 1:
            fewer = small(disaggregated=False, max_gpus=choice.gpus - choice.family.devices)
            texts = {each.text() for each in fewer.choices}
            assert not any(text.endswith(f"× {choice.family.unit()}") for text in texts)


@pytest.mark.parametrize("number", range(4))
def test_a_choice_is_what_calc_serve_says(number: int) -> None:
    choice = small(disaggregated=False).choices[number]
    served = calc.serve(
        "llama-3.1-8b", "h100-sxm", gpus=choice.gpus, tp=choice.family.layout.tp, rate=60,
        input_tokens=1000, output_tokens=200, weights_dtype=choice.family.weights_dtype,
    )  # fmt: skip
    assert choice.mean_ttft_s == pytest.approx(served.ttft_s, rel=5e-3)
    assert choice.mean_tpot_s == pytest.approx(served.tpot_s, rel=5e-3)
    assert choice.usd_per_hour == pytest.approx(served.usd_per_hour)
    assert choice.saturation == pytest.approx(float(served.steady.saturation) * served.asked.copies, rel=5e-3)


def test_prompts_read_apart_are_what_calc_serve_says() -> None:
    choice = next(one for one in small().choices if one.reading_units)
    served = calc.serve(
        "llama-3.1-8b", "h100-sxm", gpus=choice.gpus, prefill_gpus=choice.reading_units * choice.family.devices,
        tp=choice.family.layout.tp, rate=60, input_tokens=1000, output_tokens=200,
        weights_dtype=choice.family.weights_dtype,
    )  # fmt: skip
    assert choice.mean_ttft_s == pytest.approx(served.ttft_s + served.transfer_s, rel=5e-3)
    assert choice.mean_tpot_s == pytest.approx(served.tpot_s, rel=5e-3)


def test_experts_shared_by_copies_are_what_calc_serve_says() -> None:
    found = plan("qwen3-30b-a3b", rate=40, accelerators=["h100-sxm"], max_gpus=8, disaggregated=False, **LOAD)
    choice = next(one for one in found.choices if one.family.layout.dp == 8)
    served = calc.serve(
        "qwen3-30b-a3b", "h100-sxm", gpus=8, tp=1, dp=8, ep=8, rate=40, input_tokens=1000, output_tokens=200,
        weights_dtype=choice.family.weights_dtype,
    )  # fmt: skip
    assert choice.mean_ttft_s == pytest.approx(served.ttft_s, rel=5e-3)
    assert choice.mean_tpot_s == pytest.approx(served.tpot_s, rel=5e-3)


def test_more_requests_never_take_fewer_devices() -> None:
    gpus = [small(rate=rate, disaggregated=False).best.gpus for rate in (5, 60, 120)]
    assert gpus == sorted(gpus)
    assert gpus[0] < gpus[-1]


def test_looser_objectives_and_lower_quantiles_are_never_dearer() -> None:
    load = {"rate": 120, "weights_dtype": "bf16"}
    by_tpot = [small(**load, tpot=tpot).best.usd_per_hour for tpot in (0.01, 0.03, 0.1)]
    by_ttft = [small(**load, ttft=ttft).best.usd_per_hour for ttft in (0.15, 1.0)]
    assert by_tpot == sorted(by_tpot, reverse=True)
    assert by_ttft == sorted(by_ttft, reverse=True)
    assert by_tpot[0] > by_tpot[-1]
    high, low = (small(**load, ttft=0.25, quantile=at).best.usd_per_hour for at in (0.99, 0.5))
    assert high > low


def test_times_grow_with_the_quantile() -> None:
    quantiles = small().quantiles
    times = [quantiles[at] for at in sorted(quantiles)]
    assert list(quantiles) == [0.5, 0.9, 0.99]
    assert times == sorted(times)
    assert quantiles[0.9] == pytest.approx((small().best.ttft_s, small().best.tpot_s), rel=5e-3)


def test_a_day_costs_at_most_what_its_peak_would() -> None:
    flat, day = small(rate=120), small(rate=120, profile=DAY)
    assert day.best == flat.best
    assert day.usd_per_day < flat.usd_per_day == pytest.approx(24 * flat.best.usd_per_hour)
    assert day.usd_per_month == pytest.approx(30.4 * day.usd_per_day)
    assert day.hours[:6] == (0,) * 6
    assert max(day.hours) == day.hours[12] == flat.best.gpus
    assert day.hours[6] <= day.hours[20] <= day.hours[12]
    for share, hour in ((0.3, 6), (0.5, 20)):
        assert day.hours[hour] <= -(-share * 2 * flat.best.gpus // 1) + 1


def test_a_histogram_is_planned_as_its_means_and_spreads() -> None:
    histogram = Lengths.of_histogram([(500, 100, 1), (1500, 300, 1)])
    by_hand = Lengths(input_tokens=1000.0, output_tokens=200.0, input_spread=0.5, output_spread=0.5)
    assert histogram == by_hand
    rest = {"ttft": 1.0, "tpot": 0.03, "rate": 60, "accelerators": ["h100-sxm"], "max_gpus": 8}
    rows = [{"input": 500, "output": 100}, (1500, 300)]
    one, other, given = (plan("llama-3.1-8b", lengths=lengths, **rest) for lengths in (histogram, by_hand, rows))
    assert given.demand == one.demand
    assert one.to_dict() == other.to_dict()
    assert one.best.ttft_s < small().best.ttft_s  # a spread of 1, where nothing is said


def test_nothing_of_the_front_is_beaten() -> None:
    front = small().front
    assert len(front) > 3
    for slow, fast in pairwise(front):
        assert slow.per_user < fast.per_user
        assert slow.per_gpu > fast.per_gpu
    for choice in small().choices:
        speed, each = 1 / choice.mean_tpot_s, choice.output_tokens_per_s_per_gpu
        assert any(point.per_user >= speed / 1.011 and point.per_gpu >= each / 1.011 for point in front)


def test_every_whole_number_of_units_is_looked_at() -> None:
    found = small(disaggregated=False, weights_dtype="bf16")
    assert found.evaluated == sum(16 // width for width in (1, 2, 4, 8)) + 1  # eight wide, in two stages


def test_large_fleets_are_searched_in_steps_and_then_one_by_one() -> None:
    options = {"rate": 100_000, "disaggregated": False, "weights_dtype": "fp8-linear", "max_gpus": 20_000}
    best = small(**options).best
    assert best.units > 1024
    # the fixed point of a load comes to rest within 0.2 %: as close is the least number of units
    again = small(**{**options, "max_gpus": int(0.996 * best.gpus)})
    assert not [one for one in again.choices if one.family.layout == best.family.layout]


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"rate": 1e6}, "rate"),
        ({"tpot": 1e-4}, "TPOT"),
        ({"ttft": 1e-3}, "TTFT"),
        ({"input_tokens": 20_000_000}, "memory"),
    ],
)
def test_a_family_is_rejected_for_its_first_limit(options: dict[str, Any], limit: str) -> None:
    found = small(**options)
    assert found.best is None
    assert found.usd_per_day is None
    assert {one.limit for one in found.rejected} == {limit}
    assert all(one.miss >= 1 for one in found.rejected)
    tables = found.to_result().grids
    assert "would do" in tables[0].rows[0].cells[0]
    nearest = min(found.rejected, key=lambda one: one.miss)
    assert tables[-1].rows[0].cells[2].startswith(nearest.reason)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_gpus": 0}, "max_gpus = 0"),
        ({"max_gpus": 2.5}, "max_gpus = 2.5"),
        ({"cached": 2}, "cached = 2"),
        ({"usd_per_hour": -1}, "usd_per_hour = -1"),
        ({"engines": ()}, "names no engine"),
        ({"cache_dtype": "fp9"}, "fp9"),
        ({"weights_dtype": "fp7"}, "fp7"),
        ({"output_tokens": None}, "output_tokens"),
        ({"lengths": Lengths(input_tokens=1, output_tokens=1)}, "one or the other"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(calc.CalcError, match=words):
        small(**options)


def test_a_model_that_writes_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="is an encoder"):
        plan("bert-base-uncased", rate=1, accelerators=["h100-sxm"], max_gpus=2, **LOAD)


def test_a_price_of_ones_own_replaces_the_known_ones() -> None:
    assert small(usd_per_hour=1.0).best.usd_per_hour == small(usd_per_hour=1.0).best.gpus
    unpriced = small(accelerators=("mi300x",), disaggregated=False)
    assert unpriced.best.usd_per_hour is None
    assert unpriced.usd_per_day is None


def test_tables_are_short_and_the_best_comes_first() -> None:
    found = small(accelerators=("h100-sxm", "l40s"), profile=DAY)
    tables = grids(found)
    assert all(len(grid.rows) <= SHOWN for grid in tables)
    assert tables[0].rows[0].cells[0] == found.best.text()
    names = {row.cells[0].split()[0] for row in tables[0].rows}
    assert names == {one.family.accelerator.name for one in found.choices}
    day = next(grid for grid in tables if "day" in grid.title)
    assert day.rows[0].cells[0] == "00–06"


def test_requests_beyond_the_stated_context_are_said_to_be() -> None:
    said = "llama-3-8b: 9,000 tokens is beyond its stated 8,192"
    load = {"rate": 1, "input_tokens": 8500, "output_tokens": 500, "ttft": 2, "tpot": 0.05}
    found = fleet([{"model": "llama-3-8b"}] * 2, accelerators=["h100-sxm"], max_gpus=1, disaggregated=False, **load)
    assert found.plans[0].to_result().notes == (said,)
    assert found.to_result().notes[-1:] == (said,)
    assert said in found.plans[0].to_result().to_json()
    assert small().to_result().notes == ()


def test_one_name_is_as_good_as_a_list_of_it() -> None:
    asked = {"rate": 5, "max_gpus": 2, "disaggregated": False, **LOAD}
    one = plan("llama-3.1-8b", accelerators="h200", engines="vllm", profile=",".join(["1"] * 24), **asked)
    several = plan("llama-3.1-8b", accelerators=["h200", "h200"], engines=["vllm", "vllm"], profile=[1] * 24, **asked)
    assert one.to_dict() == several.to_dict()
    assert fleet({"model": "llama-3.1-8b"}, accelerators="h200", **asked).plans == (one,)
    with pytest.raises(UnknownName, match="no accelerator named 'h20O'"):
        plan("llama-3.1-8b", accelerators="h20O", **asked)


def test_images_are_read_at_every_quantile() -> None:
    found = plan(
        "gemma-3-4b", rate=2, accelerators=["h100-sxm"], max_gpus=1, disaggregated=False, images="3@1000x1000",
        **{**LOAD, "input_tokens": 200, "ttft": 2},
    )  # fmt: skip
    times = [ttft for ttft, _ in found.quantiles.values()]
    assert times == sorted(times)
    assert found.quantiles[0.9] == (found.best.ttft_s, found.best.tpot_s)


def test_a_fleet_adds_up() -> None:
    night = DAY[12:] + DAY[:12]
    demands = [
        {"model": "llama-3.1-8b", "rate": 60, "profile": DAY},
        {"model": "qwen3-8b", "rate": 60, "profile": night},
    ]
    found = fleet(demands, accelerators=["h100-sxm"], max_gpus=8, **LOAD)
    one, other = found.plans
    assert found.complete
    assert found.usd_per_day == pytest.approx(one.usd_per_day + other.usd_per_day)
    assert found.hours["h100-sxm"] == tuple(map(sum, zip(one.hours, other.hours, strict=True)))
    assert found.gpus["h100-sxm"] < one.best.gpus + other.best.gpus  # peaks that differ share devices
    DOCUMENTS["fleet"].model_validate_json(found.to_result().to_json())
    assert found.beyond == 0
    few = fleet(demands, accelerators=["h100-sxm"], max_gpus=max(one.best.gpus, other.best.gpus), **LOAD)
    assert few.beyond == sum(few.gpus.values()) - max(one.best.gpus, other.best.gpus) > 0
    assert not few.complete
    assert f"together {few.beyond} devices more" in few.to_result().notes[0]
    none = Fleet(plans=(one, small(tpot=1e-4)))
    assert not none.complete
    assert none.usd_per_day is None
    assert "nothing would do: TPOT" in none.to_result().grids[0].rows[1].cells[2]
    with pytest.raises(SpecError, match="one model or more"):
        fleet([])


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **options)

    found = small()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match="pip install pandas"):
        found.to_pandas()


def test_choices_become_a_table_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    table = small().to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["gpus"]) == [one.gpus for one in small().choices]


ARGUMENTS = ["plan", "llama-3.1-8b", "-a", "h100-sxm", "-n", "4", "--ttft", "1", "--tpot", "0.03", "--no-disaggregated"]


def run(*further: str) -> Any:
    """Run the command on a small question."""
    arguments = [*ARGUMENTS, *further]
    return CliRunner().invoke(build(arguments), arguments)


@pytest.fixture
def means() -> list[str]:
    return ["--rate", "20", "-i", "1000", "-o", "200"]


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command_answers_in_every_format(form: str, means: list[str]) -> None:
    done = run(*means, "--format", form)
    assert done.exit_code == 0, done.output
    if form == "json":
        data = json.loads(done.stdout)
        DOCUMENTS["plan"].model_validate(data)
        assert data["choices"][0]["gpus"] == plan(
            "llama-3.1-8b", rate=20, accelerators=["h100-sxm"], max_gpus=4, disaggregated=False, **LOAD
        ).best.gpus  # fmt: skip


def test_several_models_are_a_fleet(means: list[str]) -> None:
    data = json.loads(run(*means, "--also", "qwen3-8b:5", "-f", "json").stdout)
    assert DOCUMENTS["fleet"].model_validate(data).kind == "fleet"
    assert [one["model"] for one in data["plans"]] == ["llama-3.1-8b", "qwen3-8b"]


def test_require_plan_says_no_with_its_exit_code(means: list[str]) -> None:
    assert run(*means, "--require-plan").exit_code == 0
    refused = run(*means[2:], "--rate", "1e6", "--require-plan")
    assert (refused.exit_code, refused.stderr) == (1, "")
    assert run(*means[2:], "--rate", "1e6").exit_code == 0


@pytest.mark.parametrize(
    ("further", "words"),
    [
        (["--rate", "20"], "give --input and --output, or --lengths"),
        (["--rate", "20", "-i", "9", "-o", "9", "--lengths", "x.csv"], "one or the other"),
        (["--rate", "20", "--lengths", "no-such.csv"], "no-such.csv"),
        (["--rate", "20", "-i", "9", "-o", "9", "--also", "qwen3-8b"], "MODEL:RATE"),
        (["--rate", "20", "-i", "9", "-o", "9", "-a", "h100-sxn"], "did you mean h100-sxm"),
        (["--rate", "20", "-i", "9", "-o", "9", "--profile", "1,2"], "not 2"),
    ],
)
def test_a_refusal_is_one_line(further: list[str], words: str) -> None:
    done = run(*further)
    assert isinstance(done.exception, calc.CalcError) or done.exit_code == 1
    message = str(done.exception) if isinstance(done.exception, calc.CalcError) else done.output
    assert words in message
    assert "\n" not in message.strip()
