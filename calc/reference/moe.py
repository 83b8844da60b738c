"""Mixture of experts, token by token as the papers say it."""

from __future__ import annotations

from math import ceil
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from calc.ffn.moe import MoE
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.dense import ACTIVATIONS
from calc.reference.norms import RMSNorm

LIMIT = 7.0
"""swiglu_limit of gpt-oss."""


Share: TypeAlias = tuple[int, Tensor, Tensor]
"""An expert, the tokens that it takes, their weights [tokens, 1]."""


class MoETwin(Twin):
    """Router, routed experts that each take their tokens, shared experts.

    Routers: Shazeer et al. 2017, arXiv:1701.06538 (``MixtralTopKRouter``); DeepSeek-V3, arXiv:2412.19437 eq. 12–16
    (``DeepseekV3TopkRouter``); ``GptOssTopKRouter``, ``Llama4Router``, ``Gemma4TextRouter``, ``DeepseekV4HashRouter``
    of transformers; buffers of Switch, arXiv:2101.03961 §2.2; expert choice, Zhou et al. 2022, arXiv:2202.09368.
    """

    def __init__(self, spec: MoE, d_model: int, vocab_size: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.correction_bias: Tensor
        self.choice: Tensor
        self.gate_proj: Tensors
        self.up_proj: Tensors
        self.scale = 2.5
        """routed_scaling_factor of DeepSeek-V3."""
        self._learn_router(d_model, vocab_size)
        width = spec.d_latent or d_model
        if spec.d_latent:
            self.latent_down_proj = nn.Linear(d_model, width, bias=spec.latent_bias)
            self.latent_up_proj = nn.Linear(width, d_model, bias=spec.latent_bias)
            if spec.latent_norm:
                self.latent_norm = RMSNorm(width)
        inner = {"bias": (spec.n_experts, spec.d_expert)} if spec.expert_bias else {}
        outer = {"bias": (spec.n_experts, width)} if spec.expert_bias else {}
        for name in ("gate_proj", "up_proj") if spec.gated else ("up_proj",):
            setattr(self, name, Tensors(weight=(spec.n_experts, spec.d_expert, width), **inner))
        self.down_proj = Tensors(weight=(spec.n_experts, width, spec.d_expert), **outer)
        if spec.output_bias:
            self.output_bias = nn.Parameter(torch.randn(d_model))
        if spec.d_shared:
            self._learn_shared(d_model, spec.d_shared)
        if spec.branch_norms:
            self.routed_norm, self.routed_post_norm = RMSNorm(d_model), RMSNorm(d_model)
            if spec.d_shared:
                self.shared_norm = RMSNorm(d_model)

    def _learn_router(self, d_model: int, vocab_size: int) -> None:
        spec = self.spec
        self.router = nn.Linear(d_model, spec.n_routes, bias=spec.router_bias)
        if spec.router_norm:
            self.router_norm = RMSNorm(d_model)
        if spec.correction_bias:
            self.register_buffer("correction_bias", torch.randn(spec.n_routes) / 10)
        if spec.expert_scale:
            self.expert_scale = nn.Parameter(torch.rand(spec.n_experts) + 0.5)
        if spec.choice == "hash":
            table = torch.rand(vocab_size, spec.n_experts).argsort(dim=1)[:, : spec.n_active_experts]
            self.register_buffer("choice", table.contiguous())

    def _learn_shared(self, d_model: int, width: int) -> None:
        spec = self.spec
        self.shared_up_proj = nn.Linear(d_model, width, bias=spec.shared_bias)
        self.shared_down_proj = nn.Linear(width, d_model, bias=spec.shared_bias)
        if spec.gated:
            self.shared_gate_proj = nn.Linear(d_model, width, bias=spec.shared_bias)
        if spec.shared_gate:
            self.shared_gate = nn.Linear(d_model, 1, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, source: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Route every token of x [b, t, d], let its experts transform it, add what the shared experts make of it."""
        flat = x.flatten(0, 1)
        if self.spec.choice == "expert":
            shares = self._taken_by_experts(flat)
        else:
            shares = self._sent_by_tokens(*self.route(flat, None if tokens is None else tokens.flatten()))
        result = self._routed(flat, shares)
        if self.spec.d_shared:
            shared = self._shared(flat)
            with self.operation("sum"):
                result = result + shared
        if self.spec.output_bias:
            with self.operation("output_bias"):
                result = result + self.output_bias
        return result.view_as(x)

    # ---- router

    def route(self, x: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weights [n, k] and the experts [n, k] of n tokens."""
        spec = self.spec
        if spec.router_norm:
            with self.operation("router_norm"):
                x = self.router_norm(x) * x.shape[1] ** -0.5
        with self.operation("router"):
            scores = self.router(x)
        if spec.scores_of == "all":
            with self.operation("router_scores"):
                scores = self._score(scores)
        experts = self._choose(scores, tokens)
        with self.operation("choice"):
            weights = scores.gather(1, experts)
        if spec.scores_of == "chosen":
            with self.operation("router_scores"):
                weights = self._score(weights)
        if spec.normalised:
            with self.operation("normalise"):
                weights = weights / (weights.sum(dim=1, keepdim=True) + 1e-20)
        if spec.routed_scale:
            with self.operation("routed_scale"):
                weights = weights * self.scale
        if spec.expert_scale:
            with self.operation("expert_scale"):
                weights = weights * self.expert_scale[experts]
        return weights, experts

    def _score(self, logits: Tensor) -> Tensor:
        if self.spec.scoring == "softmax":
            return logits.softmax(dim=-1)
        return logits.sigmoid() if self.spec.scoring == "sigmoid" else F.softplus(logits).sqrt()

    def _choose(self, scores: Tensor, tokens: Tensor | None) -> Tensor:
        """Return the experts of each token; the correction bias counts here and nowhere else."""
        spec = self.spec
        if spec.correction_bias:
            with self.operation("correction_bias"):
                scores = scores + self.correction_bias
        if spec.router_groups and spec.router_topk_groups:
            scores = self._limit(scores, spec.router_groups, spec.router_topk_groups)
        with self.operation("choice"):
            if spec.choice == "token":
                # the dearest case: no token chooses an expert that does nothing
                idle = torch.arange(spec.n_routes, device=scores.device) >= spec.n_experts
                return scores.masked_fill(idle, float("-inf")).topk(spec.n_active_experts, dim=1).indices
            if tokens is None:
                raise ValueError("hash routing needs the ids of the tokens")
            return self.choice[tokens]

    def _limit(self, scores: Tensor, groups: int, kept: int) -> Tensor:
        """Return the scores with −∞ outside the best groups of experts."""
        grouped = scores.view(len(scores), groups, -1)
        with self.operation("group_scores"):
            best = min(2 if self.spec.group_score == "top2" else 1, grouped.shape[2])
            ranks = grouped.topk(best, dim=2).values.sum(dim=2)
        with self.operation("groups"):
            winners = ranks.topk(kept, dim=1).indices
            outside = torch.ones_like(ranks, dtype=torch.bool).scatter(1, winners, False)
            return grouped.masked_fill(outside[:, :, None], float("-inf")).flatten(1)

    # ---- routed experts

    def _sent_by_tokens(self, weights: Tensor, experts: Tensor) -> list[Share]:
        """Return what each expert takes when tokens choose: all that ask, or the first that fit its buffer."""
        size = self._buffer(len(experts))
        shares: list[Share] = []
        for expert in range(self.spec.n_experts):
            rows, slots = torch.where(experts == expert)
            rows, slots = rows[:size], slots[:size]
            if len(rows) or size is not None:
                shares.append((expert, rows, weights[rows, slots][:, None]))
        return shares

    def _taken_by_experts(self, x: Tensor) -> list[Share]:
        """Return what each expert takes when experts choose: its best tokens, k·n pairs shared out evenly."""
        with self.operation("router"):
            scores = self.router(x)
        with self.operation("router_scores"):
            scores = self._score(scores)
        each, more = divmod(len(x) * self.spec.n_active_experts, self.spec.n_experts)
        with self.operation("choice"):
            best = [scores[:, e].topk(each + (e < more)) for e in range(self.spec.n_experts) if each or e < more]
        return [(expert, top.indices, top.values[:, None]) for expert, top in enumerate(best)]

    def _routed(self, x: Tensor, shares: list[Share]) -> Tensor:
        spec = self.spec
        if spec.branch_norms:
            with self.operation("routed_norm"):
                x = self.routed_norm(x)
        if spec.d_latent:
            with self.operation("latent_down_proj"):
                x = self.latent_down_proj(x)
        result = torch.zeros_like(x)
        for expert, rows, weights in shares:
            entering = x[rows]
            if spec.weighted == "input":
                with self.operation("weigh"):
                    entering = entering * weights
            leaving = self._expert(expert, self._buffered(entering, len(x)))[: len(rows)]
            with self.operation("combine"):
                leaving = leaving if spec.weighted == "input" else leaving * weights
                result = result.index_add(0, rows, leaving.to(result.dtype))
        if spec.latent_norm:
            with self.operation("latent_norm"):
                result = self.latent_norm(result)
        if spec.d_latent:
            with self.operation("latent_up_proj"):
                result = self.latent_up_proj(result)
        if spec.branch_norms:
            with self.operation("routed_post_norm"):
                result = self.routed_post_norm(result)
        return result

    def _buffer(self, tokens: int) -> int | None:
        """Return the tokens that an expert takes at most: ⌈factor · tokens · k / E⌉; None without a limit."""
        factor = self.spec.capacity_factor
        if factor is None:
            return None
        # hundredths keep a factor such as 1.1 from being rounded up
        return ceil(round(100 * factor) * tokens * self.spec.n_active_experts / (100 * self.spec.n_experts))

    def _buffered(self, x: Tensor, tokens: int) -> Tensor:
        """Return an expert's tokens in its buffer, padded with zeros."""
        size = self._buffer(tokens)
        return x if size is None else F.pad(x, (0, 0, 0, size - len(x)))

    def _expert(self, expert: int, x: Tensor) -> Tensor:
        gate = None
        if self.spec.gated:
            with self.operation("gate_proj"):
                gate = _linear(x, self.gate_proj, expert)
        with self.operation("up_proj"):
            up = _linear(x, self.up_proj, expert)
        inner = self._activate("", gate, up)
        with self.operation("down_proj"):
            return _linear(inner, self.down_proj, expert)

    def _activate(self, prefix: str, gate: Tensor | None, up: Tensor) -> Tensor:
        """Return act(gate) ⊙ up, or act(up) without a gate."""
        spec = self.spec
        if spec.clamped and gate is not None:
            with self.operation(f"{prefix}clamp"):
                gate, up = gate.clamp(max=LIMIT), up.clamp(min=-LIMIT, max=LIMIT)
        with self.operation(f"{prefix}activation"):
            active = ACTIVATIONS[spec.activation](up if gate is None else gate)
        if gate is None:
            return active
        with self.operation(f"{prefix}gated"):
            return active * (up + 1 if spec.up_offset else up)

    # ---- shared experts

    def _shared(self, x: Tensor) -> Tensor:
        gate = None
        if self.spec.gated:
            with self.operation("shared_gate_proj"):
                gate = self.shared_gate_proj(x)
        with self.operation("shared_up_proj"):
            up = self.shared_up_proj(x)
        inner = self._activate("shared_", gate, up)
        with self.operation("shared_down_proj"):
            result: Tensor = self.shared_down_proj(inner)
        if self.spec.shared_gate:
            with self.operation("shared_gate"):
                opening = self.shared_gate(x)
            with self.operation("shared_gate_sigmoid"):
                opening = opening.sigmoid()
            with self.operation("shared_gate_product"):
                result = result * opening
        if self.spec.branch_norms:
            with self.operation("shared_norm"):
                result = self.shared_norm(result)
        return result


def _linear(x: Tensor, tensors: Tensors, expert: int) -> Tensor:
    """Multiply by one expert's matrix [out, in], and add its bias."""
    return F.linear(x, tensors.weight[expert], tensors.bias[expert] if "bias" in tensors._parameters else None)
