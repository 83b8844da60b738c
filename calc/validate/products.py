"""An instrument for matrix products: their FLOPs, by the name of the operation, forward and backward.

An instrument watches the names that a twin announces (``calc.reference.base.operation``) and the kernels that PyTorch
dispatches. A backward kernel belongs to the operation whose forward pass made its autograd node: nodes carry a sequence
number, and an operation owns those that were handed out while it ran.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from calc.errors import CalcError
from calc.reference.base import Key
from calc.validate.instrument import UNNAMED, Instrument

aten = torch.ops.aten


class HiddenWork(CalcError):  # noqa: N818 - reads as what it says
    """A kernel that hides matrix products from a counter of kernels."""


def _mm(args: Sequence[Any], out: Any) -> int:
    """2·m·k·n of [m, k] × [k, n]."""
    return 2 * prod(args[0].shape) * int(args[1].shape[-1])


def _added_mm(args: Sequence[Any], out: Any) -> int:
    """2·m·k·n of a fused product and sum, whose first argument is added."""
    return _mm(args[1:], out)


def _mv(args: Sequence[Any], out: Any) -> int:
    """2·m·k of [m, k] × [k], or 2·k of two vectors."""
    return 2 * prod(args[0].shape)


def _added_mv(args: Sequence[Any], out: Any) -> int:
    return _mv(args[1:], out)


def _convolution(args: Sequence[Any], out: Any) -> int:
    """2 × (results × taps × channels in a group), a product and a sum each; transposed: inputs in place of results."""
    return _taps(args[1], args[0] if args[6] else out)


def _convolution_backward(args: Sequence[Any], out: Any) -> int:
    """One product as large as the forward one for each of the two operands whose gradient is asked for."""
    wanted = sum(args[10][:2])
    return int(wanted) * _taps(args[2], args[1] if args[7] else args[0])


def _taps(weight: Tensor, positions: Tensor) -> int:
    return 2 * positions.numel() * prod(weight.shape[1:])


FLOPS: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.mm.default: _mm,
    aten.addmm.default: _added_mm,
    aten.bmm.default: _mm,
    aten.baddbmm.default: _added_mm,
    aten.mv.default: _mv,
    aten.addmv.default: _added_mv,
    aten.dot.default: _mv,
    aten.vdot.default: _mv,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
}
"""FLOPs of every kernel that multiplies matrices."""

HIDING = (
    "scaled_dot_product",
    "flash_attention",
    "efficient_attention",
    "grouped_mm",
    "scaled_mm",
    "linalg_",
    "int_mm",
)
"""Parts of the names of kernels whose products cannot be seen."""


class MatmulCounter(Instrument):
    """Matmul FLOPs by operation, of the forward and of the backward pass.

    A forward computation that is repeated during the backward pass (recomputation) counts as forward.

    Raises:
        HiddenWork: a fused attention or grouped product ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forward: Counter[Key] = Counter()
        self.backward: Counter[Key] = Counter()
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._keys: list[Key] = []

    def enter(self, key: Key) -> None:
        """Note where the operation's autograd nodes begin."""
        if self.running is not None:
            raise CalcError(f"operation {key} begins inside {self.running}")
        super().enter(key)
        self._starts.append(next_node())

    def leave(self, key: Key) -> None:
        """Note where they end."""
        super().leave(key)
        self._ends.append(next_node())
        self._keys.append(key)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel and count it."""
        if function in (aten.linear.default, aten.matmul.default, aten.einsum.default):
            with self:
                return function.decompose(*args, **(kwargs or {}))
        name = str(function)
        if any(part in name for part in HIDING):
            raise HiddenWork(f"{name} hides its matrix products from the counter")
        out = function(*args, **(kwargs or {}))
        if function in FLOPS:
            counts, key = self._where()
            counts[key] += FLOPS[function](args, out)
        return out

    def _where(self) -> tuple[Counter[Key], Key]:
        """Return the pass and the operation that a kernel belongs to."""
        if self.running is not None:
            return self.forward, self.running
        node = torch._C._current_autograd_node()
        if node is None:
            return self.forward, UNNAMED
        number = node._sequence_nr()
        index = bisect_right(self._starts, number) - 1
        owned = index >= 0 and number < self._ends[index]
        return self.backward, self._keys[index] if owned else UNNAMED


def next_node() -> int:
    """Return the sequence number that the next autograd node will get."""
    number: int = torch._C._autograd._get_sequence_nr()
    return number
