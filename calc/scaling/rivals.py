"""From which length on softmax attention is dearer: hierarchical, linear and state-space mixers beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from calc import catalog
from calc.attention import Attention
from calc.attention.delta import GatedDelta
from calc.attention.gqa import GQA
from calc.attention.kda import KimiDelta
from calc.attention.lightning import Lightning
from calc.attention.linear import Linear
from calc.attention.mamba import Mamba
from calc.attention.mamba2 import Mamba2
from calc.attention.mla import MLA
from calc.attention.nsa import NSA
from calc.checks import one_of
from calc.errors import SpecError, UnknownName
from calc.layers import Block, Layer, Stack
from calc.masks import Window
from calc.model import Model, Pass, cache_bytes, flops_by_operation
from calc.operations import Counts
from calc.records import Record, named_record, replace
from calc.results import Figure, Grid, Result, Row
from calc.sparse_masks import Strided
from calc.tensors import COUNTS
from calc.units import dtype

LONGEST = 2**30
"""No context is longer; a mixer that softmax has not overtaken there is not overtaken."""
QUANTITIES = ("flops.prefill", "flops.decode", "state+cache")
Costs = Callable[[int], int]


@named_record
class Rival(Record):
    """A mixer of the same width as the softmax attention, and the family it belongs to."""

    name: str
    family: str
    mixer: Attention


def rivals(heads: int, kv_heads: int, head_dim: int) -> Iterator[Rival]:
    """Yield mixers with the same heads: local, hierarchical, linear, state-space; sizes as their papers have them."""
    base = GQA(n_heads=heads, n_kv_heads=kv_heads, head_dim=head_dim)
    sparse = NSA(n_heads=heads, n_kv_heads=kv_heads, head_dim=head_dim, v_head_dim=head_dim, rotary_dim=head_dim)
    strided = Strided(window=512, stride=64)
    yield Rival(name="window-4096", family="local", mixer=replace(base, mask=Window(window=4096)))
    yield Rival(name="local 512 + every 64th", family="hierarchical", mixer=replace(base, mask=strided))
    yield Rival(name="native sparse", family="hierarchical", mixer=sparse)
    yield Rival(name="linear", family="linear", mixer=Linear(n_heads=heads, head_dim=head_dim))
    yield Rival(name="lightning", family="linear", mixer=Lightning(n_heads=heads, head_dim=head_dim))
    delta = GatedDelta(n_key_heads=heads, n_value_heads=heads, head_dim=head_dim, v_head_dim=head_dim)
    yield Rival(name="gated delta", family="linear", mixer=delta)
    yield Rival(name="kimi delta", family="linear", mixer=KimiDelta(n_heads=heads, head_dim=head_dim))
    inner = 2 * heads * head_dim  # Mamba's expansion by two, arXiv:2312.00752 §3.4; Δ of d/16
    yield Rival(name="mamba", family="state space", mixer=Mamba(d_inner=inner, d_state=16, dt_rank=max(inner // 32, 1)))
    mamba2 = Mamba2(n_ssm_heads=max(inner // 64, 1), ssm_head_dim=64, d_state=128)
    yield Rival(name="mamba-2", family="state space", mixer=mamba2)


def lengths(model: str | Path | Model, *, quantity: str = "", counts: Counts = "all", causal: bool = True) -> Result:
    """Return from which context on a model's softmax attention is dearer than mixers of the same heads.

    For each mixer and quantity (``flops.prefill``, ``flops.decode``, ``state+cache``), the first context from which on
    softmax costs more at every longer one: 1 where it always does, none where it never does up to 2^30 tokens. Only
    the mixer is compared: what stands around it is the same. Units: tokens; FLOP and bytes beside them.

    Raises:
        SpecError: a model without softmax attention.
        UnknownName: no such quantity.

    >>> rows = lengths("llama-3-8b", quantity="flops.prefill").data["rivals"]
    >>> {row["name"]: row["crossovers"]["flops.prefill"]["from"] for row in rows}["linear"] > 1
    True
    """
    if quantity and quantity not in QUANTITIES:
        raise UnknownName("quantity", quantity, QUANTITIES)
    one_of("counts", counts, COUNTS)
    asked = (quantity,) if quantity else QUANTITIES
    loaded = catalog.load(model)
    base, heads, kv_heads, width = _softmax(loaded)
    own = _costs(loaded.d_model, base, counts, causal)
    rows, entries = [], []
    family = ""
    for rival in rivals(heads, kv_heads, width):
        theirs = _costs(loaded.d_model, rival.mixer, counts, causal)
        found = {name: overtaken(own[name], theirs[name]) for name in asked}
        cells = [_length(found[name]) for name in asked]
        rows.append(Row(rival.name, (rival.name, *cells), section=rival.family if rival.family != family else ""))
        family = rival.family
        crossovers = {
            name: {"from": at, "softmax": own[name](at) if at else None, "rival": theirs[name](at) if at else None}
            for name, at in found.items()
        }
        entries.append({"name": rival.name, "family": rival.family, "crossovers": crossovers})
    shape = f"{heads} heads of {width}, " + ("latent" if isinstance(base, MLA) else f"{kv_heads} key-value heads")
    title = f"{loaded.heading}: softmax attention ({shape}) is dearer from"
    pairs = "causal" if causal else "full"
    notes = (f"{counts} FLOPs, {pairs} pairs; bf16 cache, states as published; one layer, batch 1",)
    grid = Grid(title, ("mixer", *(f"{name}, tokens" for name in asked)), tuple(rows), notes)
    data = {
        "model": loaded.name,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": width,
        "counts": counts,
        "rivals": entries,
    }
    return Result(kind="lengths", data=data, grids=(grid,))


def _softmax(model: Model) -> tuple[Attention, int, int, int]:
    """Return a model's softmax attention over the whole context, its heads, key-value heads and their width.

    Windows are left out: a layer that has one is itself a rival. Latent attention is taken as it is.
    """
    for layer in model.kinds_of_layer():
        mixer = layer.attention
        if isinstance(mixer, GQA):
            base = GQA(n_heads=mixer.n_heads, n_kv_heads=mixer.n_kv_heads, head_dim=mixer.head_dim)
            return base, mixer.n_heads, mixer.n_kv_heads, mixer.head_dim
        if type(mixer) is MLA:
            return mixer, mixer.n_heads, mixer.n_heads, mixer.v_head_dim
    raise SpecError(f"{model.name} has no softmax attention to hold others against")


def _length(at: int | None) -> Figure | str:
    return "never" if at is None else Figure(at)


def _costs(d_model: int, mixer: Attention, counts: Counts, causal: bool) -> dict[str, Costs]:
    """Return what one layer's mixer costs at a context, by quantity; read off a model that is nothing else."""
    layer = Layer(attention=mixer)
    alone = Model(name="mixer", d_model=d_model, vocab_size=1, stack=(Stack(layer=(layer,), repeat=1),), head=None)
    blocks = [block for block in alone.blocks() if block.name == "attention"]

    def flops(of: Callable[..., Pass]) -> Costs:
        return lambda context: _flops(blocks, of(context, causal=causal), counts)

    def held(context: int) -> int:
        kept = cache_bytes(blocks, Pass.decode(context), dtype("bf16"))
        return int(kept.bytes + kept.state_bytes)

    return {"flops.prefill": flops(Pass.prefill), "flops.decode": flops(Pass.decode), "state+cache": held}


def _flops(blocks: list[Block], pass_: Pass, counts: Counts) -> int:
    return int(sum(flops_by_operation(blocks, pass_, counts).values()))


def overtaken(one: Costs, other: Costs) -> int | None:
    """Return from which context on ``one`` is dearer than ``other`` for good: 1 if always, None if not even at 2^30.

    Looked at every power of two; the last change of sign between two of them is found to the token by bisection.

    >>> overtaken(lambda n: n * n, lambda n: 100 * n)
    101
    """
    powers = [2**exponent for exponent in range(LONGEST.bit_length())]
    if one(powers[-1]) <= other(powers[-1]):
        return None
    below = [power for power in powers if one(power) <= other(power)]
    if not below:
        return 1
    low = below[-1]
    high: int = 2 * low
    while high - low > 1:
        middle = (low + high) // 2
        if one(middle) <= other(middle):
            low = middle
        else:
            high = middle
    return high
