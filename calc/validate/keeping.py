"""An instrument for what autograd keeps: the memory that a forward pass saves for the backward pass, each once.

``torch.autograd.graph.saved_tensors_hooks`` are told of every tensor that a node saves. Counted is the memory behind
it, not the view; by the operation that saves it first. Not counted: parameters and what is made of them alone, numbers
that depend on no activation (angles, masks, constants), booleans and indices.

Recomputation and a fused attention are put into a twin from outside: ``recomputing`` runs its layers, or the core of
its attentions, under ``torch.utils.checkpoint``; ``flash`` calls ``scaled_dot_product_attention``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from calc.attention.gqa import GQA
from calc.model import Block, Model
from calc.operations import Softmax
from calc.reference.base import Key
from calc.reference.gqa import GQATwin
from calc.reference.layer import LayerTwin
from calc.saved.joined import over_pairs
from calc.validate.instrument import UNNAMED, Instrument, memory

MAKING = ("empty", "full", "new_", "ones", "zeros", "arange")
"""How the names of kernels begin that make numbers without looking at any."""


class SavedCounter(Instrument):
    """Bytes saved for the backward pass, by operation: the first that saves a memory.

    ``inputs`` are activations that no operation makes.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.bytes: Counter[Key] = Counter()
        self._stored = {memory(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self._data = {memory(tensor) for tensor in inputs if tensor is not None and tensor.is_floating_point()}
        self._seen: set[int] = set()
        self._alive: list[Any] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)

    def __enter__(self) -> Self:
        super().__enter__()
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a kernel, and note whether what it makes depends on an activation, or on parameters alone."""
        out = function(*args, **(kwargs or {}))
        taken = list(_tensors((*args, *kwargs.values()) if kwargs else args))
        self._stored.update(memory(leaf) for leaf in taken if isinstance(leaf, nn.Parameter))
        name = function.name().partition("::")[2]
        reads = {memory(leaf) for leaf in taken}
        made = [tensor for tensor in _tensors((out,)) if tensor.is_floating_point()]
        for tensor in made:
            self._alive.append(tensor.untyped_storage())  # so that its address is nobody else's
            place = memory(tensor)
            if name.startswith(MAKING) or place in self._data or place in self._stored:
                continue
            if not self._data.isdisjoint(reads) or name.startswith("embedding"):
                self._data.add(place)
            elif not self._stored.isdisjoint(reads):
                self._stored.add(place)
        return out

    def _pack(self, tensor: Tensor) -> Tensor:
        place = memory(tensor)
        if tensor.is_floating_point() and place in self._data and place not in self._seen:
            self._seen.add(place)
            self.bytes[self.running or UNNAMED] += tensor.untyped_storage().nbytes()
        return tensor


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among a kernel's arguments or results, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def attention_cores(module: nn.Module, blocks: Iterable[Block]) -> list[GQA]:
    """Return the attentions of a twin whose core can be run another way; none where some other one has pairs too."""
    kinds = {
        block.label.partition(" ")[0]
        for block in blocks
        for operation in block.operations
        if isinstance(operation, Softmax) and over_pairs(operation.output)
    }
    return [each.spec for each in module.modules() if type(each) is GQATwin] if kinds == {"gqa"} else []


@contextmanager
def _in_place_of(owner: type[Any], name: str, other: Callable[..., Any]) -> Iterator[None]:
    """Let a twin's method be another while the context is open."""
    original = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, original)


def recomputes(model: Model) -> bool:
    """Tell whether a model's layers can be run again one by one: each reads one stream, and nothing of another."""
    layers = list(model.layers())
    lends = any(getattr(layer.attention, "shared_kv", False) for layer in layers)
    alone = not (model.encoder or model.outside_source or model.extra or model.mtp or lends)
    return alone and not any(layer.extra or layer.hyper for layer in layers)


@contextmanager
def recomputing(what: str) -> Iterator[None]:
    """Run layers (``full``) or the core of attentions (``selective``) so that their tensors are made again."""
    owner, name = (LayerTwin, "run") if what == "full" else (GQATwin, "_attend")
    original = getattr(owner, name)

    def again(self: nn.Module, *args: Any) -> Any:
        return checkpoint(lambda *given: original(self, *given), *args, use_reentrant=True)

    with _in_place_of(owner, name, again):
        yield


@contextmanager
def flash() -> Iterator[None]:
    """Let attentions call PyTorch's fused kernel, with keys and values repeated for the heads that share them."""

    def attend(self: GQATwin, q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
        shared = self.spec.n_heads // self.spec.n_kv_heads
        k, v = (each.repeat_interleave(shared, 2).transpose(1, 2) for each in (k, v))
        with self.operation("scores"):
            mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=seen)
        return mixed.transpose(1, 2)

    with _in_place_of(GQATwin, "_attend", attend):
        yield
