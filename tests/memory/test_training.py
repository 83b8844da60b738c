"""Memory of one device in training: weights, gradients, optimizer, activations by stage, and what adds to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import calc
from calc.catalog import names
from calc.errors import SpecError, UnknownName
from calc.memory import OPTIMIZERS, PRECISIONS, Run, load_framework, memory_of, training_memory
from calc.memory.optimizers import Stored
from calc.parallel import Layout
from calc.saved import Adapters

LLAMA = calc.load("llama-3-8b")
PARAMS = LLAMA.params().total
GIB = 2**30


def run(**values: object) -> Run:
    return Run(**{"model": LLAMA, "context": 4096, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "weights", "gradients", "optimizer"),
    [
        ({}, 2, 4, 12),  # Megatron: bf16 weights, fp32 gradients, master copy and two moments
        ({"precision": "fp16", "framework": "megatron-deepspeed"}, 2, 2, 12),
        ({"framework": "torchtitan", "micro_batches": 2}, 4, 4, 8),  # fp32 weights are their own master copy
        ({"framework": "litgpt", "precision": "bf16-true", "micro_batches": 2}, 2, 2, 4),
        ({"optimizer": "sgd"}, 2, 4, 4),
        ({"optimizer": "paged-adam8bit"}, 2, 4, 0),
    ],
)
def test_bytes_a_parameter(values: dict[str, object], weights: int, gradients: int, optimizer: int) -> None:
    memory = memory_of(run(**values))
    assert memory.weights == weights * PARAMS
    assert memory.gradients == gradients * PARAMS
    assert memory.optimizer == optimizer * PARAMS


def test_zero_divides_by_the_ranks_that_hold_the_same() -> None:
    """Rajbhandari et al. 2019, arXiv:1910.02054 figure 1, with fp32 gradients."""
    figures = [memory_of(run(layout=Layout(dp=8, cp=2, zero=zero))) for zero in range(4)]
    shares = [(each.weights / PARAMS, each.gradients / PARAMS, each.optimizer / PARAMS) for each in figures]
    assert shares == [(2, 4, 12), (2, 4, 12 / 16), (2, 4 / 16, 12 / 16), (2 / 16, 4 / 16, 12 / 16)]


def test_experts_are_shared_by_fewer_ranks_than_the_rest() -> None:
    model = calc.load("mixtral-8x7b")
    whole = memory_of(run(model=model, layout=Layout(dp=8, ep=8, zero=1, expert_tp=1)))
    experts = 32 * 8 * 3 * 4096 * 14336
    rest = model.params().total - experts
    assert whole.weights == 2 * (experts // 8 + rest)
    assert whole.optimizer == 12 * (experts // 8 + rest / 8)


@pytest.mark.parametrize(
    ("layout", "stage", "batches", "expected"),
    [
        (Layout(pp=4), 0, 16, 4),
        (Layout(pp=4), 3, 16, 1),
        (Layout(pp=4), 0, 2, 2),
        (Layout(pp=4, schedule="gpipe"), 2, 16, 16),
        # Korthikanti et al. 2022, arXiv:2205.05198 §4.2.3: p·(1 + (p − 1)/(p·v))
        (Layout(pp=4, virtual_stages=2, schedule="interleaved"), 0, 16, 4 * (1 + 3 / 8)),
        (Layout(pp=4, virtual_stages=2, schedule="interleaved"), 3, 16, 5 / 2),
    ],
)
def test_micro_batches_in_flight(layout: Layout, stage: int, batches: int, expected: float) -> None:
    memory = memory_of(run(layout=layout, micro_batches=batches), stage=stage)
    assert memory.in_flight == expected
    layers = sum(repeat * shape.kept for shape, repeat in memory.layers if shape.layered)
    ends = sum(repeat * shape.kept for shape, repeat in memory.layers if not shape.layered)
    assert memory.activations == layers * expected + ends


def test_recomputing_a_share_of_the_layers_lies_between() -> None:
    none, half, full = (
        memory_of(run(recompute="full", recompute_share=share)).activations for share in (0.0, 0.5, 1.0)
    )
    assert none == memory_of(run()).activations
    assert half - full == none - half


def test_tensors_add_up_to_the_activations() -> None:
    memory = training_memory(LLAMA, Layout(pp=2), context=2048, micro_batch=2, global_batch=16, stage=0)
    assert sum(each.total for each in memory.by_tensor()) == memory.activations


def test_an_array_of_micro_batches_gives_each_ones_figure() -> None:
    several = memory_of(run(layout=Layout(tp=2)), np.array([1, 2, 8]), stage=0)
    alone = [memory_of(run(layout=Layout(tp=2)), size, stage=0) for size in (1, 2, 8)]
    assert np.allclose(several.total, [each.total for each in alone], rtol=1e-15)
    assert several.moment is None
    assert alone[0].moment in ("backward", "loss")


def test_low_rank_adapters_train_little_beside_a_quantised_base() -> None:
    adapters = Adapters(rank=8, targets=("q_proj", "v_proj"))
    plain = memory_of(run(adapters=adapters, precision="bf16-true", framework="litgpt"))
    four = memory_of(run(adapters=adapters, precision="bf16-true", framework="litgpt", frozen_form="nf4"))
    trained = 32 * 8 * (4096 + 4096 + 4096 + 1024)
    assert plain.weights == 2 * (PARAMS + trained)
    assert plain.optimizer == 4 * trained
    # the embedding stays as it is; matrices are 4 bits, a byte for 64 numbers, 4 more for 256 of those
    matrices = PARAMS - 128256 * 4096 - 65 * 4096
    assert four.weights / GIB == pytest.approx((2 * (PARAMS - matrices + trained) + matrices * 4.127 / 8) / GIB, 1e-4)
    assert four.activations > plain.activations  # bitsandbytes keeps the operands of frozen maps


@pytest.mark.parametrize("kind", ["prompt", "scale"])
def test_other_adapters(kind: str) -> None:
    memory = memory_of(run(adapters=Adapters(kind=kind, rank=10), precision="bf16-true", framework="litgpt"))  # type: ignore[arg-type]
    trained = {
        "prompt": 32 * 10 * 4096,
        "scale": 2 * (32 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 4096) + 128256),
    }
    assert memory.weights == 2 * (PARAMS + trained[kind])


def test_the_loss_is_the_worst_moment_of_a_large_vocabulary_without_a_fused_kernel() -> None:
    fused, plain = (memory_of(run(fused_loss=fused, recompute="full")) for fused in (True, False))
    assert plain.moment == "loss"
    assert plain.working == 10 * 4096 * 128256
    assert fused.total < plain.total


def test_context_parallel_ranks_that_exchange_heads_keep_the_result_twice() -> None:
    ring, exchanged = (memory_of(run(layout=Layout(cp=4), exchange=how)) for how in ("ring", "all_to_all"))  # type: ignore[arg-type]
    assert exchanged.activations - ring.activations == 32 * 2 * 1024 * 4096


def test_what_the_backward_pass_needs_of_a_feed_forward_network() -> None:
    """The product's two gradients while both factors are kept: 2·f beside the stream, less the operand just used."""
    memory = memory_of(run(layout=Layout(pp=2), micro_batches=8), stage=0)
    tokens, bf16 = 4096, 2
    assert memory.moment == "backward"
    assert memory.working == tokens * bf16 * (2 * 14336 + 4096 - 4096)


OPTIMIZER_BYTES = {
    "adam": 2 * 4 * 4096 * 1024,
    "adam8bit": 2 * (1 + 4 / 256) * 4096 * 1024,
    "paged-adam8bit": 2 * (1 + 4 / 256) * 4096 * 1024,
    "muon": 4 * 4096 * 1024,
    "adafactor": 4 * (4096 + 1024),
    "sgd-momentum": 4 * 4096 * 1024,
    "sgd": 0,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_of_a_matrix(name: str) -> None:
    matrix = Stored(path="", operation="", elements=4096 * 1024, matrices=1, rows=4096, columns=1024)
    assert OPTIMIZERS[name].states(matrix, 4) == OPTIMIZER_BYTES[name]


ADAPTED = {"adam": 8, "adam8bit": 2 + 8 / 256, "paged-adam8bit": 0, "muon": 4, "sgd-momentum": 4, "sgd": 0}


@pytest.mark.parametrize("name", ADAPTED)
def test_states_of_adapters_are_the_optimizers(name: str) -> None:
    numbers = 32 * 8 * (4096 + 4096 + 4096 + 1024)
    adapters = Adapters(rank=8, targets=("q_proj", "v_proj"))
    memory = memory_of(run(adapters=adapters, optimizer=name))
    assert memory.optimizer == ADAPTED[name] * numbers
    assert memory.weights == 2 * (PARAMS + numbers)
    shared = memory_of(run(adapters=adapters, optimizer=name, layout=Layout(dp=4, zero=1)))
    assert shared.optimizer == memory.optimizer / 4
    assert shared.weights == memory.weights


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_reads_and_writes_the_states(name: str) -> None:
    matrix = Stored(path="", operation="", elements=4096 * 1024, matrices=1, rows=4096, columns=1024)
    apart = 4 + 4 + 4 + 4 + 2  # the gradient twice, the master copy there and back, the weight
    moved = OPTIMIZERS[name].update_bytes(matrix, PRECISIONS["bf16"])
    assert moved == apart * 4096 * 1024 + 2 * OPTIMIZER_BYTES[name]
    itself = OPTIMIZERS[name].update_bytes(matrix, PRECISIONS["fp32"])
    assert moved - itself == 2 * 4096 * 1024  # no copy in half precision is written


def test_vectors_and_tables_keep_full_states() -> None:
    vector = Stored(path="", operation="", elements=1024, matrices=1, rows=1, columns=1024)
    table = Stored(path="", operation="", elements=4096 * 64, matrices=1, rows=4096, columns=64, hidden=False)
    assert [OPTIMIZERS[name].states(vector, 4) for name in ("muon", "adam8bit", "adafactor")] == [8192, 8192, 4096]
    assert OPTIMIZERS["muon"].states(table, 4) == 8 * 4096 * 64


def test_updating_in_the_backward_pass_holds_one_gradient() -> None:
    memory = memory_of(run(framework="torchtune", precision="bf16-true", step_in_backward=True))
    assert memory.gradients in (0, 2 * 128256 * 4096)


@pytest.mark.parametrize("name", names("frameworks"))
def test_every_framework_states_its_source(name: str) -> None:
    framework = load_framework(name)
    assert framework.title
    assert "/" in framework.source
    figure = memory_of(run(framework=name))
    assert figure.allocated < figure.reserved < figure.total < 2 * figure.allocated
    parts = (figure.weights, figure.gradients, figure.optimizer, figure.activations, figure.other)
    assert sum(parts) == pytest.approx(figure.total)


def test_more_sharing_never_takes_more_memory() -> None:
    figures = [
        memory_of(run(layout=Layout(tp=tp, sequence_parallel=True), fused_loss=True)).total for tp in (1, 2, 4, 8)
    ]
    assert figures == sorted(figures, reverse=True)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"framework": "megatro"}, UnknownName, "megatron"),
        ({"optimizer": "adm"}, UnknownName, "adam"),
        ({"precision": "bf15"}, UnknownName, "bf16"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        memory_of(replace(run(), **change))  # type: ignore[arg-type]


def test_a_stage_or_a_batch_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="stage = 2 is not a whole number from 0 to 1"):
        memory_of(run(layout=Layout(pp=2)), stage=2)
    with pytest.raises(SpecError, match=r"global_batch = 10 is not divisible by dp·micro_batch = 4"):
        training_memory(LLAMA, Layout(dp=4), context=128, global_batch=10)


def test_a_model_is_named_as_everywhere() -> None:
    assert training_memory("llama-3-8b", context=512).total == training_memory(LLAMA, context=512).total


@pytest.mark.parametrize("name", ["recurrentgemma-2b", "falcon-mamba-7b", "qwen3-next-80b-a3b"])
def test_a_recurrence_is_undone_once(name: str) -> None:
    """Its state is made of what it was before: a loop in the table, which undoing it passes once."""
    assert training_memory(calc.load(name), context=4096).activations > 0
