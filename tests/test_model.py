"""Totals that anyone can check by hand, and the properties that every model must have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import calc
from calc.attention.gqa import GQA
from calc.catalog import names
from calc.errors import SpecError
from calc.ffn.dense import DenseFFN
from calc.masks import Window
from calc.model import Layer, Model, Pass, Stack
from calc.operations import PARTS

NAMES = ["llama-3-8b", "gpt-3", "gemma-7b", "falcon-7b", "transformer-base", "bert-base-uncased", "t5-base"]


def tiny(n_layers: int = 2, **attention: object) -> Model:
    """Return a small decoder."""
    heads = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 8, **attention}
    layer = Layer(attention=GQA(**heads), ffn=DenseFFN(d_ff=64, gated=True))  # type: ignore[arg-type]
    return Model(name="tiny", d_model=32, vocab_size=100, stack=(Stack(repeat=n_layers, layer=(layer,)),))


class TestWorkedProblems:
    """Small problems with answers worked out on paper."""

    def test_attention_projections(self) -> None:
        # q and o: 32 x (4 heads x 8), k and v: 32 x (2 heads x 8)
        assert tiny(1).params().attention == 2 * 32 * 32 + 2 * 32 * 16

    def test_cache_of_one_token(self) -> None:
        # 2 layers, keys and values, 2 heads of 8, two bytes each
        assert tiny().cache(context=10).bytes_per_token == 2 * 2 * 2 * 8 * 2

    def test_flops_of_a_decode_step(self) -> None:
        model = tiny(1)
        weights = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 32 * 100
        # scores and values: 4 heads of 8 over 10 visible positions
        assert model.flops(Pass.decode(10)) == 2 * weights + 2 * 2 * 4 * 8 * 10

    def test_causal_prefill_counts_the_triangle(self) -> None:
        model = tiny(1)
        difference = model.flops(Pass.prefill(10, causal=False)) - model.flops(Pass.prefill(10))
        assert difference == 2 * 2 * 4 * 8 * (100 - 55)

    def test_a_window_saturates_the_cache(self) -> None:
        model = tiny(1, mask=Window(window=16))
        assert model.cache(context=15).bytes_per_token == 2 * 2 * 8 * 2
        assert model.cache(context=16).bytes_per_token == 0
        assert model.cache(context=1000).bytes == 16 * 2 * 2 * 8 * 2

    @pytest.mark.parametrize(
        ("name", "stride"), [("deepseek-v4-flash", 128), ("deepseek-v4-pro", 128), ("gemini-2.5-pro", 64)]
    )
    def test_a_token_adds_what_entries_cost_on_average(self, name: str, stride: int) -> None:
        model = calc.load(name)
        start, end = (model.cache(context=context).bytes for context in (2**16, 2**17))
        slope = (end - start) / 2**16
        for context in range(2**15, 2**15 + stride, 7):
            assert model.cache(context=context).bytes_per_token == slope

    def test_a_token_of_deepseek_v4_pro(self) -> None:
        # one entry of 512 for 128 positions in 31 layers; one of 512 and one of 128 for 4 positions in 30
        assert calc.load("deepseek-v4-pro").cache(context=10**5).bytes_per_token == 2 * (
            31 * 512 // 128 + 30 * 640 // 4
        )

    def test_training_is_three_forwards_and_recompute_a_fourth(self) -> None:
        model = tiny()
        forward = model.flops(Pass.prefill(64, 3))
        assert model.training_flops(64, 3) == 3 * forward
        assert model.training_flops(64, 3, recompute=True) == 4 * forward

    def test_the_attention_share_passes_the_weights_share_late(self) -> None:
        # scaling-book: attention FLOPs matter only past T > 8 D for a model with F = 4 D and plain heads
        d = 1024
        layer = Layer(attention=GQA(n_heads=8, n_kv_heads=8, head_dim=128), ffn=DenseFFN(d_ff=4 * d, gated=True))
        model = Model(name="x", d_model=d, vocab_size=1, stack=(Stack(layer=(layer,)),), head=None)
        params = model.params().active_matmul
        n = 8 * d
        scores = model.flops(Pass.prefill(n, causal=True)) - 2 * n * params
        assert scores / (2 * n * params) == pytest.approx(0.5, rel=0.01)

    def test_gpt_3_needs_its_published_training_compute(self) -> None:
        # arXiv:2005.14165 Table D.1: 3.14e23 FLOPs for 300e9 tokens, by 6 N per token without the attention scores
        model = calc.load("gpt-3")
        sequences = 300e9 / 2048
        assert model.training_flops(2048) * sequences == pytest.approx(3.14e23, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
class TestProperties:
    """What holds for every architecture."""

    def test_parts_add_up(self, name: str) -> None:
        params = calc.load(name).params()
        assert sum(getattr(params, part) for part in PARTS) == params.total

    def test_batches_add_up(self, name: str) -> None:
        model = calc.load(name)
        for counts in ("matmul", "all"):
            one, three = (model.flops(Pass.prefill(100, batch), counts) for batch in (1, 3))
            assert three == 3 * one

    def test_figures_grow_with_the_context(self, name: str) -> None:
        model = calc.load(name)
        flops = [model.flops(Pass.prefill(n)) for n in (1, 2, 10, 100, 1000)]
        cache = [model.cache(context=n).bytes for n in (1, 2, 10, 100, 1000)]
        assert flops == sorted(flops)
        assert cache == sorted(cache)

    def test_a_prefill_is_its_decode_steps(self, name: str) -> None:
        """Causal decoders: the pairs of a prompt are those of decoding it token by token."""
        model = calc.load(name)
        if model.encoder or model.cache(10).bytes == 0:
            pytest.skip("not a causal decoder: its prompt is not a sequence of steps")
        steps = sum(model.flops(Pass.decode(n)) for n in range(1, 41))
        assert steps == model.flops(Pass.prefill(40))

    def test_causal_is_at_most_full(self, name: str) -> None:
        model = calc.load(name)
        assert model.flops(Pass.prefill(64)) <= model.flops(Pass.prefill(64, causal=False))
        assert model.flops(Pass.prefill(64)) < model.flops(Pass.prefill(64), "all")


def test_layers_add_up() -> None:
    one, two, five = (tiny(n) for n in (1, 2, 5))
    layer = two.params().total - one.params().total
    assert five.params().total == one.params().total + 4 * layer
    assert five.cache(77).bytes == 5 * one.cache(77).bytes


def test_equal_heads_make_gqa_multi_head() -> None:
    grouped = tiny(n_kv_heads=4)
    assert grouped.params().attention == 2 * 4 * 32 * 32
    assert grouped.cache(9).bytes == 2 * tiny().cache(9).bytes


def test_a_tied_head_is_counted_once_and_still_multiplies() -> None:
    model = tiny()
    tied = replace(model, head=replace(model.head, tied=True))
    assert model.params().total - tied.params().total == 32 * 100
    assert model.flops(Pass.decode(5)) == tied.flops(Pass.decode(5))
    assert tied.params().active_matmul == model.params().active_matmul


@pytest.mark.parametrize(
    "change",
    [
        lambda: Layer(),
        lambda: Stack(layer=()),
        lambda: GQA(n_heads=3, n_kv_heads=2, head_dim=4),
        lambda: Layer(ffn=DenseFFN(d_ff=4), parallel="one_norm"),
    ],
)
def test_impossible_structures_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError):
        change()


@pytest.mark.parametrize(
    "fields",
    [{"parallel": "one_norm"}, {"beside": {"kind": "gqa", "n_heads": 1, "n_kv_heads": 1, "head_dim": 2}}],
)
def test_norms_of_sums_need_parts_that_follow_one_another(fields: dict[str, Any]) -> None:
    layer = {
        "attention": {"kind": "gqa", "n_heads": 1, "n_kv_heads": 1, "head_dim": 2},
        "ffn": {"kind": "dense", "d_ff": 4},
        "norm": {"kind": "layer"},
        "placement": "sum",
    }
    assert [block.name for block in Layer.build(layer).blocks()][-1] == "residual"
    with pytest.raises(SpecError, match="placement = sum needs parts that follow one another"):
        Layer.build({**layer, **fields})


def test_the_norm_of_a_sum_reads_the_sum() -> None:
    layer = next(calc.load("bert-base-uncased").layers())
    named = {operation.name: operation for operation in list(layer.blocks())[-1].operations}
    assert list(named) == ["attention_residual", "attention_post_norm", "ffn_residual", "ffn_post_norm"]
    assert named["ffn_post_norm"].inputs == ("ffn_residual",)


@pytest.mark.parametrize("name", names())
def test_no_cache_shrinks_and_none_is_larger_than_that_of_every_head(name: str) -> None:
    """Beyond what is kept anyway (windows, what waits to be compressed), heads that share keep less."""
    costs = calc.show(name, context=8191).data["cache"]
    assert costs["bytes_per_token"] >= 0
    assert costs["multi_head_bytes"] >= costs["bytes"] or costs["multi_head_bytes"] == 0


def test_what_multi_head_attention_would_keep() -> None:
    # 61 layers, a key and a value of 512 in two bytes for each of 128 heads
    found = calc.show("deepseek-v4-pro", context=8192).data["cache"]["multi_head_bytes"]
    assert found == 61 * 128 * 2 * 512 * 2 * 8192


def test_whisper_reads_chunks_of_thirty_seconds() -> None:
    asked = calc.show("whisper-large-v3").data
    assert asked["pass"]["source"] == 1500
    assert asked == calc.show("whisper-large-v3", source=1500).data
    assert calc.show("t5-base", context=99).data["pass"]["source"] == 99
