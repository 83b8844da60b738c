"""Samples of lightning attention."""

from __future__ import annotations

from calc.attention.lightning import Lightning
from calc.validate.samples import Sample

SAMPLES: tuple[Sample, ...] = (
    Sample("blocks", Lightning(n_heads=3, head_dim=8, chunk_size=4)),
    Sample(
        "Ring: normed and rotated",
        Lightning(n_heads=3, head_dim=8, activated=False, qk_norm=True, rotary_dim=4, chunk_size=4),
    ),
    Sample("one block", Lightning(n_heads=4, head_dim=5, chunk_size=16)),
)
