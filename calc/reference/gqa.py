"""Multi-head, grouped-query and multi-query attention."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.attention.gqa import GQA
from calc.errors import SpecError
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.masks import kept, visible
from calc.reference.norms import LayerNorm, RMSNorm
from calc.reference.rotary import rotate

SCORE_STEPS = ("scale", "softcap", "alibi", "relative", "softmax")
CAP = 50.0
VALUE_SCALE = 0.707

KeysValues: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Keys [b, s, heads, width], values, and the positions [s] where they stand."""


class GQATwin(Twin):
    """Softmax(q kᵀ / √d_h + positions) v with shared key-value heads, as ``LlamaAttention`` of transformers writes it.

    Options: biases (Qwen2, GPT-2), query-key norm per head (Qwen3, Command-R+) or over all heads (OLMo-2), partial
    rotation (GPT-NeoX), ALiBi (Press et al. 2021, arXiv:2108.12409), T5's relative buckets (arXiv:1910.10683 §2.1),
    softcap (Gemma 2, arXiv:2408.00118), sinks (gpt-oss), queries scaled by position (Llama 4), normed or scaled values,
    values from the key projection (Gemma 4), queries through a low rank (``Step3TextAttention`` of vLLM),
    keys and values of an earlier layer (Gemma 3n), a gate on the result
    (Qwen3-Next).
    """

    def __init__(self, spec: GQA, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.lender: GQATwin | None
        # not registered as a part of this twin
        object.__setattr__(self, "lender", None)
        self.made: KeysValues | None = None
        self.value_width = spec.v_head_dim or spec.head_dim
        heads = spec.n_heads
        if spec.q_lora_rank:
            self.q_a_proj = nn.Linear(d_model, spec.q_lora_rank, bias=False)
            self.q_a_norm = RMSNorm(spec.q_lora_rank)
        self.q_proj = nn.Linear(spec.q_lora_rank or d_model, heads * spec.head_dim, bias=spec.qkv_bias)
        self.o_proj = nn.Linear(heads * self.value_width, d_model, bias=spec.o_bias)
        if spec.qk_norm:
            self.q_norm = self._norm(heads)
        if not spec.shared_kv:
            self._make_keys(d_model)
        if spec.sinks:
            self.sinks = nn.Parameter(torch.randn(heads))
        if spec.position_bias == "relative" and spec.n_buckets:
            self.relative = Tensors(weight=(spec.n_buckets, heads))
        if spec.result_norm:
            self.result_norm = RMSNorm(heads * self.value_width)
        if spec.output_gate:
            gates = heads * self.value_width if spec.output_gate == "element" else heads
            self.gate_proj = Tensors(weight=(gates, d_model), **({"bias": (heads,)} if spec.gate_bias else {}))

    def _make_keys(self, d_model: int) -> None:
        spec, heads = self.spec, self.spec.n_kv_heads
        k_bias = spec.qkv_bias if spec.k_bias is None else spec.k_bias
        self.k_proj = nn.Linear(d_model, heads * spec.head_dim, bias=k_bias)
        if spec.qk_norm:
            self.k_norm = self._norm(heads)
        if not spec.v_from_k:
            self.v_proj = nn.Linear(d_model, heads * self.value_width, bias=spec.qkv_bias)
        if spec.v_norm:
            self.v_norm = RMSNorm(self.value_width, scale=False)

    def _norm(self, heads: int) -> RMSNorm:
        width = self.spec.head_dim
        shapes = {"head": (width,), "each_head": (heads, width), "all_heads": (heads * width,)}
        kind = RMSNorm if self.spec.qk_norm == "rms" else LayerNorm
        return kind(*shapes[self.spec.qk_norm_over], scale=self.spec.qk_norm_scale, bias=self.spec.qk_norm_bias)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Attend; with a cache that holds positions, over those that are visible."""
        past = cache.positions if cache else 0
        queries = torch.arange(past, past + x.shape[1], device=x.device)
        q = self._queries(x, queries)
        if self.spec.shared_kv:
            if self.lender is None or self.lender.made is None:
                raise SpecError("shared_kv needs an earlier layer that lends its keys and values")
            k, v, keys = self.lender.made
        else:
            k, v, keys = self.made = self._kept(*self._keys_values(x, queries), queries, cache)
        if cache:
            cache.positions += x.shape[1]
        seen = visible(self.spec.mask, queries, keys)
        if past:
            some = seen.any(0)
            k, v, keys, seen = k[:, some], v[:, some], keys[some], seen[:, some]
        return self._output(x, self._attend(q, k, v, queries, keys, seen))

    def _queries(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return queries [b, t, heads, width], normed, rotated, scaled."""
        spec = self.spec
        if spec.q_lora_rank:
            with self.operation("q_a_proj"):
                x = self.q_a_proj(x)
            with self.operation("q_a_norm"):
                x = self.q_a_norm(x)
        with self.operation("q_proj"):
            q = self.q_proj(x).unflatten(-1, (spec.n_heads, -1))
        if spec.qk_norm:
            with self.operation("q_norm"):
                q = self._normed(self.q_norm, q)
        if spec.rotary_dim:
            with self.operation("q_rotary"):
                q = rotate(q, positions, spec.rotary_dim)
        if spec.q_scaled:
            with self.operation("q_scaled"):
                q = q * (1 + torch.log1p(positions / 8192) / 10).to(q.dtype)[:, None, None]
        return q

    def _keys_values(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [b, t, heads, width] of new positions."""
        spec = self.spec
        with self.operation("k_proj"):
            v = k = self.k_proj(x).unflatten(-1, (spec.n_kv_heads, -1))
        if spec.qk_norm:
            with self.operation("k_norm"):
                k = self._normed(self.k_norm, k)
        if spec.rotary_dim:
            with self.operation("k_rotary"):
                k = rotate(k, positions, spec.rotary_dim)
        if not spec.v_from_k:
            with self.operation("v_proj"):
                v = self.v_proj(x).unflatten(-1, (spec.n_kv_heads, -1))
        if spec.v_norm:
            with self.operation("v_norm"):
                v = self.v_norm(v)
        if spec.v_scaled:
            with self.operation("v_scaled"):
                v = v * VALUE_SCALE
        return k, v

    def _normed(self, norm: RMSNorm, heads: Tensor) -> Tensor:
        if self.spec.qk_norm_over == "all_heads":
            joint: Tensor = norm(heads.flatten(-2))
            return joint.view_as(heads)
        each: Tensor = norm(heads)
        return each

    def _kept(self, k: Tensor, v: Tensor, queries: Tensor, cache: Cache | None) -> KeysValues:
        """Join new keys and values to those in the cache, and cache what a later query may see."""
        if cache is None:
            return k, v, queries
        mask, past = self.spec.mask, cache.positions
        keys = torch.cat((kept(mask, past).to(queries), queries))
        k, v = cache.joined("k", k), cache.joined("v", v)
        if not mask.both_ways:
            stays = torch.isin(keys, kept(mask, past + len(queries)).to(queries))
            cache.put("k", k[:, stays])
            cache.put("v", v[:, stays])
        return k, v, keys

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
        # every query head meets the keys of its group: [b, groups, heads of a group, t | s, width]
        groups = (self.spec.n_kv_heads, -1)
        q = q.transpose(1, 2).unflatten(1, groups)
        k, v = (each.transpose(1, 2)[:, :, None] for each in (k, v))
        self.applies(seen, "scores", *SCORE_STEPS, "values")
        with self.operation("scores"):
            scores = torch.matmul(q, k.transpose(3, 4)).flatten(1, 2)
        scores = self._shape_scores(scores, queries, keys)
        if self.spec.sinks:
            with self.operation("sinks"):
                sink = self.sinks[None, :, None, None].expand(*scores.shape[:3], 1)
                scores = torch.cat((scores, sink.to(scores.dtype)), -1)
                seen = torch.cat((seen, seen.new_ones(seen.shape[0], 1)), -1)
            self.applies(seen, "softmax")
        with self.operation("softmax"):
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1, torch.float32).to(v.dtype)
        with self.operation("values"):
            return torch.matmul(weights[..., : v.shape[3]].unflatten(1, groups), v).flatten(1, 2).transpose(1, 2)

    def _output(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Gate the results [b, t, heads, width] and project them back."""
        if self.spec.output_gate:
            with self.operation("gate_proj"):
                gates = F.linear(x, self.gate_proj.weight).unflatten(-1, (self.spec.n_heads, -1))
                if self.spec.gate_bias:
                    gates = gates + self.gate_proj.bias[:, None]
            with self.operation("gate_sigmoid"):
                gates = gates.sigmoid()
            with self.operation("gated"):
                mixed = mixed * gates
        mixed = mixed.flatten(2)
        if self.spec.result_norm:
            with self.operation("result_norm"):
                mixed = self.result_norm(mixed)
        with self.operation("o_proj"):
            projected: Tensor = self.o_proj(mixed)
        return projected

    def _shape_scores(self, scores: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Scale, cap, and add what depends on the distance."""
        if self.spec.scaled:
            with self.operation("scale"):
                scores = scores * self.spec.head_dim**-0.5
        if self.spec.softcap:
            with self.operation("softcap"):
                scores = CAP * torch.tanh(scores / CAP)
        distance = keys[None, :] - queries[:, None]
        if self.spec.position_bias == "alibi":
            with self.operation("alibi"):
                scores = scores + alibi_slopes(self.spec.n_heads).to(scores)[:, None, None] * distance
        if self.spec.position_bias == "relative":
            table = self.relative.weight if self.spec.n_buckets else self.borrowed.get("relative")
            with self.operation("relative"):
                if table is not None:
                    buckets = relative_buckets(distance, table.shape[0], self.spec.mask.both_ways)
                    scores = scores + table[buckets].permute(2, 0, 1)
        return scores


def alibi_slopes(heads: int) -> Tensor:
    """Return 2^(-8 i / heads), i = 1 … heads; for other numbers than powers of two, between those of two of them.

    Press et al. 2021, arXiv:2108.12409 §3, and its released code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    slopes += [2 ** (-4 * i / power) for i in range(1, 2 * (heads - power), 2)]
    return torch.tensor(slopes)


def relative_buckets(distance: Tensor, buckets: int, both_ways: bool, furthest: int = 128) -> Tensor:
    """Return the bucket of each distance (key - query): one each when near, logarithmic when far.

    Raffel et al. 2019, arXiv:1910.10683 §2.1; ``T5Attention._relative_position_bucket`` of transformers.
    """
    start = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        start = (distance > 0).long() * buckets
        back = distance.abs()
    else:
        back = (-distance).clamp(min=0)
    near = buckets // 2
    far = near + (torch.log(back.clamp(min=1) / near) / math.log(furthest / near) * (buckets - near)).long().clamp(
        max=buckets - near - 1
    )
    return start + torch.where(back < near, back, far)
