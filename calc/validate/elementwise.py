"""An instrument for what is no matrix product: FLOPs of each element, by operation.

The rules are those of ``calc.operations``. One FLOP for each element of a result: a sum, a product, a quotient, a
maximum, a transcendental function. A kernel that does several of them at once (softmax, GELU, SiLU) is first taken
apart by PyTorch's own decomposition, so that nobody here says what it consists of. A reduction does one FLOP for each
element that it takes in, a search for the largest few one comparison. Left out, as in the rules:

* moving and choosing: views, copies, casts, a change of sign, comparisons into a mask, selection by it or by an index;
* what stands once a row: work on the results of a reduction that the operation itself made (the root in a norm);
* what depends on no activation: angles, positions, masks, and what is made of parameters alone (−exp of a learned
  rate), which is the same for one token and for a million.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch.utils._pytree import tree_leaves

from calc.errors import CalcError
from calc.reference.base import Key
from calc.validate.instrument import Instrument, memory

FUSED = frozenset(
    ("_softmax", "gelu", "log_sigmoid_forward", "logsumexp", "native_layer_norm", "sigmoid", "silu", "softplus")
)
"""Kernels that PyTorch's decompositions take apart."""

EACH: dict[str, int] = {
    **dict.fromkeys(("abs", "add", "div", "maximum", "minimum", "mul", "pow", "reciprocal", "relu", "rsub", "sub"), 1),
    **dict.fromkeys(("cos", "erf", "exp", "log", "rsqrt", "sin", "sqrt", "tanh"), 1),
    "expm1": 2,  # a transcendental function and a sum
    "log1p": 2,
    "elu": 2,  # expm1 where it is negative: choosing is free
}
"""FLOPs for each element of the result."""

TAKING_IN = frozenset(("amax", "cumsum", "logcumsumexp", "max", "mean", "sort", "sum", "topk"))
"""One FLOP for each element taken in."""

FREE = frozenset(
    (
        "_local_scalar_dense", "_reshape_alias", "_to_copy", "_unsafe_view", "alias", "arange", "argmax",
        "as_strided", "broadcast_in_dim", "cat", "clone", "constant_pad_nd", "contiguous", "convert_element_type",
        "copy", "detach", "diagonal", "embedding", "empty", "expand", "fill", "flip", "full", "full_like", "gather",
        "index", "index_put", "index_select", "lift_fresh", "masked_fill", "neg", "new_empty", "new_full",
        "new_zeros", "ones", "ones_like", "permute", "real", "repeat", "roll", "scalar_tensor", "scatter", "select",
        "slice", "split", "split_with_sizes", "squeeze", "stack", "t", "to", "transpose", "tril", "triu", "unbind",
        "unfold", "unsqueeze", "view", "where", "zero", "zeros", "zeros_like",
    )
)  # fmt: skip
"""Moving, choosing and making: nothing."""


class UnknownKernel(CalcError):  # noqa: N818 - reads as what it says
    """A kernel that makes numbers and has no rule."""


class Kind(IntEnum):
    """What numbers in an operation depend on."""

    CONSTANT = 0
    """No activation: parameters, positions, masks."""
    ROW = 1
    """The results of a reduction that the operation made."""
    DATA = 2
    """Activations."""


def _added(args: Sequence[Any], out: Any) -> int:
    """Return one sum for each element: a bias added to a product."""
    return int(out.numel())


def _convolved(args: Sequence[Any], out: Any) -> int:
    return 0 if args[2] is None else int(out.numel())


def _bounded(args: Sequence[Any], out: Any) -> int:
    """Return one comparison for each bound."""
    return int(out.numel()) * sum(bound is not None for bound in args[1:])


def _scattered(args: Sequence[Any], out: Any) -> int:
    """Return one sum for each element that is added somewhere."""
    return int(args[3].numel())


PRODUCTS: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "mm": lambda args, out: 0,
    "bmm": lambda args, out: 0,
    "mv": lambda args, out: 0,
    "dot": lambda args, out: 0,
    "addmm": _added,
    "addmv": _added,
    "baddbmm": _added,
    "clamp": _bounded,
    "convolution": _convolved,
    "index_add": _scattered,
}
"""What kernels do beyond multiplying matrices."""


class ElementCounter(Instrument):
    """FLOPs beyond matrix products, by operation; work outside operations is not counted.

    Raises:
        UnknownKernel: a kernel made floating-point numbers, and there is no rule for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Key] = Counter()
        self._kinds: dict[int, Kind] = {}
        self._made: list[Tensor] = []

    def leave(self, key: Key) -> None:
        """Forget what was made: to other operations it is data."""
        super().leave(key)
        self._kinds.clear()
        self._made.clear()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel, or what it consists of, and count it."""
        kwargs = kwargs or {}
        name = function.name().partition("::")[2].partition(".")[0]
        if self.running is None:
            return function(*args, **kwargs)
        if name in FUSED:
            with self:
                return decomposition_table[function](*args, **kwargs)
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        kind = Kind.CONSTANT if name == "lift_fresh" else max(map(self._kind, taken), default=Kind.CONSTANT)
        out = function(*args, **kwargs)
        self._remember(name, kind, taken, [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)])
        if kind is Kind.DATA:
            self.counts[self.running] += _flops(name, args, out)
        return out

    def _kind(self, tensor: Tensor) -> Kind:
        """Return what a tensor depends on: floating-point numbers from outside the operation are data."""
        if isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
            return Kind.CONSTANT
        return self._kinds.get(memory(tensor), Kind.DATA)

    def _remember(self, name: str, kind: Kind, taken: list[Tensor], made: list[Tensor]) -> None:
        # a number that Python wrote down
        memories = set() if name == "lift_fresh" else {memory(tensor) for tensor in taken}
        smaller = bool(taken) and bool(made) and made[0].numel() < taken[0].numel()
        if kind is Kind.DATA and name in TAKING_IN and smaller and name not in ("sort", "topk"):
            kind = Kind.ROW
        for tensor in made:
            place = memory(tensor)
            if place not in memories:
                self._kinds[place] = kind
                self._made.append(tensor)
            elif name.endswith("_") and place in self._kinds:
                self._kinds[place] = max(kind, self._kinds[place])


def _flops(name: str, args: Sequence[Any], out: Any) -> int:
    """Return the FLOPs of a kernel on data."""
    name = name.rstrip("_")
    if name in FREE or (isinstance(out, Tensor) and not out.is_floating_point()):
        return 0
    if name in EACH:
        return EACH[name] * int(out.numel())
    if name in TAKING_IN:
        return int(args[0].numel())
    if name in PRODUCTS:
        return PRODUCTS[name](args, out)
    raise UnknownKernel(f"no rule says what {name} costs")
