"""Encoders of images: vision transformers alone, and the towers that other models have of them."""

from __future__ import annotations

from typing import Any, Final, Literal

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec, Pooler
from calc.ffn.dense import DenseFFN
from calc.grid_masks import Windows
from calc.importers.huggingface.blocks import LAYER_NORM, RMS, activation, fold, has_head, tied
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask
from calc.modality.attention_pool import AttentionPool
from calc.modality.patches import Patches
from calc.modality.projector import Projector
from calc.modality.resize import Fixed, Resize
from calc.modality.tower import Tower
from calc.model import Layer, Model, Stack
from calc.records import replace

UNREAD: Final = (
    "projection_dim", "num_image_tokens", "encoder_stride", "qkv_bias", "vocab_size", "vision_feature_layer",
    "vision_feature_select_strategy", "num_channels", "in_chans", "in_channels", "spatial_patch_size",
    "tokens_per_second", "num_labels", "pooler_act", "pooler_output_size",
)  # fmt: skip
"""Keys of image encoders that are read elsewhere, or that say nothing beside the others."""


# ---- models of images alone


def vit(config: Config) -> Model:
    """Read a vision transformer: a class token, learned positions; a classifier, a pooler or neither."""
    names = config.items("architectures") or [""]
    name = names[0] if isinstance(names[0], str) else ""
    if name.endswith("MaskedImageModeling"):
        raise config.error(f"{name} is not supported: its decoder of pixels is not counted")
    bias = config.flag("qkv_bias", default=True)
    tower = _square(config, qkv_bias=bias, conv_bias=True, n_prefix=1, resize=_fixed(config))
    if name.endswith("Classification"):
        pooler = Pooler(square=False, n_labels=_labels(config))
    else:
        width, wanted = tower.d_model, config.size("pooler_output_size", default=tower.d_model)
        act = config.text("pooler_act", default="tanh")
        if (wanted, act) != (width, "tanh"):
            raise config.error(f"a pooler of width {wanted} with {act[:20]} is not supported")
        pooler = Pooler()
    return _alone(config, tower, pooler=pooler)


def clip_vision_model(config: Config) -> Model:
    """Read CLIP's image side alone."""
    return _alone(config, clip_vision(config), pooler=clip_pooler(config, _projected(config)))


def siglip_vision_model(config: Config) -> Model:
    """Read SigLIP's image side alone."""
    return _alone(config, siglip_vision(config))


def _alone(config: Config, tower: Tower, **outlets: Any) -> Model:
    """Return a model that reads images and nothing else."""
    assert tower.patches is not None
    config.ignore(*UNREAD)
    side = (config.size("image_size") // tower.patches.patch_size) ** 2
    return Model(
        **{
            "name": config.model_type,
            "d_model": tower.d_model,
            "vocab_size": 0,
            "max_context": side + (tower.patches.n_prefix or 0),
            "patches": tower.patches,
            "stack": tower.stack,
            "final_norm": tower.final_norm,
            "head": None,
            "pooler": tower.pooler,
            "attention_pool": tower.attention_pool,
            **outlets,
        }
    )


def _labels(config: Config) -> int:
    """Return the classes of a classifier: as many as have names, else ``num_labels``."""
    names = config.data.get("id2label")
    if isinstance(names, dict) and names:
        return len(names)
    return config.size("num_labels", default=2)


def _projected(config: Config) -> int | None:
    names = config.items("architectures") or [""]
    return config.size("projection_dim") if names[0] == "CLIPVisionModelWithProjection" else None


# ---- texts beside images


def clip_text_model(config: Config) -> Model:
    """Read CLIP's text side: a causal encoder with learned positions, no head."""
    return _text(config, Causal())


def siglip_text_model(config: Config) -> Model:
    """Read SigLIP's text side: it sees both ways, and a map follows its last token."""
    model = _text(config, Full())
    width = config.size("projection_size", default=model.d_model)
    pooler = Pooler(square=False, d_projection=width, projection_bias=True)
    return Model(**{**vars(model), "pooler": pooler})


def git(config: Config) -> Model:
    """Read GIT's text side: BERT's layers, causal, without token types; a head with a bias."""
    d_model, positions = config.size("hidden_size"), config.size("max_position_embeddings")
    config.ignore("vision_config", "num_image_with_embedding")
    layer = replace(_layer(config, mask=Causal()), placement="post")
    return Model(
        name=config.model_type,
        d_model=d_model,
        vocab_size=config.size("vocab_size"),
        max_context=positions,
        embedding=Embedding(positions="learned", max_positions=positions, norm=LAYER_NORM),
        stack=(Stack(repeat=config.layers("num_hidden_layers"), layer=(layer,)),),
        head=Head(tied=tied(config), bias=True) if has_head(config) else None,
    )


def _text(config: Config, mask: Mask) -> Model:
    d_model, positions = config.size("hidden_size"), config.size("max_position_embeddings")
    config.ignore("projection_dim", "projection_size")
    return Model(
        name=config.model_type,
        d_model=d_model,
        vocab_size=config.size("vocab_size"),
        max_context=positions,
        embedding=Embedding(positions="learned", max_positions=positions),
        stack=(Stack(repeat=config.layers("num_hidden_layers"), layer=(_layer(config, mask=mask),)),),
        final_norm=LAYER_NORM,
        head=None,
    )


# ---- towers


def tower_of(
    config: Config, resize: Resize | None = None, projector: tuple[Projector, ...] = (), **changes: Any
) -> Tower | None:
    """Return the tower of images that a ``vision_config`` describes; None where its type is not known.

    The type is the section's, as the wrapper's class has it where the file does not say.
    """
    known = {"clip_vision_model": clip_vision, "siglip_vision_model": siglip_vision, "internvl_vision": internvl_vision}
    if config.model_type not in known:
        return None
    return known[config.model_type](config, resize=resize, projector=projector, **changes)


def clip_vision(
    config: Config, *, resize: Resize | None = None, projector: tuple[Projector, ...] = (), **changes: Any
) -> Tower:
    """Read CLIP's image side: a class token, a norm before the layers, none after them but on the class token."""
    changes = {"pooler": clip_pooler(config, None), "norm": LAYER_NORM, "final_norm": None, **changes}
    return _square(config, n_prefix=1, conv_bias=False, resize=resize, projector=projector, **changes)


def clip_pooler(config: Config, d_projection: int | None) -> Pooler:
    """Return what CLIP makes of the class token."""
    config.ignore("projection_dim")
    return Pooler(norm=LAYER_NORM, square=False, d_projection=d_projection)


def siglip_vision(
    config: Config, *, resize: Resize | None = None, projector: tuple[Projector, ...] = (), **changes: Any
) -> Tower:
    """Read SigLIP's image side: no class token; a query pools all positions, unless ``vision_use_head`` is false."""
    pool = None
    if config.flag("vision_use_head", default=True):
        mixer = _attention(config)
        pool = AttentionPool(
            n_heads=mixer.n_heads,
            head_dim=mixer.head_dim,
            d_ff=config.size("intermediate_size"),
            activation=activation(config, "hidden_act"),
            norm=LAYER_NORM,
        )
    return _square(config, conv_bias=True, attention_pool=pool, resize=resize, projector=projector, **changes)


def internvl_vision(
    config: Config, *, resize: Resize | None = None, projector: tuple[Projector, ...] = (), **changes: Any
) -> Tower:
    """Read InternVL's image side: a class token, a learned factor for each channel at every residual connection."""
    for key, value in (("use_mask_token", False), ("use_absolute_position_embeddings", True)):
        if config.flag(key, default=value) != value:
            raise config.error(f"{config.path}{key} = {str(not value).lower()} is not supported")
    kind = config.text("norm_type", default="layer_norm")
    if kind not in ("layer_norm", "rms_norm"):
        raise config.error(f"{config.path}norm_type = {kind[:20]!r} is neither layer_norm nor rms_norm")
    norm = LAYER_NORM if kind == "layer_norm" else RMS
    config.ignore("layer_scale_init_value", "projection_dropout")
    bias = config.flag("attention_bias", default=False)
    normed: Literal["rms"] | None = "rms" if config.flag("use_qk_norm", default=False) else None
    layer = _layer(config, norm=norm, gate="channel", qkv_bias=bias, qk_norm=normed, qk_norm_over="all_heads")
    means = config.flag("use_mean_pooling", default=True)
    changes = {"final_norm": None if means else LAYER_NORM, **changes}
    return _square(config, n_prefix=1, conv_bias=True, layer=layer, resize=resize, projector=projector, **changes)


def _square(
    config: Config,
    *,
    conv_bias: bool,
    n_prefix: int | None = None,
    qkv_bias: bool = True,
    norm: NormSpec | None = None,
    layer: Layer | None = None,
    resize: Resize | None = None,
    **rest: Any,
) -> Tower:
    """Return an encoder of square images with learned positions, in the key names of ViT's config."""
    size, patch = one_side(config, "image_size"), one_side(config, "patch_size")
    config.ignore(*UNREAD)
    layer = layer or _layer(config, qkv_bias=qkv_bias)
    return Tower(
        **{
            "modality": "image",
            "d_model": config.size("hidden_size"),
            "patches": Patches(
                patch_size=patch,
                n_channels=config.size("num_channels", default=3),
                bias=conv_bias,
                n_prefix=n_prefix,
                positions="learned",
                max_positions=(size // patch) ** 2 + (n_prefix or 0),
                norm=norm,
            ),
            "stack": (Stack(repeat=config.layers("num_hidden_layers"), layer=(layer,)),),
            "final_norm": LAYER_NORM,
            "resize": resize or Fixed(image_size=size),
            **rest,
        }
    )


def one_side(config: Config, key: str) -> int:
    """Return a size in pixels: a number, or a list of two equal ones.

    Raises:
        ConfigError: two that differ.
    """
    stated = config.data.get(key, config.defaults.get(key))
    if isinstance(stated, (list, tuple)) and len(stated) == 2 and stated[0] == stated[1]:
        config.used.add(key)
        return config.whole(key, stated[0])
    return config.size(key)


def _fixed(config: Config) -> Fixed:
    return Fixed(image_size=one_side(config, "image_size"))


def _attention(config: Config, *, mask: Mask | None = None, heads: str = "num_attention_heads", **options: Any) -> GQA:
    n_heads = config.size(heads)
    width = config.divided(config.size("hidden_size"), "hidden_size", n_heads, heads)
    structure = {"qkv_bias": True, "o_bias": True, **options}
    return GQA(n_heads=n_heads, n_kv_heads=n_heads, head_dim=width, mask=mask or Full(), **structure)


def _layer(
    config: Config,
    *,
    norm: NormSpec = LAYER_NORM,
    gate: Literal["channel"] | None = None,
    mask: Mask | None = None,
    **options: Any,
) -> Layer:
    ffn = DenseFFN(d_ff=config.size("intermediate_size"), activation=activation(config, "hidden_act"), bias=True)
    return Layer(attention=_attention(config, mask=mask, **options), ffn=ffn, norm=norm, gate=gate)


# ---- images of any size


def qwen_vision(config: Config, generation: Literal["2", "2.5", "3"], resize: Resize, d_text: int) -> Tower:
    """Read Qwen's image side: clips of two frames, rotary positions over both sides, four patches to a token.

    Qwen2.5: square windows in most layers, gated networks; Qwen3: interpolated positions, further projectors whose
    tokens are added to the language model's first layers.
    """
    d_model = config.size("embed_dim") if generation == "2" else config.size("hidden_size")
    n_heads, merge = config.size("num_heads"), config.size("spatial_merge_size")
    patch, n_layers = one_side(config, "patch_size"), config.layers("depth")
    head_dim = config.divided(d_model, "hidden_size", n_heads, "num_heads")
    d_out = config.size("hidden_size") if generation == "2" else config.size("out_hidden_size", default=d_text)
    if d_out != d_text:
        raise config.error(f"{config.path} hands on {d_out} numbers for a token, the text model takes {d_text}")
    config.ignore(*UNREAD)
    norm = RMS if generation == "2.5" else LAYER_NORM
    positions = config.size("num_position_embeddings") if generation == "3" else None

    def layer(mask: Mask) -> Layer:
        heads = {"n_heads": n_heads, "n_kv_heads": n_heads, "head_dim": head_dim, "rotary_dim": head_dim}
        mixer = GQA(**heads, qkv_bias=True, o_bias=True, mask=mask)  # type: ignore[arg-type]
        return Layer(attention=mixer, ffn=_qwen_network(config, generation, d_model), norm=norm)

    sides = {"n_merged": merge * merge, "d_ff": merge * merge * d_model, "d_out": d_out, "bias": True}
    projectors = [Projector(**sides, norm=norm)]  # type: ignore[arg-type]
    further = len(config.items("deepstack_visual_indexes") or []) if generation == "3" else 0
    if further:
        projectors.append(Projector(**sides, norm=norm, norm_over="token", copies=further))  # type: ignore[arg-type]
    return Tower(
        modality="image",
        d_model=d_model,
        patches=Patches(
            patch_size=patch,
            n_channels=config.size("in_channels", "in_chans", default=3),
            frames_per_patch=config.size("temporal_patch_size"),
            bias=generation == "3",
            positions="interpolated" if positions else "none",
            max_positions=positions,
        ),
        stack=fold(_qwen_masks(config, generation, n_layers, patch, merge), layer),
        projector=tuple(projectors),
        resize=resize,
    )


def _qwen_network(config: Config, generation: str, d_model: int) -> DenseFFN:
    act = activation(config, "hidden_act")
    if generation == "2":
        return DenseFFN(d_ff=int(d_model * config.number("mlp_ratio")), activation=act, bias=True)
    return DenseFFN(d_ff=config.size("intermediate_size"), activation=act, gated=generation == "2.5", bias=True)


def _qwen_masks(config: Config, generation: str, n_layers: int, patch: int, merge: int) -> list[Mask]:
    """Return every layer's mask: Qwen2.5 names the layers that see the whole image."""
    if generation != "2.5":
        return [Full()] * n_layers
    whole = config.positions("fullatt_block_indexes")
    side = config.size("window_size") // merge // patch * merge
    return [Full() if index in whole else Windows(window_side=side) for index in range(n_layers)]


def llama4_vision(config: Config, resize: Resize, d_text: int) -> Tower:
    """Read Llama 4's image side: a class token after the patches, rotary positions beside learned ones, an adapter."""
    size, patch, d_model = config.size("image_size"), config.size("patch_size"), config.size("hidden_size")
    merged = round(1 / config.number("pixel_shuffle_ratio") ** 2)
    mixer = _attention(config)
    mixer = GQA(**{**vars(mixer), "rotary_dim": mixer.head_dim})
    d_ff = config.size("intermediate_size")
    if d_ff != merged * d_model:
        raise config.error(
            f"{config.path}intermediate_size = {d_ff} is not {merged} × {d_model}, which the adapter needs"
        )
    middle = config.size("projector_output_dim")
    if config.size("vision_output_dim") != middle:
        raise config.error(f"{config.path}vision_output_dim differs from projector_output_dim = {middle}")
    config.ignore(*UNREAD, "hidden_act", "multi_modal_projector_bias", "rope_parameters")
    return Tower(
        modality="image",
        d_model=d_model,
        patches=Patches(
            patch_size=patch,
            n_channels=config.size("num_channels", default=3),
            n_prefix=1,
            positions="learned",
            max_positions=(size // patch) ** 2 + 1,
            norm=LAYER_NORM,
        ),
        stack=(
            Stack(
                repeat=config.layers("num_hidden_layers"),
                layer=(Layer(attention=mixer, ffn=DenseFFN(d_ff=d_ff, bias=True), norm=LAYER_NORM),),
            ),
        ),
        final_norm=LAYER_NORM,
        projector=(
            Projector(
                n_prefix=1, n_merged=merged, d_ff=config.size("projector_input_dim"), d_middle=middle, d_out=d_text
            ),
        ),
        resize=resize,
    )


def gemma4_vision(config: Config, resize: Resize, d_text: int) -> Tower:
    """Read Gemma 4's image side: tables for rows and columns, normed queries, keys and values, the mean of 3 × 3.

    Raises:
        ConfigError: linear maps whose inputs and outputs are clipped to stored bounds.
    """
    if config.flag("use_clipped_linears"):
        raise config.error(f"{config.path}use_clipped_linears = true is not supported")
    n_heads, head_dim = config.size("num_attention_heads"), config.size("head_dim")
    mixer = GQA(
        n_heads=n_heads,
        n_kv_heads=config.size("num_key_value_heads"),
        head_dim=head_dim,
        qk_norm="rms",
        v_norm=True,
        scaled=False,
        rotary_dim=head_dim,
        mask=Full(),
    )
    ffn = DenseFFN(
        d_ff=config.size("intermediate_size"), activation=activation(config, "hidden_activation"), gated=True
    )
    layer = Layer(attention=mixer, ffn=ffn, norm=RMS, placement="both")
    config.ignore("default_output_length", "global_head_dim", "image_seq_length", "video_seq_length", "attention_bias")
    config.ignore("max_position_embeddings", "rope_parameters", *UNREAD)
    return Tower(
        modality="image",
        d_model=config.size("hidden_size"),
        patches=Patches(
            patch_size=config.size("patch_size"), positions="axes", max_positions=config.size("position_embedding_size")
        ),
        stack=(Stack(repeat=config.layers("num_hidden_layers"), layer=(layer,)),),
        projector=(
            Projector(
                n_merged=config.size("pooling_kernel_size") ** 2,
                pooled=True,
                standardised=config.flag("standardize"),
                norm=NormSpec(kind="rms", scale=False),
                norm_over="token",
                d_out=d_text,
            ),
        ),
        resize=resize,
    )


def pixtral_vision(config: Config, resize: Resize, projector: tuple[Projector, ...]) -> Tower:
    """Read Pixtral's image side: rotary positions over both sides, gated networks, nothing with a bias."""
    mixer = _attention(config, qkv_bias=False, o_bias=False)
    head_dim = config.optional_size("head_dim") or mixer.head_dim
    mixer = GQA(**{**vars(mixer), "head_dim": head_dim, "rotary_dim": head_dim})
    ffn = DenseFFN(d_ff=config.size("intermediate_size"), activation=activation(config, "hidden_act"), gated=True)
    config.ignore(*UNREAD, "rope_parameters")
    return Tower(
        modality="image",
        d_model=config.size("hidden_size"),
        patches=Patches(
            patch_size=one_side(config, "patch_size"), n_channels=config.size("num_channels", default=3), norm=RMS
        ),
        stack=(Stack(repeat=config.layers("num_hidden_layers"), layer=(Layer(attention=mixer, ffn=ffn, norm=RMS),)),),
        projector=projector,
        resize=resize,
    )
