"""The position-wise feed-forward network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.ffn.dense import DenseFFN
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.norms import RMSNorm


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _identity(x: Tensor) -> Tensor:
    return x


def _xielu(x: Tensor) -> Tensor:
    # Huang & Schlag 2024, arXiv:2411.13010, at the initial values of what it learns
    return 0.5 * x + torch.where(x > 0, 0.8 * x * x, 0.8 * (torch.expm1(x.clamp(max=-1e-6)) - x))


def _situ(x: Tensor) -> Tensor:
    # SituAndMul in modeling_kimi_linear.py of moonshotai/Kimi-K3, at its activation_situ_beta
    return (4.0 * torch.tanh(x / 4.0)) * torch.sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "relu": F.relu,
    "relu2": _relu2,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "quick_gelu": _quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "xielu": _xielu,
    "situ": _situ,
}


class DenseTwin(Twin):
    """σ(x W_up) W_down (``GPT2MLP``), or (σ(x W_gate) ⊙ x W_up) W_down (``LlamaMLP`` of transformers).

    ``TelechatMLP`` of Tele-AI/Telechat has a bias in W_down alone.

    Vaswani et al. 2017, arXiv:1706.03762 §3.3; Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, spec: DenseFFN, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.up_proj = nn.Linear(d_model, spec.d_ff, bias=spec.bias)
        self.down_proj = nn.Linear(spec.d_ff, d_model, bias=spec.bias if spec.down_bias is None else spec.down_bias)
        if spec.gated:
            self.gate_proj = nn.Linear(d_model, spec.d_ff, bias=spec.bias)
        if spec.n_scalars:
            self.activation = Tensors(scalars=(spec.n_scalars,))
        if spec.inner_norm:
            self.inner_norm = RMSNorm(spec.d_ff)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Transform each position."""
        gate = None
        if self.spec.gated:
            with self.operation("gate_proj"):
                gate = self.gate_proj(x)
        with self.operation("up_proj"):
            inner = self.up_proj(x)
        with self.operation("activation"):
            active = ACTIVATIONS[self.spec.activation](inner if gate is None else gate)
        if gate is not None:
            with self.operation("gated"):
                active = active * inner
        if self.spec.inner_norm:
            with self.operation("inner_norm"):
                active = self.inner_norm(active)
        with self.operation("down_proj"):
            return self.down_proj(active)
