"""One rank's part of a decoder: its layers, and at the ends of the pipeline the embedding and the head."""

from __future__ import annotations

from torch import Tensor, nn

from calc.model import Model
from calc.reference.dense import DenseTwin
from calc.reference.gqa import GQATwin
from calc.reference.layer import LayerTwin
from calc.reference.mla import MLATwin
from calc.reference.model import ModelTwin
from calc.reference.moe import MoETwin
from calc.reference.ranks.attention import Exchange, RankGQA, RankMLA
from calc.reference.ranks.comm import World
from calc.reference.ranks.feedforward import Dispatch, RankDense, RankMoE
from calc.reference.ranks.parts import Held, Part, RankEmbedding, RankHead

EPS = 1e-6


class RankNorm(Part):
    """A root-mean-square norm with a learned scale, which every tensor-parallel rank has."""

    def __init__(self, world: World, scale: Tensor | nn.Module | None) -> None:
        super().__init__(world)
        self.scale = self.take("weight", scale, repeats=self.repeated)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the tokens that this rank has."""
        return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt() * self.scale


class RankLayer(Part):
    """x + attention(norm(x)), then x + network(norm(x))."""

    def __init__(self, world: World, twin: LayerTwin, dispatch: Dispatch, exchange: Exchange) -> None:
        super().__init__(world)
        attention, ffn = twin.get_submodule("attention"), twin.get_submodule("ffn")
        self.attention_norm = RankNorm(world, twin.get_submodule("attention_norm").weight)
        self.ffn_norm = RankNorm(world, twin.get_submodule("ffn_norm").weight)
        if isinstance(attention, MLATwin):
            self.attention: Part = RankMLA(world, attention, exchange)
        else:
            assert isinstance(attention, GQATwin)
            self.attention = RankGQA(world, attention, exchange)
        if isinstance(ffn, MoETwin):
            self.ffn: Part = RankMoE(world, ffn, dispatch)
        else:
            assert isinstance(ffn, DenseTwin)
            self.ffn = RankDense(world, ffn)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Pass the tokens that this rank has."""
        x = x + self.attention(self.attention_norm(x), positions)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class RankChunk(nn.Module):
    """A part of the stack, the first of which embeds and the last of which ends in the loss."""

    def __init__(
        self,
        world: World,
        twin: ModelTwin,
        layers: range,
        *,
        padded: int,
        dispatch: Dispatch = "all_to_all",
        exchange: Exchange = "ring",
    ) -> None:
        super().__init__()
        spec: Model = twin.spec
        side = twin.decoder
        self.world = world
        self.first, self.last = layers.start == 0, layers.stop == spec.n_layers
        table = side.table
        self.embedding = RankEmbedding(world, table, padded) if self.first else None
        twins = [each for each in side.layers if isinstance(each, LayerTwin)]
        self.layers = nn.ModuleList(RankLayer(world, twins[index], dispatch, exchange) for index in layers)
        self.final_norm = self.head = None
        if self.last:
            assert side.final_norm.final_norm is not None
            assert twin.head is not None
            assert spec.head is not None
            self.final_norm = RankNorm(world, side.final_norm.final_norm.weight)
            own = twin.head.lm_head.weight
            tied = spec.head.tied and self.first
            self.head = RankHead(world, table if own is None else own, padded, tied=tied)

    @property
    def table(self) -> Tensor:
        """The head's table: its own, or the embedding's."""
        owner = self.head if self.head is not None and self.head.held else self.embedding
        assert owner is not None
        return owner.get_parameter("weight")

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Pass token ids [b, t], or what the chunk before handed on."""
        if self.embedding is not None:
            x = self.embedding(x)
        for layer in self.layers:
            x = layer(x, positions)
        return x if self.final_norm is None else self.final_norm(x)

    def held(self) -> list[Held]:
        """Return this rank's parts of the twin's tensors."""
        return [each for part in self.modules() if isinstance(part, Part) for each in part.held]
