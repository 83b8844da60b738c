"""Keys of a config.json that change no parameter, no FLOP of a matrix product and no byte of a cache."""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = """
    model_type architectures torch_dtype dtype _name_or_path transformers_version auto_map is_decoder use_cache
    _attn_implementation _attn_implementation_autoset attn_implementation _experts_implementation
    quantization quantization_config compression_config is_encoder_decoder
    chunk_size_feed_forward gradient_checkpointing return_dict output_attentions output_hidden_states pruned_heads
    torchscript tf_legacy_loss use_bfloat16 problem_type id2label label2id num_labels finetuning_task
    task_specific_params tokenizer_class prefix add_cross_attention cross_attention_hidden_size tie_encoder_decoder
    temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_beams num_beam_groups diversity_penalty num_return_sequences
    do_sample early_stopping max_length min_length remove_invalid_values exponential_decay_length_penalty
    return_dict_in_generate output_scores forced_bos_token_id forced_eos_token_id suppress_tokens
    begin_suppress_tokens decoder_start_token_id pretraining_tp slow_but_exact init_device attn_pdrop resid_pdrop
    embd_pdrop emb_pdrop layerdrop initializer_factor initializer_cutoff_factor init_std embed_init_std
    lambda_std_dev scale_attn_weights scale_attn_by_inverse_layer_idx reorder_and_upcast_attn
    attention_softmax_in_fp32 scale_attention_softmax_in_fp32 upcast_attn residual_in_fp32 mamba_ssm_cache_dtype
    hidden_act_param rotary_emb_base rotary_base seq_length num_logits_to_keep logits_to_keep
    keys_to_ignore_at_inference
    n_ctx full_attn_mod gpt_j_residual use_flash_attn use_flash_attention flash_attn fused_mlp fused_bias_fc
    apply_query_key_layer_scaling masked_softmax_fusion hidden_dropout dropout_p swiglu_limit swiglu_alpha
    rescale_prenorm_residual bias_dropout_fusion n_shared_head offset_alibi unk_index vocabulary_map clip_qkv
    original_max_position_embeddings use_mem_eff_path time_step_limit time_step_min time_step_max time_step_floor
    neftune_noise_alpha unsloth_version unsloth_fixed ollama name title
    partial_rotary_factor query_pre_attn_scalar attention_multiplier embedding_multiplier final_w_init_variance_scale
    relative_attention_max_distance num_image_tokens aux_loss_alpha seq_aux
"""

NAMES: Final = frozenset(_NAMES.split())

PATTERN: Final = re.compile(
    r"(.*_)?(token_ids?|token_index|dropout|dropout_prob|dropout_rate|layerdrop|eps|epsilon|initializer_range"
    r"|init_std|coef|jitter_noise)"
    r"|(layer_)?rope_.*|yarn_.*|summary_.*|mask_(time|feature)_.*|problem_.*|initializer_.*"
)
"""Token ids, dropout, epsilons, initialisation, loss coefficients, rotary frequencies."""


def is_harmless(key: str, value: object = None) -> bool:
    """Tell whether a key can be passed over without a word; the lack of a bias that nobody asked about can.

    >>> is_harmless("rms_norm_eps"), is_harmless("rope_scaling"), is_harmless("n_experts")
    (True, True, False)
    """
    return key in NAMES or PATTERN.fullmatch(key) is not None or (value is False and key.endswith("bias"))
