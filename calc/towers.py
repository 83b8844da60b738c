"""A tower as a model of its own: ``gemma-3-4b:image``, or with the size of an image, ``qwen2.5-vl-7b:image@1024x768``.

Whatever is asked of a model can be asked of it: its table, its formulas, its time on an accelerator, the proof.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from calc.attention.gqa import GQA
from calc.errors import SpecError
from calc.grid_masks import Windows
from calc.modality.tower import Encoding, Tower
from calc.model import Layer, Model, Stack
from calc.records import replace

NAMED: Final = re.compile(r"(?P<model>.+):(?P<modality>image|audio)(?:@(?P<width>\d{1,5})x(?P<height>\d{1,5}))?")
"""A model, one of its towers, the size of an image in pixels."""


def alone(model: Model, modality: str, size: tuple[int, int] | None = None) -> Model:
    """Return a tower as a model; its longest context is what one image (or a tile of it, or a chunk of sound) takes.

    Raises:
        SpecError: there is no such tower, or it cuts images into windows and nobody says how large the image is.
    """
    tower = next((tower for tower in model.tower if tower.modality == modality), None)
    name = f"{model.name}:{modality}" + (f"@{size[0]}x{size[1]}" if size else "")
    if tower is None:
        raise SpecError(f"{model.name} has no tower of {modality}")
    if modality == "audio" and size:
        raise SpecError(f"{name}: sound has no width and height")
    one = _one(tower, size)
    if one is None:
        raise SpecError(f"{name}: the grid of an image decides what it costs; write {name}@1024x768")
    return replace(as_model(model, tower, one), name=name)


def as_model(model: Model, tower: Tower, one: Encoding | None) -> Model:
    """Return a tower as a model that reads inputs of one size; without a size, for what no input decides."""
    return Model(
        name=f"{model.name}:{tower.modality}",
        title=f"{model.heading}, {tower.modality} tower",
        source=tower.source or model.source,
        d_model=tower.d_model,
        vocab_size=0,
        max_context=one.positions if one else None,
        weights_dtype=model.weights_dtype if model.weights_dtype in ("bf16", "fp16", "fp32") else "bf16",
        embedding=tower.embedding,
        patches=tower.patches,
        stack=_in_a_grid(tower, one.width if one else None),
        final_norm=tower.final_norm,
        head=None,
        pooler=tower.pooler,
        attention_pool=tower.attention_pool,
        projector=tower.projector,
    )


def _one(tower: Tower, size: tuple[int, int] | None) -> Encoding | None:
    """Return what becomes of one input; None where that takes an image's size."""
    if tower.sound:
        return tower.audio(Fraction(tower.sound.chunk_seconds))
    if size:
        if 0 in size:
            raise SpecError(f"an image of {size[0]}x{size[1]} pixels has none")
        return tower.image(size[1], size[0])
    if getattr(tower.resize, "image_size", None):
        return tower.image(1, 1)  # tiles all have the same size
    return None


def _in_a_grid(tower: Tower, width: int | None) -> tuple[Stack, ...]:
    """Return the tower's stacks, with masks of square windows told how wide the grid is."""

    def told(layer: Layer) -> Layer:
        mixer = layer.attention
        if not (isinstance(mixer, GQA) and isinstance(mixer.mask, Windows)):
            return layer
        return replace(layer, attention=replace(mixer, mask=replace(mixer.mask, grid_width=width)))

    return tuple(replace(stack, layer=tuple(map(told, stack.layer))) for stack in tower.stack)
