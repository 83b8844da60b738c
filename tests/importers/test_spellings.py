"""Keys under other names, missing or null, read as the class of transformers reads them: on the meta device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from calc.errors import ConfigError
from calc.importers.huggingface import Imported, from_config
from calc.importers.huggingface.reader import aliases

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.importers.whole import stored  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_state": 5, "mamba_n_groups": 2, "mamba_chunk_size": 4}
EXPERTS = {"moe_intermediate_size": 20, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
LATENT = {
    "q_lora_rank": 18, "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 11,
    "num_key_value_heads": 4,
}  # fmt: skip
GPT = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}

FILES: list[tuple[str, dict[str, Any]]] = [
    # the usual names in place of those of the class
    ("gpt2", {**GPT, "max_position_embeddings": 32}),
    ("gpt_bigcode", {**GPT, "max_position_embeddings": 32}),
    ("gptj", {**GPT, "max_position_embeddings": 32, "rotary_dim": 8}),
    ("openai-gpt", {**GPT, "max_position_embeddings": 32}),
    ("xglm", {**GPT, "attention_heads": 4, "ffn_dim": 96}),
    ("deepseek_v3", {**SIZES, **LATENT, **EXPERTS, "num_local_experts": 8, "first_k_dense_replace": 1}),
    ("cohere2", {**SIZES, "head_dim": 32, "sliding_window": 8}),
    # Mamba-2's heads, where the file leaves their width to the class
    ("bamba", {**SIZES, **MAMBA, "mamba_d_head": "auto", "attn_layer_indices": [1]}),
    ("granitemoehybrid", {
        **SIZES, **MAMBA, "num_local_experts": 0, "shared_intermediate_size": 28,
        "layer_types": ["mamba", "attention"] * 4,
    }),
    ("falcon_h1", {**SIZES, **MAMBA, "mamba_d_ssm": 64}),
    # what a class derives
    ("olmo_hybrid", SIZES),
    ("mamba", {"hidden_size": 48, "num_hidden_layers": 2, "vocab_size": 96, "expand": 3}),
    ("mamba", {"hidden_size": 48, "num_hidden_layers": 2, "vocab_size": 96, "intermediate_size": 90}),
    ("lfm3", {**SIZES, "sliding_window": 8}),
    ("gemma4_text", {
        **SIZES, "sliding_window": 8, "hidden_size_per_layer_input": 0, "head_dim": 12, "global_head_dim": 20,
    }),
    # the first layer is dense where nothing says which are
    ("glm4_moe_lite", {**SIZES, **LATENT, **EXPERTS, "n_routed_experts": 8}),
    ("axk1", {**SIZES, **LATENT, **EXPERTS, "n_routed_experts": 8}),
    ("kimi_linear", {
        **SIZES, **LATENT, **EXPERTS, "num_experts": 8, "layer_types": ["linear_attention", "full_attention"] * 4,
        "q_lora_rank": None, "linear_num_heads": 4, "linear_head_dim": 6,
    }),
    # linear attention with the sizes of the other
    ("bailing_hybrid", {
        **SIZES, **LATENT, **EXPERTS, "num_experts": 8, "head_dim": 12, "short_conv_kernel_size": 3,
        "first_k_dense_replace": 2,
    }),
    # an encoder of texts
    ("gemma3_text", {**SIZES, "head_dim": 12, "sliding_window": 8, "use_bidirectional_attention": True}),
    # biases of shared experts
    ("deepseek_v2", {
        **SIZES, **LATENT, **EXPERTS, "n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 1,
        "mlp_bias": True,
    }),
    ("aria_text", {**SIZES, "moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2, "mlp_bias": True}),
]  # fmt: skip


def read(data: dict[str, Any]) -> Imported:
    return from_config(data, name="model", origin="config.json")


@pytest.mark.parametrize(("kind", "data"), FILES, ids=[kind for kind, _ in FILES])
def test_a_file_is_read_as_its_class_reads_it(kind: str, data: dict[str, Any]) -> None:
    config = transformers.CONFIG_MAPPING[kind].from_dict(dict(data))
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
    found = read({"model_type": kind, **data})
    assert found.model.params().total == stored(theirs)
    assert not [note for note in found.notes if note.startswith("not understood")]


def test_the_aliases_are_those_of_transformers() -> None:
    for kind, ours in aliases().items():
        assert ours == transformers.CONFIG_MAPPING[kind].attribute_map, kind


def test_a_name_that_contradicts_the_one_of_the_class_is_named() -> None:
    gpt = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 3, "vocab_size": 96}
    assert read({**gpt, "hidden_size": 64}).model == read(gpt).model
    assert "not understood, ignored: hidden_size" in read({**gpt, "hidden_size": 96}).notes


def test_heads_that_do_not_fill_heliums_square_projection_are_refused() -> None:
    with pytest.raises(ConfigError, match="not supported for helium"):
        read({"model_type": "helium", **SIZES, "head_dim": 16})


def test_embeddinggemma_keeps_nothing_and_is_as_large_as_its_model_card_says() -> None:
    """308M with the two maps that sentence-transformers keeps apart: 2 · 768 · 3072."""
    data = {
        "model_type": "gemma3_text", "architectures": ["Gemma3TextModel"], "head_dim": 256, "hidden_size": 768,
        "intermediate_size": 1152, "num_attention_heads": 3, "num_hidden_layers": 24, "num_key_value_heads": 1,
        "sliding_window": 257, "use_bidirectional_attention": True, "vocab_size": 262_144, "torch_dtype": "float32",
    }  # fmt: skip
    found = read(data)
    assert found.model.params().total == 302_863_104 == pytest.approx(308e6 - 2 * 768 * 3072, rel=2e-3)
    assert found.model.cache(100).bytes == 0
    assert any("upper bounds" in note for note in found.notes)


def test_paligemma_says_that_its_text_model_sees_both_ways_and_its_wrapper_which_tokens() -> None:
    data = json.loads(transformers.PaliGemmaConfig().to_json_string(use_diff=False))
    assert data["text_config"]["use_bidirectional_attention"] is True
    assert read(data).model.sees == "prompt"
    with pytest.raises(ConfigError, match="use_bidirectional_attention = true is not supported"):
        read({**data["text_config"], "model_type": "gemma"})
