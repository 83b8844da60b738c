"""Which model a measured row is about: a preset, a preset cut or changed, or dimensions that the row states."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

from calc.catalog import load, names, presets_folder
from calc.measured.rows import Measurement, NotModelled
from calc.model import Model, Stack
from calc.records import replace

NOISE = (
    "instruct", "chat", "hf", "base", "it", "fp8", "nvfp4", "fp4", "bf16", "awq", "gptq", "w8a8", "thinking", "2507",
    "preview", "meta", "v0.1",
    "int4", "int8", "w4a16", "4bit", "8bit", "gguf", "mxfp4", "quantized", "dynamic", "bnb", "unsloth",
)  # fmt: skip
"""Words in a model's name that say how it was tuned or stored, not which architecture it is."""


@cache
def aliases() -> Mapping[str, str]:
    """Return how publications call a model → the preset's name, from ``presets/measurements/models.toml``."""
    return {compact(alias): name for alias, name in _file().get("alias", {}).items()}


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads((presets_folder() / "measurements" / "models.toml").read_text("utf-8"))


@cache
def dimensions() -> Mapping[str, Mapping[str, Any]]:
    """Return architectures that only benchmarks use (MPT's training sizes, GPT sizes of Megatron), by name."""
    return {compact(entry["name"]): entry for entry in _file().get("model", ())}


@cache
def _presets() -> Mapping[str, str]:
    return {compact(name): name for name in names()}


def compact(text: str) -> str:
    """Return a name without case, owner, punctuation and words that do not name an architecture.

    >>> compact("meta-llama/Llama-3.1-8B-Instruct"), compact("LLAMA3.1_8B")
    ('llama318b', 'llama318b')
    """
    bare = re.sub(r"\([^)]*\)", " ", text.lower()).rpartition("/")[2]
    words = [word for word in re.split(r"[^a-z0-9.]+", bare) if word and word not in NOISE]
    return re.sub(r"[^a-z0-9]", "", "".join(words))


def named(text: str) -> Model | None:
    """Return the preset that a publication's name for a model means, or None.

    Names are compared without the number of experts or active parameters that some publications append.
    """
    key = compact(text)
    if not key:
        return None
    for candidate in (key, re.sub(r"\d+b?a\d+b$", "", key), re.sub(r"(17b)?\d+e$", "", key), re.sub(r"\d+b$", "", key)):
        found = aliases().get(candidate) or _presets().get(candidate)
        if found:
            return load(found)
    return None


def model_of(row: Measurement) -> Model:
    """Return the model of a row.

    Dimensions that the row states are used as they are; a name alone is looked up among the presets and among the
    architectures of benchmarks. A row that states fewer layers than the preset has was run on a model cut to them.

    Raises:
        NotModelled: neither name nor dimensions say which model it is.
    """
    name = str(row.first("model", "model_name") or "")
    base = re.sub(r"\s*truncated to \d+ layers", "", name)
    listed = dimensions().get(compact(base))
    preset = None if listed else named(base)
    if preset is not None:
        return _adjusted(preset, row)
    config = {**(listed or {}), **{key: value for key, value in row.config.items() if value is not None}}
    if not {"layers", "hidden", "heads"} <= set(config):
        what = f"the model {name!r} is" if name else "the model is"
        raise NotModelled(f"{what} not known and its dimensions are not stated")
    return from_dimensions(config, name or "stated dimensions")


def _adjusted(model: Model, row: Measurement) -> Model:
    """Return a preset with the layers, the key-value heads and the vocabulary that a row states."""
    layers, vocab = row.first("layers"), row.first("vocab")
    if isinstance(vocab, int) and vocab != model.vocab_size:
        model = replace(model, vocab_size=vocab)
    if isinstance(layers, int) and layers < model.n_layers:
        model = replace(model, stack=_first_layers(model, layers))
    kv_heads = row.first("kv_heads")
    if isinstance(kv_heads, int):
        model = replace(model, stack=_with_kv_heads(model.stack, kv_heads))
    return model


def _first_layers(model: Model, layers: int) -> tuple[Stack, ...]:
    """Return the stacks cut to their first layers, a pattern of layers in its middle where that is where they end."""
    left, stacks = layers, []
    for stack in model.stack:
        repeat = min(stack.repeat, left // len(stack.layer))
        left -= repeat * len(stack.layer)
        stacks += [replace(stack, repeat=repeat)] if repeat else []
        if repeat < stack.repeat:
            stacks += [replace(stack, layer=stack.layer[:left], repeat=1)] if left else []
            break
    return tuple(stacks)


def _with_kv_heads(stacks: tuple[Stack, ...], kv_heads: int) -> tuple[Stack, ...]:
    def changed(layer: Any) -> Any:
        attention = layer.attention
        if getattr(attention, "kind", "") != "gqa" or attention.n_kv_heads == kv_heads:
            return layer
        return replace(layer, attention=replace(attention, n_kv_heads=kv_heads))

    return tuple(replace(stack, layer=tuple(map(changed, stack.layer))) for stack in stacks)


def from_dimensions(config: Mapping[str, Any], name: str) -> Model:
    """Return a decoder of stated dimensions: Llama's layer where it is gated or shares key-value heads, else GPT's.

    A row that states a parameter count decides whether embeddings are tied: the nearer of the two is taken.
    """
    candidates = [_decoder(config, name, gated=gated, tied=tied) for gated in _gated(config) for tied in _tied(config)]
    params = config.get("params") or (1e9 * config["params_billion"] if config.get("params_billion") else None)
    if params is None:
        return candidates[0]
    return min(candidates, key=lambda model: abs(model.params().total - float(params)))


def _gated(config: Mapping[str, Any]) -> tuple[bool, ...]:
    if "gated" in config:
        return (bool(config["gated"]),)
    hidden, ffn = int(config["hidden"]), config.get("ffn")
    if ffn is None:
        return (False,)
    return (True,) if int(ffn) != 4 * hidden or config.get("kv_heads", config["heads"]) != config["heads"] else (False,)


def _tied(config: Mapping[str, Any]) -> tuple[bool, ...]:
    if "untied_embeddings" in config:
        return (not config["untied_embeddings"],)
    if "tied" in config:
        return (bool(config["tied"]),)
    return (True, False)


def _decoder(config: Mapping[str, Any], name: str, *, gated: bool, tied: bool) -> Model:
    hidden, heads = int(config["hidden"]), int(config["heads"])
    head_dim = int(config.get("head_dim") or hidden // heads)
    positions = str(config.get("positions") or ("rotary" if gated else "learned"))
    bias = bool(config.get("bias", not gated))
    norm: dict[str, Any] = {"kind": "rms"} if gated else {"kind": "layer", "bias": bias}
    attention: dict[str, Any] = {
        "kind": "gqa", "n_heads": heads, "n_kv_heads": int(config.get("kv_heads") or heads), "head_dim": head_dim,
        "qkv_bias": bias, "o_bias": bias,
        **({"rotary_dim": head_dim} if positions == "rotary" else {}),
        **({"position_bias": "alibi"} if positions == "alibi" else {}),
    }  # fmt: skip
    ffn: dict[str, Any] = {
        "kind": "dense", "d_ff": int(config.get("ffn") or 4 * hidden), "gated": gated, "bias": bias,
        "activation": "silu" if gated else "gelu",
    }  # fmt: skip
    if gated:
        ffn.pop("bias")
    embedding: dict[str, Any] = {}
    if positions == "learned":
        embedding["positions"] = "learned"
        embedding["max_positions"] = int(config.get("seq_len") or 2048)
    return Model.build(
        {
            "name": name,
            "d_model": hidden,
            "vocab_size": int(config.get("vocab") or 51_200),
            "stack": [{"repeat": int(config["layers"]), "layer": [{"attention": attention, "ffn": ffn, "norm": norm}]}],
            "final_norm": norm,
            "embedding": embedding,
            "head": {"tied": tied},
        }
    )
