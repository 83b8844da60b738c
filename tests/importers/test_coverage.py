"""Every causal language model of transformers at its default configuration: what the importer says, what is true."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from calc.errors import ConfigError
from calc.importers.coverage import APART, CAUSAL_LM, COMPLETED, NOT_YET, TEXT_ONLY, coverage
from calc.importers.huggingface import from_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

ROWS = {row.model_type: row for row in coverage()}
ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
FILLED: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": ROPE},
    "dbrx": {},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_shared_experts": 2, "n_routed_experts": 128, "num_experts_per_tok": 6},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "ministral": {"head_dim": 128},
    "musicgen": {},
    "musicgen_melody": {},
    "nemotron": {"num_key_value_heads": 8},
}
"""What the library's default configurations lack."""

ENCODERS = (
    "vision_tower", "audio_tower", "audio_encoder", "vision_model", "visual", "multi_modal_projector", "vq_model",
    "embed_tokens_extend", "vision_embed_tokens", "vq_adaptor", "embed_vision", "embed_audio", "image_encoder",
    "visual_projection",
)  # fmt: skip
"""Modules of wrappers that are no part of the text model."""

CONSTANTS = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")


def test_the_list_is_that_of_the_library() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert list(CAUSAL_LM) == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(CAUSAL_LM) >= {*TEXT_ONLY, *COMPLETED, *NOT_YET, *APART}
    assert set(FILLED) == set(COMPLETED)


def test_nine_of_ten_are_exact() -> None:
    counts = Counter(row.status for row in ROWS.values())
    assert counts["not yet"] == len(NOT_YET)
    assert counts["not yet"] <= 0.1 * len(CAUSAL_LM)
    assert all(row.remark for row in ROWS.values() if row.status != "exact")


def configuration(kind: str) -> Any:
    if kind.startswith("musicgen"):
        return transformers.CONFIG_MAPPING[f"{kind}_decoder"]()
    if kind == "gemma3n":  # its image encoder needs a further package
        return transformers.CONFIG_MAPPING["gemma3n_text"]()
    config = transformers.CONFIG_MAPPING[kind](**FILLED.get(kind, {}))
    if kind == "dbrx":
        config.attn_config.rope_theta = 1e4
    return config


def built(kind: str) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        if kind.startswith("musicgen"):
            package = getattr(transformers.models, kind)
            name = "MusicgenForCausalLM" if kind == "musicgen" else "MusicgenMelodyForCausalLM"
            return getattr(getattr(package, f"modeling_{kind}"), name)(configuration(kind))
        return auto.from_config(configuration(kind))


def stored(kind: str, model: Any) -> int:
    """Return what a checkpoint of the (text) model holds: parameters, shared ones once, and persistent buffers."""
    kept = model.state_dict().keys()
    named = dict(model.named_parameters())
    named |= {name: buffer for name, buffer in model.named_buffers() if name in kept and not name.endswith(CONSTANTS)}
    if kind in TEXT_ONLY:
        named = {name: tensor for name, tensor in named.items() if not set(name.split(".")) & set(ENCODERS)}
    total = sum(tensor.numel() for tensor in named.values())
    if kind == "longcat_flash":
        config = model.config
        total -= config.num_layers * config.zero_expert_num * 2 * config.expert_ffn_hidden_size * config.hidden_size
    return total


def said(kind: str, config: Any) -> int:
    data = json.loads(json.dumps(config.to_dict(), default=str))
    # the base class of a type has no head; the causal one has
    data["architectures"] = [f"{kind}ForCausalLM"]
    total: int = from_config(data, name=kind, origin="config.json").model.params().total
    return total


@pytest.mark.parametrize("kind", [row.model_type for row in ROWS.values() if row.status != "not yet"])
def test_parameters_are_exact(kind: str) -> None:
    model = built(kind)
    assert said(kind, model.config) == stored(kind, model)


@pytest.mark.parametrize("kind", sorted(NOT_YET))
def test_what_is_not_read_yet_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        from_config({"model_type": kind, "text_config": {"model_type": kind}}, name="x", origin="x")


@pytest.mark.parametrize("kind", sorted(set(COMPLETED) - {"gemma3n"}))
def test_defaults_that_are_no_model_are_so_for_the_library(kind: str) -> None:
    if kind == "deepseek_v2":
        assert transformers.CONFIG_MAPPING[kind]().num_experts_per_tok is None
        return
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)), torch.device("meta"):
        transformers.AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[kind]())
