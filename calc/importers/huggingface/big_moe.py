"""Large decoders with experts whose code stands beside their checkpoints: Grok, Hunyuan-Large, Arctic, Step3."""

from __future__ import annotations

from calc.embedding import Embedding, Head
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold
from calc.importers.huggingface.decoder import attention, depth, masks, width
from calc.importers.huggingface.experts import (
    experts,
    factor,
    network,
    one_size,
    sparse_decoder,
    sparse_layers,
    without_mtp,
)
from calc.importers.huggingface.moe import same_for_all
from calc.importers.huggingface.reader import Config
from calc.masks import Mask
from calc.model import Layer, Model
from calc.records import replace


def grok(config: Config) -> Model:
    """Read Grok 1 and 2: norms before and after each part; in the second a dense network beside the experts.

    Source: modeling_grok1.py of hpcai-tech/grok-1; ``Grok1ForCausalLM`` of SGLang.
    """
    config.ignore("attn_output_multiplier", "max_attn_value", "router_aux_loss_coef", "attn_temperature_len")
    config.ignore("attn_logit_softcapping_method", "router_logit_softcapping", "final_logit_softcapping_method")
    config.ignore("sliding_window_size", "global_attn_every_n", "hidden_act", "output_multiplier_scale")
    config.ignore(
        "model_parallel_size",
        "output_router_logits",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "embedding_multiplier_scale",
    )
    inner = config.size("intermediate_size")
    beside = config.flag("residual_moe", default=False)
    moe = MoE(
        n_experts=one_size(config, "num_local_experts", "num_experts"),
        n_active_experts=config.size("num_experts_per_tok"),
        d_expert=config.size("moe_intermediate_size", default=inner),
        d_shared=inner if beside else None,
        activation="gelu_tanh",
    )
    mixer = attention(config, qkv_bias=False, o_bias=False, softcap=True)
    tied = config.flag("tie_word_embeddings", default=not beside)
    head = Head(tied=tied, scaled=True, softcap=config.states("final_logit_softcapping"))
    return sparse_decoder(config, mixer, moe, placement="both", embedding=Embedding(scaled=True), head=head)


def hunyuan_large(config: Config) -> Model:
    """Read Hunyuan-Large and the first Hunyuan 7B: every second layer uses the keys and values of the one before.

    Source: modeling_hunyuan.py of tencent/Tencent-Hunyuan-Large; arXiv:2411.02265 §2.
    """
    n_layers = depth(config)
    config.ignore("moe_drop_tokens", "moe_random_routing_dropped_token", "norm_type", "capacity_factor", "dense_list")
    config.ignore("use_rotary_pos_emb", "num_media_embeds", "im_start_id", "im_end_id", "cla_share_factor")
    for key in ("group_limited_greedy", "use_mla"):
        config.refuse(key)
    config.refuse("moe_layer_num_skipped", 0)
    group = config.size("cla_share_factor", default=2) if config.flag("use_cla", default=False) else 1
    norm = "rms" if config.flag("use_qk_norm", default=False) else None
    mixer = attention(config, qk_norm=norm, head_dim=config.optional_size("head_dim", "attention_head_dim"))
    n_experts = same_for_all(config, "num_experts") if config.states("num_experts") else 1
    inner = same_for_all(config, "intermediate_size")
    shared = same_for_all(config, "num_shared_expert") if config.states("num_shared_expert") else 1
    mixed = config.flag("use_mixed_mlp_moe", default=False)
    chosen = same_for_all(config, "moe_topk") if config.states("moe_topk") else 1
    own = same_for_all(config, "moe_intermediate_size") if config.states("moe_intermediate_size") else inner
    ffn: FeedForward = DenseFFN(d_ff=inner, activation=activation(config, "hidden_act"), gated=True)
    if n_experts > 1:
        sizes = {"n_experts": n_experts, "n_active_experts": chosen, "d_expert": own}
        ffn = experts(config, **sizes, shared=shared * inner if mixed else None, normalised=True)

    def layer(reused: bool) -> Layer:
        return Layer(attention=replace(mixer, shared_kv=reused), ffn=ffn, norm=RMS)

    return assemble(
        config,
        d_model=width(config),
        stack=fold([index % group != 0 for index in range(n_layers)], layer),
        final_norm=RMS,
        head=Head(tied=config.flag("tie_word_embeddings", default=False), scaled=factor(config, "logits_scaling")),
    )


def arctic(config: Config) -> Model:
    """Read Snowflake Arctic: a dense network after the attention, and experts that read what enters the layer.

    Source: modeling_arctic.py of Snowflake/snowflake-arctic-base; ``ArcticDecoderLayer`` of vLLM.
    """
    config.ignore("enable_expert_tensor_parallelism", "moe_eval_capacity_factor", "moe_train_capacity_factor")
    config.ignore("moe_min_capacity", "moe_token_dropping")
    inner, every = config.size("intermediate_size"), config.size("moe_layer_frequency", default=2)
    beside = config.flag("parallel_attn_mlp_res", "use_residual", default=False)
    moe = experts(config, d_expert=inner, normalised=True)
    dense = network(config)
    mixer = attention(config, qkv_bias=False, o_bias=False)
    layer_masks = masks(config, depth(config), config.optional_size("sliding_window"))
    sparse = sparse_layers(config, lambda index: (index + 1) % every == 0)

    def layer(kind: tuple[Mask, bool]) -> Layer:
        mask, with_experts = kind
        return Layer(
            attention=replace(mixer, mask=mask),
            ffn=moe if with_experts else dense,
            ffn_beside=replace(dense, d_ff=width(config)) if with_experts and beside else None,
            norm=RMS,
        )

    return assemble(
        config,
        d_model=width(config),
        stack=fold(list(zip(layer_masks, sparse, strict=True)), layer),
        final_norm=RMS,
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )


def step3(config: Config) -> Model:
    """Read Step3: queries of low rank over one head of keys and values; experts in the layers that a text lists.

    Source: arXiv:2507.19427 §3; ``Step3TextForCausalLM`` of vLLM.
    """
    config.refuse("num_attention_groups", 1)
    config.rename(num_attention_groups="num_key_value_heads", max_position_embedding="max_position_embeddings")
    config.assume(hidden_act="silu", num_key_value_heads=1)
    config.ignore("max_seq_len", "use_mfa", "use_moe", "moe_every_n_layer", "use_im_start_end", "image_token_len")
    without_mtp(config)
    n_layers = depth(config)
    listed = set(range(1, n_layers))  # as the code has it for a file that lists none
    if config.states("moe_layers_enum"):
        words = config.text("moe_layers_enum").split(",")
        if not all(word.strip().isdecimal() and int(word) < n_layers for word in words):
            raise config.error(f"{config.path}moe_layers_enum is not a list of the numbers of {n_layers} layers")
        listed = {int(word) for word in words}
    moe = experts(
        config,
        n_experts=config.size("moe_num_experts"),
        n_active_experts=config.size("moe_top_k"),
        shared=config.size("share_expert_dim"),
        normalised=config.flag("norm_expert_weight", default=False),
    )
    mixer = attention(config, qkv_bias=False, o_bias=False, q_lora_rank=config.size("share_q_dim"))
    return sparse_decoder(
        config,
        mixer,
        moe,
        dense=lambda: network(config),
        sparse=[index in listed for index in range(n_layers)],
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )
