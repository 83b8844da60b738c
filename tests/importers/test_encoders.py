"""BERT and its kin against transformers: as encoders, masked language models, causal decoders, classifiers."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.importers import whole  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

NAMES = {
    "bert": "Bert", "bert-generation": "BertGeneration", "big_bird": "BigBird", "camembert": "Camembert",
    "data2vec-text": "Data2VecText", "distilbert": "DistilBert", "electra": "Electra", "ernie": "Ernie",
    "megatron-bert": "MegatronBert", "rembert": "RemBert", "roberta": "Roberta",
    "roberta-prelayernorm": "RobertaPreLayerNorm", "roc_bert": "RoCBert",
    "roformer": "RoFormer", "xlm": "XLM", "xlm-roberta": "XLMRoberta",
    "xlm-roberta-xl": "XLMRobertaXL", "xmod": "Xmod",
}  # fmt: skip
CAUSAL = {"bert": "BertLMHeadModel", "bert-generation": "BertGenerationDecoder", "xlm": "XLMWithLMHeadModel"}
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60,
    "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXTRA: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 16},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "roformer": {"embedding_size": 16},
    "big_bird": {"attention_type": "original_full"},
    "roc_bert": {
        "pronunciation_vocab_size": 11,
        "pronunciation_embed_dim": 12,
        "shape_vocab_size": 13,
        "shape_embed_dim": 14,
    },
    "xmod": {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"},
}
DISTIL = {
    "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 60, "max_position_embeddings": 40,
}  # fmt: skip
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 60, "max_position_embeddings": 40}


def small(model_type: str, **more: Any) -> Any:
    base = {"distilbert": DISTIL, "xlm": XLM}.get(model_type, SMALL | EXTRA.get(model_type, {}))
    return transformers.CONFIG_MAPPING[model_type](**{**base, **more})


def causal_class(model_type: str) -> str:
    return CAUSAL.get(model_type, f"{NAMES[model_type]}ForCausalLM")


def masked_class(model_type: str) -> str:
    return "XLMWithLMHeadModel" if model_type == "xlm" else f"{NAMES[model_type]}ForMaskedLM"


DECODERS = sorted(set(NAMES) - {"distilbert", "xlm"})
MASKED = sorted(set(NAMES) - {"bert-generation"})
BARE = {name: "BertGenerationEncoder" if name == "bert-generation" else f"{NAMES[name]}Model" for name in NAMES}


@pytest.mark.parametrize("model_type", sorted(NAMES))
def test_default_config_counts_to_the_parameter(model_type: str) -> None:
    name = causal_class(model_type) if model_type in DECODERS else masked_class(model_type)
    config = transformers.CONFIG_MAPPING[model_type]()
    ours = whole.read(config, name).model.params().total
    assert ours == whole.stored(whole.built(config, name, "meta"))


# transformers 5.23 hands the encoder's states to BigBird's self-attention as well: nothing to compare with
@pytest.mark.parametrize(
    ("model_type", "crosses"),
    [(name, crosses) for name in DECODERS for crosses in (False, True) if (name, crosses) != ("big_bird", True)],
)
def test_causal_decoder(model_type: str, crosses: bool) -> None:
    config = small(model_type, is_decoder=True, add_cross_attention=crosses)
    name = causal_class(model_type)
    theirs = whole.built(config, name, "cpu")
    imported = whole.read(config, name)
    ours = imported.model
    # this class shapes the encoder's keys as its own queries, so it takes no other length
    length = whole.TOKENS if model_type == "megatron-bert" else whole.SOURCE
    source = {"encoder_hidden_states": torch.zeros(whole.BATCH, length, 32)} if crosses else {}
    assert ours.params().total == whole.stored(theirs)
    assert whole.prefill_flops(ours, length) == whole.counted(theirs, input_ids=whole.tokens(), **source)
    kept = theirs(input_ids=whole.tokens(), use_cache=True, **source).past_key_values
    assert whole.cache_bytes(ours, length) == whole.cached_bytes(kept)
    assert any("source tokens" in note for note in imported.notes) == crosses
    assert not [note for note in imported.notes if "not understood" in note]


@pytest.mark.parametrize("model_type", MASKED)
def test_masked_language_model(model_type: str) -> None:
    config = small(model_type)
    theirs = whole.built(config, masked_class(model_type), "cpu")
    ours = whole.read(config, masked_class(model_type)).model
    assert ours.params().total == whole.stored(theirs)
    assert whole.prefill_flops(ours) == whole.counted(theirs, input_ids=whole.tokens())
    assert whole.cache_bytes(ours) == 0


@pytest.mark.parametrize("model_type", sorted(NAMES))
def test_bare_model(model_type: str) -> None:
    config = small(model_type)
    theirs = whole.built(config, BARE[model_type], "cpu")
    ours = whole.read(config, BARE[model_type]).model
    assert ours.params().total == whole.stored(theirs)
    assert whole.prefill_flops(ours) == whole.counted(theirs, input_ids=whole.tokens())


@pytest.mark.parametrize("name", ["BertForPreTraining", "MegatronBertForPreTraining", "ErnieForPreTraining"])
def test_next_sentence_head(name: str) -> None:
    model_type = next(key for key, value in NAMES.items() if name == f"{value}ForPreTraining")
    config = small(model_type)
    theirs = whole.built(config, name, "cpu")
    ours = whole.read(config, name).model
    assert ours.params().total == whole.stored(theirs)
    assert whole.prefill_flops(ours) == whole.counted(theirs, input_ids=whole.tokens())


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "electra", "rembert"])
def test_classifier_over_a_sequence(model_type: str) -> None:
    name = f"{NAMES[model_type]}ForSequenceClassification"
    config = small(model_type, num_labels=5)
    theirs = whole.built(config, name, "cpu")
    ours = whole.read(config, name).model
    assert ours.params().total == whole.stored(theirs)
    assert whole.prefill_flops(ours) == whole.counted(theirs, input_ids=whole.tokens())


@pytest.mark.parametrize("name", ["ModernBertForMaskedLM", "ModernBertModel"])
@pytest.mark.parametrize(
    "more", [{}, {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}]
)
def test_modernbert(name: str, more: dict[str, Any]) -> None:
    config = transformers.ModernBertConfig(**SMALL, **more, cls_token_id=1, sep_token_id=2)
    theirs = whole.built(config, name, "cpu")
    ours = whole.read(config, name)
    assert ours.model.params().total == whole.stored(theirs)
    assert ours.model.cache(10).bytes == 0
    # windows that all tokens fit in are full attention
    assert whole.prefill_flops(ours.model) == whole.counted(theirs, input_ids=whole.tokens())
    assert any("upper bounds" in note for note in ours.notes)
