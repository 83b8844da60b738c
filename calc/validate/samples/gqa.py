"""Multi-head, grouped-query and multi-query attention with every structural option."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.masks import Chunk, Full, Window
from calc.sparse_masks import BigBird, Local, Strided
from calc.validate.samples import Sample

SAMPLES = (
    Sample("multi-head, biases", GQA(n_heads=3, n_kv_heads=3, head_dim=8, qkv_bias=True, o_bias=True)),
    Sample("grouped, rotary, bias of keys", GQA(n_heads=6, n_kv_heads=2, head_dim=10, rotary_dim=10, k_bias=True)),
    Sample("multi-query, partly rotary", GQA(n_heads=5, n_kv_heads=1, head_dim=12, rotary_dim=4)),
    Sample(
        "window, sinks, biases",
        GQA(
            n_heads=4,
            n_kv_heads=2,
            head_dim=6,
            rotary_dim=6,
            qkv_bias=True,
            o_bias=True,
            sinks=True,
            mask=Window(window=5),
        ),
    ),
    Sample(
        "chunk, scaled queries",
        GQA(
            n_heads=4, n_kv_heads=2, head_dim=6, q_scaled=True, qk_norm="rms", qk_norm_scale=False, mask=Chunk(window=4)
        ),
    ),
    Sample(
        "norm of each head, value width of its own",
        GQA(n_heads=6, n_kv_heads=3, head_dim=8, v_head_dim=5, qk_norm="rms", rotary_dim=8, v_scaled=True),
    ),
    Sample(
        "LayerNorm with a scale for each head",
        GQA(n_heads=6, n_kv_heads=3, head_dim=8, qk_norm="layer", qk_norm_over="each_head", qk_norm_bias=True),
    ),
    Sample(
        "norm over all heads, softcap",
        GQA(n_heads=4, n_kv_heads=2, head_dim=8, qk_norm="rms", qk_norm_over="all_heads", softcap=True),
    ),
    Sample("norm of the result", GQA(n_heads=6, n_kv_heads=2, head_dim=4, v_head_dim=5, result_norm="rms")),
    Sample("queries through a low rank", GQA(n_heads=6, n_kv_heads=1, head_dim=8, q_lora_rank=5, rotary_dim=8)),
    Sample("ALiBi", GQA(n_heads=6, n_kv_heads=6, head_dim=4, position_bias="alibi", qkv_bias=True, k_bias=False)),
    Sample(
        "relative buckets, no scale",
        GQA(n_heads=4, n_kv_heads=4, head_dim=5, position_bias="relative", n_buckets=8, scaled=False),
    ),
    Sample(
        "both ways, relative buckets",
        GQA(n_heads=4, n_kv_heads=4, head_dim=5, position_bias="relative", n_buckets=8, mask=Full()),
    ),
    Sample(
        "gated by element",
        GQA(n_heads=4, n_kv_heads=2, head_dim=8, rotary_dim=2, qk_norm="rms", output_gate="element"),
    ),
    Sample(
        "gated by head, values from keys",
        GQA(n_heads=4, n_kv_heads=1, head_dim=8, v_from_k=True, v_norm=True, output_gate="head", gate_bias=True),
    ),
    Sample(
        "strided",
        GQA(n_heads=4, n_kv_heads=2, head_dim=6, rotary_dim=6, mask=Strided(window=3, stride=4)),
        context=17,
    ),
    Sample(
        "local both ways, global first positions",
        GQA(n_heads=4, n_kv_heads=4, head_dim=6, mask=Local(window=2, n_global=2)),
    ),
    Sample(
        "blocks at random",
        GQA(n_heads=4, n_kv_heads=4, head_dim=6, mask=BigBird(block_size=2, n_random=1)),
        context=21,
    ),
)
