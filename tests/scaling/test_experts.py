"""Experts over the cost model, and mixers beside softmax."""

from __future__ import annotations

import pytest

import calc
from calc.attention.gqa import GQA
from calc.errors import SpecError
from calc.ffn.moe import MoE
from calc.masks import Window
from calc.scaling.rivals import overtaken, rivals
from calc.scaling.sizes import Size
from calc.scaling.widening import choices, family, widened


def test_widening_keeps_what_a_token_uses_and_multiplies_the_rest() -> None:
    model = calc.load("llama-3-8b")
    ffn = 32 * 3 * 4_096 * 14_336
    for expansion in (2, 8):
        for granularity in (1, 4):
            wide = widened(model, expansion, granularity)
            routers = 32 * 4_096 * expansion * granularity
            assert wide.params().total == model.params().total + (expansion - 1) * ffn + routers
            assert wide.params().active == model.params().active + routers
            assert Size.of(wide).expansion == expansion
    assert widened(model, 1) == model
    assert widened(model, 1, activation=2).params().total == model.params().total + ffn


def test_leading_dense_layers_of_a_mixture_stay() -> None:
    wide = widened(calc.load("deepseek-v3"), 4, 2)
    kinds = [type(layer.ffn) for layer in wide.layers()]
    assert kinds[:3] == [type(layer.ffn) for layer in calc.load("deepseek-v3").layers()][:3]
    moe = [layer.ffn for layer in wide.layers()][-1]
    assert isinstance(moe, MoE)
    assert (moe.n_experts, moe.n_active_experts, moe.d_expert) == (8, 2, 9 * 2_048 // 2)


@pytest.mark.parametrize(
    ("granularity", "words"), [(3, "does not divide the width 14,336"), (14_337, "does not divide")]
)
def test_a_width_that_cannot_be_divided_is_refused(granularity: int, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        widened(calc.load("llama-3-8b"), 8, granularity)


def test_a_model_without_feed_forward_layers_is_refused() -> None:
    with pytest.raises(SpecError, match="no feed-forward layer"):
        calc.experts("falcon-mamba-7b", compute=1e22)


def test_every_choice_spends_the_budget() -> None:
    for one in choices(family(12), 1e20, 256):
        assert one.flops_per_token * one.tokens == pytest.approx(1e20)
        assert one.n_active_experts * one.d_expert == one.activation * 4 * 64 * 12
        assert (one.loss_joint is None) or (one.granularity == 1)


def test_more_experts_are_better_and_dearer_until_memory_ends() -> None:
    """Ludziejewski et al. 2025, finding 2: more experts always help when memory does not count."""
    free = calc.experts("llama-3-8b", compute=1e23).data
    bound = calc.experts("llama-3-8b", compute=1e23, memory=80 * 2**30).data
    assert free["best"]["loss_joint"]["n_experts"] > bound["best"]["loss_joint"]["n_experts"]
    assert bound["best"]["loss_joint"]["weight_bytes"] <= 80 * 2**30
    assert bound["left_out"] + len(bound["choices"]) == len(free["choices"])
    with pytest.raises(SpecError, match="no choice fits"):
        calc.experts("llama-3-8b", compute=1e23, memory=2**30)


def test_softmax_overtakes_a_window_one_token_after_it() -> None:
    found = {row["name"]: row["crossovers"] for row in calc.lengths("llama-3-8b").data["rivals"]}
    window = next(r.mixer for r in rivals(32, 8, 128) if r.name == "window-4096")
    assert isinstance(window, GQA)
    assert window.mask == Window(window=4096)
    assert {entry["from"] for entry in found["window-4096"].values()} == {4_097}
    assert found["native sparse"]["state+cache"]["from"] is None  # it keeps all keys, and compressed ones beside them


def test_linear_attention_is_overtaken_where_its_papers_arithmetic_says() -> None:
    """Decode of one layer: scores and values 4·h·d_h·n against writing and reading a d_h × d_h state, 4·h·d_h²."""
    found = {row["name"]: row for row in calc.lengths("gpt-3", quantity="flops.decode").data["rivals"]}
    at = found["linear"]["crossovers"]["flops.decode"]
    assert at["softmax"] > at["rival"]
    assert 128 <= at["from"] <= 4 * 128  # d_h = 128; feature maps and normaliser move it a little


def test_latent_attention_is_a_softmax_too_and_a_recurrence_is_none() -> None:
    found = {
        row["name"]: row["crossovers"] for row in calc.lengths("deepseek-v3", quantity="state+cache").data["rivals"]
    }
    # 576 numbers of 2 bytes a token against 128 heads' states of 128 × 128 and 128 sums, as they are kept
    at = found["linear"]["state+cache"]
    assert at["from"] == at["rival"] // (576 * 2) + 1
    with pytest.raises(SpecError, match="no softmax attention"):
        calc.lengths("falcon-mamba-7b")


@pytest.mark.parametrize(
    ("one", "other", "at"),
    [
        (lambda n: n * n, lambda n: 100 * n, 101),
        (lambda n: n, lambda n: 0, 1),
        (lambda n: n, lambda n: 2 * n, None),
        (lambda n: 3 * n, lambda n: n + 1000, 501),
    ],
)
def test_overtaking_is_exact_to_the_token(one, other, at) -> None:  # type: ignore[no-untyped-def]
    assert overtaken(one, other) == at
