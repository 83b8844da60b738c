"""The instruments themselves, on cases whose answer is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from calc.errors import CalcError
from calc.reference.base import WATCHERS, Cache, Tensors, Twin, operation, parameters_by_operation
from calc.validate.products import UNNAMED, HiddenWork, MatmulCounter

ONE, TWO = ("x", "one"), ("x", "two")


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(shape, requires_grad=True)


class TestMatmuls:
    @pytest.mark.parametrize(
        ("run", "flops"),
        [
            (lambda: leaf(3, 4) @ leaf(4, 5), 2 * 3 * 4 * 5),
            (lambda: leaf(2, 3, 4) @ leaf(2, 4, 5), 2 * 2 * 3 * 4 * 5),
            (lambda: F.linear(leaf(2, 3, 4), leaf(5, 4)), 2 * 2 * 3 * 4 * 5),
            (lambda: F.linear(leaf(2, 3, 4), leaf(5, 4), leaf(5)), 2 * 2 * 3 * 4 * 5),
            (lambda: torch.baddbmm(leaf(2, 3, 5), leaf(2, 3, 4), leaf(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
            (lambda: leaf(3, 4) @ leaf(4), 2 * 3 * 4),
            (lambda: torch.addmv(leaf(3), leaf(3, 4), leaf(4)), 2 * 3 * 4),
            (lambda: leaf(7) @ leaf(7), 2 * 7),
            (lambda: torch.einsum("btkh,bskh->bkts", leaf(2, 3, 5, 7), leaf(2, 4, 5, 7)), 2 * 2 * 3 * 4 * 5 * 7),
            # one expert's rows, and none
            (lambda: leaf(0, 4) @ leaf(4, 5), 0),
            (lambda: leaf(3, 4) * leaf(3, 4), 0),
            (lambda: leaf(3, 4).softmax(-1), 0),
        ],
    )
    def test_forward(self, run, flops: int) -> None:  # type: ignore[no-untyped-def]
        with MatmulCounter() as counter, operation(ONE):
            run()
        assert counter.forward[ONE] == flops
        assert not counter.backward

    def test_depthwise_convolution_both_ways(self) -> None:
        x, weight = leaf(2, 6, 9), leaf(6, 1, 4)
        with MatmulCounter() as counter:
            with operation(ONE):
                y = F.conv1d(F.pad(x, (3, 0)), weight, groups=6)
            y.sum().backward()
        assert y.shape == (2, 6, 9)
        assert counter.forward[ONE] == 2 * (2 * 6 * 9) * 4
        assert counter.backward[ONE] == 2 * counter.forward[ONE]

    def test_strided_grouped_and_transposed_convolutions(self) -> None:
        with MatmulCounter() as counter:
            with operation(ONE):
                F.conv2d(leaf(2, 6, 8, 8), leaf(10, 3, 2, 2), stride=2, groups=2)
            with operation(TWO):
                y = F.conv_transpose1d(leaf(2, 6, 5), leaf(6, 4, 3))
            y.sum().backward()
        assert counter.forward[ONE] == 2 * (2 * 10 * 4 * 4) * (3 * 2 * 2)
        assert counter.forward[TWO] == 2 * (2 * 6 * 5) * (4 * 3)
        assert counter.backward[TWO] == 2 * counter.forward[TWO]

    def test_agrees_with_pytorch_on_a_whole_layer(self) -> None:
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        layer.self_attn = nn.MultiheadAttention(32, 4, batch_first=True)
        x = leaf(2, 5, 32)
        with FlopCounterMode(display=False) as theirs, MatmulCounter() as ours:
            attended, _ = layer.self_attn(x, x, x, need_weights=True)
            layer.linear2(F.relu(layer.linear1(attended))).sum().backward()
        assert ours.forward.total() + ours.backward.total() == theirs.get_total_flops() > 0

    def test_inference_mode_hides_nothing(self) -> None:
        with torch.inference_mode(), MatmulCounter() as counter, operation(ONE):
            F.linear(torch.randn(2, 3, 4), torch.randn(5, 4))
        assert counter.forward == {ONE: 2 * 2 * 3 * 4 * 5}


class TestNames:
    def test_backward_work_goes_to_the_operation_that_caused_it(self) -> None:
        x, weight = leaf(3, 4), leaf(4, 5)
        with MatmulCounter() as counter:
            with operation(ONE):
                y = x @ weight
            with operation(TWO):
                z = y @ y.transpose(0, 1)
            z.relu().sum().backward()
        assert counter.forward == {ONE: 120, TWO: 90}
        assert counter.backward == {ONE: 240, TWO: 180}

    def test_operands_without_gradient_need_no_product(self) -> None:
        with MatmulCounter() as counter:
            with operation(ONE):
                y = torch.randn(3, 4) @ leaf(4, 5)
            y.sum().backward()
        assert counter.backward == {ONE: 120}

    def test_an_operation_that_runs_twice_is_added_up(self) -> None:
        x, weight = leaf(3, 4), leaf(4, 4)
        with MatmulCounter() as counter:
            for _ in range(2):
                with operation(ONE):
                    x = x @ weight
            x.sum().backward()
        assert counter.forward == {ONE: 2 * 96}
        assert counter.backward == {ONE: 4 * 96}

    def test_work_outside_every_operation_is_seen(self) -> None:
        with MatmulCounter() as counter:
            y = leaf(3, 4) @ leaf(4, 5)
            with operation(ONE):
                z = y.relu()
            z.sum().backward()
        assert counter.forward == {UNNAMED: 120}
        assert counter.backward == {UNNAMED: 240}

    def test_recomputation_counts_as_forward(self) -> None:
        x, weight = leaf(3, 4), leaf(4, 4)

        def block(x: torch.Tensor) -> torch.Tensor:
            with operation(ONE):
                x = (x @ weight).relu()
            with operation(TWO):
                return x @ weight

        with MatmulCounter() as counter:
            checkpoint(block, x, use_reentrant=False).sum().backward()
        # the last product is not repeated: nothing but its inputs is needed
        assert counter.forward == {ONE: 2 * 96, TWO: 96}
        assert counter.backward == {ONE: 2 * 96, TWO: 2 * 96}

    def test_operations_do_not_nest(self) -> None:
        with pytest.raises(CalcError, match="inside"), MatmulCounter(), operation(ONE), operation(TWO):
            pass
        assert WATCHERS == []

    def test_a_counter_leaves_nothing_behind(self) -> None:
        with pytest.raises(ZeroDivisionError), MatmulCounter(), operation(ONE):
            raise ZeroDivisionError
        assert WATCHERS == []


def test_fused_attention_is_refused() -> None:
    """PyTorch's own counter sees nothing inside it on a CPU; ours says so in place of counting zero."""
    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(HiddenWork, match="scaled_dot_product"), MatmulCounter():
        F.scaled_dot_product_attention(q, q, q)


class Pair(Twin):
    """Two operations, one of which has a stored buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.path = "pair"
        self.up = nn.Linear(3, 5)
        self.choice = Tensors(weight=(2, 7))
        self.register_buffer("correction", torch.zeros(11))
        self.register_buffer("angles", torch.zeros(13), persistent=False)


class TestParameters:
    def test_by_operation(self) -> None:
        found = {("pair", "up"): 20, ("pair", "choice"): 14, ("pair", "correction"): 11}
        assert parameters_by_operation(Pair()) == found

    def test_shared_memory_counts_where_it_first_stands(self) -> None:
        both = nn.ModuleList([Pair(), Pair()])
        second = both[1]
        assert isinstance(second, Pair)
        second.path = "other"
        second.up.weight = both[0].up.weight  # type: ignore[union-attr, assignment]
        found = parameters_by_operation(both)
        assert found["pair", "up"] == 20
        assert found["other", "up"] == 5


class TestCaches:
    def test_bytes_are_those_of_the_memory_and_not_of_the_view(self) -> None:
        wide = torch.zeros(2, 8, 4)
        cache = Cache()
        cache.tensors["view"] = wide[:, :3]
        assert cache.bytes() == {"view": 2 * 8 * 4 * 4}
        cache.put("copy", wide[:, :3].to(torch.bfloat16))
        assert cache.bytes()["copy"] == 2 * 3 * 4 * 2

    def test_joining_keeps_the_order(self) -> None:
        cache = Cache()
        cache.put("k", torch.tensor([[1, 2]]))
        assert cache.joined("k", torch.tensor([[3]])).tolist() == [[1, 2, 3]]
        assert cache.tensors["k"].tolist() == [[1, 2]]
