"""Twins of rarer layers against transformers' own, with copied weights: the same output to fp32's rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from calc.attention.differential import Differential
from calc.attention.dynamic import DynamicMask
from calc.attention.moa import MoA
from calc.attention.shared_block import SharedBlock
from calc.ffn.adapted import AdaptedFFN
from calc.ffn.channel_mix import ChannelMix
from calc.reference import build
from calc.reference.base import Cache
from calc.reference.differential import LAMBDA_START

pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle

D, BATCH, TOKENS = 24, 2, 11
SIZES = {"hidden_size": D, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}


def filled(layer: Any) -> Any:
    """Give every weight small random numbers."""
    torch.manual_seed(3)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return layer.eval().requires_grad_(False)


def inputs() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(BATCH, TOKENS, D)


def rotation(width: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of every position, both halves of a head alike."""
    angles = torch.outer(torch.arange(TOKENS), 10_000.0 ** -(torch.arange(0, width, 2) / width))
    both = torch.cat((angles, angles), -1)[None].expand(BATCH, -1, -1)
    return both.cos(), both.sin()


def hidden_future() -> Tensor:
    """Return what is added to the scores: the lowest number where a key stands after its query."""
    future = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    return torch.zeros(TOKENS, TOKENS).masked_fill(future, torch.finfo(torch.float32).min).expand(BATCH, 1, -1, -1)


def eager(config: Any) -> Any:
    config._attn_implementation = "eager"
    return config


def named(layer: Any, *names: str) -> dict[str, Tensor]:
    """Return the weights of linear layers that are called the same on both sides."""
    return {f"{name}.{key}": weight for name in names for key, weight in getattr(layer, name).named_parameters()}


def same(spec: Any, weights: dict[str, Tensor], expected: Tensor) -> None:
    """Compare in one pass, and token by token through a cache."""
    twin = build(spec, D)
    assert set(weights) == set(twin.state_dict())
    twin.load_state_dict({name: weight.reshape(twin.state_dict()[name].shape) for name, weight in weights.items()})
    x, cache = inputs(), Cache()
    with torch.no_grad():
        torch.testing.assert_close(twin(x), expected, rtol=1e-4, atol=1e-5)
        steps = [twin(part, cache) for part in (x[:, :7], *x[:, 7:].split(1, 1))]
    torch.testing.assert_close(torch.cat(steps, 1), expected, rtol=1e-4, atol=1e-5)


def test_differential_attention() -> None:
    from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaConfig

    layer = filled(DiffLlamaAttention(eager(DiffLlamaConfig(**SIZES, rms_norm_eps=1e-6)), 0))
    layer.lambda_init = LAMBDA_START
    layer.groupnorm.eps = None  # the twin's norm has the smallest of its format
    x = inputs()
    expected = layer(x, position_embeddings=rotation(6), attention_mask=hidden_future())[0]
    lambdas = {name: weight for name, weight in layer.named_parameters() if name.startswith("lambda")}
    spec = Differential(n_heads=4, n_kv_heads=2, head_dim=6, rotary_dim=6)
    same(spec, named(layer, "q_proj", "k_proj", "v_proj", "o_proj") | lambdas, expected)


@pytest.mark.parametrize("kept", [4, 40])
def test_a_mask_that_the_values_make(kept: int) -> None:
    from transformers.models.doge.modeling_doge import DogeAttention, DogeConfig

    layer = filled(DogeAttention(eager(DogeConfig(**SIZES, keep_window_size=kept, attention_bias=True)), 0))
    expected = layer(inputs(), position_embeddings=rotation(6), attention_mask=hidden_future())[0]
    weights = named(layer, "q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm", "dt_proj") | {"dt": layer.A}
    spec = DynamicMask(n_heads=4, n_kv_heads=2, head_dim=6, n_selected=kept, bias=True, rotary_dim=6)
    same(spec, weights, expected)


def test_a_mixture_of_attention_heads() -> None:
    from transformers.models.jetmoe.modeling_jetmoe import JetMoeAttention, JetMoeConfig

    config = JetMoeConfig(
        hidden_size=D, num_key_value_heads=3, kv_channels=6, num_local_experts=5, num_experts_per_tok=2
    )
    layer = filled(JetMoeAttention(eager(config), 0))
    expected = layer(inputs(), position_embeddings=rotation(6), attention_mask=hidden_future())[0]
    keys, values = layer.kv_proj.weight.chunk(2)
    weights = {
        "router.weight": layer.experts.router.layer.weight,
        "q_proj.weight": layer.experts.input_linear.weight.transpose(1, 2),
        "k_proj.weight": keys,
        "v_proj.weight": values,
        "o_proj.weight": layer.experts.output_linear.weight.transpose(1, 2),
        "bias": layer.experts.bias,
    }
    same(MoA(n_experts=5, n_active_experts=2, n_kv_heads=3, head_dim=6, rotary_dim=6), weights, expected)


def test_zamba_s_shared_block_with_adapters() -> None:
    from transformers.models.zamba2.modeling_zamba2 import Zamba2AttentionDecoderLayer, Zamba2Config

    config = Zamba2Config(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=4, intermediate_size=21, adapter_rank=5,
        use_shared_attention_adapter=True, use_mem_rope=True, num_mem_blocks=1, num_hidden_layers=2,
        layers_block_type=["mamba", "hybrid"], add_bias_linear=True, rms_norm_eps=1e-6, hidden_act="gelu",
    )  # fmt: skip
    block = filled(Zamba2AttentionDecoderLayer(eager(config), block_id=0))
    linear = filled(torch.nn.Linear(D, D, bias=False))
    width = config.attention_head_dim
    made = block(
        inputs(), original_hidden_states=inputs(), layer_idx=1, attention_mask=hidden_future(),
        position_embeddings=rotation(width),
    )  # fmt: skip
    attention, network = block.self_attn, block.feed_forward
    weights = named(attention, "q_proj", "k_proj", "v_proj", "o_proj") | named(network, "down_proj")
    for part, rows in {key: tensor.chunk(2) for key, tensor in network.gate_up_proj.named_parameters()}.items():
        weights |= {f"gate_proj.{part}": rows[0], f"up_proj.{part}": rows[1]}
    for name in "qkv":
        pair = getattr(attention, f"linear_{name}_adapter_list")[0]
        weights |= {f"{name}_proj_adapter_{end}.weight": pair[index].weight for index, end in enumerate("ab")}
    low, high = network.gate_up_proj_adapter_list[0]
    gate, up = high.weight.chunk(2)
    weights |= {
        "adapter.weight": low.weight,
        "gate_adapter.weight": gate,
        "up_adapter.weight": up,
        "norm.weight": block.input_layernorm.weight,
        "ffn_norm.weight": block.pre_ff_layernorm.weight,
        "linear.weight": linear.weight,
    }
    spec = SharedBlock(
        n_heads=4, n_kv_heads=4, head_dim=width, d_ff=21, adapter_rank=5, attention_adapters=True, rotary_dim=width,
        ffn_bias=True, activation="gelu",
    )  # fmt: skip
    same(spec, weights, linear(made))


@pytest.mark.parametrize("norm", ["own", "reused"])
def test_an_adapter_for_each_language(norm: Any) -> None:
    from transformers.models.xmod.modeling_xmod import XmodConfig, XmodIntermediate, XmodOutput

    config = XmodConfig(
        hidden_size=D, intermediate_size=37, adapter_reduction_factor=3, languages=["a", "b"], hidden_dropout_prob=0.0,
        adapter_layer_norm=norm == "own", adapter_reuse_layer_norm=norm == "reused", layer_norm_eps=1e-6,
        ln_before_adapter=False,
    )  # fmt: skip
    up, down = filled(XmodIntermediate(config)), filled(XmodOutput(config))
    down.LayerNorm.weight.fill_(1.0)  # the twin's layer applies its scale and shift
    down.LayerNorm.bias.zero_()
    x = inputs()
    theirs = down(up(x), x, torch.full((BATCH,), 1))
    entry = x + down.dense(up(x))  # the residual connection around the adapter is the layer's
    weights = {f"up_proj.{key}": weight for key, weight in up.dense.named_parameters()}
    weights |= {f"down_proj.{key}": weight for key, weight in down.dense.named_parameters()}
    if norm == "own":
        weights |= {f"adapter_norm.{key}": weight for key, weight in down.adapter_layer_norm.named_parameters()}
    for index, language in enumerate(config.languages):
        adapter = down.adapter_modules[language]
        for ours, layer in (("adapter_down", adapter.dense1), ("adapter_up", adapter.dense2)):
            weights |= {f"{ours}.{index}.{key}": weight for key, weight in layer.named_parameters()}
    spec = AdaptedFFN(d_ff=37, d_adapter=8, n_languages=2, adapter_norm=norm)
    same(spec, weights, theirs - entry)


def test_channel_mixing() -> None:
    from transformers.models.rwkv.modeling_rwkv import RwkvConfig, RwkvFeedForward

    layer = filled(RwkvFeedForward(RwkvConfig(hidden_size=D, intermediate_size=37, num_hidden_layers=1)))
    mixes = {"k_mix": layer.time_mix_key, "r_mix": layer.time_mix_receptance}
    same(ChannelMix(d_ff=37), named(layer, "key", "value", "receptance") | mixes, layer(inputs())[0])
