"""How many experts, how large, how many at once: laws of mixture-of-experts over the cost that the tables count.

A law gives the loss of a size, tokens and routing; the tables give what a token of that very architecture costs to
train, router included. A budget then buys budget/cost tokens, and the loss of every choice can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from calc import catalog
from calc.attention.gqa import GQA
from calc.checks import whole
from calc.costs import Setting
from calc.embedding import Embedding, NormSpec
from calc.errors import SpecError
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.fields import LARGEST
from calc.layers import Layer, Stack
from calc.model import Model
from calc.records import Record, named_record, replace
from calc.results import Cell, Figure, Grid, Result, Row
from calc.scaling.laws import positive
from calc.scaling.published import GRANULAR, JOINT
from calc.scaling.sizes import Size, training_flops_per_token
from calc.units import memory as memory_text

EXPANSIONS = (1, 2, 4, 8, 16, 32, 64)
GRANULARITIES = (1, 2, 4, 8, 16, 32, 64)
ACTIVATIONS = (1, 2)
SHOWN = 12


@named_record
class Choice(Record):
    """One architecture at a budget: routing, sizes, cost of a token, tokens that the budget buys, losses by law.

    ``loss_joint``: of the law in experts and activation (experts as wide as the dense layer); ``loss_granular``: of the
    law in the experts' size (64-fold expansion). None where a law does not speak of such an architecture.
    """

    expansion: int
    granularity: int
    activation: int
    n_experts: int
    n_active_experts: int
    d_expert: int
    total: int
    active: int
    weight_bytes: int
    flops_per_token: float
    tokens: float
    loss_joint: float | None
    loss_granular: float | None
    extrapolated: bool
    """More experts than the law of ``loss_joint`` was fitted on."""


def widened(model: Model, expansion: int, granularity: int = 1, activation: int = 1) -> Model:
    """Return the same model with experts in place of its feed-forward layers.

    The dense width f (of a mixture of experts: all that a token uses) becomes experts of f/granularity, of which a
    token uses activation·granularity out of expansion·activation·granularity; one expert alone is the dense layer.
    Layers that are dense in a mixture of experts stay as they are.

    Raises:
        SpecError: no feed-forward layer that could be widened; a width that the granularity does not divide.

    >>> import calc
    >>> model = widened(calc.load("llama-3-8b"), 8)
    >>> model.params().active < model.params().total
    True
    """
    mixed = any(isinstance(layer.ffn, MoE) for layer in model.kinds_of_layer())

    def routed(layer: Layer) -> Layer:
        ffn = layer.ffn
        if not isinstance(ffn, MoE) and (mixed or not isinstance(ffn, DenseFFN)):
            return layer
        width = _width(ffn)
        if width % granularity:
            raise SpecError(f"granularity = {granularity} does not divide the width {width:,} of {model.name}")
        if expansion == granularity == 1:
            return replace(layer, ffn=DenseFFN(d_ff=activation * width, activation=ffn.activation, gated=ffn.gated))
        used = activation * granularity
        experts = MoE(
            n_experts=expansion * used,
            n_active_experts=used,
            d_expert=width // granularity,
            activation=ffn.activation,
            gated=ffn.gated,
        )
        return replace(layer, ffn=experts)

    stacks = tuple(replace(stack, layer=tuple(map(routed, stack.layer))) for stack in model.stack)
    if stacks == model.stack and not (expansion == granularity == activation == 1):
        raise SpecError(f"{model.name} has no feed-forward layer that experts could take the place of")
    return replace(model, stack=stacks)


def family(n_layers: int, vocab_size: int = 1) -> Model:
    """Return the plain dense model of the laws' experiments: d_model = 64·n_layers, heads of 64, d_ff = 4·d_model.

    Source: Krajewski et al. 2024, arXiv:2402.07871 §6.1. Without head: their budgets leave the vocabulary out.
    """
    width = 64 * n_layers
    layer = Layer(
        attention=GQA(n_heads=n_layers, n_kv_heads=n_layers, head_dim=64),
        ffn=DenseFFN(d_ff=4 * width, activation="gelu", gated=False),
        norm=NormSpec(kind="rms"),
    )
    return Model(
        name=f"plain-{n_layers}",
        title=f"Plain model, {n_layers} layers of {width:,}",
        source="Krajewski et al. 2024, arXiv:2402.07871 §6.1",
        d_model=width,
        vocab_size=vocab_size,
        embedding=Embedding(),
        stack=(Stack(layer=(layer,), repeat=n_layers),),
        head=None,
    )


def choice(model: Model, compute: float, context: int, expansion: int, granularity: int, activation: int) -> Choice:
    """Return what a budget buys of one architecture, and the losses that the laws foresee."""
    changed = widened(model, expansion, granularity, activation)
    size = Size.of(changed)
    cost = training_flops_per_token(changed, context)
    tokens = compute / cost
    kinds = [layer.ffn for layer in changed.kinds_of_layer() if isinstance(layer.ffn, (MoE, DenseFFN))]
    ffn = next((one for one in kinds if isinstance(one, MoE)), kinds[0])
    joint = JOINT.loss(size.active, tokens, expansion) if granularity == 1 else None
    granular = None
    if expansion == GRANULAR.expansion and activation == 1:
        granular = GRANULAR.loss(size.non_embedding, tokens, granularity)
    return Choice(
        expansion=expansion,
        granularity=granularity,
        activation=activation,
        n_experts=ffn.n_experts if isinstance(ffn, MoE) else 1,
        n_active_experts=ffn.n_active_experts if isinstance(ffn, MoE) else 1,
        d_expert=ffn.d_expert if isinstance(ffn, MoE) else ffn.d_ff,
        total=size.total,
        active=size.active,
        weight_bytes=int(changed.weight_bytes("bf16")),
        flops_per_token=cost,
        tokens=tokens,
        loss_joint=joint,
        loss_granular=granular,
        extrapolated=expansion > JOINT.largest and granularity == 1,
    )


def choices(
    model: Model,
    compute: float,
    context: int,
    expansions: Iterable[int] = EXPANSIONS,
    granularities: Iterable[int] = GRANULARITIES,
    activations: Iterable[int] = ACTIVATIONS,
) -> Iterator[Choice]:
    """Yield every choice that some law speaks of: counts and activations with whole experts, sizes at 64-fold."""
    for expansion in expansions:
        for activation in activations:
            yield choice(model, compute, context, expansion, 1, activation)
    widths = [_width(layer.ffn) for layer in model.kinds_of_layer() if isinstance(layer.ffn, (MoE, DenseFFN))]
    for granularity in granularities:
        if granularity > 1 and not any(width % granularity for width in widths):
            yield choice(model, compute, context, GRANULAR.expansion, granularity, 1)


def _width(ffn: MoE | DenseFFN) -> int:
    """Return the hidden units that a token uses."""
    return ffn.d_ff if isinstance(ffn, DenseFFN) else ffn.n_active_experts * ffn.d_expert + (ffn.d_shared or 0)


def experts(
    model: str | Path | Model, *, compute: float, context: int | None = None, memory: float | None = None
) -> Result:
    """Return the best count, size and activation of experts for a model's backbone at a training budget.

    The backbone keeps its depth, width and attention; experts take the place of its feed-forward layers. What a token
    costs is read off the tables of each choice (router included), the budget buys tokens, and two published laws give
    the loss: in experts and activation (whole experts), and in the experts' size (64-fold expansion). Their losses do
    not compare with one another. ``memory`` (bytes) leaves out choices whose bf16 weights do not fit.

    Raises:
        SpecError: a budget that is none, a model without feed-forward layers, nothing that fits.
    """
    loaded = catalog.load(model)
    budget = positive("compute", compute)
    length = Setting.of([loaded], context).context
    if not any(isinstance(layer.ffn, (MoE, DenseFFN)) for layer in loaded.kinds_of_layer()):
        raise SpecError(f"{loaded.name} has no feed-forward layer that experts could take the place of")
    found = list(choices(loaded, budget, length))
    room = None if memory is None else positive("memory", memory)
    kept = [one for one in found if room is None or one.weight_bytes <= room]
    if not kept:
        least = min(one.weight_bytes for one in found)
        raise SpecError(f"no choice fits: the smallest needs {least:,} bytes for its weights")
    ranked = {key: _ranked(kept, key) for key in TITLES}
    grids = [_grid(TITLES[key], key, choices_) for key, choices_ in ranked.items() if choices_]
    formulas = Grid(
        "Formulas",
        ("law", "loss", "source"),
        (
            Row("formula.joint", ("experts and activation", JOINT.formula, JOINT.source)),
            Row("formula.granular", ("size of experts", GRANULAR.formula, GRANULAR.source)),
        ),
        (f"{loaded.name}, {budget:.4g} FLOP, {length:,} tokens a sequence; ≈: more experts than were in the fit",),
    )
    data = {
        "model": loaded.name,
        "compute": budget,
        "context": length,
        "memory": room,
        "choices": [dict(vars(one)) for one in kept],
        "best": {key: dict(vars(choices_[0])) for key, choices_ in ranked.items() if choices_},
        "left_out": len(found) - len(kept),
    }
    notes = (
        (f"{len(found) - len(kept)} choices do not fit {memory_text(room)}",) if room and len(kept) < len(found) else ()
    )
    return Result(kind="experts", data=data, grids=(*grids, formulas), notes=notes)


TITLES = {
    "loss_joint": "Experts and activation, whole experts: best first",
    "loss_granular": f"Size of experts, {GRANULAR.expansion}-fold expansion: best first",
}


def _ranked(kept: list[Choice], key: str) -> list[Choice]:
    """Return the choices that a law speaks of, the best first."""
    return sorted((one for one in kept if getattr(one, key) is not None), key=lambda one: float(getattr(one, key)))


def _grid(title: str, key: str, ranked: list[Choice]) -> Grid:
    columns = ("experts", "of width", "parameters", "active", "weights", "FLOP / token", "tokens", "loss")
    rows = [
        Row(
            f"{key}.{one.n_experts}.{one.n_active_experts}",
            (
                f"{one.n_active_experts:,} of {one.n_experts:,}" if one.n_experts > 1 else "dense",
                Figure(one.d_expert),
                Figure(one.total, "parameters"),
                Figure(one.active, "parameters"),
                Figure(one.weight_bytes, "B"),
                Figure(one.flops_per_token, "FLOP"),
                Figure(one.tokens, "tokens"),
                _loss(getattr(one, key), key == "loss_joint" and one.extrapolated),
            ),
        )
        for one in ranked[:SHOWN]
    ]
    return Grid(title, columns, tuple(rows))


def _loss(value: float, extrapolated: bool) -> Cell:
    return Figure(value, "", "estimate") if extrapolated else Figure(value)


def granular_optimum(compute: float, *, context: int = 256, most_layers: int = 400) -> Choice:
    """Return the best size, tokens and granularity for a budget at 64-fold expansion, cost read off the tables.

    The models are those of the law's experiments (``family``). Source of the law: Krajewski et al. 2024,
    arXiv:2402.07871 §6.2, whose Table 2 counts 14 FLOP for each router weight where a matrix product has 6: its
    granularity is at most as high as the one found here.

    Raises:
        SpecError: a budget or a size that cannot be.

    >>> granular_optimum(2.95e18).granularity in (8, 16)
    True
    """
    compute, context = positive("compute", compute), whole("context", context, most=LARGEST)
    whole("most_layers", most_layers, 2)

    def best(n_layers: int) -> Choice:
        model = family(n_layers)
        found = [choice(model, compute, context, GRANULAR.expansion, count, 1) for count in GRANULARITIES]
        return min(found, key=lambda one: one.loss_granular or float("inf"))

    low, high = 2, most_layers
    while high - low > 2:  # the loss falls and then rises with the size
        third = (high - low) // 3
        left, right = low + third, high - third
        if (best(left).loss_granular or 0) < (best(right).loss_granular or 0):
            high = right
        else:
            low = left
    return min((best(n_layers) for n_layers in range(low, high + 1)), key=lambda one: one.loss_granular or float("inf"))
