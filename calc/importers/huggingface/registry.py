"""Which adapter reads which model type; adapters are named, so that only the needed module is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from calc.importers.huggingface.reader import Config
    from calc.model import Model

_PACKAGE: Final = "calc.importers.huggingface"


def registry(*entries: tuple[str, str]) -> dict[str, str]:
    """Return ``{model_type: "module:function"}`` of entries ``("module:function", "types in a row")``.

    Raises:
        ValueError: a model type stands twice.

    >>> registry(("llama_like:llama", "llama mistral"))
    {'llama': 'llama_like:llama', 'mistral': 'llama_like:llama'}
    """
    found: dict[str, str] = {}
    for target, types in entries:
        for model_type in types.split():
            if model_type in found:
                raise ValueError(f"model type {model_type!r} is registered twice: {found[model_type]} and {target}")
            found[model_type] = target
    return found


FAMILIES: Final[dict[str, str]] = registry(
    ("llama_like:llama", "llama iquestcoder emu3_text_model"),
    ("llama_like:exaone", "exaone"),
    ("llama_like:internlm3", "internlm3"),
    ("llama_like:mistral", "mistral ministral ministral3"),
    ("llama_like:phi3", "phi3"),
    ("llama_like:cwm", "cwm"),
    ("llama_like:qwen2", "qwen2 qwen2_vl_text qwen2_5_vl_text qwen2_5_omni_text"),
    ("llama_like:qwen3", "qwen3 qwen3_vl_text"),
    ("llama_like:smollm3", "smollm3"),
    ("llama_like:helium", "helium"),
    ("llama_like:glm", "glm"),
    ("llama_like:glm4", "glm4"),
    ("llama_like:glm4v", "glm4v_text"),
    ("llama_like:glm_ocr", "glm_ocr_text"),
    ("llama_like:seed_oss", "seed_oss"),
    ("llama_like:ernie", "ernie4_5 paddleocr_vl_text"),
    ("llama_like:hunyuan", "hunyuan_v1_dense hunyuan_vl_text"),
    ("llama_like:granite", "granite granite4_vision_text granite_docling_text"),
    ("llama_like:granite_swa", "granite_swa"),
    ("llama_like:hyperclovax", "hyperclovax"),
    ("llama_like:olmo", "olmo"),
    ("llama_like:olmo2", "olmo2"),
    ("llama_like:olmo3", "olmo3"),
    ("llama_like:exaone4", "exaone4"),
    ("llama_like:stablelm", "stablelm"),
    ("llama_like:chameleon", "chameleon"),
    ("llama_like:molmo2", "molmo2_text"),
    ("llama_like:cohere", "cohere"),
    ("llama_like:cohere2", "cohere2"),
    ("llama_like:cohere_compass", "cohere_compass_text"),
    ("gemma:gemma", "gemma"),
    ("gemma:gemma2", "gemma2"),
    ("gemma:gemma3", "gemma3_text"),
    ("gemma:vaultgemma", "vaultgemma"),
    ("t5gemma:t5gemma", "t5gemma"),
    ("ungated:arcee", "arcee cosmos3_edge_text"),
    ("ungated:nemotron", "nemotron"),
    ("ungated:jais2", "jais2"),
    ("ungated:nanochat", "nanochat"),
    ("ungated:starcoder2", "starcoder2"),
    ("ungated:phi", "phi"),
    ("ungated:persimmon", "persimmon"),
    ("gpt_like:gpt2", "gpt2 gpt-sw3"),
    ("gpt_like:gpt_bigcode", "gpt_bigcode"),
    ("gpt_like:openai_gpt", "openai-gpt"),
    ("gpt_like:ctrl", "ctrl"),
    ("gpt_like:gpt_neo", "gpt_neo"),
    ("gpt_like:gptj", "gptj codegen"),
    ("gpt_like:gpt_neox", "gpt_neox"),
    ("gpt_like:gpt_neox_japanese", "gpt_neox_japanese"),
    ("gpt_like:bloom", "bloom"),
    ("gpt_like:falcon", "falcon"),
    ("gpt_like:mpt", "mpt"),
    ("gpt_like:opt", "opt"),
    ("gpt_like:biogpt", "biogpt"),
    ("gpt_like:xglm", "xglm"),
    ("t5:t5", "t5 mt5"),
    ("t5:umt5", "umt5"),
    ("moe:mixtral", "mixtral"),
    ("moe:minimax_m2", "minimax_m2"),
    ("moe:phimoe", "phimoe"),
    ("moe:qwen2_moe", "qwen2_moe"),
    ("moe:qwen3_moe", "qwen3_moe qwen3_vl_moe_text qwen3_omni_moe_text"),
    ("moe:mellum", "mellum"),
    ("moe:flint", "flint"),
    ("moe:olmoe", "olmoe"),
    ("moe:flex_olmo", "flex_olmo"),
    ("moe:granitemoe", "granitemoe granitemoeshared"),
    ("moe:granitemoe_swa", "granitemoe_swa"),
    ("moe:dbrx", "dbrx"),
    ("moe:gpt_oss", "gpt_oss"),
    ("shared_moe:glm4_moe", "glm4_moe glm4v_moe_text"),
    ("shared_moe:step3p5", "step3p5"),
    ("shared_moe:solar_open", "solar_open"),
    ("shared_moe:dots1", "dots1"),
    ("shared_moe:ernie4_5_moe", "ernie4_5_moe"),
    ("shared_moe:ernie4_5_vl", "ernie4_5_vl_moe_text ernie4_5_moe_vl"),
    ("moe:hunyuan_v1_moe", "hunyuan_v1_moe"),
    ("shared_moe:hy_v3", "hy_v3"),
    ("shared_moe:exaone_moe", "exaone_moe"),
    ("shared_moe:kolibri1", "kolibri1"),
    ("shared_moe:afmoe", "afmoe"),
    ("shared_moe:laguna", "laguna"),
    ("moe:aria_text", "aria_text"),
    ("shared_moe:cohere2_moe", "cohere2_moe"),
    ("shared_moe:minimax_m3", "minimax_m3_vl_text minimax_m3"),
    ("shared_moe:mimo_v2", "mimo_v2_flash mimo_v2"),
    ("shared_moe:beam", "beam"),
    ("mla:dense_mla", "youtu"),
    ("mla:minicpm3", "minicpm3"),
    ("mla:deepseek_v2", "deepseek_v2"),
    ("mla:deepseek_v3", "deepseek_v3 kimi_k2 glm4_moe_lite"),
    ("mla:mistral4", "mistral4"),
    ("mla:deepseek_v32", "deepseek_v32"),
    ("mla:glm_moe_dsa", "glm_moe_dsa"),
    ("deepseek_v4:deepseek_v4", "deepseek_v4"),
    ("mla:axk1", "axk1"),
    ("hybrid:bailing_hybrid", "bailing_hybrid"),
    ("hybrid:ring_linear", "bailing_moe_linear bailing_moe_linear_v2"),
    ("hybrid:falcon_h1", "falcon_h1"),
    ("gemma_next:gemma3n", "gemma3n_text"),
    ("gemma_next:gemma4", "gemma4_text gemma4_unified_text"),
    ("switch:switch", "switch_transformers"),
    ("mla:longcat_flash", "longcat_flash"),
    ("mla:hy_v4", "hy_v4 hy_v4_vl_text"),
    ("mla:dots3_note", "dots3_note_text"),
    ("zamba:zamba", "zamba"),
    ("zamba:zamba2", "zamba2"),
    ("hybrid:jamba", "jamba"),
    ("hybrid:bamba", "bamba"),
    ("hybrid:granitemoehybrid", "granitemoehybrid"),
    ("hybrid:nemotron_h", "nemotron_h"),
    ("hybrid:qwen3_next", "qwen3_next"),
    ("hybrid:qwen3_5", "qwen3_5_text"),
    ("hybrid:qwen3_5_moe", "qwen3_5_moe_text"),
    ("hybrid:olmo_hybrid", "olmo_hybrid"),
    ("hybrid:kimi_linear", "kimi_linear"),
    ("hybrid:minimax", "minimax minimax_text_01 minimax_m1"),
    ("lfm:lfm2", "lfm2"),
    ("lfm:lfm2_moe", "lfm2_moe"),
    ("lfm:lfm3", "lfm3"),
    ("recurrent:mamba1", "mamba"),
    ("recurrent:falcon_mamba", "falcon_mamba"),
    ("recurrent:mamba_2", "mamba2"),
    ("recurrent:rwkv", "rwkv"),
    ("recurrent:rwkv7", "rwkv7 rwkv7_fla"),
    ("recurrent:recurrent_gemma", "recurrent_gemma"),
    ("llama4:llama4", "llama4_text"),
    ("bert_like:bert", "bert"),
    ("bert_like:roberta", "roberta xlm-roberta camembert data2vec-text"),
    ("bert_like:prelayernorm", "roberta-prelayernorm"),
    ("bert_like:megatron", "megatron-bert"),
    ("bert_like:xlm_roberta_xl", "xlm-roberta-xl"),
    ("bert_like:ernie", "ernie"),
    ("bert_like:bert_generation", "bert-generation"),
    ("bert_like:electra", "electra"),
    ("bert_like:roformer", "roformer"),
    ("bert_like:rembert", "rembert"),
    ("bert_like:big_bird", "big_bird"),
    ("bert_like:longformer", "longformer"),
    ("bert_like:distilbert", "distilbert"),
    ("bert_like:xlm", "xlm"),
    ("bart_like:bart", "bart mvp plbart"),
    ("bart_like:mbart", "mbart"),
    ("bart_like:pegasus", "pegasus"),
    ("bart_like:marian", "marian"),
    ("bart_like:blenderbot", "blenderbot"),
    ("bart_like:blenderbot_small", "blenderbot-small"),
    ("bart_like:bigbird_pegasus", "bigbird_pegasus"),
    ("bart_like:m2m_100", "m2m_100"),
    ("bart_like:whisper", "whisper"),
    ("bart_like:trocr", "trocr"),
    ("odd_decoders:apertus", "apertus"),
    ("odd_decoders:bitnet", "bitnet"),
    ("odd_decoders:modernbert_decoder", "modernbert-decoder"),
    ("odd_decoders:modernbert", "modernbert"),
    ("odd_decoders:moshi", "moshi"),
    ("odd_decoders:mllama", "mllama_text_model"),
    ("odd_decoders:musicgen", "musicgen_decoder"),
    ("odd_decoders:musicgen_melody", "musicgen_melody_decoder"),
    ("bert_like:roc_bert", "roc_bert"),
    ("bert_like:xmod", "xmod"),
    ("odd_decoders:diffllama", "diffllama"),
    ("odd_decoders:doge", "doge"),
    ("odd_decoders:jetmoe", "jetmoe"),
    ("odd_decoders:apertus1p5", "apertus1p5_text"),
    ("mla:sarvam_mla", "sarvam_mla"),
    ("shared_moe:sarvam_moe", "sarvam_moe"),
    ("hybrid:lara_mini", "lara_mini"),
    ("beside:plain", "xverse skywork aquila Yi telechat3"),
    ("beside:telechat", "telechat"),
    ("beside:solar", "solar"),
    ("beside:phi3small", "phi3small"),
    ("beside:smallthinker", "smallthinker"),
    ("denoising:dream", "Dream"),
    ("denoising:sdar", "sdar"),
    ("denoising:sdar_moe", "sdar_moe"),
    ("denoising:llada", "llada"),
    ("denoising:llada_moe", "llada2_moe"),
    ("beside:internlm", "internlm internlm2 PanguEmbedded"),
    ("beside:baichuan", "baichuan"),
    ("beside:orion", "orion"),
    ("beside:minicpm", "minicpm"),
    ("beside:qwen", "qwen"),
    ("beside:mimo", "mimo"),
    ("beside:chatglm", "chatglm"),
    ("beside:deepseek", "deepseek deepseek_ocr2_text unlimited_ocr_text"),
    ("renamed:refined_web", "RefinedWeb RefinedWebModel"),
    ("renamed:stablelm_epoch", "stablelm_epoch"),
    ("renamed:hf_olmo", "hf_olmo"),
    ("renamed:jais", "jais"),
    ("renamed:molmo", "molmo"),
    ("big_moe:grok", "grok-1 grok grok-2"),
    ("big_moe:hunyuan_large", "hunyuan"),
    ("big_moe:arctic", "arctic"),
    ("big_moe:step3", "step3_text"),
    ("plamo:plamo2", "plamo2"),
    ("varied:nemotron_nas", "nemotron-nas"),
    ("varied:openelm", "openelm"),
    ("beside:bailing_moe", "bailing_moe bailing_moe_v2"),
    ("vision:vit", "vit"),
    ("vision:clip_vision_model", "clip_vision_model"),
    ("vision:clip_text_model", "clip_text_model"),
    ("vision:siglip_vision_model", "siglip_vision_model"),
    ("vision:siglip_text_model", "siglip_text_model"),
    ("vision:git", "git"),
)
"""Adapters by ``model_type``."""

TOWERS: Final[dict[str, str]] = registry(
    ("towers:clip", "clip"),
    ("towers:gemma3", "gemma3"),
    ("towers:gemma4", "gemma4"),
    ("towers:git", "git"),
    ("towers:internvl", "internvl"),
    ("towers:llama4", "llama4"),
    ("towers:llava", "llava"),
    ("towers:llava_next", "llava_next"),
    ("towers:mistral3", "mistral3"),
    ("towers:paligemma", "paligemma"),
    ("towers:qwen2_5_vl", "qwen2_5_vl"),
    ("towers:qwen2_audio", "qwen2_audio"),
    ("towers:qwen2_vl", "qwen2_vl"),
    ("towers:qwen3_5", "qwen3_5 qwen3_5_moe"),
    ("towers:qwen3_vl", "qwen3_vl qwen3_vl_moe"),
    ("towers:siglip", "siglip"),
    ("towers:voxtral", "voxtral"),
)
"""What adds the towers of a multimodal wrapper to its language model, by the wrapper's ``model_type``."""

TEXT_OF: Final[dict[str, str]] = {
    "gemma3": "gemma3_text",
    "mistral3": "mistral",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_omni_thinker": "qwen2",
    "qwen3_omni_moe_thinker": "qwen3_moe",
    "step3_vl": "step3_text",
    "step3p7": "step3p5",
    "kimi_vl": "deepseek_v3",
    "kimi_k25": "deepseek_v3",
    "deepseek_vl_v2": "deepseek_v2",
    "internvl_chat": "internlm2",
    "phi4mm": "phi3",
    "dots_ocr": "qwen2",
    "Keye": "qwen3",
    "KeyeVL1_5": "qwen3",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
    "llava_qwen2": "qwen2",
    "clip": "clip_text_model",
    "siglip": "siglip_text_model",
    "phi4_multimodal": "phi3",
    "phi3_v": "phi3",
    "minimax_m3_vl": "minimax_m3_vl_text",
}
"""Multimodal wrappers that may not say what their text model is: files without ``text_config.model_type``, and old
files that hold the keys of the text model beside the others."""


TIED_BY_EITHER: Final = (
    "glm4v", "glm4v_moe", "glm_ocr", "llava", "llava_onevision", "minimax_m3_vl", "paddleocr_vl",
    "qwen2_5_vl", "qwen2_vl", "video_llama_3",
)  # fmt: skip
"""Wrappers whose class ties the head where the file says so for the whole or for the text model."""


def adapter(model_type: str) -> Callable[[Config], Model]:
    """Import the adapter of a registered model type."""
    module, _, name = FAMILIES[model_type].partition(":")
    found: Callable[[Config], Model] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
    return found


def towers(model_type: str) -> Callable[[Config, Model], Model] | None:
    """Import what adds a wrapper's towers; None for types whose towers are not read."""
    if model_type not in TOWERS:
        return None
    module, _, name = TOWERS[model_type].partition(":")
    found: Callable[[Config, Model], Model] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
    return found


def near(model_type: str, known: Iterable[str] = FAMILIES) -> list[str]:
    """Return registered types that look like this one."""
    from difflib import get_close_matches

    return get_close_matches(model_type.lower(), sorted(known), n=3, cutoff=0.6)
