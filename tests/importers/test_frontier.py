"""Presets of models with experts, latent, sparse or recurrent layers, and the published configs that they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calc import catalog
from calc.errors import ConfigError
from calc.importers.huggingface import from_config
from calc.importers.huggingface.registry import FAMILIES
from calc.model import Model, parameters

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
MODULES = (
    "moe", "shared_moe", "llama4", "mla", "deepseek_v4", "hybrid", "lfm", "recurrent", "gemma_next", "switch",
)  # fmt: skip


def read(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))
    return data


def of_ours(name: str) -> bool:
    data = read(name)
    inner = data.get("text_config", data) if data.get("model_type") not in FAMILIES else data
    return FAMILIES.get(inner.get("model_type", ""), "").partition(":")[0] in MODULES


NAMES = sorted(path.stem for path in CONFIGS.glob("*.json") if path.stem in catalog.names() and of_ours(path.stem))


def imported(data: dict[str, Any], name: str = "model") -> Model:
    return from_config(data, name=name, origin="config.json").model


def bare(model: Model) -> Model:
    """Return what makes the architecture: not its name, its sources, or the format of its weights."""
    mtp = replace(model.mtp, stores_embedding=False, stores_head=False) if model.mtp else None
    towers = tuple(replace(tower, source="") for tower in model.tower)
    bared = replace(model, name="model", title="", source="", notes=(), published={}, weights_dtype="bf16", mtp=mtp)
    return replace(bared, tower=towers)


def test_the_frontier_is_there() -> None:
    assert len(NAMES) > 50


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_what_its_config_describes(name: str) -> None:
    assert bare(catalog.load(name)) == bare(imported(read(name)))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_published_config_is_understood(name: str) -> None:
    notes = from_config(read(name), name=name, origin="config.json").notes
    assert not [note for note in notes if note.startswith("not understood")]


CONVENTIONS: dict[str, Callable[[Model], int]] = {
    "all": lambda model: model.params().active,
    "without_embedding": lambda model: model.params().active - model.vocab_size * model.d_model,
    "without_embedding_and_head": lambda model: model.params().active - 2 * model.vocab_size * model.d_model,
}
ACTIVE = [name for name in catalog.names() if "params_active" in catalog.load(name).published]


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name: str) -> None:
    """Makers count differently; each preset says which convention its figure follows. Most figures are rounded."""
    model = catalog.load(name)
    stated = model.published
    count = CONVENTIONS[stated["active_counts"]](model)
    assert count == pytest.approx(stated["params_active"], rel=stated.get("active_tolerance", 0.026))


def test_an_estimate_spans_the_ranges_that_it_states() -> None:
    model = catalog.load("gemini-2.5-pro")
    ends = model.bounds()
    assert ends is not None
    for end, side in zip(ends, ("low", "high"), strict=True):
        params = end.params()
        assert params.total == pytest.approx(model.published[f"params_total_{side}"], rel=0.005)
        assert params.active == pytest.approx(model.published[f"params_active_{side}"], rel=0.005)
    assert ends[0].params().total < model.params().total < ends[1].params().total


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("deepseek-v3", 13_463),
        ("glm-4.5", 5_539),
        ("glm-4.6", 3_988),
        ("qwen3.5-0.8b", 20),
        ("qwen3.5-122b-a10b", 2_523),
        ("nemotron-3-super-120b-a12b", 2_942),
    ],
)
def test_modules_for_multi_token_prediction_make_up_the_size_on_the_hub(name: str, millions: int) -> None:
    """685B, 358B and 357B on the hub: the model, and the module with or without the vocabulary's tables again.

    Qwen3.5 and Nemotron 3 share the tables: qwen3_5_mtp.py and nemotron_h_mtp.py of vLLM.
    """
    model = catalog.load(name)
    assert parameters(model.mtp_blocks()).total // 10**6 == millions


def changed(name: str, **changes: Any) -> dict[str, Any]:
    data = read(name)
    target = data.get("text_config", data)
    for key, value in changes.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    return data


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, "n_active_experts = 9 is more than n_experts = 8"),
        ("mixtral-8x7b", {"num_local_experts": "8"}, 'num_local_experts = "8": expected a whole number'),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq other than 1 is not supported"),
        ("deepseek-v3", {"n_group": 7}, "not divisible by router_groups = 7"),
        ("glm-5", {"index_topk": None}, ""),
        ("nemotron-h-8b", {"hybrid_override_pattern": "MX" * 26}, "names an unknown layer"),
        ("nemotron-h-8b", {"num_hidden_layers": 51}, "num_hidden_layers = 51, but 52 layers are named"),
        ("granite-4.0-h-tiny", {"layer_types": ["conv"] * 40}, 'layer_types holds "conv"'),
        ("granite-4.0-h-tiny", {"layer_types": ["mamba"] * 39}, "layer_types has 39 entries for 40 layers"),
        ("qwen3-next-80b-a3b", {"attn_output_gate": False}, "attn_output_gate = false is not supported"),
        ("deepseek-v4-flash", {"compress_ratios": [0, 4]}, "compress_ratios has 2 entries for 43 layers"),
        ("deepseek-v4-flash", {"compress_ratios": [2, 3, 4] * 15}, "more than two rates"),
        ("deepseek-v4-flash", {"compress_ratios": [0, 7] * 22}, "does not tell which attention"),
        ("llama-4-scout", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries for 48 layers"),
        ("gemma-3n-e4b", {"num_kv_shared_layers": 35}, "leaves no layer of 35 with its own"),
        ("gemma-4-e2b", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention = 'all'"),
        ("recurrentgemma-2b", {"block_types": ["recurrent", "mlp"]}, "block_types holds a kind"),
        ("mimo-v2-flash", {"n_shared_experts": 1}, "n_shared_experts = 1 is not supported"),
        ("minimax-m2", {"use_qk_norm": False}, "is not supported for minimax_m2"),
        ("dbrx", {"ffn_config": {"ffn_act_fn": {"name": "tanhexp"}}}, "is not an activation that is understood"),
        ("minimax-text-01", {"shared_intermediate_size": 512}, "shared_intermediate_size = 512 is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name: str, changes: dict[str, Any], message: str) -> None:
    data = changed(name, **changes)
    if not message:  # the class has a default for it, which is taken and said
        assert any("index_topk is not in the file" in note for note in imported(data).notes)
        return
    with pytest.raises(ConfigError) as refused:
        imported(data)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_alias_is_read_as_the_type_that_it_copies() -> None:
    data = read("kimi-k2")
    plain = bare(imported(data))
    assert plain == bare(imported(data | {"model_type": "kimi_k2"}))


EXAONE_4_32B: dict[str, Any] = {
    "model_type": "exaone4", "architectures": ["Exaone4ForCausalLM"], "hidden_size": 5120, "intermediate_size": 27_392,
    "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 102_400, "sliding_window": 4096, "sliding_window_pattern": "LLLG",
    "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 16, "tie_word_embeddings": False,
}  # fmt: skip
HUNYUAN_A13B: dict[str, Any] = {
    "model_type": "hunyuan_v1_moe", "architectures": ["HunYuanMoEV1ForCausalLM"], "hidden_size": 4096,
    "intermediate_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "attention_head_dim": 128, "head_dim": 128, "vocab_size": 128_167, "num_experts": 64, "moe_topk": [8] * 32,
    "num_shared_expert": [1] * 32, "moe_intermediate_size": [3072] * 32, "moe_layer_num_skipped": 0,
    "use_mixed_mlp_moe": True, "use_qk_norm": True, "use_cla": False, "tie_word_embeddings": True,
}  # fmt: skip
MINICPM3_4B: dict[str, Any] = {
    "model_type": "minicpm3", "architectures": ["MiniCPM3ForCausalLM"], "hidden_size": 2560, "num_hidden_layers": 62,
    "num_attention_heads": 40, "num_key_value_heads": 40, "intermediate_size": 6400, "vocab_size": 73_448,
    "q_lora_rank": 768, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
    "dim_model_base": 256, "scale_depth": 1.4, "scale_emb": 12,
}  # fmt: skip


LATE = [0, 0, 0, *[1] * 57]
MINIMAX_M3: dict[str, Any] = {
    "model_type": "minimax_m3", "architectures": ["MiniMaxM3ForCausalLM"], "hidden_size": 6144,
    "intermediate_size": 3072, "moe_intermediate_size": 3072, "dense_intermediate_size": 12_288,
    "shared_intermediate_size": 3072, "n_shared_experts": 1, "num_hidden_layers": 60, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 128, "rotary_dim": 64, "partial_rotary_factor": 0.5, "vocab_size": 200_064,
    "hidden_act": "swigluoai", "swiglu_alpha": 1.702, "swiglu_limit": 7.0, "num_local_experts": 128,
    "num_experts_per_tok": 4, "moe_layer_freq": LATE, "first_k_dense_replace": 3, "scoring_func": "sigmoid",
    "routed_scaling_factor": 2.0, "use_routing_bias": True, "use_qk_norm": True, "qk_norm_type": "per_head",
    "use_gemma_norm": True, "attention_output_gate": False, "num_mtp_modules": 7, "num_nextn_predict_layers": 1,
    "sparse_attention_config": {
        "sparse_attention_freq": LATE, "sparse_block_size": 128, "sparse_disable_index_value": LATE,
        "sparse_index_dim": 128, "sparse_init_block": 0, "sparse_local_block": 1, "sparse_num_index_heads": 4,
        "sparse_score_type": "max", "sparse_topk_blocks": 16, "use_sparse_attention": True,
    },
    "tie_word_embeddings": False,
}  # fmt: skip

FILES: list[tuple[str, dict[str, Any], int]] = [
    ("LGAI-EXAONE/EXAONE-4.0-32B", EXAONE_4_32B, 32_003_216_384),
    ("tencent/Hunyuan-A13B-Instruct", HUNYUAN_A13B, 80_393_183_232),
    ("openbmb/MiniCPM3-4B", MINICPM3_4B, 4_073_875_968),
    ("MiniMaxAI/MiniMax-M3", MINIMAX_M3, 426_174_572_928),
]


@pytest.mark.parametrize(("data", "total"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_published_files_that_say_more_or_less_than_their_class(data: dict[str, Any], total: int) -> None:
    found = from_config(data, name="model", origin="config.json")
    assert found.model.params().total == total  # as transformers counts
    assert not [note for note in found.notes if note.startswith("not understood")]


def test_letters_and_types_of_layers_say_the_same() -> None:
    lettered = {key: value for key, value in EXAONE_4_32B.items() if key != "layer_types"}
    assert imported(lettered).stack == imported(EXAONE_4_32B).stack
    with pytest.raises(ConfigError, match="is not of the letters L and G"):
        imported(lettered | {"sliding_window_pattern": "LLLX"})


def test_sizes_that_differ_between_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="moe_topk differs from layer to layer"):
        imported(HUNYUAN_A13B | {"moe_topk": [*[8] * 31, 4]})


def test_a_mixture_without_shared_experts() -> None:
    alone = imported(HUNYUAN_A13B | {"use_mixed_mlp_moe": False})
    assert imported(HUNYUAN_A13B).params().total - alone.params().total == 32 * 3 * 4096 * 3072


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("deepseek-v4-flash", {}),
        ("minimax-m2.5", {"num_mtp_modules": 3, "use_mtp": True}),
        ("kimi-linear-48b-a3b", {"num_nextn_predict_layers": 1}),
        ("qwen3.5-27b", {"mtp_num_hidden_layers": 2}),
        ("qwen3.5-27b", {"mtp_use_dedicated_embeddings": True}),
        ("nemotron-3-super-120b-a12b", {"mtp_hybrid_override_pattern": "*EM"}),
    ],
)
def test_prediction_modules_of_unknown_structure_are_said_to_be_left_out(name: str, changes: dict[str, Any]) -> None:
    found = from_config(changed(name, **changes), name=name, origin="config.json")
    assert found.model.mtp is None
    assert len([note for note in found.notes if "for multi-token prediction" in note and "not counted" in note]) == 1


def test_kimi_k3_is_what_its_index_says() -> None:
    """model.safetensors.index.json of moonshotai/Kimi-K3: 1,560,860,324,864 bytes, 0.9 GB of them in the encoder."""
    found = from_config(read("kimi-k3"), name="kimi-k3", origin="config.json")
    params = found.model.params()
    left_out = 4 * 93 * 7168 + 2 * 7168
    assert f"not counted: {left_out:,} parameters" in found.notes[0]
    assert params.total + left_out == pytest.approx(2.78e12, rel=1e-3)
    assert params.active == pytest.approx(104e9, rel=0.02)
    assert found.model.cache(1).bytes == 24 * (512 + 64) * 2
    assert found.model.weight_bytes() == pytest.approx(1_560_860_324_864 - 0.9e9, rel=1e-4)
