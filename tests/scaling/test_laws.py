"""Published scaling laws against the tables that their papers print."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import sympy

import calc
from calc.errors import CalcError
from calc.scaling.laws import PF_DAY, Law, Sum, saturated
from calc.scaling.published import GRANULAR, JOINT, LAWS, ROUTED, law
from calc.scaling.sizes import Size, training_flops_per_token
from calc.schema import DOCUMENTS
from tests.conftest import Run, refused

# Hoffmann et al. 2022, arXiv:2203.15556 Tables 3 and A3: parameters, FLOP, tokens
APPROACH_1 = [
    (400e6, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (10e9, 1.23e22, 205.1e9), (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12), (280e9, 9.90e24, 5.9e12), (520e9, 3.43e25, 11.0e12), (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
]  # fmt: skip
APPROACH_2 = [
    (400e6, 1.84e19, 7.7e9), (1e9, 1.20e20, 20.0e9), (10e9, 1.32e22, 219.5e9), (67e9, 6.88e23, 1.7e12),
    (175e9, 4.54e24, 4.3e12), (280e9, 1.18e25, 7.1e12), (520e9, 4.19e25, 13.4e12), (1e12, 1.59e26, 26.5e12),
    (10e12, 1.75e28, 292.0e12),
]  # fmt: skip
APPROACH_3 = [
    (400e6, 2.21e19, 9.2e9), (1e9, 1.62e20, 27.1e9), (10e9, 2.46e22, 410.1e9), (67e9, 1.71e24, 4.1e12),
    (175e9, 1.26e25, 12.0e12), (280e9, 3.52e25, 20.1e12), (520e9, 1.36e26, 43.5e12), (1e12, 5.65e26, 94.1e12),
    (10e12, 8.55e28, 1425.5e12),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rows", "tolerance"),
    [
        ("chinchilla-1", APPROACH_1, 0.06),  # the table's 1.5T for 67B is rounded: its own C/6N is 1.43T
        ("chinchilla-2", APPROACH_2, 0.05),
        ("chinchilla-3", APPROACH_3, 0.11),  # its exponents are known to four digits, its table to two or three
    ],
)
def test_chinchilla_reproduces_its_tables(name: str, rows: list[tuple[float, float, float]], tolerance: float) -> None:
    for size, compute, tokens in rows:
        best = law(name).optimum(compute)
        assert best.size == pytest.approx(size, rel=tolerance)
        assert best.tokens == pytest.approx(tokens, rel=tolerance)


@pytest.mark.parametrize(("name", "power"), [("chinchilla-1", 0.50), ("chinchilla-2", 0.49), ("chinchilla-3", 0.46)])
def test_chinchilla_has_the_exponents_of_its_table_2(name: str, power: float) -> None:
    low, high = (law(name).optimum(compute).size for compute in (1e20, 1e24))
    assert np.log10(high / low) / 4 == pytest.approx(power, abs=0.0051)


def test_the_refit_agrees_with_twenty_tokens_per_parameter() -> None:
    """Besiroglu et al. 2024 §4: 20 tokens per parameter at Chinchilla's compute, and a = 0.513."""
    best = law("besiroglu").optimum(5.76e23)
    assert best.tokens / best.size == pytest.approx(20, rel=0.1)
    low, high = (law("besiroglu").optimum(compute).size for compute in (1e20, 1e24))
    assert np.log10(high / low) / 4 == pytest.approx(0.513, abs=0.001)


def test_kaplan_reproduces_its_own_sentences() -> None:
    """Kaplan et al. 2020: §6 (1.3e9·C^0.73, 10 to the −0.05), the smallest loss at 1 PF-day."""
    best = law("kaplan").optimum(PF_DAY)
    assert best.size == pytest.approx(1.3e9)
    assert best.loss == pytest.approx(3.1e8**0.05)
    assert law("kaplan").optimum(10 * PF_DAY).loss / best.loss == pytest.approx(10**-0.05)
    # with endless data, L(N) = (N_c/N)^α_N
    assert law("kaplan").loss(1e9, 1e30) == pytest.approx((6.4e13 / 1e9) ** 0.076)


# Ludziejewski et al. 2025, arXiv:2502.05172 Tables 4 and 1
@pytest.mark.parametrize(
    ("experts", "m", "mu", "n", "nu"),
    [
        (1, 30.3640, 0.1817, 53.9838, 0.1965), (2, 27.7982, 0.1780, 66.8401, 0.2065),
        (4, 24.8462, 0.1731, 87.7022, 0.2192), (8, 21.8330, 0.1676, 119.9126, 0.2338),
        (16, 19.0159, 0.1617, 167.5073, 0.2494), (32, 16.5424, 0.1557, 234.6726, 0.2652),
    ],
)  # fmt: skip
def test_the_joint_law_reduces_to_the_laws_of_its_table_4(
    experts: int, m: float, mu: float, n: float, nu: float
) -> None:
    reduced = JOINT.with_experts(experts)
    assert (reduced.a, reduced.b) == (pytest.approx(m, rel=0.003), pytest.approx(n, rel=0.003))
    assert (reduced.alpha, reduced.beta) == (pytest.approx(mu, abs=2e-4), pytest.approx(nu, abs=2e-4))


@pytest.mark.parametrize(
    ("compute", "experts", "size", "tokens"),
    [
        (1e20, 1, 1.7e9, 9.7e9), (1e20, 8, 990e6, 17e9), (1e20, 32, 669e6, 24.9e9),
        (1e21, 1, 5.7e9, 29.3e9), (1e21, 16, 3.3e9, 51.2e9), (1e22, 4, 15.8e9, 105.4e9), (1e22, 32, 12.2e9, 136.9e9),
    ],
)  # fmt: skip
def test_the_joint_law_reproduces_its_table_1(compute: float, experts: int, size: float, tokens: float) -> None:
    best = JOINT.with_experts(experts).optimum(compute)
    assert best.size == pytest.approx(size, rel=0.022)
    assert best.tokens == pytest.approx(tokens, rel=0.015)


# Krajewski et al. 2024, arXiv:2402.07871 Table 2: active parameters, tokens, granularity, FLOP, loss
GRANULAR_ROWS = [
    (100e6, 4.37e9, 8, 2.95e18, 3.133), (1e9, 28.94e9, 16, 1.93e20, 2.491), (3e9, 72.90e9, 16, 1.41e21, 2.245),
    (7e9, 137.60e9, 32, 6.46e21, 2.076), (70e9, 941.07e9, 32, 4.16e23, 1.694), (300e9, 2.96e12, 64, 5.69e24, 1.503),
    (1e12, 7.94e12, 64, 4.97e25, 1.367),
]  # fmt: skip


@pytest.mark.parametrize(("active", "tokens", "granularity", "compute", "loss"), GRANULAR_ROWS)
def test_the_fine_grained_law_reproduces_its_table_2(
    active: float, tokens: float, granularity: int, compute: float, loss: float
) -> None:
    """N = (8·64 + 4)/12 times the active parameters (§6.1); all seven lie 0.8 % low: coefficients of three digits."""
    assert GRANULAR.loss(active * 516 / 12, tokens, granularity) == pytest.approx(loss, rel=0.01)


@pytest.mark.parametrize(("active", "tokens", "granularity", "compute", "loss"), GRANULAR_ROWS[:6])
def test_the_optimum_over_our_tables_is_that_of_its_table_2(
    active: float, tokens: float, granularity: int, compute: float, loss: float
) -> None:
    """Cost read off the tables instead of the paper's closed form: the router is cheaper, so experts may be smaller."""
    best = calc.granular_optimum(compute)
    assert best.total == pytest.approx(active * 516 / 12, rel=0.4)
    assert best.tokens == pytest.approx(tokens, rel=0.1)
    assert granularity <= best.granularity <= 2 * granularity
    assert best.loss_granular == pytest.approx(loss, rel=0.015)


def test_dense_models_are_worse_than_fine_grained_ones_at_the_same_budget() -> None:
    """Krajewski et al. 2024, arXiv:2402.07871 §6.3; the law of its dense baselines is in Table 1."""
    dense = Sum(
        name="dense", title="", counted="non_embedding", source="", fitted="",
        e=0.47, a=16.3, alpha=0.126, b=26.7, beta=0.127,
    )  # fmt: skip
    for compute in (1e20, 1e22, 1e24):
        sparse = calc.granular_optimum(compute).loss_granular
        assert sparse is not None
        assert sparse < dense.optimum(compute).loss


def test_routing_reproduces_what_its_paper_says() -> None:
    """Clark et al. 2022: 5M with 128 experts equals 55M dense (§1); its cutoffs are 937B, 85B, 83B (§5, rounded c)."""
    assert ROUTED["s-base"].dense_equal(5e6, 128) == pytest.approx(55e6, rel=0.07)
    assert ROUTED["s-base"].cutoff == pytest.approx(937e9, rel=0.07)
    for each in ROUTED.values():
        for size in (15e6, 1.3e9):
            equal = each.dense_equal(size, 64)
            assert each.loss(equal, 1) == pytest.approx(each.loss(size, 64))
            assert equal > size
        assert each.dense_equal(each.cutoff, 64) == pytest.approx(each.cutoff)
    assert saturated(1, 1.847, 314.478) == pytest.approx(1.847)
    assert saturated(10**9, 1.847, 314.478) == pytest.approx(314.478, rel=1e-5)


@pytest.mark.parametrize("each", [law for law in LAWS.values() if isinstance(law, Sum)], ids=lambda law: law.name)
def test_the_closed_form_is_the_minimum(each: Sum) -> None:
    best = each.optimum(1e23)
    assert 6 * best.size * best.tokens == pytest.approx(1e23)
    for factor in (0.5, 0.9, 1.1, 2):
        assert each.loss(best.size * factor, best.tokens / factor) > best.loss
        assert each.excess(best.size * factor, best.tokens / factor) > 0
    assert each.excess(best.size, best.tokens) == 0


@pytest.mark.parametrize("each", LAWS.values(), ids=LAWS)
def test_a_law_reads_numbers_arrays_and_symbols_alike(each: Law) -> None:
    n, d = sympy.symbols("N D", positive=True)
    size, tokens = 7e9, 1e12
    expression = each.loss(n, d)
    if expression is None:
        return
    number = each.loss(size, tokens)
    assert float(expression.subs({n: size, d: tokens})) == pytest.approx(number)
    assert each.loss(np.array([size]), np.array([tokens])) == pytest.approx([number])


@pytest.mark.parametrize("each", LAWS.values(), ids=LAWS)
def test_every_law_says_where_it_is_from(each: Law) -> None:
    assert "arXiv" in each.source
    assert each.fitted
    assert each.formula


def test_a_model_is_sized_as_each_law_counts() -> None:
    dense, mixed = calc.load("llama-3-8b"), calc.load("mixtral-8x7b")
    size = Size.of(dense)
    assert size.counted("total") == size.total == dense.params().total
    assert size.counted("non_embedding") == size.total - 2 * 128_256 * 4_096
    assert size.expansion == 1
    routed = Size.of(mixed)
    assert routed.expansion == pytest.approx(4, rel=1e-3)
    assert routed.counted("total") == routed.counted("active") == mixed.params().active
    assert routed.counted("non_embedding") == mixed.params().active - 2 * 32_000 * 4_096
    assert training_flops_per_token(dense, 8192) * 8192 == dense.training_flops(8192)


def test_a_model_at_its_own_optimum_lies_on_it() -> None:
    for entry in calc.scale("llama-3-8b").data["laws"]:
        assert entry["optimum"]["size"] == pytest.approx(entry["size"])
        assert entry["tokens"] == pytest.approx(entry["optimum"]["tokens"])
        assert entry["excess_loss"] in (0, None)


def test_overtraining_costs_loss() -> None:
    entries = {entry["name"]: entry for entry in calc.scale("llama-3-8b", tokens=15e12).data["laws"]}
    assert 0.03 < entries["besiroglu"]["excess_loss"] < 0.1
    assert entries["kaplan"]["excess_loss"] is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calc.scale(), "give a compute budget"),
        (lambda: calc.scale(compute=-1), "compute = -1 is not a number above 0"),
        (lambda: calc.scale("gpt2", compute=1e20), "give its tokens, not a budget"),
        (lambda: calc.scale("gpt2", tokens=0), "tokens = 0 is not"),
        (lambda: calc.scale(compute=1e20, laws=["kaplon"]), "did you mean kaplan"),
        (lambda: calc.routed_laws(0), "size = 0 is not"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(CalcError, match=re.escape(words)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        ["scale", "--compute", "5.76e23"],
        ["scale", "llama-3-8b", "--tokens", "15T"],
        ["scale", "deepseek-v3"],
        ["scale", "--compute", "1e20,1e22,1e24", "--law", "kaplan,besiroglu"],
        ["experts", "llama-3-8b", "--compute", "1e23", "--memory", "640GiB"],
        ["routed", "1.3B", "--experts", "1,64"],
        ["lengths", "llama-3-8b"],
        ["lengths", "gpt-3", "flops.prefill", "--full"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command_line_answers(call: list[str], form: str, calc_cli: Callable[..., Run]) -> None:
    run = calc_cli(*call, "--format", form)
    assert run.code == 0
    if form == "json":
        DOCUMENTS[run.json["kind"]].model_validate_json(run.out)


def test_the_laws_of_routing_follow_their_schema() -> None:
    DOCUMENTS["routed"].model_validate_json(calc.routed_laws(1e9).to_json())


def test_numbers_of_experts_stand_once() -> None:
    assert calc.routed_laws(1e9, (8, 8, 32)).data == calc.routed_laws(1e9, [8, 32]).data
    assert {point["experts"] for point in calc.routed_laws(1e9, 8).data["points"]} == {8}


def test_more_compute_gives_less_loss() -> None:
    points = calc.curve([1e20, 1e21, 1e22, 1e21], laws=["besiroglu", "chinchilla-3"]).data["points"]
    for name in ("besiroglu", "chinchilla-3"):
        losses = [point["loss"] for point in points if point["law"] == name]
        assert losses == sorted(losses, reverse=True)
    many = law("besiroglu").optimum(np.array([1e20, 1e21, 1e22]))
    assert many.loss == pytest.approx([point["loss"] for point in points if point["law"] == "besiroglu"])


def test_a_wrong_number_gets_one_clear_line(calc_cli: Callable[..., Run]) -> None:
    assert "'1e' is not a number such as 1.4T" in refused(calc_cli("scale", "--compute", "1e"))
    assert "no quantity named 'flops'" in refused(calc_cli("lengths", "gpt-3", "flops"))


def test_a_dense_size_is_as_good_as_itself(calc_cli: Callable[..., Run]) -> None:
    lines = calc_cli("routed", "7B", "--experts", "1").out.splitlines()
    assert lines[0] == "Routing at 130 B tokens, 7 B parameters before experts"
    assert sum(line.endswith("7 B =") for line in lines) == 3
