"""A tower: the encoder of images or sound beside a language model, and what turns its output into tokens."""

from __future__ import annotations

from torch import Tensor, nn

from calc.attention.gqa import GQA
from calc.grid_masks import Windows
from calc.layers import Layer
from calc.modality.tower import Tower
from calc.records import replace
from calc.reference.attention_pool import AttentionPoolTwin
from calc.reference.head import PoolerTwin
from calc.reference.projector import projectors
from calc.reference.side import SideTwin


class TowerTwin(nn.Module):
    """An encoder with its projectors, over images whose rows hold ``width`` patches each."""

    def __init__(self, spec: Tower, width: int | None) -> None:
        super().__init__()
        self.spec = spec
        prefix, d_model = spec.modality, spec.d_model
        self.side = SideTwin(_in_a_grid(spec, width), d_model, 0, f"{prefix}.")
        self.pooler = PoolerTwin(spec.pooler, d_model) if spec.pooler else None
        self.attention_pool = AttentionPoolTwin(spec.attention_pool, d_model) if spec.attention_pool else None
        for name, twin in (("pooler", self.pooler), ("attention_pool", self.attention_pool)):
            if twin:
                twin.path = f"{prefix}.{name}"
        self.projectors = projectors(spec.projector, d_model, f"{prefix}.")

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the states [b, t, d] of images or of frames, and what each outlet makes of them."""
        states = self.side.run(inputs, None, 0, None)
        outlets = (self.pooler, self.attention_pool, *self.projectors)
        return [states, *(outlet(states) for outlet in outlets if outlet)]


def _in_a_grid(spec: Tower, width: int | None) -> Tower:
    """Tell masks of square windows how wide the grid is."""

    def told(layer: Layer) -> Layer:
        mixer = layer.attention
        if not (isinstance(mixer, GQA) and isinstance(mixer.mask, Windows)):
            return layer
        return replace(layer, attention=replace(mixer, mask=replace(mixer.mask, grid_width=width)))

    return replace(spec, stack=tuple(replace(stack, layer=tuple(map(told, stack.layer))) for stack in spec.stack))
