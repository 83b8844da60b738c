"""Mixtures of experts: routers, groups, biases, latents, buffers, and every way of choosing."""

from __future__ import annotations

from calc.ffn.moe import MoE
from calc.validate.samples import Sample

SAMPLES = (
    Sample("moe: softmax, plain experts", MoE(n_experts=7, n_active_experts=3, d_expert=13)),
    Sample(
        "moe: DeepSeek-V3, sigmoid scores, correction bias, groups, shared experts",
        MoE(
            n_experts=8,
            n_active_experts=3,
            d_expert=13,
            d_shared=26,
            scoring="sigmoid",
            correction_bias=True,
            normalised=True,
            routed_scale=True,
            router_groups=4,
            router_topk_groups=2,
        ),
    ),
    Sample(
        "moe: DeepSeek-V2, groups ranked by their best",
        MoE(
            n_experts=6,
            n_active_experts=2,
            d_expert=11,
            d_shared=22,
            router_groups=3,
            router_topk_groups=2,
            group_score="max",
        ),
    ),
    Sample(
        "moe: gpt-oss, scores of the chosen, biases, limits",
        MoE(
            n_experts=5,
            n_active_experts=2,
            d_expert=13,
            scores_of="chosen",
            router_bias=True,
            expert_bias=True,
            clamped=True,
            up_offset=True,
            activation="quick_gelu",
        ),
    ),
    Sample(
        "moe: Qwen, gate on the shared experts, with biases",
        MoE(n_experts=7, n_active_experts=2, d_expert=13, d_shared=19, shared_gate=True, shared_bias=True),
    ),
    Sample(
        "moe: Nemotron-3, latents, no gate",
        MoE(
            n_experts=7,
            n_active_experts=3,
            d_expert=13,
            d_shared=17,
            d_latent=9,
            latent_bias=True,
            gated=False,
            activation="relu2",
        ),
    ),
    Sample(
        "moe: Kimi K3, a norm in the latents' space",
        MoE(
            n_experts=7,
            n_active_experts=3,
            d_expert=13,
            d_shared=17,
            d_latent=9,
            latent_norm=True,
            scoring="sigmoid",
            correction_bias=True,
            normalised=True,
            activation="situ",
        ),
    ),
    Sample(
        "moe: Gemma 4, norms around router and branches, a factor for each expert",
        MoE(
            n_experts=7,
            n_active_experts=2,
            d_expert=13,
            d_shared=29,
            normalised=True,
            router_norm=True,
            expert_scale=True,
            branch_norms=True,
            activation="gelu_tanh",
        ),
    ),
    Sample(
        "moe: Llama 4, weighted input",
        MoE(
            n_experts=5,
            n_active_experts=1,
            d_expert=13,
            d_shared=13,
            scoring="sigmoid",
            scores_of="chosen",
            weighted="input",
        ),
    ),
    Sample(
        "moe: Switch, buffers with room for a quarter more",
        MoE(n_experts=5, n_active_experts=1, d_expert=13, gated=False, activation="relu", capacity_factor=1.25),
    ),
    Sample(
        "moe: GShard, two experts, tight buffers",
        MoE(n_experts=6, n_active_experts=2, d_expert=13, capacity_factor=1.0),
    ),
    Sample(
        "moe: LongCat, experts that do nothing",
        MoE(n_experts=6, n_active_experts=2, d_expert=13, n_zero_experts=3, correction_bias=True, router_bias=True),
    ),
    Sample("moe: JetMoE, one bias", MoE(n_experts=5, n_active_experts=2, d_expert=13, output_bias=True)),
    Sample("moe: experts choose tokens", MoE(n_experts=4, n_active_experts=2, d_expert=13, choice="expert")),
    Sample(
        "moe: DeepSeek-V4, a table of experts for every token id",
        MoE(
            n_experts=7,
            n_active_experts=2,
            d_expert=13,
            d_shared=13,
            scoring="sqrtsoftplus",
            normalised=True,
            choice="hash",
        ),
    ),
)
