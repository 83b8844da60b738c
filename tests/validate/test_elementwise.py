"""The counter of what is no matrix product, on cases whose answer is known, and the rules of the tables against it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from calc.activations import ACTIVATION_FLOPS
from calc.attention.gqa import GQA
from calc.attention.recurrence import GELU_TANH, SIGMOID, SILU, SOFTPLUS
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, TopK
from calc.reference.base import WATCHERS, operation
from calc.reference.dense import ACTIVATIONS
from calc.reference.norms import LayerNorm, RMSNorm
from calc.reference.rotary import rotate
from calc.validate.elementwise import ElementCounter, UnknownKernel
from calc.validate.products import MatmulCounter
from calc.validate.rules import BESIDE, JOINED
from calc.validate.run import prove
from calc.validate.samples import Sample, kinds, samples

HERE = ("x", "here")
B, T, S, D = 2, 5, 7, 6


def count(run: Callable[[], Any]) -> int:
    run()  # what an operation takes in was there before
    with ElementCounter() as counter, operation(HERE):
        run()
    assert set(counter.counts) <= {HERE}
    return counter.counts[HERE]


@cache
def x(*shape: int) -> Tensor:
    return torch.randn(shape or (B, T, D), requires_grad=True)


class TestKernels:
    @pytest.mark.parametrize(
        ("run", "flops"),
        [
            (lambda: x(3, 4) + x(3, 4), 12),
            (lambda: x(3, 1) * x(1, 4), 12),
            (lambda: x(3, 4).detach().mul_(2), 12),
            (lambda: x(3, 4) @ x(4, 5), 0),
            (lambda: F.linear(x(3, 4), nn.Parameter(x(5, 4))), 0),
            (lambda: F.linear(x(3, 4), nn.Parameter(x(5, 4)), nn.Parameter(x(5))), 15),
            (lambda: F.linear(x(2, 3, 4), nn.Parameter(x(5, 4)), nn.Parameter(x(5))), 30),
            (lambda: F.conv1d(x(2, 3, 9), x(4, 3, 2), x(4)), 2 * 4 * 8),
            (lambda: F.conv1d(x(2, 3, 9), x(4, 3, 2)), 0),
            (lambda: x(3, 4).sum(-1), 12),
            (lambda: x(3, 4).mean(), 12),
            (lambda: x(3, 4).cumsum(-1), 12),
            (lambda: x(3, 4).topk(2), 12),
            (lambda: x(3, 4).clamp(max=1), 12),
            (lambda: x(3, 4).clamp(-1, 1), 24),
            (lambda: torch.log1p(x(3, 4).abs()), 12 + 24),
            (lambda: x(3, 4).detach().index_add(0, torch.tensor([0, 0]), x(2, 4)), 8),
            # moved, cast, chosen, turned round
            (lambda: torch.cat((x(3, 4), -x(3, 4))).transpose(0, 1).contiguous().to(torch.bfloat16), 0),
            (lambda: x(3, 4).masked_fill(torch.ones(3, 4, dtype=torch.bool), 0.0), 0),
            (lambda: torch.where(x(3, 4) > 0, 1.0, 2.0), 0),
            (lambda: F.embedding(torch.tensor([1, 2]), nn.Parameter(x(3, 4))), 0),
            # once a row: the root of a sum, its reciprocal
            (lambda: x(3, 4).square().sum(-1, keepdim=True).sqrt().reciprocal(), 24),
            # of no activation
            (lambda: torch.arange(9.0).cos() * 2 + torch.tensor([1.0]), 0),
            (lambda: -nn.Parameter(x(3, 4)).exp(), 0),
            (lambda: x(3, 4) * nn.Parameter(x(4)).exp(), 12),
        ],
    )
    def test_known(self, run: Callable[[], Any], flops: int) -> None:
        assert count(run) == flops

    def test_what_another_operation_reduced_is_data(self) -> None:
        given = x(3, 4)
        with ElementCounter() as counter:
            with operation(("x", "one")):
                y = given.sum(-1)
            with operation(("x", "two")):
                y.exp()
            y.exp()
        assert counter.counts == {("x", "one"): 12, ("x", "two"): 3}

    def test_backward_is_not_counted(self) -> None:
        given = x(3, 4)
        with ElementCounter() as counter:
            with operation(HERE):
                y = given.exp()
            y.sum().backward()
        assert counter.counts == {HERE: 12}

    def test_a_kernel_without_a_rule_is_refused(self) -> None:
        with pytest.raises(UnknownKernel, match="digamma"):
            count(lambda: torch.digamma(x(3, 4)))
        assert WATCHERS == []

    def test_it_changes_no_result_and_no_gradient(self) -> None:
        def loss(given: Tensor) -> Tensor:
            return (F.gelu(given.softmax(-1)) * F.silu(given)).square().sum()

        plain, watched = (torch.ones(3, 4).cumsum(1).requires_grad_() for _ in range(2))
        loss(plain).backward()
        with ElementCounter(), MatmulCounter(), operation(HERE):
            result = loss(watched)
        result.backward()
        torch.testing.assert_close(result, loss(plain))
        torch.testing.assert_close(watched.grad, plain.grad)


ENV = {"b": B, "t": T, "s": S, "d": D, "k": 1, "h": D}
QUERIES = torch.arange(T)
RULES: list[tuple[str, Operation, Callable[[], Any]]] = [
    ("softmax", Softmax("o", "bts", over=Causal()), lambda: x(B, T, S).softmax(-1, torch.float32)),
    ("rms", Norm("o", "btd", kind="rms"), lambda: RMSNorm(D, scale=False)(x())),
    ("rms scaled", Norm("o", "btd", kind="rms", weight="d"), lambda: RMSNorm(D)(x())),
    ("layer", Norm("o", "btd", kind="layer"), lambda: LayerNorm(D, scale=False)(x())),
    ("layer both", Norm("o", "btd", kind="layer", weight="d", bias="d"), lambda: LayerNorm(D, bias=True)(x())),
    ("top-k", TopK("o", "bt", scanned="btd"), lambda: x().topk(2)),
    ("rotary", Elementwise("o", "btkh", each=3), lambda: rotate(x(B, T, 1, D), QUERIES, D)),
    ("bias", Einsum("o", "btd,dh->bth", weight="dh", bias="h"), lambda: nn.Linear(D, D)(x())),
    ("silu", Elementwise("o", "btd", each=SILU), lambda: F.silu(x())),
    ("sigmoid", Elementwise("o", "btd", each=SIGMOID), lambda: x().sigmoid()),
    ("softplus", Elementwise("o", "btd", each=SOFTPLUS), lambda: F.softplus(x())),
    ("gelu tanh", Elementwise("o", "btd", each=GELU_TANH), lambda: F.gelu(x(), approximate="tanh")),
    *(
        (name, Elementwise("o", "btd", each=each), lambda name=name: ACTIVATIONS[name](x()))
        for name, each in ACTIVATION_FLOPS.items()
    ),
]


class TestRules:
    @pytest.mark.parametrize(("rule", "run"), [pytest.param(*each, id=name) for name, *each in RULES])
    def test_the_rule_of_each_type_is_what_pytorch_does(self, rule: Operation, run: Callable[[], Any]) -> None:
        assert count(run) == rule.other_flops(ENV, causal=False)

    def test_a_wrong_rule_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Norm, "other_flops", lambda self, env, causal: 0)
        checks = prove(Sample("x", GQA(n_heads=2, n_kv_heads=1, head_dim=4, qk_norm="rms")))
        found = {(check.operation, check.quantity) for check in checks if not check.holds}
        assert found == {(name, kind) for name in ("q_norm", "k_norm") for kind in ("elements", "decode elements")}


class TestWhatIsNotCompared:
    def test_every_exception_names_an_operation(self) -> None:
        there: dict[str, set[str]] = {}
        for block in (block for kind in kinds() for sample in samples(kind) for block in sample.blocks()):
            there.setdefault(block.label.partition(" ")[0], set()).update(op.name for op in block.operations)
        assert {kind: set(names) - there[kind] for kind, names in BESIDE.items() if set(names) - there[kind]} == {}

    def test_a_sink_is_a_column_of_the_softmax(self) -> None:
        checks = prove(Sample("x", GQA(n_heads=2, n_kv_heads=1, head_dim=4, sinks=True)))
        counted = {check.operation: check.counted for check in checks if check.quantity == "elements"}
        assert JOINED["sinks"] == "softmax"
        assert counted["softmax"] == 5 * 2 * 2 * 11 * (11 + 1)
        assert "sinks" not in counted
