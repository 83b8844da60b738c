"""Which causal language models of transformers the importer reads, and how far it is proven for each.

The list is that of ``MODEL_FOR_CAUSAL_LM_MAPPING_NAMES`` of transformers 5.24. The tests compare every type that counts
as exact with the library: all parameters and persistent buffers of its default configuration, on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from calc.importers.huggingface.registry import FAMILIES
from calc.records import Record, record

Status = Literal["exact", "exact, text model", "exact, default completed", "not yet"]

_TYPES: Final = """
    afmoe apertus apertus1p5_text arcee aria_text axk1 axk2 bailing_hybrid bamba bart beam bert bert-generation
    big_bird bigbird_pegasus biogpt bitnet blenderbot blenderbot-small bloom blt camembert codegen cohere cohere2
    cohere2_moe cohere_compass_text cpmant ctrl cwm data2vec-text dbrx deepseek_v2 deepseek_v3 deepseek_v32
    deepseek_v4 diffllama doge dory dots1 dots3_note dots3_note_text electra emu3 ernie ernie4_5 ernie4_5_moe exaone
    exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint fuyu gemma gemma2 gemma3 gemma3_text gemma3n
    gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified gemma4_unified_assistant gemma4_unified_text git
    glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese
    gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text
    hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling2_loop_text inkling2_text inkling_text internlm3
    iquestcoder jais2 jamba jetmoe kimi_linear kolibri1 laguna lara_mini lfm2 lfm2_moe lfm3 llama llama4 llama4_text
    longcat_flash mamba mamba2 marian mbart megatron-bert mellum mimo_v2_flash minicpm3 minimax minimax_m2
    minimax_m3_vl_text ministral ministral3 mistral mixtral mllama modernbert-decoder moshi moss_transcribe_diarize
    mpt musicgen musicgen_melody mvp nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt
    pegasus persimmon phi phi3 phi4_multimodal phimoe plbart prophetnet qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe
    qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma reformer rembert
    roberta roberta-prelayernorm roc_bert roformer rwkv sarvam_mla sarvam_moe seed_oss smollm3 solar_open stablelm
    starcoder2 trocr vaultgemma whisper xglm xlm xlm-roberta xlm-roberta-xl xlnet xlstm xmod youtu zamba zamba2 zaya
"""

CAUSAL_LM: Final = tuple(_TYPES.split())
"""Model types, as ``model_type`` of a config.json."""

TEXT_ONLY: Final[dict[str, str]] = {
    "fuyu": "image patches pass one more linear layer",
    "gemma3": "its image encoder stands apart, as a tower",
    "gemma3n": "its image and audio encoders are not counted",
    "git": "its image encoder stands apart, as a tower",
    "got_ocr2": "its image encoder is not counted",
    "moss_transcribe_diarize": "its audio encoder is not counted",
    "phi4_multimodal": "its image and audio encoders are not counted",
}
"""Wrappers whose class in the library holds encoders too: the text model alone is read, and says so in a note."""

COMPLETED: Final[dict[str, str]] = {
    "cohere_compass_text": "rope_parameters has no entry for its layer types",
    "dbrx": "the library forgets attn_config.rope_theta",
    "deepseek_v2": "num_experts_per_tok is null",
    "dots1": "n_routed_experts, n_shared_experts and num_experts_per_tok are null",
    "hunyuan_v1_dense": "head_dim is null",
    "hunyuan_v1_moe": "head_dim is null",
    "lfm2_moe": "layer_types is null",
    "ministral": "head_dim is null",
    "musicgen": "the whole model's configuration is given to the decoder's class",
    "musicgen_melody": "the whole model's configuration is given to the decoder's class",
    "nemotron": "num_key_value_heads is null",
}
"""Types whose default configuration is no model in the library: proven with what is missing filled in."""

APART: Final[dict[str, str]] = {
    "longcat_flash": "less the rows that the library keeps for experts that do nothing",
    "minimax": "less the decays of its linear attention, constants that published checkpoints do not hold",
}
"""Types for which the library stores more than a checkpoint needs."""

NOT_YET: Final[dict[str, str]] = {
    "axk2": "gated norms, and queries gated through their latent",
    "blt": "bytes grouped into patches by a model of their own",
    "cpmant": "prompt vectors and segments as positions of their own",
    "dory": "layers run several times in turn, vectors of length 1, learned factors of many parts",
    "gemma4_assistant": "a draft model that reads another model's cache; the library cannot build its default either",
    "gemma4_unified_assistant": "a draft model that reads another model's cache; the library cannot build its default",
    "hrm_text": "two stacks that run several times in turn",
    "inkling2_loop_text": "layers run several times in turn, dynamic convolutions, relative logits",
    "inkling2_text": "dynamic convolutions on keys, values and residuals, relative logits",
    "inkling_text": "convolutions on keys, values and residuals, relative logits",
    "prophetnet": "several streams of predictions per token",
    "qwen4_exp": "low-rank hyper-connections, compressed indexers; the library's default does not build",
    "qwen4_exp_text": "low-rank hyper-connections, compressed indexers; the library's default does not build",
    "reformer": "attention by locality-sensitive hashing, reversible layers",
    "xlnet": "two streams of attention with relative positions",
    "xlstm": "matrix memories with exponential gates",
    "zaya": "convolved queries and keys, a router that is a network",
}
"""What is missing, by model type."""


@record
class Coverage(Record):
    """One model type: how far the importer's answer is proven, and what there is to say about it."""

    model_type: str
    status: Status
    remark: str = ""


def coverage() -> Iterator[Coverage]:
    """Yield every causal model type of the library, with its status.

    >>> {row.model_type: row.status for row in coverage()}["llama"]
    'exact'
    """
    for model_type in CAUSAL_LM:
        if model_type in NOT_YET:
            yield Coverage(model_type, "not yet", NOT_YET[model_type])
        elif model_type in TEXT_ONLY:
            yield Coverage(model_type, "exact, text model", TEXT_ONLY[model_type])
        elif model_type in COMPLETED:
            yield Coverage(model_type, "exact, default completed", f"default: {COMPLETED[model_type]}")
        else:
            read_as = "" if model_type in FAMILIES else "its text model"
            yield Coverage(model_type, "exact", APART.get(model_type, read_as))
