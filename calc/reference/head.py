"""The output projection to the vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.embedding import Head, Pooler
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.dense import ACTIVATIONS
from calc.reference.norms import norm

CAP = 30.0
SCALE = 0.0625


class VocabularyProjection(nn.Module):
    """x Wᵀ + b, whose matrix may be the embedding's table."""

    def __init__(self, width: int, rows: int, own: bool, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width) * width**-0.5) if own else None
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None

    def forward(self, x: Tensor, table: Tensor | None) -> Tensor:
        """Return logits, with the given table where there is none of its own."""
        weight = table if self.weight is None else self.weight
        assert weight is not None, "a tied head has borrowed no table"
        return F.linear(x, weight, self.bias)


class HeadTwin(Twin):
    """Logits of every position; with a transform before them, as ``BertLMPredictionHead`` of transformers."""

    def __init__(self, spec: Head, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        width = spec.d_embedding or d_model
        if spec.transform:
            self.transform = nn.Linear(d_model, width, bias=spec.transform_bias)
        if spec.transform_norm:
            self.norm = norm(spec.transform_norm, width if spec.transform else d_model)
        if spec.d_embedding and not spec.transform:
            self.project_out = nn.Linear(d_model, spec.d_embedding, bias=spec.projection_bias)
        rows = vocab_size * (spec.n_codebooks or 1)
        self.lm_head = VocabularyProjection(width, rows, not spec.tied, spec.bias)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Return logits [b, t, v], of all codebooks side by side."""
        if self.spec.transform:
            with self.operation("transform"):
                x = self.transform(x)
            with self.operation("activation"):
                x = ACTIVATIONS[self.spec.transform](x)
        if self.spec.transform_norm:
            with self.operation("norm"):
                x = self.norm(x)
        if self.spec.d_embedding and not self.spec.transform:
            with self.operation("project_out"):
                x = self.project_out(x)
        with self.operation("lm_head"):
            logits = self.lm_head(x, self.borrowed.get("tokens"))
        if self.spec.scaled:
            with self.operation("scale"):
                logits = logits * SCALE
        if self.spec.softcap:
            with self.operation("softcap"):
                logits = CAP * torch.tanh(logits / CAP)
        return torch.as_tensor(logits)


class PoolerTwin(Twin):
    """One vector for a sequence, of its first token: a square layer and tanh, a classifier, a joint space.

    ``BertPooler``, ``CLIPVisionModel`` with ``visual_projection``, the head of ``SiglipTextModel`` of transformers.
    """

    def __init__(self, spec: Pooler, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        if spec.norm:
            self.norm = norm(spec.norm, d_model)
        if spec.square:
            self.pooler = nn.Linear(d_model, d_model)
        if spec.n_labels:
            self.classifier = nn.Linear(d_model, spec.n_labels)
        if spec.d_projection:
            self.projection = nn.Linear(d_model, spec.d_projection, bias=spec.projection_bias)
        if spec.n_scalars:
            self.similarity = Tensors(weight=(spec.n_scalars,))

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Return one vector [b, d] for each sequence, its classes [b, n_labels], or its place in the joint space."""
        pooled = x[:, 0]
        if self.spec.norm:
            with self.operation("norm"):
                pooled = self.norm(pooled)
        if self.spec.square:
            with self.operation("pooler"):
                pooled = self.pooler(pooled)
            with self.operation("tanh"):
                pooled = torch.tanh(pooled)
        if self.spec.n_labels:
            with self.operation("classifier"):
                pooled = self.classifier(pooled)
        if self.spec.d_projection:
            with self.operation("projection"):
                pooled = self.projection(pooled)
            with self.operation("normalised"):
                pooled = pooled / pooled.square().sum(-1, keepdim=True).sqrt()
        return pooled
