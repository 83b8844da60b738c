"""Samples of Kimi delta attention."""

from __future__ import annotations

from calc.attention.kda import KimiDelta
from calc.validate.samples import Sample

SAMPLES: tuple[Sample, ...] = (
    Sample("chunks", KimiDelta(n_heads=3, head_dim=8, gate_rank=5, conv_kernel=3, chunk_size=4)),
    Sample("one chunk", KimiDelta(n_heads=2, head_dim=7, gate_rank=7, chunk_size=16)),
    Sample("output gate of full rank", KimiDelta(n_heads=2, head_dim=9, gate_rank=4, full_output_gate=True)),
    Sample("gates of full rank", KimiDelta(n_heads=2, head_dim=9, chunk_size=5)),
)
