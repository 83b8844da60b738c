"""The stored bytes of quantised checkpoints whose files name modules that stay as they were, or have another format."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from calc import catalog
from calc.importers.huggingface import Imported, from_config
from calc.importers.huggingface.roles import runs, scheme_text, stored
from calc.layers import Block
from calc.schemes import SCHEMES, Scheme, Tensor, weight_forms

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
NVFP4: dict[str, Any] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
FP8: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}


def read(name: str, quantised: dict[str, Any], **changes: Any) -> Imported:
    data = json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))
    return from_config({**data, **changes, "quantization_config": quantised}, name=name, origin="config.json")


def layers(n: int, *modules: str, of: str = "model", start: int = 0) -> list[str]:
    return [f"{of}.layers.{index}.{module}" for index in range(start, n) for module in modules]


MLA = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
DELTA = ("in_proj_qkv", "in_proj_z", "out_proj")
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
GATED = ("gate_proj", "up_proj", "down_proj")
QWEN = "model.language_model"


def full(n: int, *modules: str) -> list[str]:
    """Name modules of Qwen's layers with attention, every fourth."""
    return [f"{QWEN}.layers.{index}.{module}" for index in range(3, n, 4) for module in modules]


def recurrent(n: int, *modules: str) -> list[str]:
    """Name modules of the others."""
    return [f"{QWEN}.layers.{index}.{module}" for index in range(n) if index % 4 != 3 for module in modules]


def as_algorithm(name: str, *modules: str) -> dict[str, Any]:
    """Give modules a format as ModelOpt writes it."""
    return {module: {"quant_algo": name} for module in modules}


PUBLISHED: list[tuple[str, str, dict[str, Any], str, float]] = [
    (
        "nvidia/Gemma-4-31B-IT-NVFP4",
        "gemma-4-31b",
        NVFP4 | {"ignore": ["lm_head", "model.vision_tower*", *layers(60, "self_attn*", of=QWEN)]},
        "nvfp4-ffn",
        31.48,
    ),
    (
        "nvidia/Gemma-4-26B-A4B-NVFP4",
        "gemma-4-26b-a4b",
        NVFP4 | {"ignore": ["lm_head", *layers(30, "mlp*", "router*", "self_attn*", of=QWEN)]},
        "experts=nvfp4,rest=bf16",
        17.64,
    ),
    (
        "nvidia/Qwen3.5-122B-A10B-NVFP4",
        "qwen3.5-122b-a10b",
        NVFP4
        | {
            "ignore": [
                "lm_head", "model.visual*", "mtp.layers.0*", "mtp*",
                *full(48, "self_attn*"), *recurrent(48, "linear_attn*"),
                *layers(48, "mlp.shared_expert*", "mlp.shared_expert_gate", of=QWEN),
            ]
        },
        "experts=nvfp4,rest=bf16",
        77.52,
    ),
    (
        "nvidia/GLM-5.1-NVFP4",
        "glm-5",
        NVFP4
        | {
            "ignore": [
                "lm_head", "model.layers.0*", "model.layers.1.*", "model.layers.2.*", "model.layers.78*",
                *layers(78, "mlp.shared_experts*", "self_attn*", start=3),
            ]
        },
        "experts=nvfp4,rest=bf16",
        445.96,
    ),
    (
        "nvidia/MiniMax-M2.5-NVFP4",
        "minimax-m2.5",
        NVFP4 | {"ignore": ["lm_head", *layers(62, "block_sparse_moe.gate", "self_attn*")]},
        "nvfp4-ffn",
        134.40,
    ),
    (
        "moonshotai/Kimi-K2.5",
        "kimi-k2",
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": INT4}},
            "ignore": [
                "lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
            ],
        },
        "int4-experts",
        594.21,
    ),
    (
        "nvidia/DeepSeek-V3.1-NVFP4: of the attention, its output alone",
        "deepseek-v3",
        NVFP4 | {"exclude_modules": ["lm_head", "model.layers.61*", *layers(61, *(f"self_attn.{one}" for one in MLA))]},
        "ffn=nvfp4,attention=nvfp4,attention.q_a_proj=bf16,attention.q_nope=bf16,attention.q_rope=bf16,"
        "attention.kv_a_proj=bf16,attention.k_rope=bf16,attention.k_b=bf16,attention.v_b=bf16,attention.q_absorbed=bf16,"
        "attention.values=bf16,rest=bf16",
        386.38,
    ),
    (
        "meta-llama/Llama-3.1-405B-FP8: attention, the first and the last layer",
        "llama-3.1-405b",
        {
            "quant_method": "fbgemm_fp8",
            "modules_to_not_convert": [
                *layers(126, *(f"self_attn.{one}" for one in QKVO)),
                *(f"model.layers.{layer}.mlp.{one}" for layer in (0, 125) for one in GATED),
            ],
        },
        "ffn=fp8-channel,ffn@0+125=bf16,rest=bf16",
        487.23,
    ),
    (
        "Qwen/Qwen3-235B-A22B-FP8: nothing but what stays in any case",
        "qwen3-235b-a22b",
        FP8
        | {
            "modules_to_not_convert": [
                "lm_head", *layers(94, "input_layernorm", "mlp.gate", "post_attention_layernorm"),
            ]
        },
        "deepseek-fp8",
        236.45,
    ),
    (
        "openai/gpt-oss-120b",
        "gpt-oss-120b",
        {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
            ],
        },
        "gpt-oss-mxfp4",
        65.25,
    ),
    (
        "mlx-community/Llama-3.2-1B-Instruct-4bit",
        "llama-3.2-1b",
        {"group_size": 64, "bits": 4},
        "attention=mlx4-g64,ffn=mlx4-g64,router=mlx4-g64,embedding=mlx4-g64,head=mlx4-g64,vectors=bf16,rest=bf16",
        0.695,
    ),
    (
        "mlx-community/Qwen3-30B-A3B-4bit: routers in eight bits",
        "qwen3-30b-a3b",
        {
            "group_size": 64,
            "bits": 4,
            "mode": "affine",
            **{name: {"group_size": 64, "bits": 8} for name in layers(48, "mlp.gate")},
        },
        "experts=mlx4-g64,attention=mlx4-g64,router=mlx8-g64,embedding=mlx4-g64,head=mlx4-g64,rest=bf16",
        17.18,
    ),
    (
        "nvidia/Qwen3.6-35B-A3B-NVFP4: two formats",
        "qwen3.5-35b-a3b",
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "ignore": ["mtp*", "mtp.layers.0*"],
            "quantized_layers": {
                **as_algorithm("FP8", *full(40, *(f"self_attn.{one}" for one in QKVO))),
                **as_algorithm("FP8", *recurrent(40, *(f"linear_attn.{one}" for one in DELTA))),
                **as_algorithm("W4A16_NVFP4", "lm_head", *layers(40, "mlp.experts", of=QWEN)),
                **as_algorithm("W4A16_NVFP4", *layers(40, *(f"mlp.shared_expert.{one}" for one in GATED), of=QWEN)),
            },
        },
        "experts=nvfp4,shared=nvfp4,attention=fp8-tensor,attention.b_proj=bf16,attention.a_proj=bf16,"
        "attention.conv_q=bf16,attention.conv_k=bf16,attention.conv_v=bf16,head=nvfp4,vectors=bf16,rest=bf16",
        20.83,
    ),
]  # fmt: skip
"""Published files of ModelOpt, compressed-tensors, fbgemm and transformers, the numbered names written out by rule:
(whose, our config of the model, what it says of quantisation, our scheme, its GB)."""


@pytest.mark.parametrize(
    ("name", "quantised", "scheme", "size"), [row[1:] for row in PUBLISHED], ids=[row[0] for row in PUBLISHED]
)
def test_what_is_left_out_has_its_own_format(name: str, quantised: dict[str, Any], scheme: str, size: float) -> None:
    found = read(name, quantised)
    assert found.model.weights_dtype == scheme
    assert float(found.model.weight_bytes()) / 1e9 == pytest.approx(size, abs=0.006)
    assert not [note for note in found.notes if "not found" in note or "quantised" in note]


def test_groups_with_targets_of_their_own_have_a_format_each() -> None:
    groups = {
        "fp8": {"targets": [r"re:.*self_attn\.(q|k|v|o)_proj$"], "weights": {"num_bits": 8, "type": "float"}},
        "int4": {"targets": [r"re:.*mlp\.(gate|up|down)_proj$"], "weights": INT4},
    }
    quantised = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]}
    assert read("llama-3-8b", quantised).model.weights_dtype == "ffn=int4-g32-sym,attention=fp8-tensor,rest=bf16"


def test_a_head_that_is_not_left_out_is_a_matrix_like_others() -> None:
    quantised = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": INT4}},
        "ignore": ["model.layers.0.self_attn.q_proj"],
    }
    scheme = "ffn=int4-g32-sym,attention=int4-g32-sym,attention.q_proj@0=bf16,head=int4-g32-sym,rest=bf16"
    assert read("llama-3-8b", quantised).model.weights_dtype == scheme


def test_gptq_says_whether_the_head_is_packed() -> None:
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}
    assert read("llama-3-8b", quantised).model.weights_dtype.endswith("head=int4-g128,rest=fp16")
    assert read("llama-3-8b", quantised | {"lm_head": False}).model.weights_dtype == "int4-linear"


def test_nothing_left_out_is_the_head_too_unless_it_is_the_table_of_tokens() -> None:
    groups = {"group_0": {"targets": ["Linear"], "weights": INT4}}
    quantised = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": []}
    assert "head=int4-g32-sym" in read("llama-3-8b", quantised).model.weights_dtype
    assert "head" not in read("llama-3.2-1b", quantised).model.weights_dtype


def test_gptq_leaves_out_by_expressions() -> None:
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {r"-:.*self_attn.*": {}}}
    assert read("llama-3-8b", quantised).model.weights_dtype == "ffn=int4-g128,rest=fp16"


def test_names_that_are_not_found_are_said() -> None:
    quantised = NVFP4 | {"ignore": ["lm_head", "model.layers.3.secret_proj", "re:(", "model.layers.99.mlp", "mtp.fc"]}
    found = read("llama-3-8b", quantised)
    assert found.model.weights_dtype == "nvfp4-linear"
    assert [note for note in found.notes if "not found" in note] == [
        "modules with a format of their own that are not found in the model; weight bytes do not heed them: "
        "model.layers.3.secret_proj, re:("
    ]


@pytest.mark.parametrize(
    "quantised",
    [
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"lm_head": {"quant_algo": "X"}},
        },
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {"lm_head": 4}},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"targets": ["Linear"]}, "b": {"targets": ["x.y"]}},
        },
    ],
)
def test_unknown_formats_keep_their_note(quantised: dict[str, Any]) -> None:
    found = read("llama-3-8b", quantised)
    assert found.model.weights_dtype == "bf16"
    assert any("weight bytes are those of the unquantised format" in note for note in found.notes)


@pytest.mark.parametrize(
    "name", ["deepseek-v3", "qwen3-next-80b-a3b", "gemma-4-26b-a4b", "gpt-oss-20b", "nemotron-h-8b"]
)
@pytest.mark.parametrize("seed", range(6))
def test_a_scheme_by_roles_says_of_every_tensor_what_was_found(name: str, seed: int) -> None:
    random = Random(seed)
    blocks = catalog.load(name).blocks()
    by_layer = {layer: random.choice(["nvfp4", "bf16"]) for layer in range(-1, 100)}
    by_name: dict[tuple[str, ...], str] = {}

    def form(block: Block, tensor: Tensor) -> str:
        own = by_name.setdefault((*tensor.roles, tensor.operation), random.choice(["nvfp4", "fp8-tensor", "bf16", ""]))
        return (
            own or by_layer[tensor.layer]
            if seed % 2
            else random.choice(["nvfp4", "bf16"])
            if seed == 0
            else own or "bf16"
        )

    found = stored(blocks, form)
    scheme = weight_forms(scheme_text(found, "bf16", "bf16"))
    assert isinstance(scheme, Scheme)
    assert all(scheme.choose(one.tensor) == one.form for one in found)


def test_a_scheme_that_has_a_name_is_called_by_it() -> None:
    blocks = catalog.load("deepseek-v3").blocks()
    for name in ("deepseek-fp8", "nvfp4-ffn", "int4-experts", "int8-linear"):
        choose = SCHEMES[name].choose
        assert scheme_text(stored(blocks, lambda _, tensor, choose=choose: choose(tensor)), "", "bf16") == name


def test_layers_are_written_as_runs() -> None:
    assert runs([0, 1]) == "0-1"
    assert runs([0, 2]) == "0+2"
    assert runs([5, 3, 1]) == "1-5/2"
    assert runs([0, 3, 7, 11, 15, 16, 17]) == "0+3-15/4+16-17"


def test_expressions_that_could_take_forever_are_not_tried() -> None:
    hostile = ["re:(x+)+$", "re:(.*)*self", "re:" + ".*" * 9 + "q_proj", "model.layers" + "*" * 9 + "x"]
    found = read("llama-3-8b", NVFP4 | {"ignore": hostile})
    assert found.model.weights_dtype == "nvfp4-linear"
    assert any("not found" in note for note in found.notes)


def test_expressions_with_a_layer_mean_that_layer() -> None:
    found = read("llama-3-8b", NVFP4 | {"ignore": [r"re:.*layers\.3\.mlp\..*", r"re:.*layers\.31\.self_attn.*"]})
    assert found.model.weights_dtype == "ffn=nvfp4,ffn@3=bf16,attention=nvfp4,attention@31=bf16,rest=bf16"


@pytest.mark.parametrize(
    ("name", "content", "scheme"),
    [
        # nvidia/Llama-3.1-70B-Instruct-FP8
        (
            "hf_quant_config.json",
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
            "fp8-linear",
        ),
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": True}, "int4-linear"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"}, "int4-linear"),
    ],
)
def test_a_file_beside_says_how_weights_are_stored(
    tmp_path: Path, name: str, content: dict[str, Any], scheme: str
) -> None:
    config = json.loads((CONFIGS / "llama-3.1-70b.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / name).write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "config.json"):
        model = catalog.load(path)
        assert model.weights_dtype == scheme
        assert model.notes == (f"{name} beside it says how the weights are stored",)
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    (tmp_path / name).write_text("{")
    assert catalog.load(tmp_path).weights_dtype == "fp8-linear"
