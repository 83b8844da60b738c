"""A model over many batches and contexts at once: the numpy reading of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.checks import one_of
from calc.errors import SpecError
from calc.model import Model, Pass, cache_bytes, flops_by_operation, training_flops
from calc.operations import Counts
from calc.records import Record, named_record
from calc.tensors import COUNTS
from calc.units import dtype

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

CHUNK = 2**16
"""Points evaluated together: their intermediate arrays stay in the processor's cache."""
EXACT = 2**53
"""Largest whole number up to which float64 holds every whole number."""
FIGURES = ("flops_prefill", "flops_decode", "flops_train", "cache_bytes", "cache_bytes_per_token", "state_bytes")


@named_record
class Sweep(Record):
    """The figures of one model at every point; arrays are float64 and have the shape of the inputs broadcast together.

    ``params`` and ``weight_bytes`` do not depend on the point. A figure is the exact integer while it and every partial
    sum stay below 2**53 ≈ 9.0e15; beyond, it is rounded to float64's 53 bits. Units: FLOP and bytes.
    """

    model: Model
    batch: Values
    context: Values
    params: int
    active_params: int
    weight_bytes: int
    flops_prefill: Values
    flops_decode: Values
    flops_train: Values
    cache_bytes: Values
    cache_bytes_per_token: Values
    state_bytes: Values

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every array."""
        return tuple(self.context.shape)


def sweep(
    model: str | Path | Model,
    *,
    batch: ArrayLike = 1,
    context: ArrayLike,
    source: ArrayLike | None = None,
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
    causal: bool = True,
    counts: Counts = "matmul",
) -> Sweep:
    """Evaluate a model's tables at every combination of batch and context, broadcast together as numpy does.

    Memory is bounded: beyond the results, 65,536 points are held at a time.

    Raises:
        CalcError: an unknown model or dtype; inputs that are not whole from 1 to 2**53 − 1, or do not broadcast.

    >>> found = sweep("llama-3-8b", batch=[[1], [8]], context=[1024, 8192])
    >>> found.cache_bytes.tolist()
    [[134217728.0, 1073741824.0], [1073741824.0, 8589934592.0]]
    """
    import numpy as np

    loaded = catalog.load(model)
    one_of("counts", counts, COUNTS)
    inputs = [_whole("batch", batch), _whole("context", context)]
    inputs += [] if source is None else [_whole("source", source)]
    try:
        shape = np.broadcast_shapes(*(each.shape for each in inputs))
    except ValueError:
        shapes = " and ".join(str(each.shape) for each in inputs)
        raise SpecError(f"batch and context do not broadcast together: {shapes}") from None
    # not broadcast yet: what depends on the context alone is computed once for all batches
    aligned = [each.reshape((1,) * (len(shape) - each.ndim) + each.shape) for each in inputs]
    results = {name: np.empty(shape) for name in FIGURES}
    for part in _chunks(tuple(slice(0, length) for length in shape)):
        here = [each[_within(part, each.shape)] for each in aligned]
        for name, values in _figures(loaded, here, cache_dtype, causal, counts).items():
            results[name][part] = values
    params = loaded.params()
    return Sweep(
        model=loaded,
        batch=np.broadcast_to(inputs[0], shape),
        context=np.broadcast_to(inputs[1], shape),
        params=params.total,
        active_params=params.active,
        weight_bytes=loaded.weight_bytes(weights_dtype),
        **results,
    )


def _whole(name: str, values: ArrayLike) -> Values:
    """Return an input as float64.

    Raises:
        SpecError: not numbers, not whole, below 1, or too large to be exact.
    """
    import numpy as np

    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        raise SpecError(f"{name} is not an array of numbers") from None
    if array.dtype.kind not in "iuf":
        raise SpecError(f"{name} holds {array.dtype}, not whole numbers")
    wrong = ~((array >= 1) & (array < EXACT) & (array == np.floor(array)))
    if wrong.any():
        raise SpecError(f"{name} = {array[wrong].flat[0]} is not a whole number from 1 to 2**53 − 1")
    return array.astype(np.float64)


def _chunks(part: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield parts of at most ``CHUNK`` points: the longest axis is halved until they are small enough."""
    lengths = [each.stop - each.start for each in part]
    if prod(lengths) <= CHUNK:
        yield part
        return
    axis = lengths.index(max(lengths))
    start, stop = part[axis].start, part[axis].stop
    middle = (start + stop) // 2
    for half in (slice(start, middle), slice(middle, stop)):
        yield from _chunks((*part[:axis], half, *part[axis + 1 :]))


def _within(part: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a part of an array that is as long as the whole in some axes, and 1 in those that are broadcast."""
    return tuple(slice(None) if length == 1 else each for each, length in zip(part, shape, strict=True))


def _figures(model: Model, points: list[Any], cache_dtype: str, causal: bool, counts: Counts) -> dict[str, Values]:
    """Return the figures of some points: the very functions that count in integers."""
    batch, context, *rest = points
    source = rest[0] if rest else None
    blocks = model.blocks()
    prefill = Pass.prefill(context, batch, source=source, causal=causal)
    decode = Pass.decode(context, batch, source=source, causal=causal)
    cache = cache_bytes(blocks, decode, dtype(cache_dtype))
    return {
        "flops_prefill": sum(flops_by_operation(blocks, prefill, counts).values()),
        "flops_decode": sum(flops_by_operation(blocks, decode, counts).values()),
        "flops_train": training_flops(blocks, prefill, counts, recompute=False),
        "cache_bytes": cache.bytes,
        "cache_bytes_per_token": cache.bytes_per_token,
        "state_bytes": cache.state_bytes,
    }
