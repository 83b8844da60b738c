"""The groups of ranks, and the exchanges that gradients flow through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

GATHER: Callable[..., Any] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
SCATTER: Callable[..., Any] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""Newer names of PyTorch for the same two calls."""


@dataclass
class Group:
    """Some ranks of the world, and this process's place among them."""

    ranks: list[int]
    handle: Any = None
    index: int = 0

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.ranks)


@dataclass
class World:
    """Degrees, this process's rank, and its groups: tp innermost, then cp, dp, pp; expert_tp, then ep for experts."""

    tp: int = 1
    cp: int = 1
    dp: int = 1
    pp: int = 1
    ep: int = 1
    expert_tp: int = 1
    sequence: bool = False
    n_kv_heads: int = 1
    groups: dict[str, Group] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """PyTorch's name of a process group → which of the groups it is."""

    @property
    def size(self) -> int:
        """All processes."""
        return self.tp * self.cp * self.dp * self.pp

    def connect(self) -> None:
        """Make all groups; every process makes them in the same order."""
        stage = self.tp * self.cp * self.dp
        both = self.ep * self.expert_tp
        shapes: dict[str, tuple[int, int, int]] = {
            # name → (ranks, distance between them, ranks of the block that holds a whole number of such groups)
            "tp": (self.tp, 1, self.tp),
            "cp": (self.cp, self.tp, self.tp * self.cp),
            "copies": (self.cp * self.dp, self.tp, stage),
            "expert_tp": (self.expert_tp, 1, self.expert_tp),
            "ep": (self.ep, self.expert_tp, both),
            "expert_world": (both, 1, both),
            "expert_copies": (stage // both, both, stage),
            "pp": (self.pp, stage, stage * self.pp),
        }
        if both > self.tp:
            shapes["outer"] = (both // self.tp, self.tp, both)
        if self.tp > self.n_kv_heads:
            same = self.tp // self.n_kv_heads
            shapes["same_head"] = (same, 1, same)
        if self.pp > 1:
            shapes["ends"] = (2, stage * (self.pp - 1), stage * self.pp)
        for name, (number, stride, block) in shapes.items():
            for ranks in self._partition(number, stride, block):
                handle = dist.new_group(ranks)
                if dist.get_rank() in ranks:
                    self.groups[name] = Group(ranks, handle, ranks.index(dist.get_rank()))
                    self.names[handle.group_name] = name
        if "ends" in shapes and "ends" not in self.groups:
            self.groups["ends"] = Group([dist.get_rank()])

    def _partition(self, number: int, stride: int, block: int) -> Iterator[list[int]]:
        inner = [first for first in range(block - (number - 1) * stride) if first % (number * stride) < stride]
        for start, first in product(range(0, self.size, block), inner):
            yield [start + first + step * stride for step in range(number)]

    def __getitem__(self, name: str) -> Group:
        return self.groups[name]


# ---- plain exchanges


def all_reduce(x: Tensor, group: Group, op: Any = dist.ReduceOp.SUM) -> Tensor:
    """Return the sum over the group's ranks."""
    if group.size == 1:
        return x
    total = x.contiguous().clone()
    dist.all_reduce(total, op, group=group.handle)
    return total


def all_gather(x: Tensor, group: Group, dim: int = 1) -> Tensor:
    """Return the ranks' tensors one after the other along a dimension."""
    if group.size == 1:
        return x
    mine = x.transpose(0, dim).contiguous()
    whole = mine.new_empty(group.size * mine.shape[0], *mine.shape[1:])
    GATHER(whole, mine, group=group.handle)
    return whole.transpose(0, dim)


def reduce_scatter(x: Tensor, group: Group, dim: int = 1) -> Tensor:
    """Return this rank's part, along a dimension, of the sum over the ranks."""
    if group.size == 1:
        return x
    whole = x.transpose(0, dim).contiguous()
    mine = whole.new_empty(whole.shape[0] // group.size, *whole.shape[1:])
    SCATTER(mine, whole, group=group.handle)
    return mine.transpose(0, dim)


def all_to_all(x: Tensor, group: Group, send: list[int], receive: list[int]) -> Tensor:
    """Send rows of x to the ranks, so many to each, and return the rows that they sent."""
    if group.size == 1:
        return x
    found = x.new_empty(sum(receive), *x.shape[1:])
    dist.all_to_all_single(found, x.contiguous(), receive, send, group=group.handle)
    return found


def pass_on(x: Tensor, group: Group) -> Tensor:
    """Send x to the next rank of a ring, and return what the one before sent."""
    if group.size == 1:
        return x
    found = torch.empty_like(x)
    after, before = group.ranks[(group.index + 1) % group.size], group.ranks[group.index - 1]
    sending = dist.isend(x.contiguous(), after, group=group.handle)
    receiving = dist.irecv(found, before, group=group.handle)
    for each in (sending, receiving):
        if each is not None:
            each.wait()
    return found


# ---- exchanges with their gradients


class Copy(Function):
    """The operator f of Megatron-LM: the same tensor on every rank, whose gradients are added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        """Return x."""
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Add up."""
        return all_reduce(grad, ctx.group), None


class Reduce(Function):
    """The operator g: partial sums are added up; every rank has the same gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        """Add up."""
        return all_reduce(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient."""
        return grad, None


class Gather(Function):
    """Shares of the tokens become all of them; gradients are partial sums, of which each rank gets its share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, dim: int) -> Tensor:
        """Gather."""
        ctx.group, ctx.dim = group, dim
        return all_gather(x, group, dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Reduce and scatter."""
        return reduce_scatter(grad, ctx.group, ctx.dim), None, None


class Scatter(Function):
    """Partial sums of all tokens become whole sums of a share of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, dim: int) -> Tensor:
        """Reduce and scatter."""
        ctx.group, ctx.dim = group, dim
        return reduce_scatter(x, group, dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gather."""
        return all_gather(grad, ctx.group, ctx.dim), None, None


class Exchange(Function):
    """Rows go to other ranks; their gradients come back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, send: list[int], receive: list[int]) -> Tensor:
        """Send rows."""
        ctx.group, ctx.send, ctx.receive = group, send, receive
        return all_to_all(x, group, send, receive)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Send them back."""
        return all_to_all(grad, ctx.group, ctx.receive, ctx.send), None, None, None


class GatheredProducts(Function):
    """x Wᵀ for several matrices of a share of the tokens, gathered once; only the share is saved.

    The weights' gradients need all tokens: they are gathered again (``LinearWithGradAccumulationAndAsyncCommunication``
    of Megatron-Core).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, *weights: Tensor) -> tuple[Tensor, ...]:
        """Gather and multiply."""
        ctx.group = group
        ctx.save_for_backward(x, *weights)
        whole = all_gather(x, group)
        return tuple(whole @ weight.T for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gather again, multiply, reduce and scatter."""
        x, *weights = ctx.saved_tensors
        whole = all_gather(x, ctx.group).flatten(0, 1)
        to_x = sum(grad @ weight for grad, weight in zip(grads, weights, strict=True))
        to_weights = [grad.flatten(0, 1).T @ whole for grad in grads]
        assert isinstance(to_x, Tensor)
        return reduce_scatter(to_x, ctx.group), None, *to_weights
