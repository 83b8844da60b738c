"""Lightning attention from its papers: Qin et al. 2024, arXiv:2401.04658, algorithm 1; MiniMax, arXiv:2501.08313."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calc.attention.lightning import Lightning
from calc.reference.base import Cache, Twin
from calc.reference.recurrence import RMSNorm, before, by_head, ending, initial, keep, later_than, precise, stepping
from calc.reference.rotary import rotate


class LightningTwin(Twin):
    """S ← λ·S + k vᵀ, y = Sᵀq with a fixed λ = exp(−rate) for each head.

    ``depth``: where the layer stands, from 0 (the first) to 1; the rate falls with it.
    """

    def __init__(self, spec: Lightning, d_model: int, vocab_size: int = 0, depth: float = 0.0) -> None:
        super().__init__()
        inner = spec.n_heads * spec.head_dim
        self.spec, self.depth = spec, depth
        self.q_proj = nn.Linear(d_model, inner, bias=False)
        self.k_proj = nn.Linear(d_model, inner, bias=False)
        self.v_proj = nn.Linear(d_model, inner, bias=False)
        if spec.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(spec.head_dim), RMSNorm(spec.head_dim)
        self.norm = RMSNorm(inner)
        self.gate_proj = nn.Linear(d_model, inner, bias=False)
        self.o_proj = nn.Linear(inner, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Mix x [b, t, d]."""
        heads, width = self.spec.n_heads, self.spec.head_dim
        start = cache.positions if cache else 0
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        q, k, v = (self.projected(name, x, positions) for name in ("q", "k", "v"))
        state = before(cache, "recurrent")
        state = initial(q, x.shape[0], heads, width, width) if state is None else state
        slopes = 2.0 ** (-8 / heads * precise(torch.arange(1, heads + 1, device=x.device).to(q.dtype)))
        rate = (slopes * (1 - self.depth + 1e-5))[:, None, None]
        y, state = (self.step if stepping(cache, x.shape[1]) else self.blocks)(q, k, v, rate, state)
        keep(cache, x.shape[1], recurrent=state)
        with self.operation("norm"):
            y = self.norm(y.transpose(1, 2).flatten(2))
        with self.operation("gate_proj"):
            gate = self.gate_proj(x)
        with self.operation("gate"):
            y = y * gate.sigmoid()
        with self.operation("o_proj"):
            return self.o_proj(y)

    def projected(self, name: str, x: Tensor, positions: Tensor) -> Tensor:
        """Return queries, keys or values [b, h, t, width]."""
        spec = self.spec
        with self.operation(f"{name}_proj"):
            y = by_head(getattr(self, f"{name}_proj")(x), spec.n_heads)
        if spec.qk_norm and name != "v":
            with self.operation(f"{name}_norm"):
                y = getattr(self, f"{name}_norm")(y)
        if spec.rotary_dim and name != "v":
            with self.operation(f"{name}_rotary"):
                y = rotate(y, positions, spec.rotary_dim)
        if spec.activated:
            with self.operation(f"{name}_act"):
                y = functional.silu(y)
        return y.transpose(1, 2)

    def blocks(self, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the recurrence a block at a time; the last block is as long as what is left."""
        size = self.spec.chunk_size
        lengths = [min(size, q.shape[2] - start) for start in range(0, q.shape[2], size)]
        self.mark(lengths, q.device)
        out = []
        for qs, ks, vs in zip(*(torch.split(each, lengths, dim=2) for each in (q, k, v)), strict=True):
            length = qs.shape[2]
            place = torch.arange(1, length + 1, device=q.device)[:, None]
            with self.operation("scores"):
                scores = qs @ ks.transpose(-1, -2)
            with self.operation("decay_mask"):
                between = (-rate * (place - place.T)).masked_fill(later_than(length, q.device), -torch.inf)
                scores = scores * between.exp().to(q.dtype)
            with self.operation("local"):
                local = scores @ vs
            with self.operation("decayed_q"):
                qs = qs * (-rate * place).exp().to(q.dtype)
            with self.operation("read"):
                earlier = qs @ state
            with self.operation("combine"):
                out.append(local + earlier)
            with self.operation("decayed_k"):
                ks = ks * (-rate * (length - place)).exp().to(q.dtype)
            with self.operation("write"):
                written = ks.transpose(-1, -2) @ vs
            with self.operation("carry"):
                state = state * (-rate * length).exp().to(q.dtype) + written
        return ending(torch.cat(out, dim=2), state), state

    def mark(self, lengths: list[int], device: torch.device) -> None:
        """Tell which pairs count: those of each block that are not in the future."""
        pairs = torch.cat([~later_than(length, device).flatten() for length in lengths])
        self.applies(pairs, "scores", "decay_mask", "local")
        self.applies(torch.ones(sum(lengths), dtype=torch.bool, device=device), "read", "write")
        self.applies(torch.ones(len(lengths), dtype=torch.bool, device=device), "carry")

    def step(self, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the recurrence for one position."""
        with self.operation("step_write"):
            written = k.transpose(-1, -2) @ v
        with self.operation("step_carry"):
            state = state * (-rate).exp().to(q.dtype) + written
        with self.operation("step_read"):
            return q @ state, state
