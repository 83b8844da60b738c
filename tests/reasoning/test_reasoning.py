"""Expected costs of thinking: closed forms, simulation with a fixed seed, sums over the tables."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import sympy

import calc
from calc.errors import CalcError
from calc.generation import Generation, scored
from calc.model import Pass, flops_by_operation, parameters
from calc.mtp import expected_tokens
from calc.reasoning import Chain
from calc.reasoning.chains import best, majority
from calc.reasoning.depth import filling, parse_exits
from calc.reasoning.spending import mean_context, seconds_on
from calc.roofline import time_pass
from calc.schema import DOCUMENTS
from calc.units import dtype
from tests.conftest import Run, refused

MODEL = calc.load("llama-3-8b")


def simulate(chain: Chain, seed: random.Random) -> int:
    """Generate one chain token by token count, as the process is described."""
    tokens = chain.answer_tokens
    for _ in range(chain.steps):
        attempt = 0
        while True:
            attempt += 1
            tokens += chain.step_tokens + chain.check_tokens
            if seed.random() >= chain.redo or attempt == chain.attempts:
                break
    return int(tokens)


@pytest.mark.parametrize(
    "chain",
    [
        Chain(steps=5, step_tokens=30, check_tokens=7, redo=0.3, attempts=3, answer_tokens=11),
        Chain(steps=2, step_tokens=50, redo=0.6, answer_tokens=4),
        Chain(steps=8, step_tokens=10, check_tokens=1, redo=0.9, attempts=2),
    ],
    ids=lambda chain: f"{chain.steps} steps, q = {chain.redo}",
)
def test_the_expectation_is_that_of_a_simulation(chain: Chain) -> None:
    seed = random.Random(7)
    runs = 20_000
    mean = sum(simulate(chain, seed) for _ in range(runs)) / runs
    assert float(chain.generated) == pytest.approx(mean, rel=0.01)


def test_the_formula_reads_symbols() -> None:
    m, s, v, q, y = sympy.symbols("M S V q Y", positive=True)
    chain = Chain(steps=m, step_tokens=s, check_tokens=v, redo=q, attempts=4, answer_tokens=y)
    closed = m * (1 - q**4) / (1 - q) * (s + v) + y
    assert sympy.simplify(chain.generated - closed) == 0
    endless = Chain(steps=m, step_tokens=s, check_tokens=v, redo=q, answer_tokens=y)
    assert sympy.simplify(endless.generated - (m * (s + v) / (1 - q) + y)) == 0


def test_generating_is_the_sum_of_its_decode_steps() -> None:
    run = Generation(MODEL, 100, 20)
    steps = [int(MODEL.flops(Pass.decode(context))) for context in range(101, 121)]
    assert run.between(0, 20) == sum(steps)
    assert run.between(5, 9) == sum(steps[5:9])
    assert run.prefill == MODEL.flops(Pass.prefill(100))


def test_a_window_makes_late_tokens_as_cheap_as_the_window() -> None:
    run = Generation(calc.load("mistral-7b-v0.1"), 6_000, 100)
    assert run.between(0, 50) == run.between(50, 100)


def test_a_chain_without_steps_is_the_answer_alone() -> None:
    data = calc.reason(MODEL, prompt=50, answer=20).data
    assert data["flops"]["total"] == data["plain"]["flops"]
    assert data["tokens"]["discarded"] == 0
    assert data["cache"]["bytes"] == MODEL.cache(70).bytes


def test_a_chain_is_costed_where_its_tokens_stand() -> None:
    """Two steps of 10, checked by 5, no redoing: decode steps 1-15, 11-25 and the answer's 21-24, by hand."""
    data = calc.reason(MODEL, prompt=100, answer=4, steps=2, step_tokens=10, check_tokens=5).data
    cost = {context: int(MODEL.flops(Pass.decode(100 + context))) for context in range(1, 26)}
    thinking = sum(cost[c] for c in range(1, 16)) + sum(cost[c] for c in range(11, 26))
    assert data["flops"]["steps"] == thinking
    assert data["flops"]["answer"] == sum(cost[c] for c in range(21, 25))
    assert data["tokens"]["peak_context"] == 100 + 20 + 5
    assert data["tokens"]["generated"] == 2 * 15 + 4


def test_samples_share_the_prompt() -> None:
    one = calc.reason(MODEL, prompt=1000, answer=100).data
    many = calc.reason(MODEL, prompt=1000, answer=100, samples=8).data
    assert many["flops"]["answer"] == 8 * one["flops"]["answer"]
    assert many["flops"]["prefill"] == one["flops"]["prefill"]
    assert many["cache"]["bytes"] == MODEL.cache(1000).bytes + 8 * (MODEL.cache(1100).bytes - MODEL.cache(1000).bytes)
    assert many["cache"]["unshared_bytes"] == 8 * MODEL.cache(1100).bytes


def test_a_judge_reads_every_sample_and_has_no_vocabulary() -> None:
    judge = calc.load("gpt2")
    data = calc.reason(MODEL, prompt=30, answer=10, samples=4, judge="gpt2").data
    body = sum(flops_by_operation(replace(judge, head=None).blocks(), Pass.prefill(40)).values())
    assert data["flops"]["judge"] == 4 * (body + 2 * judge.d_model)
    assert parameters(scored(judge, "sequence")).total == judge.params().total + judge.d_model  # its head is tied
    llama = parameters(scored(MODEL, "token")).total
    assert llama == MODEL.params().total - 128_256 * 4_096 + 4_096


def test_rates_give_time_and_money() -> None:
    data = calc.reason(
        MODEL, prompt=1000, answer=500, samples=2, tokens_per_second=50, usd_per_hour=3.6, chance=0.5
    ).data
    assert data["time"]["seconds"] == 10
    assert data["usd"] == pytest.approx(0.01)
    data = calc.reason(MODEL, prompt=1000, answer=500, usd_per_million=10, usd_per_million_input=2).data
    assert data["usd"] == pytest.approx((500 * 10 + 1000 * 2) / 1e6)


def test_one_accelerator_gives_time_and_money() -> None:
    """The chain's time is the sum of its steps' times on the device, which the mean context stands for."""
    h100 = calc.load_accelerator("h100-sxm")
    chain = Chain(steps=3, step_tokens=200, check_tokens=40, answer_tokens=100)
    forms = dict.fromkeys(("weight", "activation", "cache"), dtype("bf16"))

    def seconds(pass_: Pass) -> float:
        return float(sum(each.total for each in time_pass(MODEL.blocks(), pass_, h100, forms)))

    contexts = [1000 + step * 200 + token for step in range(3) for token in range(1, 241)]
    contexts += range(1601, 1701)
    exact = seconds(Pass.prefill(1000)) + sum(seconds(Pass.decode(context, 4)) for context in contexts[::20]) * 20
    assert mean_context(chain, 1000) == pytest.approx(sum(contexts) / len(contexts))
    assert seconds_on(h100, MODEL, chain, 1000, 4) == pytest.approx(exact, rel=0.01)
    asked = {"prompt": 1000, "steps": 3, "step_tokens": 200, "check_tokens": 40, "answer": 100, "samples": 4}
    data = calc.reason(MODEL, accelerator="h100-sxm", **asked).data
    assert data["time"]["low"] < data["time"]["seconds"] < data["time"]["high"]
    assert data["time"]["provenance"] == "modelled"
    assert data["usd"] == pytest.approx(h100.price.usd_per_hour * data["time"]["seconds"] / 3600)


def test_samples_share_the_prompts_cache_where_memory_is_asked_for() -> None:
    data = calc.reason(MODEL, prompt=100_000, answer=100, samples=16, accelerator="h100-sxm").data
    assert data["time"]["seconds"] > 0
    assert data["cache"]["bytes"] < 2**34 < data["cache"]["unshared_bytes"]
    with pytest.raises(CalcError, match="with 16 samples needs"):
        calc.reason(MODEL, prompt=1000, answer=100_000, samples=16, accelerator="h100-sxm")


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_longest_context_is_one_figure(steps: int) -> None:
    asked = {"prompt": 1000, "steps": steps, "step_tokens": 100, "check_tokens": 400, "answer": 50}
    result = calc.reason(MODEL, **asked)  # type: ignore[arg-type]
    longest = 1000 + (steps * 100 + 400 if steps else 50)
    chain = Chain(steps=steps, step_tokens=100, check_tokens=400, answer_tokens=50)
    assert result.data["tokens"]["peak_context"] == chain.peak(1000) == longest
    assert result.data["cache"]["bytes"] == MODEL.cache(longest).bytes
    assert str(result.grids[1].rows[2].cells[2]).endswith(f" = {longest:,}")


def test_what_does_not_fit_on_one_accelerator_is_refused() -> None:
    with pytest.raises(CalcError, match=r"llama-3-70b with 1 samples needs .* one h100-sxm has"):
        calc.reason("llama-3-70b", prompt=100, answer=10, accelerator="h100-sxm")
    with pytest.raises(CalcError, match="give either an accelerator or its tokens_per_second"):
        calc.reason(MODEL, prompt=100, answer=10, accelerator="h100-sxm", tokens_per_second=5)


def test_votes_and_coverage_are_those_of_a_simulation() -> None:
    seed = random.Random(11)
    runs = 20_000
    for chance, samples in ((0.6, 5), (0.4, 4), (0.7, 2)):
        won = some = 0.0
        for _ in range(runs):
            right = sum(seed.random() < chance for _ in range(samples))
            won += 1 if 2 * right > samples else 0.5 if 2 * right == samples else 0
            some += right > 0
        assert majority(chance, samples) == pytest.approx(won / runs, abs=0.01)
        assert best(chance, samples) == pytest.approx(some / runs, abs=0.01)


def test_speculation_yields_what_a_simulation_yields() -> None:
    seed = random.Random(3)
    runs = 20_000
    for acceptance, drafted in ((0.8, 4), (0.5, 2), (0.9, 8)):
        total = 0
        for _ in range(runs):
            stood = 0
            while stood < drafted and seed.random() < acceptance:
                stood += 1
            total += stood + 1
        assert float(expected_tokens(acceptance, drafted)) == pytest.approx(total / runs, rel=0.01)


def test_speculation_reproduces_the_formula_of_its_paper() -> None:
    """Leviathan et al. 2023 Theorem 3.8, for two dense models at a short context: checking costs no more bytes."""
    data = calc.speculate("llama-3-70b", "llama-3-8b", acceptance=0.8, drafted=5, context=64).data
    assert data["chosen"]["memory_speedup"] == pytest.approx(data["chosen"]["leviathan"], rel=0.01)
    # their Table 1: a = 0.8, k = 5 at no cost of the drafter gives 3.69 tokens; c = 0.1 leaves 2.46
    assert data["chosen"]["tokens"] == pytest.approx(3.69, abs=0.005)
    ratio = calc.load("llama-3-8b").params().active_matmul / calc.load("llama-3-70b").params().active_matmul
    assert data["chosen"]["leviathan"] == pytest.approx(3.689 / (1 + 5 * ratio), rel=0.01)


def test_a_drafter_with_another_tokenizer_is_noted() -> None:
    def noted(target: str, drafter: str) -> bool:
        return any("one tokenizer" in note for note in calc.speculate(target, drafter, acceptance=0.7).notes)

    assert noted("llama-3.1-70b", "qwen3-0.6b")
    assert not noted("llama-3.1-70b", "llama-3.2-1b")
    assert not noted("qwen2.5-72b", "qwen2.5-0.5b")  # the same tokens, padded to 152,064 and 151,936
    assert not noted("deepseek-v3", "mtp")


def test_checking_touches_more_experts_of_a_mixture() -> None:
    """At batch 1 more tokens of a round meet more experts, whose weights must be read: no free lunch as with dense."""
    sparse = calc.speculate("deepseek-v3", "mtp", acceptance=0.85, drafted=1, context=4096).data["chosen"]
    assert sparse["tokens"] == pytest.approx(1.85)
    assert sparse["memory_speedup"] < 0.75 * sparse["leviathan"]


def test_certain_guesses_are_a_plain_pass_of_many_tokens() -> None:
    data = calc.speculate("llama-3-8b", "gpt2", acceptance=1, drafted=3, context=100).data["chosen"]
    check = Pass(tokens=4, context=103, source=100, phase="decode")
    drafts = sum(int(calc.load("gpt2").flops(Pass.decode(100 + step))) for step in range(3))
    assert data["tokens"] == 4
    assert data["flops"] == (MODEL.flops(check) + drafts) / 4


def test_early_exit_is_the_sum_of_the_layers_below() -> None:
    short = replace(MODEL, stack=(replace(MODEL.stack[0], repeat=24),))
    data = calc.adapt(MODEL, exits={24: 1.0}, confidence="none", context=512).data
    filled = 8 * 2 * 2 * 4_096 * 8 * 128  # keys and values of eight layers: 2·d·k·h each
    assert data["expected"] == short.flops(Pass.decode(512)) + filled
    assert data["mean_layers"] == 24
    assert calc.adapt(MODEL, exits={32: 0.4}, confidence="none").data["share"] == 1


def test_asking_the_head_costs_one_head_for_each_exit_reached() -> None:
    free = calc.adapt(MODEL, exits={8: 0.2, 16: 0.4}, confidence="none", context=512).data
    asked = calc.adapt(MODEL, exits={8: 0.2, 16: 0.4}, confidence="head", context=512).data
    head = 2 * 4_096 * 128_256
    assert asked["expected"] - free["expected"] == pytest.approx((0.4 * 1 + 0.4 * 2) * head)


def test_what_fills_a_cache_is_found_in_every_kind_of_table() -> None:
    """Latent attention fills its cache from one projection; a recurrence from all that writes its state."""
    for name in ("deepseek-v3", "jamba-v0.1", "qwen3-next-80b-a3b", "gemma-3-1b"):
        for block in calc.load(name).blocks():
            names = {operation.name for operation in block.operations}
            assert {state.of for state in block.states} & names <= filling(block) <= names
            assert "o_proj" not in filling(block)
    latent = next(block for block in calc.load("deepseek-v3").blocks() if block.name == "attention")
    assert not [name for name in filling(latent) if name.startswith("q_")]


def test_a_mixture_of_depths_of_everything_is_the_model_and_its_routers() -> None:
    data = calc.adapt(MODEL, capacity=1, every=2, context=512).data
    assert data["expected"] == data["full"] + 16 * 2 * 4_096
    half = calc.adapt(MODEL, capacity=0.125, every=2, context=512).data
    assert half["mean_layers"] == 16 + 16 / 8
    assert half["keys"] == 64
    assert half["cache_bytes"] == MODEL.cache(512).bytes * (1 + 1 / 8) / 2
    assert half["expected"] < data["expected"]


@pytest.mark.parametrize(("every", "spared"), [(1, 9), (2, 0), (5, 2), (4, 0), (3, 3)])
def test_a_mixture_of_depths_thins_the_caches_of_the_routed_layers(every: int, spared: int) -> None:
    """Jamba attends in layers 4, 12, … 68 of 72: counted from 0, those that leave every - 1 are routed."""
    model = calc.load("jamba-1.5-large")
    data = calc.adapt(model, capacity=0.5, every=every, context=4096).data
    each = model.cache(4096).bytes // 9
    assert data["full_cache_bytes"] == 9 * each
    assert data["cache_bytes"] == (9 - spared) * each + spared * each // 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calc.reason(MODEL, prompt=10), "nothing is generated"),
        (lambda: calc.reason(MODEL, prompt=0, answer=1), "prompt = 0 is not a whole number of 1 or more"),
        (lambda: calc.reason(MODEL, prompt=1, answer=-1), "answer_tokens = -1"),
        (lambda: calc.reason(MODEL, prompt=1, answer=1, redo=1.5), "redo = 1.5 is not a chance from 0 to 1"),
        (lambda: calc.reason(MODEL, prompt=1, answer=1, steps=1, step_tokens=1, redo=1), "never ends"),
        (lambda: calc.reason(MODEL, prompt=1, answer=1, samples=0), "samples = 0"),
        (lambda: calc.reason(MODEL, prompt=1, answer=1, chance=2), "chance = 2"),
        (lambda: calc.reason(MODEL, prompt=1, answer=1, usd_per_hour=1), "needs tokens_per_second"),
        (lambda: calc.reason(MODEL, prompt=1, answer=2**23), "more than 4,194,304"),
        (lambda: calc.speculate(MODEL, "gpt2", acceptance=1.2), "acceptance = 1.2"),
        (lambda: calc.speculate(MODEL, "mtp", acceptance=0.8), "no modules for multi-token prediction"),
        (lambda: calc.speculate(MODEL, "gpt2", acceptance=0.8, drafted=0), "drafted = 0"),
        (lambda: calc.adapt(MODEL), "give either exits"),
        (lambda: calc.adapt(MODEL, exits={40: 0.5}), "llama-3-8b has 32"),
        (lambda: calc.adapt(MODEL, exits={8: 0.7, 16: 0.7}), "add up to 1.4"),
        (lambda: calc.adapt(MODEL, capacity=0), "capacity = 0"),
        (lambda: calc.adapt(MODEL, capacity=0.5, every=33), "every = 33"),
        (lambda: parse_exits("8"), "write them as 16:0.3"),
        (lambda: parse_exits("8:0.1,8:0.2"), "write them as 16:0.3"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(CalcError, match=re.escape(words)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        ["reason", "llama-3-8b", "--steps", "4", "--redo", "0.2", "--samples", "4", "--chance", "0.6"],
        ["reason", "llama-3-8b", "--steps", "4", "--accelerator", "h100-sxm"],
        ["reason", "falcon-mamba-7b", "--tokens-per-second", "40", "--usd-per-million", "2"],
        ["speculate", "llama-3-70b", "llama-3-8b", "--acceptance", "0.8"],
        ["adapt", "llama-3-8b", "--exits", "8:0.2,16:0.4"],
        ["adapt", "llama-3-8b", "--capacity", "0.125"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command_line_answers(call: list[str], form: str, calc_cli: Callable[..., Run]) -> None:
    run = calc_cli(*call, "--format", form)
    assert run.code == 0
    if form == "json":
        DOCUMENTS[call[0]].model_validate_json(run.out)


def test_a_context_beyond_the_stated_one_is_said_to_be() -> None:
    said = "llama-3-8b: 9,300 tokens is beyond its stated 8,192"
    assert calc.reason("llama-3-8b", prompt=9000, answer=300).notes == (said,)
    judged = calc.reason("llama-3.1-8b", prompt=9000, answer=300, judge="llama-3-8b", samples=4)
    assert judged.notes == (said,)
    assert calc.speculate("llama-3.1-8b", "llama-3-8b", acceptance=0.5, context=9300).notes == (said,)
    assert calc.adapt("llama-3-8b", capacity=0.5, context=9300).notes == (said,)
    assert calc.adapt("llama-3-8b", exits={8: 0.5}, context=9300).notes == (said,)
    assert calc.reason("llama-3-8b", prompt=1000, answer=300).notes == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["reason", "llama-3-8b", "--step-tokens", "9"], "step_tokens = 9: a chain without --steps has none"),
        (["reason", "llama-3-8b", "--redo", "0.5"], "redo = 0.5: without --steps there are none to redo"),
        (["reason", "llama-3-8b", "--steps", "2", "--attempts", "3"], "attempts = 3: without --redo"),
        (["adapt", "llama-3-8b", "--exits", "8:0.2", "--every", "3"], "every = 3: "),
        (["adapt", "llama-3-8b", "--capacity", "0.5", "--confidence", "none"], "confidence = 'none': "),
    ],
    ids=" ".join,
)
def test_what_would_change_nothing_is_refused(call: list[str], message: str, calc_cli: Callable[..., Run]) -> None:
    assert message in refused(calc_cli(*call))


def test_two_prices_are_refused() -> None:
    with pytest.raises(CalcError, match="by the hour or by a million tokens, not both"):
        calc.reason("llama-3-8b", prompt=9, answer=9, tokens_per_second=9, usd_per_hour=2, usd_per_million=1)


def test_a_wrong_exit_gets_one_clear_line(calc_cli: Callable[..., Run]) -> None:
    assert "write them as 16:0.3,24:0.5" in refused(calc_cli("adapt", "gpt2", "--exits", "a:b"))
