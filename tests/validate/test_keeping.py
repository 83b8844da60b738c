"""The counter of what autograd keeps, on cases whose answer is known, and the tables against it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from calc.attention.gqa import GQA
from calc.attention.mla import MLA
from calc.ffn.dense import DenseFFN
from calc.model import Layer, Model, Pass, Stack
from calc.reference.base import operation
from calc.validate import rules, run
from calc.validate.keeping import SavedCounter, flash, recomputes, recomputing
from calc.validate.run import prove
from calc.validate.samples import Sample, kinds, samples
from calc.validate.subject import subject

KEY = ("x", "op")
LINEAR = nn.Linear(4, 5)
NORM, TABLE = nn.LayerNorm(4), nn.Embedding(9, 4)


def kept(run: Callable[[Tensor], object]) -> int:
    """Return the elements (fp32) that one operation on x [3, 4] keeps."""
    x = torch.randn(3, 4, requires_grad=True)
    module = nn.ModuleList([LINEAR, NORM, TABLE])
    with SavedCounter(module, (x,)) as counter, operation(KEY):
        run(x)
    assert set(counter.bytes) <= {KEY}
    return counter.bytes[KEY] // 4


@pytest.mark.parametrize(
    ("run", "elements"),
    [
        (LINEAR, 12),  # its input; the weight is a parameter
        (lambda x: x + x, 0),
        (lambda x: 2 * x, 0),
        (lambda x: x * x.new_ones(4), 0),  # a constant, and x is not needed
        (lambda x: x * x, 12),  # one memory, though two operands
        (lambda x: x.exp(), 12),  # the result
        (lambda x: x.exp() * x, 24),
        (lambda x: F.silu(x), 12),
        (lambda x: F.relu(x), 12),
        (lambda x: x.softmax(-1), 12),
        (NORM, 12 + 2 * 3),  # the fused kernel: input, mean and root of each row
        (lambda x: x @ x.t(), 12),
        (lambda x: x[:1] @ x.t(), 12),  # of a view, the memory behind it
        (lambda x: TABLE(torch.tensor([1, 2])), 0),  # indices are no activations
        (lambda x: x.masked_fill(x > 0, 0.0), 0),
        (
            lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
            12 + 1,
        ),  # the logarithm of the softmax, and how many there are
        (lambda x: checkpoint(lambda y: (y.exp() * y).exp(), x, use_reentrant=True), 12),
    ],
)
def test_known(run: Callable[[Tensor], object], elements: int) -> None:
    assert kept(run) == elements


def test_the_first_operation_that_keeps_a_memory_has_it() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    with SavedCounter(LINEAR, (x,)) as counter:
        for name in ("first", "second"):
            with operation(("x", name)):
                LINEAR(x)
    assert counter.bytes == {("x", "first"): 48}


def test_a_fused_attention_keeps_operands_result_and_a_number_a_row() -> None:
    spec = GQA(n_heads=4, n_kv_heads=2, head_dim=8)
    proven = subject(Sample("", spec, d_model=24, batch=2, context=11))
    with flash():
        found = proven.saves()
    assert found["gqa", "scores"] == 4 * (4 * 2 * 11 * 4 * 8 + 2 * 4 * 11)
    assert found["gqa", "q_proj"] == 4 * 2 * 11 * 24


def test_recomputed_layers_keep_their_input() -> None:
    layer = Layer(attention=GQA(n_heads=4, n_kv_heads=2, head_dim=6), ffn=DenseFFN(d_ff=37))
    model = Model(name="", d_model=20, vocab_size=29, stack=(Stack(repeat=3, layer=(layer,)),))
    assert recomputes(model)
    proven = subject(Sample("", model, batch=2, context=11))
    with recomputing("full"):
        found = proven.saves()
    assert sum(found.values()) == (3 + 1) * 4 * 2 * 11 * 20  # and what the head reads


def test_a_table_that_forgets_a_tensor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = next(each for each in samples("dense") if getattr(each.spec, "activation", "") == "silu")
    assert all(check.holds for check in prove(sample))
    operations = DenseFFN.operations
    monkeypatch.setattr(
        DenseFFN, "operations",
        lambda self: tuple(_forgetful(op) if op.name == "activation" else op for op in operations(self)),
    )  # fmt: skip
    wrong = [check for check in prove(sample) if not check.holds]
    assert {(check.quantity, check.operation) for check in wrong} == {("kept", "activation")}


def _forgetful(op: object) -> object:
    from dataclasses import replace

    return replace(op, needs=(), apart=None, inside=0)  # type: ignore[type-var]


def test_most_of_what_is_kept_is_compared() -> None:
    operations = [
        (block, op) for kind in kinds() for sample in samples(kind) for block in sample.blocks()
        for op in block.operations
    ]  # fmt: skip
    share = sum(rules.kept(block, op) for block, op in operations) / len(operations)
    assert share > 0.9


def test_all_ways_are_compared_where_attention_is_plain() -> None:
    plain = {check.quantity for check in prove(samples("layer")[0])}
    assert {"kept", "kept, selective", "kept, flash", "kept, full"} <= plain
    latent = Sample("", MLA(n_heads=2, kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4))
    assert "kept, flash" not in {check.quantity for check in prove(latent)}


@pytest.mark.parametrize("kind", rules.MIXED_STREAMS)
def test_models_of_mixed_streams_are_left_out_for_a_reason(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Were they compared, something would differ."""
    holding = [
        sample for name in ("layer", "extras") for sample in samples(name)
        if kind in {block.label.partition(" ")[0] for block in sample.blocks()}
    ]  # fmt: skip
    monkeypatch.setattr(rules, "MIXED_STREAMS", {})
    assert not all(check.holds for sample in holding for check in prove(sample))


def test_every_exception_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the list, exactly what it names differs."""
    listed = {(kind, name) for kind, names in rules.KEPT_OTHERWISE.items() for name in names}
    monkeypatch.setattr(rules, "KEPT_OTHERWISE", {})
    monkeypatch.setattr(run, "_kept_in_all", lambda *_: [])
    differs = set()
    for sample in (sample for kind in kinds() for sample in samples(kind)):
        proven = subject(sample)
        of = {block.path: block.label.partition(" ")[0] for block in proven.trained}
        dense = Pass.prefill(sample.context, sample.batch, source=sample.source, causal=False)
        differs |= {(of[check.path], check.operation) for check in run._kept(proven, dense) if not check.holds}
    assert differs == listed
