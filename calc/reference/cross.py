"""Cross-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calc.attention.cross import CrossAttention
from calc.errors import SpecError
from calc.reference.base import Cache, Twin
from calc.reference.norms import RMSNorm

CAP = 50.0


class CrossTwin(Twin):
    """Queries of the decoder over keys and values of the encoder, which are made once and then kept.

    Vaswani et al. 2017, arXiv:1706.03762 §3.2.3; ``BartAttention`` of transformers with ``key_value_states``;
    squashed scores: its ``T5GemmaCrossAttention``.
    """

    def __init__(self, spec: CrossAttention, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        k_bias = spec.qkv_bias if spec.k_bias is None else spec.k_bias
        self.q_proj = nn.Linear(d_model, spec.n_heads * spec.head_dim, bias=spec.qkv_bias)
        width = spec.d_source or d_model
        self.k_proj = nn.Linear(width, spec.n_kv_heads * spec.head_dim, bias=k_bias)
        self.v_proj = nn.Linear(width, spec.n_kv_heads * spec.head_dim, bias=spec.qkv_bias)
        self.o_proj = nn.Linear(spec.n_heads * spec.head_dim, d_model, bias=spec.o_bias)
        if spec.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(spec.head_dim), RMSNorm(spec.head_dim)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Attend to the source, or to what the cache keeps of it."""
        groups = (self.spec.n_kv_heads, -1)
        with self.operation("q_proj"):
            q = self.q_proj(x).unflatten(-1, (self.spec.n_heads, -1))
        if self.spec.qk_norm:
            with self.operation("q_norm"):
                q = self.q_norm(q)
        # [b, groups, heads of a group, t | m, width]
        q = q.transpose(1, 2).unflatten(1, groups)
        k, v = (each.transpose(1, 2)[:, :, None] for each in self._source(cache, source))
        with self.operation("scores"):
            scores = torch.matmul(q, k.transpose(3, 4)).flatten(1, 2)
        if self.spec.scaled:
            with self.operation("scale"):
                scores = scores * self.spec.head_dim**-0.5
        if self.spec.softcap:
            with self.operation("softcap"):
                scores = CAP * torch.tanh(scores / CAP)
        with self.operation("softmax"):
            weights = scores.softmax(-1, torch.float32).to(v.dtype)
        with self.operation("values"):
            mixed = torch.matmul(weights.unflatten(1, groups), v).flatten(1, 2)
        with self.operation("o_proj"):
            return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _source(self, cache: Cache | None, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the source's keys and values [b, m, heads, width]."""
        if cache and "k" in cache.tensors:
            return cache.tensors["k"], cache.tensors["v"]
        if source is None:
            raise SpecError("cross-attention needs a source, or a cache that has seen one")
        with self.operation("k_proj"):
            k = self.k_proj(source).unflatten(-1, (self.spec.n_kv_heads, -1))
        if self.spec.qk_norm:
            with self.operation("k_norm"):
                k = self.k_norm(k)
        with self.operation("v_proj"):
            v = self.v_proj(source).unflatten(-1, (self.spec.n_kv_heads, -1))
        if cache is not None:
            cache.put("k", k)
            cache.put("v", v)
        return k, v
