"""Kimi delta attention from its paper: Kimi Team 2025, arXiv:2510.26692, §3 (equations 1 and 6 to 9)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calc.attention.kda import KimiDelta
from calc.reference.base import Cache
from calc.reference.delta import DeltaTwin
from calc.reference.recurrence import CausalConv, RMSNorm, by_head, precise


class KimiDeltaTwin(DeltaTwin):
    """The delta rule with a decay for each channel of the key, made by a low-rank projection or a full one."""

    def __init__(self, spec: KimiDelta, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        inner = spec.n_heads * spec.head_dim
        self.spec, self.chunk_size, self.conv_kernel = spec, spec.chunk_size, spec.conv_kernel
        self.q_proj = nn.Linear(d_model, inner, bias=False)
        self.k_proj = nn.Linear(d_model, inner, bias=False)
        self.v_proj = nn.Linear(d_model, inner, bias=False)
        self.conv_q = CausalConv(inner, spec.conv_kernel, bias=False)
        self.conv_k = CausalConv(inner, spec.conv_kernel, bias=False)
        self.conv_v = CausalConv(inner, spec.conv_kernel, bias=False)
        self.b_proj = nn.Linear(d_model, spec.n_heads, bias=False)
        self.dt, self.decay = nn.Parameter(torch.rand(inner)), nn.Parameter(torch.rand(spec.n_heads))
        for name in ("f", "g"):
            if spec.gate_rank is None or (name == "g" and spec.full_output_gate):
                self.add_module(f"{name}_proj", nn.Linear(d_model, inner, bias=False))
            else:
                self.add_module(f"{name}_a_proj", nn.Linear(d_model, spec.gate_rank, bias=False))
                self.add_module(f"{name}_b_proj", nn.Linear(spec.gate_rank, inner, bias=False))
        self.norm = RMSNorm(spec.head_dim)
        self.o_proj = nn.Linear(inner, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Mix x [b, t, d]."""
        heads = self.spec.n_heads
        q, k, v = (by_head(self.convolved(name, x, cache), heads) for name in ("q", "k", "v"))
        with self.operation("b_proj"):
            b = self.b_proj(x)
        with self.operation("beta"):
            beta = b.sigmoid()
        rate = self.mapped("f", x)
        with self.operation("dt"):
            dt = functional.softplus(precise(rate) + self.dt)
        with self.operation("decay"):
            log_decay = -torch.exp(precise(self.decay))[:, None] * by_head(dt, heads)
        y, _ = self.mix(q, k, v, log_decay, beta[..., None], cache)
        gate = self.mapped("g", x)
        with self.operation("norm"):
            y = self.norm(y)
        with self.operation("gate"):
            y = y.flatten(2) * gate.sigmoid()
        with self.operation("o_proj"):
            return self.o_proj(y)

    def mapped(self, name: str, x: Tensor) -> Tensor:
        """Map the input to a gate, through a narrow layer where there is one."""
        for step in (f"{name}_proj",) if hasattr(self, f"{name}_proj") else (f"{name}_a_proj", f"{name}_b_proj"):
            with self.operation(step):
                x = getattr(self, step)(x)
        return x
