"""Cross-attention."""

from __future__ import annotations

from calc.attention.cross import CrossAttention
from calc.validate.samples import Sample

SAMPLES = (
    Sample("multi-head", CrossAttention(n_heads=4, n_kv_heads=4, head_dim=5, scaled=False)),
    Sample("biases", CrossAttention(n_heads=4, n_kv_heads=4, head_dim=6, qkv_bias=True, k_bias=False, o_bias=True)),
    Sample("query-key norm", CrossAttention(n_heads=6, n_kv_heads=2, head_dim=5, qk_norm="rms")),
    Sample("grouped, wider source", CrossAttention(n_heads=6, n_kv_heads=2, head_dim=3, d_source=17), source=13),
    Sample("squashed scores", CrossAttention(n_heads=6, n_kv_heads=3, head_dim=5, softcap=True)),
)
