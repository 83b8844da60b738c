"""Feed-forward networks of which each rank has some channels, and experts of which each rank has some."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from calc.reference.dense import ACTIVATIONS, DenseTwin
from calc.reference.moe import MoETwin
from calc.reference.ranks.comm import Copy, Exchange, Gather, Scatter, World, all_gather
from calc.reference.ranks.parts import Part

Dispatch: TypeAlias = Literal["all_to_all", "all_gather"]


class RankDense(Part):
    """Some channels of the network: up by columns, down by rows."""

    def __init__(self, world: World, twin: DenseTwin) -> None:
        super().__init__(world)
        spec = twin.spec
        self.spec = spec
        inner = self.share(spec.d_ff)
        names = ("gate_proj", "up_proj") if spec.gated else ("up_proj",)
        linears = [twin.get_submodule(name) for name in names]
        named = list(zip(names, linears, strict=True))
        self.inner = nn.ParameterList(self.take(name, each.weight, inner) for name, each in named)
        self.biases = nn.ParameterList(self.take(f"{name}_bias", each.bias, inner) for name, each in named if spec.bias)
        self.down = self.take("down_proj", twin.down_proj.weight, slice(None), inner)
        self.down_bias = (
            self.take("down_bias", twin.down_proj.bias, repeats=self.repeated)
            if twin.down_proj.bias is not None
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform every position."""
        inner = self.columns(x, *self.inner)
        if len(self.biases):
            inner = tuple(each + bias for each, bias in zip(inner, self.biases, strict=True))
        active = ACTIVATIONS[self.spec.activation](inner[0])
        out = self.summed((active * inner[1] if self.spec.gated else active) @ self.down.T)
        return out if self.down_bias is None else out + self.down_bias


class RankMoE(Part):
    """A router on every token, some experts (or parts of all), and some channels of the shared ones.

    Where every rank has tokens of its own, they are sent to their experts' ranks and back. Where tensor-parallel ranks
    have the same tokens, each keeps those for its own experts, and the results are partial sums.
    """

    def __init__(self, world: World, twin: MoETwin, dispatch: Dispatch) -> None:
        super().__init__(world)
        spec = twin.spec
        self.spec, self.twin_scale, self.dispatch = spec, twin.scale, dispatch
        self.router = self.take("router", twin.router.weight, repeats=self.repeated)
        self.local = spec.n_experts // world.ep
        self.first = world["ep"].index * self.local
        experts, width = slice(self.first, self.first + self.local), self.share(spec.d_expert, "expert_tp")
        names = ("gate_proj", "up_proj") if spec.gated else ("up_proj",)
        self.inner = nn.ParameterList(
            self.take(name, twin.get_submodule(name).weight, experts, width, expert=True) for name in names
        )
        self.down = self.take("down_proj", twin.down_proj.weight, experts, slice(None), width, expert=True)
        self.shared = nn.ParameterList()
        if spec.d_shared:
            inner = self.share(spec.d_shared)
            names = ("shared_gate_proj", "shared_up_proj") if spec.gated else ("shared_up_proj",)
            self.shared = nn.ParameterList(self.take(name, twin.get_submodule(name).weight, inner) for name in names)
            self.shared_down = self.take("shared_down", twin.shared_down_proj.weight, slice(None), inner)

    def forward(self, x: Tensor) -> Tensor:
        """Route every token, and add what routed and shared experts make of it."""
        weights, experts = self._route(x)
        if self.world.sequence or self.world.tp == 1:
            routed = self._own_tokens(x, weights, experts)
            return routed + self.summed(self._shared(*self.columns(x, *self.shared))) if len(self.shared) else routed
        copied = Copy.apply(x, self.world["tp"])
        # the router's own gradient is whole on every rank; of the weights it gives, each rank uses its experts'
        partial = self._same_tokens(copied, Copy.apply(weights, self.world["tp"]), experts)
        if len(self.shared):
            partial = partial + self._shared(*(copied @ weight.T for weight in self.shared))
        return self.summed(partial)

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = x.flatten(0, 1) @ self.router.T
        scores = logits.softmax(-1) if self.spec.scoring == "softmax" else logits.sigmoid()
        experts = scores.topk(self.spec.n_active_experts, -1).indices
        weights = scores.gather(1, experts)
        if self.spec.normalised:
            weights = weights / (weights.sum(dim=1, keepdim=True) + 1e-20)
        return weights * self.twin_scale if self.spec.routed_scale else weights, experts

    # ---- ranks with tokens of their own

    def _own_tokens(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        if self.dispatch == "all_gather" or self.world.ep == 1:
            return self._gathered(flat, weights, experts).view_as(x)
        return self._sent(flat, weights, experts).view_as(x)

    def _gathered(self, flat: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Every rank gets all tokens, does its experts' part of them, and the parts are added up to their owners."""
        group = self.world["expert_world"]
        if group.size == 1:
            return self._experts_of(flat, weights, experts)
        tokens, shares = Gather.apply(flat, group, 0), Gather.apply(weights, group, 0)
        out: Tensor = Scatter.apply(self._experts_of(tokens, shares, all_gather(experts, group, 0)), group, 0)
        return out

    def _sent(self, flat: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Send each token to the ranks of its experts, and take the results back (Megatron's alltoall dispatcher)."""
        group, k = self.world["ep"], experts.shape[1]
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten(), minlength=self.spec.n_experts)
        everyone = all_gather(counts[None], self.world["expert_world"], 0)
        send = counts.view(group.size, -1).sum(1).tolist()
        # rows of the gathered counts: the ranks of the group that this one exchanges with
        peers = everyone[self.world["expert_tp"].index :: self.world.expert_tp]
        mine = peers[:, self.first : self.first + self.local]
        receive = mine.sum(1).tolist()
        arrived = Exchange.apply(flat[order // k], group, send, receive)
        done = self._products(arrived, _labels(mine))
        back = Exchange.apply(done, group, receive, send)
        results = torch.zeros(flat.shape[0] * k, flat.shape[1], dtype=flat.dtype).index_copy(0, order, back)
        return (results.view(-1, k, flat.shape[1]) * weights[..., None]).sum(1)

    # ---- ranks with the same tokens

    def _same_tokens(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Return this rank's part of the tokens' sums; other replicas' tokens come and go by an exchange."""
        flat = x.flatten(0, 1)
        outer = self.world.groups.get("outer")
        if outer is None or outer.size == 1:
            return self._experts_of(flat, weights, experts).view_as(x)
        # of the choices, this rank sends on those for experts at its own place in any replica
        inner, me = self.world.tp // self.world.expert_tp, self.world["ep"].index
        chosen = ((experts // self.local) % inner == me % inner).nonzero()
        labels = experts[chosen[:, 0], chosen[:, 1]]
        order = labels.argsort(stable=True)
        chosen = chosen[order]
        counts = torch.bincount(labels, minlength=self.spec.n_experts)
        send = counts.view(outer.size, inner, self.local)[:, me % inner].sum(-1).tolist()
        mine = all_gather(counts[None], outer, 0)[:, self.first : self.first + self.local]
        receive = mine.sum(1).tolist()
        arrived = Exchange.apply(flat[chosen[:, 0]], outer, send, receive)
        done = self._products(arrived, _labels(mine))
        back = Exchange.apply(done, outer, receive, send)
        weighted = back * weights[chosen[:, 0], chosen[:, 1]][:, None]
        return torch.zeros_like(flat).index_add(0, chosen[:, 0], weighted).view_as(x)

    # ---- products

    def _experts_of(self, flat: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Return the weighted sum over this rank's experts."""
        result = torch.zeros_like(flat)
        for expert in range(self.local):
            rows, slots = torch.where(experts == self.first + expert)
            done = self._product(expert, flat[rows]) * weights[rows, slots][:, None]
            result = result.index_add(0, rows, done)
        return result

    def _products(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return what each row's expert makes of it."""
        result = torch.zeros_like(rows)
        for expert in range(self.local):
            (mine,) = torch.where(labels == expert)
            result = result.index_copy(0, mine, self._product(expert, rows[mine]))
        return result

    def _product(self, expert: int, x: Tensor) -> Tensor:
        inner = [x @ weight[expert].T for weight in self.inner]
        active = ACTIVATIONS[self.spec.activation](inner[0])
        return (active * inner[1] if self.spec.gated else active) @ self.down[expert].T

    def _shared(self, *inner: Tensor) -> Tensor:
        active = ACTIVATIONS[self.spec.activation](inner[0])
        return (active * inner[1] if self.spec.gated else active) @ self.shared_down.T


def _labels(counts: Tensor) -> Tensor:
    """Return the local expert of each row that arrived: so many for each expert from each rank, in order."""
    return torch.cat([torch.arange(counts.shape[1]).repeat_interleave(row) for row in counts])
