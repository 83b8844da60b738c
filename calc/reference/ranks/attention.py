"""Grouped-query and latent attention of which each rank has some heads, with sequences shared in a ring."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import Function

from calc.reference.gqa import GQATwin
from calc.reference.mla import MLATwin
from calc.reference.ranks.comm import Group, World, all_gather, all_reduce, all_to_all, pass_on, reduce_scatter
from calc.reference.ranks.parts import Part, Repeats
from calc.reference.rotary import rotate

EPS = 1e-6
Exchange: TypeAlias = Literal["ring", "all_gather", "all_to_all"]
"""How ranks that share sequences let their queries meet all keys."""


class RingAttention(Function):
    """Softmax(q kᵀ) v of this rank's queries over all ranks' keys, one block of keys at a time.

    Keys and values go round; sums of exponentials are corrected as larger maxima appear. Backward they go round again,
    and with them their gradients, to the rank that they belong to. Liu et al. 2023, arXiv:2310.01889 §3.
    q [b, a, t, h]; the block is a flat tensor that ``unpack`` turns into keys [b, a, t, h] and values [b, a, t, p].
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, block: Tensor, unpack: Any, group: Group, gathered: bool) -> Tensor:
        """Return the weighted values."""
        ctx.unpack, ctx.group, ctx.gathered = unpack, group, gathered
        blocks = all_gather(block[None], group, 0) if gathered else None
        current, most, total, mixed = block, None, None, None
        for step in range(group.size):
            owner = (group.index - step) % group.size
            held = current if blocks is None else blocks[owner]
            k, v = unpack(held)
            scores = q @ k.transpose(-1, -2)
            scores = scores.masked_fill(~seen(q, k, group.index, owner), float("-inf"))
            here = scores.amax(-1, keepdim=True).clamp(min=-1e30)
            largest = here if most is None else torch.maximum(most, here)
            weights = (scores - largest).exp()
            if most is None or total is None or mixed is None:
                total, mixed = weights.sum(-1, keepdim=True), weights @ v
            else:
                shrink = (most - largest).exp()
                total, mixed = total * shrink + weights.sum(-1, keepdim=True), mixed * shrink + weights @ v
            most = largest
            if blocks is None and step < group.size - 1:
                current = pass_on(current, group)
        assert most is not None
        assert total is not None
        assert mixed is not None
        out = mixed / total
        ctx.save_for_backward(q, block, out, most + total.log())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries and of this rank's block."""
        q, block, out, norm = ctx.saved_tensors
        group: Group = ctx.group
        blocks = all_gather(block[None], group, 0) if ctx.gathered else None
        delta = (grad * out).sum(-1, keepdim=True)
        to_q = torch.zeros_like(q)
        current, travelling = block, torch.zeros_like(block)
        shares = [torch.zeros_like(block) for _ in range(group.size)]
        for step in range(group.size):
            owner = (group.index - step) % group.size
            with torch.enable_grad():
                leaf = (current if blocks is None else blocks[owner]).detach().requires_grad_()
                k, v = ctx.unpack(leaf)
            scores = (q @ k.transpose(-1, -2)).masked_fill(~seen(q, k, group.index, owner), float("-inf"))
            weights = (scores - norm).exp()
            to_scores = weights * (grad @ v.transpose(-1, -2) - delta)
            to_q = to_q + to_scores @ k
            (to_block,) = torch.autograd.grad(
                (k, v), leaf, (to_scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad)
            )
            if blocks is None:
                travelling = pass_on(travelling + to_block, group)
                if step < group.size - 1:
                    current = pass_on(current, group)
            else:
                shares[owner] = to_block
        if blocks is not None:
            travelling = reduce_scatter(torch.stack(shares), group, 0)[0]
        return to_q, travelling, None, None, None


class Swap(Function):
    """Rank i gives rank j the j-th part of its heads and gets the tokens of j: [b, a, t, h] → [b, a/n, n·t, h].

    Jacobs et al. 2023, arXiv:2309.14509 §3; the gradients swap back. ``back`` is the opposite way.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, back: bool) -> Tensor:
        """Swap."""
        ctx.group, ctx.back = group, back
        return _swapped(x, group, back)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Swap back."""
        return _swapped(grad, ctx.group, not ctx.back), None, None


def _swapped(x: Tensor, group: Group, back: bool) -> Tensor:
    n = group.size
    if n == 1:
        return x
    parts = torch.stack(x.chunk(n, 2 if back else 1))
    each = [1] * n
    found = all_to_all(parts.flatten(1), group, each, each).view_as(parts)
    return torch.cat(tuple(found), 1 if back else 2)


def attend(q: Tensor, k: Tensor, v: Tensor, world: World, exchange: Exchange) -> Tensor:
    """Return Softmax(q kᵀ) v over all ranks' positions; every key-value head serves as many query heads in a row."""
    group, width, cp = q.shape[1] // k.shape[1], k.shape[-1], world["cp"]
    if exchange == "all_to_all":
        q, k, v = (Swap.apply(each, cp, False) for each in (q, k, v))

    def unpack(block: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = block.split((width, block.shape[-1] - width), -1)
        return keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)

    alone = Group([cp.ranks[cp.index]])
    ring = alone if exchange == "all_to_all" else cp
    mixed: Tensor = RingAttention.apply(q, torch.cat((k, v), -1), unpack, ring, exchange == "all_gather")
    if exchange == "all_to_all":
        mixed = Swap.apply(mixed, cp, True)
    return mixed


def seen(q: Tensor, k: Tensor, mine: int, owner: int) -> Tensor:
    """Return booleans [t, s]: whether this rank's queries see an owner's keys; ranks have consecutive positions."""
    queries = torch.arange(q.shape[-2]) + mine * q.shape[-2]
    keys = torch.arange(k.shape[-2]) + owner * k.shape[-2]
    return keys[None] <= queries[:, None]


class RankGQA(Part):
    """Some query heads and their key-value heads; a key-value head stands on several ranks where there are fewer."""

    def __init__(self, world: World, twin: GQATwin, exchange: Exchange) -> None:
        super().__init__(world)
        spec, ranks = twin.spec, world.tp
        self.spec, self.exchange = spec, exchange
        self.heads, self.kv_heads = spec.n_heads // ranks, max(1, spec.n_kv_heads // ranks)
        few = spec.n_kv_heads < ranks
        first = world["tp"].index * spec.n_kv_heads // ranks
        q = self.share(spec.n_heads * spec.head_dim)
        keys = slice(first * spec.head_dim, (first + self.kv_heads) * spec.head_dim)
        values = slice(first * twin.value_width, (first + self.kv_heads) * twin.value_width)
        repeats: Repeats = "same_head" if few else ""
        self.q_weight = self.take("q_proj", twin.q_proj.weight, q)
        self.k_weight = self.take("k_proj", twin.k_proj.weight, keys, repeats=repeats)
        self.v_weight = self.take("v_proj", twin.v_proj.weight, values, repeats=repeats)
        self.o_weight = self.take(
            "o_proj", twin.o_proj.weight, slice(None), self.share(spec.n_heads * twin.value_width)
        )
        made: tuple[tuple[str, nn.Linear, slice, Repeats], ...] = (
            ("q_bias", twin.q_proj, q, ""),
            ("k_bias", twin.k_proj, keys, repeats),
            ("v_bias", twin.v_proj, values, repeats),
        )
        self.biases = nn.ParameterList(
            self.take(name, linear.bias, at, repeats=again)
            for name, linear, at, again in made
            if linear.bias is not None
        )
        self.o_bias = self.take("o_bias", twin.o_proj.bias, repeats=self.repeated) if spec.o_bias else None
        joint = spec.qk_norm_over == "all_heads"
        if spec.qk_norm:
            # one scale for all heads: every rank has it, and its own heads' part of the gradient
            everywhere: Repeats = "tp" if ranks > 1 else ""
            norms = (("q_norm", twin.q_norm.weight, q, ""), ("k_norm", twin.k_norm.weight, keys, repeats))
            self.q_scale, self.k_scale = (
                self.take(name, scale, at, repeats=again)  # type: ignore[arg-type]
                if joint
                else self.take(name, scale, repeats=everywhere)
                for name, scale, at, again in norms
            )

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Attend with this rank's heads over all positions up to each query's."""
        spec = self.spec
        q, k, v = self.columns(x, self.q_weight, self.k_weight, self.v_weight)
        if len(self.biases):
            q, k, v = (each + bias for each, bias in zip((q, k, v), self.biases, strict=True))
        q, k, v = (
            each.unflatten(-1, (heads, -1)) for each, heads in ((q, self.heads), (k, self.kv_heads), (v, self.kv_heads))
        )
        if spec.qk_norm:
            q, k = self._normed(q, self.q_scale), self._normed(k, self.k_scale)
        if spec.rotary_dim:
            q, k = (rotate(each, positions, spec.rotary_dim) for each in (q, k))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        q = q * spec.head_dim**-0.5
        if self.kept is not None:
            mixed = self._step(q, k, v)
        else:
            mixed = attend(q, k, v, self.world, self.exchange)
            self.kept = (k, v) if self.keeping else None
        out = self.summed(mixed.transpose(1, 2).flatten(2) @ self.o_weight.T)
        return out if self.o_bias is None else out + self.o_bias

    keeping = False
    """Whether keys and values of a prompt are kept for the tokens after it: each rank keeps its positions'."""
    kept: tuple[Tensor, Tensor] | None = None

    def _step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with one new token over what all ranks keep: each over its own, then results weighed and added up."""
        group = self.world["cp"]
        assert self.kept is not None
        if group.index == group.size - 1:
            self.kept = (torch.cat((self.kept[0], k), 2), torch.cat((self.kept[1], v), 2))
        keys, values = (each.repeat_interleave(self.heads // self.kv_heads, 1) for each in self.kept)
        scores = q @ keys.transpose(-1, -2)
        sums = scores.logsumexp(-1, keepdim=True)
        everyone = all_gather(sums[None], group, 0)
        share = (sums - everyone.logsumexp(0)).exp()
        return all_reduce((scores - sums).exp() @ values * share, group)

    def _normed(self, heads: Tensor, scale: Tensor) -> Tensor:
        """Apply the query-key norm: over each head, or over all heads of all ranks."""
        if self.spec.qk_norm_over != "all_heads":
            return heads * torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + EPS) * scale
        joint = heads.flatten(-2)
        squares = SumOfSquares.apply(joint, self.world["tp"]) if self.world.tp > 1 else joint.pow(2).sum(-1)
        mean = squares[..., None] / (joint.shape[-1] * self.world.tp)
        return (joint * torch.rsqrt(mean + EPS) * scale).view_as(heads)


class SumOfSquares(Function):
    """Σ x² over all ranks' channels; its gradient is needed by all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        """Add up."""
        ctx.group = group
        ctx.save_for_backward(x)
        return all_reduce(x.pow(2).sum(-1), group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Add up what every rank's channels want of the sum, and spread it."""
        (x,) = ctx.saved_tensors
        return 2 * x * all_reduce(grad, ctx.group)[..., None], None


class RankMLA(Part):
    """Latent attention: every rank has the latents, and its own heads' maps from them."""

    def __init__(self, world: World, twin: MLATwin, exchange: Exchange) -> None:
        super().__init__(world)
        spec = twin.spec
        self.spec, self.gathered, self.heads = spec, exchange == "all_gather", spec.n_heads // world.tp
        again = self.repeated
        heads = self.share(spec.n_heads)
        nope, rope = (self.share(spec.n_heads * width) for width in (spec.qk_nope_head_dim, spec.qk_rope_head_dim))
        if spec.q_lora_rank:
            self.q_a = self.take("q_a_proj", twin.q_a_proj.weight, repeats=again)
            self.q_a_scale = self.take("q_a_norm", twin.q_a_norm.weight, repeats=again)
        self.q_nope = self.take("q_nope", twin.q_nope.weight, nope)
        self.q_rope = self.take("q_rope", twin.q_rope.weight, rope)
        self.kv_a = self.take("kv_a_proj", twin.kv_a_proj.weight, repeats=again)
        self.kv_a_scale = self.take("kv_a_norm", twin.kv_a_norm.weight, repeats=again)
        self.k_rope = self.take("k_rope", twin.k_rope.weight, repeats=again)
        self.to_keys = self.take("k_b", twin.to_keys, heads)
        self.to_values = self.take("v_b", twin.to_values, heads)
        self.o_weight = self.take("o_proj", twin.o_proj.weight, slice(None), self.share(spec.n_heads * spec.v_head_dim))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Attend with keys and values rebuilt from the latents."""
        spec = self.spec
        entry = _normed(x @ self.q_a.T, self.q_a_scale) if spec.q_lora_rank else x
        q_nope, q_rope = (
            each.unflatten(-1, (self.heads, -1)) for each in self.columns(entry, self.q_nope, self.q_rope)
        )
        shared = x @ self.k_rope.T
        # the shared key is rotated where it is made: on this rank's share of the tokens
        mine = self._own(positions, x)
        shared = self.everywhere(rotate(shared[:, :, None], mine, spec.qk_rope_head_dim)[:, :, 0])
        latent = _normed(x @ self.kv_a.T, self.kv_a_scale)
        up = torch.cat((self.to_keys, self.to_values), -1).permute(0, 2, 1).flatten(0, 1)
        (both,) = self.columns(latent, up)
        both = both.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q_rope = rotate(q_rope, positions, spec.qk_rope_head_dim)
        q = torch.cat((q_nope, q_rope), -1).transpose(1, 2)
        scale = (spec.qk_nope_head_dim + spec.qk_rope_head_dim) ** -0.5
        b, a, t, width = both.shape
        nope, rope = spec.qk_nope_head_dim, spec.qk_rope_head_dim

        def unpack(block: Tensor) -> tuple[Tensor, Tensor]:
            heads = block[:, : a * width].view(b, a, width, -1).transpose(2, 3)
            one = block[:, a * width :].view(b, 1, rope, -1).transpose(2, 3)
            return torch.cat((heads[..., :nope], one.expand(-1, a, -1, -1)), -1), heads[..., nope:]

        # keys and values of the heads, and the one rotated key, side by side: [b, a·(n + p) + r, t]
        block = torch.cat((both.transpose(2, 3).reshape(b, a * width, t), shared.transpose(1, 2)), 1)
        mixed = RingAttention.apply(q * scale, block, unpack, self.world["cp"], self.gathered)
        return self.summed(mixed.transpose(1, 2).flatten(2) @ self.o_weight.T)

    def _own(self, positions: Tensor, x: Tensor) -> Tensor:
        """Return the positions of the tokens that x has."""
        if x.shape[1] == len(positions):
            return positions
        start = self.world["tp"].index * x.shape[1]
        return positions[start : start + x.shape[1]]


def _normed(x: Tensor, scale: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * scale
