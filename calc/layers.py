"""What a model is built of: layers with their norms and residuals, stacks of layers, tables in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Literal, Protocol

from calc.algebra import Number
from calc.attention import Attention
from calc.embedding import Embedding, NormSpec, norm_or_none
from calc.errors import SpecError
from calc.extras import Extra
from calc.ffn import FeedForward
from calc.fields import Positive
from calc.hyper import HyperConnection, HyperHead
from calc.mechanism import Mechanism
from calc.operations import Elementwise, Operation, Part, States, Table
from calc.records import Record, named_record, replace

Placement = Literal["pre", "post", "both", "sum"]
Parallel = Literal["one_norm", "two_norms"]


@named_record
class Layer(Record):
    """One layer: attention, cross-attention and feed-forward, each with its norms and a residual connection.

    ``placement``: norms before each part (``pre``), after it (``post``, x + norm(f(x)), OLMo-2), both (``both``), or
    after the part is added (``sum``, norm(x + f(x)), the original Transformer). ``parallel``: attention and
    feed-forward read the same input and are added together (GPT-J, PaLM), through one norm or one each.
    """

    attention: Attention | None = None
    beside: Attention | None = None
    """A second mixer that reads what the attention reads, through the same norm, and is added to it (Falcon-H1)."""
    cross: Attention | None = None
    ffn: FeedForward | None = None
    ffn_beside: FeedForward | None = None
    """A second network: it follows the attention, and ``ffn`` reads, through its own norm, what enters the layer
    (Arctic: a dense network after the attention, experts beside both)."""
    norm: NormSpec | None = None
    placement: Placement = "pre"
    ffn_placement: Placement | None = None
    """Where the feed-forward's norms stand, if elsewhere than the others (A.X)."""
    parallel: Parallel | None = None
    attention_norm: bool = True
    """False: no norm before the attention (ModernBERT's first layer, which follows the embedding's norm)."""
    gate: Literal["scalar", "channel"] | None = None
    """A learned factor at each residual connection: one number (the image layers of Llama 3.2 Vision), or one for each
    channel (Doge)."""
    residual_scaled: bool = False
    """Each part's output is multiplied by a constant before it is added (Granite)."""
    hyper: HyperConnection | None = None
    """Several residual streams, mixed around each part (DeepSeek-V4), in place of one that outputs are added to."""
    extra: tuple[Extra, ...] = ()
    """Further tables beside the parts (Gemma 3n's and 4's)."""

    def __post_init__(self) -> None:
        if not (self.attention or self.cross or self.ffn):
            raise SpecError("a layer needs an attention, a cross or an ffn")
        if self.parallel and not (self.attention and self.ffn and not self.cross):
            raise SpecError("a parallel layer is one attention beside one ffn")
        if "sum" in (self.placement, self.ffn_placement) and (self.parallel or self.beside or self.hyper):
            raise SpecError("placement = sum needs parts that follow one another in one residual stream")
        if self.ffn_beside and not (self.attention and self.ffn and not self.cross):
            raise SpecError("a second network beside the ffn needs an attention and an ffn, and no cross")
        if self.ffn_beside and (self.placement != "pre" or self.ffn_placement or self.parallel or self.hyper):
            raise SpecError("a second network beside the ffn needs norms before each part of one residual stream")
        if self.beside and not self.attention:
            raise SpecError("a mixer beside the attention needs an attention")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Layer:
        """Build from trusted data."""
        families: dict[str, type[Mechanism]] = {
            "attention": Attention,
            "beside": Attention,
            "cross": Attention,
            "ffn": FeedForward,
            "ffn_beside": FeedForward,
            "hyper": HyperConnection,
        }
        values = {key: families[key].build(value) if key in families else value for key, value in data.items()}
        values["extra"] = tuple(Extra.build(extra) for extra in data.get("extra", ()))
        return cls(**{**values, "norm": norm_or_none(data.get("norm"))})

    def blocks(self) -> Iterator[Block]:
        """Yield the layer's tables: its parts, and the norms and residuals between them."""
        named = {name: getattr(self, name) for name in ("attention", "beside", "cross", "ffn_beside", "ffn")}
        parts = [(name, mechanism) for name, mechanism in named.items() if mechanism]
        for name, mechanism in parts:
            yield Block.of(name, mechanism)
            if self.hyper:
                yield Block.of(f"{name}_hyper", self.hyper)
        for extra in self.extra:
            yield Block.of(extra.name, extra)
        yield Block(
            name="residual",
            label="norms and residuals",
            part="other",
            operations=tuple(self._around([name for name, _ in parts])),
            letters={"φ": 1} if self.gate == "scalar" else {},
            parallel=self.parallel is not None,
        )

    def placement_of(self, name: str) -> Placement:
        """Return where the norm of a part stands."""
        return self.ffn_placement if name == "ffn" and self.ffn_placement else self.placement

    def _around(self, parts: list[str]) -> Iterator[Operation]:
        """Yield the norms and residual additions around the parts."""
        if self.norm and self.parallel == "one_norm":
            yield self.norm.operation("input_norm")
        for name in parts:
            if self.norm and self.parallel != "one_norm" and name != "beside":
                placement = self.placement_of(name)
                if placement in ("pre", "both") and (self.attention_norm or name != "attention"):
                    yield self.norm.operation(f"{name}_norm")
                if placement in ("post", "both"):
                    yield self.norm.operation(f"{name}_post_norm", (name,))
            if self.residual_scaled:
                yield Elementwise(f"{name}_scale", "btd", inputs=(name,), each=1)
            if self.gate:
                factor = "φ" if self.gate == "scalar" else "d"
                yield Elementwise(f"{name}_gate", "btd", inputs=(name,), each=1, weight=factor, needs="operands")
            if not self.hyper:
                yield Elementwise(f"{name}_residual", "btd", inputs=("x", name), each=1)
            if self.norm and self.placement_of(name) == "sum":
                yield self.norm.operation(f"{name}_post_norm", (f"{name}_residual",))


@named_record
class Stack(Record):
    """A pattern of layers, repeated: ``repeat = 21`` of (local, global) is 42 layers."""

    repeat: Positive = 1
    layer: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layer:
            raise SpecError("a stack needs at least one layer")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Stack:
        """Build from trusted data."""
        return cls(repeat=data.get("repeat", 1), layer=tuple(Layer.build(layer) for layer in data["layer"]))


@named_record
class Encoder(Record):
    """The encoder of an encoder–decoder: its own stack over the source tokens, run once per prompt."""

    stack: tuple[Stack, ...]
    embedding: Embedding = field(default_factory=Embedding)
    final_norm: NormSpec | None = None

    @property
    def patches(self) -> None:
        """None: an encoder of this kind reads tokens or frames."""

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Encoder:
        """Build from trusted data."""
        return cls(
            stack=tuple(Stack.build(stack) for stack in data["stack"]),
            embedding=Embedding.build(data.get("embedding", {})),
            final_norm=norm_or_none(data.get("final_norm")),
        )


class Side(Protocol):
    """What stands around a stack: an entry before it, a norm after it."""

    @property
    def embedding(self) -> Embedding:
        """Where it reads tokens, or frames of a spectrogram."""

    @property
    def patches(self) -> Mechanism | None:
        """Where it reads images."""

    @property
    def stack(self) -> tuple[Stack, ...]:
        """Its layers."""

    @property
    def final_norm(self) -> NormSpec | None:
        """The norm after them."""


@named_record
class Bound(Record):
    """One end of an estimated architecture: the fields in which it differs from the middle."""

    d_model: Positive | None = None
    vocab_size: Positive | None = None
    stack: tuple[Stack, ...] | None = None

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Bound:
        """Build from trusted data."""
        stacks = tuple(Stack.build(stack) for stack in data["stack"]) if "stack" in data else None
        return cls(**{**data, "stack": stacks})


@named_record
class Block(Record):
    """A table in its place: what it is, how often it stands, on which side, with which numbers."""

    name: str
    part: Part
    operations: Table
    states: States = ()
    uncompressed: States = ()
    """What multi-head attention with the same heads would keep in place of ``states``."""
    letters: Mapping[str, Number]
    repeat: Number = 1
    positions: tuple[range, ...] = ()
    """Where in the stack its layers stand; empty outside the stack."""
    encoder: bool = False
    tower: str = ""
    """Which tower it belongs to; empty in the model itself."""
    layer: str = ""
    """Which kind of layer it belongs to; empty outside the stack."""
    label: str = ""
    parallel: bool = False
    """Of norms and residuals: all parts read what enters the layer, not what the part before has added to."""

    @classmethod
    def of(cls, name: str, mechanism: Mechanism) -> Block:
        """Place a mechanism's table."""
        return cls(
            name=name,
            part=mechanism.part,
            operations=mechanism.operations(),
            states=mechanism.state(),
            uncompressed=mechanism.uncompressed(),
            letters=mechanism.bind(),
            label=mechanism.label(),
        )

    @property
    def path(self) -> str:
        """Where it stands, as operation listings name it."""
        side = "encoder." if self.encoder else f"{self.tower}." if self.tower else ""
        return f"{side}{self.layer}.{self.name}" if self.layer else f"{side}{self.name}"

    def parts(self) -> Iterator[tuple[Part, Operation]]:
        """Yield every operation with the part that its parameters count in."""
        for operation in self.operations:
            yield operation.part or self.part, operation


def side_blocks(side: Side) -> list[Block]:
    """Return the tables of one side: embedding, distinct layers with their number, final norm."""
    counted: dict[Layer, tuple[range, ...]] = {}
    start = 0
    for stack in side.stack:
        period = len(stack.layer)
        end = start + stack.repeat * period
        for offset, layer in enumerate(stack.layer):
            counted[layer] = (*counted.get(layer, ()), range(start + offset, end, period))
        start = end
    blocks = [Block.of("patches", side.patches) if side.patches else Block.of("embedding", side.embedding)]
    for index, (layer, positions) in enumerate(counted.items(), start=1):
        name = "layer" if len(counted) == 1 else f"layer{index}"
        repeat = sum(len(run) for run in positions)
        blocks += [replace(block, layer=name, repeat=repeat, positions=positions) for block in layer.blocks()]
    streams = {layer.hyper.n_streams for layer in counted if layer.hyper}
    if streams:
        blocks.append(Block.of("hyper_head", HyperHead(n_streams=max(streams))))
    if side.final_norm:
        operations = (side.final_norm.operation("final_norm"),)
        blocks.append(Block(name="final_norm", part="norm", operations=operations, letters={}))
    return blocks
