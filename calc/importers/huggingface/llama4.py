"""Llama 4: chunked attention, experts that each token meets one of."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.importers.huggingface.decoder import attention, depth, masks
from calc.importers.huggingface.experts import experts, network, sparse_decoder, sparse_layers
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Chunk, Mask
from calc.model import Model
from calc.records import replace


def llama4(config: Config) -> Model:
    """Read Llama 4: chunked attention where rotated, full where not; one shared expert beside the routed ones."""
    n_layers = depth(config)
    interval = config.size("no_rope_layer_interval", default=4)
    # an empty list in old files means the default
    stated = config.items("no_rope_layers") or [int((index + 1) % interval != 0) for index in range(n_layers)]
    if len(stated) != n_layers:
        raise config.error(f"{config.path}no_rope_layers has {len(stated)} entries for {n_layers} layers")
    rotated = [bool(one) for one in stated]
    step = config.size("interleave_moe_layer_step", default=1)
    named = config.items("moe_layers")
    with_experts = set(named) if named is not None else set(range(step - 1, n_layers, step))
    chunk = config.optional_size("attention_chunk_size")
    layers = _chunked(config, rotated, chunk)
    inner = config.size("intermediate_size")
    moe = experts(config, d_expert=inner, shared=inner, scoring="sigmoid", scores_of="chosen", weighted="input")
    normed = config.flag("use_qk_norm", default=True)
    # true or false, or 4 in the first files
    tuned = config.data.get("attn_temperature_tuning", True) not in (False, 0)
    config.ignore("attn_temperature_tuning")
    config.ignore("floor_scale", "attn_scale", "for_llm_compressor")

    def change(mixer: GQA, mask: Mask) -> GQA:
        if mixer.rotary_dim is None:
            return replace(mixer, q_scaled=tuned)
        return replace(mixer, qk_norm="rms", qk_norm_scale=False) if normed else mixer

    return sparse_decoder(
        config,
        attention(config),
        moe,
        dense=lambda: network(config, "intermediate_size_mlp"),
        sparse=sparse_layers(config, lambda index: index in with_experts),
        layer_masks=layers,
        rotated=rotated,
        change=change,
    )


def _chunked(config: Config, rotated: list[bool], chunk: int | None) -> list[Mask]:
    """Return Llama 4's masks: chunks where there is rotation, unless the file names the layers' types."""
    if config.states("layer_types"):
        return masks(config, len(rotated), None)
    return [Chunk(window=chunk) if one and chunk else Causal() for one in rotated]
