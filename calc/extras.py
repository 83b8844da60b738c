"""Tables that stand beside the parts of a layer, or beside the embedding: what Gemma 3n and 4 add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from calc.activations import Activation
from calc.fields import Positive
from calc.mechanism import Mechanism
from calc.operations import Einsum, Elementwise, Lookup, Norm, Operation, Part, Table, activation
from calc.records import named_record

KINDS: dict[str, str] = {
    "per_layer_table": "calc.extras:PerLayerTable",
    "per_layer_input": "calc.extras:PerLayerInput",
    "laurel": "calc.extras:Laurel",
    "altup": "calc.extras:AltUp",
    "altup_in": "calc.extras:AltUpIn",
    "altup_out": "calc.extras:AltUpOut",
    "layer_scale": "calc.extras:LayerScale",
}


@named_record
class Extra(Mechanism):
    """The family of further tables: what stands in a layer's or a model's ``extra``."""

    kinds: ClassVar[Mapping[str, str]] = KINDS

    @property
    def name(self) -> str:
        """What it is called in listings of operations."""
        return str(getattr(self, "kind", ""))


@named_record
class PerLayerTable(Extra):
    """A second embedding table, with a vector of width d_π for each of n_π layers, and a map of the first one to them.

    Parameters: V_π·n_π·d_π for the table, d·n_π·d_π for the map, d_π for the norm.

    Source: ``Gemma3nTextModel.project_per_layer_inputs`` of transformers; Gemma 3n's model card.

    >>> PerLayerTable(d_per_layer=256, n_fed_layers=35, per_layer_vocab=262144).bind()
    {'Λ': 35, 'π': 256, 'Ψ': 262144}
    """

    part: ClassVar[Part] = "embedding"
    kind: Literal["per_layer_table"] = "per_layer_table"
    d_per_layer: Positive
    n_fed_layers: Positive
    per_layer_vocab: Positive

    def operations(self) -> Table:
        """Return the lookup, the map, its norm, the mean of both."""
        return (
            Lookup("per_layer_tokens", "btΛπ", table="ΨΛπ"),
            Elementwise("per_layer_scale", "btΛπ", inputs=("per_layer_tokens",), each=1),
            Einsum("per_layer_map", "btd,dΛπ->btΛπ", weight="dΛπ"),
            Elementwise("map_scale", "btΛπ", inputs=("per_layer_map",), each=1),
            Norm("map_norm", "btΛπ", inputs=("map_scale",), kind="rms", weight="π"),
            Elementwise("per_layer_mean", "btΛπ", inputs=("map_norm", "per_layer_scale"), each=2),
        )


@named_record
class PerLayerInput(Extra):
    """A layer's own vector of a token, gated by the residual stream, projected and added to it.

    Parameters: 2·d·d_π and d in the norm. Source: ``Gemma3nTextDecoderLayer`` and ``Gemma4TextDecoderLayer``.
    """

    kind: Literal["per_layer_input"] = "per_layer_input"
    d_per_layer: Positive
    activation: Activation = "gelu_tanh"

    def operations(self) -> Table:
        """Return gate, activation, product, projection, norm, residual."""
        return (
            Einsum("gate", "btd,dπ->btπ", weight="dπ"),
            activation("activation", "btπ", "gate", self.activation),
            Elementwise("gated", "btπ", inputs=("activation", "per_layer_mean"), each=1, needs="operands"),
            Einsum("projection", "btπ,πd->btd", inputs=("gated",), weight="πd"),
            Norm("norm", "btd", inputs=("projection",), kind="rms", weight="d"),
            Elementwise("residual", "btd", inputs=("x", "norm"), each=1),
        )


@named_record
class Laurel(Extra):
    """A learned augmented residual: x + norm(x L R) of rank r_ℓ beside the attention, averaged with its result.

    Parameters: 2·d·r_ℓ and d in the norm. Source: Menghani et al. 2024, arXiv:2411.07501; ``Gemma3nTextLaurelBlock``.
    """

    kind: Literal["laurel"] = "laurel"
    laurel_rank: Positive

    def operations(self) -> Table:
        """Return the two maps, the norm, the sums and the scale 1/√2."""
        return (
            Einsum("left", "btd,dξ->btξ", weight="dξ"),
            Einsum("right", "btξ,ξd->btd", inputs=("left",), weight="ξd"),
            Norm("norm", "btd", inputs=("right",), kind="rms", weight="d"),
            Elementwise("sum", "btd", inputs=("x", "norm", "attention"), each=3),
        )


@named_record
class AltUp(Extra):
    """Alternating updates: n streams, of which the layer works on one; the others are predicted and corrected.

    Predict: each stream plus a mix of all, with n² coefficients of the token; correct: each stream plus the layer's
    innovation times a coefficient. Parameters: d·n for the router, n³ + n² for the coefficients, 2·d for its norm and
    the output's scale. Matmul FLOPs per token: 4·d·n, 2·n³ + 2·n² for the coefficients and 2·d·n² for the prediction.

    Source: Baykal et al. 2023, arXiv:2301.13310; ``Gemma3nTextAltUp`` of transformers.

    >>> AltUp(n_streams=4).bind()
    {'Y': 4, 'Ω': 16, 'Θ': 4}
    """

    source: ClassVar[str] = "Baykal et al. 2023, arXiv:2301.13310"
    kind: Literal["altup"] = "altup"
    n_streams: Positive

    @property
    def n_mixes(self) -> int:
        """Coefficients of a token's prediction."""
        return self.n_streams * self.n_streams

    def operations(self) -> Table:
        """Return the router before and after the layer, coefficients, prediction, correction, scale."""
        return (
            Norm("predict_norm", "btd", kind="rms", weight="d"),
            *self._route("predict", tied=False),
            Einsum("predict_coefficients", "btY,YΩ->btΩ", inputs=("predict_modality",), weight="YΩ"),
            Einsum("predict", "btYd,btYΘ->btΘd", inputs=("x", "predict_coefficients")),
            Elementwise("predict_sum", "btYd", inputs=("x", "predict"), each=1),
            # the same norm and router again, on what the layer returns
            Norm("correct_norm", "btd", inputs=("layer",), kind="rms"),
            *self._route("correct", tied=True),
            Einsum("correct_coefficients", "btY,YΘ->btΘ", inputs=("correct_modality",), weight="YΘ"),
            Elementwise("innovation", "btd", inputs=("layer", "predict_sum"), each=1),
            Elementwise("correct", "btYd", inputs=("innovation", "correct_coefficients"), each=2),
            Elementwise("output_scale", "btd", inputs=("correct",), each=1, weight="d"),
        )

    def _route(self, name: str, *, tied: bool) -> tuple[Operation, ...]:
        router = Einsum(f"{name}_router", "btd,dY->btY", inputs=(f"{name}_norm",), weight="dY", tied=tied)
        return (router, Elementwise(f"{name}_modality", "btY", inputs=(router.name,), each=1))


@named_record
class Copies(Extra):
    """The maps that lead from one stream to the others, or back."""

    n_streams: Positive

    @property
    def n_copies(self) -> int:
        """Streams beyond the first."""
        return self.n_streams - 1


@named_record
class AltUpIn(Copies):
    """The first values of AltUp's other streams: a map of the embedding for each, at the embedding's magnitude.

    Parameters: (n − 1)·d². Source: ``Gemma3nTextModel`` of transformers (``altup_projections``).
    """

    part: ClassVar[Part] = "embedding"
    kind: Literal["altup_in"] = "altup_in"

    def operations(self) -> Table:
        """Return the maps, and their scaling."""
        return (
            Einsum("altup_in", "btd,τdo->btτo", weight="τdo"),
            # square, add; times one root and over the other
            Elementwise("magnitude", "btτo", inputs=("altup_in",), each=4),
        )


@named_record
class AltUpOut(Copies):
    """The mean of AltUp's streams before the last norm, each of the others through a map, at the first's magnitude.

    Parameters: (n − 1)·d². Source: ``Gemma3nTextModel`` of transformers (``altup_unembed_projections``).
    """

    part: ClassVar[Part] = "head"
    kind: Literal["altup_out"] = "altup_out"

    def operations(self) -> Table:
        """Return the maps, their scaling, the mean."""
        return (
            Einsum("altup_out", "btτd,τdo->btτo", weight="τdo"),
            Elementwise("magnitude", "btτo", inputs=("altup_out",), each=4),
            Elementwise("mean", "btτo", inputs=("magnitude",), each=1),
        )


@named_record
class LayerScale(Extra):
    """A stored number that multiplies what a layer returns (Gemma 4's ``layer_scalar``)."""

    kind: Literal["layer_scale"] = "layer_scale"

    def operations(self) -> Table:
        """Return the product."""
        return (Elementwise("scale", "btd", each=1, scalars=1, needs="operands"),)
