"""Multi-head latent attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.attention.mla import MLA, LatentAttention
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.norms import RMSNorm
from calc.reference.rotary import rotate

LATENT_SCALE = 1.5


class MLATwin(Twin):
    """Multi-head latent attention, as ``DeepseekV3Attention`` of transformers writes it, in both of its forms.

    Naive: keys and values of every head are rebuilt from the latents. Absorbed: the map that rebuilds keys acts on the
    queries instead, and the one that rebuilds values on the weighted sum of the latents (``MLA.forward`` with
    ``attn_impl == "absorb"`` in DeepSeek-V3's inference code). DeepSeek-V2, arXiv:2405.04434 §2.1 and appendix C.
    Options: no query latent (V2-Lite), biases, no rotation (Kimi-Linear), scaled latents (LongCat-Flash), a gate on the
    result (Ling 3), sinks (Hunyuan 4), a norm over the shared key and windows (dots.note).
    """

    def __init__(self, spec: LatentAttention, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        heads, nope, rope = spec.n_heads, spec.qk_nope_head_dim, spec.qk_rope_head_dim
        latent, width = spec.kv_lora_rank, spec.v_head_dim
        if spec.q_lora_rank:
            self.q_a_proj = nn.Linear(d_model, spec.q_lora_rank, bias=spec.bias)
            self.q_a_norm = RMSNorm(spec.q_lora_rank)
        entry = spec.q_lora_rank or d_model
        self.q_nope = nn.Linear(entry, heads * nope, bias=False)
        self.q_rope = nn.Linear(entry, heads * rope, bias=False)
        self.kv_a_proj = nn.Linear(d_model, latent, bias=spec.bias)
        self.kv_a_norm = RMSNorm(latent)
        self.k_rope = nn.Linear(d_model, rope, bias=spec.bias)
        if spec.rope_norm:
            self.k_rope_norm = RMSNorm(rope)
        # one matrix a head: latent → key, latent → value
        up, down = Tensors(weight=(heads, latent, nope)), Tensors(weight=(heads, latent, width))
        if spec.form == "absorbed":
            self.q_absorbed, self.values = up, down
        else:
            self.k_b, self.v_b = up, down
        if spec.output_gate:
            self.gate_proj = nn.Linear(d_model, heads * (width if spec.output_gate == "element" else 1), bias=False)
        if spec.sinks:
            self.sinks = nn.Parameter(torch.randn(heads))
        self.o_proj = nn.Linear(heads * width, d_model, bias=spec.bias)

    @property
    def to_keys(self) -> Tensor:
        """Matrices [heads, latent, key]."""
        return (self.q_absorbed if self.spec.form == "absorbed" else self.k_b).weight

    @property
    def to_values(self) -> Tensor:
        """Matrices [heads, latent, value]."""
        return (self.values if self.spec.form == "absorbed" else self.v_b).weight

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Attend; with a cache that holds positions, over those that are visible."""
        past = cache.positions if cache else 0
        positions = torch.arange(past, past + x.shape[1], device=x.device)
        residual = self._query_latent(x)
        q_nope, q_rope = self._queries(residual, positions)
        latent, rope = self._latents(x, positions)
        if cache:
            latent, rope = (self._kept(cache, n, new) for n, new in (("latent", latent), ("rope", rope)))
        seen = self._seen(x, residual, positions, latent.shape[1], cache)
        if cache:
            cache.positions += x.shape[1]
        if past:
            # one query: only what it sees is computed, the same number of positions in every sequence
            index = seen[:, 0].nonzero()[:, 1].view(len(x), -1, 1)
            latent, rope = (each.gather(1, index.expand(-1, -1, each.shape[2])) for each in (latent, rope))
            seen = seen.new_ones(len(x), 1, index.shape[1])
        absorbed = self.spec.form == "absorbed" or (self.spec.form == "by_phase" and past > 0)
        mixed = (self._absorbed if absorbed else self._naive)(q_nope, q_rope, latent, rope, seen)
        return self._output(x, mixed)

    def _seen(self, x: Tensor, residual: Tensor, positions: Tensor, keys: int, cache: Cache | None) -> Tensor:
        """Return which positions each query sees, [b, t, s]."""
        every = torch.arange(int(positions[-1]) + 1 - keys, int(positions[-1]) + 1, device=x.device)
        seen = every <= positions[:, None]
        if self.window:
            seen = seen & (every > positions[:, None] - self.window)
        return seen.expand(len(x), -1, -1)

    @property
    def window(self) -> int | None:
        """Positions that a sliding window reaches."""
        return self.spec.window if isinstance(self.spec, MLA) else None

    def _kept(self, cache: Cache, name: str, new: Tensor) -> Tensor:
        """Return what was cached and what is new; cache what a later query may see."""
        joined = cache.joined(name, new)
        cache.put(name, joined[:, -self.window :] if self.window else joined)
        return joined

    def _query_latent(self, x: Tensor) -> Tensor:
        if not self.spec.q_lora_rank:
            return x
        with self.operation("q_a_proj"):
            x = self.q_a_proj(x)
        with self.operation("q_a_norm"):
            normed: Tensor = self.q_a_norm(x)
        return normed

    def _queries(self, residual: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both parts of the queries, [b, t, heads, width]."""
        heads = self.spec.n_heads
        with self.operation("q_nope"):
            nope = self.q_nope(residual).unflatten(-1, (heads, -1))
        with self.operation("q_rope"):
            rope = self.q_rope(residual).unflatten(-1, (heads, -1))
        if self.spec.latent_scaled:
            with self.operation("q_nope_scaled"):
                nope = nope * LATENT_SCALE
            with self.operation("q_rope_scaled"):
                rope = rope * LATENT_SCALE
        if self.spec.rotary:
            with self.operation("q_rotary"):
                rope = rotate(rope, positions, rope.shape[-1])
        return nope, rope

    def _latents(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent and the rotated key of each new position, [b, t, width]."""
        with self.operation("kv_a_proj"):
            latent = self.kv_a_proj(x)
        with self.operation("kv_a_norm"):
            latent = self.kv_a_norm(latent)
        with self.operation("k_rope"):
            rope = self.k_rope(x)
        if self.spec.rope_norm:
            with self.operation("k_rope_norm"):
                rope = self.k_rope_norm(rope)
        if self.spec.latent_scaled:
            with self.operation("kv_scaled"):
                latent = latent * LATENT_SCALE
        if self.spec.rotary:
            with self.operation("k_rotary"):
                rope = rotate(rope[:, :, None], positions, rope.shape[-1])[:, :, 0]
        return latent, rope

    def _naive(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, rope: Tensor, seen: Tensor) -> Tensor:
        """Rebuild keys and values of every head, then attend as usual."""
        self.applies(seen.new_ones(seen.shape[-1]), "k_b", "v_b")
        with self.operation("k_b"):
            keys = _of_heads(latent, self.to_keys)
        with self.operation("v_b"):
            values = _of_heads(latent, self.to_values)
        with self.operation("scores_rope"):
            turned = torch.matmul(q_rope.transpose(1, 2), rope[:, None].transpose(2, 3))
        with self.operation("scores"):
            scores = torch.matmul(q_nope.transpose(1, 2), keys.transpose(2, 3))
        weights = self._weights(turned, scores, seen)
        self.applies(seen[0], "values")
        with self.operation("values"):
            return torch.matmul(weights, values).transpose(1, 2)

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, rope: Tensor, seen: Tensor) -> Tensor:
        """Take queries to the latents' space, attend to the latents themselves, rebuild values from their sum."""
        with self.operation("q_absorbed"):
            taken = torch.matmul(q_nope.transpose(1, 2), self.to_keys.transpose(1, 2))
        with self.operation("scores_rope"):
            turned = torch.matmul(q_rope.transpose(1, 2), rope[:, None].transpose(2, 3))
        with self.operation("scores"):
            scores = torch.matmul(taken, latent[:, None].transpose(2, 3))
        weights = self._weights(turned, scores, seen)
        self.applies(seen[0], "context")
        with self.operation("context"):
            context = torch.matmul(weights, latent[:, None])
        with self.operation("values"):
            return torch.matmul(context, self.to_values).transpose(1, 2)

    def _weights(self, turned: Tensor, scores: Tensor, seen: Tensor) -> Tensor:
        """Add both parts of the scores [b, heads, t, s], scale, mask and normalise them."""
        self.applies(seen[0], "scores_rope", "scores", "scale", "softmax")
        with self.operation("scale"):
            scores = (turned + scores) * (self.spec.qk_nope_head_dim + self.spec.qk_rope_head_dim) ** -0.5
        seen, keys = seen[:, None], seen.shape[-1]
        if self.spec.sinks:
            with self.operation("sinks"):
                sink = self.sinks[None, :, None, None].expand(*scores.shape[:3], 1)
                scores = torch.cat((scores, sink.to(scores.dtype)), -1)
                seen = F.pad(seen, (0, 1), value=True)
            self.applies(seen[0, 0], "softmax")
        with self.operation("softmax"):
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1, torch.float32).to(scores.dtype)
        return weights[..., :keys]

    def _output(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Gate the results [b, t, heads, width] and project them back."""
        if self.spec.output_gate:
            with self.operation("gate_proj"):
                gates = self.gate_proj(x).unflatten(-1, (self.spec.n_heads, -1))
            with self.operation("gate_sigmoid"):
                gates = gates.sigmoid()
            with self.operation("gated"):
                mixed = mixed * gates
        with self.operation("o_proj"):
            projected: Tensor = self.o_proj(mixed.flatten(2))
        return projected


def _of_heads(latent: Tensor, maps: Tensor) -> Tensor:
    """Return [b, heads, s, width] of latents [b, s, c] and matrices [heads, c, width], as one linear layer."""
    heads, _, width = maps.shape
    made = F.linear(latent, maps.transpose(1, 2).flatten(0, 1))
    return made.unflatten(-1, (heads, width)).transpose(1, 2)
