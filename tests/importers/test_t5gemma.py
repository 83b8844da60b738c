"""T5Gemma against transformers: an encoder and a decoder of Gemma 2's layers."""

from __future__ import annotations

from typing import Any

import pytest

from calc.errors import ConfigError
from calc.importers.huggingface import from_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.importers import whole  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

CLASS = "T5GemmaForConditionalGeneration"
SIDE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 60, "sliding_window": 40, "pad_token_id": 0,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "t5gemma-b-b": {
        "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_key_value_heads": 12, "head_dim": 64,
    },
    "t5gemma-2b-2b": {},
    "t5gemma-9b-9b": {
        "hidden_size": 3584, "intermediate_size": 14_336, "num_hidden_layers": 42, "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
}  # fmt: skip


def config(encoder: dict[str, Any], decoder: dict[str, Any], **more: Any) -> Any:
    return transformers.T5GemmaConfig(encoder=dict(encoder), decoder=dict(decoder), **more)


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes_count_to_the_parameter(name: str) -> None:
    stated = config(SIZES[name], SIZES[name])
    assert whole.read(stated, CLASS).model.params().total == whole.stored(whole.built(stated, CLASS, "meta"))


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "biases, no caps": ({}, {"attention_bias": True, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "sides of different depth": ({"num_hidden_layers": 2, "num_key_value_heads": 1, "intermediate_size": 36}, {}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_small_model(name: str) -> None:
    encoder, decoder = OPTIONS[name]
    stated = config(SIDE | encoder, SIDE | decoder, vocab_size=60)
    theirs, imported = whole.built(stated, CLASS, "cpu"), whole.read(stated, CLASS)
    inputs = {"input_ids": whole.tokens(whole.SOURCE), "decoder_input_ids": whole.tokens()}
    assert imported.model.params().total == whole.stored(theirs)
    assert whole.prefill_flops(imported.model) == whole.counted(theirs, **inputs)
    kept = theirs(**inputs, use_cache=True).past_key_values
    assert whole.cache_bytes(imported.model) == whole.cached_bytes(kept)
    assert not [note for note in imported.notes if "not understood" in note], imported.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": SIDE | {"hidden_size": 64}}, "encoder.hidden_size = 64 and decoder.hidden_size = 32 differ"),
        ({"decoder": SIDE | {"vocab_size": 61}}, "encoder.vocab_size and decoder.vocab_size differ"),
        ({"architectures": ["T5GemmaEncoderModel"]}, "only the whole encoder-decoder is supported"),
    ],
)
def test_what_is_not_supported_is_refused(changes: dict[str, Any], message: str) -> None:
    data = {"model_type": "t5gemma", "architectures": [CLASS], "encoder": SIDE, "decoder": SIDE} | changes
    with pytest.raises(ConfigError, match=message):
        from_config(data, name="model", origin="config.json")
