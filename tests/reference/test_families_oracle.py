"""Whole twins of further families against transformers: experts, latents, sinks, recurrences, parallel layers.

With copied weights a twin computes the same loss of the next token, and its backward pass the same gradient of every
weight. Copying only rearranges: what is done to a weight is done to its gradient, too, and both are compared by name.
Tolerances are those of fp32 sums in another order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calc.importers.huggingface.importer import from_config
from calc.reference.model import ModelCache, ModelTwin
from tests.reference.test_models_oracle import BOTH, LLAMA, PRE, TINY, plain

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle

Named = tuple[str, Tensor]
Change = Callable[[str, Tensor], Iterator[Named]]
CHOOSING = "e_score_correction_bias"
"""A buffer that takes part in choosing experts."""
HEADS, HEAD = TINY["num_attention_heads"], TINY["head_dim"]
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 20}
LAYER_TYPES = ["sliding_attention", "full_attention", "sliding_attention"]
ROTARY = {"rope_type": "default", "rope_theta": 10_000.0}


@dataclass(frozen=True)
class Family:
    """A class of transformers, small, and how its weights are called and laid out in the twin."""

    name: str
    config: dict[str, Any]
    names: tuple[tuple[str, str], ...]
    change: Change = plain
    offset: str = ""
    """Weights that are stored as what is added to 1."""
    ending: str = "ForCausalLM"
    """Of the class: ForMaskedLM reads both ways, ForConditionalGeneration has a source, too."""

    def theirs(self) -> Any:
        """Return a small model with random weights, in which no norm or bias is all one or zero."""
        spec = {"vocab_size": 61, "attn_implementation": "eager", "pad_token_id": 0, "bos_token_id": 1, **self.config}
        config_class = {"Gemma3": "Gemma3Text"}.get(self.name, self.name)
        config = getattr(transformers, f"{config_class}Config")(**spec, eos_token_id=2)
        torch.manual_seed(0)
        built = getattr(transformers, f"{self.name}{self.ending}")(config)
        with torch.no_grad():
            for name, weight in built.named_parameters():
                if re.search("A_log|dt_bias", name):  # built with empty memory
                    weight.uniform_(-1, 1)
                weight.add_(0.05 * torch.randn_like(weight))
            for name, buffer in built.named_buffers():
                if CHOOSING in name:
                    buffer.copy_(torch.randn_like(buffer) / 10)
        for module in built.modules():
            if isinstance(module, torch.nn.LayerNorm):  # some classes have no key for it
                module.eps = 1e-6
        return built.eval()

    def twin(self, theirs: Any) -> ModelTwin:
        """Return the twin of a model, with its weights; every one of both sides is used."""
        model = from_config(theirs.config.to_dict(), name="oracle", origin="test").model
        twin = ModelTwin(replace(model, mtp=None))
        weights = self.renamed((name, weight.detach()) for name, weight in theirs.named_parameters())
        if self.ending == "ForConditionalGeneration":  # a bias that is added to the logits and not trained
            weights["head.lm_head.bias"] = theirs.final_logits_bias[0]
        own = dict(twin.named_parameters())
        if "head.lm_head.weight" in own and "head.lm_head.weight" not in weights:
            weights["head.lm_head.weight"] = theirs.lm_head.weight.detach()
        assert set(weights) == set(own)
        own |= {name: buffer for name, buffer in twin.named_buffers() if name.endswith("correction_bias")}
        weights |= self.renamed((name, buffer) for name, buffer in theirs.named_buffers() if CHOOSING in name)
        assert set(weights) == set(own)
        with torch.no_grad():
            for name, weight in weights.items():
                assert own[name].shape == weight.shape, name
                own[name].copy_(weight + 1 if self.offset and re.search(self.offset, name) else weight)
        if self.ending == "ForConditionalGeneration":
            own["head.lm_head.bias"].requires_grad_(False)
        return twin

    def renamed(self, tensors: Iterator[Named]) -> dict[str, Tensor]:
        """Return tensors under the twin's names, laid out as there."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors:
            renamed = name
            for pattern, replacement in self.names:
                renamed = re.sub(pattern, replacement, renamed)
            found |= dict(self.change(renamed, tensor))
        return found


def experts(name: str, tensor: Tensor) -> Iterator[Named]:
    """Gate and up matrices of all experts stand in one tensor."""
    if name.endswith("experts.gate_up_proj"):
        stem = name.removesuffix("experts.gate_up_proj")
        for part, half in zip(("gate", "up"), tensor.chunk(2, 1), strict=True):
            yield f"{stem}{part}_proj.weight", half
    elif name.endswith("experts.down_proj"):
        yield f"{name.removesuffix('experts.down_proj')}down_proj.weight", tensor
    else:
        yield name, tensor


def latent(name: str, tensor: Tensor) -> Iterator[Named]:
    """DeepSeek's maps of queries, and of keys and values, hold several of the twin's."""
    stem, _, last = name.rpartition("attention.")
    if last == "q_b_proj.weight":
        nope, rope = tensor.unflatten(0, (HEADS, -1)).split([6, 4], 1)
        yield f"{stem}attention.q_nope.weight", nope.flatten(0, 1)
        yield f"{stem}attention.q_rope.weight", rope.flatten(0, 1)
    elif last == "kv_a_proj_with_mqa.weight":
        yield f"{stem}attention.kv_a_proj.weight", tensor[:10]
        yield f"{stem}attention.k_rope.weight", tensor[10:]
    elif last == "kv_b_proj.weight":
        keys, values = tensor.unflatten(0, (HEADS, -1)).transpose(1, 2).split([6, 5], 2)
        yield f"{stem}attention.k_b.weight", keys
        yield f"{stem}attention.v_b.weight", values
    else:
        yield from experts(name, tensor)


def interleaved_experts(name: str, tensor: Tensor) -> Iterator[Named]:
    """gpt-oss stores maps as [in, out], and gate and up columns in turn."""
    stem, _, last = name.rpartition("experts.")
    if last.startswith("gate_up_proj"):
        kind = "bias" if last.endswith("bias") else "weight"
        for part, start in (("gate", 0), ("up", 1)):
            half = tensor[..., start::2]
            yield f"{stem}{part}_proj.{kind}", half if kind == "bias" else half.transpose(1, 2)
    elif last == "down_proj":
        yield f"{stem}down_proj.weight", tensor.transpose(1, 2)
    elif last == "down_proj_bias":
        yield f"{stem}down_proj.bias", tensor
    else:
        yield name, tensor


def untangled(tensor: Tensor, heads: int, rotated: int) -> Tensor:
    """Reorder rotated rows from pairs (0, 1), (2, 3), … to pairs (i, i + half)."""
    rows = tensor.unflatten(0, (heads, -1))
    turned, rest = rows[:, :rotated], rows[:, rotated:]
    return torch.cat((turned[:, 0::2], turned[:, 1::2], rest), 1).flatten(0, 1)


def pairs(rotated: int, kv_heads: int) -> Change:
    """Return the change for models that rotate neighbours."""

    def change(name: str, tensor: Tensor) -> Iterator[Named]:
        heads = {"q_proj": HEADS, "k_proj": kv_heads}.get(name.split(".")[-2], 0)
        yield name, untangled(tensor, heads, rotated) if heads else tensor

    return change


def fused(name: str, tensor: Tensor) -> Iterator[Named]:
    """Phi-3 stores queries, keys and values as one, gate and up as one; Falcon its one key-value head at the end."""
    for one, parts, sizes in (
        ("qkv_proj", ("q_proj", "k_proj", "v_proj"), [24, 12, 12]),
        ("query_key_value", ("q_proj", "k_proj", "v_proj"), [24, 6, 6]),
        ("gate_up_proj", ("gate_proj", "up_proj"), [40, 40]),
    ):
        if one in name:
            yield from ((name.replace(one, part), rows) for part, rows in zip(parts, tensor.split(sizes), strict=True))
            return
    yield name, tensor


def jamba(name: str, tensor: Tensor) -> Iterator[Named]:
    """Jamba has layers of both kinds."""
    yield from (mamba if ".mixer." in name else experts)(name, tensor)


def griffin(name: str, tensor: Tensor) -> Iterator[Named]:
    """RecurrentGemma's convolution has a dimension of one."""
    yield name, tensor.squeeze(1) if name.endswith("conv.weight") else tensor


def rwkv(name: str, tensor: Tensor) -> Iterator[Named]:
    """RWKV's vectors have dimensions of one."""
    yield name, tensor.flatten() if name.endswith("_mix") else tensor


def lfm2(name: str, tensor: Tensor) -> Iterator[Named]:
    """LFM2 stores the two gates and the input of its convolution as one."""
    if name.endswith("conv.in_proj.weight"):
        for part, rows in zip("bcx", tensor.chunk(3), strict=True):
            yield name.replace("conv.in_proj", f"attention.{part}_proj"), rows
    else:
        yield name, tensor.squeeze(1) if name.endswith("conv.weight") else tensor


def mpt(name: str, tensor: Tensor) -> Iterator[Named]:
    """MPT stores queries, keys and values as one."""
    if "Wqkv" not in name:
        yield name, tensor
        return
    for part, rows in zip("qkv", tensor.chunk(3), strict=True):
        yield name.replace("Wqkv", f"{part}_proj"), rows


def opt(name: str, tensor: Tensor) -> Iterator[Named]:
    """OPT's first position is row 2 of its table."""
    yield name, tensor.roll(-2, 0) if "positions" in name else tensor


def mamba(name: str, tensor: Tensor) -> Iterator[Named]:
    """Mamba stores both branches as one, and step, input and output of the state as one."""
    for one, parts, sizes in (
        ("mixer.in_proj", ("x_proj", "z_proj"), [48, 48]),
        ("mixer.x_proj", ("dt_low", "b_proj", "c_proj"), [3, 5, 5]),
    ):
        if one in name:
            for part, rows in zip(parts, tensor.split(sizes), strict=True):
                yield name.replace(one, f"attention.{part}"), rows
            return
    yield name.replace("mixer", "attention"), tensor.squeeze(1) if name.endswith("conv.weight") else tensor


def gated_delta(name: str, tensor: Tensor) -> Iterator[Named]:
    """Qwen3-Next stores the maps of its linear layers by key head, and queries beside the gates of their heads."""
    stem, _, last = name.rpartition("linear_attn.")
    if last == "in_proj_qkvz.weight":
        for part, rows in zip("qkvz", tensor.reshape(2, -1, 24).split([8, 8, 10, 10], 1), strict=True):
            yield f"{stem}attention.{part}_proj.weight", rows.reshape(-1, 24)
    elif last == "in_proj_ba.weight":
        for part, rows in zip("ba", tensor.reshape(2, -1, 24).split([2, 2], 1), strict=True):
            yield f"{stem}attention.{part}_proj.weight", rows.reshape(-1, 24)
    elif last == "conv1d.weight":
        for part, rows in zip("qkv", tensor.squeeze(1).split([16, 16, 20]), strict=True):
            yield f"{stem}attention.conv_{part}.weight", rows
    elif last != name:
        own = {"dt_bias": "dt", "A_log": "decay"}.get(last, last)
        yield f"{stem}attention.{own}", tensor
    elif name.endswith("attention.q_proj.weight"):
        queries, gates = tensor.unflatten(0, (HEADS, -1)).chunk(2, 1)
        yield name, queries.flatten(0, 1)
        yield name.replace("q_proj", "gate_proj"), gates.flatten(0, 1)
    else:
        yield from experts(name, tensor)


MOE = (
    (rf"ffn\.gate\.{CHOOSING}", "ffn.correction_bias"),
    (r"ffn\.gate\.", "ffn.router."),
    (r"shared_experts?\.(\w+)_proj", r"shared_\1_proj"),
)
LATENT = ((r"(q|kv)_a_layernorm", r"\1_a_norm"),)
ONE_NORM = ((r"input_layernorm", "input_norm"),)
FALCON = (
    (r"^transformer\.word_embeddings", "decoder.embedding.tokens"),
    (r"^transformer\.ln_f", "decoder.final_norm.final_norm"),
    (r"^transformer\.h", "decoder.layers"),
    *ONE_NORM,
    (r"self_attention\.dense", "attention.o_proj"),
    (r"self_attention", "attention"),
    (r"mlp\.dense_h_to_4h", "ffn.up_proj"),
    (r"mlp\.dense_4h_to_h", "ffn.down_proj"),
)
GPTJ = (
    (r"^transformer\.wte", "decoder.embedding.tokens"),
    (r"^transformer\.ln_f", "decoder.final_norm.final_norm"),
    (r"^transformer\.h", "decoder.layers"),
    (r"^lm_head", "head.lm_head"),
    (r"ln_1", "input_norm"),
    (r"attn\.out_proj", "attention.o_proj"),
    (r"attn\.", "attention."),
    (r"mlp\.fc_in", "ffn.up_proj"),
    (r"mlp\.fc_out", "ffn.down_proj"),
)
OPT = (
    (r"^model\.decoder\.embed_tokens", "decoder.embedding.tokens"),
    (r"^model\.decoder\.embed_positions", "decoder.embedding.positions"),
    (r"^model\.decoder\.final_layer_norm", "decoder.final_norm.final_norm"),
    (r"^model\.decoder\.layers", "decoder.layers"),
    (r"self_attn_layer_norm", "attention_norm"),
    (r"final_layer_norm", "ffn_norm"),
    (r"self_attn\.out_proj", "attention.o_proj"),
    (r"self_attn", "attention"),
    (r"fc1", "ffn.up_proj"),
    (r"fc2", "ffn.down_proj"),
)
MAMBA = (
    (r"^backbone\.embeddings", "decoder.embedding.tokens"),
    (r"^backbone\.norm_f", "decoder.final_norm.final_norm"),
    (r"^backbone\.layers", "decoder.layers"),
    (r"layers\.(\d+)\.norm", r"layers.\1.attention_norm"),
    (r"A_log", "decay"),
    (r"mixer\.D$", "mixer.skip"),
    (r"conv1d", "conv"),
)
JAMBA = (
    *LLAMA[:2],
    (r"^model\.final_layernorm", "decoder.final_norm.final_norm"),
    (r"^lm_head", "head.lm_head"),
    (r"self_attn", "attention"),
    (r"feed_forward", "ffn"),
    (r"input_layernorm", "attention_norm"),
    (r"pre_ff_layernorm", "ffn_norm"),
    (r"\.mamba\.", ".mixer."),
    (r"(dt|b|c)_layernorm", r"\1_norm"),
    *MAMBA[-3:],
)
GRIFFIN = (
    *LLAMA[:2],
    (r"^model\.final_norm", "decoder.final_norm.final_norm"),
    (r"temporal_pre_norm", "attention_norm"),
    (r"channel_pre_norm", "ffn_norm"),
    (r"mlp_block", "ffn"),
    (r"temporal_block", "attention"),
    (r"linear_out", "o_proj"),
    (r"linear_(x|y)", r"\1_proj"),
    (r"conv_1d", "conv"),
    (r"rg_lru\.recurrent_param", "decay"),
    (r"rg_lru\.(\w+)_gate_", r"\1_gate."),
)
RWKV = (
    (r"^rwkv\.embeddings", "decoder.embedding.tokens"),
    (r"^rwkv\.ln_out", "decoder.final_norm.final_norm"),
    (r"^rwkv\.blocks\.0\.pre_ln", "decoder.embedding.norm"),
    (r"^rwkv\.blocks", "decoder.layers"),
    (r"^head\.", "head.lm_head."),
    (r"ln1", "attention_norm"),
    (r"ln2", "ffn_norm"),
    (r"feed_forward", "ffn"),
    (r"time_mix_(\w)\w+", r"\1_mix"),
    (r"time_first", "wkv"),
    (r"time_decay", "carry"),
    (r"attention\.output", "attention.o_proj"),
    (r"attention\.(k|v|r)[a-z]+\.", r"attention.\1_proj."),
)
LFM2 = (
    *LLAMA[:2],
    (r"^model\.embedding_norm", "decoder.final_norm.final_norm"),
    (r"operator_norm", "attention_norm"),
    (r"self_attn\.out_proj", "attention.o_proj"),
    (r"self_attn", "attention"),
    (r"_layernorm", "_norm"),
    (r"conv\.(conv|out_proj)", r"attention.\1"),
    (r"feed_forward\.w1", "ffn.gate_proj"),
    (r"feed_forward\.w2", "ffn.down_proj"),
    (r"feed_forward\.w3", "ffn.up_proj"),
)
MPT = (
    (r"^transformer\.wte", "decoder.embedding.tokens"),
    (r"^transformer\.norm_f", "decoder.final_norm.final_norm"),
    (r"^transformer\.blocks", "decoder.layers"),
    (r"norm_1", "attention_norm"),
    (r"norm_2", "ffn_norm"),
    (r"attn\.out_proj", "attention.o_proj"),
    (r"attn\.", "attention."),
)
BERT = (
    (r"^bert\.embeddings\.word_embeddings", "decoder.embedding.tokens"),
    (r"^bert\.embeddings\.position_embeddings", "decoder.embedding.positions"),
    (r"^bert\.embeddings\.token_type_embeddings", "decoder.embedding.token_types"),
    (r"^bert\.embeddings\.LayerNorm", "decoder.embedding.norm"),
    (r"^bert\.encoder\.layer", "decoder.layers"),
    (r"^cls\.predictions\.bias", "head.lm_head.bias"),
    (r"^cls\.predictions\.transform\.dense", "head.transform"),
    (r"^cls\.predictions\.transform\.LayerNorm", "head.norm"),
    (r"attention\.output\.LayerNorm", "attention_post_norm"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"attention\.self\.(\w)\w+", r"attention.\1_proj"),
    (r"intermediate\.dense", "ffn.up_proj"),
    (r"output\.dense", "ffn.down_proj"),
    (r"output\.LayerNorm", "ffn_post_norm"),
)
BART = (
    (r"^model\.shared", "encoder.embedding.tokens"),
    (r"^model\.(\w+)\.embed_positions", r"\1.embedding.positions"),
    (r"^model\.(\w+)\.layernorm_embedding", r"\1.embedding.norm"),
    (r"^model\.", ""),
    (r"self_attn_layer_norm", "attention_post_norm"),
    (r"encoder_attn_layer_norm", "cross_post_norm"),
    (r"final_layer_norm", "ffn_post_norm"),
    (r"self_attn\.out_proj", "attention.o_proj"),
    (r"encoder_attn\.out_proj", "cross.o_proj"),
    (r"self_attn", "attention"),
    (r"encoder_attn", "cross"),
    (r"fc1", "ffn.up_proj"),
    (r"fc2", "ffn.down_proj"),
)
DEEPSEEK = {
    "num_key_value_heads": HEADS, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "moe_intermediate_size": 20, "n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": 12,
    "kv_lora_rank": 10, "head_dim": 4, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
    "rope_interleave": False, "rope_parameters": ROTARY,
}  # fmt: skip
NEXT = {
    **EXPERTS, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 5, "shared_expert_intermediate_size": 12, "norm_topk_prob": True,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "rope_parameters": {**ROTARY, "partial_rotary_factor": 0.4},
}  # fmt: skip
GEMMA = {
    "hidden_size": 16, "sliding_window": 5, "query_pre_attn_scalar": HEAD, "layer_types": LAYER_TYPES,
    "rope_parameters": dict.fromkeys(set(LAYER_TYPES), ROTARY),
}  # fmt: skip

FAMILIES = {
    "mixtral": Family("Mixtral", {**TINY, **EXPERTS, "rope_parameters": ROTARY}, LLAMA + PRE + MOE, experts),
    "qwen3-moe": Family("Qwen3Moe", {**TINY, **EXPERTS, "norm_topk_prob": True}, LLAMA + PRE + MOE, experts),
    "deepseek-v3": Family("DeepseekV3", {**TINY, **DEEPSEEK}, LLAMA + PRE + MOE + LATENT, latent),
    "gpt-oss": Family(
        "GptOss",
        {**TINY, **EXPERTS, "sliding_window": 5, "layer_types": LAYER_TYPES, "rope_parameters": ROTARY},
        LLAMA + PRE,
        interleaved_experts,
    ),
    "gemma3": Family("Gemma3", {**TINY, **GEMMA}, LLAMA + BOTH, offset="norm"),
    "phi3": Family("Phi3", {**TINY, "head_dim": 6}, LLAMA + PRE, fused),
    "cohere": Family(
        "Cohere",
        {**TINY, "head_dim": 6, "logit_scale": 1.0, "rope_parameters": ROTARY},
        LLAMA + ONE_NORM,
        pairs(6, 2),
    ),
    "falcon": Family(
        "Falcon",
        {
            "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": HEADS, "multi_query": True,
            "parallel_attn": True, "bias": False, "layer_norm_epsilon": 1e-6, "ffn_hidden_size": 96,
        },
        FALCON,
        fused,
    ),
    "gpt-j": Family(
        "GPTJ",
        {"n_embd": 24, "n_layer": 3, "n_head": HEADS, "rotary_dim": 4, "n_positions": 64},
        GPTJ,
        pairs(4, HEADS),
    ),
    "opt": Family(
        "OPT",
        {
            "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": HEADS, "ffn_dim": 40,
            "max_position_embeddings": 64, "word_embed_proj_dim": 24,
        },
        OPT,
        opt,
    ),
    "mamba": Family(
        "Mamba",
        {
            "hidden_size": 24, "num_hidden_layers": 3, "state_size": 5, "time_step_rank": 3, "expand": 2,
            "intermediate_size": 48, "layer_norm_epsilon": 1e-6,
        },
        MAMBA,
        mamba,
    ),
    "qwen3-next": Family(
        "Qwen3Next",
        {**TINY, **NEXT},
        (*LLAMA, *PRE, *MOE, (r"ffn\.shared_expert_gate", "ffn.shared_gate")),
        gated_delta,
        offset=r"(attention_norm|ffn_norm|final_norm|q_norm|k_norm)",
    ),
    "jamba": Family(
        "Jamba",
        {
            **TINY, **EXPERTS, "head_dim": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2,
            "expert_layer_offset": 1, "mamba_d_state": 5, "mamba_dt_rank": 3, "use_mamba_kernels": False,
        },
        JAMBA,
        jamba,
    ),
    "recurrent-gemma": Family(
        "RecurrentGemma",
        {
            "hidden_size": 16, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 1, "head_dim": 8, "lru_width": 16, "attention_window_size": 5,
            "block_types": ["recurrent", "recurrent", "attention"],
        },
        GRIFFIN,
        griffin,
        offset="norm",
    ),
    "rwkv": Family(
        "Rwkv",
        {
            "hidden_size": 24, "num_hidden_layers": 3, "attention_hidden_size": 24, "intermediate_size": 40,
            "layer_norm_epsilon": 1e-6, "rescale_every": 0,
        },
        RWKV,
        rwkv,
    ),
    "lfm2": Family(
        "Lfm2",
        {
            **TINY, "head_dim": 6, "layer_types": ["conv", "full_attention", "conv"], "norm_eps": 1e-6,
            "block_auto_adjust_ff_dim": False, "rope_parameters": ROTARY,
        },
        LFM2,
        lfm2,
    ),
    "mpt": Family("Mpt", {"d_model": 24, "n_layers": 3, "n_heads": HEADS}, MPT, mpt),
    "bert": Family(
        "Bert",
        {
            "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": HEADS, "intermediate_size": 40,
            "max_position_embeddings": 64, "layer_norm_eps": 1e-6, "hidden_dropout_prob": 0.0,
        },
        BERT,
        ending="ForMaskedLM",
    ),
    "bart": Family(
        "Bart",
        {
            "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": HEADS,
            "decoder_attention_heads": HEADS, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40,
            "max_position_embeddings": 64,
        },
        BART,
        opt,
        ending="ForConditionalGeneration",
    ),
}  # fmt: skip


def loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean loss of the next token."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def said_by(family: Family, theirs: Any, tokens: Tensor, source: Tensor) -> Tensor:
    """Return transformers' logits."""
    if family.ending == "ForMaskedLM":
        logits: Tensor = theirs(input_ids=tokens).logits
    elif family.ending == "ForConditionalGeneration":
        logits = theirs(input_ids=source, decoder_input_ids=tokens, use_cache=False).logits
    else:
        logits = theirs(input_ids=tokens, use_cache=False).logits
    return logits


@pytest.mark.parametrize("name", FAMILIES)
class TestFamilies:
    def test_the_same_loss_and_the_same_gradient_of_every_weight(self, name: str) -> None:
        family = FAMILIES[name]
        theirs = family.theirs()
        twin = family.twin(theirs)
        tokens, source = torch.randint(3, 61, (2, 13)), torch.randint(3, 61, (2, 9))
        expected = said_by(family, theirs, tokens, source)
        (logits,) = twin(tokens, source=source if family.ending == "ForConditionalGeneration" else None)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        loss(expected, tokens).backward()
        loss(logits, tokens).backward()
        said = ((key, weight.grad) for key, weight in theirs.named_parameters() if weight.grad is not None)
        gradients = family.renamed(said)
        own = {key: weight.grad for key, weight in twin.named_parameters() if weight.grad is not None}
        assert set(own) == set(gradients)
        for key, gradient in own.items():
            torch.testing.assert_close(gradient, gradients[key], rtol=1e-3, atol=1e-5)

    def test_decode_steps_too(self, name: str) -> None:
        family = FAMILIES[name]
        theirs = family.theirs()
        twin = family.twin(theirs)
        if family.ending == "ForMaskedLM":
            pytest.skip("reads all of a text at once")
        tokens, source, cache = torch.randint(3, 61, (2, 13)), torch.randint(3, 61, (2, 9)), ModelCache()
        with torch.no_grad():
            expected = said_by(family, theirs, tokens, source)
            steps = [twin(tokens[:, :10], cache, source if family.ending == "ForConditionalGeneration" else None)[0]]
            steps += [twin(tokens[:, n : n + 1], cache)[0] for n in range(10, 13)]
        torch.testing.assert_close(torch.cat(steps, 1), expected, rtol=1e-4, atol=1e-4)
