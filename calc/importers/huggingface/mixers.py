"""Recurrent mixers from the keys that several families share, and which layers have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from calc.attention.delta import GatedDelta
from calc.attention.mamba import Mamba
from calc.attention.mamba2 import Mamba2
from calc.importers.huggingface.reader import Config

RECURRENT, FULL, WINDOW = "linear_attention", "full_attention", "sliding_attention"

LEGACY: Final = {"mamba": RECURRENT, "attention": FULL}
"""Words of older files."""


def layer_kinds(
    config: Config,
    key: str,
    n_layers: int,
    rule: Callable[[int], str],
    known: tuple[str, ...] = (RECURRENT, FULL),
) -> list[str]:
    """Return the kind of every layer: as the file names them, else by the family's rule.

    Raises:
        ConfigError: a kind that the family does not have.
    """
    stated = config.choices(key, length=n_layers, known=(*known, *LEGACY))
    if stated is None:
        return [rule(index) for index in range(n_layers)]
    found = [LEGACY.get(kind, kind) for kind in stated]
    for kind in found:
        if kind not in known:
            raise config.error(f"{config.path}{key} holds {kind!r}, which is not supported for {config.model_type}")
    return found


def every(interval: int) -> Callable[[int], str]:
    """Return the rule that the last of so many layers is full attention."""
    return lambda index: RECURRENT if (index + 1) % interval else FULL


def time_step_rank(config: Config, key: str, d_model: int) -> int:
    """Return the rank of the time step, ⌈d/16⌉ where the file says ``auto``."""
    value = config.data.get(key, config.defaults.get(key))
    if value == "auto":
        config.ignore(key)
        return -(-d_model // 16)
    return config.size(key)


def expanded(config: Config, d_model: int, key: str = "expand") -> int:
    """Return the channels of a Mamba layer: as stated, else ⌊expand · d⌋."""
    if config.states("intermediate_size"):
        return config.size("intermediate_size")
    return int(config.number(key, default=2) * d_model)


def mamba(config: Config, d_model: int, **structure: Any) -> Mamba:
    """Return a Mamba layer under the keys of ``MambaConfig``."""
    config.ignore("time_step_scale", "time_step_init_scheme", "use_mambapy", "use_associative_scan")
    return Mamba(
        d_inner=expanded(config, d_model),
        d_state=config.size("state_size"),
        dt_rank=time_step_rank(config, "time_step_rank", d_model),
        conv_kernel=config.size("conv_kernel"),
        conv_bias=config.flag("use_conv_bias", default=True),
        proj_bias=config.flag("use_bias", default=False),
        **structure,
    )


BAMBA: Final = (
    "mamba_n_heads",
    "mamba_d_head",
    "mamba_d_state",
    "mamba_n_groups",
    "mamba_d_conv",
    "mamba_chunk_size",
    "mamba_conv_bias",
    "mamba_proj_bias",
)
MAMBA2: Final = (
    "num_heads",
    "head_dim",
    "state_size",
    "n_groups",
    "conv_kernel",
    "chunk_size",
    "use_conv_bias",
    "use_bias",
)
NEMOTRON: Final = ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", *MAMBA2[3:])
ZAMBA2: Final = (
    "n_mamba_heads",
    "mamba_headdim",
    "mamba_d_state",
    "mamba_ngroups",
    "mamba_d_conv",
    "chunk_size",
    "use_conv_bias",
    "add_bias_linear",
)


def mamba2(config: Config, keys: Sequence[str], **structure: Any) -> Mamba2:
    """Return a Mamba-2 layer; ``keys`` name heads, their width, state, groups, taps, chunk and the two biases."""
    heads, head_dim, state, groups, taps, chunk, conv_bias, bias = keys
    biased = config.flag(bias, default=False)
    n_heads = config.size(heads)
    automatic = config.data.get(head_dim, config.defaults.get(head_dim)) == "auto"
    if automatic:
        config.ignore(head_dim)
    fields: dict[str, Any] = {
        "n_ssm_heads": n_heads,
        "ssm_head_dim": _mamba_inner(config) // n_heads if automatic else config.size(head_dim),
        "d_state": config.size(state),
        "n_groups": config.size(groups),
        "conv_kernel": config.size(taps),
        "chunk_size": config.size(chunk),
        "conv_bias": config.flag(conv_bias, default=True),
        "in_bias": biased,
        "out_bias": biased,
    }
    return Mamba2(**{**fields, **structure})


def _mamba_inner(config: Config) -> int:
    """Return the channels of a Mamba-2 layer whose heads share them out."""
    return config.optional_size("mamba_d_ssm") or int(config.number("mamba_expand") * config.size("hidden_size"))


def gated_delta(config: Config) -> GatedDelta:
    """Return a gated delta net; sizes that file and class leave open are those that OLMo Hybrid's class derives."""
    n_heads = config.size("num_attention_heads")
    n_key_heads = config.size("linear_num_key_heads", default=n_heads)
    # int(0.75 · d / heads), in whole numbers
    head_dim = config.size("linear_key_head_dim", default=3 * config.size("hidden_size") // (4 * n_key_heads))
    return GatedDelta(
        n_key_heads=n_key_heads,
        n_value_heads=config.size("linear_num_value_heads", default=n_heads),
        head_dim=head_dim,
        v_head_dim=config.size("linear_value_head_dim", default=2 * head_dim),
        conv_kernel=config.size("linear_conv_kernel_dim"),
    )
