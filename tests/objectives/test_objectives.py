"""Training objectives: counted in PyTorch where they can be, read off the tables everywhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import sympy
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import calc
from calc.embedding import Pooler
from calc.errors import CalcError
from calc.generation import scored
from calc.memory import training_memory
from calc.model import Pass, flops_by_operation, training_flops
from calc.objectives import OBJECTIVES
from calc.objectives.parts import similarity_flops
from calc.objectives.plans import stored_bytes_per_token
from calc.reference.model import ModelTwin
from calc.schema import DOCUMENTS
from calc.validate.shrink import shrunk
from tests.conftest import Run, refused

LLAMA = calc.load("llama-3-8b")


def phases(name: str, *args: object, **kwargs: object) -> dict[str, float]:
    data = calc.objective(name, *args, **kwargs).data  # type: ignore[arg-type]
    return {entry["name"]: entry["flops"] for entry in data["phases"]}


@pytest.mark.parametrize(("batch", "width"), [(8, 16), (33, 7), (64, 128)])
def test_the_squared_term_is_what_pytorch_multiplies(batch: int, width: int) -> None:
    """CLIP's loss as its paper writes it: similarities both ways from one matrix, cross-entropy, backward."""
    images = torch.randn(batch, width, requires_grad=True)
    texts = torch.randn(batch, width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        logits = images @ texts.T
        target = torch.arange(batch)
        loss = nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == similarity_flops(batch, width, backward=False)
    assert counter.get_total_flops() == similarity_flops(batch, width)


def test_the_squared_term_reads_symbols() -> None:
    b, d = sympy.symbols("B d", positive=True)
    assert sympy.expand(similarity_flops(b, d)) == 6 * b**2 * d


def test_the_squared_term_grows_with_the_square_and_the_towers_do_not() -> None:
    small = phases("contrastive", "bert-base-uncased", batch=1024, prompt=77, answer=77)
    large = phases("contrastive", "bert-base-uncased", batch=4096, prompt=77, answer=77)
    assert large["similarities"] == 16 * small["similarities"]
    assert large["first tower"] == 4 * small["first tower"]


@pytest.mark.parametrize(("vocabulary", "top_k"), [(1_000, 8), (65_536, 64), (65_537, 64), (262_144, 256)])
def test_storage_is_that_of_the_tensors_that_are_stored(vocabulary: int, top_k: int) -> None:
    tokens = 3
    values, indices = torch.randn(tokens, vocabulary).topk(top_k)
    kept = values.to(torch.bfloat16)
    places = indices.to(torch.uint16 if vocabulary <= 2**16 else torch.int32)
    whole, packed = stored_bytes_per_token(vocabulary, top_k)
    assert kept.nbytes + places.nbytes == tokens * whole
    # as bit strings: the shortest of equal length that tell all places apart
    bits = "".join(format(int(place), f"0{(vocabulary - 1).bit_length()}b") for place in indices.flatten())
    assert kept.nbytes + len(bits) / 8 == tokens * packed


def test_the_articles_top_k_saves_what_it_says() -> None:
    """256 to 1024 of about 256 K logits: 333 to 83 times less than all of them, in bf16 with int32 places."""
    data = calc.objective("distillation", "gemma-3-4b", other="gemma-3-27b", tokens=1e12, top_k=256).data
    sizes = {entry["name"]: entry["bytes"] for entry in data["stored"]}
    assert sizes["top-K logits"] == 1e12 * 256 * 6
    assert sizes["all logits"] / sizes["top-K logits"] == pytest.approx(262_208 * 2 / (256 * 6))
    assert data["whole"]


def test_distillation_reads_the_corpus_with_the_teacher_once() -> None:
    run = phases("distillation", "gpt2", other="gpt2-xl", tokens=1024 * 1000, prompt=512, answer=512)
    assert run["teacher"] == pytest.approx(1000 * calc.load("gpt2-xl").flops(Pass.prefill(1024)))
    assert run["train student"] == pytest.approx(1000 * calc.load("gpt2").training_flops(1024))


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2", "mixtral-8x7b"])
def test_a_reward_model_multiplies_what_its_twin_multiplies(name: str) -> None:
    small = shrunk(calc.load(name))
    twin = ModelTwin(replace(small, head=None, pooler=None))
    end = nn.Linear(small.d_model, 1, bias=False)
    tokens = torch.randint(0, small.vocab_size, (2, 6))
    with FlopCounterMode(display=False) as counter:
        end(twin(tokens)[0])
    full = Pass.prefill(6, 2, causal=False)
    assert counter.get_total_flops() == sum(flops_by_operation(scored(small, "token"), full).values())
    with FlopCounterMode(display=False) as counter:
        end(twin(tokens)[0][:, -1])
    assert counter.get_total_flops() == sum(flops_by_operation(scored(small, "sequence"), full).values())


def test_one_number_for_a_sequence_is_a_classifier_of_one_class() -> None:
    """Two ways to write a reward model: the scalar end, and the library's classifier with one label."""
    classifier = replace(LLAMA, head=None, pooler=Pooler(square=False, n_labels=1))
    pass_ = Pass.prefill(64, 4)
    assert sum(flops_by_operation(scored(LLAMA, "sequence"), pass_).values()) == classifier.flops(pass_)


def test_direct_preference_costs_four_thirds_of_training_on_its_pairs() -> None:
    run = phases("dpo", LLAMA, batch=4, prompt=128, answer=128)
    assert run["train on pairs"] == LLAMA.training_flops(256, 8)
    assert run["reference"] == LLAMA.flops(Pass.prefill(256, 8))
    assert (run["reference"] + run["train on pairs"]) / run["train on pairs"] == pytest.approx(4 / 3)


def test_ppo_runs_four_models_and_trains_two() -> None:
    data = calc.objective("ppo", LLAMA, batch=2, prompt=64, answer=32, other="gpt2", epochs=3).data
    run = {entry["name"]: entry for entry in data["phases"]}
    steps = sum(int(LLAMA.flops(Pass.decode(context))) for context in range(65, 97))
    assert run["generate"]["flops"] == 2 * (LLAMA.flops(Pass.prefill(64)) + steps)
    assert run["train policy"]["flops"] == 3 * LLAMA.training_flops(96, 2)
    critic = training_flops(scored(calc.load("gpt2"), "token"), Pass.prefill(96, 2), "matmul", recompute=False)
    assert run["train critic"]["flops"] == 3 * critic
    assert run["values"]["flops"] == pytest.approx(critic / 3)
    held = {entry["role"]: entry for entry in data["memory"]["models"]}
    alone = training_memory(LLAMA, context=96)
    assert held["policy"]["total"] == alone.weights + alone.gradients + alone.optimizer == 18 * LLAMA.params().total
    assert held["policy"]["activations"] == alone.activations
    gpt2 = calc.load("gpt2")
    assert held["critic"]["parameters"] == gpt2.params().total + gpt2.d_model
    assert held["critic"]["total"] == 18 * held["critic"]["parameters"]
    assert held["reference"]["total"] == 2 * LLAMA.params().total
    assert held["reward model"]["optimizer"] == held["reference"]["gradients"] == 0
    assert data["memory"]["total"] == sum(entry["total"] for entry in held.values())
    assert data["stored"][0]["bytes"] == LLAMA.cache(96, 2).bytes


def test_the_optimizer_and_the_precision_are_those_of_training() -> None:
    small = calc.objective("next-token", LLAMA, prompt=64, answer=64, optimizer="adam8bit", precision="bf16-true").data
    mixed = calc.objective("next-token", LLAMA, prompt=64, answer=64).data
    assert small["memory"]["total"] < mixed["memory"]["total"] / 2
    with pytest.raises(CalcError, match="adam8bit"):
        calc.objective("next-token", LLAMA, optimizer="adam8")


def test_grpo_shares_prompts_and_needs_no_critic() -> None:
    data = calc.objective("grpo", LLAMA, batch=2, prompt=64, answer=32, group=4).data
    run = {entry["name"]: entry for entry in data["phases"]}
    steps = sum(int(LLAMA.flops(Pass.decode(context))) for context in range(65, 97))
    assert run["generate"]["flops"] == 2 * LLAMA.flops(Pass.prefill(64)) + 8 * steps
    assert run["train policy"]["flops"] == LLAMA.training_flops(96, 8)
    assert {entry["role"] for entry in data["memory"]["models"]} == {"policy", "reference"}
    ppo = calc.objective("ppo", LLAMA, batch=8, prompt=64, answer=32).data
    assert data["memory"]["total"] < ppo["memory"]["total"]
    assert data["flops"] < ppo["flops"]


def test_multi_token_prediction_adds_its_modules() -> None:
    model = calc.load("deepseek-v3")
    run = phases("multi-token", model, batch=1, prompt=512, answer=512)
    assert run["train"] == model.training_flops(1024)
    assert run["train"] + run["prediction modules"] == model.training_flops(1024, mtp=True)
    three = phases("multi-token", LLAMA, batch=1, prompt=512, answer=512, modules=3)
    one = phases("multi-token", LLAMA, batch=1, prompt=512, answer=512, modules=1)
    assert three["prediction modules"] == 3 * one["prediction modules"]
    assert one["prediction modules"] > LLAMA.training_flops(1024) / 32  # a layer and the head once more


def test_instruction_tuning_pays_for_the_prompt_too() -> None:
    with_prompt = calc.objective("instruction", LLAMA, batch=4, prompt=192, answer=64).data
    assert with_prompt["flops"] == LLAMA.training_flops(256, 4)
    assert with_prompt["flops_per_token"] == LLAMA.training_flops(256) / 256


def test_updates_add_up_and_replay_is_paid_for() -> None:
    plain = calc.objective("continual", LLAMA, tokens=1e9, updates=10).data["flops"]
    replayed = calc.objective("continual", LLAMA, tokens=1e9, updates=10, replay=0.5).data["flops"]
    assert replayed == pytest.approx(2 * plain)
    assert plain == pytest.approx(10 * 1e9 / 8192 * LLAMA.training_flops(8192))


@pytest.mark.parametrize("name", ["llama-3-8b", "mistral-7b-v0.1", "deepseek-v3", "gemma-3-4b"])
def test_the_formula_of_a_pass_comes_to_its_figure(name: str) -> None:
    data = calc.objective("ppo", name, batch=2, prompt=40, answer=9, formulas=True).data
    symbols = {symbol: sympy.Symbol(symbol, positive=True, integer=True) for symbol in "nPYi"}
    values = {symbols["n"]: 49, symbols["P"]: 40, symbols["Y"]: 9}
    for entry in data["phases"]:
        formula = sympy.sympify(entry["formula"], locals=symbols)  # our own text
        assert entry["sequences"] * int(formula.subs(values).doit()) == entry["flops"], entry["name"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calc.objective("ppp", LLAMA), "did you mean ppo"),
        (lambda: calc.objective("distillation", LLAMA), "needs a teacher"),
        (lambda: calc.objective("distillation", LLAMA, other="gpt2", top_k=60_000), "more than the vocabulary of gpt2"),
        (lambda: calc.objective("continual", LLAMA), "give --tokens"),
        (lambda: calc.objective("contrastive", LLAMA, other="gpt2"), "no joint space"),
        (lambda: calc.objective("ppo", LLAMA, batch=0), "batch = 0"),
        (lambda: calc.objective("dpo", LLAMA, group=4), "group = 4: an option of grpo, not of dpo"),
        (lambda: calc.objective("reward", LLAMA, other="gpt2"), "other = 'gpt2': an option of contrastive, dpo, ppo"),
        (lambda: calc.objective("ppo", LLAMA, epochs=1.5), "epochs = 1.5"),
        (lambda: calc.objective("continual", LLAMA, tokens=1e9, replay=1), "replay = 1"),
        (lambda: calc.objective("distillation", LLAMA, other="gpt2", value_bytes=3), "value_bytes = 3"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(CalcError, match=re.escape(words)):
        call()


CALLS = {name: ["objective", name, "gpt2", "--batch", "4", "--prompt", "64", "--answer", "64"] for name in OBJECTIVES}
CALLS["distillation"] += ["--with", "gpt2-xl"]
CALLS["continual"] += ["--tokens", "1B"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_line_answers(call: list[str], form: str, calc_cli: Callable[..., Run]) -> None:
    run = calc_cli(*call, "--format", form)
    assert run.code == 0, run.err
    if form == "json":
        DOCUMENTS["objective"].model_validate_json(run.out)


def test_formulas_are_written(calc_cli: Callable[..., Run]) -> None:
    run = calc_cli("objective", "grpo", "mistral-7b-v0.1", "--formula")
    assert run.code == 0
    assert "786,432·n² + " in calc_cli("objective", "dpo", "llama-3-8b", "--formula").out
    assert "Σ(i = 1 … Y) (" in run.out
    assert "min(" in run.out
    data = calc_cli("objective", "contrastive", "gpt2", "--formula", "--format", "json").out
    DOCUMENTS["objective"].model_validate_json(data)


def test_a_wrong_objective_gets_one_clear_line(calc_cli: Callable[..., Run]) -> None:
    assert "no objective named 'dpoo'; did you mean dpo" in refused(calc_cli("objective", "dpoo", "gpt2"))
