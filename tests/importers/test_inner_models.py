"""Language models that stand inside multimodal ones alone, small, against transformers."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import import_module
from typing import Any

import pytest

from calc.importers.huggingface import Imported, from_config
from calc.importers.huggingface.registry import TIED_BY_EITHER
from calc.model import Pass

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.importers.whole import BATCH, built, counted, stored, tokens  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

TOKENS = 6
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 96, "max_position_embeddings": 64, "sliding_window": 4,
    "moe_intermediate_size": 20, "num_local_experts": 8, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "share_expert_dim": 28, "q_lora_rank": 18, "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6,
    "v_head_dim": 11, "additional_vocab_size": 7, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
HALF = {**MROPE, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5}
KINDS = ["full_attention", *["sliding_attention"] * 3, "full_attention"]

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("glm4v_text", "Glm4vTextModel", {"rope_parameters": HALF}),
    ("glm_ocr_text", "GlmOcrTextModel", {"rope_parameters": MROPE}),
    ("glm4v_moe_text", "Glm4vMoeTextModel", {"rope_parameters": HALF}),
    ("qwen2_5_omni_text", "Qwen2_5OmniThinkerTextModel", {"rope_parameters": MROPE}),
    ("qwen3_omni_moe_text", "Qwen3OmniMoeThinkerTextModel", {"rope_parameters": MROPE}),
    ("paddleocr_vl_text", "PaddleOCRTextModel", {"rope_parameters": MROPE, "use_bias": True}),
    ("ernie4_5_vl_moe_text", "Ernie4_5_VLMoeTextModel", {
        "rope_parameters": {**MROPE, "mrope_section": [3, 3, 2]}, "moe_intermediate_size": [20, 12],
        "moe_num_experts": 8, "moe_k": 2,
    }),
    ("granite4_vision_text", "Granite4VisionTextModel", {"attention_bias": True, "mlp_bias": True}),
    ("granite_docling_text", "GraniteDoclingTextModel", {"residual_multiplier": 0.5}),
    ("cosmos3_edge_text", "Cosmos3EdgeTextModel", {"rope_parameters": MROPE}),
    ("molmo2_text", "Molmo2TextModel", {}),
    ("molmo2_text", "Molmo2TextModel", {"qk_norm_type": "olmo", "norm_after": True, "attention_bias": True}),
    ("hy_v4_vl_text", "HYV4VLTextModel", {
        "num_key_value_heads": 4, "index_topk": 64, "index_head_dim": 8, "index_n_heads": 3, "hc_mult": 3, "n_group": 1,
        "topk_group": 1, "rope_parameters": {**MROPE, "mrope_section": [1, 1, 1]},
        "indexer_types": ["full", "full", "shared", "full", "shared"],
    }),
    ("mistral4", "Mistral4Model", {"num_key_value_heads": 4, "first_k_dense_replace": 1}),
    ("step3p5", "Step3p7TextModel", {"layer_types": KINDS, "num_sliding_attention_heads": 6}),
    ("step3p5", "Step3p7TextModel", {
        "num_nextn_predict_layers": 1, "layer_types": [*KINDS, "sliding_attention"], "moe_layers_enum": "2,4",
        "attention_other_setting": {"num_attention_heads": 6, "num_attention_groups": 2, "head_dim": 16},
    }),
    ("chameleon", "ChameleonModel", {"vocabulary_map": {"<image>": 3}, "vq_config": {}}),
]  # fmt: skip
"""Types, their classes in the library, and what a file of them needs beside the sizes."""


def read(data: dict[str, Any]) -> Imported:
    return from_config(data, name="model", origin="config.json")


def file_of(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(transformers.CONFIG_MAPPING[kind])}
    return {**{key: value for key, value in SIZES.items() if key in known}, **changes}


@pytest.mark.parametrize(("kind", "name", "changes"), CASES, ids=[kind for kind, _, _ in CASES])
def test_a_language_model_alone(kind: str, name: str, changes: dict[str, Any]) -> None:
    data = file_of(kind, changes)
    config = transformers.CONFIG_MAPPING[kind].from_dict(dict(data))
    config._experts_implementation = "batched_mm"
    theirs = built(config, class_of(config, name), "cpu")
    as_written = {**data, "model_type": kind, "tie_word_embeddings": False, "architectures": [name]}
    as_saved = {**json.loads(config.to_json_string(use_diff=False)), "tie_word_embeddings": False}
    of_images = sum(
        tensor.numel() for name, tensor in theirs.named_parameters() if "vqmodel" in name or "vision_moe" in name
    )
    for file in (as_written, {**as_saved, "architectures": [name]}):
        found = read(file)
        assert found.model.params().total == stored(theirs) - of_images
        assert not [note for note in found.notes if note.startswith("not understood")]
    # the same layers again; and streams, of which the library's counter sees a part (``test_frontier_oracle``)
    if any("multi-token" in note for note in found.notes) or "hc_mult" in data:
        return
    ours = read(as_written).model
    ours = ours.in_form("naive") if "naive" in ours.forms() else ours
    flops = counted(theirs, input_ids=tokens(TOKENS), use_cache=False)
    assert ours.flops(Pass.prefill(TOKENS, BATCH, causal=False)) == flops


def class_of(config: Any, name: str) -> Any:
    """Return a class from the module beside its configuration's."""
    beside = type(config).__module__.replace("configuration_", "modeling_")
    return getattr(import_module(beside), name)


@pytest.mark.parametrize("kind", TIED_BY_EITHER)
def test_a_head_is_tied_where_the_text_model_alone_says_so(kind: str) -> None:
    made = transformers.CONFIG_MAPPING[kind]()
    data = json.loads(made.to_json_string(use_diff=False))
    data["text_config"] = {**data["text_config"], "num_hidden_layers": 1, "tie_word_embeddings": True}
    data["tie_word_embeddings"] = False
    for key in ("layer_types", "mlp_layer_types"):
        data["text_config"].pop(key, None)
    with torch.device("meta"):
        theirs = transformers.AutoModelForImageTextToText.from_config(
            type(made).from_dict(json.loads(json.dumps(data)))
        )
    shared = theirs.get_output_embeddings().weight is theirs.get_input_embeddings().weight
    data.pop("vision_config")
    head = read({**data, "architectures": [type(theirs).__name__]}).model.head
    assert shared
    assert head is not None
    assert head.tied
