"""Rows from engines' logs: tokens that the cache holds, bytes of the weights as loaded."""

from __future__ import annotations

import re

from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.measured.models import model_of
from calc.measured.rows import GIVEN_MEMORY, Measurement, NotModelled, Prediction
from calc.measured.setups import accelerator_of, cache_dtype_of, engine_of, weights_of
from calc.measured.units import BYTES, unit_of
from calc.model import Model
from calc.parallel import Layout
from calc.schemes import weight_forms
from calc.serving.cache import capacity, kept
from calc.serving.engines import Engine
from calc.serving.memory import divide, peak_bytes
from calc.serving.weights import loaded, rank_blocks
from calc.units import GIB, dtype

TOKENS = ("kv_cache_capacity_tokens", "kv_cache_tokens", "max_total_num_tokens", "gpu_kv_cache_size")
WEIGHTS = ("model_weights_per_gpu", "weights_per_gpu", "model_loading_memory")
CACHE_BYTES = ("kv_self_size", "kv_cache_bytes_for_capacity", "kv_cache_size_bytes", "kv_buffer_size")


def predict(row: Measurement) -> Prediction | None:
    """Return tokens of the cache, or bytes of weights or cache on one device; None for other figures."""
    if row.metric in WEIGHTS:
        return Prediction("serving.weights", _weights(row) / unit_of(row, BYTES))
    if row.metric.endswith(GIVEN_MEMORY):
        return Prediction("serving.cache_given_memory", _tokens(row, _available(row)))
    if row.metric in TOKENS:
        return Prediction("serving.cache", _tokens(row, None))
    if row.metric in CACHE_BYTES:
        return Prediction("serving.cache_bytes", _cache_bytes(row) / unit_of(row, BYTES))
    return None


def _available(row: Measurement) -> float:
    found = row.available_gib()
    if found is None:
        raise NotModelled("the memory that the cache may have is not stated")
    return GIB * found


def layout_of(row: Measurement) -> Layout:
    """Return the degrees that a row states; routed experts are divided by ``ep`` where there is one."""
    tp, pp = row.whole("tp", "tensor_parallel", default=1), row.whole("pp", default=1)
    ep, dp = row.whole("ep", "moe_ep", default=1), row.whole("dp", default=1)
    if ep > 1:
        return Layout(tp=tp, pp=pp, ep=ep, dp=dp, expert_tp=max(tp * dp // ep, 1) if tp * dp % ep == 0 else 1)
    return Layout(tp=tp, pp=pp, dp=dp)


def _model(row: Measurement) -> Model:
    """Return the row's model, or, where it is unknown, one that keeps the keys and values whose sizes are stated."""
    try:
        return model_of(row)
    except NotModelled:
        layers = row.first("layers", "n_layers")
        latent = row.first("kv_latent", "kv_latent_dim")
        heads, width = row.first("kv_heads"), row.first("head_dim")
        if layers is None or (latent is None and (heads is None or width is None)):
            raise
        heads, width = (1, int(latent)) if latent is not None else (int(heads), int(width))
        return _bare(int(layers), heads, width, row.whole("tp", default=1), halved=latent is not None)


def _bare(layers: int, heads: int, width: int, ranks: int, *, halved: bool) -> Model:
    """Return layers that keep such keys and values; query heads enough for every rank, since none are stated."""
    attention = {"kind": "gqa", "n_heads": heads * ranks, "n_kv_heads": heads, "head_dim": width}
    if halved:  # one latent, not a key and a value
        attention |= {"v_head_dim": width - width // 2, "head_dim": width // 2}
    return Model.build(
        {
            "name": "stated cache", "d_model": heads * width, "vocab_size": 1,
            "stack": [{"repeat": layers, "layer": [{"attention": attention}]}],
        }
    )  # fmt: skip


def _text_alone(model: Model, row: Measurement) -> Model:
    """Return the model, unless an image or audio encoder is loaded with it that the preset does not count."""
    if model.outside_source or re.search(r"omni|[-_ ]vl\b|vision|thinker", row.text("model")):
        raise NotModelled("an image or audio encoder is loaded too, whose weights the preset does not count")
    return model


def _weights(row: Measurement) -> float:
    """Return the bytes of the rank that holds most."""
    model = _text_alone(model_of(row), row)
    return max(
        float(
            loaded(
                blocks, weight_forms(weights_of(row, model), model.blocks()), engine_of(row), model.max_context
            ).total
        )
        for blocks in rank_blocks(model, layout_of(row))
    )


def _tokens(row: Measurement, given: float | None) -> float:
    """Return what the engine's log prints, of the rank that holds least."""
    engine, model, layout = engine_of(row), _model(row), layout_of(row)
    fraction = row.first("gpu_memory_utilization", "mem_fraction_static", "memory_fraction", "kv_fraction")
    if given is None and fraction is None:
        raise NotModelled("the fraction of memory that the engine may use is not stated")
    form = dtype(cache_dtype_of(row))
    least = float("inf")
    accelerator = accelerator_of(row) if given is None else None
    model = model if given is not None else _text_alone(model, row)
    batched, sequences = _limits(row, engine, accelerator)
    longest = row.whole("max_model_len", default=model.max_context or 8192)
    for blocks in rank_blocks(model, layout):
        room = given
        if accelerator is not None:
            forms = weight_forms(weights_of(row, model), model.blocks())
            memory = divide(
                accelerator, engine,
                loaded(blocks, forms, engine, model.max_context),
                peak_bytes(blocks, batched, sequences, model.vocab_size, engine),
                fraction=fraction,
                batched_tokens=batched, sequences=sequences, n_gpus=layout.gpus,
                graphs=not row.first("enforce_eager"),
            )  # fmt: skip
            room = memory.cache
            if room <= 0:
                raise NotModelled("nothing is left for the cache")
        found = capacity(blocks, form, engine, room, longest, batched_tokens=batched, longest=longest)
        if found.reported_tokens is None:
            raise NotModelled("no layer keeps keys and values")
        least = min(least, float(found.reported_tokens))
    return least


def _limits(row: Measurement, engine: Engine, accelerator: Accelerator | None) -> tuple[int, int]:
    """Return the tokens of a step and the sequences of a batch, stated or the engine's defaults."""
    batched, sequences = row.first("max_num_batched_tokens", "chunked_prefill_size"), row.first("max_num_seqs")
    if accelerator is None:
        return int(batched or engine.max_batched_tokens), int(sequences or engine.max_sequences)
    return int(batched or engine.batched_tokens(accelerator)), int(sequences or engine.sequences(accelerator))


def _cache_bytes(row: Measurement) -> float:
    """Return the bytes of a cache for a stated number of tokens, on one rank."""
    tokens = row.secondary.get("kv_tokens") or row.first("n_ctx", "tokens", "context")
    if tokens is None:
        raise NotModelled("the tokens that the cache is for are not stated")
    model, form = _model(row), dtype(cache_dtype_of(row))
    try:
        blocks = rank_blocks(model, layout_of(row))[0]
    except SpecError as error:
        raise NotModelled(str(error)) from None
    return float(
        sum(
            layer.layers * (layer.bytes_per_token * min(int(tokens), layer.reach or int(tokens)) + layer.state_bytes)
            for layer in kept(blocks, form)
        )
    )
