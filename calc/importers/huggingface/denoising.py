"""Language models that fill in masked tokens of a whole sequence or block: layers of families that predict the next."""

from __future__ import annotations

from calc.importers.huggingface.beside import bailing_moe
from calc.importers.huggingface.llama_like import qwen2, qwen3
from calc.importers.huggingface.moe import qwen3_moe
from calc.importers.huggingface.reader import Config
from calc.importers.huggingface.renamed import hf_olmo
from calc.model import Model


def _said(config: Config, model: Model, *more: str) -> Model:
    """Note what the figures of passes and caches mean for such a model."""
    config.ignore("mask_token_id", "block_size", "debug", "fuse_cross_entropy", "dlm_type", *more)
    config.note("tokens are filled in, not predicted one by one: passes and caches are those of the causal model")
    return model


def dream(config: Config) -> Model:
    """Read Dream: Qwen 2.5's layers."""
    config.assume(tie_word_embeddings=False)
    return _said(config, qwen2(config))


def sdar(config: Config) -> Model:
    """Read SDAR: Qwen 3's layers."""
    config.assume(tie_word_embeddings=False)
    return _said(config, qwen3(config))


def sdar_moe(config: Config) -> Model:
    """Read SDAR with experts: Qwen3-MoE's layers."""
    config.assume(tie_word_embeddings=False)
    return _said(config, qwen3_moe(config))


def llada(config: Config) -> Model:
    """Read LLaDA: Llama's layers under the names of OLMo's first code, whose widths count each projection."""
    if config.text("block_type", default="llama") != "llama":
        raise config.error("block_type other than llama is not supported for llada")
    config.assume(layer_norm_type="rms", activation_type="silu")
    return _said(config, hf_olmo(config), "input_emb_norm", "rope_theta", "residual_dropout", "embedding_dropout")


def llada_moe(config: Config) -> Model:
    """Read LLaDA 2: Ling 2's layers."""
    return _said(config, bailing_moe(config))
