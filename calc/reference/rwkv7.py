"""The time mixing of RWKV-7 from its paper: Peng et al. 2025, arXiv:2503.14456, §4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calc.attention.rwkv7 import RWKV7
from calc.errors import SpecError
from calc.reference.base import Cache, Twin
from calc.reference.norms import LayerNorm
from calc.reference.recurrence import before, by_head, ending, initial, keep, precise, unit

SLOWEST = -0.606531
"""The logarithm of the smallest decay, −e^(−1/2)."""


class RWKV7Twin(Twin):
    """A state for each head that decays by channel, forgets along one key and learns along another."""

    def __init__(self, spec: RWKV7, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.lender: RWKV7Twin | None
        # not registered as a part of this twin
        object.__setattr__(self, "lender", None)
        self.made: Tensor | None = None
        heads, inner = spec.n_heads, spec.n_heads * spec.head_dim
        for name in "rwkvag":
            setattr(self, f"{name}_mix", nn.Parameter(torch.rand(d_model)))
        for name in "rkv":
            self.add_module(f"{name}_proj", nn.Linear(d_model, inner, bias=False))
        ranks = {"w": spec.decay_rank, "a": spec.rate_rank, "v": spec.value_rank, "g": spec.gate_rank}
        for name, rank in ranks.items():
            if rank is not None:
                self.add_module(f"{name}_a_proj", nn.Linear(d_model, rank, bias=False))
                self.add_module(f"{name}_b_proj", nn.Linear(rank, inner, bias=name != "g"))
        self.removed, self.key, self.own = (nn.Parameter(torch.rand(heads, spec.head_dim)) for _ in range(3))
        self.norm = LayerNorm(heads, spec.head_dim, bias=True)
        self.o_proj = nn.Linear(inner, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Mix x [b, t, d]: the same steps in every phase."""
        heads = self.spec.n_heads
        last = before(cache, "shift")
        earlier = torch.zeros_like(x[:, :1]) if last is None else last[:, None]
        with self.operation("delta"):
            delta = torch.cat([earlier, x[:, :-1]], dim=1) - x
        mixed = {}
        for name in "rwkvag":
            with self.operation(f"{name}_mix"):
                mixed[name] = x + delta * getattr(self, f"{name}_mix")
        r, k, v = (by_head(self.mapped(f"{name}_proj", mixed[name]), heads) for name in "rkv")
        low = self.mapped("w_a_proj", mixed["w"])
        with self.operation("w_tanh"):
            low = low.tanh()
        rate_of_decay = by_head(self.mapped("w_b_proj", low), heads)
        with self.operation("decay"):
            decay = (SLOWEST * rate_of_decay.sigmoid()).exp()
        v = self.values(v, mixed["v"])
        rate = by_head(self.mapped("a_b_proj", self.mapped("a_a_proj", mixed["a"])), heads)
        with self.operation("rate"):
            rate = rate.sigmoid()
        low = self.mapped("g_a_proj", mixed["g"])
        with self.operation("g_sigmoid"):
            low = low.sigmoid()
        gate = self.mapped("g_b_proj", low)
        with self.operation("removed"):
            removed = unit(k * self.removed)
        with self.operation("key"):
            k = k * (1 + (rate - 1) * self.key)
        with self.operation("rated"):
            rated = removed * rate
        y = self.recur(r, k, v, decay, removed, rated, cache)
        with self.operation("norm"):
            y = self.norm(y.to(x.dtype))
        with self.operation("own"):
            own = (r * k * self.own).sum(-1, keepdim=True)
        with self.operation("add_own"):
            y = y + own * v
        with self.operation("gate"):
            y = y.flatten(2) * gate
        keep(cache, x.shape[1], shift=x[:, -1])
        return self.mapped("o_proj", y)

    def values(self, own: Tensor, mixed: Tensor) -> Tensor:
        """Return the first layer's values, or those of a later one, mixed with them."""
        if self.spec.value_rank is None:
            self.made = own
            return own
        if self.lender is None or self.lender.made is None:
            raise SpecError("a layer with value_rank needs an earlier layer that lends its values")
        share = by_head(self.mapped("v_b_proj", self.mapped("v_a_proj", mixed)), self.spec.n_heads)
        with self.operation("share"):
            share = share.sigmoid()
        with self.operation("value"):
            return own + (self.lender.made - own) * share

    def recur(
        self, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, removed: Tensor, rated: Tensor, cache: Cache | None
    ) -> Tensor:
        """Run the recurrence token by token; all are [b, t, h, width]."""
        r, k, v, decay, removed, rated = (precise(each) for each in (r, k, v, decay, removed, rated))
        state = before(cache, "recurrent")
        if state is None:
            state = initial(v, v.shape[0], v.shape[2], k.shape[3], v.shape[3])
        out = []
        for t in range(r.shape[1]):
            with self.operation("recall"):
                held = removed[:, t, :, None] @ state
            with self.operation("write"):
                state = state * decay[:, t, :, :, None] - rated[:, t, :, :, None] * held
                state = state + k[:, t, :, :, None] * v[:, t, :, None]
            with self.operation("read"):
                out.append((r[:, t, :, None] @ state)[:, :, 0])
        if cache is not None:
            cache.put("recurrent", state)
        return ending(torch.stack(out, dim=1), state)

    def mapped(self, name: str, x: Tensor) -> Tensor:
        """Apply one of the matrices."""
        with self.operation(name):
            result: Tensor = self.get_submodule(name)(x)
        return result


def lend_values(twins: list[RWKV7Twin]) -> None:
    """Let layers mix the values of the first with their own."""
    first = next((twin for twin in twins if twin.spec.value_rank is None), None)
    for twin in twins:
        if twin.spec.value_rank is not None:
            object.__setattr__(twin, "lender", first)
