"""Which scheme of number formats a ``quantization_config`` of the hub stands for."""

from __future__ import annotations

from typing import Any

import pytest

from calc.importers.huggingface.quantised import scheme_of
from calc.schemes import weight_forms


def linear(form: str, rest: str = "bf16") -> str:
    return f"attention={form},ffn={form},vectors={rest},rest={rest}"


def quark(**weight: Any) -> dict[str, Any]:
    """Return a file of AMD's Quark whose matrices all have one format."""
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}, "exclude": ["lm_head"]}


def mlx(form: str) -> str:
    return f"attention={form},ffn={form},router={form},embedding={form},head={form},vectors=bf16,rest=bf16"


def compressed(**weights: Any) -> dict[str, Any]:
    """Return a file of compressed-tensors whose matrices all have one format."""
    group = {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


KNOWN: list[tuple[dict[str, Any], str]] = [
    # deepseek-ai/DeepSeek-V3
    (
        {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
        "deepseek-fp8",
    ),
    (
        {"quant_method": "fbgemm_fp8"},
        "attention=fp8-channel,ffn=fp8-channel,vectors=bf16,rest=bf16",
    ),
    # openai/gpt-oss-120b
    ({"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"}, "gpt-oss-mxfp4"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "int4-linear"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 64}, "attention=int4-g64,ffn=int4-g64,vectors=fp16,rest=fp16"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8-linear"),
    (
        {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
        },
        "nf4-linear",
    ),
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "attention=nf4-single,ffn=nf4-single,vectors=bf16,rest=bf16",
    ),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4-linear"),
    ({"quant_algo": "FP8", "producer": {"name": "modelopt"}}, "fp8-linear"),
    ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, linear("fp8-block128")),
    ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, linear("int4-g128-sym")),
    ({"quant_method": "gptq", "bits": 8, "group_size": 128}, linear("int8-g128", "fp16")),
    ({"quant_method": "gptq", "bits": 4, "group_size": 32}, linear("int4-g32-packed", "fp16")),
    ({"quant_method": "gptq", "bits": 3, "group_size": 128}, linear("int3-g128", "fp16")),
    ({"quant_method": "gptq", "bits": 4, "group_size": -1}, linear("int4-channel-zero", "fp16")),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, linear("int8-channel-zero", "fp16")),
    ({"quant_method": "gptq", "bits": 8, "group_size": 32}, linear("int8-g32", "fp16")),
    # Intel/Qwen3-235B-A22B-Instruct-2507-int4-AutoRound
    (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"},
        "int4-linear",
    ),
    # amd/Llama-3.3-70B-Instruct-MXFP4-Preview
    (quark(dtype="fp4", qscheme="per_group", group_size=32, scale_format="e8m0"), linear("mxfp4")),
    # amd/Llama-3.1-8B-Instruct-FP8-KV
    (quark(dtype="fp8_e4m3", qscheme="per_tensor", group_size=None), "fp8-linear"),
    (quark(dtype="fp8_e4m3", qscheme="per_channel"), linear("fp8-channel")),
    # microsoft/bitnet-b1.58-2B-4T
    (
        {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"},
        linear("int2-tensor"),
    ),
    ({"quant_method": "eetq", "weights": "int8"}, linear("int8-channel", "fp16")),
    ({"quant_method": "fp8", "weight_block_size": [1, 32], "scale_fmt": "ue8m0"}, linear("mxfp8")),
    # mlx-community: tables are quantised like the other matrices
    ({"bits": 4, "group_size": 64}, mlx("mlx4-g64")),
    ({"bits": 6, "group_size": 64, "mode": "affine"}, mlx("mlx6-g64")),
    ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, mlx("mxfp4")),
    ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "int8-linear"),
    (
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}},
        linear("fp8-channel"),
    ),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4-linear"),
    (compressed(num_bits=4, type="int", strategy="group", group_size=32), linear("int4-g32-sym")),
    (compressed(num_bits=4, type="int", strategy="group", group_size=128, symmetric=False), linear("int4-g128")),
    (compressed(num_bits=4, type="int", strategy="channel"), linear("int4-channel")),
    (compressed(num_bits=8, type="int", strategy="channel"), "int8-linear"),
    (compressed(num_bits=8, type="float", strategy="channel"), linear("fp8-channel")),
    (compressed(num_bits=8, type="float", strategy="tensor"), "fp8-linear"),
    (compressed(num_bits=8, type="float", strategy="block", block_structure=[128, 128]), linear("fp8-block128")),
    (compressed(num_bits=4, type="float", strategy="tensor_group", group_size=16), "nvfp4-linear"),
    (compressed(num_bits=4, type="float", strategy="group", group_size=32), linear("mxfp4")),
]


@pytest.mark.parametrize(("quantised", "scheme"), KNOWN)
def test_known_checkpoints(quantised: dict[str, Any], scheme: str) -> None:
    assert scheme_of(quantised) == scheme
    assert weight_forms(scheme).name == scheme


@pytest.mark.parametrize(
    "quantised",
    [
        {},
        {"quant_method": "quark"},
        quark(dtype="fp4", qscheme="per_group", group_size=16),
        quark(dtype="int4", qscheme="per_group", group_size=128),
        {**quark(dtype="fp8_e4m3", qscheme="per_tensor"), "layer_quant_config": {"*lm_head": {}}},
        {"quant_method": "bitnet", "quantization_mode": "online"},
        {"quant_method": "fp8", "weight_block_size": [64, 64]},
        {"quant_method": "gptq", "bits": 5, "group_size": 128},
        {"bits": 7, "group_size": 64},
        {"bits": 4, "group_size": 64, "mode": "new"},
        {"quant_method": "awq", "bits": 4, "group_size": [128]},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
        {"quant_method": "torchao", "quant_type": "int4_weight_only"},
        compressed(num_bits=3, type="int", strategy="group", group_size=128),
        compressed(num_bits=8, type="float", strategy="block", block_structure=[64, 64]),
        compressed(num_bits=4, type="int", strategy="group", group_size=[128]),
        compressed(num_bits="4", type="float", strategy="tensor_group", group_size=16),
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": None}},
    ],
)
def test_unknown_ones_are_not_guessed(quantised: dict[str, Any]) -> None:
    assert scheme_of(quantised) is None


# deepseek-ai/DeepSeek-V4-Flash, with "expert_dtype": "fp4"
V4 = {"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}


def test_deepseek_v4_keeps_its_experts_in_four_bits() -> None:
    assert scheme_of(V4, "fp4") == "deepseek-v4-mxfp4"
    assert weight_forms("deepseek-v4-mxfp4").name == "deepseek-v4-mxfp4"


@pytest.mark.parametrize(
    ("changes", "expert_dtype"),
    [({}, "fp8"), ({}, 4), ({"scale_fmt": None}, "fp4"), ({"weight_block_size": [32, 32]}, "fp4"),
     ({"quant_method": "modelopt"}, "fp4")],
)  # fmt: skip
def test_experts_in_another_format_of_their_own_are_not_guessed(changes: dict[str, Any], expert_dtype: object) -> None:
    assert scheme_of(V4 | changes, expert_dtype) is None
