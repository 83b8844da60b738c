"""What the adapters share: activations, masks, the fold of a layer pattern into stacks, the head, the whole."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeVar

from calc.activations import Activation
from calc.embedding import Embedding, Head, NormSpec, Pooler
from calc.importers.huggingface.reader import Config
from calc.model import Encoder, Layer, Model, Stack

Kind = TypeVar("Kind", bound=Hashable)

ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_10": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "relu_squared": "relu2",
    "sigmoid": "sigmoid",
    "situ": "situ",
    "linear": "identity",
}
"""Names of transformers' ACT2FN, and Kimi K3's own."""

RMS: Final = NormSpec(kind="rms")
LAYER_NORM: Final = NormSpec(kind="layer", bias=True)


def activation(config: Config, *keys: str, default: str | None = None) -> Activation:
    """Return the feed-forward network's activation.

    Raises:
        ConfigError: it is not one that has a rule.
    """
    name = config.text(*keys, default=default)
    if name not in ACTIVATIONS:
        raise config.error(f"{config.path}{keys[0]} = {name[:40]!r} is not an activation that is understood")
    return ACTIVATIONS[name]


def fold(kinds: Sequence[Kind], layer: Callable[[Kind], Layer]) -> tuple[Stack, ...]:
    """Write a sequence of layers, one kind each, as repeated patterns: 26 layers of gemma3 are 4 × (5 + 1) and 2.

    ``layer`` makes the layer of a kind, once for each distinct one.
    """
    made = {kind: layer(kind) for kind in dict.fromkeys(kinds)}
    stacks: list[tuple[int, list[Kind]]] = []
    start = 0
    while start < len(kinds):
        period, repeat = _longest(kinds, start)
        pattern = list(kinds[start : start + period])
        if repeat == 1 and stacks and stacks[-1][0] == 1:
            stacks[-1][1].extend(pattern)
        else:
            stacks.append((repeat, pattern))
        start += period * repeat
    return tuple(Stack(repeat=repeat, layer=tuple(made[kind] for kind in pattern)) for repeat, pattern in stacks)


def _longest(kinds: Sequence[Hashable], start: int, longest_pattern: int = 24) -> tuple[int, int]:
    """Return the pattern at ``start`` that covers the most layers: (its length, how often it stands)."""
    best = (1, 1)
    for period in range(1, min(longest_pattern, (len(kinds) - start) // 2) + 1):
        end = start + period
        while end < len(kinds) and kinds[end] == kinds[end - period]:
            end += 1
        repeat = (end - start) // period
        if repeat > 1 and period * repeat > best[0] * best[1]:
            best = (period, repeat)
    return best


def has_head(config: Config) -> bool:
    """Tell from ``architectures`` whether the checkpoint has an output projection; a note where the file does not say.

    Raises:
        ConfigError: ``architectures`` is not a list of names.
    """
    names = config.items("architectures") or []
    if not all(isinstance(name, str) for name in names):
        raise config.error("architectures is not a list of names")
    if not names:
        return True
    name = names[0]
    if name.endswith("Model") and not name.endswith(("LMHeadModel", "DoubleHeadsModel", "MTModel")):
        config.note(f"{name} has no output projection")
        return False
    if name.endswith(("Classification", "QuestionAnswering", "MultipleChoice")):
        config.note(f"the head of {name} is not counted")
        return False
    return True


def head_size(config: Config, d_model: int, n_heads: int, key: str = "num_attention_heads") -> int:
    """Return ``head_dim``, or d_model / n_heads where the file does not say.

    Raises:
        ConfigError: there is a remainder.
    """
    return config.optional_size("head_dim") or config.divided(d_model, "hidden_size", n_heads, key)


def tied(config: Config) -> bool:
    """Return whether the head shares the embedding's table."""
    return config.flag("tie_word_embeddings")


def assemble(
    config: Config,
    *,
    d_model: int,
    stack: tuple[Stack, ...],
    embedding: Embedding | None = None,
    final_norm: NormSpec | None = None,
    head: Head | None = None,
    encoder: Encoder | None = None,
    pooler: Pooler | None = None,
    outside_source: bool = False,
    vocab_size: int | None = None,
    max_context: int | None = None,
) -> Model:
    """Put a model together; without a ``head`` of its own, the plain one, tied as the config says, if there is any."""
    head = head or Head(tied=tied(config))
    return Model(
        name=config.model_type,
        d_model=d_model,
        vocab_size=vocab_size or config.size("vocab_size"),
        max_context=max_context or config.optional_size("max_position_embeddings"),
        embedding=embedding or Embedding(),
        stack=stack,
        final_norm=final_norm,
        head=head if has_head(config) else None,
        encoder=encoder,
        pooler=pooler,
        outside_source=outside_source,
    )
