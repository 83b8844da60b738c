"""One side of a model: embedding, stack of layers, final norm."""

from __future__ import annotations

from torch import Tensor, nn

from calc.hyper import HyperHead
from calc.layers import Side
from calc.modality.patches import Patches
from calc.model import Model
from calc.reference.base import Cache, Twin
from calc.reference.dsa import DSATwin
from calc.reference.embedding import EmbeddingTwin
from calc.reference.extras import Extras
from calc.reference.gqa import GQATwin
from calc.reference.hyper import HyperHeadTwin
from calc.reference.layer import Caches, LayerTwin
from calc.reference.norms import norm
from calc.reference.patches import PatchesTwin
from calc.reference.rwkv7 import RWKV7Twin, lend_values


class FinalNorm(Twin):
    """The norm after the last layer."""

    def __init__(self, side: Side, d_model: int) -> None:
        super().__init__()
        self.final_norm = norm(side.final_norm, d_model) if side.final_norm else None

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Normalise, where there is a norm."""
        if self.final_norm is None:
            return x
        with self.operation("final_norm"):
            normed: Tensor = self.final_norm(x)
        return normed


class SideTwin(nn.Module):
    """One side: embedding, stack of layers, final norm. Equal layers share a path, as equal rows of a listing do."""

    def __init__(self, side: Side, d_model: int, vocab_size: int, prefix: str) -> None:
        super().__init__()
        self.embedding = EmbeddingTwin(side.embedding, d_model, vocab_size) if side.patches is None else None
        self.patches = PatchesTwin(side.patches, d_model) if isinstance(side.patches, Patches) else None
        for name, entry in (("embedding", self.embedding), ("patches", self.patches)):
            if entry:
                entry.path = f"{prefix}{name}"
        layers = [layer for stack in side.stack for _ in range(stack.repeat) for layer in stack.layer]
        kinds = list(dict.fromkeys(layer for stack in side.stack for layer in stack.layer))
        paths = {kind: f"{prefix}layer{index if len(kinds) > 1 else ''}" for index, kind in enumerate(kinds, start=1)}
        self.layers = nn.ModuleList(LayerTwin(layer, d_model, vocab_size, paths[layer]) for layer in layers)
        streams = {layer.hyper.n_streams for layer in kinds if layer.hyper}
        self.n_streams = max(streams, default=0)
        self.hyper_head = HyperHeadTwin(HyperHead(n_streams=self.n_streams), d_model) if streams else None
        if self.hyper_head:
            self.hyper_head.path = f"{prefix}hyper_head"
        self.extras = Extras(side.extra if isinstance(side, Model) else (), d_model, "")
        self.final_norm = FinalNorm(side, d_model)
        self.final_norm.path = f"{prefix}final_norm"
        lend([module for module in self.layers.modules() if isinstance(module, GQATwin)])
        lend_values([module for module in self.layers.modules() if isinstance(module, RWKV7Twin)])
        lend_selections([module for module in self.layers.modules() if isinstance(module, DSATwin)])

    @property
    def table(self) -> nn.Parameter:
        """The vocabulary's table."""
        assert self.embedding is not None, "a side that reads images has no vocabulary"
        return self.embedding.table

    def run(self, tokens: Tensor, caches: dict[int, Caches] | None, past: int, source: Tensor | None) -> Tensor:
        """Return the last hidden states [b, t, d] of token ids [b, t], or of frames, or of images."""
        entry = self.patches or self.embedding
        assert entry is not None
        x = entry.embed(tokens, past)
        fed = self.extras.per_layer_table.vectors(x, tokens) if self.extras.per_layer_table else None
        if self.hyper_head:
            x = x[:, :, None].expand(-1, -1, self.n_streams, -1)
        if self.extras.altup_in:
            x = self.extras.altup_in.spread(x)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, LayerTwin)
            own = None if fed is None else fed[:, :, index % fed.shape[2]]
            x = layer.run(x, None if caches is None else caches.setdefault(index, {}), source, tokens, own)
        if self.hyper_head:
            x = self.hyper_head.leave(x)
        if self.extras.altup_out:
            x = self.extras.altup_out.mean(x)
        normed: Tensor = self.final_norm(x)
        return normed


def lend(twins: list[GQATwin]) -> None:
    """Let layers use what an earlier one owns: T5's table of relative positions, Gemma 3n's keys and values.

    Keys and values come from the last earlier layer that makes its own and has the same mask and heads.
    """
    tables = [twin.relative.weight for twin in twins if twin.spec.n_buckets]
    makers: dict[tuple[object, ...], GQATwin] = {}
    for twin in twins:
        spec = twin.spec
        if tables and spec.position_bias == "relative" and not spec.n_buckets:
            twin.borrowed["relative"] = tables[0]
        heads = (spec.mask, spec.n_kv_heads, spec.head_dim)
        if spec.shared_kv:
            object.__setattr__(twin, "lender", makers.get(heads))
        else:
            makers[heads] = twin


def lend_selections(twins: list[DSATwin]) -> None:
    """Let layers without an indexer attend to what the last earlier one with an indexer selected (GLM-5)."""
    lender: DSATwin | None = None
    for twin in twins:
        if twin.spec.shared_index:
            object.__setattr__(twin, "lender", lender)
        else:
            lender = twin
