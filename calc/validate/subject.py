"""A twin ready to run: its tables, its inputs, one call for a pass of a mechanism or of a whole model."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import torch
from torch import Tensor, nn

from calc import reference
from calc.modality.patches import Patches
from calc.modality.tower import Tower
from calc.model import Block, Model
from calc.reference.base import Cache, Key, Twin
from calc.reference.model import ModelCache, ModelTwin
from calc.reference.tower import TowerTwin
from calc.validate.keeping import SavedCounter
from calc.validate.samples import Sample


class Subject:
    """What is proven: a sample's tables, its twin, and inputs for all positions of its passes."""

    def __init__(self, sample: Sample, device: str) -> None:
        self.sample = sample
        self.blocks: list[Block] = sample.blocks()
        self.trained: list[Block] = self.blocks + sample.further()
        # made where it runs: moving a module may part a borrowed table from its owner
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            self.twin = self._build()
            self.inputs, self.source = self._draw()

    def _build(self) -> nn.Module:
        raise NotImplementedError

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def run(self, start: int, stop: int, cache: Cache | ModelCache | None = None) -> list[Tensor]:
        """Pass positions ``start`` to ``stop`` through the twin; returns its outputs."""
        raise NotImplementedError

    def cache(self) -> Cache | ModelCache:
        """Return an empty cache."""
        raise NotImplementedError

    def convert(self, dtype: torch.dtype) -> None:
        """Let the twin and its inputs have another number format."""
        self.twin.to(dtype)

    def twins(self) -> list[Twin]:
        """Return every twin inside."""
        return [module for module in self.twin.modules() if isinstance(module, Twin)]

    def applied(self) -> dict[Key, Tensor]:
        """Return the booleans that the last pass applied, by operation."""
        return {(twin.path, name): mask for twin in self.twins() for name, mask in twin.applied.items()}

    def saves(self) -> Counter[Key]:
        """Return the bytes that a pass over the whole context saves for the backward pass, by operation."""
        with SavedCounter(self.twin, (self.inputs, self.source)) as counter:
            self.run(0, self.sample.context)
        return counter.bytes


class MechanismSubject(Subject):
    """One mechanism between hidden states."""

    def _build(self) -> nn.Module:
        sample = self.sample
        twin = reference.build(sample.spec, sample.d_model, sample.vocab_size)
        twin.path = self.blocks[0].path
        return twin

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        sample = self.sample
        positions = sample.context + sample.steps
        width = getattr(sample.spec, "d_source", None) or sample.d_model
        self.tokens = torch.randint(sample.vocab_size, (sample.batch, positions))
        inputs = torch.randn(sample.batch, positions, sample.d_model)
        source = torch.randn(sample.batch, sample.source, width)
        return inputs.requires_grad_(), source.requires_grad_()

    def run(self, start: int, stop: int, cache: Cache | ModelCache | None = None) -> list[Tensor]:
        """Pass hidden states."""
        span = slice(start, stop)
        source = None if start else self.source
        return [self.twin(self.inputs[:, span], cache, source=source, tokens=self.tokens[:, span])]

    def cache(self) -> Cache:
        """Return an empty cache."""
        return Cache()

    def saves(self) -> Counter[Key]:
        """Run on hidden states that lie one after the other: of a cut view, each product would keep a copy."""
        drawn = self.inputs
        self.inputs = drawn[:, : self.sample.context].detach().contiguous().requires_grad_()
        found = super().saves()
        self.inputs = drawn
        return found

    def convert(self, dtype: torch.dtype) -> None:
        """Convert the weights, the hidden states and the source."""
        super().convert(dtype)
        self.inputs = self.inputs.to(dtype)
        self.source = None if self.source is None else self.source.to(dtype)


class ModelSubject(Subject):
    """A whole model, from token ids to logits."""

    @property
    def spec(self) -> Model:
        """The model."""
        assert isinstance(self.sample.spec, Model)
        return self.sample.spec

    def _build(self) -> nn.Module:
        return ModelTwin(self.spec)

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        sample, spec = self.sample, self.spec
        if spec.patches:
            return images(spec.patches, sample.batch, 1, sample.context - (spec.patches.n_prefix or 0)), None
        if spec.embedding.n_mels:
            frames = sample.context * spec.embedding.frames_per_position
            return torch.randn(sample.batch, frames, spec.embedding.n_mels).requires_grad_(), None
        inputs = torch.randint(spec.vocab_size, (sample.batch, sample.context + sample.steps))
        if spec.encoder is not None and spec.encoder.embedding.n_mels:
            frames = sample.source * spec.encoder.embedding.frames_per_position
            return inputs, torch.randn(sample.batch, frames, spec.encoder.embedding.n_mels).requires_grad_()
        if spec.encoder is not None:
            return inputs, torch.randint(spec.vocab_size, (sample.batch, sample.source))
        if not spec.outside_source:
            return inputs, None
        widths = {getattr(layer.cross, "d_source", None) or spec.d_model for layer in spec.layers() if layer.cross}
        return inputs, torch.randn(sample.batch, sample.source, widths.pop()).requires_grad_()

    def run(self, start: int, stop: int, cache: Cache | ModelCache | None = None) -> list[Tensor]:
        """Pass token ids, or a whole image."""
        inputs = self.inputs[:, start:stop] if self.spec.vocab_size else self.inputs
        outputs: list[Tensor] = self.twin(inputs, cache, None if start else self.source)
        return outputs

    def cache(self) -> ModelCache:
        """Return an empty cache."""
        return ModelCache()

    def convert(self, dtype: torch.dtype) -> None:
        """Convert the weights, and states of another model."""
        super().convert(dtype)
        if self.source is not None and self.source.is_floating_point():
            self.source = self.source.to(dtype)


class TowerSubject(Subject):
    """A tower, from pixels or frames to tokens."""

    @property
    def spec(self) -> Tower:
        """The tower."""
        assert isinstance(self.sample.spec, Tower)
        return self.sample.spec

    def _build(self) -> nn.Module:
        return TowerTwin(self.spec, self.sample.width)

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        sample, spec = self.sample, self.spec
        if spec.patches:
            assert sample.width
            patches = sample.context - (spec.patches.n_prefix or 0)
            return images(spec.patches, sample.batch, patches // sample.width, sample.width), None
        frames = sample.context * spec.embedding.frames_per_position
        return torch.randn(sample.batch, frames, spec.embedding.n_mels or 1).requires_grad_(), None

    def run(self, start: int, stop: int, cache: Cache | ModelCache | None = None) -> list[Tensor]:
        """Pass whole images, or all frames: there are no steps."""
        outputs: list[Tensor] = self.twin(self.inputs)
        return outputs


def images(patches: Patches, batch: int, rows: int, columns: int) -> Tensor:
    """Draw images of so many patches."""
    sides = (rows * patches.patch_size, columns * patches.patch_size)
    frames = (patches.frames_per_patch,) if patches.frames_per_patch else ()
    return torch.randn(batch, patches.n_channels, *frames, *sides).requires_grad_()


def subject(sample: Sample, device: str = "cpu") -> Subject:
    """Return the twin of a sample, ready to run."""
    if isinstance(sample.spec, Tower):
        return TowerSubject(sample, device)
    return ModelSubject(sample, device) if isinstance(sample.spec, Model) else MechanismSubject(sample, device)


def held(subject: Subject, cache: Cache | ModelCache) -> Counter[Key]:
    """Return the bytes of what a cache really holds, by (path of the table, state)."""
    found: Counter[Key] = Counter()
    if isinstance(cache, Cache):
        for name, size in cache.bytes().items():
            found[subject.blocks[0].path, name] += size
        return found
    assert isinstance(subject.twin, ModelTwin)
    for index, part, each in chain.from_iterable(
        ((index, part, each) for part, each in caches.items()) for index, caches in cache.layers.items()
    ):
        twin = subject.twin.decoder.layers[index].get_submodule(part)
        assert isinstance(twin, Twin)
        for name, size in each.bytes().items():
            found[twin.path, name] += size
    return found
