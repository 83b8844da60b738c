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
    [("deepseek-v3", 13_463), ("glm-4.5", 5_539), ("glm-4.6", 3_988)],
)
def test_modules_for_multi_token_prediction_make_up_the_size_on_the_hub(name: str, millions: int) -> None:
    """685B, 358B and 357B on the hub: the model, and the module with or without the vocabulary's tables again."""
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
