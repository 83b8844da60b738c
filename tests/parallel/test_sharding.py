"""Tables of one rank: what all ranks hold and do together is what the model holds and does, and what they repeat."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc import catalog
from calc.dims import LEGEND
from calc.errors import SpecError
from calc.masks import Causal
from calc.model import Block, Model, Pass, cache_bytes, flops_by_operation, moved_bytes, parameters, running
from calc.operations import Einsum
from calc.parallel import Layout, check, shard
from calc.units import dtype

PRESETS = sorted(catalog.names())
FORMS = {"weight": dtype("bf16"), "activation": dtype("bf16"), "cache": dtype("bf16")}


@cache
def model_of(name: str) -> Model:
    return catalog.load(name)


def flops(blocks: Iterable[Block], pass_: Pass) -> int:
    total: int = sum(flops_by_operation(blocks, pass_, "all").values())
    return total


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_together_hold_and_do_what_the_model_does(name: str, tp: int) -> None:
    """Σ over ranks = the whole + (tp − 1) times what no letter divides, operation by operation."""
    model, layout = model_of(name), Layout(tp=tp)
    blocks = model.blocks()
    try:
        check(model, layout)
    except SpecError as error:
        assert "divisible" in str(error)  # noqa: PT017 - the legal ones go on below
        return
    pass_ = Pass.prefill(64, 2)
    for whole, part in zip(blocks, shard(blocks, layout), strict=True):
        padded = {letter for letter in whole.letters if LEGEND[letter].axis == "vocab" and whole.letters[letter] % tp}
        for one, other in zip(whole.operations, part.operations, strict=True):
            for before, after in zip(one.weights, other.weights, strict=True):
                if padded & set(before.dims):
                    continue
                held = prod(whole.letters[x] // part.letters[x] for x in before.dims) * after.total(part.letters)
                assert held == before.total(whole.letters), (whole.path, one.name)
        if not padded and whole.letters.get("k", tp) % tp == 0 and whole.letters.get("G", tp) % tp == 0:
            for (_, one, env), (_, other, mine) in zip(running([whole], pass_), running([part], pass_), strict=True):
                ranks = tp if _divided("".join(_letters(one) & set(whole.letters))) else 1
                assert ranks * other.flops(mine) == one.flops(env), (whole.path, one.name)
                # the bias of a sum over ranks is added once it is complete, by every rank
                ranks = 1 if isinstance(one, Einsum) and one.bias and not _divided(one.output) else ranks
                assert ranks * other.other_flops(mine, True) == one.other_flops(env, True), (whole.path, one.name)


def _divided(letters: str) -> bool:
    return any(LEGEND[x].axis and x != "e" for x in letters)


def _letters(operation: object) -> set[str]:
    equation = getattr(operation, "equation", "") or getattr(operation, "output", "")
    return {x for x in equation + getattr(operation, "scanned", "") if x in LEGEND} | {
        x
        for weight in operation.weights
        for x in weight.dims  # type: ignore[attr-defined]
    }


REPEATED = {
    "llama-3-8b": {"attention_norm", "ffn_norm", "attention_residual", "ffn_residual", "final_norm"},
    "deepseek-v3": {
        "attention_norm", "ffn_norm", "attention_residual", "ffn_residual", "final_norm", "q_a_proj", "q_a_norm",
        "kv_a_proj", "kv_a_norm", "k_rope", "k_rotary", "router", "router_scores", "correction_bias", "group_scores",
        "groups", "choice", "normalise", "routed_scale", "combine", "sum",
    },
    "mixtral-8x7b": {
        "attention_norm", "ffn_norm", "attention_residual", "ffn_residual", "final_norm", "router", "router_scores",
        "choice", "normalise", "combine",
    },
}  # fmt: skip
"""What every rank does alike without sequence parallelism: norms, residuals, routers, projections to latents."""


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_sequence_parallelism_shares_what_is_repeated(name: str, sequence_parallel: bool) -> None:
    model, pass_, tp = model_of(name), Pass.prefill(4096), 8
    whole = model.blocks()
    part = shard(whole, Layout(tp=tp, sequence_parallel=sequence_parallel))
    done = {
        operation.name: (mine["t"], tp * operation.flops(mine, counts="all"), one.flops(env, counts="all"))
        for (_, one, env), (_, operation, mine) in zip(running(whole, pass_), running(part, pass_), strict=True)
        if one.flops(env, counts="all")
    }
    again = {operation for operation, (_, ranks, whole_) in done.items() if ranks != whole_}
    assert again == (set() if sequence_parallel else REPEATED[name])
    if sequence_parallel:
        assert {name for name, (tokens, _, _) in done.items() if tokens == 4096 // tp} == REPEATED[name]


def test_few_key_value_heads_stand_on_several_ranks() -> None:
    """Llama 3 70B has 8 of them: with tp 16 two ranks have the same one, and each half its query heads."""
    blocks = shard(model_of("llama-3-70b").blocks(), Layout(tp=16))
    letters = next(block for block in blocks if block.name == "attention").letters
    assert (letters["k"], letters["g"]) == (1, 4)
    now = Pass.decode(1024)
    whole = cache_bytes(model_of("llama-3-70b").blocks(), now, dtype("bf16")).bytes
    assert 16 * cache_bytes(blocks, now, dtype("bf16")).bytes == 2 * whole


def test_the_latent_cache_of_mla_is_on_every_rank() -> None:
    model, now = model_of("deepseek-v3"), Pass.decode(1024)
    assert cache_bytes(shard(model.blocks(), Layout(tp=8)), now, dtype("bf16")) == cache_bytes(
        model.blocks(), now, dtype("bf16")
    )


def test_the_vocabulary_is_padded() -> None:
    """Megatron pads GPT-2's 50,257 rows to a multiple of 128·tp (``make_vocab_size_divisible_by``)."""
    blocks = model_of("gpt2").blocks()
    assert shard(blocks, Layout(tp=4))[0].letters["v"] == 12565
    assert shard(blocks, Layout(tp=4, vocab_multiple=128))[0].letters["v"] * 4 == 50_688
    assert shard(blocks, Layout(vocab_multiple=128))[0].letters["v"] == 50_304
    assert shard(blocks, Layout())[0].letters["v"] == 50_257


@pytest.mark.parametrize("ep", [1, 4, 16, 64])
@pytest.mark.parametrize("expert_tp", [1, 2])
def test_experts_parallelism_moves_work_and_keeps_its_amount(ep: int, expert_tp: int) -> None:
    """Each rank has E/ep experts of 1/expert_tp their width; all ranks' expert FLOPs are those of all tokens."""
    model, tp = model_of("deepseek-v3"), 2
    layout = Layout(tp=tp, dp=64 * expert_tp // tp, ep=ep, expert_tp=expert_tp)
    pass_ = Pass.prefill(256)
    whole, part = model.blocks(), shard(model.blocks(), layout)
    for (_, one, env), (_, mine, own) in zip(running(whole, pass_), running(part, pass_), strict=True):
        if one.name in ("gate_proj", "up_proj", "down_proj") and getattr(one, "chosen", ()):
            assert one.parameters(env) == ep * expert_tp * mine.parameters(own)
            assert one.flops(env) == tp * mine.flops(own)
            # tokens of all ranks that share the experts meet this rank's
            tokens = 256 * layout.ep * layout.etp // tp
            touched = mine.weight_reads(own) / mine.parameters(own)
            assert touched == pytest.approx(1 - (1 - 8 / 256) ** tokens)


def test_a_capacity_leaves_the_work_of_a_rank_as_it_is() -> None:
    model = model_of("switch-base-128")
    whole, part = model.blocks(), shard(model.blocks(), Layout(dp=16, ep=16))
    assert flops(whole, Pass.prefill(512)) == flops(part, Pass.prefill(512))


@settings(max_examples=60, deadline=None)
@given(cp=st.sampled_from([2, 4, 8]), chunks=st.integers(1, 40), batch=st.integers(1, 3))
def test_ranks_of_a_sequence_do_its_work_together(cp: int, chunks: int, batch: int) -> None:
    """With 2·cp chunks of a causal sequence dealt out in pairs, every rank computes 1/cp of the pairs."""
    length = 2 * cp * chunks
    scores = Einsum("scores", "btkgh,bskh->bkgts", inputs=("q", "k"), over=Causal())
    block = Block(name="attention", part="attention", operations=(scores,), letters={"k": 2, "g": 2, "h": 4})
    [part] = shard([block], Layout(cp=cp))
    pass_ = Pass.prefill(length, batch)
    [(_, _, env)], [(_, _, mine)] = list(running([block], pass_)), list(running([part], pass_))
    assert cp * scores.flops(mine) == scores.flops(env)
    # what one rank of such a split really has: chunk i and chunk 2·cp − 1 − i
    for rank in range(cp):
        places = [*range(rank * chunks, (rank + 1) * chunks)]
        places += range((2 * cp - 1 - rank) * chunks, (2 * cp - rank) * chunks)
        assert scores.flops(mine) == 2 * batch * 2 * 2 * 4 * sum(place + 1 for place in places)


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3", "gemma-2-9b"])
def test_context_parallelism_divides_a_prefill_and_a_step_s_cache(name: str) -> None:
    model, cp, length = model_of(name), 4, 4096
    whole, part = model.blocks(), shard(model.blocks(), Layout(cp=cp))
    one, rank = flops(whole, Pass.prefill(length)), flops(part, Pass.prefill(length))
    assert one <= cp * rank <= one * (1 + 1e-9) + 1000 * cp
    held, mine = (cache_bytes(blocks, Pass.decode(length), FORMS["cache"]).bytes for blocks in (whole, part))
    assert cp * mine == held
    step = Pass.decode(length)
    for (block, operation, env), (_, mine_, own) in zip(running(whole, step), running(part, step), strict=True):
        done, share = operation.flops(env, counts="all"), mine_.flops(own, counts="all")
        if operation.over is not None:
            assert done <= cp * share < done + cp * (done // env["s"] + 1), (block.path, operation.name)


def test_a_ring_reads_every_key_and_its_own_queries() -> None:
    block = next(block for block in model_of("llama-3-8b").blocks() if block.name == "attention")
    [part] = shard([block], Layout(cp=4))
    scores = next(operation for operation in part.operations if operation.name == "scores")
    env = next(env for _, operation, env in running([part], Pass.prefill(1024)) if operation is scores)
    reads = dict(scores.reads(env, causal=True))
    assert reads == {"q_rotary": 1024 // 4 * 4096, "k": 1024 * 1024}
    assert moved_bytes(part, scores, Pass.prefill(1024), FORMS)["cache"] == block.repeat * 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "layout", "reason"),
    [
        ("qwen2.5-7b", Layout(tp=8), "layer.attention: n_heads = 28 is not divisible by tp = 8"),
        ("gpt2-xl", Layout(tp=2), "n_kv_heads = 25 is not divisible by tp = 2, nor tp by it"),
        ("deepseek-v3", Layout(ep=3, dp=3), "n_experts = 256 is not divisible by ep = 3"),
        ("llama-3-8b", Layout(ep=2, dp=2), "ep = 2: llama-3-8b has no routed experts"),
        ("llama-3-8b", Layout(pp=64), "32 layers cannot be dealt out to 64 stages"),
        ("falcon-mamba-7b", Layout(cp=2), "has a recurrent state, which no ring shares"),
        ("t5-base", Layout(cp=2), "sequences of a model with an encoder"),
        ("t5-base", Layout(pp=2), "has an encoder"),
    ],
)
def test_what_a_model_cannot_have_is_refused_with_the_reason(name: str, layout: Layout, reason: str) -> None:
    with pytest.raises(SpecError, match=reason.replace(".", r"\.")):
        check(model_of(name), layout)


def test_devices_must_match() -> None:
    check(model_of("llama-3-8b"), Layout(tp=8, dp=2), n_gpus=16)
    with pytest.raises(SpecError, match=r"tp·cp·dp·pp = 16 devices \(tp8 dp2\), not 8"):
        check(model_of("llama-3-8b"), Layout(tp=8, dp=2), n_gpus=8)


def test_one_device_is_the_model_itself() -> None:
    for name in ("llama-3-8b", "deepseek-v3", "jamba-v0.1"):
        assert shard(model_of(name).blocks(), Layout()) == model_of(name).blocks()


def test_parameters_of_a_rank() -> None:
    """Llama 3 8B: 8 ranks hold 1/8 of every matrix, and all 65 norms of 4,096."""
    total = parameters(shard(model_of("llama-3-8b").blocks(), Layout(tp=8))).total
    norms = 65 * 4096
    assert 8 * (total - norms) + norms == 8_030_261_248


def test_no_weight_is_divided_twice() -> None:
    """Two divided letters of one matrix would leave out the blocks where both differ: key-value heads and the query
    heads of each are one division, heads of groups another letter's.
    """
    from calc.validate.samples import kinds, samples

    blocks = [block for kind in kinds() for sample in samples(kind) for block in sample.blocks()]
    blocks += [block for name in PRESETS for block in model_of(name).blocks()]
    for block in blocks:
        for operation in block.operations:
            for weight in operation.weights:
                own = [x for x in weight.dims if LEGEND[x].axis in ("tp", "vocab", "expert_tp")]
                assert len(own) <= 1, (block.path, operation.name, weight.dims)
