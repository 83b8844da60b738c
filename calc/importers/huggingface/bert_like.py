"""BERT and what has its shape: biased multi-head attention, a plain feed-forward network, LayerNorm.

``is_decoder`` makes a causal decoder of it, anything else is an encoder that sees both ways. The last part is read from
``architectures``: a language-model head (the default), none, a pooler, or a pooler with a classifier.
"""

from __future__ import annotations

from typing import Final, Literal

from calc.activations import Activation
from calc.attention.cross import CrossAttention
from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, Pooler
from calc.ffn import FeedForward
from calc.ffn.adapted import AdaptedFFN
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import LAYER_NORM, activation, has_head, tied
from calc.importers.huggingface.reader import Config
from calc.masks import Causal, Full, Mask
from calc.model import Layer, Model, Placement, Stack
from calc.records import replace

Outlet = Literal["lm", "model", "pretraining", "classifier", "none"]

UNREAD: Final = (
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type", "output_past",
)  # fmt: skip
"""Keys that old configs have and that transformers does not read."""

NEXT_SENTENCE: Final = 2
"""Answers of BERT's next-sentence head."""


def bert(config: Config) -> Model:
    """BERT: norms after each part, token types, a head with a square layer."""
    return _whole(config, _stack(config, "sum"), embedding=_embedding(config), pooled=True)


def roberta(config: Config) -> Model:
    """RoBERTa: its head's activation is fixed."""
    return _whole(config, _stack(config, "sum"), embedding=_embedding(config), head_act="gelu", pooled=True)


def prelayernorm(config: Config) -> Model:
    """RoBERTa with norms before each part (Fairseq's ``--encoder-normalize-before``)."""
    return _whole(
        config, _stack(config, "pre"), embedding=_embedding(config), head_act="gelu", pooled=True, final_norm=True
    )


def megatron(config: Config) -> Model:
    """Megatron-BERT: norms before each part, none after the embedding."""
    embedding = replace(_embedding(config), norm=None)
    return _whole(config, _stack(config, "pre"), embedding=embedding, pooled=True, final_norm=True)


def xlm_roberta_xl(config: Config) -> Model:
    """XLM-RoBERTa-XL: Megatron's layers with RoBERTa's head."""
    embedding = replace(_embedding(config), norm=None)
    return _whole(config, _stack(config, "pre"), embedding=embedding, head_act="gelu", pooled=True, final_norm=True)


def ernie(config: Config) -> Model:
    """ERNIE: BERT, with a second table of types where ``use_task_id`` says so."""
    embedding = _embedding(config)
    if config.flag("use_task_id", default=False):
        types = (embedding.n_token_types or 0) + config.size("task_type_vocab_size")
        config.note("task types are counted as rows of the token-type table")
        embedding = replace(embedding, n_token_types=types)
    config.ignore("task_type_vocab_size")
    return _whole(config, _stack(config, "sum"), embedding=embedding, pooled=True)


def roc_bert(config: Config) -> Model:
    """RoCBert: pronunciations and shapes of the characters beside the tokens."""
    for key in ("enable_pronunciation", "enable_shape", "concat_input"):
        if not config.flag(key):
            raise config.error(f"{key} = false is not supported for roc_bert")
    embedding = replace(
        _embedding(config),
        n_pronunciations=config.size("pronunciation_vocab_size"),
        d_pronunciation=config.size("pronunciation_embed_dim"),
        n_shapes=config.size("shape_vocab_size"),
        d_shape=config.size("shape_embed_dim"),
    )
    return _whole(config, _stack(config, "sum"), embedding=embedding, pooled=True)


def xmod(config: Config) -> Model:
    """X-MOD: RoBERTa with an adapter for each language after every feed-forward network."""
    d_model = config.size("hidden_size")
    languages = config.items("languages") or ["en_XX"]  # the class default
    norm: Literal["own", "reused"] = "own" if config.flag("adapter_layer_norm") else "reused"
    ffn = AdaptedFFN(
        d_ff=config.size("intermediate_size"),
        activation=activation(config, "hidden_act"),
        d_adapter=d_model // config.size("adapter_reduction_factor"),
        n_languages=len(languages),
        adapter_norm=norm if norm == "own" or config.flag("adapter_reuse_layer_norm") else None,
    )
    config.ignore("ln_before_adapter", "default_language", "adapter_reuse_layer_norm")
    pre = config.flag("pre_norm")
    stack = _stack(config, "pre" if pre else "sum", ffn=ffn)
    return _whole(config, stack, embedding=_embedding(config), head_act="gelu", pooled=True, final_norm=pre)


def bert_generation(config: Config) -> Model:
    """BertGeneration: BERT without token types, its head a plain projection with a bias."""
    head = Head(tied=tied(config), bias=True)
    return _whole(config, _stack(config, "sum"), embedding=_embedding(config, types=False), head=head)


def electra(config: Config) -> Model:
    """ELECTRA's generator or encoder: a narrow embedding, projected after its norm."""
    head_act: Activation = "gelu"
    return _whole(config, _stack(config, "sum"), embedding=_narrow(config), head_act=head_act)


def roformer(config: Config) -> Model:
    """RoFormer: rotary positions, from a table that the checkpoint stores."""
    d_model = config.size("hidden_size")
    head_dim = config.divided(d_model, "hidden_size", config.size("num_attention_heads"), "num_attention_heads")
    if config.flag("rotary_value", default=False):
        config.note("values are rotated too, which the count of all FLOPs leaves out")
    embedding = replace(_narrow(config), positions="none", rotary_dim=head_dim)
    return _whole(config, _stack(config, "sum", rotary_dim=head_dim), embedding=embedding)


def rembert(config: Config) -> Model:
    """RemBERT: a narrow embedding on the way in, a wide and untied one on the way out."""
    embedding = replace(
        _embedding(config),
        d_embedding=config.size("input_embedding_size"),
        projection_bias=True,
        project_last=True,
    )
    if tied(config):
        raise config.error("tie_word_embeddings = true is not supported for rembert: the two tables differ in width")
    head = replace(_head(config, "hidden_act", None), tied=False, d_embedding=config.size("output_embedding_size"))
    return _whole(config, _stack(config, "sum"), embedding=embedding, head=head, pooled=True)


def big_bird(config: Config) -> Model:
    """BigBird: BERT with block-sparse attention, and a pooler even under its language-model head."""
    from calc.sparse_masks import BigBird

    decodes = config.flag("is_decoder", default=False)
    kind = config.text("attention_type")
    if kind not in ("block_sparse", "original_full"):
        raise config.error(f"attention_type = {kind[:40]!r} is neither block_sparse nor original_full")
    mask: Mask | None = None
    if kind == "block_sparse":
        mask = BigBird(block_size=config.size("block_size"), n_random=config.count("num_random_blocks"))
        if decodes:
            config.note("block_sparse attention does not decode: full causal attention is counted")
            mask = None
    bias = config.flag("use_bias")
    embedding = _embedding(config, scaled=config.flag("rescale_embeddings", default=False))
    model = _whole(config, _stack(config, "sum", mask=mask, qkv_bias=bias), embedding=embedding, pooled=True)
    return replace(model, pooler=model.pooler or Pooler())


def longformer(config: Config) -> Model:
    """Longformer: RoBERTa whose positions see a band, a width for each layer; no position of a pass is global."""
    from calc.attention.longformer import Longformer

    config.ignore("onnx_export", "sep_token_id")
    (stack,) = _stack(config, "sum")
    base = stack.layer[0]
    assert isinstance(base.attention, GQA)
    n_layers, widths = stack.repeat, config.data.get("attention_window")
    if isinstance(widths, list):
        widths = config.items("attention_window", length=n_layers) or []
    else:
        widths = [config.size("attention_window")] * n_layers
    layers = []
    for value in widths:
        width = config.whole("attention_window", value, least=2)
        if width % 2:
            raise config.error(f"attention_window = {width} is odd: it has as many positions on each side")
        mixer = Longformer(n_heads=base.attention.n_heads, head_dim=base.attention.head_dim, window=width // 2)
        layers.append(replace(base, attention=mixer))
    same = len(set(layers)) == 1
    stacks = (Stack(repeat=n_layers, layer=(layers[0],)) if same else Stack(layer=tuple(layers)),)
    return _whole(config, stacks, embedding=_embedding(config), head_act="gelu", pooled=True)


def distilbert(config: Config) -> Model:
    """DistilBERT: half of BERT's layers, neither token types nor a pooler."""
    d_model = config.size("dim")
    n_heads = config.size("n_heads")
    act = activation(config, "activation")
    attention = GQA(
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=config.divided(d_model, "dim", n_heads, "n_heads"),
        qkv_bias=True,
        o_bias=True,
        mask=Full(),
    )
    ffn = DenseFFN(d_ff=config.size("hidden_dim"), activation=act, bias=True)
    layer = Layer(attention=attention, ffn=ffn, norm=LAYER_NORM, placement="sum")
    return Model(
        name=config.model_type,
        d_model=d_model,
        vocab_size=config.size("vocab_size"),
        max_context=config.size("max_position_embeddings"),
        embedding=Embedding(positions="learned", max_positions=config.size("max_position_embeddings"), norm=LAYER_NORM),
        stack=(Stack(repeat=config.layers("n_layers"), layer=(layer,)),),
        head=Head(tied=tied(config), bias=True, transform=act, transform_norm=LAYER_NORM) if has_head(config) else None,
    )


def xlm(config: Config) -> Model:
    """XLM: a table of languages where there are several, a plain head with a bias."""
    config.refuse("asm")
    d_model = config.size("emb_dim")
    n_heads = config.size("n_heads")
    n_langs = config.size("n_langs")
    attention = GQA(
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=config.divided(d_model, "emb_dim", n_heads, "n_heads"),
        qkv_bias=True,
        o_bias=True,
        mask=Causal() if config.flag("causal", default=False) else Full(),
    )
    act: Activation = "gelu" if config.flag("gelu_activation") else "relu"
    # the width of the feed-forward network is fixed: XLMModel's hidden_dim
    layer = Layer(
        attention=attention,
        ffn=DenseFFN(d_ff=4 * d_model, activation=act, bias=True),
        norm=LAYER_NORM,
        placement="sum",
    )
    config.ignore("sinusoidal_embeddings", "is_encoder", "start_n_top", "end_n_top", "lang_id", "mask_index")
    return Model(
        name=config.model_type,
        d_model=d_model,
        vocab_size=config.size("vocab_size"),
        max_context=config.size("max_position_embeddings"),
        embedding=Embedding(
            positions="learned",  # stored, sinusoidal ones too
            max_positions=config.size("max_position_embeddings"),
            n_token_types=n_langs if n_langs > 1 and config.flag("use_lang_emb") else None,
            norm=LAYER_NORM,
        ),
        stack=(Stack(repeat=config.layers("n_layers"), layer=(layer,)),),
        head=Head(tied=tied(config), bias=True) if has_head(config) else None,
    )


# ---- parts


def _embedding(config: Config, *, types: bool = True, scaled: bool = False) -> Embedding:
    return Embedding(
        positions="learned",
        max_positions=config.size("max_position_embeddings"),
        n_token_types=(config.count("type_vocab_size") or None) if types else None,
        norm=LAYER_NORM,
        scaled=scaled,
    )


def _narrow(config: Config) -> Embedding:
    """Return an embedding of ``embedding_size``, projected where that differs from the model's width."""
    d_model = config.size("hidden_size")
    width = config.size("embedding_size", default=d_model)
    if width == d_model:
        return _embedding(config)
    return replace(_embedding(config), d_embedding=width, projection_bias=True, project_last=True)


def _stack(
    config: Config,
    placement: Placement,
    *,
    mask: Mask | None = None,
    qkv_bias: bool = True,
    rotary_dim: int | None = None,
    ffn: FeedForward | None = None,
) -> tuple[Stack, ...]:
    """Return the layers; with cross-attention where a decoder is given it."""
    config.refuse("position_embedding_type", "absolute")
    d_model = config.size("hidden_size")
    n_heads = config.size("num_attention_heads")
    head_dim = config.divided(d_model, "hidden_size", n_heads, "num_attention_heads")
    decodes = config.flag("is_decoder", default=False)
    crosses = config.flag("add_cross_attention", default=False)
    if crosses and not decodes:
        raise config.error("add_cross_attention = true needs is_decoder = true")
    attention = GQA(
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        qkv_bias=qkv_bias,
        o_bias=True,
        rotary_dim=rotary_dim,
        mask=mask or (Causal() if decodes else Full()),
    )
    cross = CrossAttention(n_heads=n_heads, n_kv_heads=n_heads, head_dim=head_dim, qkv_bias=qkv_bias, o_bias=True)
    ffn = ffn or DenseFFN(d_ff=config.size("intermediate_size"), activation=activation(config, "hidden_act"), bias=True)
    layer = Layer(attention=attention, cross=cross if crosses else None, ffn=ffn, norm=LAYER_NORM, placement=placement)
    return (Stack(repeat=config.layers("num_hidden_layers"), layer=(layer,)),)


def _head(config: Config, act_key: str | None, act: Activation | None) -> Head:
    """Return the head with its transform."""
    transform = act or activation(config, act_key or "hidden_act")
    return Head(tied=tied(config), bias=True, transform=transform, transform_norm=LAYER_NORM)


def _whole(
    config: Config,
    stack: tuple[Stack, ...],
    *,
    embedding: Embedding,
    head: Head | None = None,
    head_act: Activation | None = None,
    pooled: bool = False,
    final_norm: bool = False,
) -> Model:
    """Put it together; ``pooled`` says whether the bare model has a pooler."""
    config.ignore(*UNREAD)
    outlet = _outlet(config)
    if outlet == "pretraining" and not pooled:
        config.note("the discriminator's head is not counted")
    head = head or replace(_head(config, "hidden_act", head_act), d_embedding=embedding.d_embedding)
    pooler: Pooler | None = None
    if outlet == "classifier":
        pooler = Pooler(n_labels=_labels(config))
    elif outlet == "pretraining" and pooled:
        pooler = Pooler(n_labels=NEXT_SENTENCE)
    elif outlet == "model" and pooled:
        pooler = Pooler()
    crosses = any(layer.cross for part in stack for layer in part.layer)
    if crosses:
        config.note("cross-attention reads another model's states: as many as a pass has source tokens")
    return Model(
        name=config.model_type,
        d_model=config.size("hidden_size"),
        vocab_size=config.size("vocab_size"),
        max_context=config.size("max_position_embeddings"),
        embedding=embedding,
        stack=stack,
        final_norm=LAYER_NORM if final_norm else None,
        head=head if outlet == "lm" or (outlet == "pretraining" and pooled) else None,
        pooler=pooler,
        outside_source=crosses,
    )


def _outlet(config: Config) -> Outlet:
    """Tell what follows the layers from the class's name."""
    names = config.items("architectures") or [""]
    name = names[0] if isinstance(names[0], str) else ""
    if name.endswith("ForPreTraining"):
        return "pretraining"
    if name.endswith("ForSequenceClassification"):
        return "classifier"
    if name.endswith("Encoder"):
        config.note(f"{name} has no output projection")
        return "model"
    if has_head(config):
        return "lm"
    return "model" if name.endswith("Model") else "none"


def _labels(config: Config) -> int:
    """Return the classes of a classifier: ``num_labels``, or the length of ``id2label``; two where neither stands."""
    labels = config.data.get("id2label")
    config.ignore("id2label", "label2id")
    return len(labels) if isinstance(labels, dict) and labels else config.size("num_labels", default=2)
