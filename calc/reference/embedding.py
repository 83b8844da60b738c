"""Token embeddings and what is added to them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.embedding import Embedding
from calc.errors import SpecError
from calc.reference.base import Tensors, Twin
from calc.reference.norms import norm


class EmbeddingTwin(Twin):
    """Vectors of tokens, positions and token types, added up: ``BertEmbeddings``, ``OPTDecoder`` of transformers.

    Codebooks side by side: ``MusicgenDecoder``; frames in place of tokens: ``WhisperEncoder``. Vaswani et al. 2017,
    arXiv:1706.03762 §3.4 and §3.5; Radford et al. 2022, arXiv:2212.04356 §2.2.
    """

    def __init__(self, spec: Embedding, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        width = spec.d_embedding or d_model
        inner = width if spec.project_last else d_model
        rows = spec.max_positions or 0
        if spec.n_mels:
            self.conv1 = nn.Conv1d(spec.n_mels, d_model, spec.conv_kernel, padding=spec.conv_kernel // 2)
            self.conv2 = nn.Conv1d(
                d_model, d_model, spec.conv_kernel, stride=spec.frames_per_position, padding=spec.conv_kernel // 2
            )
        elif not spec.shared:
            books = (spec.n_codebooks,) if spec.n_codebooks else ()
            self.tokens = Tensors(weight=(*books, spec.n_rows or vocab_size, width))
        if spec.n_pronunciations and spec.n_shapes and spec.d_pronunciation and spec.d_shape:
            self.pronunciation = nn.Embedding(spec.n_pronunciations, spec.d_pronunciation)
            self.shape = nn.Embedding(spec.n_shapes, spec.d_shape)
            self.map_tokens = nn.Linear(d_model, d_model)
            self.map_pronunciation = nn.Linear(spec.d_pronunciation, d_model, bias=False)
            self.map_shape = nn.Linear(spec.d_shape, d_model, bias=False)
        if spec.d_embedding:
            self.project_in = nn.Linear(width, d_model, bias=spec.projection_bias)
        if spec.positions != "none" and rows:
            self.positions = nn.Embedding(rows, inner)
        if spec.n_token_types:
            self.token_types = nn.Embedding(spec.n_token_types, inner)
        if spec.norm:
            self.norm = norm(spec.norm, inner)
        if spec.rotary_dim:
            self.rotary_angles = nn.Embedding(rows, spec.rotary_dim)

    @property
    def table(self) -> nn.Parameter:
        """The vocabulary's table, its own or the other side's."""
        table = self.borrowed["tokens"] if self.spec.shared else self.tokens.weight
        if not isinstance(table, nn.Parameter):
            raise SpecError("a shared embedding has borrowed no table")
        return table

    def embed(self, tokens: Tensor, past: int = 0) -> Tensor:
        """Return vectors [b, t, d] of token ids [b, t], or of frames [b, t·f, mels], after ``past`` positions."""
        spec = self.spec
        x = self._frames(tokens) if spec.n_mels else self._tokens(tokens)
        if spec.n_pronunciations:
            x = self._mapped(x, tokens)
        positions = torch.arange(past, past + x.shape[1], device=x.device)
        if spec.d_embedding and not spec.project_last:
            x = self._projected(x)
        if spec.scaled:
            with self.operation("scale"):
                x = x * x.shape[-1] ** 0.5
        if spec.positions != "none":
            x = self._positioned(x, positions)
        if spec.n_token_types:
            with self.operation("token_types"):
                types = self.token_types(torch.zeros(x.shape[:2], dtype=torch.long, device=x.device))
            with self.operation("add_token_types"):
                x = x + types
        if spec.norm:
            with self.operation("norm"):
                x = self.norm(x)
        if spec.d_embedding and spec.project_last:
            x = self._projected(x)
        if spec.rotary_dim:
            with self.operation("rotary_angles"):
                self.rotary_angles(positions)
        return x

    def _tokens(self, tokens: Tensor) -> Tensor:
        """Look tokens up, in every codebook's table where there are several: each book has another token."""
        table = self.table
        with self.operation("tokens"):
            if not self.spec.n_codebooks:
                return F.embedding(tokens % table.shape[0], table)
            found = [F.embedding((tokens + book) % table.shape[1], rows) for book, rows in enumerate(table)]
        with self.operation("sum_codebooks"):
            return torch.stack(found, 2).sum(2)

    def _mapped(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Add what tokens, pronunciations and shapes map to (``map_inputs_layer`` of ``RoCBertEmbeddings``)."""
        with self.operation("pronunciation"):
            sound = self.pronunciation(tokens % self.pronunciation.num_embeddings)
        with self.operation("shape"):
            shape = self.shape(tokens % self.shape.num_embeddings)
        with self.operation("map_tokens"):
            x = self.map_tokens(x)
        with self.operation("map_pronunciation"):
            sound = self.map_pronunciation(sound)
        with self.operation("map_shape"):
            shape = self.map_shape(shape)
        with self.operation("mapped"):
            return x + sound + shape

    def _frames(self, frames: Tensor) -> Tensor:
        """Turn a spectrogram [b, t·f, mels] into vectors [b, t, d] by two convolutions."""
        with self.operation("conv1"):
            x = self.conv1(frames.transpose(1, 2))
        with self.operation("gelu1"):
            x = F.gelu(x)
        with self.operation("conv2"):
            x = self.conv2(x)
        with self.operation("gelu2"):
            return F.gelu(x).transpose(1, 2).contiguous()

    def _projected(self, x: Tensor) -> Tensor:
        with self.operation("project_in"):
            projected: Tensor = self.project_in(x)
        return projected

    def _positioned(self, x: Tensor, positions: Tensor) -> Tensor:
        if self.spec.max_positions:
            with self.operation("positions"):
                vectors = self.positions(positions)
        else:
            vectors = sinusoids(positions, x.shape[-1]).to(x.dtype)
        with self.operation("add_positions"):
            return x + vectors


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Return sin and cos of position / 10000^(2i / width), side by side. Vaswani et al. 2017 §3.5."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width))
    angles = positions.float()[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[:, :width]
