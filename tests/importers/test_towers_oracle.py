"""Encoders of images and sound against transformers on the meta device: parameters and matmul FLOPs, to the integer.

Real sizes, whole models: no tensor on the meta device has any data. Square windows are counted on the CPU, small, where
the library cuts the sequence by what the grid says.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from calc.importers.huggingface import Imported, from_config
from calc.modality.tower import Tower
from calc.model import Model, Pass, flops_by_operation, parameters

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.importers.whole import built, counted, stored  # noqa: E402

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("quiet")]

CONFIGS = Path(__file__).parent.parent / "data" / "configs"
BATCH = 2


def read(data: dict[str, Any]) -> Imported:
    return from_config(data, name="model", origin="config.json")


def real(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))
    return data


def pixels(size: int, device: str = "meta") -> Any:
    return torch.zeros(BATCH, 3, size, size, device=device)


def tower_params(tower: Tower) -> int:
    return int(parameters(tower.blocks()).total)


def tower_flops(tower: Tower, pass_: Pass, *names: str) -> int:
    """Return our FLOPs, of all tables or of those whose path ends in one of the names."""
    found = flops_by_operation(tower.blocks(), pass_)
    return sum(flops for (path, _), flops in found.items() if not names or path.endswith(names))


def without(tower: Tower, pass_: Pass, *names: str) -> int:
    return tower_flops(tower, pass_) - tower_flops(tower, pass_, *names)


# ---- images alone


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "pooler"])
def test_vit_large(classes: bool) -> None:
    name = "ViTForImageClassification" if classes else "ViTModel"
    data = {**real("vit-large-patch16-224"), "architectures": [name]}
    ours = read(data).model
    config = transformers.ViTConfig(**data)
    config.num_labels = 1000
    theirs = built(config, name, "meta")
    assert ours.params().total == stored(theirs)
    assert ours.max_context == 197
    assert ours.flops(Pass.prefill(197, BATCH)) == counted(theirs, pixel_values=pixels(224))


def test_clip_of_both_sides() -> None:
    data = real("clip-vit-large-patch14")
    ours = read(data).model
    theirs = built(transformers.CLIPConfig(**data), "CLIPModel", "meta")
    assert ours.params().total + tower_params(ours.tower[0]) == stored(theirs)
    seen = ours.tower[0].image(500, 300)
    flops = _flops_of(theirs.get_image_features, pixel_values=pixels(224))
    assert tower_flops(ours.tower[0], seen.pass_(BATCH)) == flops
    tokens = torch.zeros(BATCH, 77, dtype=torch.long, device="meta")
    assert ours.flops(Pass.prefill(77, BATCH, causal=False)) == _flops_of(theirs.get_text_features, input_ids=tokens)


def test_siglip_of_both_sides() -> None:
    data = real("siglip-so400m-patch14-384")
    ours = read(data).model
    theirs = built(transformers.SiglipConfig(**data), "SiglipModel", "meta")
    assert ours.params().total + tower_params(ours.tower[0]) == stored(theirs)
    seen = ours.tower[0].image(500, 300)
    assert seen.positions == seen.tokens == 729
    assert tower_flops(ours.tower[0], seen.pass_(BATCH)) == counted(theirs.vision_model, pixel_values=pixels(384))
    tokens = torch.zeros(BATCH, 64, dtype=torch.long, device="meta")
    assert ours.flops(Pass.prefill(64, BATCH, causal=False)) == counted(theirs.text_model, input_ids=tokens)


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection", "SiglipVisionModel"])
def test_one_side_alone(kind: str) -> None:
    config = transformers.SiglipVisionConfig() if kind.startswith("Siglip") else transformers.CLIPVisionConfig()
    data = {**json.loads(config.to_json_string(use_diff=False)), "architectures": [kind]}
    ours = read(data).model
    theirs = built(config, kind, "meta")
    assert ours.params().total == stored(theirs)
    assert ours.max_context
    assert ours.flops(Pass.prefill(ours.max_context, BATCH)) == counted(theirs, pixel_values=pixels(224))


@pytest.mark.parametrize("kind", ["clip_text_model", "siglip_text_model"])
def test_texts_alone(kind: str) -> None:
    config = transformers.CONFIG_MAPPING[kind]()
    data = {
        **json.loads(config.to_json_string(use_diff=False)),
        "architectures": [type(config).__name__[:-6] + "Model"],
    }
    name = "CLIPTextModel" if kind.startswith("clip") else "SiglipTextModel"
    assert read(data).model.params().total == stored(built(config, name, "meta"))


def _flops_of(method: Any, **inputs: Any) -> int:
    class Call:
        def __call__(self, **given: Any) -> Any:
            return method(**given)

    return counted(Call(), **inputs)


# ---- images beside text


def whole(data: dict[str, Any], kind: str) -> tuple[Model, Any]:
    """Return our model and the library's, and require that parameters agree, of text and towers together."""
    ours = read(data).model
    theirs = built(transformers.CONFIG_MAPPING[data["model_type"]](**data), kind, "meta")
    total = ours.params().total + sum(map(tower_params, ours.tower))
    assert total == stored(theirs)
    return ours, theirs


def test_paligemma() -> None:
    ours, theirs = whole(real("paligemma-3b-pt-224"), "PaliGemmaForConditionalGeneration")
    tower = ours.tower[0]
    seen = tower.image(1000, 700)
    assert (seen.tokens, seen.tiles) == (256, 1)
    flops = _flops_of(theirs.get_image_features, pixel_values=pixels(224))
    assert tower_flops(tower, seen.pass_(BATCH)) == flops


def test_gemma3() -> None:
    ours, theirs = whole(real("gemma-3-4b"), "Gemma3ForConditionalGeneration")
    tower = ours.tower[0]
    seen = tower.image(1000, 700)
    assert (seen.tokens, seen.positions) == (256, 4096)
    assert tower_flops(tower, seen.pass_(BATCH)) == _flops_of(theirs.get_image_features, pixel_values=pixels(896))


def test_llama4() -> None:
    data = real("llama-4-scout")
    config = transformers.Llama4Config(**data)
    ours = read(data).model.tower[0]
    with torch.device("meta"):
        vision = built(config.vision_config, transformers.Llama4VisionModel, "meta")
        from transformers.models.llama4.modeling_llama4 import Llama4MultiModalProjector

        projector = Llama4MultiModalProjector(config)
    assert tower_params(ours) == stored(vision) + stored(projector)
    seen = ours.image(300, 300)
    assert (seen.tiles, seen.tokens, seen.positions) == (1, 144, 577)
    states = torch.zeros(BATCH, 144, 4096, device="meta")
    flops = counted(vision, pixel_values=pixels(336)) + counted(projector, image_features=states)
    assert tower_flops(ours, seen.pass_(BATCH)) == flops


def test_llava() -> None:
    data = real("llava-1.5-7b")
    ours, theirs = whole(data, "LlavaForConditionalGeneration")
    seen = ours.tower[0].image(1000, 700)
    assert (seen.tokens, seen.positions) == (576, 577)
    flops = _flops_of(theirs.get_image_features, pixel_values=pixels(336), vision_feature_layer=-2)
    assert tower_flops(ours.tower[0], seen.pass_(BATCH)) == flops


def test_llava_next() -> None:
    ours, _ = whole(real("llava-v1.6-mistral-7b"), "LlavaNextForConditionalGeneration")
    assert ours.tower[0].image(1000, 700).tiles == 5


def test_internvl() -> None:
    config = transformers.InternVLConfig()
    data = json.loads(config.to_json_string(use_diff=False))
    ours = read(data).model
    theirs = built(config, "InternVLForConditionalGeneration", "meta")
    tower = ours.tower[0]
    assert tower_params(tower) == stored(theirs.model.vision_tower) + stored(theirs.model.multi_modal_projector)
    seen = tower.image(448, 448)
    assert (seen.tokens, seen.positions) == (256, 1025)
    flops = _flops_of(theirs.get_image_features, pixel_values=pixels(448))
    assert tower_flops(tower, seen.pass_(BATCH)) == flops


def grids(*grids: tuple[int, int, int]) -> Any:
    return torch.tensor(grids)


def qwen_flops(vision: Any, *shapes: tuple[int, int, int]) -> int:
    """Count the library's pass over images and clips of so many patches: (in time, rows, columns)."""
    per_patch = vision.config.in_channels * vision.config.temporal_patch_size * vision.config.patch_size**2
    patches = sum(t * h * w for t, h, w in shapes)
    return counted(vision, hidden_states=torch.zeros(patches, per_patch), grid_thw=grids(*shapes))


def our_flops(tower: Tower, *shapes: tuple[int, int, int]) -> int:
    passes = [Pass(batch=t, tokens=h * w, context=h * w, source=h * w, width=w) for t, h, w in shapes]
    return sum(tower_flops(tower, pass_) for pass_ in passes)


SHAPES = ((1, 16, 16), (1, 18, 26), (3, 10, 14), (1, 4, 40))
"""Grids that windows of 8 × 8 patches fill, and that they do not."""


def test_qwen2_5_vl_parameters() -> None:
    data = real("qwen2.5-vl-7b")
    ours = read(data).model
    theirs = built(transformers.Qwen2_5_VLConfig(**data), "Qwen2_5_VLForConditionalGeneration", "meta")
    assert tower_params(ours.tower[0]) == stored(theirs.model.visual)
    assert ours.params().total + tower_params(ours.tower[0]) == stored(theirs)


def small_vision(config: Any, **changes: Any) -> Any:
    """Shrink an image side: its widths and depth, not its structure."""
    for key, value in changes.items():
        setattr(config, key, value)
    config._attn_implementation = "eager"
    return config


def test_qwen2_5_vl_windows() -> None:
    data = real("qwen2.5-vl-7b")
    changes = {"hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "depth": 4, "out_hidden_size": 3584}
    data["vision_config"] = {**data["vision_config"], **changes, "fullatt_block_indexes": [1, 3]}
    ours = read(data).model.tower[0]
    config = transformers.Qwen2_5_VLConfig(**data).vision_config
    vision = built(
        config, transformers.models.qwen2_5_vl.modeling_qwen2_5_vl.Qwen2_5_VisionTransformerPretrainedModel, "cpu"
    )
    assert tower_params(ours) == stored(vision)
    for shape in SHAPES:
        assert our_flops(ours, shape) == qwen_flops(vision, shape), shape
    assert our_flops(ours, *SHAPES) == qwen_flops(vision, *SHAPES)


def test_qwen3_vl() -> None:
    config = transformers.Qwen3VLConfig()
    config.vision_config.out_hidden_size = config.text_config.hidden_size
    data = json.loads(config.to_json_string(use_diff=False))
    ours = read(data).model
    theirs = built(config, "Qwen3VLForConditionalGeneration", "meta")
    assert ours.params().total + tower_params(ours.tower[0]) == stored(theirs)
    changes = {"hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "depth": 5, "num_position_embeddings": 64}
    data["vision_config"] |= {**changes, "deepstack_visual_indexes": [1, 3]}
    small = read(data).model.tower[0]
    config = transformers.Qwen3VLConfig(**data).vision_config
    vision = built(config, transformers.Qwen3VLVisionModel, "cpu")
    assert tower_params(small) == stored(vision)
    assert our_flops(small, *SHAPES) == qwen_flops(vision, *SHAPES)


def test_qwen2_vl() -> None:
    config = transformers.Qwen2VLConfig()
    data = json.loads(config.to_json_string(use_diff=False))
    data["vision_config"] |= {
        "embed_dim": 64,
        "num_heads": 4,
        "depth": 3,
        "hidden_size": data["text_config"]["hidden_size"],
    }
    ours = read(data).model.tower[0]
    config = transformers.Qwen2VLConfig(**data).vision_config
    modeling = transformers.models.qwen2_vl.modeling_qwen2_vl
    vision = built(config, modeling.Qwen2VisionTransformerPretrainedModel, "cpu")
    assert tower_params(ours) == stored(vision)
    assert our_flops(ours, *SHAPES) == qwen_flops(vision, *SHAPES)


def test_mistral3() -> None:
    ours, theirs = whole(real("mistral-small-3.1-24b"), "Mistral3ForConditionalGeneration")
    tower = ours.tower[0]
    seen = tower.image(280, 336)
    assert (seen.tokens, seen.positions, seen.markers) == (120, 480, 10)
    image = torch.zeros(1, 3, 280, 336, device="meta")
    sizes = torch.tensor([[280, 336]])
    flops = counted(theirs.model.vision_tower, pixel_values=image, image_sizes=sizes.tolist())
    states = torch.zeros(480, 1024, device="meta")
    flops += counted(theirs.model.multi_modal_projector, image_features=states, image_sizes=sizes.tolist())
    assert tower_flops(tower, seen.pass_()) == flops


def test_git() -> None:
    config = transformers.GitConfig()
    data = json.loads(config.to_json_string(use_diff=False))
    ours, theirs = whole({**data, "architectures": ["GitForCausalLM"]}, "GitForCausalLM")
    tower = ours.tower[0]
    seen = tower.image(500, 300)
    assert (seen.tokens, seen.positions) == (197, 197)
    flops = counted(theirs.git.image_encoder, pixel_values=pixels(224))
    flops += counted(theirs.git.visual_projection, embeddings=torch.zeros(BATCH, 197, 768, device="meta"))
    assert tower_flops(tower, seen.pass_(BATCH)) == flops
    tokens = torch.zeros(BATCH, 9, dtype=torch.long, device="meta")
    assert ours.flops(Pass.prefill(9, BATCH, causal=False)) == counted(theirs, input_ids=tokens)


def test_gemma4() -> None:
    """Small, on the CPU; the library averages patches by a product with a matrix of zeros and ones, which is apart."""
    data = real("gemma-4-31b")
    data["vision_config"] |= {"hidden_size": 48, "head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 4}
    data["vision_config"] |= {"intermediate_size": 96, "num_hidden_layers": 3, "position_embedding_size": 64}
    ours = read(data).model.tower[0]
    config = transformers.Gemma4Config(**data)
    modeling = transformers.models.gemma4.modeling_gemma4
    vision = built(config.vision_config, modeling.Gemma4VisionModel, "cpu")
    embedder = modeling.Gemma4MultimodalEmbedder(config.vision_config, config.text_config)
    assert tower_params(ours) == stored(vision) + stored(embedder)
    rows, columns, width = 6, 9, 48
    places = torch.tensor([[(x, y) for y in range(rows) for x in range(columns)]] * BATCH)
    patches = torch.zeros(BATCH, rows * columns, 3 * 16 * 16)
    flops = counted(vision, pixel_values=patches, pixel_position_ids=places)
    flops += counted(embedder, inputs_embeds=torch.zeros(BATCH, rows * columns // 9, width))
    pooling = 2 * BATCH * rows * columns * (rows * columns // 9) * width
    assert our_flops(ours, *[(1, rows, columns)] * BATCH) == flops - pooling


def test_gemma4_whole() -> None:
    data = real("gemma-4-31b")
    ours = read(data).model
    config = transformers.Gemma4Config(**data)
    theirs = built(config, "Gemma4ForConditionalGeneration", "meta")
    assert ours.params().total + tower_params(ours.tower[0]) == stored(theirs)


# ---- sound


def test_voxtral() -> None:
    data = real("voxtral-mini-3b")
    ours, theirs = whole(data, "VoxtralForConditionalGeneration")
    heard = ours.tower[0].audio(Fraction(45))
    assert (heard.tiles, heard.positions, heard.tokens) == (2, 1500, 750)
    sound = torch.zeros(heard.tiles, 128, 3000, device="meta")
    assert tower_flops(ours.tower[0], heard.pass_()) == _flops_of(theirs.get_audio_features, input_features=sound)


def test_qwen2_audio() -> None:
    data = real("qwen2-audio-7b")
    ours, theirs = whole(data, "Qwen2AudioForConditionalGeneration")
    heard = ours.tower[0].audio(Fraction(12))
    assert (heard.tiles, heard.positions, heard.tokens) == (1, 1500, 300)
    sound = torch.zeros(1, 128, 3000, device="meta")
    encoder = theirs.audio_tower if hasattr(theirs, "audio_tower") else theirs.model.audio_tower
    encoded = counted(encoder, input_features=sound)
    assert without(ours.tower[0], heard.pass_(), "projector") == encoded


def test_whisper_large_v3() -> None:
    data = real("whisper-large-v3")
    ours = read(data).model
    theirs = built(transformers.WhisperConfig(**data), "WhisperForConditionalGeneration", "meta")
    assert ours.params().total == stored(theirs)
    sound = torch.zeros(BATCH, 128, 3000, device="meta")
    tokens = torch.zeros(BATCH, 5, dtype=torch.long, device="meta")
    flops = counted(theirs, input_features=sound, decoder_input_ids=tokens)
    assert ours.flops(Pass.prefill(5, BATCH, source=1500, causal=False)) == flops
