"""RWKV's channel mixing."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.ffn.channel_mix import ChannelMix
from calc.reference.base import Cache, Twin


class ChannelMixTwin(Twin):
    """σ(r W_r) ⊙ (max(k W_k, 0)² W_v) of a token mixed with the one before: ``RwkvFeedForward`` of transformers.

    Without the gate: ``RWKV7FeedForward`` of flash-linear-attention. Peng et al. 2023, arXiv:2305.13048 §3.1.
    """

    def __init__(self, spec: ChannelMix, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.k_mix = nn.Parameter(torch.rand(d_model))
        if spec.gated:
            self.r_mix = nn.Parameter(torch.rand(d_model))
            self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, spec.d_ff, bias=False)
        self.value = nn.Linear(spec.d_ff, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Transform each position, which also sees the one before it."""
        last = cache.tensors.get("shift") if cache else None
        last = torch.zeros_like(x[:, 0]) if last is None else last
        before = torch.cat((last[:, None], x[:, :-1]), 1)
        if cache:
            cache.put("shift", x[:, -1])
            cache.positions += x.shape[1]
        with self.operation("k_mix"):
            k = x * self.k_mix + before * (1 - self.k_mix)
        with self.operation("key"):
            k = self.key(k)
        with self.operation("activation"):
            k = F.relu(k).square()
        with self.operation("value"):
            value: Tensor = self.value(k)
        if not self.spec.gated:
            return value
        with self.operation("r_mix"):
            r = x * self.r_mix + before * (1 - self.r_mix)
        with self.operation("receptance"):
            r = self.receptance(r)
        with self.operation("gate"):
            return r.sigmoid() * value
