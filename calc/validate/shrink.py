"""An architecture made small without losing its structure.

Sizes shrink together: what was smaller stays smaller, what was equal stays equal, what divided still divides, even
stays even. So a head that is not d_model / n_heads wide stays so, groups stay groups, and every constraint of a
mechanism still holds, though nothing here knows any mechanism.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from math import lcm
from typing import Any, TypeVar

from calc.errors import CalcError
from calc.grid_masks import Windows
from calc.layers import Encoder, Layer, Stack
from calc.modality.tower import Tower
from calc.model import Model
from calc.records import Record, replace
from calc.validate.samples import Sample

POSITIONS = frozenset(
    (
        *("window", "chunk_size", "stride", "block_size", "compress_block", "compress_stride"),
        *("n_selected", "n_global", "window_side", "grid_width", "n_random", "n_sinks", "n_heavy"),
    )
)
"""Fields that count positions: they must be exceeded by the test's context, so they shrink further, on their own."""
FIXED = {"max_positions": 256, "n_buckets": 8}
"""Tables that must be long enough for the test's positions."""
SMALL = 4
"""Sizes up to this stay as they are."""
COPIES = 2
"""How often each distinct layer stands at most."""
ANCHORS = (24, 36, 48, 60, 72, 96, 120, 168, 240, 360)
"""Widths tried for d_model, until everything that was narrower fits below it."""
VOCABULARY = 61
SHARED = frozenset(("d_embedding", "d_per_layer"))
"""Sizes that stand in several records and must agree: what the first record needs, the others take."""


Whole = TypeVar("Whole", Model, Tower)


class NoRoom(Exception):  # noqa: N818 - reads as what it says
    """No size fits between its neighbours."""


def shrunk(model: Model) -> Model:
    """Return a model with the structure of a given one and tiny sizes.

    Raises:
        CalcError: no tiny sizes fit together.
    """
    return _first(_shrunk, model, model.name)


def shrunk_tower(tower: Tower) -> Tower:
    """Return a tower with the structure of a given one and tiny sizes.

    Raises:
        CalcError: no tiny sizes fit together.
    """
    return _first(_small_tower, tower, f"a tower of {tower.modality}")


def _first(shrink: Callable[[Whole, int], Whole], whole: Whole, what: str) -> Whole:
    """Return what the first width makes at which all sizes fit together."""
    for width in ANCHORS:
        try:
            return shrink(whole, width)
        except NoRoom:
            continue
    raise CalcError(f"{what} cannot be shrunk: its sizes do not fit together")


def _small_tower(tower: Tower, width: int) -> Tower:
    sizes = Sizes(tower.d_model, width)
    outlets = {name: getattr(tower, name) for name in ("patches", "pooler", "attention_pool")}
    return replace(
        tower,
        d_model=width,
        embedding=sizes.of(tower.embedding),
        stack=_stacks(tower.stack, sizes),
        projector=tuple(map(sizes.of, tower.projector)),
        **{name: sizes.of(outlet) for name, outlet in outlets.items() if outlet},
    )


def _shrunk(model: Model, width: int) -> Model:
    sizes = Sizes(model.d_model, width)
    encoder = model.encoder
    extra = tuple(map(sizes.of, model.extra))  # first: its table has more sizes to agree with than a layer's share
    return replace(
        model,
        d_model=width,
        vocab_size=VOCABULARY if model.vocab_size else 0,
        max_context=None,
        embedding=sizes.of(model.embedding),
        patches=sizes.of(model.patches) if model.patches else None,
        stack=_stacks(model.stack, sizes),
        head=sizes.of(model.head) if model.head else None,
        pooler=sizes.of(model.pooler) if model.pooler else None,
        attention_pool=sizes.of(model.attention_pool) if model.attention_pool else None,
        projector=tuple(map(sizes.of, model.projector)),
        encoder=encoder
        and Encoder(
            embedding=sizes.of(encoder.embedding),
            stack=_stacks(encoder.stack, sizes),
            final_norm=encoder.final_norm,
        ),
        extra=extra,
        mtp=sizes.of(model.mtp) if model.mtp else None,
        tower=(),
        sees="causal",
        low=None,
        high=None,
        published={},
        notes=(),
    )


def _stacks(stacks: tuple[Stack, ...], sizes: Sizes) -> tuple[Stack, ...]:
    """Shrink every layer, and keep the first few of those that are alike, in order."""
    standing: Counter[Layer] = Counter()
    found = []
    for stack in stacks:
        repeat = min(stack.repeat, COPIES)
        layers = []
        for layer in map(sizes.of, stack.layer):
            if standing[layer] < COPIES:
                standing[layer] += repeat
                layers.append(layer)
        if layers:
            found.append(Stack(repeat=repeat, layer=tuple(layers)))
    return tuple(found)


class Sizes:
    """Small sizes for the integers of records, around a width of the model that is given."""

    def __init__(self, d_model: int, width: int) -> None:
        self.d_model = d_model
        self.width = width
        self.shared: dict[tuple[str, int], int] = {}

    def of(self, record: Any) -> Any:
        """Return a record with small integers, and so the records inside it."""
        values = {field.name: getattr(record, field.name) for field in fields(record)}
        inner = {name: self._inside(value) for name, value in values.items() if isinstance(value, (Record, tuple))}
        whole = {name: value for name, value in values.items() if type(value) is int}
        spans = {name: value for name, value in whole.items() if name in POSITIONS}
        widths = {name: value for name, value in whole.items() if name not in POSITIONS and name not in FIXED}
        fixed = {name: FIXED[name] for name in whole if name in FIXED}
        agreed = {value: self.shared[name, value] for name, value in widths.items() if (name, value) in self.shared}
        small = self._in_order(widths, {self.d_model: self.width, **agreed}) | self._in_order(spans, {SMALL: SMALL})
        self.shared |= {(name, widths[name]): small[name] for name in SHARED & set(widths)}
        self._keep_head_width(values, small)
        return replace(record, **inner, **small, **fixed)

    def _inside(self, value: Any) -> Any:
        """Shrink a record, or the records of a tuple."""
        if isinstance(value, tuple):
            return tuple(self.of(each) if isinstance(each, Record) else each for each in value)
        return self.of(value)

    def _in_order(self, values: dict[str, int], anchors: dict[int, int]) -> dict[str, int]:
        """Return small numbers that are ordered, divide each other and are even as the given ones."""
        chosen = dict(anchors)
        for value in sorted(set(values.values()) - set(anchors)):
            chosen[value] = value if value <= SMALL else _least(value, chosen)
        return {name: chosen[value] for name, value in values.items()}

    def _keep_head_width(self, values: dict[str, Any], small: dict[str, int]) -> None:
        """Refuse sizes whose heads fill the model's width by chance."""
        if "n_heads" not in small or "head_dim" not in small:
            return
        fill = values["n_heads"] * values["head_dim"] == self.d_model
        if not fill and small["n_heads"] * small["head_dim"] == self.width:
            raise NoRoom


def _least(value: int, chosen: dict[int, int]) -> int:
    """Return the least number that stands to the chosen ones as ``value`` stands to those they are chosen for."""
    above = min((small for large, small in chosen.items() if large > value), default=10**6)
    start = max((small for large, small in chosen.items() if large < value), default=1) + 1
    for small in range(start, above):
        divides = all(small % mine == 0 for large, mine in chosen.items() if 0 < large < value and value % large == 0)
        if small % 2 == value % 2 and divides:
            return small
    raise NoRoom


def sample(model: Model) -> Sample:
    """Return the sample that proves a model: its small version, with a context that its masks and chunks cut."""
    small = shrunk(model)
    sides = (small.stack, small.encoder.stack if small.encoder else ())
    reaches = [reach for stacks in sides for stack in stacks for layer in stack.layer for reach in _reaches(layer)]
    context = max([9, *(2 * reach + 1 for reach in reaches)])
    whole = _whole_tokens(small, context) if small.projector else context | 1
    return Sample(model.name, small, batch=2, context=whole, steps=3, source=context + 2)


def _whole_tokens(tower: Model, least: int) -> int:
    """Return a number of positions whose patches fill rows of the grid and tokens of the projectors."""
    masks = [getattr(layer.attention, "mask", None) for stack in tower.stack for layer in stack.layer]
    rows = [mask.grid_width for mask in masks if isinstance(mask, Windows) and mask.grid_width]
    step = lcm(*rows, *(projector.n_merged or 1 for projector in tower.projector))
    prefix = (tower.patches.n_prefix if tower.patches else None) or 0
    return prefix + step * -(-least // step)


def tower_sample(tower: Tower) -> Sample:
    """Return the sample that proves a tower: its small version, over a grid whose edge cuts windows."""
    small = shrunk_tower(tower)
    merged = max([projector.n_merged or 1 for projector in small.projector], default=1)
    reach = max([reach for stack in small.stack for layer in stack.layer for reach in _reaches(layer)], default=0)
    if small.patches is None:
        return Sample("audio tower", small, context=8 * merged)
    width = max(5, reach + 1)
    rows = merged * -(-max(3, reach + 1) // merged)
    return Sample("image tower", small, context=rows * width + (small.patches.n_prefix or 0), width=width)


def _reaches(record: Record) -> list[int]:
    """Return every number of positions in a record and the records inside it."""
    found = []
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Record):
            found += _reaches(value)
        elif field.name in POSITIONS and type(value) is int:
            found.append(value)
    return found
