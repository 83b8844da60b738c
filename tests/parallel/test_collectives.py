"""Collectives against what papers state: how many, of what, how large."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from calc import catalog
from calc.errors import SpecError
from calc.model import Model, Pass, parameters
from calc.parallel import Collective, Layout, Ways, Wire, collectives, shard, stages

BF16, FP32 = 2, 4


@cache
def model_of(name: str) -> Model:
    return catalog.load(name)


def calls(name: str, layout: Layout, pass_: Pass, **options: Any) -> list[Collective]:
    return collectives(model_of(name), layout, pass_, **options)


def within(found: list[Collective], *axes: str) -> Counter[tuple[str, str, int]]:
    """Count calls by (direction, kind, bytes)."""
    counted: Counter[tuple[str, str, int]] = Counter()
    for call in found:
        if call.axis in axes:
            counted[call.direction, call.kind, call.bytes] += call.count
    return counted


def test_tensor_parallelism_reduces_twice_a_layer_each_way() -> None:
    """Megatron-LM, arXiv:1909.08053 §3: two all-reduces of b·t·d in a layer forward, and two backward.

    Beside them the embedding's and (backward) the head's, and three numbers a token for the loss.
    """
    found = within(calls("llama-3-8b", Layout(tp=4), Pass.prefill(1024, 2), training=True), "tp")
    size = 2 * 1024 * 4096 * BF16
    assert found == {
        ("forward", "all_reduce", size): 2 * 32 + 1,
        ("backward", "all_reduce", size): 2 * 32 + 1,
        ("forward", "all_reduce", 2 * 1024 * FP32): 3,
    }


def test_sequence_parallelism_sends_as_much_forward_and_one_gather_more_backward() -> None:
    """Korthikanti et al. 2022 §4.2.2: an all-gather and a reduce-scatter in place of each all-reduce, same volume."""
    pass_ = Pass.prefill(1024)
    plain = calls("llama-3-8b", Layout(tp=4), pass_, training=True)
    split = calls("llama-3-8b", Layout(tp=4, sequence_parallel=True), pass_, training=True)
    size = 1024 * 4096 * BF16

    def sent(found: list[Collective], direction: str) -> float:
        return sum(call.sent for call in found if call.direction == direction and call.bytes == size)

    # without it the embedding's result is whole; with it the head gathers too
    assert sent(split, "forward") == sent(plain, "forward")
    extra = (2 * 32 + 1) * size * 3 / 4  # inputs gathered again for the weights' gradients
    assert sent(split, "backward") == sent(plain, "backward") + extra
    kept = calls("llama-3-8b", Layout(tp=4, sequence_parallel=True), pass_, training=True, ways=Ways(regather=False))
    assert sent(kept, "backward") == sent(plain, "backward")


def test_repeated_weights_reduce_their_gradients_once_a_step() -> None:
    """With sequence parallelism norms have seen a share of the tokens; Qwen3's query-key norms see a share of heads."""
    pass_ = Pass.prefill(1024)
    plain = within(calls("llama-3-8b", Layout(tp=4), pass_, training=True), "tp")
    assert not [key for key in plain if key[0] == "step"]
    split = within(calls("llama-3-8b", Layout(tp=4, sequence_parallel=True), pass_, training=True), "tp")
    assert [key for key in split if key[0] == "step"] == [("step", "all_reduce", 65 * 4096 * FP32)]
    heads = within(calls("qwen3-8b", Layout(tp=4), pass_, training=True), "tp")
    assert [key for key in heads if key[0] == "step"] == [("step", "all_reduce", 36 * 2 * 128 * FP32)]


def test_one_key_value_head_on_two_ranks_has_its_gradient_added_up() -> None:
    found = calls("llama-3-70b", Layout(tp=16), Pass.prefill(64), training=True)
    [call] = [one for one in found if one.direction == "step"]
    assert (call.kind, call.size, call.bytes) == ("all_reduce", 2, 80 * 2 * 8192 * 128 * FP32)


@pytest.mark.parametrize(
    ("zero", "volume"),
    [(0, 2.0), (1, 2.0), (2, 2.0), (3, 3.0)],
)
def test_zero_moves_what_its_paper_says(zero: int, volume: float) -> None:
    """Rajbhandari et al. 2019 §7: 2Ψ a step without it and with stages 1 and 2, 3Ψ with stage 3 (one micro-batch)."""
    layout, wire = Layout(dp=8, zero=zero), Wire(gradient="bf16")
    found = calls("llama-3-8b", layout, Pass.prefill(64), training=True, wire=wire)
    psi = model_of("llama-3-8b").params().total * BF16 * 7 / 8
    ends = (2 * 128_256 * 4096 + 4096) * BF16 * 7 / 8  # stay gathered: not gathered in the backward pass
    assert sum(call.sent for call in found) == pytest.approx(volume * psi - (ends if zero == 3 else 0), rel=1e-12)
    if zero == 3:
        assert {call.count for call in found} == {1, 32}
        unsharded = calls("llama-3-8b", layout, Pass.prefill(64), training=True, wire=wire, ways=Ways(reshard=False))
        assert sum(call.sent for call in unsharded) == pytest.approx(2 * psi)


def test_zero_two_scatters_in_every_micro_batch() -> None:
    def kinds(zero: int) -> set[tuple[str, str]]:
        found = calls("gpt2", Layout(dp=4, zero=zero), Pass.prefill(8), training=True)
        return {(call.kind, call.direction) for call in found}

    assert kinds(1) == {("reduce_scatter", "step"), ("all_gather", "step")}
    assert kinds(2) == {("reduce_scatter", "backward"), ("all_gather", "step")}


def test_experts_gradients_are_reduced_over_their_own_copies() -> None:
    layout = Layout(tp=2, dp=8, ep=4, sequence_parallel=True)
    found = [
        call for call in calls("mixtral-8x7b", layout, Pass.prefill(64), training=True) if call.direction == "step"
    ]
    sizes = {call.axis: (call.size, call.stride, call.bytes) for call in found}
    experts = 32 * 8 * 3 * 4096 * 14336 // (4 * 2)
    assert sizes["expert_dp"] == (2, 8, experts * FP32)
    rank = parameters(shard(model_of("mixtral-8x7b").blocks(), layout)).total
    assert sizes["dp"] == (8, 2, (rank - experts) * FP32)


def test_tokens_go_to_their_experts_and_back() -> None:
    """GShard, arXiv:2006.16668 §3.2: two all-to-alls a layer and direction, of k copies of every token."""
    layout = Layout(dp=8, ep=8)
    found = within(calls("deepseek-v3", layout, Pass.prefill(4096), training=True), "ep")
    size = 4096 * 8 * 7168 * BF16
    assert found == {
        ("forward", "all_to_all", size): 2 * 58,
        ("backward", "all_to_all", size): 2 * 58,
        ("forward", "all_gather", 8 * 256 * 8): 58,
    }
    wire = Wire(dispatch="fp8")
    cheaper = within(calls("deepseek-v3", layout, Pass.prefill(4096), wire=wire), "ep")
    assert cheaper["forward", "all_to_all", size // 2] == cheaper["forward", "all_to_all", size] == 58


def test_other_ways_to_the_experts() -> None:
    layout, pass_ = Layout(dp=8, ep=8), Pass.prefill(4096)
    gathered = within(calls("deepseek-v3", layout, pass_, ways=Ways(dispatch="all_gather")), "ep")
    size = 8 * 4096 * 7168 * BF16
    assert gathered == {
        ("forward", "all_gather", size): 58,
        ("forward", "reduce_scatter", size): 58,
        ("forward", "all_gather", 8 * 4096 * 8 * BF16): 58,  # the router's weights
        ("forward", "all_gather", 8 * 4096 * 8 * 8): 58,  # and which experts they are for
    }
    once = within(calls("deepseek-v3", layout, pass_, ways=Ways(dispatch="once_per_rank")), "ep")
    [bytes_] = {size for _, kind, size in once if kind == "all_to_all"}
    assert bytes_ == pytest.approx(4096 * 7168 * BF16 * 8 * (1 - (7 / 8) ** 8), rel=1e-6)


def test_replicas_with_the_same_tokens_exchange_only_with_others() -> None:
    """Serving with tensor-parallel attention in 2 replicas of 8 ranks and experts over all 16."""
    layout = Layout(tp=8, dp=2, ep=16, expert_tp=1)
    found = [call for call in calls("deepseek-v3", layout, Pass.decode(4096, 8)) if "layer2.ffn" in call.after]
    assert [(call.kind, call.size, call.stride) for call in found] == [
        ("all_gather", 2, 8),  # how many tokens for each expert
        ("all_to_all", 2, 8),
        ("all_to_all", 2, 8),
        ("all_reduce", 8, 1),  # routed and shared experts together
    ]
    # each rank keeps the tokens whose experts are among its 1/8 of a replica's ranks
    assert found[1].bytes == 8 * 8 * 7168 * BF16 // 8
    alone = [call for call in calls("mixtral-8x7b", Layout(tp=8), Pass.decode(64)) if "ffn" in call.after]
    assert [(call.kind, call.count) for call in alone] == [("all_reduce", 32)]


def test_a_ring_passes_keys_and_values_on() -> None:
    """Liu et al. 2023, arXiv:2310.01889 §3: cp − 1 hops of keys and values; backward once more, with gradients."""
    cp = 4
    found = calls("llama-3-8b", Layout(cp=cp), Pass.prefill(8192), training=True)
    hop = 2 * 8192 // cp * 8 * 128 * BF16
    assert within(found, "cp") == {
        ("forward", "send_recv", hop): 32 * (cp - 1),
        ("backward", "send_recv", hop): 32 * (2 * cp - 1),
    }
    gathered = within(calls("llama-3-8b", Layout(cp=cp), Pass.prefill(8192), ways=Ways(ring="all_gather")), "cp")
    assert gathered == {("forward", "all_gather", hop * cp): 32}


def test_heads_are_swapped_for_tokens() -> None:
    """Jacobs et al. 2023, arXiv:2309.14509 §3.2: queries, keys, values and results, each once each way."""
    layout, ways = Layout(cp=4), Ways(ring="all_to_all")
    found = within(calls("llama-3-8b", layout, Pass.prefill(8192), training=True, ways=ways), "cp")
    wide, narrow = 8192 // 4 * 32 * 128 * BF16, 8192 // 4 * 8 * 128 * BF16
    assert found == {
        (direction, "all_to_all", size): 2 * 32 for direction in ("forward", "backward") for size in (wide, narrow)
    }
    latent = within(calls("deepseek-v3", layout, Pass.prefill(8192), training=True, ways=ways), "cp")
    assert latent["forward", "all_gather", 8192 * 64 * BF16] == 61
    with pytest.raises(SpecError, match="1 n_kv_heads on a rank are not divisible by cp = 4"):
        calls("llama-3-8b", Layout(tp=8, cp=4), Pass.prefill(8192), ways=ways)


def test_pipeline_neighbours_exchange_once_a_virtual_stage() -> None:
    pass_ = Pass.prefill(2048, 2)
    size = 2 * 2048 * 4096 * BF16
    plain = Layout(pp=4)
    assert within(calls("llama-3-8b", plain, pass_, stage=0, training=True), "pp") == {
        ("forward", "send_recv", size): 1
    }
    assert within(calls("llama-3-8b", plain, pass_, stage=3, training=True), "pp") == {
        ("backward", "send_recv", size): 1
    }
    virtual = Layout(pp=4, virtual_stages=2, schedule="interleaved", tp=2, sequence_parallel=True)
    assert within(calls("llama-3-8b", virtual, pass_, stage=3, training=True), "pp") == {
        ("forward", "send_recv", size // 2): 1,
        ("backward", "send_recv", size // 2): 2,
    }
    [call] = [call for call in calls("llama-3-8b", virtual, pass_, stage=1) if call.axis == "pp"]
    assert (call.size, call.stride, call.first, call.span) == (2, 2, 2, 4)  # ranks 2 and 3 send to 4 and 5
    sent = {call.direction: call for call in calls("llama-3-8b", virtual, pass_, stage=3, training=True)
            if call.kind == "send_recv"}  # fmt: skip
    assert (sent["backward"].first, sent["backward"].span) == (4, 4)
    assert (sent["forward"].first, sent["forward"].span) == (0, 8)  # around, to the first


def test_stages_of_one_node_and_of_two_are_joined_by_different_links() -> None:
    device, pass_ = catalog.load_accelerator("h100-sxm"), Pass.prefill(2048)
    found = {
        stage: device.link(call.span, call.first).kind
        for stage in range(3)
        for call in calls("llama-3-8b", Layout(tp=4, pp=4), pass_, stage=stage)
        if call.kind == "send_recv"
    }
    assert found == {0: "nvlink", 1: "infiniband", 2: "nvlink"}


def test_a_tied_table_is_reduced_between_the_ends() -> None:
    layout, pass_ = Layout(pp=3, tp=2, dp=2), Pass.prefill(64)
    for stage in (0, 2):
        found = [call for call in calls("gemma-2-9b", layout, pass_, stage=stage, training=True) if call.axis == "pp"]
        [call] = [call for call in found if call.kind == "all_reduce"]
        assert (call.bytes, call.size, call.stride) == (256_000 // 2 * 3584 * FP32, 2, 8)
    middle = calls("gemma-2-9b", layout, pass_, stage=1, training=True)
    assert not [call for call in middle if call.axis == "pp" and call.kind == "all_reduce"]


def test_full_recomputation_repeats_the_layers_exchanges() -> None:
    pass_, layout = Pass.prefill(1024), Layout(tp=4)
    again = within(calls("llama-3-8b", layout, pass_, training=True, ways=Ways(recompute="full")), "tp")
    assert again["backward", "all_reduce", 1024 * 4096 * BF16] == 2 * 32 + 1 + 2 * 32


def test_a_norm_over_all_heads_adds_up_one_number_a_token() -> None:
    """OLMo 2's query-key norms cover all heads (arXiv:2501.00656 §2.1)."""
    found = within(calls("olmo-2-7b", Layout(tp=4), Pass.prefill(1024)), "tp")
    assert found["forward", "all_reduce", 1024 * FP32] == 2 * 32


def test_sweeps_are_one_evaluation() -> None:
    batch = np.array([1.0, 8.0, 64.0])
    for name, layout in (("llama-3-8b", Layout(tp=8)), ("deepseek-v3", Layout(tp=8, ep=16, dp=2, expert_tp=1))):
        swept = calls(name, layout, Pass.decode(np.full(3, 4096.0), batch))
        for index, size in enumerate(batch):
            single = calls(name, layout, Pass.decode(4096, int(size)))
            assert [np.broadcast_to(call.bytes, 3)[index] for call in swept] == [call.bytes for call in single]


def test_stages_together_send_what_one_does() -> None:
    """The exchanges of a pipeline's stages add up to those of the undivided stack."""
    pass_, wire = Pass.prefill(512), Wire()
    whole = calls("deepseek-v3", Layout(tp=4, dp=2, ep=8, expert_tp=1, sequence_parallel=True), pass_, training=True)
    layout = Layout(tp=4, dp=2, ep=8, expert_tp=1, sequence_parallel=True, pp=4)
    parts = [
        call
        for stage in range(4)
        for call in calls("deepseek-v3", layout, pass_, training=True, stage=stage, wire=wire)
    ]
    assert within(parts, "tp", "ep") - within(whole, "tp", "ep") == within(
        [call for call in parts if call.direction == "step"], "tp"
    )


def test_sent_is_the_least_that_any_algorithm_sends() -> None:
    call = Collective(kind="all_reduce", bytes=800, size=4, axis="tp", after="x", direction="forward", count=2)
    assert call.sent == 2 * 2 * 600
    assert replace(call, kind="all_gather").sent == 2 * 600
    assert replace(call, kind="send_recv").sent == 2 * 800


def test_every_preset_has_its_collectives() -> None:
    """Whatever the mechanism, the table implies them: an attention and a feed-forward network reduce at least once."""
    for name in sorted(catalog.names())[::5]:
        model = model_of(name)
        layout = Layout(tp=2)
        try:
            stages(model, layout)
            found = collectives(model, layout, Pass.prefill(64), training=True)
        except ValueError as error:
            assert "divisible" in str(error)  # noqa: PT017
            continue
        reduced = {
            call.after.rpartition(".")[0] for call in found if call.kind == "all_reduce" and call.direction == "forward"
        }
        own = {
            block.path
            for block in model.blocks()
            if block.name in ("attention", "ffn") and block.label.split()[0] not in ("shortconv",)
        }
        assert own <= reduced, (name, own - reduced)
