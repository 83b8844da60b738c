"""The entry of an image: a convolution whose step is its size, learned vectors beside the patches, positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calc.modality.patches import Patches
from calc.reference.base import Tensors, Twin
from calc.reference.norms import norm


class PatchesTwin(Twin):
    """Vectors of the patches of an image, or of a clip of as many frames as a patch spans.

    ``ViTEmbeddings``, ``CLIPVisionEmbeddings`` with its norm, ``Qwen2_5_VisionPatchEmbed``, and the four weighted rows
    of ``Qwen3VLVisionModel`` of transformers. Dosovitskiy et al. 2020, arXiv:2010.11929 §3.1.
    """

    def __init__(self, spec: Patches, d_model: int) -> None:
        super().__init__()
        self.spec = spec
        size = spec.patch_size
        kernel = (spec.frames_per_patch, size, size) if spec.frames_per_patch else (size, size)
        convolution = nn.Conv3d if spec.frames_per_patch else nn.Conv2d
        self.patches = convolution(spec.n_channels, d_model, kernel, stride=kernel, bias=spec.bias)  # type: ignore[arg-type]
        if spec.n_prefix:
            self.prefix = Tensors(weight=(spec.n_prefix, d_model))
        if spec.max_positions and spec.positions == "axes":
            self.rows, self.columns = (nn.Embedding(spec.max_positions, d_model) for _ in range(2))
        elif spec.max_positions:
            self.positions = nn.Embedding(spec.max_positions, d_model)
        if spec.norm:
            self.norm = norm(spec.norm, d_model)

    def embed(self, images: Tensor, past: int = 0) -> Tensor:
        """Return vectors [b, t, d] of images [b, channels, (frames,) height, width]; a class token stands first."""
        if self.spec.n_prefix:
            self.applies(torch.ones(1, dtype=torch.bool), "patches")
        with self.operation("patches"):
            x: Tensor = self.patches(images).flatten(2).transpose(1, 2).contiguous()
        if self.spec.n_prefix:
            with self.operation("prefix"):
                x = torch.cat((self.prefix.weight.expand(x.shape[0], -1, -1), x), 1)
        if self.spec.max_positions:
            x = self._positioned(x)
        if self.spec.norm:
            with self.operation("norm"):
                x = self.norm(x)
        return x

    def _positioned(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        if self.spec.positions == "axes":
            # each image has a grid of its own; how wide it is does not matter to what its positions cost
            rows_of, columns_of = (places.expand(x.shape[0], -1) // 3, places.expand(x.shape[0], -1) % 3)
            with self.operation("rows"):
                rows = self.rows(rows_of)
            with self.operation("columns"):
                columns = self.columns(columns_of)
            with self.operation("add_positions"):
                return x + (rows + columns)
        if self.spec.positions == "learned":
            with self.operation("positions"):
                vectors = self.positions(places)
        else:
            # each image has a grid of its own; which four rows it lies between does not matter to what that costs
            near = (places[:, None] + torch.arange(4, device=x.device)) % self.positions.num_embeddings
            with self.operation("positions"):
                four = self.positions(near.expand(x.shape[0], -1, -1))
            with self.operation("interpolated"):
                vectors = (four * 0.25).sum(2)
        with self.operation("add_positions"):
            return x + vectors
