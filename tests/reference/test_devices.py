"""Twins run where they are told: on a device that is not the CPU, made here of CPU tensors that say they lie elsewhere.

PyTorch refuses to mix tensors of two devices; so does this device. What is left to a GPU is which kernels it chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from calc.validate.run import sees_both_ways
from calc.validate.samples import Sample, kinds, samples
from calc.validate.subject import subject

ELSEWHERE = torch.device("meta")
"""What the tensors call their device: the one of PyTorch's that needs no hardware."""
ALL = [pytest.param(sample, id=f"{kind}-{sample.name}") for kind in kinds() for sample in samples(kind)]
INDEXING = ("aten::index.Tensor", "aten::index_put", "aten::index_put_")
"""Kernels that take indices from the CPU."""


class There(Tensor):
    """Numbers that say they lie elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=ELSEWHERE,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel on the numbers, if all lie here."""
        kwargs = dict(kwargs or {})
        taken = [leaf for leaf in tree_leaves(args[:1] if function.name() in INDEXING else args) if _is_tensor(leaf)]
        strangers = [leaf for leaf in taken if not isinstance(leaf, There) and leaf.dim()]
        assert not strangers, f"{function.name()}: tensors of two devices"
        leaves = torch.device(kwargs.get("device") or ELSEWHERE).type == "cpu"
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        out = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if function.name().partition(".")[0].endswith("_"):
            return args[0]  # changed in place
        return out if leaves else tree_map(lambda leaf: There(leaf) if _is_tensor(leaf) else leaf, out)


class Making(TorchDispatchMode):
    """Makes tensors elsewhere where that is asked for."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel; what it makes there are numbers that say so."""
        kwargs = dict(kwargs or {})
        there = torch.device(kwargs.get("device") or "cpu") == ELSEWHERE
        if not there or any(isinstance(leaf, There) for leaf in tree_leaves(args)):
            return function(*args, **kwargs)
        return There(function(*args, **{**kwargs, "device": torch.device("cpu")}))


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, There) else leaf


def test_the_pretended_device_refuses_what_lies_elsewhere() -> None:
    with Making():
        here, there = torch.ones(3), torch.ones(3, device=ELSEWHERE)
        there[1:] += 1
        assert there.sum().item() == 5
        assert there.to("cpu").tolist() == [1, 2, 2]
        with pytest.raises(AssertionError, match="tensors of two devices"):
            there + here


@pytest.mark.parametrize("sample", ALL)
def test_twins_run_where_they_are_told(sample: Sample) -> None:
    with Making(), torch.no_grad():
        proven = subject(sample, str(ELSEWHERE))
        if sees_both_ways(proven):
            outputs = proven.run(0, sample.context)
        else:
            cache = proven.cache()
            proven.run(0, sample.context, cache)
            outputs = proven.run(sample.context, sample.context + 1, cache)
        assert {type(output) for output in outputs} == {There}
