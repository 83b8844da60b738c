"""What every part of a sharded model needs: slices of a whole twin, products by columns and by rows, the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.reference.ranks.comm import Copy, Gather, GatheredProducts, Reduce, Scatter, World, all_reduce

Slices: TypeAlias = tuple[slice, ...]
Repeats: TypeAlias = Literal["", "tp", "same_head"]


@dataclass
class Held:
    """One rank's part of a tensor of the whole twin."""

    own: nn.Parameter
    whole: Tensor
    at: Slices
    repeats: Repeats = ""
    """The group whose ranks all have this part, and each a part of its gradient."""
    expert: bool = False


class Part(nn.Module):
    """Base of the sharded modules; ``held`` says which slices of the twin's tensors they have."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.held: list[Held] = []

    def take(
        self, name: str, whole: Tensor | nn.Module | None, *at: slice, repeats: Repeats = "", expert: bool = False
    ) -> nn.Parameter:
        """Return this rank's part of a tensor, as a parameter of its own."""
        assert isinstance(whole, Tensor)
        own = nn.Parameter(whole.detach()[at].clone() if at else whole.detach().clone())
        self.register_parameter(name, own)
        self.held.append(Held(own, whole, at, repeats, expert))
        return own

    def share(self, size: int, group: str = "tp") -> slice:
        """Return the part of ``size`` things in a row that is this rank's."""
        members = self.world[group]
        each = size // members.size
        return slice(members.index * each, (members.index + 1) * each)

    @property
    def repeated(self) -> Repeats:
        """The group that sums gradients of weights which only a share of the tokens met: with sequence parallelism."""
        return "tp" if self.world.sequence and self.world.tp > 1 else ""

    def columns(self, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Return x Wᵀ for matrices of which each rank has some rows (column-parallel in the papers' notation)."""
        group = self.world["tp"]
        if group.size == 1:
            return tuple(x @ weight.T for weight in weights)
        if self.world.sequence:
            products: tuple[Tensor, ...] = GatheredProducts.apply(x, group, *weights)
            return products
        copied = Copy.apply(x, group)
        return tuple(copied @ weight.T for weight in weights)

    def everywhere(self, x: Tensor) -> Tensor:
        """Return all tokens of what each rank has alike, or a share of; divided heads read it."""
        group = self.world["tp"]
        if group.size == 1:
            return x
        found: Tensor = Gather.apply(x, group, 1) if self.world.sequence else Copy.apply(x, group)
        return found

    def summed(self, partial: Tensor) -> Tensor:
        """Add up partial sums (row-parallel), of all tokens or to a share of them."""
        group = self.world["tp"]
        if group.size == 1:
            return partial
        total: Tensor = Scatter.apply(partial, group, 1) if self.world.sequence else Reduce.apply(partial, group)
        return total


def table_rows(world: World, table: Tensor, padded: int) -> tuple[Tensor, slice, slice]:
    """Return a table padded with rows that are no word's, this rank's rows of it, and those of them that are words."""
    rows = padded // world.tp
    first = world["tp"].index * rows
    whole = F.pad(table.detach(), (0, 0, 0, padded - table.shape[0]))
    return whole, slice(first, first + rows), slice(first, max(first, min(first + rows, table.shape[0])))


class RankEmbedding(Part):
    """A table of which each rank has some rows; tokens of others' rows are zero before the sum."""

    weight: nn.Parameter

    def __init__(self, world: World, table: Tensor, padded: int) -> None:
        super().__init__(world)
        whole, self.rows, words = table_rows(world, table, padded)
        self.take("weight", whole, self.rows)
        self.held[-1].whole, self.held[-1].at = table, (words,)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return vectors [b, t, d], of all tokens or of this rank's share."""
        own = tokens - self.rows.start
        other = (own < 0) | (own >= self.rows.stop - self.rows.start)
        found = F.embedding(own.masked_fill(other, 0), self.weight).masked_fill(other[..., None], 0.0)
        return self.summed(found)


class RankHead(Part):
    """Logits of which each rank has some words, and the loss over all of them; a tied one has no table of its own."""

    def __init__(self, world: World, table: Tensor, padded: int, *, tied: bool) -> None:
        super().__init__(world)
        self.words = table.shape[0]
        whole, self.rows, words = table_rows(world, table, padded)
        if not tied:
            self.take("weight", whole, self.rows)
            self.held[-1].whole, self.held[-1].at = table, (words,)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Return this rank's logits [b, t, v/tp]; words that do not exist have none."""
        (logits,) = self.columns(x, table)
        exists = torch.arange(self.rows.start, self.rows.stop) < self.words
        return logits.masked_fill(~exists, float("-inf"))

    def loss(self, x: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Return the cross-entropy added up over the tokens."""
        logits = self(x, table)
        if self.world.tp == 1:
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        found: Tensor = DividedCrossEntropy.apply(logits, targets - self.rows.start, self.world)
        return found


class DividedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of divided logits: the maximum, the target's logit and the sum of exponentials are exchanged.

    Shoeybi et al. 2019, arXiv:1909.08053 §3: numbers of b·t instead of logits of b·t·v.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, targets: Tensor, world: World) -> Tensor:
        """Return the sum over the tokens."""
        group = world["tp"]
        most = all_reduce(logits.max(-1).values, group, dist.ReduceOp.MAX)
        shifted = logits - most[..., None]
        own = (targets >= 0) & (targets < logits.shape[-1])
        place = targets.masked_fill(~own, 0)[..., None]
        mine = shifted.gather(-1, place)[..., 0].masked_fill(~own, 0.0)
        target = all_reduce(mine, group)
        exponentials = shifted.exp()
        total = all_reduce(exponentials.sum(-1), group)
        ctx.save_for_backward(exponentials / total[..., None], place, own)
        return (total.log() - target).sum()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return softmax − one-hot."""
        shares, place, own = ctx.saved_tensors  # type: ignore[attr-defined]
        hot = torch.zeros_like(shares).scatter(-1, place, own[..., None].to(shares.dtype))
        return (shares - hot) * grad, None, None
