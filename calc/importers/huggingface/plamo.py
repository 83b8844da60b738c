"""PLaMo 2: Mamba and window attention in turn; its code stands beside its checkpoints."""

from __future__ import annotations

from calc.attention.gqa import GQA
from calc.attention.mamba2 import Mamba2
from calc.embedding import Head
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import RMS, assemble, fold
from calc.importers.huggingface.decoder import depth, width
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Mask, Window
from calc.model import Layer, Model
from calc.records import replace

SCHEDULE = ("capacity_factor", "eval_attention_n_bit", "eval_mlp_n_bit", "expert_dropout", "fp8_accum_dtype",
            "group_size", "image_feature_size", "image_proj_type", "linear_type", "sliding_window")  # fmt: skip
"""Keys that say how it was trained, or what ``attention_window_size`` says."""


def plamo2(config: Config) -> Model:
    """Read PLaMo 2: Mamba-2 whose selection reads the convolved input, attention in every n-th layer, four norms each.

    Source: modeling_plamo.py of pfnet/plamo-2-8b; ``Plamo2ForCausalLM`` of vLLM; arXiv:2509.04897.
    """
    config.ignore(*SCHEDULE)
    for key in ("n_expert", "k_expert", "sparse_step", "sparse_intermediate_size", "shared_intermediate_size"):
        config.refuse(key)
    for key in ("use_predefined_initial_state", "image_token_id"):
        config.refuse(key)
    d_model, n_layers = width(config), depth(config)
    head_dim = config.size("hidden_size_per_head", default=128)
    attention = GQA(
        n_heads=config.size("num_attention_heads"),
        n_kv_heads=config.size("num_key_value_heads"),
        head_dim=head_dim,
        rotary_dim=head_dim,
        qk_norm="rms",
        qk_norm_over="each_head",
    )
    mamba = Mamba2(
        n_ssm_heads=config.size("mamba_num_heads"),
        ssm_head_dim=head_dim,
        d_state=config.size("mamba_d_state"),
        conv_kernel=config.size("mamba_d_conv"),
        chunk_size=config.size("mamba_chunk_size", default=256),
        conv_bias=False,
        gated_norm=False,
        dt_rank=max(64, d_model // 16),
    )
    ffn = DenseFFN(d_ff=config.size("intermediate_size"), activation="silu", gated=True)
    window, full = config.optional_size("attention_window_size"), config.positions("full_attention_idx")
    with_mamba = _mamba_layers(config, n_layers)

    def mask(index: int) -> Mask:
        return Causal() if index in full or not window else Window(window=window)

    def layer(mask: Mask | None) -> Layer:
        mixer = mamba if mask is None else replace(attention, mask=mask)
        return Layer(attention=mixer, ffn=ffn, norm=RMS, placement="both")

    return assemble(
        config,
        d_model=d_model,
        stack=fold([None if with_mamba[index] else mask(index) for index in range(n_layers)], layer),
        final_norm=RMS,
        head=Head(tied=config.flag("tie_word_embeddings", default=True)),
    )


def _mamba_layers(config: Config, n_layers: int) -> list[bool]:
    """Return which layers have Mamba: all but one of every ``mamba_step``, or but the last of a few."""
    step = config.size("mamba_step", default=2)
    if not config.flag("mamba_enabled", default=True):
        return [False] * n_layers
    if step < 2:
        raise config.error(f"mamba_step = {step} leaves no rule which layers have attention")
    if n_layers <= step // 2:
        return [index != n_layers - 1 for index in range(n_layers)]
    return [index % step != step // 2 for index in range(n_layers)]
