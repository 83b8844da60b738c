"""Switch Transformers: T5 with a mixture of experts, one a token, in every n-th layer."""

from __future__ import annotations

from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import ACTIVATIONS, RMS, assemble, fold, tied
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask
from calc.model import Encoder, Layer, Model, Stack
from calc.records import replace


def switch(config: Config) -> Model:
    """Read Switch Transformers; tokens that an expert has no room for are not modelled as dropped."""
    n_heads, head_dim = config.size("num_heads"), config.size("d_kv")
    n_encoder = config.layers("num_layers")
    n_decoder = config.layers("num_decoder_layers") if config.states("num_decoder_layers") else n_encoder
    config.ignore("expert_capacity", "router_type", "router_dtype", "router_ignore_padding_tokens", "is_gated_act")
    config.ignore("add_router_probs", "dense_act_fn", "num_selected_experts", "batch_prioritized_routing")
    act = config.text("feed_forward_proj", default="relu")
    if act not in ACTIVATIONS:
        raise config.error(f"feed_forward_proj = {act[:40]!r} is not understood")
    d_ff = config.size("d_ff")
    dense = DenseFFN(d_ff=d_ff, activation=ACTIVATIONS[act])
    moe = MoE(
        n_experts=config.size("num_experts"),
        n_active_experts=1,
        d_expert=d_ff,
        activation=ACTIVATIONS[act],
        gated=False,
        router_bias=config.flag("router_bias", default=False),
    )
    mixer = GQA(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim, position_bias="relative", scaled=False)
    cross = CrossAttention(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim, scaled=False)
    buckets = config.size("relative_attention_num_buckets")

    def side(n_layers: int, n_sparse: int, mask: Mask, source: CrossAttention | None) -> tuple[Stack, ...]:
        if n_sparse > n_layers:
            raise config.error(f"{n_sparse} sparse layers of {n_layers}: num_sparse_... exceeds the number of layers")
        step = n_layers // n_sparse if n_sparse else n_layers + 1

        def layer(kind: tuple[bool, bool]) -> Layer:
            first, sparse = kind
            own = replace(mixer, mask=mask, n_buckets=buckets if first else None)
            return Layer(attention=own, cross=source, ffn=moe if sparse else dense, norm=RMS)

        return fold([(index == 0, step == 1 or index % step == 1) for index in range(n_layers)], layer)

    return assemble(
        config,
        d_model=config.size("d_model"),
        stack=side(n_decoder, config.count("num_sparse_decoder_layers"), Causal(), cross),
        embedding=Embedding(shared=True),
        final_norm=RMS,
        head=Head(tied=tied(config), scaled=tied(config)),
        encoder=Encoder(stack=side(n_encoder, config.count("num_sparse_encoder_layers"), Full(), None), final_norm=RMS),
    )
