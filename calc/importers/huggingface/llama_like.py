"""Decoders with grouped-query attention and a gated feed-forward network, in Llama's key names."""

from __future__ import annotations

from calc.embedding import Embedding, Head, NormSpec
from calc.importers.huggingface.blocks import LAYER_NORM, tied
from calc.importers.huggingface.decoder import attention, decoder, depth, feed_forward, local_layers, masks, width
from calc.importers.huggingface.reader import Config
from calc.masks import Mask
from calc.model import Model, Placement
from calc.records import replace

BARE_LAYER_NORM = NormSpec(kind="layer", scale=False)
SCALED_LAYER_NORM = NormSpec(kind="layer")


def llama(config: Config) -> Model:
    """Read Llama, and what has its config class."""
    return decoder(config, attention(config), feed_forward(config))


def exaone(config: Config) -> Model:
    """Read EXAONE 3 and 3.5: Llama under the names of its first code."""
    config.rename(num_layers="num_hidden_layers", activation_function="hidden_act", layer_norm_epsilon="rms_norm_eps")
    return llama(config)


def internlm3(config: Config) -> Model:
    """Read InternLM 3, whose bias keys are ``qkv_bias`` (all of the attention) and ``bias`` (feed-forward)."""
    bias = config.flag("attention_bias", "qkv_bias", default=False)
    ffn = feed_forward(config, bias=config.flag("mlp_bias", "bias", default=False))
    return decoder(config, attention(config, qkv_bias=bias, o_bias=bias), ffn)


def mistral(config: Config) -> Model:
    """Read Mistral and Ministral: no biases; a window in every layer where ``sliding_window`` is a number."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"))
    mixer = attention(config, qkv_bias=False, o_bias=False)
    return decoder(config, mixer, feed_forward(config, bias=False), layer_masks=layers)


def phi3(config: Config) -> Model:
    """Read Phi-3: as Mistral, with a part of each head rotated."""
    return mistral(config)


def cwm(config: Config) -> Model:
    """Read CWM: every fourth layer full, the others with a window; no biases in the attention."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"), lambda index: index % 4 != 0)
    return decoder(config, attention(config, qkv_bias=False, o_bias=False), feed_forward(config), layer_masks=layers)


def _windows_above(config: Config) -> list[Mask]:
    """Return Qwen's masks: windows, where they are switched on, from ``max_window_layers`` up."""
    config.ignore("max_window_layers", "sliding_window")
    n_layers = depth(config)
    if not config.flag("use_sliding_window", default=False):
        return masks(config, n_layers, None)
    lowest = config.count("max_window_layers", default=n_layers)
    return masks(config, n_layers, config.optional_size("sliding_window"), lambda index: index >= lowest)


def qwen2(config: Config) -> Model:
    """Read Qwen 2 and 2.5: q, k and v have biases, whatever the config says."""
    mixer = attention(config, qkv_bias=True, o_bias=False)
    return decoder(config, mixer, feed_forward(config, bias=False), layer_masks=_windows_above(config))


def qwen3(config: Config) -> Model:
    """Read Qwen 3: queries and keys are normalised head by head."""
    mixer = attention(config, qk_norm="rms")
    return decoder(config, mixer, feed_forward(config, bias=False), layer_masks=_windows_above(config))


def smollm3(config: Config) -> Model:
    """Read SmolLM 3: every fourth layer is not rotated, and has a window if windows are switched on."""
    n_layers = depth(config)
    interval = config.size("no_rope_layer_interval")
    stated = config.items("no_rope_layers", length=n_layers)
    rotated = [bool(on) for on in stated] if stated else [(i + 1) % interval != 0 for i in range(n_layers)]
    config.ignore("sliding_window")
    window = config.optional_size("sliding_window") if config.flag("use_sliding_window", default=False) else None
    layers = masks(config, n_layers, window, lambda index: not rotated[index])
    return decoder(config, attention(config), feed_forward(config), layer_masks=layers, rotated=rotated)


def helium(config: Config) -> Model:
    """Read Helium: the output projection is square and never has a bias."""
    mixer = attention(config, o_bias=False)
    if mixer.n_heads * mixer.head_dim != width(config):
        raise config.error("num_attention_heads · head_dim is not hidden_size, which is not supported for helium")
    return decoder(config, mixer, feed_forward(config))


def glm(config: Config) -> Model:
    """Read GLM-4 (model type ``glm``): half of each head rotated, no bias in the output projection."""
    return decoder(config, attention(config, o_bias=False, rotary=0.5), feed_forward(config, bias=False))


def glm4(config: Config) -> Model:
    """Read GLM-4-0414: as ``glm``, with norms before and after each part."""
    mixer = attention(config, o_bias=False, rotary=0.5)
    return decoder(config, mixer, feed_forward(config, bias=False), placement="both")


def glm4v(config: Config) -> Model:
    """Read the text model of GLM-4.1V: as ``glm4``, q, k and v always with biases."""
    mixer = attention(config, qkv_bias=True, o_bias=False)
    return decoder(config, mixer, feed_forward(config, bias=False), placement="both")


def glm_ocr(config: Config) -> Model:
    """Read the text model of GLM-OCR: as ``glm4v``, without biases."""
    mixer = attention(config, qkv_bias=False, o_bias=False)
    return decoder(config, mixer, feed_forward(config, bias=False), placement="both")


def molmo2(config: Config) -> Model:
    """Read the text model of Molmo 2: Qwen3 with further rows for its image tokens in the embedding alone."""
    config.ignore("rope_scaling_layers")
    over = {"qwen3": "head", "olmo": "all_heads"}.get(config.text("qk_norm_type", default="qwen3"))
    if over is None:
        raise config.error(f"{config.path}qk_norm_type is neither qwen3 nor olmo")
    mixer = attention(config, o_bias=False, qk_norm="rms", qk_norm_over=over)
    return decoder(
        config,
        mixer,
        feed_forward(config, bias=False),
        placement="post" if config.flag("norm_after", default=False) else "pre",
        embedding=Embedding(n_rows=config.size("vocab_size") + config.count("additional_vocab_size", default=128)),
    )


def chameleon(config: Config) -> Model:
    """Read Chameleon: Llama with images as tokens; queries and keys normalised, each head with scale and bias."""
    config.note("the text model of chameleon alone: what makes tokens of images is not counted")
    config.ignore("vq_config", "vocabulary_map", "model_parallel_size", "vq_model_type")
    mixer = attention(config, qk_norm="layer", qk_norm_over="each_head", qk_norm_bias=True)
    placement: Placement = "post" if config.flag("swin_norm", default=False) else "pre"
    return decoder(config, mixer, feed_forward(config), placement=placement)


def seed_oss(config: Config) -> Model:
    """Read Seed-OSS: the output projection's bias has a key of its own."""
    mixer = attention(config, o_bias=config.flag("attention_out_bias", default=False))
    return decoder(config, mixer, feed_forward(config))


def ernie(config: Config) -> Model:
    """Read ERNIE 4.5: one key for all biases."""
    bias = config.flag("use_bias", default=False)
    return decoder(config, attention(config, qkv_bias=bias, o_bias=bias), feed_forward(config, bias=bias))


def hunyuan(config: Config) -> Model:
    """Read Hunyuan dense: queries and keys normalised after their rotation."""
    config.refuse("use_cla")
    return decoder(config, attention(config, qk_norm="rms"), feed_forward(config, bias=False))


def granite(config: Config) -> Model:
    """Read Granite: Llama with constants on embedding, scores, residuals and logits."""
    return decoder(
        config,
        attention(config),
        feed_forward(config),
        residual_scaled=_differs(config, "residual_multiplier"),
        embedding=Embedding(scaled=_differs(config, "embedding_multiplier")),
        head=Head(tied=tied(config), scaled=_differs(config, "logits_scaling")),
    )


def granite_swa(config: Config) -> Model:
    """Read Granite with windows: sinks in every layer, every fourth layer full."""
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: index % 4 != 0)
    return decoder(
        config,
        attention(config, sinks=True),
        feed_forward(config),
        layer_masks=layers,
        residual_scaled=_differs(config, "residual_multiplier"),
        embedding=Embedding(scaled=_differs(config, "embedding_multiplier")),
        head=Head(tied=tied(config), scaled=_differs(config, "logits_scaling")),
    )


def hyperclovax(config: Config) -> Model:
    """Read HyperCLOVA X: Granite's constants, and norms after each part as well if ``use_post_norm``."""
    return decoder(
        config,
        attention(config),
        feed_forward(config),
        placement="both" if config.flag("use_post_norm", default=False) else "pre",
        residual_scaled=_differs(config, "residual_multiplier"),
        embedding=Embedding(scaled=_differs(config, "embedding_multiplier")),
        head=Head(tied=tied(config), scaled=_differs(config, "logits_scaling")),
    )


def _differs(config: Config, key: str) -> bool:
    """Tell whether a constant changes anything."""
    return config.number(key, default=1.0) != 1.0


def olmo(config: Config) -> Model:
    """Read OLMo: layer norms without parameters."""
    return decoder(config, attention(config), feed_forward(config, bias=False), norm=BARE_LAYER_NORM)


def olmo2(config: Config) -> Model:
    """Read OLMo 2: norms after each part, queries and keys normalised over all heads."""
    mixer = attention(config, qk_norm="rms", qk_norm_over="all_heads")
    return decoder(config, mixer, feed_forward(config, bias=False), placement="post")


def olmo3(config: Config) -> Model:
    """Read OLMo 3: OLMo 2 with a window in three of four layers."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"), lambda index: (index + 1) % 4 != 0)
    mixer = attention(config, qk_norm="rms", qk_norm_over="all_heads")
    return decoder(config, mixer, feed_forward(config, bias=False), placement="post", layer_masks=layers)


def exaone4(config: Config) -> Model:
    """Read EXAONE 4: norms after each part, queries and keys by head; full layers among windows are not rotated."""
    window = config.optional_size("sliding_window")
    layers = masks(config, depth(config), window, local_layers(config, bool(window)))
    return decoder(
        config,
        attention(config, qkv_bias=False, o_bias=False, qk_norm="rms"),
        feed_forward(config, bias=False),
        placement="post",
        layer_masks=layers,
        rotated=[window is None or mask.kind == "window" for mask in layers],
    )


def stablelm(config: Config) -> Model:
    """Read StableLM: layer norms with biases, one for both parts where they are parallel."""
    mixer = attention(
        config,
        qkv_bias=config.flag("use_qkv_bias", default=False),
        o_bias=False,
        rotary=0.25,
        qk_norm="layer" if config.flag("qk_layernorm", default=False) else None,
        qk_norm_over="each_head",
    )
    parallel = config.flag("use_parallel_residual", default=False)
    return decoder(
        config,
        mixer,
        feed_forward(config, bias=False),
        norm=LAYER_NORM,
        parallel="one_norm" if parallel else None,
    )


def cohere(config: Config) -> Model:
    """Read Command R: attention and feed-forward side by side under one norm."""
    return _cohere(config, masks(config, depth(config), None))


def cohere2(config: Config) -> Model:
    """Read Command R7B and A: windows in three of four layers; the full ones are not rotated."""
    every = config.size("sliding_window_pattern", default=4)
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % every != 0)
    return _cohere(config, layers, rotated=[mask.kind == "window" for mask in layers])


def cohere_compass(config: Config) -> Model:
    """Read Cohere Compass: full layers, unless ``layer_types`` names windows."""
    layers = masks(config, depth(config), config.optional_size("sliding_window"), lambda _: False)
    return _cohere(config, layers, rotated=[mask.kind == "window" for mask in layers])


def _cohere(config: Config, layers: list[Mask], rotated: list[bool] | None = None) -> Model:
    # files of Command R7B and A say in words what their class does anyway
    config.ignore("order_of_interleaved_layers", "position_embedding_type", "rotary_pct", "use_embedding_sharing")
    config.ignore("use_gated_activation", "use_parallel_block")
    # the norm over queries and keys is one over each head with scales of its own
    mixer = attention(
        config,
        qk_norm="layer" if config.flag("use_qk_norm", default=False) else None,
        qk_norm_over="each_head",
    )
    model = decoder(
        config,
        mixer,
        feed_forward(config, bias=False),
        norm=SCALED_LAYER_NORM,
        parallel="one_norm",
        layer_masks=layers,
        rotated=rotated,
        head=Head(tied=tied(config), scaled=_differs(config, "logit_scale")),
    )
    stated = config.optional_size("model_max_length")  # Command R: its max_position_embeddings is no limit
    return replace(model, max_context=stated) if stated else model
