"""The legend: the only place where a letter, its name, its symbol and its meaning meet.

Operation tables write einsums over single letters. A mechanism binds the letters it uses to its fields, by the names
given here; a pass binds ``b``, ``t``, ``s`` and ``m``; a model binds ``d`` and ``v``.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from calc.records import Record, record

Axis: TypeAlias = Literal["", "tp", "rest", "expert_tp", "ep", "vocab"]


@record
class Dim(Record):
    """One named dimension of the tables."""

    letter: str
    name: str
    symbol: str
    """LaTeX, as papers write it."""
    meaning: str
    derived: str = ""
    """How a formula writes it when it is not a symbol of its own, as numerator/denominator letters."""
    axis: Axis = ""
    """Which degree of parallelism divides it: tensor parallelism (``tp``), what another letter leaves of it whose
    ``rest`` this is, that of the routed experts (``expert_tp``), expert parallelism where a router chooses (``ep``), or
    tensor parallelism after padding (``vocab``). Empty: every rank has all of it."""
    rest: str = ""
    """The letter that takes the remaining degree where this one is smaller than it: each of its values then stands on
    several ranks (key-value heads)."""


LEGEND: Final[dict[str, Dim]] = {
    dim.letter: dim
    for dim in (
        Dim("b", "batch", "b", "sequences in the pass"),
        Dim("t", "tokens", "t", "new tokens of each sequence in the pass (queries)"),
        Dim("s", "context", "s", "keys visible to the last query: the context including the new tokens"),
        Dim("m", "source", "m", "tokens on the encoder's side of a sequence"),
        Dim("d", "d_model", r"d", "width of the residual stream"),
        Dim("o", "d_model", r"d", "the same width, where a square map needs it twice", derived="d"),
        Dim("v", "vocab_size", "V", "rows of the embedding table", axis="vocab"),
        Dim(
            "X",
            "d_embedding",
            "d_e",
            "width of the embedding table where it differs from d_model",
        ),
        Dim("ν", "n_labels", r"n_\text{labels}", "answers of a classifier over a sequence"),
        Dim(
            "Δ",
            "n_rows",
            r"n_\text{rows}",
            "rows of the embedding table where they are not the vocabulary's",
            axis="vocab",
        ),
        Dim(
            "κ",
            "n_codebooks",
            r"n_\text{books}",
            "tokens of one position, each of a codebook of its own",
        ),
        Dim("η", "n_mels", r"n_\text{mel}", "bands of a spectrogram's frame"),
        Dim("ψ", "frames_per_position", r"\psi", "frames that one position stands for"),
        Dim("φ", "n_scalars", r"n_\phi", "numbers that an activation or a gate stores"),
        Dim("θ", "n_languages", r"n_\theta", "languages that have an adapter"),
        Dim("ω", "n_active_languages", r"n_\omega", "languages of one token"),
        Dim("ι", "d_adapter", r"d_\iota", "width of a language's adapter"),
        Dim("α", "n_pronunciations", r"n_\alpha", "rows of a table of pronunciations"),
        Dim("β", "d_pronunciation", r"d_\beta", "width of that table"),
        Dim("Γ", "n_shapes", r"n_\Gamma", "rows of a table of the shapes of characters"),
        Dim("Ξ", "d_shape", r"d_\Xi", "width of that table"),
        Dim("L", "max_positions", r"L_{\max}", "rows of a learned position table"),
        Dim("T", "n_token_types", r"n_\text{types}", "rows of a token-type table"),
        Dim(
            "B",
            "n_buckets",
            r"n_\text{buckets}",
            "buckets of relative positions",
        ),
        Dim("f", "d_ff", r"d_\text{ff}", "hidden width of the feed-forward network", axis="tp"),
        Dim("a", "n_heads", "h", "query heads", axis="tp"),
        Dim("k", "n_kv_heads", r"h_\text{kv}", "key and value heads", axis="tp", rest="g"),
        Dim(
            "δ",
            "n_kv_heads",
            r"h_\text{kv}",
            "the same heads, where a map needs them twice",
            derived="k",
        ),
        Dim("g", "group_size", "g", "query heads that share one key-value head", derived="a/k", axis="rest"),
        Dim("h", "head_dim", r"d_h", "width of a query and key head"),
        Dim("p", "v_head_dim", r"d_v", "width of a value head"),
        Dim("W", "d_source", "d_m", "width of the encoder's states, where it differs"),
        Dim("r", "rotary_dim", r"d_r", "dimensions of a head that are rotated"),
        Dim("w", "window", "w", "positions a sliding window or a chunk reaches"),
        Dim("e", "n_experts", "E", "routed experts", axis="ep"),
        Dim("j", "n_active_experts", "k", "routed experts that one token uses"),
        Dim("x", "d_expert", r"d_x", "hidden width of one expert", axis="expert_tp"),
        Dim(
            "y",
            "d_shared",
            r"d_s",
            "hidden width of all shared experts together",
            axis="tp",
        ),
        Dim("σ", "n_sinks", r"n_\text{sink}", "first positions that a budgeted cache keeps"),
        Dim("χ", "n_heavy", r"n_\text{heavy}", "much-attended positions that a budgeted cache keeps"),
        Dim("ζ", "skew", r"\zeta", "Zipf exponent of the experts' popularity in a pass"),
        Dim("ε", "n_routes", r"E_0", "experts that a router chooses from, with those that do nothing"),
        Dim("λ", "d_latent", r"d_\ell", "width that tokens are projected to before the experts"),
        Dim("γ", "router_groups", r"n_\gamma", "groups of experts that routing is limited to a few of"),
        Dim("c", "kv_lora_rank", r"d_c", "width of the latent that stands for keys and values"),
        Dim("q", "q_lora_rank", r"d'_c", "width of the latent that stands for queries"),
        Dim("n", "qk_nope_head_dim", r"d_n", "unrotated width of a query and key head"),
        Dim("A", "n_key_heads", r"h_k", "query and key heads of a delta-rule layer", axis="tp"),
        Dim("V", "n_value_heads", r"h_v", "value heads of a delta-rule layer", axis="tp"),
        Dim("Ц", "decay_rank", r"r_w", "width between the two factors of a low-rank decay"),
        Dim("Ю", "rate_rank", r"r_\alpha", "width between the two factors of a low-rank rate of learning"),
        Dim("Я", "value_rank", r"r_v", "width between the two factors of a low-rank mix of values"),
        Dim("F", "gate_rank", r"r_g", "width between the two factors of a low-rank gate"),
        Dim("H", "n_ssm_heads", r"h_s", "heads of a state-space layer", axis="tp"),
        Dim("P", "ssm_head_dim", r"d_p", "width of a head of a state-space layer"),
        Dim(
            "G",
            "n_groups",
            r"n_g",
            "groups that share the input and output maps of the state",
            axis="tp",
            rest="H",
        ),
        Dim("N", "d_state", r"N", "width of the recurrent state, for each channel"),
        Dim("I", "d_inner", r"d_i", "channels of a recurrent layer", axis="tp"),
        Dim("R", "dt_rank", r"r_\Delta", "rank of the time step's projection"),
        Dim("K", "conv_kernel", r"K", "taps of a short causal convolution"),
        Dim("Q", "chunk_size", r"Q", "positions that a recurrence handles at once in prefill"),
        Dim("u", "conv_past", r"K^-", "inputs that a convolution remembers, K − 1"),
        Dim("J", "n_selected", r"k_\text{sel}", "keys or blocks that a query selects"),
        Dim("i", "n_index_heads", r"h^I", "heads of the indexer that selects keys"),
        Dim("z", "index_head_dim", r"d^I", "width of a head of the indexer"),
        Dim("l", "stride", r"\ell", "distance from one global position to the next"),
        Dim("U", "n_global", r"n_\text{glob}", "first positions that see all and are seen by all"),
        Dim("Z", "block_size", r"B", "positions of one block of a block-sparse pattern"),
        Dim("M", "n_random", r"n_\text{rand}", "random blocks that a block of queries sees"),
        Dim("C", "compress_block", r"l_c", "positions that one compressed entry stands for"),
        Dim("D", "compress_stride", r"m_c", "distance from one compressed entry to the next"),
        Dim("Φ", "head_dim", r"d_h", "the same width, where a map leads from it to itself", derived="h"),
        Dim("Σ", "v_head_dim", r"d_v", "the same width, where a map leads from it to itself", derived="p"),
        Dim("S", "o_lora_rank", r"d_g", "width of one group's output latent"),
        Dim("O", "o_groups", r"g_o", "groups of heads that share an output projection", axis="tp"),
        Dim("E", "heads_per_group", r"h_g", "heads of one such group", derived="a/O"),
        Dim("Y", "n_streams", r"n_{hc}", "residual streams of hyper-connections"),
        Dim("Θ", "n_streams", r"n_{hc}", "the same streams, where a square map needs them twice", derived="Y"),
        Dim("Ω", "n_mixes", r"n_{mix}", "coefficients of a hyper-connection, (2 + n_hc)·n_hc"),
        Dim("τ", "n_copies", r"n_{hc}^-", "streams beyond the first"),
        Dim("π", "d_per_layer", r"d_\pi", "width of a layer's own vector of a token"),
        Dim("Λ", "n_fed_layers", r"n_\pi", "layers with a vector of their own for each token"),
        Dim(
            "Ψ",
            "per_layer_vocab",
            r"V_\pi",
            "rows of the table of those vectors",
            axis="vocab",
        ),
        Dim("Π", "n_inputs", r"n_\text{in}", "vectors that stand side by side in a block's input"),
        Dim("П", "patch_size", "P", "pixels along a side of an image patch"),
        Dim("п", "patch_size", "P", "the other side of a patch", derived="П"),
        Dim("ς", "n_channels", r"n_\text{ch}", "numbers of a pixel"),
        Dim("ϑ", "frames_per_patch", r"P_t", "frames of a video that one patch spans"),
        Dim("ϖ", "n_prefix", r"n_\text{pre}", "learned positions beside the patches: a class token, registers"),
        Dim("Ж", "n_merged", r"n_\mu", "patches that become one token"),
        Dim("ϵ", "grid_width", "W", "patches in a row of an image"),
        Dim("ϰ", "window_side", r"w_\square", "patches along a side of a square window"),
        Dim("ø", "d_out", r"d_\text{out}", "width of what a projector hands on"),
        Dim("ħ", "d_middle", r"d_\text{mid}", "width between the second and the third map of a projector"),
        Dim("æ", "d_projection", r"d_\text{joint}", "width of the space that texts and images share"),
        Dim("υ", "adapter_rank", r"r_a", "rank of a low-rank adapter"),
        Dim("ρ", "expert_ranks", r"\rho", "ranks that share the routed experts (expert parallelism)"),
        Dim("μ", "context_ranks", r"\mu", "ranks that share a sequence (context parallelism)"),
        Dim("ξ", "laurel_rank", r"r_\ell", "rank of a learned augmented residual"),
    )
}

BY_NAME: Final[dict[str, Dim]] = {dim.name: dim for dim in LEGEND.values() if dim.derived not in LEGEND}
