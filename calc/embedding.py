"""What stands before and after the stack: token embeddings, positions, norms, output heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from calc.activations import Activation
from calc.errors import SpecError
from calc.fields import Positive
from calc.mechanism import Mechanism
from calc.operations import Einsum, Elementwise, Lookup, Norm, Operation, Part, Table, activation
from calc.records import Record, named_record


@named_record
class NormSpec(Record):
    """A normalisation: LayerNorm or RMSNorm, with or without learned scale and shift."""

    kind: Literal["rms", "layer"]
    scale: bool = True
    bias: bool = False

    def operation(self, name: str, inputs: tuple[str, ...] = ("x",), dims: str = "btd") -> Norm:
        """Return the norm over the last letter of ``dims``."""
        last = dims[-1]
        scale, bias = last if self.scale else "", last if self.bias else ""
        return Norm(name, dims, inputs=inputs, kind=self.kind, weight=scale, bias=bias)


def norm_or_none(data: Mapping[str, Any] | None) -> NormSpec | None:
    """Build a norm from trusted data."""
    return None if data is None else NormSpec(**data)


@named_record
class Embedding(Mechanism):
    """Token vectors, and what is added to them: positions, token types, a norm.

    Parameters: V·d (or V·d_e + d_e·d), L_max·d for learned positions, n_types·d for token types. A lookup is no FLOP.

    Raises:
        SpecError: learned positions without ``max_positions``.
    """

    part: ClassVar[Part] = "embedding"
    positions: Literal["none", "learned", "sinusoidal"] = "none"
    """Absolute positions; rotary and ALiBi positions belong to the attention."""
    max_positions: Positive | None = None
    """Rows of the position table; with sinusoidal positions, of a table that the checkpoint stores (Pegasus)."""
    n_token_types: Positive | None = None
    rotary_dim: Positive | None = None
    """Width of a stored table of rotary angles, with ``max_positions`` rows (RoFormer)."""
    d_embedding: Positive | None = None
    """Width of the table where a projection leads from it to d_model (ALBERT, OPT-350M)."""
    projection_bias: bool = False
    project_last: bool = False
    """Positions, token types and norm have the table's width, and the projection follows (ALBERT, ELECTRA); otherwise
    the projection comes first (OPT-350M)."""
    norm: NormSpec | None = None
    scaled: bool = False
    """Vectors multiplied by a constant (√d in the original Transformer and in Gemma)."""
    shared: bool = False
    """The table is the other side's (an encoder-decoder's decoder)."""
    n_rows: Positive | None = None
    """Rows of the table where it is not as long as the vocabulary: more for special inputs (MusicGen), another
    vocabulary on the encoder's side (Marian)."""
    n_codebooks: Positive | None = None
    """Tables whose vectors are added up for one position, which holds as many tokens (MusicGen)."""
    n_mels: Positive | None = None
    """Frames of a spectrogram in place of tokens, with as many bands: two convolutions, the second of which takes
    ``frames_per_position`` frames to a position (Whisper, Radford et al. 2022, arXiv:2212.04356 §2.2)."""
    n_pronunciations: Positive | None = None
    """Tables of pronunciations and of shapes beside the tokens', all three mapped to d_model and added (RoCBert, Su et
    al. 2022, https://aclanthology.org/2022.acl-long.65). The four sizes of the two tables go together."""
    d_pronunciation: Positive | None = None
    n_shapes: Positive | None = None
    d_shape: Positive | None = None
    conv_kernel: Positive = 3
    frames_per_position: Positive = 2

    def __post_init__(self) -> None:
        if self.positions == "learned" and self.max_positions is None:
            raise SpecError("embedding.positions = 'learned' needs embedding.max_positions")
        if self.rotary_dim and self.max_positions is None:
            raise SpecError("embedding.rotary_dim needs embedding.max_positions")
        sizes = (self.n_pronunciations, self.d_pronunciation, self.n_shapes, self.d_shape)
        if len([size for size in sizes if size is None]) not in (0, len(sizes)):
            raise SpecError("embedding.n_pronunciations, d_pronunciation, n_shapes and d_shape go together")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Embedding:
        """Build from trusted data."""
        return cls(**{**data, "norm": norm_or_none(data.get("norm"))})

    def operations(self) -> Table:
        """Return the lookups, their sum, the norm, the projection where it stands first or last."""
        width = "X" if self.d_embedding else "d"
        table: list[Operation] = self._frames() if self.n_mels else self._tokens(width)
        if self.n_pronunciations:
            table += self._sound_and_shape()
        if self.d_embedding and not self.project_last:
            table.append(self._project(table[-1].name))
            width = "d"
        if self.scaled:
            table.append(Elementwise("scale", f"bt{width}", inputs=(table[-1].name,), each=1))
        if self.positions != "none":
            entry = table[-1].name
            table += [Lookup("positions", f"bt{width}", table=f"L{width}")] if self.max_positions else []
            table.append(Elementwise("add_positions", f"bt{width}", inputs=(entry, "positions"), each=1))
        if self.n_token_types:
            table += [
                Lookup("token_types", f"bt{width}", table=f"T{width}"),
                Elementwise("add_token_types", f"bt{width}", inputs=(table[-1].name, "token_types"), each=1),
            ]
        if self.norm:
            table.append(self.norm.operation("norm", (table[-1].name,), f"bt{width}"))
        if self.d_embedding and self.project_last:
            table.append(self._project(table[-1].name))
        if self.rotary_dim:
            table.append(Lookup("rotary_angles", "tr", table="Lr"))
        return tuple(table)

    def _tokens(self, width: str) -> list[Operation]:
        rows, books = "Δ" if self.n_rows else "v", "κ" if self.n_codebooks else ""
        table: list[Operation] = [
            Lookup("tokens", f"bt{books}{width}", table=f"{books}{rows}{width}", tied=self.shared)
        ]
        if books:
            table.append(Elementwise("sum_codebooks", f"btκ{width}", inputs=("tokens",), each=1))
        return table

    def _sound_and_shape(self) -> list[Operation]:
        return [
            Lookup("pronunciation", "btβ", table="αβ"),
            Lookup("shape", "btΞ", table="ΓΞ"),
            Einsum("map_tokens", "btd,do->bto", inputs=("tokens",), weight="do", bias="o"),
            Einsum("map_pronunciation", "btβ,βd->btd", inputs=("pronunciation",), weight="βd"),
            Einsum("map_shape", "btΞ,Ξd->btd", inputs=("shape",), weight="Ξd"),
            Elementwise("mapped", "btd", inputs=("map_tokens", "map_pronunciation", "map_shape"), each=2),
        ]

    def _frames(self) -> list[Operation]:
        return [
            Einsum("conv1", "btψKη,dKη->btψd", weight="dKη", bias="d"),
            activation("gelu1", "btψd", "conv1", "gelu"),
            Einsum("conv2", "btKd,oKd->bto", inputs=("gelu1",), weight="oKd", bias="o"),
            activation("gelu2", "btd", "conv2", "gelu"),
        ]

    def _project(self, entry: str) -> Einsum:
        bias = "d" if self.projection_bias else ""
        return Einsum("project_in", "btX,Xd->btd", inputs=(entry,), weight="Xd", bias=bias)


@named_record
class Head(Mechanism):
    """The output projection to the vocabulary, for every position of the pass.

    Parameters: V·d unless ``tied`` to the embedding, and V with a bias. Matmul FLOPs: 2·d·V per token, tied or not.
    """

    part: ClassVar[Part] = "head"
    tied: bool = False
    bias: bool = False
    softcap: bool = False
    scaled: bool = False
    """Logits multiplied by a constant (Granite, Command-R, T5)."""
    d_embedding: Positive | None = None
    """Width of the vocabulary table where a projection leads to it from d_model (OPT-350M)."""
    projection_bias: bool = False
    transform: Activation | None = None
    """A layer with this activation before the projection, and a norm after it (BERT's masked-LM head): square, or from
    d_model to ``d_embedding`` where that is given (ALBERT, ELECTRA)."""
    transform_bias: bool = True
    transform_norm: NormSpec | None = None
    n_codebooks: Positive | None = None
    """Projections side by side, one for each codebook (MusicGen)."""

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Head:
        """Build from trusted data."""
        return cls(**{**data, "transform_norm": norm_or_none(data.get("transform_norm"))})

    def operations(self) -> Table:
        """Return transform, projection, scaling."""
        table: list[Operation] = []
        entry, width = "x", "d"
        if self.transform:
            inner, width = ("X", "X") if self.d_embedding else ("o", "d")
            table += [
                Einsum(
                    "transform",
                    f"btd,d{inner}->bt{inner}",
                    weight=f"d{inner}",
                    bias=inner if self.transform_bias else "",
                ),
                activation("activation", f"bt{width}", "transform", self.transform),
            ]
            entry = "activation"
        if self.transform_norm:
            table.append(self.transform_norm.operation("norm", (entry,), f"bt{width}"))
            entry = "norm"
        if self.d_embedding and not self.transform:
            bias = "X" if self.projection_bias else ""
            table.append(Einsum("project_out", "btd,dX->btX", inputs=(entry,), weight="dX", bias=bias))
            entry, width = "project_out", "X"
        books = "κ" if self.n_codebooks else ""
        weight, bias = f"{books}v{width}", f"{books}v" if self.bias else ""
        equation = f"bt{width},{weight}->bt{books}v"
        table.append(Einsum("lm_head", equation, inputs=(entry,), weight=weight, bias=bias, tied=self.tied))
        if self.scaled:
            table.append(Elementwise("scale", f"bt{books}v", inputs=("lm_head",), each=1))
        if self.softcap:
            table.append(
                Elementwise("softcap", f"bt{books}v", inputs=("lm_head",), each=3, needs="operands", apart=(), inside=1)
            )
        return tuple(table)


@named_record
class Pooler(Mechanism):
    """One vector for a whole sequence, of one of its tokens: a square layer and tanh (BERT), classes, a joint space.

    Parameters: d² + d for the square layer, n_labels·(d + 1), d·d_joint (and d_joint with a bias). Matmul FLOPs: 2·d²,
    2·d·n_labels and 2·d·d_joint per sequence. Comparing texts with images is not counted.

    Source: Devlin et al. 2018, arXiv:1810.04805 §3; joint space: Radford et al. 2021, arXiv:2103.00020 §2.3.

    >>> sum(op.parameters({"d": 768, "o": 768}) for op in Pooler().operations())
    590592
    """

    part: ClassVar[Part] = "head"
    norm: NormSpec | None = None
    """A norm of the token, where no other one has it (CLIP's image side)."""
    square: bool = True
    """The square layer and tanh."""
    n_labels: Positive | None = None
    """Answers of a classifier over the vector (BERT's next-sentence head has 2)."""
    d_projection: Positive | None = None
    """Width of the space that texts and images share (CLIP); vectors are divided by their length there."""
    projection_bias: bool = False
    n_scalars: Positive | None = None
    """Learned numbers that scale and shift similarities: a temperature (CLIP), and a bias (SigLIP)."""

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Pooler:
        """Build from trusted data."""
        return cls(**{**data, "norm": norm_or_none(data.get("norm"))})

    def operations(self) -> Table:
        """Return norm, layer, tanh, the classifier, the map to the joint space."""
        table: list[Operation] = [self.norm.operation("norm", dims="bd")] if self.norm else []
        if self.square:
            entry = table[-1].name if table else "x"
            table += [
                Einsum("pooler", "bd,do->bo", inputs=(entry,), weight="do", bias="o"),
                Elementwise("tanh", "bd", inputs=("pooler",), each=1, needs="result"),
            ]
        entry = table[-1].name if table else "x"
        if self.n_labels:
            table.append(Einsum("classifier", "bd,dν->bν", inputs=(entry,), weight="dν", bias="ν"))
        if self.d_projection:
            bias = "æ" if self.projection_bias else ""
            table += [
                Einsum("projection", "bd,dæ->bæ", inputs=(entry,), weight="dæ", bias=bias),
                Elementwise("normalised", "bæ", inputs=("projection",), each=3, needs="operands"),
            ]
        if self.n_scalars:
            table.append(Lookup("similarity", "φ", table="φ"))
        return tuple(table)
