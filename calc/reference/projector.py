"""The way out of a tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calc.modality.projector import Projector
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.dense import ACTIVATIONS
from calc.reference.norms import norm

OVER = (
    "norm",
    "pool",
    "pool_scale",
    "shift",
    "stretch",
    "up_proj",
    "mid_activation",
    "mid_proj",
    "out_activation",
    "out_proj",
)


class ProjectorTwin(Twin):
    """Patches put together and mapped by one map (``PaliGemmaMultiModalProjector``), or two (LLaVA), or three.

    Side by side: ``Qwen2_5_VLPatchMerger``, ``Qwen3VLVisionPatchMerger``, ``InternVLMultiModalProjector``, Llama 4's
    ``Llama4VisionPixelShuffleMLP``; averaged: ``Gemma3MultiModalProjector`` of transformers. Which patches are
    neighbours is a matter of order, which the caller sees to.
    """

    def __init__(self, spec: Projector, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        joined = d_model if spec.pooled else d_model * (spec.n_merged or 1)
        if spec.norm:
            self.norm = norm(spec.norm, {"patch": d_model, "token": joined, "result": spec.d_out}[spec.norm_over])
        if spec.standardised:
            self.shift, self.stretch = Tensors(weight=(d_model,)), Tensors(weight=(d_model,))
        if spec.d_ff:
            self.up_proj = nn.Linear(joined, spec.d_ff, bias=spec.bias)
        if spec.d_ff and spec.d_middle:
            self.mid_proj = nn.Linear(spec.d_ff, spec.d_middle, bias=spec.bias)
        self.out_proj = nn.Linear(spec.d_middle or spec.d_ff or joined, spec.d_out, bias=spec.bias)
        if spec.newline:
            self.newline = Tensors(weight=(spec.d_out,))

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Return tokens [b, t / merged, d_out] of positions [b, t, d]."""
        spec = self.spec
        self.applies(torch.ones(1, dtype=torch.bool), *OVER)
        if spec.norm and spec.norm_over == "patch":
            with self.operation("norm"):
                x = self.norm(x)
        x = x[:, spec.n_prefix or 0 :]
        if spec.pooled:
            with self.operation("pool"):
                x = x.unflatten(1, (-1, spec.n_merged or 1)).mean(2)
        elif spec.n_merged:
            x = x.reshape(x.shape[0], -1, spec.n_merged * x.shape[2])
        if spec.standardised:
            with self.operation("pool_scale"):
                x = x * x.shape[-1] ** 0.5
            with self.operation("shift"):
                x = x - self.shift.weight
            with self.operation("stretch"):
                x = x * self.stretch.weight
        if spec.norm and spec.norm_over == "token":
            with self.operation("norm"):
                x = self.norm(x)
        x = self._mapped(x)
        if spec.norm and spec.norm_over == "result":
            with self.operation("norm"):
                x = self.norm(x)
        if spec.newline:
            with self.operation("newline"):
                x = torch.cat((x, self.newline.weight.expand(x.shape[0], 1, -1)), 1)
        return x

    def _mapped(self, x: Tensor) -> Tensor:
        activate = ACTIVATIONS[self.spec.activation]
        if self.spec.d_ff:
            with self.operation("up_proj"):
                x = self.up_proj(x)
        if self.spec.d_middle and not self.spec.linear_first:
            with self.operation("mid_activation"):
                x = activate(x)
        if self.spec.d_middle:
            with self.operation("mid_proj"):
                x = self.mid_proj(x)
        if self.spec.d_ff:
            with self.operation("out_activation"):
                x = activate(x)
        with self.operation("out_proj"):
            return self.out_proj(x)


def projectors(specs: tuple[Projector, ...], d_model: int, prefix: str) -> nn.ModuleList:
    """Return all projectors of a tower; copies share a path, as equal rows of a listing do."""
    made = nn.ModuleList()
    for number, spec in enumerate(specs, start=1):
        for _ in range(spec.copies or 1):
            twin = ProjectorTwin(spec, d_model)
            twin.path = f"{prefix}projector{number if len(specs) > 1 else ''}"
            made.append(twin)
    return made
