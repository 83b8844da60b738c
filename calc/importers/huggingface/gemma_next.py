"""Gemma 3n and 4: layers with vectors of their own for each token, shared keys and values, several streams."""

from __future__ import annotations

from calc.activations import Activation
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head
from calc.extras import AltUp, AltUpIn, AltUpOut, Extra, Laurel, LayerScale, PerLayerInput, PerLayerTable
from calc.ffn import FeedForward
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold, tied
from calc.importers.huggingface.decoder import attention, depth, masks, width
from calc.importers.huggingface.experts import one_size
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Mask
from calc.model import Layer, Model
from calc.records import replace


def _head(config: Config) -> Head:
    stated = config.data.get("final_logit_softcapping", config.defaults.get("final_logit_softcapping"))
    config.ignore("final_logit_softcapping")
    return Head(tied=tied(config), softcap=stated is not None)


def _reused(config: Config, n_layers: int) -> list[bool]:
    """Return which layers use the keys and values of an earlier one: the last few."""
    last = config.count("num_kv_shared_layers", default=0)
    if last >= n_layers:
        raise config.error(f"{config.path}num_kv_shared_layers = {last} leaves no layer of {n_layers} with its own")
    return [index >= n_layers - last for index in range(n_layers)]


def _fed(config: Config, n_layers: int) -> tuple[list[Extra], list[Extra]]:
    """Return what per-layer vectors add to the model, and to each layer."""
    d_per_layer = config.count("hidden_size_per_layer_input", default=0)
    if not d_per_layer:
        config.ignore("vocab_size_per_layer_input")
        return [], []
    rows = config.size("vocab_size_per_layer_input")
    act = activation(config, "hidden_activation")
    table = PerLayerTable(d_per_layer=d_per_layer, n_fed_layers=n_layers, per_layer_vocab=rows)
    return [table], [PerLayerInput(d_per_layer=d_per_layer, activation=act)]


def gemma3n(config: Config) -> Model:
    """Read Gemma 3n: AltUp's streams, learned augmented residuals, per-layer vectors, shared keys and values."""
    n_layers = depth(config)
    config.ignore("activation_sparsity_pattern", "altup_active_idx", "altup_coef_clip", "altup_correct_scale")
    layers = masks(config, n_layers, config.size("sliding_window"), lambda index: (index + 1) % 5 != 0)
    stated = config.data.get("intermediate_size")
    widths = (
        [config.whole("intermediate_size", one) for one in config.items("intermediate_size", length=n_layers) or []]
        if isinstance(stated, list)
        else [config.size("intermediate_size", default=16384)] * n_layers
    )
    streams = config.size("altup_num_inputs")
    outside, inside = _fed(config, n_layers)
    per_layer = (AltUp(n_streams=streams), Laurel(laurel_rank=config.size("laurel_rank")), *inside)
    act = activation(config, "hidden_activation")
    mixer = attention(config, qk_norm="rms", v_norm=True, scaled=False)

    def layer(kind: tuple[Mask, bool, int]) -> Layer:
        mask, reused, d_ff = kind
        ffn = DenseFFN(d_ff=d_ff, activation=act, gated=True)
        own = replace(mixer, mask=mask, shared_kv=reused)
        return Layer(attention=own, ffn=ffn, norm=RMS, placement="both", extra=per_layer)

    stack = fold(list(zip(layers, _reused(config, n_layers), widths, strict=True)), layer)
    model = assemble(
        config,
        d_model=width(config),
        stack=stack,
        embedding=Embedding(scaled=True),
        final_norm=RMS,
        head=_head(config),
    )
    return replace(model, extra=(*outside, AltUpIn(n_streams=streams), AltUpOut(n_streams=streams)))


def gemma4(config: Config) -> Model:
    """Read Gemma 4: wider heads in the full layers, where keys may make the values; experts beside the network."""
    n_layers = depth(config)
    if config.data.get("use_bidirectional_attention") == "all":
        raise config.error("use_bidirectional_attention = 'all' is not supported for gemma4")
    config.ignore("use_bidirectional_attention")
    last = n_layers - 1
    layers = masks(config, n_layers, config.size("sliding_window"), lambda index: index < last and (index + 1) % 6 != 0)
    if layers[-1].kind != "causal":
        layers[-1] = Causal()  # whatever the file says
    local = attention(config, qk_norm="rms", v_norm=True, scaled=False)
    full = _global(config, local)
    reused = _reused(config, n_layers)
    wide = config.flag("use_double_wide_mlp", default=False)
    outside, inside = _fed(config, n_layers)
    act = activation(config, "hidden_activation")
    d_ff = config.size("intermediate_size")
    per_layer = (*inside, LayerScale())

    def layer(kind: tuple[Mask, bool]) -> Layer:
        mask, again = kind
        mixer = replace(full if mask.kind == "causal" else local, mask=mask, shared_kv=again)
        if again:
            mixer = replace(mixer, v_from_k=False)
        ffn = _network(config, 2 * d_ff if wide and again else d_ff, act)
        return Layer(attention=mixer, ffn=ffn, norm=RMS, placement="both", extra=per_layer)

    model = assemble(
        config,
        d_model=width(config),
        stack=fold(list(zip(layers, reused, strict=True)), layer),
        embedding=Embedding(scaled=True),
        final_norm=RMS,
        head=_head(config),
    )
    return replace(model, extra=tuple(outside))


def _global(config: Config, local: GQA) -> GQA:
    """Return the attention of the full layers, by keys of its own or by what the library writes for each layer."""
    keys_make_values = config.flag("attention_k_eq_v", default=config.model_type == "gemma4_unified_text")
    head_dim, heads = config.size("global_head_dim", default=512), local.n_kv_heads
    if keys_make_values:
        heads = config.size("num_global_key_value_heads", default=heads)
    config.ignore("num_global_key_value_heads")
    per_layer = config.data.get("per_layer_config")
    config.ignore("per_layer_config")
    if isinstance(per_layer, dict) and per_layer:
        changes = {repr(change) for change in per_layer.values()}
        change = next(iter(per_layer.values()))
        if len(changes) != 1 or not isinstance(change, dict) or not set(change) <= {"head_dim", "num_key_value_heads"}:
            raise config.error(f"{config.path}per_layer_config changes more than the full layers' heads")
        head_dim = config.whole("head_dim", change.get("head_dim", head_dim))
        heads = config.whole("num_key_value_heads", change.get("num_key_value_heads", heads))
    rotary = None if local.rotary_dim is None else head_dim // 4  # a quarter of a wide head is turned
    return replace(local, head_dim=head_dim, n_kv_heads=heads, v_from_k=keys_make_values, rotary_dim=rotary)


def _network(config: Config, d_ff: int, act: Activation) -> FeedForward:
    if not config.flag("enable_moe_block", default=False):
        config.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
        return DenseFFN(d_ff=d_ff, activation=act, gated=True)
    return MoE(
        n_experts=one_size(config, "num_experts"),
        n_active_experts=one_size(config, "top_k_experts"),
        d_expert=config.size("moe_intermediate_size"),
        activation=act,
        d_shared=d_ff,
        normalised=True,
        router_norm=True,
        expert_scale=True,
        branch_norms=True,
    )
