"""What training costs: parts that add up, answers that move the right way, refusals with their reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

import calc
from calc.catalog import names
from calc.errors import SpecError, UnknownName
from calc.measured import read
from calc.measured.readers import predict
from calc.model import Pass, flops_by_operation
from calc.schema import DOCUMENTS
from calc.training import load_practice, step_time
from calc.training.run import RECOMPUTE, Method, Recompute, Run
from calc.training.step import CONTENTION, PARTS, beside
from calc.training.work import flops_again
from tests.conftest import Run as Called

BASE = {"tp": 4, "pp": 4, "zero": 1, "context": 4096, "micro_batch": 1, "global_batch": 256}


def run_of(**values: object) -> Run:
    settings = {
        "model": calc.load("llama-3-8b"),
        "accelerator": calc.load_accelerator("h100-sxm"),
        "layout": calc.train("llama-3-8b", "h100-sxm", 8, zero=3).run.layout,
        "micro_batch": 1,
        "global_batch": 8,
        "context": 4096,
        "practice": load_practice("torchtitan"),
    }
    return Run(**{**settings, **values})


def test_the_parts_of_a_step_and_of_the_memory_add_up() -> None:
    answer = calc.train("llama-3.1-70b", "h100-sxm", 64, **BASE, recompute="full")
    data = answer.to_dict()
    time, memory = data["time"], data["memory"]["per_gpu"]
    assert sum(time["parts"].values()) == pytest.approx(time["iteration"])
    whole = time["compute"] + time["communication"] + time["bubble"] + time["optimizer"]
    assert whole == pytest.approx(time["iteration"])
    parts = ("weights", "gradients", "optimizer", "activations", "other")
    assert sum(memory[part] for part in parts) == pytest.approx(memory["total"])


def test_the_head_is_not_computed_again() -> None:
    answer = calc.train("llama-3.1-70b", "h100-sxm", 64, **BASE, recompute="full")
    forward = flops_by_operation(answer.run.model.blocks(), Pass.prefill(4096, causal=False))
    whole = sum(forward.values())
    assert answer.hfu / answer.mfu == pytest.approx(1 + (whole - forward["head", "lm_head"]) / (3 * whole))


@pytest.mark.parametrize("framework", ["megatron-core", "megatron-lm"])
def test_selective_recompute_repeats_the_attention_core(framework: str) -> None:
    plain, again = (
        calc.train("llama-3-8b", "h100-sxm", 8, zero=3, framework=framework, recompute=kind)
        for kind in ("none", "selective")
    )
    assert plain.hfu == plain.mfu
    assert plain.time.recompute == 0 < again.time.recompute
    forward = flops_by_operation(again.run.model.blocks(), Pass.prefill(4096, causal=False))
    core = sum(flops for (_, name), flops in forward.items() if name in ("scores", "values"))
    assert again.hfu / again.mfu == pytest.approx(1 + core / (3 * sum(forward.values())))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("framework", names("practices"))
def test_what_is_computed_again_takes_time_and_flops_or_neither(framework: str, recompute: Recompute) -> None:
    run = run_of(practice=load_practice(framework), recompute=recompute)
    assert (step_time(run).recompute > 0) == (flops_again(run) > 0) == (recompute != "none")
    assert flops_again(run) < run.model.training_flops(run.context, run.global_batch, causal=False) / 3


def test_the_bill_follows_from_the_step() -> None:
    answer = calc.train("llama-3-8b", "h100-sxm", 16, zero=3, tokens=10**12, usd_per_hour=2.0)
    budget = answer.budget
    assert budget is not None
    assert budget.seconds == pytest.approx(10**12 / answer.tokens_per_second)
    assert budget.gpu_hours == pytest.approx(budget.seconds / 3600 * 16)
    assert budget.usd == pytest.approx(2 * budget.gpu_hours)
    assert budget.joules == pytest.approx(budget.seconds * 16 * 700)
    assert budget.days == pytest.approx(budget.seconds / 86400)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"recompute": "full"}, "recompute"),
        ({"context": 8192}, "compute"),
        ({"precision": "fp8"}, "compute"),
    ],
)
def test_what_must_move_a_step_moves_it(changes: dict[str, object], part: str) -> None:
    before = calc.train("llama-3.1-70b", "h100-sxm", 64, **BASE)
    after = calc.train("llama-3.1-70b", "h100-sxm", 64, **{**BASE, **changes})
    assert getattr(after.time, part) != pytest.approx(getattr(before.time, part), rel=1e-3)
    slower = part == "recompute" or "context" in changes
    assert (after.time.iteration > before.time.iteration) == slower


def test_more_devices_take_less_time_and_cost_no_less() -> None:
    few, many = (calc.train("llama-3-8b", "h100-sxm", n, zero=3, global_batch=1024, tokens=10**11) for n in (64, 512))
    assert few.budget
    assert many.budget
    assert many.budget.days < few.budget.days
    assert many.budget.gpu_hours >= 0.99 * few.budget.gpu_hours


def test_a_bubble_shrinks_with_micro_batches_and_virtual_stages() -> None:
    plain = calc.train("llama-3.1-70b", "h100-sxm", 64, **BASE).time
    longer = calc.train("llama-3.1-70b", "h100-sxm", 64, **{**BASE, "global_batch": 1024}).time
    virtual = calc.train("llama-3.1-70b", "h100-sxm", 64, **BASE, virtual_stages=2).time
    assert plain.bubble / plain.iteration > longer.bubble / longer.iteration
    assert virtual.bubble < plain.bubble
    # 3 of 64 micro-batches' time stands idle
    work = plain.iteration - plain.bubble - plain.optimizer
    assert plain.bubble == pytest.approx(work * 3 / 64, rel=0.1)


def test_a_lora_run_has_no_weight_gradients_and_no_update() -> None:
    full, lora = (step_time(run_of(method=method)) for method in ("full", "lora"))
    assert lora.optimizer == 0 < full.optimizer
    assert lora.compute < 0.75 * full.compute


@pytest.mark.parametrize(("model", "adapted"), [("llama-3.1-8b", 41_943_040), ("llama-3.2-1b", 11_272_192)])
def test_a_quantised_base_leaves_its_head_as_it_is(model: str, adapted: int) -> None:
    weights = calc.train(model, "h100-sxm", 1, method="qlora", context=512).memory.weights
    assert weights == calc.load(model).weight_bytes("nf4-linear") + 2 * adapted


@pytest.mark.parametrize(("optimizer", "moved"), [("adam", 34), ("sgd-momentum", 26), ("sgd", 18)])
def test_an_update_moves_what_the_optimizer_keeps(optimizer: str, moved: int) -> None:
    adam, other = (step_time(run_of(optimizer=name)).optimizer for name in ("adam", optimizer))
    assert other / adam == pytest.approx(moved / 34)


def test_what_an_update_computes_beside_moving_is_said() -> None:
    for optimizer, method, words in (
        ("muon", "full", "Newton-Schulz"), ("adafactor", "full", "clipping"), ("muon", "lora", "update of adapters"),
    ):  # fmt: skip
        [card] = calc.train("llama-3-8b", "h100-sxm", 8, optimizer=optimizer, method=method).to_result().grids  # type: ignore[arg-type]
        assert words in card.notes[-1]


def test_experts_are_updated_by_the_ranks_that_hold_them() -> None:
    spread = {"tp": 1, "zero": 1, "precision": "bf16"}
    apart, together = (calc.train("mixtral-8x7b", "h100-sxm", 8, ep=ep, **spread).time for ep in (8, 1))  # type: ignore[arg-type]
    # eight ranks share the update of all experts, or each has that of its own
    assert apart.optimizer == pytest.approx(together.optimizer)


def test_communication_is_hidden_behind_computing_but_not_for_nothing() -> None:
    assert beside(1.0, 0.0) == 1
    assert beside(1.0, 2.0) == pytest.approx(CONTENTION)
    assert set(PARTS.values()) == {"tensor", "expert", "context", "pipeline", "data"}


def test_what_does_not_fit_names_the_limit_and_a_change_that_helps() -> None:
    answer = calc.train("llama-3-8b", "h100-sxm", 8)
    assert not answer.fits
    assert answer.limit.startswith("memory: ")
    assert answer.change == "zero = 2"
    assert calc.train("llama-3-8b", "h100-sxm", 8, zero=2).fits


def test_not_fitting_is_an_answer_whatever_changes_could_be_tried() -> None:
    answer = calc.train("mixtral-8x7b", "h100-sxm", 8, ep=8, context=32_768)  # tp = 2 would not go with ep = 8
    assert not answer.fits
    assert answer.limit.startswith("memory: ")


def test_a_layout_that_was_found_takes_the_same_step_when_asked_for() -> None:
    found = calc.train("llama-3.1-70b", "h100-sxm", 64, context=4096, search=True)
    every = (found, *found.others)
    assert any(one.run.layout.pp > 1 for one in every)
    for one in every:
        run, layout = one.run, one.run.layout
        degrees = {name: getattr(layout, name) for name in ("tp", "pp", "cp", "ep", "dp", "expert_tp", "zero")}
        again = calc.train(
            "llama-3.1-70b", "h100-sxm", 64, context=4096, micro_batch=run.micro_batch, recompute=run.recompute,
            virtual_stages=layout.virtual_stages, sequence_parallel=layout.sequence_parallel, **degrees,
        )  # fmt: skip
        assert again.run == run
        assert again.time == one.time


def test_copies_are_those_that_fill_the_devices() -> None:
    assert calc.train("gpt2", "h100-sxm", 8, tp=2, dp=4).run.layout.dp == 4
    with pytest.raises(SpecError, match="tp·cp·dp·pp = 2·1·2·1 = 4 devices, not 8"):
        calc.train("gpt2", "h100-sxm", 8, tp=2, dp=2)


def test_a_search_finds_what_fits_fastest_first() -> None:
    found = calc.train("llama-3-8b", "h100-sxm", 16, context=8192, search=True)
    every = (found, *found.others)
    assert all(one.fits for one in every)
    rates = [one.tokens_per_second for one in every]
    assert rates == sorted(rates, reverse=True)
    with pytest.raises(SpecError, match="no layout of 2 h100-sxm fits; the nearest needs"):
        calc.train("llama-3.1-405b", "h100-sxm", 2, search=True)


@pytest.mark.parametrize("name", names("practices"))
def test_every_practice_loads_and_times_a_step(name: str) -> None:
    practice = load_practice(name)
    assert practice.source
    assert 0.02 < step_time(run_of(practice=practice)).iteration < 5


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("name", ["jamba-v0.1", "deepseek-v4-flash", "gemini-2.5-pro", "mamba2-2.7b", "gemma-3n-e4b"])
def test_every_architecture_is_trained(name: str, method: Method) -> None:
    answer = calc.train(name, "h100-sxm", 8, zero=3, recompute="full", context=512, method=method)
    assert 0 < answer.mfu < 1
    assert answer.memory.total > 0
    titles = " ".join(answer.to_result().grids[0].notes)
    assert ("never published" in titles) == (name == "gemini-2.5-pro")


@pytest.mark.parametrize("device", ["tpu-v5p", "rtx-4090", "mi300x", "gb200", "v100-32gb"])
def test_every_device_trains_below_its_peak(device: str) -> None:
    precision = "fp16" if device.startswith("v100") else "bf16"
    assert 0.02 < calc.train("llama-3-8b", device, 4, zero=3, precision=precision).mfu < 0.8


def test_experts_cost_their_exchange() -> None:
    answer = calc.train("qwen3-30b-a3b", "h100-sxm", 8, ep=8, expert_tp=1, micro_batch=4, recompute="full")
    assert answer.time.expert > 0
    assert answer.time.tensor == 0


def test_megatron_530b_took_49_seconds() -> None:
    """Korthikanti et al. 2022, arXiv:2205.05198, Table 5: 37.83 s with selective recompute and sequence parallelism."""
    row = next(row for row in read() if row.id == "korthikanti-tab5-006")
    assert predict(row).value == pytest.approx(37.83, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--tp", "3"], "gpus = 8 is not divisible by tp·pp·cp = 3·1·1"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--dp", "4"], "tp·cp·dp·pp = 1·1·4·1 = 4 devices, not 8"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "0"], "gpus = 0 is not a whole number"),
        (["llama-3-8b", "-a", "h100-sx", "-n", "8"], "h100-sxm"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--framework", "megatrn"], "did you mean"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--precision", "fp7"], "training precision"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--ep", "8"], "has no routed experts"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--global-batch", "12"], "is not divisible by dp·micro_batch"),
        (["llama-3-8b", "-a", "h100-sxm", "-n", "8", "--tokens", "-1"], "is not a number such as 1.4T"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], message: str, calc_cli: object) -> None:
    run: Called = calc_cli("train", *arguments)  # type: ignore[operator]
    assert run.code == 1
    assert message in run.err
    assert len(run.err.strip().splitlines()) == 1


def test_the_command_answers_as_json(calc_cli: object) -> None:
    call = ["train", "llama-3-8b", "-a", "h100-sxm", "-n", "8", "--zero", "3", "--tokens", "1e12", "--format", "json"]
    run: Called = calc_cli(*call)  # type: ignore[operator]
    assert run.code == 0
    DOCUMENTS["train"].model_validate_json(run.out)
    data = json.loads(run.out)
    assert {"days", "gpu_hours", "usd", "joules", "mfu", "hfu", "tokens_per_second_per_gpu"} <= set(data)
    unfit: Called = calc_cli("train", "llama-3-8b", "-a", "h100-sxm", "-n", "8", "--require-fit")  # type: ignore[operator]
    assert unfit.code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mtp": True}, "mtp = True: llama-3-8b has no prediction modules"),
        ({"mtp": True, "search": True}, "mtp = True: llama-3-8b has no prediction modules"),
        ({"expert_tp": 1}, "expert_tp = 1: llama-3-8b has no routed experts"),
        ({"lora_rank": 8}, "lora_rank = 8: adapters have a rank"),
        ({"usd_per_hour": 2}, "usd_per_hour = 2: a price needs tokens"),
        ({"sequence_parallel": True}, "sequence_parallel = True: .* tp = 1"),
        ({"schedule": "gpipe"}, "schedule = 'gpipe': .* pp = 1"),
    ],
    ids=str,
)
def test_what_would_change_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        calc.train("llama-3-8b", "h100-sxm", 8, **options)


def test_an_unknown_practice_is_refused() -> None:
    with pytest.raises(UnknownName, match="no training framework named"):
        load_practice("nothing")


def test_what_is_left_out_of_a_model_with_towers_is_said() -> None:
    said = "text alone: what reads images is neither loaded nor trained here"
    for name, there in (("qwen2.5-vl-7b", True), ("llama-3-8b", False)):
        [card] = calc.train(name, "h100-sxm", 8, zero=3).to_result().grids
        assert (said in card.notes) is there


@pytest.mark.parametrize("given", [{"tp": 8}, {"recompute": "full"}, {"micro_batch": 4}, {"dp": 4}])
def test_what_a_search_chooses_is_not_for_the_caller_to_give(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="a search chooses it"):
        calc.train("llama-3-8b", "h100-sxm", 8, search=True, **given)
