"""Balance of routing: known minima of the losses, the bias update, dropped tokens, touched experts under skew."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import sympy

from calc.algebra import expected_distinct, zipf_shares
from calc.errors import SpecError
from calc.ffn.moe import MoE
from calc.model import Model, Pass, moved_bytes, running
from calc.routing import (
    Routing,
    balance_flops,
    dropped_share,
    gshard_loss,
    imbalance,
    imbalance_of_skew,
    sequence_loss,
    simulate,
    skew_of_imbalance,
    switch_loss,
    touched,
    updated_bias,
)
from calc.units import dtype

E = 8


def one_hot(choices: list[int], sharpness: float = 1.0) -> np.ndarray:
    rows = np.full((len(choices), E), (1 - sharpness) / (E - 1))
    rows[np.arange(len(choices)), choices] = sharpness
    return rows


class TestLosses:
    def test_even_routing_is_the_minimum_and_collapse_the_maximum(self) -> None:
        even, collapsed = list(range(E)) * 4, [0] * 32
        assert switch_loss(one_hot(even), even) == pytest.approx(1)
        assert switch_loss(one_hot(collapsed), collapsed) == pytest.approx(E)
        assert gshard_loss(one_hot(even), even) == pytest.approx(1 / E**2)
        assert gshard_loss(one_hot(collapsed), collapsed) == pytest.approx(1 / E)

    def test_switch_loss_is_at_least_one_where_shares_follow_probabilities(self) -> None:
        random = np.random.default_rng(0)
        for _ in range(50):
            choices = random.choice(E, size=64, p=random.dirichlet(np.ones(E))).tolist()
            assert switch_loss(one_hot(choices), choices) >= 1 - 1e-12

    def test_sequence_loss(self) -> None:
        even = one_hot(list(range(E)) * 2, 0.9)
        assert sequence_loss(even, 1) == pytest.approx(1)
        assert sequence_loss(even, 1, coefficient=1e-4) == pytest.approx(1e-4)
        # every token on expert 0: f_0 = E, P_0 = 0.9
        assert sequence_loss(one_hot([0] * 16, 0.9), 1) == pytest.approx(0.9 * E)

    def test_sequence_loss_normalises_affinities_but_chooses_with_the_bias(self) -> None:
        scores = np.array([[0.9, 0.6, 0.3]] * 4)
        # f = (0, 3, 0) with expert 1 pushed up; P = affinity / 1.8
        assert sequence_loss(scores, 1, bias=[0, 1, 0]) == pytest.approx(3 * 0.6 / 1.8)
        assert sequence_loss(scores, 1) == pytest.approx(3 * 0.9 / 1.8)

    def test_costs(self) -> None:
        tokens, experts, active = sympy.symbols("T E k", positive=True)
        for method in ("switch", "gshard", "sequence", "bias"):
            formula = balance_flops(method, tokens, experts, active)
            assert formula.subs({tokens: 64, experts: 16, active: 2}) == balance_flops(method, 64, 16, 2)
        with pytest.raises(SpecError, match="none of switch"):
            balance_flops("luck", 1, 1, 1)


class TestBias:
    def test_only_loads_outside_the_tolerance_move_it(self) -> None:
        loads = [100, 119, 121, 81, 79]  # mean 100
        assert updated_bias([0.0] * 5, loads, 0.01, tolerance=0.2).tolist() == [0, 0, -0.01, 0, 0.01]
        assert updated_bias([0.0] * 5, loads, 0.01).tolist() == [0, -0.01, -0.01, 0.01, 0.01]

    @pytest.mark.parametrize("tolerance", [0.0, 0.2])
    def test_load_converges(self, tolerance: float) -> None:
        routing = Routing(n_experts=64, n_active=6, tokens=2048, gamma=0.01, tolerance=tolerance)
        balance = simulate(routing, steps=120)
        assert balance.imbalance[0] > 3
        assert balance.settled() < 1.35 + tolerance / 2
        assert balance.imbalance[0] == simulate(routing, steps=1).imbalance[0]  # reproducible
        assert sum(balance.loads) == 2048 * 6

    def test_without_updates_it_stays_uneven(self) -> None:
        balance = simulate(Routing(n_experts=64, n_active=6, tokens=2048, gamma=0.0), steps=40)
        assert balance.settled() > 3
        assert set(balance.bias) == {0.0}

    def test_the_bias_pushes_against_popularity(self) -> None:
        routing = Routing(n_experts=16, n_active=2, tokens=1024, gamma=0.01, spread=1.0)
        liked = np.random.default_rng(routing.seed).normal(0, 1.0, 16)
        bias = simulate(routing, steps=100).bias
        assert np.corrcoef(liked, bias)[0, 1] < -0.9


class TestCapacity:
    @pytest.mark.parametrize("factor", [1.0, 1.25, 2.0])
    @pytest.mark.parametrize(("experts", "active"), [(16, 1), (16, 2)])
    def test_dropped_share_equals_what_random_routing_drops(self, factor: float, experts: int, active: int) -> None:
        random = np.random.default_rng(1)
        tokens, trials, dropped = 128, 400, 0
        size = -(-int(factor * 100) * tokens * active // (100 * experts))
        for _ in range(trials):
            picks = np.argsort(random.random((tokens, experts)), axis=1)[:, :active]
            loads = np.bincount(picks.ravel(), minlength=experts)
            dropped += int(np.maximum(loads - size, 0).sum())
        share = dropped_share(tokens, experts, active, factor)
        assert share == pytest.approx(dropped / (trials * tokens * active), abs=0.004)

    def test_limits(self) -> None:
        assert dropped_share(1000, 8, 2, 4.0) == 0.0  # a buffer for every token
        assert dropped_share(1000, 8, 1, 1.0) > dropped_share(100_000, 8, 1, 1.0)  # large batches are more even
        assert dropped_share(1000, 8, 1, 1.25) > dropped_share(1000, 8, 1, 1.5) > 0
        # one expert takes all, its buffer holds an eighth
        assert dropped_share(800, 8, 1, 1.0, skew=200.0) == pytest.approx(7 / 8)

    def test_a_million_tokens(self) -> None:
        # √(p(1 − p)n / 2π) tokens of an expert lie beyond the mean
        expected = 64 * np.sqrt(10**6 / 64 * (63 / 64) / (2 * np.pi)) / 10**6
        assert dropped_share(10**6, 64, 1, 1.0) == pytest.approx(expected, rel=0.02)


class TestSkew:
    @pytest.mark.parametrize("skew", [0.0, 0.3, 1.0, 2.5, 60.0])
    def test_shares_are_probabilities_that_add_up_to_k(self, skew: float) -> None:
        shares = zipf_shares(64, 6, skew)
        assert sum(shares) == pytest.approx(6)
        assert all(0 <= later <= earlier <= 1 for earlier, later in pairwise(shares))

    def test_skew_touches_fewer_experts_the_more_the_fewer(self) -> None:
        for tokens in (2, 16, 256):
            counts = [touched(128, 8, tokens, skew) for skew in (0.0, 0.5, 1.0, 2.0)]
            assert counts == sorted(counts, reverse=True)
            assert counts[0] == expected_distinct(128, 8, tokens)
            assert counts[-1] < counts[0]

    def test_it_reads_in_all_three_ways(self) -> None:
        tokens = sympy.Symbol("n", positive=True)
        sweep = touched(64, 4, np.array([1.0, 32.0]), 0.7)
        assert sweep[0] == pytest.approx(4)
        assert sweep[1] == touched(64, 4, 32, 0.7)
        assert float(touched(64, 4, tokens, 0.7).subs(tokens, 32)) == pytest.approx(sweep[1])

    @pytest.mark.parametrize("wanted", [1.0, 1.5, 4.0, 31.0])
    def test_imbalance_and_skew_are_inverse(self, wanted: float) -> None:
        assert imbalance_of_skew(256, 8, skew_of_imbalance(256, 8, wanted)) == pytest.approx(wanted)

    @pytest.mark.parametrize("wanted", [0.9, 33.0])
    def test_impossible_imbalance(self, wanted: float) -> None:
        with pytest.raises(SpecError, match="not between 1 and n_experts / n_active = 32"):
            skew_of_imbalance(256, 8, wanted)

    def test_a_skewed_pass_reads_fewer_experts(self) -> None:
        moe = {"kind": "moe", "n_experts": 64, "n_active_experts": 4, "d_expert": 32}
        stack = [{"layer": [{"ffn": moe}]}]
        model = Model.build({"name": "toy", "d_model": 16, "vocab_size": 8, "stack": stack})
        forms = {role: dtype("bf16") for role in ("weight", "activation", "cache")}

        def read(pass_: Pass) -> float:
            chosen = [each for each in running(model.blocks(), pass_) if each[1].name == "up_proj"]
            return sum(moved_bytes(block, op, pass_, forms)["weight"] for block, op, _ in chosen)

        one_expert = 2 * 16 * 32
        even, skewed = Pass.decode(10, 32), Pass(batch=32, tokens=1, context=10, source=10, phase="decode", skew=1.0)
        assert read(even) == pytest.approx(one_expert * touched(64, 4, 32))
        assert read(skewed) == pytest.approx(one_expert * touched(64, 4, 32, 1.0))
        assert MoE.build(moe).label() == "moe 4/64"


def test_imbalance() -> None:
    assert imbalance([3, 3, 3]) == 1
    assert imbalance([6, 3, 0]) == 2
