"""Latent attention and its sparse variant: counts by hand, the two forms, the break-even."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from calc.attention import Attention
from calc.attention.dsa import DSA
from calc.attention.mla import MLA, LatentAttention, absorbed_cheaper_from
from calc.errors import SpecError
from calc.model import Block, Pass, cache_bytes, flops_by_operation, parameters
from calc.units import dtype

SIZES: dict[str, Any] = {
    "n_heads": 6, "q_lora_rank": 10, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 5,
}  # fmt: skip
V3 = MLA(n_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
SMALL = MLA(**SIZES)
SPARSE = DSA(**SIZES, n_index_heads=3, index_head_dim=7, n_selected=16)


def block(spec: Attention, d_model: int = 20) -> Block:
    placed = Block.of("attention", spec)
    return replace(placed, letters={"d": d_model, **placed.letters})


def flops(spec: Attention, pass_: Pass, counts: Any = "matmul") -> Any:
    return sum(flops_by_operation([block(spec)], pass_, counts).values())


def test_deepseek_v3_attention_parameters() -> None:
    # arXiv:2412.19437 §4.2: d = 7168; the sum of its matrices and two norms
    assert parameters([block(V3, 7168)]).total == (
        7168 * 1536 + 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 + 512 * 128 * 256 + 128 * 128 * 7168
    )


@pytest.mark.parametrize("form", ["by_phase", "naive", "absorbed"])
def test_parameters_do_not_depend_on_the_form(form: Any) -> None:
    for spec in (SMALL, SPARSE):
        assert parameters([block(replace(spec, form=form))]) == parameters([block(spec)])


def test_the_cache_is_one_latent_and_one_rotated_key() -> None:
    kept = cache_bytes([block(V3)], Pass.decode(1000), dtype("bf16"))
    assert (kept.bytes_per_token, kept.bytes) == (2 * (512 + 64), 2000 * (512 + 64))
    kept = cache_bytes([block(SPARSE)], Pass.decode(1000), dtype("bf16"))
    assert kept.bytes_per_token == 2 * (12 + 4 + 7)


def test_the_phase_chooses_the_form() -> None:
    for pass_, form in ((Pass.prefill(50, 2), "naive"), (Pass.decode(50, 2), "absorbed")):
        assert flops(SMALL, pass_) == flops(replace(SMALL, form=form), pass_)
    assert flops(replace(SMALL, form="naive"), Pass.decode(50)) > flops(SMALL, Pass.decode(50))


def test_flops_by_hand() -> None:
    pairs, d, t = 50 * 51 // 2, 20, 50
    down = d * (10 + 12 + 4) + 10 * 6 * (8 + 4) + 6 * 5 * d
    assert flops(SMALL, Pass.prefill(t)) == 2 * (t * down + t * 12 * 6 * (8 + 5) + pairs * 6 * (8 + 4 + 5))
    assert flops(SMALL, Pass.decode(t)) == 2 * (down + 12 * 6 * (8 + 5) + t * 6 * (2 * 12 + 4))


def saved_by_absorbing(spec: LatentAttention, t: Any, s: Any) -> Any:
    naive, absorbed = (
        flops(replace(spec, form=form), Pass(tokens=t, context=s, source=s)) for form in ("naive", "absorbed")
    )
    return naive - absorbed


def test_break_even_of_deepseek_v3() -> None:
    assert absorbed_cheaper_from(V3) == 2
    assert saved_by_absorbing(V3, 1, 1) < 0 < saved_by_absorbing(V3, 1, 2)
    # over a long context, from 171 new tokens on
    assert saved_by_absorbing(V3, 170, 10**6) > 0 > saved_by_absorbing(V3, 171, 10**6)
    s = sp.Symbol("s", positive=True)
    assert sp.solve(saved_by_absorbing(V3, 1, s), s) == [sp.Rational(131072, 130304)]


def test_break_even_of_a_narrow_and_of_a_wide_latent() -> None:
    narrow, wide = replace(SMALL, kv_lora_rank=1), replace(SMALL, kv_lora_rank=99, qk_nope_head_dim=1, v_head_dim=1)
    assert (absorbed_cheaper_from(narrow), absorbed_cheaper_from(wide)) == (1, 100)
    assert saved_by_absorbing(narrow, 1, 1) > 0
    assert saved_by_absorbing(wide, 1, 99) == 0 < saved_by_absorbing(wide, 1, 100)


def test_options_change_the_table_where_they_should() -> None:
    direct = replace(SMALL, q_lora_rank=None)
    assert parameters([block(direct)]).total - parameters([block(SMALL)]).total == 20 * 72 - (20 * 10 + 10 + 10 * 72)
    biased = replace(SMALL, bias=True)
    assert parameters([block(biased)]).total - parameters([block(SMALL)]).total == 10 + 12 + 4 + 20
    assert parameters([block(replace(direct, bias=True))]).total - parameters([block(direct)]).total == 12 + 4 + 20
    for gate, columns in (("head", 6), ("element", 30)):
        gated = replace(SMALL, output_gate=gate)
        assert parameters([block(gated)]).total - parameters([block(SMALL)]).total == 20 * columns
    still = replace(SMALL, rotary=False)
    assert flops(SMALL, Pass.decode(9), "all") - flops(still, Pass.decode(9), "all") == 3 * 4 * (6 + 1)
    scaled = replace(SMALL, latent_scaled=True)
    assert flops(scaled, Pass.decode(9), "all") - flops(SMALL, Pass.decode(9), "all") == 6 * (8 + 4) + 12


def test_sparse_attention_is_the_dense_one_until_the_selection_bites() -> None:
    indexer = sum(
        value for (_, name), value in flops_by_operation([block(SPARSE)], Pass.prefill(16)).items() if "index" in name
    )
    assert flops(SPARSE, Pass.prefill(16)) - indexer == flops(SMALL, Pass.prefill(16))
    assert flops(replace(SPARSE, shared_index=True), Pass.prefill(16)) == flops(SMALL, Pass.prefill(16))
    attended = {s: flops_by_operation([block(SPARSE)], Pass.decode(s))["attention", "context"] for s in (15, 16, 1000)}
    assert attended == {s: 2 * 6 * 12 * min(s, 16) for s in (15, 16, 1000)}


def test_sparse_attention_needs_a_query_latent() -> None:
    with pytest.raises(SpecError, match="dsa needs q_lora_rank"):
        replace(SPARSE, q_lora_rank=None)


@pytest.mark.parametrize("spec", [SMALL, SPARSE], ids=["mla", "dsa"])
@pytest.mark.parametrize("make", [Pass.prefill, Pass.decode])
def test_three_readings_are_equal(spec: LatentAttention, make: Any) -> None:
    lengths, n = [1, 5, 40, 100], sp.Symbol("n", integer=True, positive=True)
    for counts in ("matmul", "all"):
        whole = [flops(spec, make(length), counts) for length in lengths]
        assert [flops(spec, make(n), counts).subs(n, length) for length in lengths] == whole
        assert flops(spec, make(np.array(lengths, dtype=float)), counts).tolist() == whole
        assert all(isinstance(value, int) for value in whole)


def test_built_from_data() -> None:
    assert Attention.build({"kind": "mla", **SIZES}) == SMALL
