"""A model: stacks of layers between an embedding and a head, and the totals that are read off their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from calc.algebra import Number, ratio
from calc.embedding import Embedding, Head, NormSpec, Pooler, norm_or_none
from calc.errors import SpecError
from calc.extras import Extra
from calc.fields import Natural, Positive
from calc.layers import Block, Bound, Encoder, Layer, Parallel, Placement, Stack, side_blocks
from calc.modality.attention_pool import AttentionPool
from calc.modality.patches import Patches
from calc.modality.projector import Projector
from calc.modality.rates import Rates
from calc.modality.tower import Tower, projector_blocks
from calc.mtp import MTP
from calc.operations import PARTS, Counts, Env, Operation, Phase, Role, State, cache_traffic, traffic
from calc.passes import Pass, environment, running, runs
from calc.records import Record, named_record, record, replace
from calc.schemes import read_bytes, stored_bytes, weight_forms
from calc.units import Format, dtype

__all__ = [
    "Block", "Bound", "CacheBytes", "Encoder", "FlopsBy", "Layer", "Model", "Parallel", "Parameters", "Pass", "Phase",
    "Placement", "Stack", "cache_bytes", "environment", "flops_by_operation", "moved_bytes", "parameters", "running",
    "runs", "training_flops",
]  # fmt: skip


@record
class Parameters(Record):
    """Parameters by part; the parts add up to the total. Units: parameters.

    ``active``: the total less the routed experts that a token does not use. ``active_matmul``: those that multiply,
    hence active without the tables that are looked up (a tied head multiplies, so its table stays).
    """

    embedding: Number
    attention: Number
    ffn: Number
    router: Number
    norm: Number
    head: Number
    other: Number
    active: Number
    active_matmul: Number

    @property
    def total(self) -> Number:
        """All of them."""
        return sum(getattr(self, part) for part in PARTS)


@record
class CacheBytes(Record):
    """What a batch keeps between steps, in bytes.

    ``bytes``: keys, values and latents of the positions kept. ``state_bytes``: recurrent and convolution states, whose
    size does not depend on the context. ``bytes_per_token``: what one sequence's cache grows by with a further
    position; where one entry stands for several of them, the mean from one entry to the next.
    """

    bytes: Number
    bytes_per_token: Number
    state_bytes: Number
    by_kind: Mapping[str, Number]


FlopsBy: TypeAlias = dict[tuple[str, str], Number]


@named_record
class Model(Record):
    """An architecture: embedding, stacks of layers, final norm, head; optionally an encoder.

    All figures are read off the tables of its mechanisms (``blocks``). Methods that take a context or a batch take
    integers (exact), numpy arrays (a sweep) or sympy symbols (a formula).
    """

    name: str
    title: str = ""
    source: str = ""
    d_model: Positive
    vocab_size: Natural
    """0 where it reads images alone."""
    max_context: Positive | None = None
    """Longest context its maker states, in tokens."""
    weights_dtype: str = "bf16"
    """As published."""
    embedding: Embedding = field(default_factory=Embedding)
    patches: Patches | None = None
    """In the embedding's place: it reads an image (a vision transformer alone)."""
    stack: tuple[Stack, ...]
    final_norm: NormSpec | None = None
    head: Head | None = field(default_factory=Head)
    pooler: Pooler | None = None
    attention_pool: AttentionPool | None = None
    projector: tuple[Projector, ...] = ()
    """What turns its states into tokens of another model (a tower alone)."""
    encoder: Encoder | None = None
    outside_source: bool = False
    """Cross-attention reads states that another model makes (a decoder stored alone, an image tower): a pass has
    ``source`` of them, whose own cost is not counted."""
    extra: tuple[Extra, ...] = ()
    """Further tables beside the embedding and the head (Gemma 3n's and 4's)."""
    mtp: MTP | None = None
    """Modules for multi-token prediction, which no figure includes unless it says so."""
    tower: tuple[Tower, ...] = ()
    """Encoders of images and sound whose tokens stand in the text; no figure includes them unless it says so."""
    rates: Rates | None = None
    """Tokens of images and sound where the maker publishes them and no encoder (Gemini)."""
    sees: Literal["causal", "media", "media_in_windows", "prompt"] = "causal"
    """What the tokens of a prompt see of what follows: nothing, their own image (Gemma 3), in layers with a window only
    (Gemma 4), or all of it (PaliGemma)."""
    low: Bound | None = None
    """Where the maker published no dimensions: the least that is plausible, and in ``high`` the most."""
    high: Bound | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    """Figures its maker states, with where, for tests and audits."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.stack:
            raise SpecError("a model needs at least one stack of layers")
        crosses = any(layer.cross for stack in self.stack for layer in stack.layer)
        if crosses and self.encoder is None and not self.outside_source:
            raise SpecError("a layer has cross-attention but the model has no encoder (nor outside_source = true)")
        if (self.low is None) != (self.high is None):
            raise SpecError("an estimated model needs both low and high")
        without_tokens = self.patches is not None or self.embedding.n_mels is not None
        if (self.vocab_size == 0) != without_tokens or (without_tokens and self.head):
            raise SpecError("a model of images or sound has patches or frames, vocab_size = 0 and no head")
        kinds = [tower.modality for tower in self.tower]
        if len(set(kinds)) < len(kinds):
            raise SpecError(f"two towers read the same: {', '.join(kinds)}")
        weight_forms(self.weights_dtype)

    def __hash__(self) -> int:
        return hash((self.name, self.d_model, self.vocab_size, self.stack))

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Model:
        """Build from trusted data: a shipped preset, which the tests have validated."""
        values = dict(data)
        values["stack"] = tuple(Stack.build(stack) for stack in data["stack"])
        values["embedding"] = Embedding.build(data.get("embedding", {}))
        values["final_norm"] = norm_or_none(data.get("final_norm"))
        values["head"] = None if data.get("head") is False else Head.build(data.get("head", {}))
        values["patches"] = Patches.build(data["patches"]) if "patches" in data else None
        values["pooler"] = Pooler.build(data["pooler"]) if "pooler" in data else None
        values["attention_pool"] = AttentionPool.build(data["attention_pool"]) if "attention_pool" in data else None
        values["projector"] = tuple(Projector.build(each) for each in data.get("projector", ()))
        values["rates"] = Rates(**data["rates"]) if "rates" in data else None
        values["tower"] = tuple(Tower.build(tower) for tower in data.get("tower", ()))
        values["encoder"] = Encoder.build(data["encoder"]) if "encoder" in data else None
        values["extra"] = tuple(Extra.build(extra) for extra in data.get("extra", ()))
        values["mtp"] = MTP.build(data["mtp"]) if "mtp" in data else None
        for end in ("low", "high"):
            values[end] = Bound.build(data[end]) if end in data else None
        values["notes"] = tuple(data.get("notes", ()))
        return cls(**values)

    # ---- structure

    @property
    def heading(self) -> str:
        """What tables and charts call it: its title, or its name where it has none."""
        return self.title or self.name

    @property
    def n_layers(self) -> int:
        """Layers of the (decoder) stack."""
        return sum(stack.repeat * len(stack.layer) for stack in self.stack)

    def bounds(self) -> tuple[Model, Model] | None:
        """Return the least and the most that an estimated architecture may be, or None for a published one."""
        if self.low is None or self.high is None:
            return None
        least, most = ({k: v for k, v in vars(end).items() if v is not None} for end in (self.low, self.high))
        return (replace(self, low=None, high=None, **least), replace(self, low=None, high=None, **most))

    def layers(self) -> Iterator[Layer]:
        """Yield every layer of the stack in order."""
        for stack in self.stack:
            for _ in range(stack.repeat):
                yield from stack.layer

    def blocks(self) -> list[Block]:
        """Return every distinct table of the model once, in its place, with how often it stands."""
        return list(_tables(self))

    def forms(self) -> list[str]:
        """Return the names of the forms in which some layer's attention can be computed."""
        found = [name for layer in self.kinds_of_layer() if layer.attention for name in layer.attention.alternatives()]
        return list(dict.fromkeys(found))

    def in_form(self, name: str) -> Model:
        """Return the same model with every attention that has this form computed in it."""

        def formed(layer: Layer) -> Layer:
            other = layer.attention.alternatives().get(name) if layer.attention else None
            return replace(layer, attention=other) if other else layer

        return replace(self, stack=tuple(replace(stack, layer=tuple(map(formed, stack.layer))) for stack in self.stack))

    def kinds_of_layer(self) -> list[Layer]:
        """Return every distinct layer of the stack once."""
        return list(dict.fromkeys(layer for stack in self.stack for layer in stack.layer))

    def mtp_blocks(self) -> list[Block]:
        """Return the tables of the multi-token prediction modules, with how often they stand; none without them."""
        if self.mtp is None:
            return []
        modules = self.mtp.modules
        return self.bound([replace(block, layer="mtp", repeat=modules * block.repeat) for block in self.mtp.blocks()])

    def tower_blocks(self) -> list[Block]:
        """Return the tables of the towers; none without them."""
        return [block for tower in self.tower for block in tower.blocks()]

    def bound(self, blocks: list[Block]) -> list[Block]:
        """Return tables whose letters d, o and v are the model's."""
        own = {"d": self.d_model, "o": self.d_model, "v": self.vocab_size}
        return [replace(block, letters={**own, **block.letters}) for block in blocks]

    # ---- quantities

    def params(self) -> Parameters:
        """Count parameters: what a checkpoint of the model stores, tied tables once.

        >>> import calc
        >>> calc.load("llama-3-8b").params().total
        8030261248
        """
        return parameters(self.blocks())

    def weight_bytes(self, form: str | None = None) -> Number:
        """Return the bytes of all weights in a format or a scheme of formats (by default the published one).

        >>> import calc
        >>> calc.load("llama-3-8b").weight_bytes("q4_k_m")
        4912898048
        """
        blocks = self.blocks()
        return stored_bytes(blocks, weight_forms(form or self.weights_dtype, blocks))

    def flops(self, pass_: Pass, counts: Counts = "matmul") -> Number:
        """Return the FLOPs of one forward pass, logits for every position included."""
        return sum(flops_by_operation(self.blocks(), pass_, counts).values())

    def training_flops(
        self,
        context: Number,
        batch: Number = 1,
        *,
        source: Number = None,
        causal: bool = True,
        counts: Counts = "matmul",
        recompute: bool = False,
        mtp: bool = False,
    ) -> Number:
        """Return the FLOPs of one training step: forward, backward, and with ``recompute`` the forward once more.

        ``mtp`` adds the modules for multi-token prediction, which see as many positions as the model.
        """
        pass_ = Pass.prefill(context, batch, source=source, causal=causal)
        blocks = self.blocks() + (self.mtp_blocks() if mtp else [])
        return training_flops(blocks, pass_, counts, recompute)

    @property
    def source_positions(self) -> int | None:
        """Positions of a source that always has as many (a chunk of sound, silence at its end), else None."""
        embedding = self.encoder.embedding if self.encoder else None
        return embedding.max_positions if embedding and embedding.n_mels else None

    def beyond(self, context: int) -> tuple[str, ...]:
        """Return the note that a sequence is longer than any its maker states; none where it is not."""
        if self.max_context is None or context <= self.max_context:
            return ()
        return (f"{self.name}: {context:,} tokens is beyond its stated {self.max_context:,}",)

    def cache(self, context: Number, batch: Number = 1, form: str = "bf16", *, source: Number = None) -> CacheBytes:
        """Return the bytes that ``batch`` sequences of ``context`` positions keep, in the cache format ``form``.

        Logical bytes: what the mathematics needs, without an engine's paging.

        >>> import calc
        >>> calc.load("llama-3-8b").cache(context=8192).bytes_per_token
        131072
        """
        now = Pass.decode(context, batch, source=source)
        return cache_bytes(self.blocks(), now, dtype(form))


@lru_cache(maxsize=32)
def _tables(model: Model) -> tuple[Block, ...]:
    """Return a model's tables; a search over layouts asks for those of one model thousands of times."""
    found: list[Block] = []
    if model.encoder:
        found += [replace(block, encoder=True) for block in side_blocks(model.encoder)]
    found += side_blocks(model)
    found += [Block.of(extra.name, extra) for extra in model.extra]
    if model.head:
        found.append(Block.of("head", model.head))
    if model.pooler:
        found.append(Block.of("pooler", model.pooler))
    if model.attention_pool:
        found.append(Block.of("attention_pool", model.attention_pool))
    found += projector_blocks(model.projector)
    return tuple(model.bound(found))


def parameters(blocks: Iterable[Block]) -> Parameters:
    """Add up the parameters of tables, by part."""
    by_part: dict[str, Number] = dict.fromkeys(PARTS, 0)
    active: Number = 0
    multiplied: Number = 0
    for block in blocks:
        for part, operation in block.parts():
            by_part[part] = by_part[part] + block.repeat * operation.parameters(block.letters)
            active = active + block.repeat * operation.active_parameters(block.letters)
            multiplied = multiplied + block.repeat * operation.multiplied_parameters(block.letters)
    return Parameters(**by_part, active=active, active_matmul=multiplied)


def flops_by_operation(blocks: Iterable[Block], pass_: Pass, counts: Counts = "matmul") -> FlopsBy:
    """Return the forward FLOPs of a pass by (path of the table, operation), repeats included."""
    return {
        (block.path, operation.name): block.repeat * operation.flops(env, causal=pass_.causal, counts=counts)
        for block, operation, env in running(blocks, pass_)
    }


def training_flops(blocks: Iterable[Block], pass_: Pass, counts: Counts, recompute: bool) -> Number:
    """Return forward + backward (+ forward again) of a training pass."""
    total: Number = 0
    for block, operation, env in running(blocks, pass_):
        forward = operation.flops(env, causal=pass_.causal, counts=counts)
        backward = operation.backward_flops(env, causal=pass_.causal, counts=counts)
        total = total + block.repeat * ((2 if recompute else 1) * forward + backward)
    return total


def moved_bytes(block: Block, operation: Operation, pass_: Pass, forms: Mapping[Role, Any]) -> dict[Role, Number]:
    """Return the bytes that an operation moves in a pass, unfused, by role, repeats included.

    ``forms`` gives the number format of activations and cache, and the format or scheme of the weights.
    """
    env = environment(block, pass_, operation)
    elements = traffic(operation, block.states, env, pass_.causal)
    cached = cache_traffic(operation, block.states, env, pass_.causal)
    return {
        "weight": read_bytes(block, operation, elements["weight"], forms["weight"]),
        "activation": block.repeat * forms["activation"].bytes(elements["activation"]),
        "cache": block.repeat * sum(state.stored_in(forms["cache"]).bytes(number) for state, number in cached),
    }


def _state_bytes(state: State, env: Env, form: Format) -> Number:
    return state.stored_in(form).stored(*state.shape(env))


def cache_bytes(blocks: Iterable[Block], pass_: Pass, form: Format) -> CacheBytes:
    """Return what the sequences of a pass keep, and what a further position adds to each."""
    growing: Number = 0
    constant: Number = 0
    growth: Number = 0
    by_kind: dict[str, Number] = {}
    for block in blocks:
        env = environment(block, pass_)
        for state in block.states:
            each = _state_bytes(state, env, form)
            growth = growth + block.repeat * _growth(state, block, pass_, form, each)
            held = pass_.batch * block.repeat * each
            by_kind[block.label] = by_kind.get(block.label, 0) + held
            if state.positional:
                growing = growing + held
            else:
                constant = constant + held
    return CacheBytes(bytes=growing, bytes_per_token=ratio(growth, 1), state_bytes=constant, by_kind=by_kind)


def _growth(state: State, block: Block, pass_: Pass, form: Format, held: Number) -> Number:
    """Return what a further position adds to a state, the mean over its period."""
    period = 1 if state.over is None else state.over.period(environment(block, pass_))
    then = environment(block, replace(pass_, context=pass_.context + period))
    return ratio(_state_bytes(state, then, form) - held, period)
