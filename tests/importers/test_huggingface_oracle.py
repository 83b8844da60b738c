"""Imported models against transformers on the meta device: parameters, matmul FLOPs, cache bytes, to the integer.

Real configs are counted whole, and run at their real widths: no tensor on the meta device has any data. Every family
runs once more as a small model with its windows crossed and its options switched on and off.
"""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calc.importers.huggingface import from_config
from calc.importers.huggingface.registry import FAMILIES
from calc.model import Model, Pass

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
MODULES = ("llama_like", "gemma", "ungated", "gpt_like", "t5", "variants")
"""Adapter modules of dense models; the others have tests of their own."""
DENSE = sorted(kind for kind, target in FAMILIES.items() if target.partition(":")[0] in MODULES)
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
BATCH = 2
SEQ2SEQ = ("t5", "mt5", "umt5")


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data


REAL = sorted(path.stem for path in CONFIGS.glob("*.json") if read(path).get("model_type") in [*DENSE, "bert"])


def imported(data: dict[str, Any]) -> Model:
    return from_config(data, name="model", origin="config.json").model


@cache
def real(name: str) -> Model:
    return imported(read(CONFIGS / f"{name}.json"))


def built(config: Any) -> Any:
    """Return the library's model, without data."""
    auto = transformers.AutoModelForCausalLM
    if config.model_type in SEQ2SEQ:
        auto = transformers.AutoModelForSeq2SeqLM
    elif config.model_type == "bert":
        auto = transformers.AutoModelForMaskedLM
    with torch.device("meta"):
        return auto.from_config(config, attn_implementation="eager").eval()


def stored(model: Any) -> int:
    """Return the elements that a checkpoint holds: parameters, shared ones once, and persistent buffers."""
    kept = model.state_dict().keys()
    buffers = sum(buffer.numel() for name, buffer in model.named_buffers() if name in kept)
    return sum(parameter.numel() for parameter in model.parameters()) + buffers


def ids(tokens: int) -> Any:
    return torch.zeros(BATCH, tokens, dtype=torch.long, device="meta")


def counted(model: Any, **inputs: Any) -> tuple[int, Any]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(**inputs)
    return counter.get_total_flops(), output


def cache_elements(held: Any) -> int:
    """Return the elements of keys and values in a cache object."""
    if held is None:
        return 0
    if hasattr(held, "self_attention_cache"):
        return cache_elements(held.self_attention_cache) + cache_elements(held.cross_attention_cache)
    return sum(layer.keys.numel() + layer.values.numel() for layer in held.layers if layer.keys is not None)


def measure(model: Any, tokens: int) -> SimpleNamespace:
    """Count a prefill of ``tokens`` tokens, what it leaves in the cache, and one step after it."""
    if model.config.is_encoder_decoder:
        flops, output = counted(model, input_ids=ids(tokens), decoder_input_ids=ids(tokens))
        more = {"encoder_outputs": (output.encoder_last_hidden_state,), "decoder_input_ids": ids(1)}
    else:
        flops, output = counted(model, input_ids=ids(tokens), use_cache=True)
        more = {"input_ids": ids(1)}
    held = output.get("past_key_values")
    elements = cache_elements(held)
    if held is None:
        return SimpleNamespace(prefill=flops, held=0, decode=None)
    decode, _ = counted(model, **more, past_key_values=held, use_cache=True)
    return SimpleNamespace(prefill=flops, held=elements, decode=decode)


def has_cache(model: Any) -> bool:
    """Tell whether the library's forward pass returns a cache: the first GPT recomputes everything at each step."""
    return model.config.model_type != "openai-gpt"


def copies(model: Any) -> int:
    """Return how often the library stores each key and value: new Falcons copy them to every query head."""
    config = model.config
    if config.model_type == "falcon" and config.new_decoder_architecture:
        return int(config.num_attention_heads // config.num_kv_heads)
    return 1


def agrees(ours: Model, theirs: Any, tokens: int) -> None:
    """Require prefill FLOPs, cache and decode FLOPs to be the same integers."""
    seen = measure(theirs, tokens)
    assert ours.flops(Pass.prefill(tokens, BATCH, causal=False)) == seen.prefill
    if has_cache(theirs):
        assert copies(theirs) * ours.cache(tokens, BATCH, "fp32").bytes == 4 * seen.held
    if seen.decode is not None:
        assert ours.flops(Pass.decode(tokens + 1, BATCH, source=tokens)) == seen.decode


# ---- real configs


@pytest.mark.parametrize("name", REAL)
def test_parameters_of_the_real_model(name: str) -> None:
    data = read(CONFIGS / f"{name}.json")
    total = real(name).params().total
    assert total == stored(built(transformers.AutoConfig.for_model(**data))) + untied_t5(data)


def untied_t5(data: dict[str, Any]) -> int:
    """Return the head's parameters where the library ties T5's head although the checkpoint has one of its own."""
    untied = data["model_type"] in SEQ2SEQ and data.get("tie_word_embeddings") is False
    return data["vocab_size"] * data["d_model"] if untied else 0


@cache
def representatives() -> list[str]:
    """Return the smallest real config of every distinct table."""
    smallest: dict[Any, str] = {}
    for name in sorted(REAL, key=lambda name: real(name).params().total):
        tables = tuple((block.path, op.formula, op.weights) for block in real(name).blocks() for op in block.operations)
        smallest.setdefault(tables, name)
    return sorted(smallest.values())


@pytest.mark.parametrize("name", representatives())
def test_flops_and_cache_of_the_real_model(name: str) -> None:
    """At its real widths, four layers deep: the others are the same again."""
    data = read(CONFIGS / f"{name}.json")
    data |= {key: min(data[key], 4) for key in DEPTHS if key in data}
    agrees(imported(data), built(transformers.AutoConfig.for_model(**data)), tokens=5)


# ---- every family, small

SMALL: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv"), 16),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 5),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "ffn_hidden_size", "d_ff"), 96),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("sliding_window", "window_size"), 8),
    "vocab_size": 160,
    "rotary_dim": 8,
}  # fmt: skip
"""Sizes of the small models, under the names that config classes have for them; windows are shorter than the pass."""

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2 with windows": ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    "qwen3 with windows": ("qwen3", {"use_sliding_window": True, "max_window_layers": 0, "attention_bias": True}),
    "smollm3 with windows": ("smollm3", {"use_sliding_window": True}),
    "mistral without window": ("mistral", {"sliding_window": None}),
    "phi3 with window": ("phi3", {"sliding_window": 8}),
    "exaone4 without window": ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 5}),
    "cohere with qk norm": ("cohere", {"use_qk_norm": True}),
    "stablelm parallel": ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True, "use_qkv_bias": True}),
    "phi with qk norm": ("phi", {"qk_layernorm": True}),
    "persimmon without qk norm": ("persimmon", {"qk_layernorm": False}),
    "starcoder2 without biases": ("starcoder2", {"use_bias": False}),
    "hyperclovax pre-norm": ("hyperclovax", {"use_post_norm": False}),
    "gpt2 with wide inner": ("gpt2", {"n_inner": None}),
    "gpt_bigcode multi-head": ("gpt_bigcode", {"multi_query": False}),
    "gpt_neox sequential": ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "opt-350m": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 48}),
    "opt without biases": ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "opt without last norm": ("opt", {"_remove_final_layer_norm": True}),
    "falcon new": ("falcon", {"new_decoder_architecture": True, "bias": True}),
    "falcon new, one norm": ("falcon", {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}),
    "falcon sequential, alibi": ("falcon", {"parallel_attn": False, "alibi": True, "bias": True}),
    "falcon multi-head": ("falcon", {"multi_query": False, "num_kv_heads": None}),
    "t5 gated": ("t5", {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 3}),
    "gemma3 with softcap": ("gemma3_text", {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}),
}
ROTARY = {"rope_type": "default", "rope_theta": 10_000.0}
SPECIAL: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 2], [["global"], 1]]},
    "bloom": {"hidden_size": 64},
    "exaone4": {"sliding_window_pattern": 4},
    "nemotron": {"num_key_value_heads": 2},
    "ministral": {"head_dim": 16},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROTARY, "sliding_attention": ROTARY}},
    "hunyuan_v1_dense": {"head_dim": 16},
}
"""What the small model of a type needs beside the sizes."""


NEED_PADDING = ("opt", "biogpt", "xglm")


@cache
def config_classes() -> dict[str, Any]:
    auto = transformers.models.auto.modeling_auto
    known = {**auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, **auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    return {kind: transformers.CONFIG_MAPPING[kind] for kind in DENSE if kind in known}


def small(kind: str, **options: Any) -> Any:
    """Return a small config of a model type."""
    known = {field.name for field in fields(config_classes()[kind])}
    sizes = {name: size for name, size in SMALL.items() if name in known}
    tokens = {name: 1 for name in ("bos_token_id", "eos_token_id") if name in known}
    if "pad_token_id" in known:  # a padding token makes some models look at the data of their input
        tokens["pad_token_id"] = 1 if kind in NEED_PADDING else None
    return config_classes()[kind](**{**sizes, **tokens, **SPECIAL.get(kind, {}), **options})


def compare(config: Any) -> None:
    ours = imported(json.loads(json.dumps(config.to_dict(), default=str)))
    theirs = built(config)
    assert ours.params().total == stored(theirs)
    agrees(ours, theirs, tokens=6)
    assert ours.flops(Pass.prefill(16, BATCH, causal=False)) == measure(theirs, 16).prefill


@pytest.mark.parametrize("kind", sorted(config_classes()))
def test_family_at_its_defaults(kind: str) -> None:
    compare(small(kind))


@pytest.mark.parametrize("name", OPTIONS)
def test_family_with_options(name: str) -> None:
    kind, options = OPTIONS[name]
    compare(small(kind, **options))


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3_text", "cohere2", "olmo3", "starcoder2"])
def test_a_step_beyond_the_window_reads_the_window(kind: str) -> None:
    config = small(kind)
    ours = imported(json.loads(json.dumps(config.to_dict(), default=str)))
    assert ours.flops(Pass.decode(17, BATCH)) == measure(built(config), 16).decode
