"""Gemma 1 to 3 and what descends from it."""

from __future__ import annotations

from calc.embedding import Embedding, Head
from calc.ffn.dense import DenseFFN
from calc.importers.huggingface.blocks import tied
from calc.importers.huggingface.decoder import attention, decoder, depth, feed_forward, masks
from calc.importers.huggingface.reader import Config
from calc.masks import Full
from calc.model import Model


def gemma_network(config: Config) -> DenseFFN:
    """Return the gated network; ``hidden_act`` of old files says gelu and means its tanh form."""
    if config.states("hidden_activation"):
        config.ignore("hidden_act")
        return feed_forward(config, bias=False, act="hidden_activation")
    key = "hidden_activation" if config.defaults.get("hidden_activation") else "hidden_act"
    return feed_forward(config, bias=False, act=key)


def gemma(config: Config) -> Model:
    """Read Gemma: Llama's layers, embeddings scaled by √d."""
    _sees_ahead(config)
    return decoder(config, attention(config), gemma_network(config), embedding=Embedding(scaled=True))


def gemma2(config: Config) -> Model:
    """Read Gemma 2: norms before and after, every second layer a window, scores and logits squashed."""
    return _alternating(config, every=2, sandwich=True)


def vaultgemma(config: Config) -> Model:
    """Read VaultGemma: Gemma 2 with norms before each part only."""
    return _alternating(config, every=2, sandwich=False)


def _sees_ahead(config: Config) -> None:
    """Refuse attention to both sides, but of PaliGemma, whose wrapper says which tokens see each other."""
    config.refuse("use_bidirectional_attention", *([True] if config.path else []))


def _alternating(config: Config, every: int, sandwich: bool) -> Model:
    _sees_ahead(config)
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % every != 0)
    return decoder(
        config,
        attention(config, softcap=squashed(config, "attn_logit_softcapping")),
        gemma_network(config),
        placement="both" if sandwich else "pre",
        layer_masks=layers,
        embedding=Embedding(scaled=True),
        head=Head(tied=tied(config), softcap=squashed(config, "final_logit_softcapping")),
    )


def gemma3(config: Config) -> Model:
    """Read Gemma 3: five window layers to one full, queries and keys normalised head by head; EmbeddingGemma too."""
    every = config.size("sliding_window_pattern", "_sliding_window_pattern", default=6)
    layers = masks(config, depth(config), config.size("sliding_window"), lambda index: (index + 1) % every != 0)
    if config.flag("use_bidirectional_attention", default=False):
        config.note("windows to both sides are counted as full attention: its FLOPs are upper bounds")
        layers = [Full()] * len(layers)
    return decoder(
        config,
        attention(config, qk_norm="rms", softcap=squashed(config, "attn_logit_softcapping")),
        gemma_network(config),
        placement="both",
        layer_masks=layers,
        embedding=Embedding(scaled=True),
        head=Head(tied=tied(config), softcap=squashed(config, "final_logit_softcapping")),
    )


def squashed(config: Config, key: str) -> bool:
    """Tell whether a cap is set; null is none."""
    if not config.states(key) and key in config.data:
        return False
    return config.number(key, default=0.0) > 0
