"""A whole model: embedding, layers, final norm, head, and the encoder where there is one."""

from __future__ import annotations

from torch import Tensor, nn

from calc.model import Model
from calc.reference.attention_pool import AttentionPoolTwin
from calc.reference.head import HeadTwin, PoolerTwin
from calc.reference.layer import Caches
from calc.reference.mtp import MTPTwin
from calc.reference.projector import projectors
from calc.reference.side import SideTwin


class ModelCache:
    """What a model keeps between steps: the caches of every part of every layer."""

    def __init__(self) -> None:
        self.layers: dict[int, Caches] = {}
        self.positions = 0


class ModelTwin(nn.Module):
    """An architecture as a PyTorch module."""

    def __init__(self, spec: Model) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = (
            SideTwin(spec.encoder, spec.d_model, spec.vocab_size, "encoder.") if spec.encoder is not None else None
        )
        self.decoder = SideTwin(spec, spec.d_model, spec.vocab_size, "")
        self.head = HeadTwin(spec.head, spec.d_model, spec.vocab_size) if spec.head else None
        self.pooler = PoolerTwin(spec.pooler, spec.d_model) if spec.pooler else None
        if self.encoder and self.decoder.embedding and spec.embedding.shared:
            self.decoder.embedding.borrowed["tokens"] = self.encoder.table
        if spec.head and self.head:
            self.head.path = "head"
            if spec.head.tied:
                self.head.borrowed["tokens"] = self.decoder.table
        if self.pooler:
            self.pooler.path = "pooler"
        self.attention_pool = AttentionPoolTwin(spec.attention_pool, spec.d_model) if spec.attention_pool else None
        if self.attention_pool:
            self.attention_pool.path = "attention_pool"
        self.projectors = projectors(spec.projector, spec.d_model, "")
        self.mtp = self._further(spec) if spec.mtp else None

    def _further(self, spec: Model) -> MTPTwin:
        """Return the modules that predict further tokens, which use the model's tables."""
        assert spec.mtp is not None
        table = self.decoder.table
        own = self.head.lm_head.weight if self.head else None
        return MTPTwin(spec.mtp, spec.d_model, spec.vocab_size, table, table if own is None else own)

    def forward(self, tokens: Tensor, cache: ModelCache | None = None, source: Tensor | None = None) -> list[Tensor]:
        """Return logits [b, t, v] of token ids [b, t] (hidden states where there is no head), and the pooled vectors.

        Without a cache, the logits of further tokens too.

        ``source``: token ids [b, m] for the encoder, or another model's states [b, m, d]; read at the first call.
        """
        past = cache.positions if cache else 0
        states = None if past else source
        if self.encoder is not None and states is not None:
            states = self.encoder.run(states, None, 0, None)
        x = self.decoder.run(tokens, cache.layers if cache else None, past, states)
        if cache:
            cache.positions += tokens.shape[1]
        outputs = [x if self.head is None else self.head(x)]
        outputs += [] if self.pooler is None else [self.pooler(x)]
        outputs += [] if self.attention_pool is None else [self.attention_pool(x)]
        outputs += [projector(x) for projector in self.projectors]
        # predicting further is for training and drafting, and no part of a decode step
        return outputs if self.mtp is None or cache else [*outputs, *self.mtp(x, tokens)]
