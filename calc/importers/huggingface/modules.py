"""What published checkpoints call the modules that hold a table's weights, and which of them a list of names means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from calc.layers import Block
from calc.schemes import Tensor

_ATTENTION: Final = ("self_attn", "attn", "attention", "self_attention", "mixer")
_MIXERS: Final[dict[str, tuple[str, ...]]] = {
    "gated_delta": ("linear_attn", "mixer"),
    "kda": ("self_attn", "linear_attn"),
    "mamba": ("mixer", "mamba"),
    "mamba2": ("mixer", "mamba"),
    "rglru": ("temporal_block",),
}
"""Containers of a mixer's projections, by its kind."""

_FFN: Final = ("mlp", "block_sparse_moe", "feed_forward", "ffn", "mixer", "moe")
_SHARED: Final = ("shared_expert", "shared_experts", "shared_mlp")
_ROUTERS: Final = ("gate", "router", "router.proj", "router.classifier", "gate.wg")

_IN: Final = ("in_proj",)
_LEAVES: Final[dict[str, tuple[str, ...]]] = {
    "q_proj": ("q_proj", "qkv_proj", "in_proj_qkv", "in_proj_qkvz", "query_key_value", "wq"),
    "k_proj": ("k_proj", "qkv_proj", "in_proj_qkv", "in_proj_qkvz", "query_key_value", "wk"),
    "v_proj": ("v_proj", "qkv_proj", "in_proj_qkv", "in_proj_qkvz", "query_key_value", "wv"),
    "o_proj": ("o_proj", "out_proj", "dense", "wo"),
    "z_proj": ("in_proj_z", "in_proj_qkvz"),
    "a_proj": ("in_proj_a", "in_proj_ba"),
    "b_proj": ("b_proj", "in_proj_b", "in_proj_ba"),
    "q_nope": ("q_b_proj", "q_proj", "wq_b"),
    "q_rope": ("q_b_proj", "q_proj", "wq_b"),
    "q_a_proj": ("q_a_proj", "wq_a"),
    "q_b_proj": ("q_b_proj", "wq_b"),
    "kv_a_proj": ("kv_a_proj_with_mqa",),
    "k_rope": ("kv_a_proj_with_mqa",),
    "k_b": ("kv_b_proj",),
    "v_b": ("kv_b_proj",),
    "q_absorbed": ("kv_b_proj",),
    "values": ("kv_b_proj",),
    "kv_proj": ("kv_proj", "wkv"),
    "o_a_proj": ("o_a_proj", "wo_a"),
    "o_b_proj": ("o_b_proj", "wo_b"),
    "index_q": ("indexer.wq_b", "index_q_proj"),
    "index_k": ("indexer.wk", "index_k_proj"),
    "index_weights": ("indexer.weights_proj", "indexers_proj"),
    "index_head_weights": ("indexer.weights_proj",),
    "index_kv": ("indexer.compressor.wkv",),
    "index_next_kv": ("indexer.compressor.wkv",),
    "index_gate": ("indexer.compressor.wgate",),
    "index_next_gate": ("indexer.compressor.wgate",),
    "compress_kv": ("compressor.wkv",),
    "compress_next_kv": ("compressor.wkv",),
    "compress_gate": ("compressor.wgate",),
    "compress_next_gate": ("compressor.wgate",),
    "up_proj": ("up_proj", "w3", "gate_up_proj", "fc1", "c_fc", "dense_h_to_4h"),
    "down_proj": ("down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h"),
    "latent_down_proj": ("fc1_latent_proj", "routed_expert_down_proj"),
    "latent_up_proj": ("fc2_latent_proj", "routed_expert_up_proj"),
    "tokens": ("embed_tokens", "embeddings", "wte", "tok_embeddings", "embed"),
    "lm_head": ("lm_head", "head", "output", "embed_out"),
}
"""Names of the modules of an operation's weight, where they are not just its own; several operations may share one."""

_OF_KIND: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "mamba": {"x_proj": _IN, "z_proj": _IN, "dt_low": ("x_proj",), "b_proj": ("x_proj",), "c_proj": ("x_proj",)},
    "mamba2": dict.fromkeys(("x_proj", "z_proj", "b_proj", "c_proj", "dt_proj"), _IN),
    "ffn": {"gate_proj": ("gate_proj", "w1", "gate_up_proj")},
    "gqa": {"q_a_proj": ("q_proj",), "gate_proj": ("gate_proj", "g_proj", "q_proj")},
}

NOT_OURS: Final = re.compile(
    r"vision|visual|audio|image|speech|projector|patch|merger|mtp|nextn|eh_proj|enorm|hnorm|shared_head|(^|\W)embed_(vision|audio)"
    r"|norm|conv1d|bias|rotary|embed|(lm_)?head$|router|(^|\W)(gate|wg)(\W|$)|shared_expert_gate|ba_proj"
)
"""Names of what a text model's figures leave apart (encoders, prediction modules), and of what no format packs anyway:
norms, convolutions, biases, tables, routers."""

_PREFIXES: Final = ("", "model.", "model.language_model.", "language_model.model.", "backbone.", "transformer.")
_TEXT: Final = re.compile(r"((model|language_model|text_model|backbone|transformer|decoder)(\.|$))*")
"""What may stand before ``layers`` in names of the text model's modules."""


def names(block: Block, tensor: Tensor) -> list[str]:
    """Return the names that a tensor's module may have, from ``layers.N`` on, or from the model outside of layers."""
    kind, operation = block.label.split()[0] if block.label else "", tensor.operation
    leaves = _OF_KIND.get(kind if tensor.part == "attention" else tensor.part, {}).get(_plain(operation))
    leaves = leaves or _LEAVES.get(_plain(operation), (_plain(operation),))
    if tensor.layer < 0:
        return list(leaves)
    if block.name == "ffn_beside":
        return [f"layers.{tensor.layer}.residual_mlp.{leaf}" for leaf in leaves]
    apart = any(other.name == "routed_norm" for other in block.operations)  # Gemma 4: a network beside the experts
    found = [f"{holder}.{leaf}".strip(".") for holder in _holders(kind, tensor, apart) for leaf in leaves]
    return [f"layers.{tensor.layer}.{name}" for name in found]


def _plain(operation: str) -> str:
    return operation.removeprefix("shared_") if operation != "shared_gate" else "shared_expert_gate"


def _holders(kind: str, tensor: Tensor, apart: bool) -> list[str]:
    if tensor.part == "attention":
        return list(_MIXERS.get(kind, _ATTENTION))
    if tensor.part == "router":
        return [f"{ffn}.{router}" for ffn in _FFN for router in _ROUTERS] + list(_ROUTERS)
    if tensor.expert:
        return ["experts.0", "moe.experts.0"] if apart else [f"{ffn}.experts.0" for ffn in _FFN]
    if tensor.shared:
        if apart:
            return ["mlp"]
        if tensor.operation == "shared_gate":
            return list(_FFN)
        return [f"{ffn}.{shared}" for ffn in _FFN for shared in _SHARED]
    return list(_FFN) if tensor.part == "ffn" else [""]


class Names:
    """A list of module names as quantisers write it, in a form in which thousands of modules can be asked about.

    ``re:`` marks a regular expression that has to match from the start; a name with ``*`` is a pattern of a module or
    of one that holds it; a plain name is the end, the start or a piece of a path. What names a module of another part
    of the checkpoint (encoders, prediction modules) means no module of ours.
    """

    def __init__(self, entries: Iterable[Any]) -> None:
        self.plain: dict[str, str] = {}
        self.patterns: dict[str, list[tuple[Callable[[str], object], str]]] = {}
        """By the layer that they name; those that name none under an empty text."""
        self.met: set[str] = set()
        """Entries that a tensor was found for."""
        # what is said of one expert is said of all
        self.written = list(dict.fromkeys(_EXPERT.sub("experts.0", str(entry)) for entry in entries))
        for text in self.written:
            self._read(text)

    def _read(self, text: str) -> None:
        if text.startswith("re:"):
            found = _expression(text[3:])
            where = _LAYER_IN_EXPRESSION.search(text)
            if found:  # others are never met, which the account says
                self.patterns.setdefault(where[1] if where else "", []).append((found.match, text))
            return
        name = text.removesuffix(".weight")
        where = _LAYER.search(name)
        if where and not _TEXT.fullmatch(name[: where.start()]):
            self.met.add(text)
            return
        short = name[where.start() :].strip(".") if where else name
        if "*" not in short:
            self.plain[short] = text
            return
        if short.count("*") > _MOST_REPEATS:
            return
        layer = where[1] if where and not short.startswith(f"layers.{where[1]}*") else ""
        self.patterns.setdefault(layer, []).append((re.compile(_glob(short)).fullmatch, text))

    def hold(self, block: Block, tensor: Tensor) -> bool:
        """Tell whether the list means the tensor's module, and remember which of its entries do."""
        found = {entry for name in names(block, tensor) for entry in self._entries(name, str(tensor.layer))}
        self.met |= found
        return bool(found)

    def _entries(self, name: str, layer: str) -> Iterator[str]:
        for piece in _pieces(name):
            if piece in self.plain:
                yield self.plain[piece]
        for matches, text in (*self.patterns.get(layer, ()), *self.patterns.get("", ())):
            if any(matches(f"{prefix}{name}") for prefix in _PREFIXES):
                yield text

    def missed(self, n_layers: int) -> list[str]:
        """Return entries that no tensor was found for, although they seem to mean something of the model's layers."""
        left = (entry for entry in self.written if entry not in self.met and not NOT_OURS.search(entry))
        return [entry for entry in left if not _beyond(entry, n_layers)]


_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|blocks|h|block)\.(\d+)(?=\.|\*?$)")
_LAYER_IN_EXPRESSION: Final = re.compile(r"layers\\\.(\d+)\\\.")
_MOST_REPEATS: Final = 6
_REPEAT: Final = re.compile(r"(?<!\\)[*+{]")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_EXPERT: Final = re.compile(r"experts\.\d+")


def _beyond(entry: str, n_layers: int) -> bool:
    """Tell whether an entry names a layer after the last: those are modules that predict further tokens."""
    found = _LAYER.search(entry)
    return found is not None and int(found[1]) >= n_layers


@lru_cache(maxsize=65_536)
def _pieces(name: str) -> tuple[str, ...]:
    """Return every run of whole parts of a path; experts are as good as their first."""
    parts = name.split(".")
    return tuple(".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))


def _expression(text: str) -> re.Pattern[str] | None:
    """Compile a file's regular expression; None where it is none, or one that can take forever on a short name."""
    if len(_REPEAT.findall(text)) > _MOST_REPEATS or _REPEATED_GROUP.search(text):
        return None
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return None


def _glob(text: str) -> str:
    """Return a pattern of a module, or of one that holds it, as a regular expression."""
    return ".*".join(re.escape(piece) for piece in text.split("*")) + r"(?:\..*)?"
