"""Decoders that differ from Llama's in one part: an activation, a norm, a gate, cross-attention, codebooks."""

from __future__ import annotations

from collections.abc import Sequence

from calc.attention.cross import CrossAttention
from calc.attention.differential import Differential
from calc.attention.dynamic import DynamicMask
from calc.attention.gqa import GQA
from calc.attention.moa import MoA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import LAYER_NORM, RMS, activation, assemble, fold, head_size, tied
from calc.importers.huggingface.decoder import attention, decoder, depth, feed_forward, key_value_heads, masks, width
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask, Window
from calc.model import Layer, Model, Stack
from calc.records import replace

XIELU_NUMBERS = 4
"""What xIELU stores in each layer: two that are learned, beta and epsilon."""

IMAGE_TOKENS = 8
"""Rows of Llama 3.2 Vision's embedding beyond the vocabulary."""


def apertus(config: Config) -> Model:
    """Read Apertus: queries and keys normed, a plain feed-forward network with xIELU."""
    ffn = DenseFFN(d_ff=config.size("intermediate_size"), activation="xielu", n_scalars=XIELU_NUMBERS)
    if config.text("hidden_act") != "xielu":
        ffn = feed_forward(config, gated=False, bias=False)
    return decoder(config, attention(config, qk_norm="rms"), ffn)


def apertus1p5(config: Config) -> Model:
    """Read Apertus 1.5's text model: Apertus with codes of images and sound in its vocabulary."""
    rows = config.optional_size("output_vocab_size")
    if rows not in (None, config.size("vocab_size")):
        raise config.error(f"output_vocab_size = {rows}: a head with fewer rows than the embedding is not supported")
    return apertus(config)


def bitnet(config: Config) -> Model:
    """Read BitNet b1.58: a norm before each of the two output projections."""
    ffn = replace(feed_forward(config, bias=False), inner_norm="rms")
    return decoder(config, attention(config, result_norm="rms"), ffn)


def modernbert_decoder(config: Config) -> Model:
    """Read ModernBERT's decoder: local layers, no norm before the first attention, BERT's head."""
    norm = NormSpec(kind="layer", bias=config.flag("norm_bias"))
    mixer = attention(config)
    ffn = feed_forward(config, act="hidden_activation")
    reach = config.size("local_attention", default=0) // 2
    window = config.optional_size("sliding_window") or reach or None
    every = config.size("global_attn_every_n_layers", default=3)
    layers = masks(config, depth(config), window, lambda index: index % every != 0)
    config.ignore("classifier_pooling", "deterministic_flash_attn", "sparse_prediction", "cls_token_id")
    return _modernbert(config, mixer, ffn, norm, layers)


def modernbert(config: Config) -> Model:
    """Read ModernBERT: its decoder's layers, seeing to both sides."""
    config.ignore("local_attention", "global_attn_every_n_layers", "layer_types", "sliding_window")
    config.ignore("classifier_pooling", "deterministic_flash_attn", "sparse_prediction", "cls_token_id")
    config.ignore("sparse_pred_ignore_index", "reference_compile", "repad_logits_with_grad", "position_embedding_type")
    config.note("windows to both sides are counted as full attention: its FLOPs are upper bounds")
    norm = NormSpec(kind="layer", bias=config.flag("norm_bias"))
    ffn = feed_forward(config, act="hidden_activation")
    return _modernbert(config, attention(config), ffn, norm, [Full()] * depth(config))


def _modernbert(config: Config, mixer: GQA, ffn: DenseFFN, norm: NormSpec, layers: Sequence[Mask]) -> Model:
    """Put ModernBERT together: no norm before the first attention, BERT's head."""

    def layer(kind: tuple[Mask, bool]) -> Layer:
        mask, normed = kind
        return Layer(attention=replace(mixer, mask=mask), ffn=ffn, norm=norm, attention_norm=normed)

    head = Head(
        tied=tied(config),
        bias=config.flag("decoder_bias"),
        transform=activation(config, "classifier_activation"),
        transform_bias=config.flag("classifier_bias"),
        transform_norm=norm,
    )
    return assemble(
        config,
        d_model=width(config),
        stack=fold([(mask, index > 0) for index, mask in enumerate(layers)], layer),
        embedding=Embedding(norm=norm),
        final_norm=norm,
        head=head,
    )


def moshi(config: Config) -> Model:
    """Read Moshi's text model: gate and up projection are one, and the table has a row for the start."""
    n_heads = config.size("num_attention_heads")
    head_dim = head_size(config, width(config), n_heads)
    joint = config.size("ffn_dim")
    config.ignore("num_codebooks", "audio_vocab_size", "audio_encoder_config", "depth_decoder_config")
    config.note("the text model of moshi alone: its audio encoder and depth decoder are not counted")
    mixer = GQA(
        n_heads=n_heads,
        n_kv_heads=key_value_heads(config, n_heads),
        head_dim=head_dim,
        rotary_dim=head_dim,
    )
    ffn = DenseFFN(
        d_ff=config.divided(joint, "ffn_dim", 2, "gate and up"), activation=activation(config, "hidden_act"), gated=True
    )
    window = config.optional_size("sliding_window")
    return decoder(
        config,
        mixer,
        ffn,
        layer_masks=[Window(window=window) if window else Causal()] * depth(config),
        embedding=Embedding(n_rows=config.size("vocab_size") + 1),
    )


def mllama(config: Config) -> Model:
    """Read the text model of Llama 3.2 Vision: some layers attend to the image in place of the text."""
    mixer = attention(config, qkv_bias=False, o_bias=False)
    ffn = feed_forward(config, bias=False)
    n_layers = depth(config)
    cross = CrossAttention(n_heads=mixer.n_heads, n_kv_heads=mixer.n_kv_heads, head_dim=mixer.head_dim, qk_norm="rms")
    image = Layer(cross=cross, ffn=ffn, norm=RMS, gate="scalar")
    crossing = config.positions("cross_attention_layers")
    if not crossing <= set(range(n_layers)):
        raise config.error("cross_attention_layers names layers that are not there")
    config.note("image layers read the image encoder's states: as many as a pass has source tokens")
    return assemble(
        config,
        d_model=width(config),
        stack=fold(
            [index in crossing for index in range(n_layers)],
            lambda crosses: image if crosses else Layer(attention=mixer, ffn=ffn, norm=RMS),
        ),
        embedding=Embedding(n_rows=config.size("vocab_size") + IMAGE_TOKENS),
        final_norm=RMS,
        outside_source=bool(crossing),
    )


def diffllama(config: Config) -> Model:
    """Read DiffLlama: Llama with differential attention."""
    mixer = attention(config)
    config.divided(mixer.n_kv_heads, "num_key_value_heads", 2, "the two softmaxes")
    differential = Differential(
        n_heads=mixer.n_heads,
        n_kv_heads=mixer.n_kv_heads,
        head_dim=mixer.head_dim,
        qkv_bias=mixer.qkv_bias,
        o_bias=mixer.o_bias,
        rotary_dim=mixer.rotary_dim,
    )
    return _uniform(config, Layer(attention=differential, ffn=feed_forward(config, bias=False), norm=RMS))


def doge(config: Config) -> Model:
    """Read Doge: a mask made from the values, a learned factor for each channel of the residual."""
    config.refuse("is_moe")
    config.ignore("num_experts", "num_experts_per_tok", "norm_topk_prob")
    config.refuse("sliding_window")
    mixer = attention(config)
    dynamic = DynamicMask(
        n_heads=mixer.n_heads,
        n_kv_heads=mixer.n_kv_heads,
        head_dim=mixer.head_dim,
        n_selected=config.size("keep_window_size"),
        bias=mixer.qkv_bias,
        rotary_dim=mixer.rotary_dim,
    )
    return _uniform(config, Layer(attention=dynamic, ffn=feed_forward(config), norm=RMS, gate="channel"))


def jetmoe(config: Config) -> Model:
    """Read JetMoE: experts in the attention and in the feed-forward network."""
    n_experts, used = config.size("num_local_experts"), config.size("num_experts_per_tok")
    n_kv_heads, head_dim = config.size("num_key_value_heads"), config.size("kv_channels")
    if config.size("num_attention_heads", default=used * n_kv_heads) != used * n_kv_heads:
        raise config.error("num_attention_heads is not num_experts_per_tok · num_key_value_heads")
    mixer = MoA(
        n_experts=n_experts, n_active_experts=used, n_kv_heads=n_kv_heads, head_dim=head_dim, rotary_dim=head_dim
    )
    ffn = MoE(
        n_experts=n_experts,
        n_active_experts=used,
        d_expert=config.size("intermediate_size"),
        activation=activation(config, "activation_function"),
        scores_of="chosen",
        output_bias=True,
    )
    return _uniform(config, Layer(attention=mixer, ffn=ffn, norm=RMS))


def _uniform(config: Config, layer: Layer) -> Model:
    stack = (Stack(repeat=depth(config), layer=(layer,)),)
    return assemble(config, d_model=width(config), stack=stack, final_norm=RMS)


def musicgen(config: Config) -> Model:
    """Read MusicGen's decoder: four codebooks a position, cross-attention to the text encoder's states."""
    return _musicgen(config, crosses=True)


def musicgen_melody(config: Config) -> Model:
    """Read MusicGen Melody's decoder: the text stands before the music, so that there is no cross-attention."""
    return _musicgen(config, crosses=False)


def _musicgen(config: Config, crosses: bool) -> Model:
    d_model = config.size("hidden_size")
    n_heads = config.size("num_attention_heads")
    head_dim = config.divided(d_model, "hidden_size", n_heads, "num_attention_heads")
    books = config.size("num_codebooks")
    vocab_size = config.size("vocab_size")
    config.refuse("tie_word_embeddings")
    layer = Layer(
        attention=GQA(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim),
        cross=CrossAttention(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim) if crosses else None,
        ffn=DenseFFN(d_ff=config.size("ffn_dim"), activation=activation(config, "activation_function")),
        norm=LAYER_NORM,
    )
    config.ignore("audio_channels")
    if crosses:
        config.note("cross-attention reads another model's states: as many as a pass has source tokens")
    return assemble(
        config,
        d_model=d_model,
        stack=(Stack(repeat=config.layers("num_hidden_layers"), layer=(layer,)),),
        embedding=Embedding(
            positions="sinusoidal",
            n_rows=vocab_size + 1,
            n_codebooks=books,
            scaled=config.flag("scale_embedding", default=False),
        ),
        final_norm=LAYER_NORM,
        head=Head(n_codebooks=books),
        outside_source=crosses,
    )
