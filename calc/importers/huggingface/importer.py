"""From the JSON object to the model: which adapter, what was not understood, what to tell the user."""

from __future__ import annotations

from typing import Any, Final

from calc.errors import ConfigError, SpecError, UnknownName
from calc.importers.huggingface.reader import Config, class_defaults, shown
from calc.importers.huggingface.registry import FAMILIES, TEXT_OF, TIED_BY_EITHER, TOWERS, adapter, near, towers
from calc.importers.huggingface.weights import weights_of
from calc.model import Model
from calc.records import Record, record, replace
from calc.units import dtype

_ELSEWHERE = (
    "vision_config",
    "audio_config",
    "vision_tower_config",
    "speech_config",
    "vq_config",
    "code_predictor_config",
    "img_processor",
    "audio_processor",
    "speech_lora",
    "vision_lora",
    "embd_layer",
)


@record
class Imported(Record):
    """A model, and what there is to say about how it was read."""

    model: Model
    notes: tuple[str, ...]

    def noting(self, text: str) -> Imported:
        """Return it with one more thing to say."""
        notes = (*self.notes, text)
        return Imported(replace(self.model, notes=notes), notes)


def from_config(data: dict[str, Any], *, name: str, origin: str) -> Imported:
    """Turn the object of a config.json into a model; ``origin`` says in messages where it came from.

    Raises:
        ConfigError: an unknown model type, a key that is missing, impossible or not supported.

    >>> config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "vocab_size": 100,
    ...     "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    ...     "tie_word_embeddings": True, "max_position_embeddings": 2048, "torch_dtype": "float32"}
    >>> from_config(config, name="tiny", origin="config.json").model.params().total
    80448
    """
    if not isinstance(data, dict):
        raise ConfigError(f"a config is a JSON object, not a {type(data).__name__} ({origin})")
    config = _text_model(data, origin)
    try:
        model = _with_towers(adapter(config.model_type)(config), config, data)
        form = _weights_dtype(config, data, model)
    except SpecError as error:
        raise config.error(str(error)) from None
    unread = config.unread()
    if unread:
        named = ", ".join(unread[:20]) + (f" and {len(unread) - 20} more" if len(unread) > 20 else "")
        config.note(f"not understood, ignored: {named}")
    notes = (*model.notes, *config.notes)
    model = replace(
        model, name=name, source=f"{origin} (model_type {config.model_type})", weights_dtype=form, notes=notes
    )
    return Imported(model, notes)


def _text_model(data: dict[str, Any], origin: str) -> Config:
    """Return the reader of the config, or of its text model where it wraps several."""
    model_type = _by_architecture(data) or data.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(f"model_type is {'missing' if model_type is None else 'not a text'} ({origin})")
    if model_type in FAMILIES:
        return Config(data, model_type=model_type, origin=origin)
    if isinstance(data.get("thinker_config"), dict):
        return _thinker(data, origin)
    if model_type in ("minicpmv", "minicpmo") and "llm_config" not in data:
        return _versioned(data, origin)
    nested = next((key for key in _NESTED if isinstance(data.get(key), dict)), None)
    inner = data[nested] if nested else data
    text_type = inner.get("model_type") if nested else None
    text_type = TEXT_OF.get(model_type) if text_type is None else text_type
    if not isinstance(text_type, str) or text_type not in FAMILIES:
        raise _unknown(text_type if isinstance(text_type, str) else model_type, origin)
    config = Config(
        # a decoder ties its own tables: the wrapper's word is about the encoder's
        inner if nested == "decoder" else _with_the_wrappers(inner, data, model_type, text_type),
        model_type=text_type,
        origin=origin,
        path=f"{nested}." if nested else "",
    )
    config.ignore(*_ELSEWHERE)
    return config


_NESTED = ("text_config", "llm_config", "language_config", "decoder")
"""Where wrappers keep the keys of their text model."""


_ARCHITECTURES: Final = {
    "Grok1ForCausalLM": "grok",
    "Grok1ModelForCausalLM": "grok",
    "DeepseekV4ForCausalLM": "deepseek_v4",
}
"""Classes whose published files state the type of another model, or none."""


def _by_architecture(data: dict[str, Any]) -> str | None:
    """Return the type of a file whose class says more than its ``model_type``."""
    names = data.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    return _ARCHITECTURES.get(name) if isinstance(name, str) else None


def _thinker(data: dict[str, Any], origin: str) -> Config:
    """Return the reader of the text model of the part that thinks, in models that also speak."""
    inner = data["thinker_config"]
    kind = inner.get("model_type") or f"{data['model_type']}_thinker"
    outer = {key: data[key] for key in ("architectures", "torch_dtype", "dtype") if data.get(key) is not None}
    config = _text_model({**outer, **inner, "model_type": kind}, origin)
    config.note(f"the text model of {data['model_type']} alone: its encoders and its speech are not counted")
    return config


_MINICPM: Final = {
    "2.0": "minicpm", "2": "minicpm", "2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4": "llama", "4.5": "qwen3",
    "4.6": "qwen3",
}  # fmt: skip
"""Text models of MiniCPM-V and -o by their version."""


def _versioned(data: dict[str, Any], origin: str) -> Config:
    """Return the reader of a file that holds its text model's keys beside the others and says its version alone."""
    version = str(data.get("version", "2.6"))
    kind = _MINICPM.get(version)
    if kind is None:
        raise ConfigError(f"version = {shown(version)} of {data['model_type']} is not known ({origin})")
    config = Config(data, model_type=kind, origin=origin)
    config.ignore(*_ELSEWHERE, *_BESIDE.split())
    return config


_BESIDE: Final = (
    "version slice_config slice_mode query_num drop_vision_last_layer vision_batch_size batch_vision_input "
    "use_image_id image_size patch_size audio_pool_step audio_chunk_length stream_input init_vision init_audio "
    "init_tts tts_config batch_3d_resampler"
)
"""Keys of MiniCPM-V and -o that say nothing of their text model."""


def _with_towers(model: Model, config: Config, data: dict[str, Any]) -> Model:
    """Return the model with the encoders that the file describes; a note says which of them are not read."""
    model_type = _by_architecture(data) or str(data["model_type"])
    if (model_type in FAMILIES and model_type not in TOWERS) or "thinker_config" in data:
        return model
    given = [key for key in _ELSEWHERE if data.get(key) is not None]
    add = towers(model_type)
    if add and any(data[key] for key in given):
        wrapper = Config(data, model_type=model_type, origin=config.origin)
        wrapper.notes = config.notes
        model = add(wrapper, model)
        config.sections += wrapper.sections if model.tower else []
    read = {f"{_SECTION_OF[tower.modality]}_config" for tower in model.tower}
    left_out = [key.removesuffix("_config") for key in given if key not in read]
    if left_out:
        parts = "part is" if len(left_out) == 1 else "parts are"
        config.note(f"the text model of {model_type} alone: its {' and '.join(left_out)} {parts} not counted")
    elif not given:
        config.note(f"the text model of {model_type} alone: nothing else is counted")
    return model


_SECTION_OF = {"image": "vision", "audio": "audio"}


def _with_the_wrappers(inner: dict[str, Any], data: dict[str, Any], model_type: str, text_type: str) -> dict[str, Any]:
    """Return the text model's keys, with what the wrapper decides: whether the head is tied, and the format.

    A wrapper that says nothing of the tie has its class's default, unless its text model says something.
    """
    outer = {key: data[key] for key in ("tie_word_embeddings", "torch_dtype", "dtype") if data.get(key) is not None}
    tie = class_defaults().get(model_type, {}).get("tie_word_embeddings")
    default = {} if tie is None else {"tie_word_embeddings": tie}
    usual = class_defaults().get(text_type, {}).get("tie_word_embeddings")
    if model_type in TIED_BY_EITHER and inner.get("tie_word_embeddings", usual) is True:
        outer["tie_word_embeddings"] = True
    return {
        **default,
        **{key: value for key, value in inner.items() if value is not None or key not in default},
        **outer,
    }


def _unknown(model_type: str, origin: str) -> ConfigError:
    similar = near(model_type)
    advice = f"; near ones: {', '.join(similar)}" if similar else ""
    return ConfigError(f"model_type {shown(model_type)} is not known{advice} ({origin})")


def _weights_dtype(config: Config, data: dict[str, Any], model: Model) -> str:
    """Return the format of the stored weights: the quantised one where it is known, else the stated one."""
    both = [
        where[key] for key in ("quantization_config", "quantization") for where in (data, config.data) if key in where
    ]
    quantised = next((one for one in both if one), None)
    if isinstance(quantised, dict):
        if config.unquantised and isinstance(quantised.get("ignore"), list):
            quantised = {**quantised, "ignore": [*quantised["ignore"], *config.unquantised]}
        weights = weights_of(quantised, data.get("expert_dtype", config.data.get("expert_dtype")), model)
        if weights:
            for note in weights.notes:
                config.note(note)
            return weights.scheme
        method = str(quantised.get("quant_method", "unknown"))
        config.note(f"quantised with {method[:40]}: weight bytes are those of the unquantised format")
    stated = next((x[key] for x in (config.data, data) for key in ("dtype", "torch_dtype") if x.get(key)), None)
    if stated in (None, "auto"):
        config.note("torch_dtype is not in the file: weights are taken as bf16")
        return "bf16"
    if not isinstance(stated, str):
        raise config.error("torch_dtype is not a text")
    try:
        return dtype(stated).name
    except UnknownName as error:
        raise config.error(f"torch_dtype: {error}") from None
