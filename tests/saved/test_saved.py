"""What a training pass keeps: against published formulas, and among its own readings."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import calc
from calc.errors import SpecError
from calc.operations import Einsum, activation
from calc.parallel import Layout, shard
from calc.passes import Pass
from calc.saved import Adapters, Keeping, Saved, saved, saved_bytes
from calc.saved.joined import repeated

GPT = Keeping(attention="eager", dropout=True, form="fp16")
"""What Korthikanti et al. 2022 count: unfused attention with dropout, 16-bit activations, no statistics."""
S, B, H, A, T = 2048, 2, 12288, 96, 8


def _per_layer(found: list[Saved]) -> int:
    return sum(each.bytes for each in found if each.path.startswith("layer.") and "statistics" not in each.tensor)


@pytest.mark.parametrize(
    ("layout", "recompute", "factor"),
    [
        (Layout(), "none", 34 + 5 * A * S / H),
        (Layout(tp=T), "none", 10 + 24 / T + 5 * A * S / (H * T)),
        (Layout(tp=T, sequence_parallel=True), "none", 34 / T + 5 * A * S / (H * T)),
        (Layout(tp=T), "selective", 10 + 24 / T),
        (Layout(tp=T, sequence_parallel=True), "selective", 34 / T),
        (Layout(tp=T), "full", 2),
        (Layout(tp=T, sequence_parallel=True), "full", 2 / T),
    ],
)
def test_gpt_layers_keep_what_korthikanti_et_al_count(layout: Layout, recompute: str, factor: float) -> None:
    """arXiv:2205.05198 Table 2: s·b·h times the factor, in bytes."""
    blocks = shard(calc.load("gpt-3").blocks(), layout)
    found = saved(blocks, Pass.prefill(S, B), GPT, recompute=recompute)  # type: ignore[arg-type]
    assert _per_layer(found) == S * B * H * factor


def test_a_flash_kernel_keeps_its_operands_its_result_and_a_number_a_row() -> None:
    found = saved(calc.load("llama-3-8b").blocks(), Pass.prefill(128), Keeping())
    core = {each.tensor: each for each in found if each.path == "layer.attention" and each.operation != "q_proj"}
    assert set(core) == {"q_rotary", "k", "v", "values", "softmax, log-sum-exp"}
    assert core["q_rotary"].bytes == core["values"].bytes == 2 * 128 * 4096
    assert core["k"].bytes == core["v"].bytes == 2 * 128 * 1024
    assert core["softmax, log-sum-exp"].bytes == 4 * 128 * 32


def test_fused_kernels_keep_what_enters_a_chain() -> None:
    blocks = calc.load("llama-3-8b").blocks()
    fused, apart = (saved(blocks, Pass.prefill(16), Keeping(fused=fused)) for fused in (True, False))
    names = [{each.tensor for each in found if each.path == "layer.ffn"} for found in (fused, apart)]
    assert names[1] - names[0] == {"activation"}
    assert {"gate_proj", "up_proj", "gated"} <= names[0]


def test_every_tensor_is_kept_once() -> None:
    """Queries, keys and values read one tensor; the residual stream is kept by the norms alone."""
    found = saved(calc.load("llama-3-8b").blocks(), Pass.prefill(16), Keeping())
    tensors = [(each.path, each.tensor) for each in found]
    assert len(tensors) == len(set(tensors))
    streams = [each for each in found if each.dims == "btd" and each.path == "layer.residual"]
    assert [each.tensor for each in streams] == ["layer.x", "attention_residual"]


def test_parts_side_by_side_read_what_enters_the_layer() -> None:
    found = saved(calc.load("gpt-neox-20b").blocks(), Pass.prefill(16), Keeping())
    assert [each.tensor for each in found if each.path == "layer.residual" and each.dims == "btd"] == ["layer.x"]


def test_frozen_maps_keep_nothing_and_adapters_what_enters_them() -> None:
    blocks, pass_ = calc.load("llama-3-8b").blocks(), Pass.prefill(16)
    frozen = saved(blocks, pass_, Keeping(adapters=Adapters()))
    assert not [each for each in frozen if each.operation in ("q_proj", "o_proj", "down_proj", "lm_head")]
    adapted = saved(blocks, pass_, Keeping(adapters=Adapters(rank=4, targets=("q_proj", "v_proj"))))
    extra = {each.tensor: each.bytes for each in adapted if each.operation in ("q_proj", "v_proj")}
    assert extra == {"residual.attention_norm": 2 * 16 * 4096, "q_proj, rank": 2 * 16 * 4, "v_proj, rank": 2 * 16 * 4}
    dropped = saved(blocks, pass_, Keeping(adapters=Adapters(rank=4, targets=("q_proj",), dropout=True)))
    assert {"x, mask", "x, dropped"} <= {each.tensor for each in dropped}


def test_experts_keep_a_copy_of_each_token_for_each_expert_it_goes_to() -> None:
    found = saved(calc.load("mixtral-8x7b").blocks(), Pass.prefill(16), Keeping())
    copies = [each for each in found if each.tensor.endswith(", chosen")]
    assert [each.bytes for each in copies] == [2 * 16 * 2 * 4096]


@pytest.mark.parametrize("recompute", ["none", "selective", "products", "full"])
@pytest.mark.parametrize("name", ["gpt-3", "deepseek-v3", "gemma-2-9b", "mamba-2.8b", "qwen3-next-80b-a3b"])
def test_integers_arrays_and_symbols_agree(name: str, recompute: str) -> None:
    blocks = calc.load(name).blocks()

    def read(batch: object) -> object:
        return saved_bytes(saved(blocks, Pass.prefill(256, batch), Keeping(), recompute=recompute))  # type: ignore[arg-type]

    exact = [read(batch) for batch in (1, 3)]
    assert np.array_equal(np.asarray(read(np.array([1, 3]))), exact)
    batch = sympy.Symbol("b", positive=True, integer=True)
    assert [sympy.sympify(read(batch)).subs(batch, value) for value in (1, 3)] == exact


def test_operands_are_repeated_for_the_heads_that_share_them() -> None:
    assert repeated(Einsum("values", "bkgts,bskh->btkgh", inputs=("softmax", "v"))) == ("", "g")
    assert repeated(Einsum("scores", "btar,bsr->bats", inputs=("q", "rope"))) == ("", "a")


def test_activation_functions_say_what_their_derivative_needs() -> None:
    needs = {name: activation("f", "btf", "up", name) for name in ("relu", "relu2", "gelu", "identity")}  # type: ignore[arg-type]
    assert {name: op.needed for name, op in needs.items()} == {
        "relu": ("f",), "relu2": ("up",), "gelu": ("up",), "identity": ()
    }  # fmt: skip
    assert (needs["relu2"].needed_apart, needs["relu2"].inside) == ((), 1)


def test_every_second_product_of_a_recomputed_layer_is_kept() -> None:
    found = saved(calc.load("llama-3-8b").blocks(), Pass.prefill(16), Keeping(), recompute="products")
    kept = {each.operation for each in found if each.path in ("layer.attention", "layer.ffn")}
    assert kept == {"q_proj", "v_proj", "values", "softmax", "gate_proj", "down_proj"}
    per_token = sum(each.bytes for each in found if each.path.startswith("layer.")) / 16
    assert per_token == 2 * (4 * 4096 + 1024 + 14336) + 4 * 32


def test_an_unknown_way_of_recomputing_is_refused() -> None:
    with pytest.raises(SpecError, match="recompute = 'some' is none of 'none', 'selective', 'products', 'full'"):
        saved([], Pass.prefill(1), recompute="some")  # type: ignore[arg-type]
