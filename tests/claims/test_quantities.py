"""What claims can name, each against arithmetic by hand; what a number claims; what is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import calc
from calc.claims.quantities import find, names
from calc.claims.registry import QUANTITIES, compute, quantity
from calc.claims.stated import UNITS, claimed, number, span_of, unit

V3_EXPERT = 3 * 7_168 * 2_048
BY_HAND: list[tuple[str, str | None, dict[str, Any], Any]] = [
    ("params.total", "deepseek-v3", {}, 671_026_419_200),
    # the module: a layer of experts, a projection of two vectors, three norms, both tables
    ("params.part", "deepseek-v3", {"part": "embedding"}, 129_280 * 7_168),
    ("params.active", "deepseek-v3", {"part": "ffn"}, 58 * 9 * V3_EXPERT + 3 * 3 * 7_168 * 18_432),
    ("params.active_matmul", "gpt2", {}, 124_439_808 - 1_024 * 768),  # the tied table multiplies
    ("params.active_without_tables", "llama-3-8b", {}, 8_030_261_248 - 2 * 128_256 * 4_096),
    ("params.active_share", "llama-3-8b", {}, 1),
    ("params.multiplied_share", "llama-3-8b", {}, Fraction(8_030_261_248 - 128_256 * 4_096, 8_030_261_248)),
    ("params.ratio", "gpt-3", {"other": "gpt-3"}, 1),
    ("experts.params", "deepseek-v3", {}, V3_EXPERT),
    ("experts.params", "deepseek-v3", {"matrices": 2}, V3_EXPERT * 2 // 3),
    ("experts.shared", "deepseek-v2", {}, 2),
    ("experts.per_token", "mixtral-8x7b", {}, 2),
    ("experts.share", "deepseek-v3", {}, Fraction(9, 257)),
    ("experts.pool", None, {"n_experts": 8, "d_model": 4, "d_expert": 16, "matrices": 2}, 1_024),
    ("cache.bytes_per_token", "llama-3-8b", {}, 2 * 32 * 8 * 128 * 2),
    ("cache.bytes_per_token", "llama-3-8b", {"dtype": "fp8"}, 2 * 32 * 8 * 128),
    ("cache.bytes", "gpt-3", {"context": 2_048}, 2 * 96 * 12_288 * 2 * 2_048),
    ("cache.values_per_token", "deepseek-v2", {}, 60 * 576),
    ("cache.values_per_layer", "llama-3-8b", {}, 2 * 8 * 128),
    ("cache.multi_head_values_per_layer", "llama-3-8b", {}, 2 * 32 * 128),
    ("cache.share", "llama-3-8b", {}, Fraction(1, 4)),
    ("cache.saving", "llama-3-8b", {}, Fraction(3, 4)),
    ("cache.saving_against", "deepseek-v2", {"other": "deepseek-llm-67b"}, 1 - Fraction(34_560, 95 * 2_048)),
    ("cache.groups", "deepseek-v2", {}, Fraction(9, 4)),
    ("flops.prefill", "llama-3-8b", {"context": 1}, 2 * 7_504_658_432 + 4 * 32 * 32 * 128),
    ("flops.multiply_adds", "llama-3-8b", {"context": 1}, 7_504_658_432 + 2 * 32 * 32 * 128),
    ("flops.decode", "llama-3-8b", {"context": 8_192}, 2 * 7_504_658_432 + 4 * 32 * 32 * 128 * 8_192),
    ("flops.train", "llama-3-8b", {"context": 1}, 3 * (2 * 7_504_658_432 + 4 * 32 * 32 * 128)),
    ("flops.train_per_token", "llama-3-8b", {"context": 2}, 6 * 7_504_658_432 + 12 * 32 * 32 * 128 * Fraction(3, 2)),
    ("flops.train_share", "gpt-3", {"other": "gpt-3", "context": 64}, 1),
    ("flops.train_saving", "gpt-3", {"other": "gpt-3", "context": 64}, 0),
    ("flops.training_rule", "gpt-3", {"tokens": 300 * 10**9}, 6 * 174_604_259_328 * 300 * 10**9),
    ("flops.inference_rule", "gpt-3", {}, 2 * 174_604_259_328),
    # LLaMA 2 7B in arXiv:2401.06066 Table 4: 187.9T
    (
        "flops.deepseek_rule",
        "llama-2-7b",
        {"context": 4_096},
        4_096 * (72 * 32 * 4_096**2 + 12 * 32 * 4_096 * 4_096 + 6 * 32_000 * 4_096),
    ),
    ("flops.ratio", "gpt-3", {"other": "gpt-3", "context": 8, "phase": "prefill"}, 1),
    ("flops.share", "gpt-3", {"other": "gpt-3", "context": 8}, 1),
    ("flops.per_pair", "llama-3-8b", {}, 4 * 32 * 128),
    ("flops.per_pair", "mamba-2.8b", {}, 0),
    ("flops.per_pair", "deepseek-v3", {"form": "naive"}, 2 * 128 * (128 + 64 + 128)),
    ("flops.per_pair", "deepseek-v3", {"form": "absorbed"}, 2 * 128 * (2 * 512 + 64)),
    ("flops.merged_heads", "transformer-big", {"context": 100}, 1),
    ("flops.of_machine", None, {"devices": 8, "hours": 12, "flops_per_second": 5}, 8 * 12 * 3_600 * 5),
    ("operation.params", "gpt2", {"path": "layer.attention", "operation": "q_proj"}, 12 * (768 * 768 + 768)),
    (
        "operation.flops",
        "gpt2",
        {"path": "layer.attention", "operation": "q_proj", "context": 3},
        12 * (2 * 3 * 768 * 768 + 3 * 768),
    ),
    ("complexity.exponent", "mamba-2.8b", {}, 1),
    ("complexity.exponent", "minimax-text-01", {}, 2),
    ("complexity.exponent", "minimax-text-01", {"kind": "lightning"}, 1),
    ("complexity.ffn_exponent", "gpt2", {}, 1),
    ("complexity.scores_exponent", "gpt2", {}, 2),
    ("complexity.optimal_stride", "gemini-2.5-pro", {}, Fraction(3, 2)),
    ("scores.values", "gpt2", {"context": 10}, 12 * 10 * 10),
    ("model.field", "deepseek-v3", {"name": "q_lora_rank"}, 1_536),
    ("model.field", "gpt2", {"name": "n_layers"}, 12),
    ("model.field_ratio", "gpt2", {"name": "d_ff", "to": "d_model"}, 4),
    ("weights.bytes", "llama-3-8b", {}, 2 * 8_030_261_248),
    ("format.share", None, {"dtype": "int4"}, Fraction(1, 4)),
    ("format.saving", None, {"dtype": "fp8-g128"}, 1 - Fraction(8 + Fraction(32, 128), 16)),
    ("money.gpu_hours", None, {"gpu_hours": 100, "usd_per_hour": 2}, 200),
    ("time.gpu_hours", None, {"gpu_hours": 100, "gpus": 10}, 36_000),
    ("time.devices", None, {"devices": 2, "days": 3}, 6 * 86_400),
    ("tokens.image", None, {"width": 1_000, "height": 224, "patch": 14}, 71 * 16),
    ("tokens.audio", None, {"seconds": 30, "hop_ms": 10, "stride": 2}, 1_500),  # Whisper
    ("tokens.audio", None, {"seconds": 1, "hop_ms": 10, "window_ms": 25}, 98),
    ("tokens.video", None, {"seconds": 60, "fps": 1, "tokens_per_frame": 258, "audio_tokens_per_second": 32}, 60 * 290),
    ("tokens.longest_video", None, {"context": 100, "fps": 2, "tokens_per_frame": 5}, 10),
    ("tokens.model_image", "paligemma-3b-pt-224", {"width": 1_000, "height": 300}, 16 * 16),  # resized to 224 × 224
    ("tokens.model_video", "qwen2.5-vl-7b", {"frames": 4, "width": 560, "height": 560}, 2 * 20 * 20),  # pairs of frames
    ("tokens.model_audio", "qwen2-audio-7b", {"seconds": 10}, 10 * 100 // 4),
    ("number.product", None, {"factors": [2, 3, 4]}, 24),
    ("number.sum", None, {"terms": [2, Decimal("0.5")]}, Fraction(5, 2)),
    ("number.share", None, {"part": 1, "whole": 8}, Fraction(1, 8)),
    ("number.saving", None, {"kept": 1, "of": 8}, Fraction(7, 8)),
    ("number.difference", None, {"of": 9, "to": 8}, Fraction(1, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "at", "expected"), BY_HAND)
def test_a_quantity_is_what_it_is_by_hand(name: str, model: str | None, at: dict[str, Any], expected: Any) -> None:
    found = compute(find(name), model, at)
    assert found.value == found.low == found.high == expected
    assert not found.estimate


def test_training_runs_and_modules() -> None:
    run = compute(find("flops.training_run"), "gpt2", {"tokens": 4_096, "context": 1_024}).value
    assert run == 4 * calc.load("gpt2").training_flops(1_024)
    more = compute(find("params.total"), "deepseek-v3", {"prediction_modules": True}).value
    assert more - 671_026_419_200 == calc.show("deepseek-v3").data["params"]["mtp"]


def test_laws_of_routed_models() -> None:
    cutoff = compute(find("scaling.routed_cutoff"), None, {"law": "s-base"}).value
    assert float(cutoff) == pytest.approx(10 ** (0.108 / 0.009))
    same = compute(find("scaling.routed_equal"), None, {"law": "hash", "params": Decimal("1e9"), "n_experts": 1}).value
    assert float(same) == pytest.approx(1e9)


def test_every_quantity_is_tested() -> None:
    tested = {name for name, *_ in BY_HAND} | {"flops.training_run", "scaling.routed_cutoff", "scaling.routed_equal"}
    assert tested == set(names())


def test_a_quantity_says_what_it_is() -> None:
    for name in names():
        found = find(name)
        assert found.meaning, name
        assert found.unit in {unit.base for unit in UNITS.values()}, name


def test_ranges_are_computed_at_their_ends() -> None:
    share = compute(find("number.share"), None, {"part": [100, 200], "whole": [500, 1_000]})
    assert (share.low, share.high) == (Fraction(1, 10), Fraction(2, 5))
    money = compute(find("money.gpu_hours"), None, {"gpu_hours": [10, 20], "usd_per_hour": [1, 3]})
    assert (money.low, money.high) == (10, 60)


def test_an_estimate_is_computed_at_both_ends_of_every_model() -> None:
    one = compute(find("params.total"), "gemini-2.5-pro", {})
    assert one.low < one.value < one.high
    assert one.estimate
    two = compute(find("params.ratio"), "gemini-2.5-pro", {"other": "gemini-2.5-pro"})
    assert two.low < Fraction(6, 10) < 1 < Fraction(19, 10) < two.high


def test_two_quantities_of_one_name_are_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="two quantities are named"):
        quantity("params.total", "")(lambda: 1)
    assert QUANTITIES["params.total"].of_model


@pytest.mark.parametrize(
    ("name", "model", "at", "words"),
    [
        ("params.total", None, {}, "params.total is a figure of a model: model is missing"),
        ("number.sum", "gpt2", {"terms": [1]}, "number.sum is not a figure of a model"),
        ("params.total", "gpt-33", {}, "no preset named 'gpt-33'; did you mean gpt-3"),
        ("params.total", "gpt2", {"model": "gpt-3"}, "no argument of params.total named 'model'"),
        ("flops.decode", "gpt2", {}, "flops.decode needs context"),
        ("flops.decode", "gpt2", {"contxt": 5}, "no argument of flops.decode named 'contxt'; did you mean context?"),
        ("flops.decode", "gpt2", {"context": 0}, "context = 0 is not a whole number from 1"),
        ("flops.decode", "gpt2", {"context": True}, "context = true is not a whole number"),
        ("flops.decode", "gpt2", {"context": Decimal("1.5")}, "context = 1.5 is not a whole number"),
        ("flops.decode", "gpt2", {"context": "8"}, "context = '8' is not a whole number"),
        ("flops.decode", "gpt2", {"context": 10**13}, "is not a whole number from 1 to 1,000,000,000,000"),
        ("flops.prefill", "gpt2", {"context": 8, "causal": 1}, "causal = 1 is not true or false"),
        ("params.part", "gpt2", {"part": "head_dim"}, "part = 'head_dim' is not one of embedding, attention"),
        ("flops.ratio", "gpt2", {"other": 7, "context": 8}, "other = 7 is not a preset's name"),
        ("flops.ratio", "gpt2", {"other": "gpt2", "context": 8, "phase": "train"}, "phase = 'train' is neither"),
        ("flops.per_pair", "gpt2", {"form": "absorbed"}, "gpt2 has one form only"),
        ("flops.merged_heads", "llama-3-8b", {"context": 8}, "other than plain multi-head attention"),
        ("complexity.optimal_stride", "gpt2", {}, "gpt2 has no layer with a strided pattern"),
        ("complexity.exponent", "gpt2", {"kind": "mla"}, "no kind of attention named 'mla'"),
        ("scores.values", "mamba-2.8b", {"context": 4}, "has no attention with a softmax"),
        ("cache.values_per_layer", "mimo-v2-flash", {}, "2 different amounts"),
        ("cache.groups", "gpt2", {}, "no field named 'qk_nope_head_dim'"),
        ("experts.params", "gpt2", {}, "gpt2 has no kinds of expert layers"),
        ("experts.params", "deepseek-v3", {"matrices": 4}, "an expert of deepseek-v3 has 3"),
        ("model.field", "deepseek-v3", {"name": "kv_lora_rnk"}, "did you mean kv_lora_rank"),
        ("model.field", "deepseek-v3", {"name": "__class__"}, "no field named '__class__'"),
        ("model.field", "deepseek-v3", {"name": "__import__('os').system('true')"}, "no field named"),
        ("operation.flops", "gpt2", {"path": "layer.attention", "operation": "q", "context": 2}, "no operation named"),
        ("number.share", None, {"part": 1, "whole": 0}, "whole = 0 has no shares"),
        ("number.sum", None, {"terms": []}, "terms = [] is not a list of numbers"),
        ("number.sum", None, {"terms": ["1"]}, "is not a list of numbers"),
        ("number.sum", None, {"terms": "1+1"}, "terms = '1+1' is not a list of numbers"),
        ("number.share", None, {"part": [1, 2, 3], "whole": 4}, "part = [1, 2, 3] is not a number or a range"),
        ("number.product", None, {"factors": [Decimal("1e61")]}, "is not a list of numbers"),
        ("number.product", None, {"factors": [Decimal("1e50")] * 9}, "number.product is beyond 1e60"),
        ("tokens.longest_video", None, {"context": 9, "fps": 0, "tokens_per_frame": 5}, "cannot be computed"),
        ("scaling.routed_cutoff", None, {"law": "s-bse"}, "no law of routed models named 's-bse'; did you mean s-base"),
        ("tokens.model_audio", "paligemma-3b-pt-224", {"seconds": 1}, "paligemma-3b-pt-224 has no tower for audio"),
        ("format.share", None, {"dtype": "fp9"}, "no dtype named 'fp9'"),
    ],
)
def test_what_cannot_be_computed_is_one_clear_line(
    name: str, model: str | None, at: dict[str, Any], words: str
) -> None:
    with pytest.raises(calc.CalcError) as error:
        compute(find(name), model, at)
    assert words in str(error.value)


def test_an_unknown_quantity_suggests_near_ones() -> None:
    with pytest.raises(calc.CalcError, match=r"no quantity named 'params\.totl'; did you mean params\.total"):
        find("params.totl")


# ---- what a number claims


@pytest.mark.parametrize(
    ("value", "name", "tolerance", "low", "high"),
    [
        (256, "tokens", None, 256, 256),
        (Decimal("175e9"), "parameters", None, 174_500_000_000, 175_500_000_000),
        (Decimal("175.0e9"), "parameters", None, 174_950_000_000, 175_050_000_000),
        (Decimal("3.14e23"), "FLOP", None, 3135 * 10**20, 3145 * 10**20),
        (97, "%", None, Fraction(965, 1000), Fraction(975, 1000)),
        (Decimal("3.9"), "%", None, Fraction(385, 10_000), Fraction(395, 10_000)),
        (80, "GiB", None, Fraction(159, 2) * 2**30, Fraction(161, 2) * 2**30),
        (80, "B", None, 80, 80),
        (2, "days", None, Fraction(3, 2) * 86_400, Fraction(5, 2) * 86_400),
        (100, "tokens", 0.05, 95, 105),
        (-4, "", 0.5, -6, -2),
        (0, "", 0.5, 0, 0),
    ],
)
def test_a_number_claims_the_digits_it_is_written_with(
    value: int | Decimal, name: str, tolerance: float | None, low: Any, high: Any
) -> None:
    span = claimed(value, unit(name), tolerance)
    assert (span.low, span.high) == (low, high)


def test_a_range_claims_all_between_its_ends() -> None:
    span = span_of((Decimal("0.5e12"), Decimal("1e12")), unit("parameters"), None)
    assert (span.low, span.high) == (45 * 10**10, 15 * 10**11)
    with pytest.raises(calc.CalcError, match="ends before it begins"):
        span_of((2, 1), unit(""), None)


@pytest.mark.parametrize("value", [True, "12", None, float("nan"), float("inf"), Decimal("1e99"), Decimal("-1e-99")])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        number(value)
