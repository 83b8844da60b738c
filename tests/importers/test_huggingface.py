"""Reading a config.json: class defaults with a note, keys not understood, wrappers, and input that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calc.catalog import load
from calc.errors import LONGEST_MESSAGE, CalcError, ConfigError
from calc.importers.huggingface import Imported, from_config
from calc.importers.huggingface.blocks import fold
from calc.importers.huggingface.reader import class_defaults
from calc.importers.huggingface.registry import FAMILIES, adapter, registry
from calc.layers import Layer
from calc.masks import Causal, Window

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 160,
    "hidden_act": "silu", "max_position_embeddings": 128, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_inner": None, "n_layer": 3,
    "n_head": 4, "n_positions": 32, "vocab_size": 160, "activation_function": "gelu_new", "torch_dtype": "float32",
}  # fmt: skip


def read(data: dict[str, Any], **changes: Any) -> Imported:
    return from_config({**data, **changes}, name="model", origin="config.json")


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


def refused(data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_config(data, name="model", origin="config.json")
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) <= LONGEST_MESSAGE + 20
    return message


# ---- what is read


def test_every_shipped_config_is_read_without_a_key_left_over() -> None:
    for path in sorted(CONFIGS.glob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        notes = from_config(data, name=path.stem, origin=path.name).notes
        assert not [note for note in notes if "not understood" in note], path.name


@pytest.mark.parametrize(
    "name", ["gpt2", "falcon-40b", "gemma-7b", "qwen2.5-72b", "t5-11b", "command-r-plus", "opt-30b"]
)
def test_a_preset_is_what_its_config_says(name: str) -> None:
    model = from_config(
        json.loads((CONFIGS / f"{name}.json").read_text("utf-8")), name=name, origin="config.json"
    ).model
    preset = load(name)
    assert (model.stack, model.embedding, model.head, model.encoder) == (
        preset.stack, preset.embedding, preset.head, preset.encoder,
    )  # fmt: skip


def test_command_r_states_its_context_in_a_key_of_its_own() -> None:
    path = CONFIGS / "command-r-v01.json"
    data = json.loads(path.read_text("utf-8"))
    assert data["max_position_embeddings"] == 8192
    assert load(path).max_context == load("command-r-v01").max_context == data["model_max_length"]


def test_falcon_7b_has_one_key_value_head_whatever_num_kv_heads_says() -> None:
    mixer = load(CONFIGS / "falcon-7b.json").stack[0].layer[0].attention
    assert getattr(mixer, "n_kv_heads", None) == 1


def test_a_missing_dimension_takes_the_class_default_and_says_so() -> None:
    imported = read(without(LLAMA, "vocab_size"))
    assert imported.model.vocab_size == 32_000
    assert imported.notes == ("vocab_size is not in the file: 32000, the default of llama",)
    assert imported.model.notes == imported.notes


def test_a_null_dimension_is_derived_where_the_class_derives_it() -> None:
    imported = read(LLAMA, num_key_value_heads=None, head_dim=None)
    assert imported.notes == ()
    assert imported.model.cache(10).bytes_per_token == 3 * 2 * 4 * 16 * 2


def test_a_null_dimension_that_nothing_derives_is_refused() -> None:
    assert refused({**LLAMA, "hidden_size": None}) == "hidden_size is null (config.json)"


def test_keys_that_are_not_understood_are_named() -> None:
    imported = read(LLAMA, use_secret_sauce=True, rope_theta=1e4, attention_dropout=0.1, transformers_version="5")
    assert imported.notes == ("not understood, ignored: use_secret_sauce",)


def test_a_key_at_its_class_default_is_no_news() -> None:
    assert read(GPT2, initializer_range=0.02, reorder_and_upcast_attn=False).notes == ()


def test_infinity_written_as_an_object_is_passed_over() -> None:
    assert read(LLAMA, rope_theta={"__float__": "Infinity"}, initializer_range=float("inf")).notes == ()


@pytest.mark.parametrize(
    ("architecture", "head"),
    [("LlamaForCausalLM", True), ("LlamaModel", False), ("LlamaForSequenceClassification", False)],
)
def test_architectures_decide_about_the_head(architecture: str, head: bool) -> None:
    imported = read(LLAMA, architectures=[architecture])
    assert (imported.model.head is not None) == head
    assert bool(imported.notes) != head


def test_gpt2_lm_head_model_has_a_head() -> None:
    assert read(GPT2).model.head is not None
    assert read(GPT2, architectures=["GPT2Model"]).model.head is None


@pytest.mark.parametrize(
    ("changes", "form", "noted"),
    [
        ({"torch_dtype": "float16"}, "fp16", False),
        ({"torch_dtype": None, "dtype": "float32"}, "fp32", False),
        ({"torch_dtype": None}, "bf16", True),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8-linear", False),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "bf16", True),
    ],
)
def test_the_format_of_the_weights(changes: dict[str, Any], form: str, noted: bool) -> None:
    imported = read(LLAMA, **changes)
    assert imported.model.weights_dtype == form
    assert bool(imported.notes) == noted


def test_a_wrapper_gives_its_text_model_and_says_what_is_left_out() -> None:
    inner = {key: value for key, value in LLAMA.items() if key not in ("architectures", "torch_dtype")}
    wrapper = {"model_type": "llava", "text_config": inner, "vision_config": {}, "tie_word_embeddings": True}
    imported = read(wrapper, torch_dtype="bfloat16")
    assert imported.notes == ("the text model of llava alone: its vision part is not counted",)
    assert imported.model.params().total == read(LLAMA, tie_word_embeddings=True).model.params().total


def test_an_old_wrapper_holds_the_keys_of_its_text_model() -> None:
    flat = {**LLAMA, "model_type": "qwen2_5_vl", "vision_config": {"depth": 2}, "image_token_id": 3}
    qwen = {**LLAMA, "model_type": "qwen2"}
    flat["vision_config"] = {"depth": 2, "hidden_size": 64, "out_hidden_size": LLAMA["hidden_size"]}
    assert read(flat).model.params() == read(qwen).model.params()
    assert read(flat).model.tower[0].n_layers == 2
    assert all(note.startswith("vision_config.") for note in read(flat).notes)
    flat["vision_config"] = {}
    assert read(flat).notes == ("the text model of qwen2_5_vl alone: its vision part is not counted",)


def test_a_tower_of_an_unknown_type_is_left_out() -> None:
    inner = {key: value for key, value in LLAMA.items() if key not in ("architectures", "torch_dtype")}
    wrapper = {"model_type": "llava", "text_config": inner, "vision_config": {"model_type": "pixtral"}}
    imported = read(wrapper, torch_dtype="bfloat16")
    assert imported.model.tower == ()
    assert imported.notes == ("the text model of llava alone: its vision part is not counted",)


def test_a_pattern_of_layers_is_folded() -> None:
    layer = Layer(attention=load("llama-3-8b").stack[0].layer[0].attention)
    folded = fold(([Window(window=8)] * 5 + [Causal()]) * 4 + [Window(window=8)] * 2, lambda _: layer)
    assert [(stack.repeat, len(stack.layer)) for stack in folded] == [(4, 6), (2, 1)]
    folded = fold(["dense", *["sparse"] * 9], lambda _: layer)
    assert [(stack.repeat, len(stack.layer)) for stack in folded] == [(1, 1), (9, 1)]
    folded = fold(["a", "b", "c"], lambda _: layer)
    assert [(stack.repeat, len(stack.layer)) for stack in folded] == [(1, 3)]


# ---- the registry


def test_a_type_registered_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'llama' is registered twice"):
        registry(("a:b", "llama"), ("c:d", "mistral llama"))


def test_every_registered_adapter_exists() -> None:
    for model_type in FAMILIES:
        assert callable(adapter(model_type))


@pytest.mark.oracle
def test_the_class_defaults_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    from dataclasses import fields

    for model_type, ours in class_defaults().items():
        theirs = {field.name: field.default for field in fields(transformers.CONFIG_MAPPING[model_type])}
        theirs = {key: list(value) if isinstance(value, tuple) else value for key, value in theirs.items()}
        assert ours == {key: theirs[key] for key in ours}, model_type


# ---- what cannot be


def test_an_unknown_model_type_names_near_ones() -> None:
    message = refused({**LLAMA, "model_type": "lama"})
    assert message.startswith('model_type "lama" is not known; near ones: llama')
    assert refused({"model_type": "zzz"}) == 'model_type "zzz" is not known (config.json)'


@pytest.mark.parametrize(
    "data", [{}, {"model_type": None}, {"model_type": 3}, {"model_type": ["llama"]}, [], "llama", None]
)
def test_no_object_or_no_model_type(data: Any) -> None:
    refused(data)


DIMENSIONS = [
    *((LLAMA, key) for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")),
    *((LLAMA, key) for key in ("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings")),
    *((GPT2, key) for key in ("n_embd", "n_inner", "n_layer", "n_head", "n_positions", "vocab_size")),
]
IMPOSSIBLE = [-1, 0, 1.5, 4.0, "64", True, [64], {"x": 64}, 10**30, float("nan"), float("inf")]


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=str)
@pytest.mark.parametrize(("data", "key"), DIMENSIONS, ids=lambda part: part if isinstance(part, str) else "")
def test_an_impossible_dimension_is_named(data: dict[str, Any], key: str, value: Any) -> None:
    assert refused({**data, key: value}).startswith(f"{key} = ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers = 1000000: expected a whole number from 1 to 10,000"),
        ({"num_key_value_heads": 3}, "n_heads = 4 is not divisible by n_kv_heads = 3"),
        ({"head_dim": None, "num_attention_heads": 5}, "hidden_size = 64 is not divisible by num_attention_heads = 5"),
        ({"hidden_act": "cosine"}, "hidden_act = 'cosine' is not an activation that is understood"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1: expected true or false"),
        ({"architectures": "LlamaForCausalLM"}, 'architectures = "LlamaForCausalLM": expected a list'),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 3 layers"),
        ({"layer_types": ["linear"] * 3}, 'layer_types holds "linear", which is not supported for llama'),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types names window layers, but there is no window size"),
        ({"torch_dtype": "float5"}, "torch_dtype: no dtype named 'float5'"),
        ({"rope_parameters": 3}, "rope_parameters = 3: expected an object"),
        ({"partial_rotary_factor": 1.5}, "a rotary share of 1.5 is not between 0 and 1"),
        ({"partial_rotary_factor": float("nan")}, "partial_rotary_factor = NaN: expected a number"),
    ],
)
def test_inconsistent_fields(changes: dict[str, Any], message: str) -> None:
    assert refused({**LLAMA, **changes}).startswith(message)


def test_names_that_contradict_each_other() -> None:
    bloom = {"model_type": "bloom", "hidden_size": 64, "n_embed": 32, "n_layer": 1, "n_head": 4, "vocab_size": 9}
    assert refused(bloom) == "hidden_size = 64 and n_embed = 32 contradict (config.json)"


def test_what_changes_the_architecture_and_is_not_supported_is_refused() -> None:
    assert refused({**GPT2, "add_cross_attention": True}).startswith("add_cross_attention = true is not supported")


def test_a_hostile_key_stays_on_its_line() -> None:
    (note,) = read(LLAMA, **{"evil\n\x1b[31m\ud800": 1}).notes
    assert note == r"not understood, ignored: evil\n\x1b[31m\ud800"


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '"x"', "{", "", "\xff", '{"a": ' * 100_000], ids=lambda text: text[:8]
)
def test_files_that_are_no_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CalcError) as caught:
        load(path)
    assert str(caught.value).isprintable()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
SAMPLES = [
    json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))
    for name in ("gpt2", "falcon-40b", "mpt-7b", "t5-base", "gemma-7b", "phi-2", "opt-125m", "qwen2.5-7b")
]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    config = dict(data.draw(st.sampled_from(SAMPLES)))
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[key] = data.draw(ANYTHING)
    message = ""
    try:
        from_config(config, name="model", origin="config.json").model.params()
    except CalcError as error:
        message = str(error)
    assert message.isprintable()


def test_heads_of_keys_that_a_file_leaves_to_the_class_are_named() -> None:
    told = "num_key_value_heads is not in the file: 4, as many as attention heads"
    assert told in read(without(LLAMA, "num_key_value_heads")).notes
    assert told not in read({**LLAMA, "num_key_value_heads": None}).notes
    # a class that knows no such key says nothing of it
    assert not any("num_key_value_heads" in note for note in read(GPT2).notes)
