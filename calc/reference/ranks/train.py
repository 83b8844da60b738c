"""A training step on several ranks: micro-batches through the pipeline, gradients added up, weights updated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from calc.reference.ranks.comm import Gather, World, all_gather, all_reduce, reduce_scatter
from calc.reference.ranks.model import RankChunk, RankLayer
from calc.reference.ranks.parts import Held, Part

Phase: TypeAlias = Literal["forward", "backward", "step"]
Watch: TypeAlias = Callable[[Phase], AbstractContextManager[object]]
"""What a caller wants to do around each phase."""
RATE = 0.5


def unwatched(phase: Phase) -> AbstractContextManager[object]:
    """Watch nothing."""
    return nullcontext()


class Training:
    """A rank's parts of the stack, and what it does in a step.

    ``zero``: what copies of a weight share: the optimizer's state (1), gradients (2), weights (3; tensor parallelism
    and pipelines apart). The optimizer is w − r·g, whose state is nothing: what is exchanged does not depend on it.
    """

    def __init__(self, world: World, parts: list[RankChunk], zero: int, watch: Watch = unwatched) -> None:
        self.world, self.parts, self.zero, self.watch = world, parts, zero, watch
        self.held = [each for part in parts for each in part.held()]
        self.flat = {name: self._of(name) for name in ("copies", "expert_copies")}
        self.sums = {name: self._zeros(name) for name in self.flat} if zero == 2 else {}
        self.units = Units(world, parts) if zero == 3 else None

    def _of(self, name: str) -> list[Held]:
        """Return what the ranks of a group have copies of."""
        return [each for each in self.held if each.expert == (name == "expert_copies")]

    def _zeros(self, name: str) -> Tensor:
        total = sum(each.own.numel() for each in self.flat[name])
        return torch.zeros(total // self.world[name].size)

    # ---- micro-batches

    def run(self, tokens: Tensor, targets: Tensor, every_token: int) -> float:
        """Do a step over micro-batches [m, b, t] of this rank's sequences; returns the sum of its losses."""
        loss = 0.0
        done = [self._forward(mine, aims, every_token) for mine, aims in zip(tokens, targets, strict=True)]
        for trace in done:
            loss += self._backward(trace)
            if self.zero == 2:
                with self.watch("backward"):
                    self._scatter_gradients()
        with self.watch("step"):
            self._finish()
        return loss

    def _forward(self, tokens: Tensor, targets: Tensor, every_token: int) -> list[tuple[Tensor, Tensor]]:
        """Pass a micro-batch through this rank's chunks; returns (what came in, what went out) of each."""
        trace = []
        first = self.world["cp"].index * tokens.shape[1]
        positions = torch.arange(first, first + tokens.shape[1])
        for part in self.parts:
            with self.watch("forward"):
                entry = tokens if part.first else self._receive(tokens, part, -1).requires_grad_()
                out, table = self.units.run(part, entry, positions) if self.units else (part(entry, positions), None)
                if part.last:
                    assert part.head is not None
                    out = part.head.loss(out, targets, part.table if table is None else table) / every_token
                else:
                    self._send(out, 1)
            trace.append((entry, out))
        return trace

    def _backward(self, trace: list[tuple[Tensor, Tensor]]) -> float:
        loss = 0.0
        for (entry, out), part in reversed(list(zip(trace, self.parts, strict=True))):
            with self.watch("backward"):
                if part.last:
                    loss += float(out.detach())
                    out.backward()
                else:
                    out.backward(self._receive_like(out, 1))
                if not part.first:
                    assert entry.grad is not None
                    self._send(entry.grad, -1)
        return loss

    def _peer(self, step: int) -> int:
        group = self.world["pp"]
        return group.ranks[(group.index + step) % group.size]

    def _send(self, x: Tensor, step: int) -> None:
        dist.send(x.detach().contiguous(), self._peer(step), group=self.world["pp"].handle)

    def _receive(self, tokens: Tensor, part: RankChunk, step: int) -> Tensor:
        share = self.world.tp if self.world.sequence else 1
        width = next(iter(part.held())).whole.shape[-1]
        return self._receive_like(torch.empty(tokens.shape[0], tokens.shape[1] // share, width), step)

    def _receive_like(self, x: Tensor, step: int) -> Tensor:
        found = torch.empty(x.shape)
        dist.recv(found, self._peer(step), group=self.world["pp"].handle)
        return found

    # ---- the end of a step

    def _finish(self) -> None:
        """Add gradients up over all who have a part of them, and update the weights."""
        if self.units is not None:
            self.units.update()
            return
        for name in ("tp", "same_head"):
            self._add_up([each for each in self.held if each.repeats == name], name)
        for part in self.parts:
            self._shared_table(part)
        for name, held in self.flat.items():
            self._update(name, held)

    def _add_up(self, held: list[Held], name: str) -> None:
        if held and name in self.world.groups:
            _set_gradients(held, all_reduce(_gradients(held), self.world[name]))

    def _shared_table(self, part: RankChunk) -> None:
        """Add up the gradients of a table that the first and the last stage have: the head's where it is tied."""
        ends = self.world.groups.get("ends")
        if ends is None or ends.size == 1 or not self.tied:
            return
        module = part.embedding if part.first else part.head if part.last else None
        if module is not None:
            _set_gradients(module.held, all_reduce(_gradients(module.held), ends))

    tied = False
    """Whether the head's table is the embedding's."""

    def _scatter_gradients(self) -> None:
        for name, held in self.flat.items():
            if held:
                self.sums[name] += reduce_scatter(_gradients(held), self.world[name], 0)
                for each in held:
                    each.own.grad = None

    def _update(self, name: str, held: list[Held]) -> None:
        if not held:
            return
        group = self.world[name]
        with torch.no_grad():
            weights = torch.cat([each.own.flatten() for each in held])
            if self.zero == 0:
                weights = weights - RATE * all_reduce(_gradients(held), group)
            else:
                mine = self.sums[name] if self.zero == 2 else reduce_scatter(_gradients(held), group, 0)
                share = weights.chunk(group.size)[group.index] - RATE * mine
                weights = all_gather(share, group, 0)
            _set_weights(held, weights)


def _gradients(held: list[Held]) -> Tensor:
    return torch.cat([(torch.zeros_like(e.own) if e.own.grad is None else e.own.grad).flatten() for e in held])


def _set_gradients(held: list[Held], flat: Tensor) -> None:
    for each, part in zip(held, flat.split([each.own.numel() for each in held]), strict=True):
        each.own.grad = part.view_as(each.own).clone()


def _set_weights(held: list[Held], flat: Tensor) -> None:
    for each, part in zip(held, flat.split([each.own.numel() for each in held]), strict=True):
        each.own.data.copy_(part.view_as(each.own))


# ---- weights that are shared too


class Unit:
    """The weights of one module, of which each copy keeps a share between uses."""

    def __init__(self, world: World, modules: Sequence[nn.Module], held: list[Held]) -> None:
        self.groups = (world["copies"], world["expert_copies"])
        self.modules = modules
        self.parts = tuple([each for each in held if each.expert == expert] for expert in (False, True))
        self.shares = [
            nn.Parameter(_flat(part).chunk(group.size)[group.index].clone())
            for part, group in zip(self.parts, self.groups, strict=True)
        ]

    def named(self, module: nn.Module, flats: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return a module's parameters as views of the whole weights."""
        place = {}
        for held, flat in zip(self.parts, flats, strict=True):
            for each, view in zip(held, flat.split([each.own.numel() for each in held]), strict=True):
                place[id(each.own)] = view.view_as(each.own)
        return {name: place[id(own)] for name, own in module.named_parameters()}

    def whole(self) -> tuple[Tensor, ...]:
        """Gather, with gradients that are scattered."""
        return tuple(
            Gather.apply(share, group, 0) if group.size > 1 and share.numel() else share.view_as(share)
            for share, group in zip(self.shares, self.groups, strict=True)
        )


def _flat(held: list[Held]) -> Tensor:
    return torch.cat([each.own.detach().flatten() for each in held]) if held else torch.zeros(0)


class InUnit(Function):
    """A layer whose weights are gathered when it runs, given up, and gathered again for the gradients.

    Nothing but its input is kept: the layer runs once more for them (activation checkpointing, as FSDP is used).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Unit, layer: nn.Module, positions: Tensor, *shares: Tensor) -> Tensor:
        """Gather and run."""
        ctx.unit, ctx.layer, ctx.positions = unit, layer, positions
        ctx.save_for_backward(x)
        return _run(unit, layer, x, positions, _whole(unit))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gather again, run, and scatter the weights' gradients."""
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            entry = x.detach().requires_grad_()
            flats = tuple(flat.requires_grad_() for flat in _whole(ctx.unit))
            out = _run(ctx.unit, ctx.layer, entry, ctx.positions, flats)
        to_x, *to_flats = torch.autograd.grad(out, (entry, *flats), grad, allow_unused=True)
        found = [
            None if flat is None or not flat.numel() else reduce_scatter(flat, group, 0)
            for flat, group in zip(to_flats, ctx.unit.groups, strict=True)
        ]
        return to_x, None, None, None, *found


def _whole(unit: Unit) -> tuple[Tensor, ...]:
    return tuple(
        (all_gather(share.detach(), group, 0) if share.numel() else share.detach()).clone()
        for share, group in zip(unit.shares, unit.groups, strict=True)
    )


def _run(unit: Unit, layer: nn.Module, x: Tensor, positions: Tensor, flats: tuple[Tensor, ...]) -> Tensor:
    out: Tensor = functional_call(layer, unit.named(layer, flats), (x, positions))
    return out


class Units:
    """A model whose layers are units; what stands outside the layers is one more, kept from forward to backward."""

    def __init__(self, world: World, parts: list[RankChunk]) -> None:
        (part,) = parts
        self.layers = [
            Unit(world, [layer], [each for m in layer.modules() for each in getattr(m, "held", [])])
            for layer in part.layers
        ]
        ends: list[Part] = [m for m in (part.embedding, part.final_norm, part.head) if m is not None]
        self.ends = Unit(world, ends, [each for m in ends for each in m.held])

    def run(self, part: RankChunk, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Pass token ids; returns what the head reads, and its table as it is gathered."""
        whole = self.ends.whole()
        embedding, norm, head = part.embedding, part.final_norm, part.head
        assert embedding is not None
        assert norm is not None
        assert head is not None
        x = functional_call(embedding, self.ends.named(embedding, whole), (tokens,))
        for unit, layer in zip(self.layers, part.layers, strict=True):
            assert isinstance(layer, RankLayer)
            x = InUnit.apply(x, unit, layer, positions, *unit.shares)
        out: Tensor = functional_call(norm, self.ends.named(norm, whole), (x,))
        return out, self.ends.named(head if head.held else embedding, whole)["weight"]

    def update(self) -> None:
        """Update this rank's shares."""
        for unit in (*self.layers, self.ends):
            for share, held in zip(unit.shares, unit.parts, strict=True):
                if held:
                    assert share.grad is not None
                    share.data -= RATE * share.grad

    def show(self) -> None:
        """Put the updated weights back together, to look at (no part of a step)."""
        for unit in (*self.layers, self.ends):
            for share, held, group in zip(unit.shares, unit.parts, unit.groups, strict=True):
                if held:
                    _set_weights(held, all_gather(share.data, group, 0))
