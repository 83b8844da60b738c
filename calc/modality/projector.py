"""The way out of a tower: patches put together, and mapped to the width of the language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from calc.activations import Activation
from calc.embedding import NormSpec, norm_or_none
from calc.errors import SpecError
from calc.fields import Positive
from calc.grid_masks import Merged
from calc.modality import Modal
from calc.operations import Einsum, Elementwise, Lookup, Norm, Operation, Table, activation
from calc.records import named_record


@named_record
class Projector(Modal):
    """n_μ patches side by side, or their mean, through one map or two: (t − n_pre)/n_μ tokens of t positions.

    Parameters: n_μ·d·d_out with one map, n_μ·d·d_ff + d_ff·d_out with two, n_μ·d·d_ff + d_ff·d_mid + d_mid·d_out with
    three (d in place of n_μ·d where the patches are averaged), biases, the norm. Matmul FLOPs: 2 × the matrices'
    parameters for each token.

    Source: one map PaliGemma, arXiv:2407.07726 §3.1; two maps LLaVA-1.5, arXiv:2310.03744 §3.2; side by side Qwen2-VL,
    arXiv:2409.12191 §2.1, InternVL 1.5, arXiv:2404.16821 §3.1; the mean Gemma 3, arXiv:2503.19786 §2.1.

    Raises:
        SpecError: a norm without its place, a mean of nothing.

    >>> table = Projector(n_merged=4, d_ff=5120, d_out=3584).operations()
    >>> [op.formula for op in table]
    ['btЖd,Жdf->btf', 'elementwise btf', 'btf,fø->btø']
    """

    source: ClassVar[str] = "LLaVA, arXiv:2310.03744 §3.2; Qwen2-VL, arXiv:2409.12191 §2.1"
    kind: Literal["projector"] = "projector"
    n_prefix: Positive | None = None
    """Positions before the patches, which it leaves out."""
    n_merged: Positive | None = None
    """Patches that become one token."""
    pooled: bool = False
    """They are averaged, not put side by side (Gemma 3)."""
    standardised: bool = False
    """The mean is multiplied by √d, shifted and scaled by stored vectors (Gemma 4)."""
    norm: NormSpec | None = None
    norm_over: Literal["patch", "token", "result"] = "patch"
    """Each patch is normalised before patches are put together, or what they become as a whole, or what is handed on
    (GIT)."""
    d_ff: Positive | None = None
    """Width between two maps; without it there is one map."""
    d_middle: Positive | None = None
    """Width between the second of three maps and the third (Llama 4)."""
    linear_first: bool = False
    """No activation between the first of three maps and the second (Mistral Small 3.1)."""
    activation: Activation = "gelu"
    """Between two maps."""
    bias: bool = False
    d_out: Positive
    newline: bool = False
    """A learned vector that ends each row of patches (LLaVA-NeXT)."""
    copies: Positive | None = None
    """As many of them stand beside the chain, each after another layer of the tower (Qwen3-VL's DeepStack)."""

    def __post_init__(self) -> None:
        if self.pooled and self.n_merged is None:
            raise SpecError("projector.pooled needs projector.n_merged")
        if self.standardised and not self.pooled:
            raise SpecError("projector.standardised needs projector.pooled")
        if self.linear_first and self.d_middle is None:
            raise SpecError("projector.linear_first needs projector.d_middle")
        if self.d_middle and self.d_ff is None:
            raise SpecError("projector.d_middle needs projector.d_ff")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Projector:
        """Build from trusted data."""
        return cls(**{**data, "norm": norm_or_none(data.get("norm"))})

    def operations(self) -> Table:
        """Return norm, mean, maps and activations."""
        merges = self.n_prefix or self.n_merged
        over = Merged(n_prefix=self.n_prefix or 0, n_merged=self.n_merged) if merges else None
        joined = "Жd" if self.n_merged and not self.pooled else "d"
        table: list[Operation] = []
        entry = "x"
        if self.norm and self.norm_over == "patch":
            table.append(self.norm.operation("norm"))
            entry = "norm"
        if self.pooled:
            table.append(Elementwise("pool", "btЖd", inputs=(entry,), each=1, over=over))
            entry = "pool"
        if self.standardised:
            table += [
                Elementwise("pool_scale", "btd", inputs=(entry,), each=1, over=over),
                Elementwise("shift", "btd", inputs=("pool_scale",), each=1, weight="d", over=over),
                Elementwise("stretch", "btd", inputs=("shift",), each=1, weight="d", needs="operands", over=over),
            ]
            entry = "stretch"
        if self.norm and self.norm_over == "token":
            table.append(self._whole_norm(self.norm, joined, entry, over))
            entry = "norm"
        table += self._maps(entry, joined, over)
        if self.norm and self.norm_over == "result":
            table.append(self._whole_norm(self.norm, "ø", "out_proj", over))
        return tuple(table)

    def _whole_norm(self, norm: NormSpec, joined: str, entry: str, over: Merged | None) -> Norm:
        scale, bias = joined if norm.scale else "", joined if norm.bias else ""
        return Norm("norm", f"bt{joined}", inputs=(entry,), kind=norm.kind, weight=scale, bias=bias, over=over)

    def _maps(self, entry: str, joined: str, over: Merged | None) -> list[Operation]:
        """Return one map to three, with activations between them."""
        widths = [("up_proj", "f")] if self.d_ff else []
        widths += [("mid_proj", "ħ")] if self.d_middle else []
        table: list[Operation] = []
        for name, width in (*widths, ("out_proj", "ø")):
            if table and not (self.linear_first and name == "mid_proj"):
                activated = activation(
                    name.replace("proj", "activation"), f"bt{joined}", entry, self.activation, over=over
                )
                table.append(activated)
                entry = activated.name
            weight, bias = f"{joined}{width}", width if self.bias else ""
            equation = f"bt{joined},{weight}->bt{width}"
            table.append(Einsum(name, equation, inputs=(entry,), weight=weight, bias=bias, over=over))
            entry, joined = name, width
        if self.newline:
            table.append(Lookup("newline", "ø", table="ø"))
        return table

    def label(self) -> str:
        """Return the kind, and how many patches become a token."""
        how = "mean of" if self.pooled else "joins"
        return f"{self.kind} {how} {self.n_merged}" if self.n_merged else self.kind
