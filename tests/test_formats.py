"""Number formats: exact bits of elements and of what stands beside them; schemes against sizes of real files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
import sympy

import calc
from calc.errors import SpecError, UnknownName
from calc.formats import FORMATS, dtype
from calc.model import Model
from calc.schemes import SCHEMES, form_of, stored_bytes, weight_forms
from calc.units import GIB

BITS = {
    "fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "int64": 64,
    "fp8-block128": 8 + Fraction(32, 128 * 128),
    "fp8-block128-e8m0": 8 + Fraction(8, 128 * 128),
    "fp8-g128": 8.25,
    "int4-g128": 4 + Fraction(16 + 4, 128),
    "int4-g32": 5,  # KIVI: two fp16 per 32
    "nf4": 4 + Fraction(8, 64) + Fraction(32, 64 * 256),  # QLoRA, §3: 0.127 bits for the constants
    "nf4-single": 4.5,
    "mxfp4": 4.25, "mxfp6": 6.25, "mxfp8": 8.25, "nvfp4": 4.5,
    # bpw in the comments of ggml-common.h
    "q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6, "q8_0": 8.5, "q2_k": 2.625, "q3_k": 3.4375, "q4_k": 4.5,
    "q5_k": 5.5, "q6_k": 6.5625, "iq4_nl": 4.5, "iq4_xs": 4.25, "iq3_s": 3.4375, "iq3_xxs": 3.0625, "iq2_s": 2.5625,
    "iq2_xs": 2.3125, "iq2_xxs": 2.0625, "iq1_m": 1.75, "iq1_s": 1.5625,
}  # fmt: skip


@pytest.mark.parametrize("name", BITS)
def test_bits_per_element(name: str) -> None:
    assert dtype(name).bits_per_element == BITS[name]


@pytest.mark.parametrize(
    ("name", "rows", "columns", "expected"),
    [
        ("bf16", 3, 5, 30),
        ("int4", 3, 5, 7.5),
        ("fp8-tensor", 100, 100, 10_000 + 4),
        ("fp8-block128", 256, 256, 65_536 + 4 * 4),
        ("fp8-block128", 257, 129, 257 * 129 + 3 * 2 * 4),  # begun blocks have a scale too
        ("int8-channel", 64, 100, 6_400 + 64 * 4),
        ("int4-g128", 10, 256, 10 * (128 + 2 * 2.5)),
        ("int4-g128", 10, 129, 645 + 10 * 2 * 2.5),
        ("mxfp4", 7, 2880, 7 * (1440 + 90)),  # gpt-oss: 90 scales a row
        ("nvfp4", 2, 32, 32 + 4 + 4),
        ("nf4", 10, 70, 350 + 11 * 1 + 4),  # 700 elements run on in 11 blocks, one outer block
        ("q6_k", 4, 512, 4 * 2 * 210),
    ],
)
def test_stored_bytes_of_a_matrix(name: str, rows: int, columns: int, expected: float) -> None:
    for matrices in (1, 3):
        assert dtype(name).stored(rows, columns, matrices) == ceil(matrices * expected)


@pytest.mark.parametrize("name", FORMATS)
def test_three_readings_of_a_size(name: str) -> None:
    form = dtype(name)
    rows, columns, matrices = sympy.symbols("m n e", integer=True, positive=True)
    formula = sympy.sympify(form.stored(rows, columns, matrices))
    for sizes in ((3, 576, 2), (128, 4096, 1), (257, 33, 4)):
        exact = form.stored(*sizes)
        assert isinstance(exact, int)
        assert formula.subs(dict(zip((rows, columns, matrices), sizes, strict=True))) == exact
        arrays = [np.array([float(size)]) for size in sizes]
        assert form.stored(*arrays)[0] == exact


@pytest.mark.parametrize("name", FORMATS)
def test_whole_blocks_cost_the_nominal_bits(name: str) -> None:
    form = dtype(name)
    beside = form.tensor_bits // 8 + (1024 * form.overhead_bits // 8 if form.group == 0 else 0)
    assert form.stored(1024, 4096) == form.bytes(1024 * 4096) + beside


# llama.cpp tools/quantize/README.md, meta-llama/Llama-3.1-8B: bits per weight of the whole file's tensors, which hold a
# table of 64 rotary factors in fp32 besides the model's 8,030,261,248 parameters
LLAMA_CPP = {
    "q2_k": 3.1593, "q3_k_s": 3.6429, "q3_k_l": 4.2979, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q5_k_s": 5.5704,
    "q5_k_m": 5.7036, "q6_k": 6.5633, "q8_0": 8.5008,
}  # fmt: skip


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_gguf_files_have_the_published_size(name: str) -> None:
    size = calc.load("llama-3-8b").weight_bytes(f"gguf-{name}") + 64 * 4
    assert round(8 * size / (8_030_261_248 + 64), 4) == LLAMA_CPP[name]


def gpt_oss(layers: int, experts: int) -> Model:
    """Build gpt-oss from config.json of openai/gpt-oss-20b and -120b."""
    attention = {
        "kind": "gqa", "n_heads": 64, "n_kv_heads": 8, "head_dim": 64, "qkv_bias": True, "o_bias": True,
        "sinks": True, "rotary_dim": 64,
    }  # fmt: skip
    ffn = {
        "kind": "moe", "n_experts": experts, "n_active_experts": 4, "d_expert": 2880, "expert_bias": True,
        "router_bias": True, "scores_of": "chosen", "activation": "quick_gelu", "clamped": True, "up_offset": True,
    }  # fmt: skip
    layer = {"norm": {"kind": "rms"}, "attention": attention, "ffn": ffn}
    stack = [{"repeat": layers, "layer": [layer]}]
    return Model.build(
        {"name": "gpt-oss", "d_model": 2880, "vocab_size": 201_088, "stack": stack, "final_norm": {"kind": "rms"}}
    )


# gpt-oss model card, arXiv:2508.10925 Table 1: parameters and size of the checkpoint
@pytest.mark.parametrize(("layers", "experts", "params", "gib"), [(24, 32, 20.91, 12.8), (36, 128, 116.83, 60.8)])
def test_gpt_oss_checkpoints_have_the_published_size(layers: int, experts: int, params: float, gib: float) -> None:
    model = gpt_oss(layers, experts)
    assert round(model.params().total / 1e9, 2) == params
    assert round(model.weight_bytes("gpt-oss-mxfp4") / GIB, 1) == gib
    assert model.weight_bytes("experts=mxfp4,vectors=bf16,rest=bf16") == model.weight_bytes("gpt-oss-mxfp4")


# model.safetensors.index.json: all tensors, less those of the module for multi-token prediction (1,575 in Flash)
@pytest.mark.parametrize(
    ("name", "total", "mtp"),
    [
        ("deepseek-v4-flash", 159_609_485_896, 3_593_787_756),
        ("deepseek-v4-pro", 864_704_792_696, 13_956_587_692),
    ],
)
def test_deepseek_v4_checkpoints_have_the_published_size(name: str, total: int, mtp: int) -> None:
    model = calc.load(name)
    assert model.weights_dtype == "deepseek-v4-mxfp4"
    assert model.weight_bytes() == total - mtp


# the sizes of the files on the hub: what is beside the weights (names, buffers of masks) is less than 0.2 %
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gemma-2-2b", 10.46e9), ("gemma-2-9b", 34.43 * GIB), ("gemma-2-27b", 101.43 * GIB),
        ("olmo-7b", 27.55e9), ("olmo-2-7b", 29.19e9), ("olmo-2-13b", 54.86e9),
        ("gpt2", 548_105_171 - 12 * 2**22), ("gpt2-medium", 1_520_013_706 - 24 * 2**22),
        ("gpt2-large", 3_247_202_234 - 36 * 2**22), ("gpt2-xl", 6_431_878_936 - 48 * 2**22),
        ("t5-small", 242_043_056), ("t5-base", 891_646_390), ("t5-large", 2.95e9), ("t5-11b", 45.2e9),
        ("flan-t5-xl", 11.4e9), ("t5-v1.1-xl", 11.4e9), ("gpt-j-6b", 24.2e9), ("tinyllama-1.1b", 4.4e9),
        ("starcoder2-3b", 12.12e9), ("starcoder2-7b", 14.35e9), ("starcoder2-15b", 63.83e9),
    ],
)  # fmt: skip
def test_weights_are_in_the_published_format(name: str, size: float) -> None:
    assert calc.load(name).weight_bytes() == pytest.approx(size, rel=0.002)


def toy(**layer: Any) -> Model:
    layer = {"norm": {"kind": "rms"}, "ffn": {"kind": "dense", "d_ff": 512, "gated": True}} | layer
    attention = {"kind": "gqa", "n_heads": 4, "n_kv_heads": 2, "head_dim": 64}
    stack = [{"repeat": 10, "layer": [{"attention": attention} | layer]}]
    return Model.build({"name": "toy", "d_model": 256, "vocab_size": 512, "stack": stack})


MOE = {"kind": "moe", "n_experts": 4, "n_active_experts": 2, "d_expert": 300, "correction_bias": True}


def test_deepseek_keeps_blocks_for_matrices_and_high_precision_for_the_rest() -> None:
    d, x = 256, 300
    attention = 2 * 256 * d + 2 * 128 * d  # queries and output, keys and values
    matrices = attention + 4 * 3 * d * x
    scales = 4 * (2 * 2 * 2 + 2 * 1 * 2) + 4 * 4 * (2 * 3 * 2 + 2 * 3)  # 300 is 3 blocks, begun ones included
    layer = matrices + scales + 2 * (4 * d + 2 * d) + 4 * 4  # router and norms in bf16, the bias of 4 in fp32
    assert toy(ffn=MOE).weight_bytes("deepseek-fp8") == 10 * layer + 2 * 2 * 512 * d


def test_a_format_is_that_of_every_tensor() -> None:
    model = toy(ffn=MOE)
    assert model.weight_bytes("fp8") == model.params().total
    assert model.weight_bytes("fp32") == 4 * model.params().total
    assert model.weight_bytes("rest=fp8") == model.params().total
    assert model.weight_bytes("torch.float16") == model.weight_bytes() == 2 * model.params().total


def test_roles_take_precedence_from_vectors_over_experts_to_parts() -> None:
    model = toy(ffn=MOE | {"expert_bias": True})
    biases = 10 * 4 * (2 * 300 + 256)
    experts = 10 * 4 * 3 * 256 * 300
    base = model.weight_bytes("rest=bf16")
    assert model.weight_bytes("experts=fp8,rest=bf16") == base - experts - biases
    assert model.weight_bytes("experts=fp8,vectors=bf16,rest=bf16") == base - experts
    assert model.weight_bytes("ffn=fp8,vectors=bf16,rest=bf16") == base - experts
    assert model.weight_bytes("head=fp32,rest=bf16") == base + 2 * 512 * 256


def test_roles_are_narrowed_to_operations_and_layers() -> None:
    model = toy(ffn=MOE | {"d_shared": 64})
    base = model.weight_bytes("rest=bf16")
    layer, shared = 4 * 3 * 256 * 300, 3 * 256 * 64
    assert model.weight_bytes("shared=fp8,rest=bf16") == base - 10 * shared
    assert model.weight_bytes("ffn=fp8,rest=bf16") == base - 10 * (layer + shared)
    assert model.weight_bytes("ffn@0-8/2=fp8,rest=bf16") == base - 5 * (layer + shared)
    assert model.weight_bytes("experts@3+7-9=fp8,rest=bf16") == base - 4 * layer
    assert model.weight_bytes("experts.down_proj=fp8,rest=bf16") == base - 10 * layer // 3
    assert model.weight_bytes("experts.down_proj@0=fp8,rest=bf16") == base - layer // 3
    # operations before layers, both before either, the closest role before all
    assert model.weight_bytes("experts.down_proj=bf16,experts@0=fp8,rest=bf16") == base - 2 * layer // 3
    assert model.weight_bytes("experts=bf16,ffn@0-9=fp8,rest=bf16") == base - 10 * shared
    assert model.weight_bytes("rest=bf16,rest@0=fp8") < base


def test_most_layers_say_what_a_kernel_multiplies_in() -> None:
    blocks = toy(ffn={"kind": "dense", "gated": True, "d_ff": 512}).blocks()
    block = next(block for block in blocks if block.name == "ffn")
    forms = weight_forms("ffn@1-8=fp8-channel,rest=bf16", blocks)
    assert form_of(block, block.operations[0], forms).name == "fp8-channel"


def test_rows_that_do_not_fit_a_block_fall_back_as_in_llama_cpp() -> None:
    dense = {"kind": "dense", "gated": True}
    fits, falls = toy(ffn=dense | {"d_ff": 512}), toy(ffn=dense | {"d_ff": 544})
    assert weight_forms("q4_k_m").choose is SCHEMES["gguf-q4_k_m"].choose  # type: ignore[union-attr]
    # rows of the down projection: 544 = 17 · 32 and no multiple of 256, so 4 bits become q5_0 and 6 become q8_0
    up = 2 * 10 * 256 * (544 - 512) * 4.5 / 8
    more = [i for i in range(10) if i < 1 or i >= 8 or (i - 1) % 3 == 2]
    down = sum(256 * (544 * (8.5 if i in more else 5.5) - 512 * (6.5625 if i in more else 4.5)) / 8 for i in range(10))
    assert falls.weight_bytes("q4_k_m") - fits.weight_bytes("q4_k_m") == up + down


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_needs_less_than_bf16_and_more_than_two_bits(name: str) -> None:
    model = calc.load("gpt-oss-20b" if name in ("gpt-oss-mxfp4", "int4-experts") else "llama-3-8b")  # experts alone
    assert model.params().total / 4 < model.weight_bytes(name) < 2 * model.params().total


def test_schemes_read_through_operations_as_they_store() -> None:
    from calc.model import Pass, moved_bytes, running

    model = calc.load("llama-3-8b")
    blocks = model.blocks()
    forms = {"weight": weight_forms("q4_k_m", blocks), "activation": dtype("bf16"), "cache": dtype("bf16")}
    moved = [
        moved_bytes(block, operation, Pass.decode(1), forms)["weight"]
        for block, operation, _ in running(blocks, Pass.decode(1))
        if operation.name != "tokens"  # one row of the table
    ]
    table = dtype("q4_k").stored(model.vocab_size, model.d_model)
    assert sum(moved) + table == model.weight_bytes("q4_k_m")


@pytest.mark.parametrize("name", [*SCHEMES, "mxfp4", "experts=int4-g128,rest=bf16"])
@pytest.mark.parametrize("experts", [4, 8])
def test_a_size_as_a_formula_has_the_same_value(name: str, experts: int) -> None:
    model = toy(ffn=MOE | {"n_experts": experts, "d_shared": 96})
    blocks = model.blocks()
    letters = {letter: value for block in blocks for letter, value in block.letters.items()}
    symbols = {letter: sympy.Symbol(f"n{ord(letter)}", integer=True, positive=True) for letter in letters}
    formulas = [replace(block, letters={letter: symbols[letter] for letter in block.letters}) for block in blocks]
    formula = stored_bytes(formulas, weight_forms(name, blocks))
    assert formula.subs({symbols[letter]: value for letter, value in letters.items()}) == model.weight_bytes(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("q4_k_x", "did you mean"),
        ("experts=mxfp4", "gives no format for the rest"),
        ("banana=bf16,rest=bf16", "no role of weights named 'banana'"),
        ("ffn.=bf16,rest=bf16", "no role of weights named"),
        ("ffn@1..3=fp8,rest=bf16", "layers '1..3' are not written as"),
        ("ffn@=fp8,rest=bf16", "layers '' are not written as"),
        ("rest@0=fp8", "gives no format for the rest"),
        ("experts=bf17,rest=bf16", "no dtype named 'bf17'"),
    ],
)
def test_faults_are_named(name: str, message: str) -> None:
    with pytest.raises((SpecError, UnknownName), match=message):
        weight_forms(name)


CACHE = {
    "bf16": 4096, "fp8": 2048, "int8": 2048, "int4": 1024, "int4-g32": 1280, "int8-channel": 2048 + 16 * 4,
    "mxfp4": 1088, "mxfp8": 2112, "nvfp4": 1152, "q8_0": 2176, "q4_0": 1152, "fp8-tensor": 2048,
}  # fmt: skip


@pytest.mark.parametrize("name", CACHE)
def test_cache_of_eight_heads_of_128_keys_and_values(name: str) -> None:
    cache = calc.load("llama-3-8b").cache(1000, batch=3, form=name)
    assert cache.bytes_per_token == 32 * CACHE[name]
    assert cache.bytes == 3 * 1000 * 32 * CACHE[name]


def test_packed_latent_cache_is_656_bytes_per_token_and_layer() -> None:
    latent = {
        "kind": "mla", "n_heads": 8, "q_lora_rank": 64, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128,
    }  # fmt: skip
    assert toy(attention=latent).cache(100, form="fp8-ds-mla").bytes_per_token == 10 * 656
    indexed = latent | {"kind": "dsa", "n_index_heads": 4, "index_head_dim": 128, "n_selected": 64}
    assert toy(attention=indexed).cache(100, form="fp8-ds-mla").bytes_per_token == 10 * (656 + 128 + 4)
    with pytest.raises(SpecError, match="layout of a latent"):
        toy().cache(100, form="fp8-ds-mla")


def test_a_scheme_stores_the_model_it_was_made_for() -> None:
    with pytest.raises(SpecError, match="name the model that is stored"):
        stored_bytes(toy().blocks(), weight_forms("deepseek-fp8"))


def test_a_scheme_that_tells_layers_apart_refuses_absurd_depths() -> None:
    model = toy()
    deep = Model(
        name="deep", d_model=256, vocab_size=8, stack=(type(model.stack[0])(repeat=10**9, layer=model.stack[0].layer),)
    )
    assert deep.weight_bytes("bf16") > 10**15
    with pytest.raises(SpecError, match="at most 10,000"):
        deep.weight_bytes("q4_k_m")
