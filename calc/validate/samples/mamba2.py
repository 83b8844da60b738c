"""Samples of Mamba-2."""

from __future__ import annotations

from calc.attention.mamba2 import Mamba2
from calc.validate.samples import Sample

SAMPLES: tuple[Sample, ...] = (
    Sample("groups", Mamba2(n_ssm_heads=6, ssm_head_dim=8, d_state=5, n_groups=2, chunk_size=4)),
    Sample(
        "biases, gate alone",
        Mamba2(
            n_ssm_heads=3,
            ssm_head_dim=7,
            d_state=5,
            chunk_size=3,
            conv_kernel=3,
            conv_bias=False,
            in_bias=True,
            out_bias=True,
            gated_norm=False,
        ),
    ),
    Sample(
        "selected by the convolved input",
        Mamba2(
            n_ssm_heads=4,
            ssm_head_dim=7,
            d_state=5,
            chunk_size=4,
            conv_bias=False,
            gated_norm=False,
            dt_rank=3,
        ),
    ),
    Sample("one chunk", Mamba2(n_ssm_heads=4, ssm_head_dim=6, d_state=9, n_groups=4, chunk_size=16)),
)
