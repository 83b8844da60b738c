"""Models that read images or sound beside text: the language model that was read, with its towers.

A config.json does not say how images are resized; that stands in the preprocessor_config.json beside it. The numbers
here are those that the makers publish there.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from calc.attention.gqa import GQA
from calc.embedding import Embedding, NormSpec
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, activation
from calc.importers.huggingface.reader import Config
from calc.importers.huggingface.vision import (
    clip_vision,
    gemma4_vision,
    llama4_vision,
    pixtral_vision,
    qwen_vision,
    siglip_vision,
    tower_of,
)
from calc.masks import Full
from calc.modality.projector import Projector
from calc.modality.resize import AnyRes, AspectTiles, Budget, Canvas, Dynamic, Longest, PanAndScan, Resize
from calc.modality.tower import Sound, Tower
from calc.model import Layer, Model, Stack
from calc.records import replace

NORM_RMS: Final = NormSpec(kind="rms")

QWEN2: Final = Dynamic(
    markers=2,
    min_pixels=56 * 56,
    max_pixels=12_845_056,
    video_min_pixels=128 * 28 * 28,
    video_max_pixels=768 * 28 * 28,
)
"""preprocessor_config.json of Qwen/Qwen2.5-VL-7B-Instruct and Qwen/Qwen2-VL-7B-Instruct; for clips the defaults of
``Qwen2VLVideoProcessor`` of transformers."""
QWEN3: Final = Dynamic(
    markers=2,
    min_pixels=65_536,
    max_pixels=16_777_216,
    video_min_pixels=4_096,
    video_max_pixels=25_165_824,
    whole_clip=True,
)
"""preprocessor_config.json and video_preprocessor_config.json of Qwen/Qwen3-VL-8B-Instruct."""
LLAVA_NEXT: Final = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
"""``LlavaNextConfig`` of transformers."""


def gemma3(config: Config, model: Model) -> Model:
    """Read Gemma 3: SigLIP at 896 pixels, 4096 patches averaged to 256 tokens that see each other."""
    vision = _vision(config, "siglip_vision_model")
    side = vision.size("image_size") // vision.size("patch_size")
    tokens = config.size("mm_tokens_per_image")
    if side * side % tokens:
        config.note(f"mm_tokens_per_image = {tokens} does not divide {side * side} patches: no image can be read so")
        return model
    projector = Projector(
        n_merged=side * side // tokens, pooled=True, norm=NORM_RMS, norm_over="token", d_out=model.d_model
    )
    vision.data = {"vision_use_head": False, **vision.data}
    resize = PanAndScan(image_size=vision.size("image_size"), markers=2)
    return _with(model, tower_of(vision, resize, (projector,)), sees="media")


def paligemma(config: Config, model: Model) -> Model:
    """Read PaliGemma: SigLIP and one map; image and prompt see each other, and only the answer is causal."""
    vision = _vision(config, "siglip_vision_model")
    vision.data = {"vision_use_head": False, **vision.data}
    vision.ignore("projector_hidden_act", "num_positions", "projection_dim")
    projector = Projector(bias=True, d_out=model.d_model)
    return _with(model, tower_of(vision, None, (projector,)), sees="prompt")


def llava(config: Config, model: Model) -> Model:
    """Read LLaVA-1.5: CLIP without its class token, and two maps."""
    return _llava(config, model, newline=False)


def llava_next(config: Config, model: Model) -> Model:
    """Read LLaVA-NeXT: LLaVA with squares of the image, and a vector that ends each row."""
    return _llava(config, model, newline=True)


def _llava(config: Config, model: Model, *, newline: bool) -> Model:
    vision = _vision(config, "clip_vision_model")
    picked = config.data.get("vision_feature_layer", -2)
    if not isinstance(picked, int):
        raise config.error("vision_feature_layer: features of several layers are not supported")
    default = config.text("vision_feature_select_strategy") == "default"
    projector = Projector(
        n_prefix=1 if default and vision.model_type == "clip_vision_model" else None,
        d_ff=model.d_model,
        activation=activation(config, "projector_hidden_act"),
        bias=config.flag("multimodal_projector_bias"),
        d_out=model.d_model,
        newline=newline,
    )
    resize: Resize | None = None
    if newline:
        given = config.items("image_grid_pinpoints") or LLAVA_NEXT
        sides = tuple(
            (config.whole("image_grid_pinpoints", h), config.whole("image_grid_pinpoints", w)) for h, w in given
        )
        resize = AnyRes(image_size=vision.size("image_size"), resolutions=sides)
    tower = tower_of(vision, resize, (projector,))
    if tower and picked < -1:
        config.note(f"image features are those of layer {picked}: what later layers do is counted, and thrown away")
    return _with(model, tower)


def internvl(config: Config, model: Model) -> Model:
    """Read InternVL: squares of 448 pixels, four patches side by side, a norm and two maps."""
    vision = _vision(config, "internvl_vision")
    merged = round(1 / config.number("downsample_ratio") ** 2)
    projector = Projector(
        n_prefix=1,
        n_merged=merged,
        norm=LAYER_NORM,
        norm_over="token",
        d_ff=model.d_model,
        activation=activation(config, "projector_hidden_act"),
        bias=True,
        d_out=model.d_model,
    )
    size = vision.data.get("image_size", vision.defaults.get("image_size"))
    side = size[0] if isinstance(size, (list, tuple)) and size else size
    resize = AspectTiles(image_size=vision.whole("image_size", side), max_tiles=12, markers=2)
    return _with(model, tower_of(vision, resize, (projector,)))


def mistral3(config: Config, model: Model) -> Model:
    """Read Mistral Small 3.1's image side: Pixtral, four patches put together by a map before two others."""
    vision = _vision(config, "pixtral")
    if vision.model_type != "pixtral":
        return model
    if config.flag("multimodal_projector_bias", default=False) or config.data.get("vision_feature_layer", -1) != -1:
        raise config.error("multimodal_projector_bias = true, or features of other layers, are not supported")
    merge = config.size("spatial_merge_size")
    projector = Projector(
        n_merged=merge * merge,
        norm=NORM_RMS,
        d_ff=vision.size("hidden_size"),
        d_middle=model.d_model,
        linear_first=True,
        activation=activation(config, "projector_hidden_act"),
        d_out=model.d_model,
    )
    resize = Longest(longest_side=vision.size("image_size"), merge_side=merge)
    return _with(model, pixtral_vision(vision, resize, (projector,)))


def git(config: Config, model: Model) -> Model:
    """Read GIT's image side: CLIP with its last norm over all positions, one map and a norm behind it."""
    vision = _section(config, "vision_config", "clip_vision_model", fixed=True)
    vision.model_type = "git_vision_model"
    if config.optional_size("num_image_with_embedding"):
        raise config.error("num_image_with_embedding is not supported: its vectors for frames are not counted")
    projector = Projector(bias=True, norm=LAYER_NORM, norm_over="result", d_out=model.d_model)
    tower = clip_vision(vision, projector=(projector,), pooler=None, final_norm=LAYER_NORM)
    return _with(model, tower, sees="media")


def qwen2_vl(config: Config, model: Model) -> Model:
    """Read Qwen2-VL: images of any size."""
    return _qwen(config, model, "qwen2_vl_vision", "2", QWEN2)


def qwen2_5_vl(config: Config, model: Model) -> Model:
    """Read Qwen2.5-VL: images of any size, square windows."""
    return _qwen(config, model, "qwen2_5_vl_vision", "2.5", QWEN2)


def qwen3_vl(config: Config, model: Model) -> Model:
    """Read Qwen3-VL: images of any size, projectors after several layers."""
    return _qwen(config, model, "qwen3_vl_vision", "3", QWEN3)


def qwen3_5(config: Config, model: Model) -> Model:
    """Read Qwen3.5's image side: Qwen3-VL's without the further projectors."""
    return _qwen(config, model, "qwen3_5_vision", "3", QWEN3)


def _qwen(
    config: Config, model: Model, vision_type: str, generation: Literal["2", "2.5", "3"], resize: Dynamic
) -> Model:
    vision = _vision(config, vision_type, fixed=True)
    resize = replace(resize, merge_side=vision.size("spatial_merge_size"))
    return _with(model, qwen_vision(vision, generation, resize, model.d_model))


def llama4(config: Config, model: Model) -> Model:
    """Read Llama 4: squares of 336 pixels on the best canvas of at most 16."""
    vision = _vision(config, "llama4_vision_model")
    resize = Canvas(image_size=vision.size("image_size"), max_tiles=16, markers=3)
    return _with(model, llama4_vision(vision, resize, model.d_model))


def gemma4(config: Config, model: Model) -> Model:
    """Read Gemma 4's image side where its linear maps are plain ones; sound is not read."""
    vision = _vision(config, "gemma4_vision")
    if vision.flag("use_clipped_linears"):
        return model
    text = config.data.get("text_config") or {}
    resize = Budget(
        merge_side=vision.size("pooling_kernel_size"),
        max_tokens=config.size("vision_soft_tokens_per_image", default=280),
        video_tokens=vision.size("video_seq_length", default=70),
        markers=2,
    )
    both = text.get("use_bidirectional_attention") == "vision"
    return _with(model, gemma4_vision(vision, resize, model.d_model), sees="media_in_windows" if both else "causal")


def clip(config: Config, model: Model) -> Model:
    """Read CLIP: a text side and an image side, each with a map to a common space."""
    return _joint(config, model, "clip")


def siglip(config: Config, model: Model) -> Model:
    """Read SigLIP: a text side and an image side whose vectors have the same width."""
    return _joint(config, model, "siglip")


def _joint(config: Config, model: Model, kind: Literal["clip", "siglip"]) -> Model:
    from calc.embedding import Pooler
    from calc.importers.huggingface.vision import clip_pooler

    vision = _vision(config, f"{kind}_vision_model")
    if kind == "siglip":
        assert model.pooler is not None
        # a temperature and a bias
        return _with(replace(model, pooler=replace(model.pooler, n_scalars=2)), siglip_vision(vision))
    width = config.size("projection_dim")
    model = replace(model, pooler=Pooler(square=False, d_projection=width, n_scalars=1))
    return _with(model, clip_vision(vision, pooler=clip_pooler(vision, width)))


# ---- sound


def voxtral(config: Config, model: Model) -> Model:
    """Read Voxtral: Whisper's encoder, four positions side by side, two maps without bias."""
    audio = _section(config, "audio_config", "voxtral_encoder")
    d_model, joined = audio.size("hidden_size"), audio.size("intermediate_size")
    projector = Projector(
        n_merged=audio.divided(joined, "intermediate_size", d_model, "hidden_size"),
        d_ff=model.d_model,
        activation=activation(config, "projector_hidden_act"),
        d_out=model.d_model,
    )
    names = {"heads": "num_attention_heads", "layers": "num_hidden_layers", "network": "intermediate_size"}
    audio.ignore("vocab_size", "scale_embedding", "attention_bias", "head_dim", "num_key_value_heads")
    return _with(model, _whisper(audio, d_model, projector, padded=True, truncated=False, final=LAYER_NORM, **names))


def qwen2_audio(config: Config, model: Model) -> Model:
    """Read Qwen2-Audio: Whisper's encoder, the mean of two positions, its last norm, one map."""
    audio = _section(config, "audio_config", "qwen2_audio_encoder")
    # the last norm stands behind the mean
    projector = Projector(n_merged=2, pooled=True, norm=LAYER_NORM, norm_over="token", bias=True, d_out=model.d_model)
    names = {"heads": "encoder_attention_heads", "layers": "encoder_layers", "network": "encoder_ffn_dim"}
    audio.ignore("scale_embedding")
    d_model = audio.size("d_model")
    return _with(model, _whisper(audio, d_model, projector, padded=False, truncated=True, final=None, **names))


def _whisper(
    config: Config,
    d_model: int,
    projector: Projector,
    *,
    heads: str,
    layers: str,
    network: str,
    padded: bool,
    truncated: bool,
    final: NormSpec | None,
) -> Tower:
    """Return Whisper's encoder as a tower."""
    n_heads = config.size(heads)
    width = config.divided(d_model, "d_model", n_heads, heads)
    mixer = GQA(
        n_heads=n_heads, n_kv_heads=n_heads, head_dim=width, qkv_bias=True, k_bias=False, o_bias=True, mask=Full()
    )
    ffn = DenseFFN(d_ff=config.size(network), activation=activation(config, "activation_function"), bias=True)
    positions = config.size("max_source_positions")
    return Tower(
        modality="audio",
        d_model=d_model,
        embedding=Embedding(positions="sinusoidal", max_positions=positions, n_mels=config.size("num_mel_bins")),
        stack=(Stack(repeat=config.layers(layers), layer=(Layer(attention=mixer, ffn=ffn, norm=LAYER_NORM),)),),
        final_norm=final,
        projector=(projector,),
        # two frames of 10 ms to a position
        sound=Sound(chunk_seconds=positions // 50, padded=padded, truncated=truncated),
    )


# ---- parts


def _vision(config: Config, model_type: str, *, fixed: bool = False) -> Config:
    return _section(config, "vision_config", model_type, fixed=fixed)


def _section(config: Config, key: str, model_type: str, *, fixed: bool = False) -> Config:
    """Return the reader of an encoder's section, with its class's defaults; ``fixed``: whatever type it states."""
    section = config.section(key)
    stated = section.data.get("model_type")
    kind = stated if isinstance(stated, str) and not fixed else model_type
    reader = Config(section.data, model_type=kind, origin=config.origin, path=f"{key}.")
    reader.notes = config.notes
    config.sections[-1] = reader
    return reader


def _with(model: Model, tower: Tower | None, **changes: Any) -> Model:
    """Return the model with one more tower."""
    return model if tower is None else replace(model, tower=(*model.tower, tower), **changes)
