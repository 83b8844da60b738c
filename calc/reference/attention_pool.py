"""A learned query that attends over all positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calc.modality.attention_pool import AttentionPool
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.dense import ACTIVATIONS
from calc.reference.norms import norm


class AttentionPoolTwin(Twin):
    """One vector for an image, as ``SiglipMultiheadAttentionPoolingHead`` of transformers."""

    def __init__(self, spec: AttentionPool, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        width = spec.n_heads * spec.head_dim
        self.query = Tensors(weight=(d_model,))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d_model, width) for _ in range(3))
        self.o_proj = nn.Linear(width, d_model)
        if spec.norm:
            self.norm = norm(spec.norm, d_model)
        self.up_proj = nn.Linear(d_model, spec.d_ff)
        self.down_proj = nn.Linear(spec.d_ff, d_model)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Return [b, d] of positions [b, t, d]."""
        heads = (self.spec.n_heads, -1)
        with self.operation("query"):
            query = self.query.weight.repeat(x.shape[0], 1)
        with self.operation("q_proj"):
            q = self.q_proj(query).unflatten(-1, heads)
        with self.operation("k_proj"):
            k = self.k_proj(x).unflatten(-1, heads)
        with self.operation("v_proj"):
            v = self.v_proj(x).unflatten(-1, heads)
        with self.operation("scores"):
            scores = torch.matmul(q[:, :, None], k.permute(0, 2, 3, 1))
        with self.operation("scale"):
            scores = scores * self.spec.head_dim**-0.5
        with self.operation("softmax"):
            weights = scores.softmax(-1)
        with self.operation("values"):
            mixed = torch.matmul(weights, v.transpose(1, 2)).flatten(1)
        with self.operation("o_proj"):
            pooled: Tensor = self.o_proj(mixed)
        inner = pooled
        if self.spec.norm:
            with self.operation("norm"):
                inner = self.norm(pooled)
        with self.operation("up_proj"):
            inner = self.up_proj(inner)
        with self.operation("activation"):
            inner = ACTIVATIONS[self.spec.activation](inner)
        with self.operation("down_proj"):
            inner = self.down_proj(inner)
        with self.operation("pool_residual"):
            return pooled + inner
