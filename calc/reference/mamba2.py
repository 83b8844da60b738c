"""Mamba-2 from its paper: Dao & Gu 2024, arXiv:2405.21060, listing 1 (chunks) and equation 16 (steps)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calc.attention.mamba2 import Mamba2
from calc.reference.base import Cache, Twin
from calc.reference.recurrence import (
    CausalConv,
    RMSNorm,
    before,
    by_head,
    in_chunks,
    initial,
    keep,
    later_than,
    out_of_chunks,
    pairs_in,
    positions_in,
    precise,
    remember,
    stepping,
)


class Mamba2Twin(Twin):
    """S ← exp(Δ·a)·S + Δ·x Bᵀ, y = S C + D·x, for each head; gate, norm and output after it."""

    def __init__(self, spec: Mamba2, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        heads, shared = spec.n_ssm_heads, spec.n_groups * spec.d_state
        inner = heads * spec.ssm_head_dim
        self.spec = spec
        self.z_proj = nn.Linear(d_model, inner, bias=spec.in_bias)
        self.x_proj = nn.Linear(d_model, inner, bias=spec.in_bias)
        self.conv_x = CausalConv(inner, spec.conv_kernel, spec.conv_bias)
        if spec.dt_rank:
            self.dt_low = nn.Linear(inner, spec.dt_rank, bias=False)
            self.b_proj, self.c_proj = (nn.Linear(inner, shared, bias=False) for _ in range(2))
            self.dt_norm, self.b_norm, self.c_norm = (RMSNorm(n) for n in (spec.dt_rank, spec.d_state, spec.d_state))
            self.dt_proj = nn.Linear(spec.dt_rank, heads, bias=False)
        else:
            self.b_proj = nn.Linear(d_model, shared, bias=spec.in_bias)
            self.c_proj = nn.Linear(d_model, shared, bias=spec.in_bias)
            self.dt_proj = nn.Linear(d_model, heads, bias=spec.in_bias)
            self.conv_b = CausalConv(shared, spec.conv_kernel, spec.conv_bias)
            self.conv_c = CausalConv(shared, spec.conv_kernel, spec.conv_bias)
        self.dt, self.decay, self.skip = (nn.Parameter(torch.rand(heads)) for _ in range(3))
        if spec.gated_norm:
            self.norm = RMSNorm(inner, groups=spec.n_groups, eps=1e-5)
        self.out_proj = nn.Linear(inner, d_model, bias=spec.out_bias)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Mix x [b, t, d]."""
        spec = self.spec
        inner = self.convolved("x", x, cache)
        if spec.dt_rank:
            low, b, c = self.selected(inner)
        else:
            low, b, c = x, self.convolved("b", x, cache), self.convolved("c", x, cache)
        values = by_head(inner, spec.n_ssm_heads)
        copies = spec.n_ssm_heads // spec.n_groups
        b, c = (precise(by_head(each, spec.n_groups)).repeat_interleave(copies, 2) for each in (b, c))
        with self.operation("z_proj"):
            z = self.z_proj(x)
        with self.operation("dt_proj"):
            dt = self.dt_proj(low)
        with self.operation("dt"):
            dt = functional.softplus(precise(dt + self.dt))
        with self.operation("decay"):
            log_decay = -torch.exp(precise(self.decay)) * dt
        with self.operation("x_dt"):
            driven = values * dt[..., None]
        state = before(cache, "ssm")
        if state is None:
            state = initial(driven, x.shape[0], spec.n_ssm_heads, spec.ssm_head_dim, spec.d_state)
        form = self.step if stepping(cache, x.shape[1]) else self.chunks
        y, state = form(driven, log_decay, b, c, state)
        with self.operation("skip"):
            y = (y + values * self.skip[:, None]).flatten(2).to(x.dtype)
        with self.operation("gate"):
            y = y * functional.silu(z)
        if spec.gated_norm:
            with self.operation("norm"):
                y = self.norm(y)
        keep(cache, x.shape[1], ssm=state)
        with self.operation("out_proj"):
            return self.out_proj(y)

    def selected(self, inner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the low-rank time step, B and C of the convolved input, each normalised (``Plamo2MambaMixer``)."""
        made = []
        for name, norm in (("dt_low", "dt_norm"), ("b_proj", "b_norm"), ("c_proj", "c_norm")):
            with self.operation(name):
                value = getattr(self, name)(inner)
            with self.operation(norm):
                made.append(getattr(self, norm)(value))
        low, b, c = made
        return low, b, c

    def convolved(self, name: str, x: Tensor, cache: Cache | None) -> Tensor:
        """Project to x, B or C, convolve, activate."""
        with self.operation(f"{name}_proj"):
            entry = getattr(self, f"{name}_proj")(x)
        with self.operation(f"conv_{name}"):
            y = getattr(self, f"conv_{name}")(entry, before(cache, f"conv_{name}_past"))
        remember(cache, f"conv_{name}_past", entry, self.spec.conv_kernel)
        with self.operation(f"conv_{name}_act"):
            return functional.silu(y)

    def chunks(self, x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the recurrence Q positions at a time (listing 1)."""
        tokens, size = x.shape[1], self.spec.chunk_size
        self.mark(tokens, size, x.device)
        x, log_decay, b, c = (in_chunks(each, size) for each in (x, log_decay, b, c))
        total = log_decay.cumsum(-1)  # [b, chunks, h, Q]
        with self.operation("scores"):
            scores = c @ b.transpose(-1, -2)
        with self.operation("decay_mask"):
            between = (total[..., :, None] - total[..., None, :]).masked_fill(later_than(size, x.device), -torch.inf)
            scores = scores * between.exp()
        with self.operation("local"):
            local = scores @ x
        with self.operation("decayed_b"):
            b = b * (total[..., -1:] - total).exp()[..., None]
        with self.operation("write"):
            written = b.transpose(-1, -2) @ x  # [b, chunks, h, N, P]
        with self.operation("pass"):
            # the initial state and every chunk's, each decayed by what lies between it and the chunk that it reaches
            written = torch.cat([state.transpose(-1, -2)[:, None], written], dim=1).transpose(1, 2)
            ends = functional.pad(total[..., -1].transpose(1, 2), (1, 0)).cumsum(-1)
            apart = ends[..., :, None] - ends[..., None, :]
            reach = apart.masked_fill(later_than(ends.shape[-1], x.device), -torch.inf).exp()
            states = (reach @ written.flatten(-2)).reshape(written.shape).transpose(1, 2)
        with self.operation("read"):
            earlier = c @ states[:, :-1]
        with self.operation("combine"):
            y = local + earlier * total.exp()[..., None]
        return out_of_chunks(y, tokens), states[:, -1].transpose(-1, -2)

    def mark(self, tokens: int, size: int, device: torch.device) -> None:
        """Tell which pairs and positions count; of the product that passes the states, what a scan would do."""
        self.applies(pairs_in(tokens, size, device), "scores", "decay_mask", "local")
        self.applies(positions_in(tokens, size, device), "decayed_b", "write", "read", "combine")
        chunks = -(-tokens // size) + 1
        self.applies(torch.diag(torch.ones(chunks - 1, dtype=torch.bool, device=device), -1), "pass")

    def step(self, x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the recurrence for one position."""
        with self.operation("step_write"):
            state = state * log_decay[:, 0].exp()[..., None, None] + x[:, 0, :, :, None] * b[:, 0, :, None]
        with self.operation("step_read"):
            return (state @ c[:, 0, :, :, None])[..., 0][:, None], state
