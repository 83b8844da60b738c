"""Bytes of weights, gradients and optimizer states for each parameter, by precision and kind of optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from calc.algebra import Number
from calc.errors import UnknownName
from calc.records import Record, named_record, record


@named_record
class Stored(Record):
    """Learned tensors of one shape on a rank: how many numbers, as what, and how often they stand."""

    path: str
    operation: str
    elements: Number
    """Of one layer."""
    matrices: Number
    rows: Number
    columns: Number
    repeat: Number = 1
    expert: bool = False
    hidden: bool = True
    """A weight between the embedding and the head."""
    looked_up: bool = False
    """A table whose rows are picked."""

    @property
    def matrix(self) -> bool:
        """Whether it has rows and columns; a vector has one row."""
        return bool(self.rows != 1)

    @property
    def total(self) -> Number:
        """Numbers of all layers."""
        return self.repeat * self.elements


@named_record
class Precision(Record):
    """Number formats of a training run, in bytes a number.

    ``master``: a full-precision copy that the optimizer updates, none where weights are updated themselves.
    """

    name: str
    weights: int
    compute: int
    master: int
    moments: int
    half: bool = False
    """fp16, whose gradients some frameworks keep in fp16 too."""


PRECISIONS: Final[Mapping[str, Precision]] = {
    each.name: each
    for each in (
        # Micikevicius et al. 2017, arXiv:1710.03740 §3.1: weights, a master copy and moments in fp32
        Precision(name="bf16", weights=2, compute=2, master=4, moments=4),
        Precision(name="fp16", weights=2, compute=2, master=4, moments=4, half=True),
        # products in fp8 of operands cast on the way: nothing is stored in fp8
        Precision(name="fp8", weights=2, compute=2, master=4, moments=4),
        Precision(name="bf16-true", weights=2, compute=2, master=0, moments=2),
        Precision(name="fp32", weights=4, compute=4, master=0, moments=4),
    )
}


def precision_of(name: str) -> Precision:
    """Return a precision by name.

    Raises:
        UnknownName: there is no such precision.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    return PRECISIONS[name]


@record
class Optimizer(Record):
    """An optimizer: its states' bytes for a stored tensor, given the bytes of a moment; where that is defined."""

    name: str
    source: str
    states: Callable[[Stored, int], Number]
    on_device: bool = True
    """Whether its states lie in the device's own memory (paged ones lie in the host's until they are used)."""
    besides: str = ""
    """What its update takes beside reading and writing, which is not modelled."""

    def update_bytes(self, stored: Stored, precision: Precision) -> Number:
        """Return the bytes that the update of a weight moves: 34 for each number with Adam in mixed precision.

        It reads the fp32 gradient, twice (once for its norm), reads and writes the states, and reads and writes the
        master copy and writes the weight, or reads and writes the weight where there is no copy.

        >>> matrix = Stored(path="", operation="", elements=2**20, matrices=1, rows=1024, columns=1024)
        >>> [optimizer_of(name).update_bytes(matrix, precision_of("bf16")) / 2**20 for name in ("adam", "muon", "sgd")]
        [34.0, 26.0, 18.0]
        """
        weight = 2 * precision.master + precision.weights if precision.master else 2 * precision.weights
        return (2 * GRADIENT + weight) * stored.elements + 2 * self.states(stored, precision.moments)


GRADIENT = 4
"""Bytes of a number of the gradient that an update reads."""


def _adam(stored: Stored, moment: int) -> Number:
    """Two moments of each number."""
    return 2 * moment * stored.elements


EIGHT_BIT_BLOCK = 256
"""Numbers that share an fp32 maximum in bitsandbytes' 8-bit states."""
EIGHT_BIT_LEAST = 4096
"""Tensors smaller than this keep their states in fp32."""


def _adam_8bit(stored: Stored, moment: int) -> Number:
    """Two moments of a byte each, and an fp32 scale for each block of either; small tensors in fp32."""
    if stored.elements < EIGHT_BIT_LEAST:
        return 8 * stored.elements
    return 2 * stored.elements + 2 * 4 * stored.elements / EIGHT_BIT_BLOCK


def _muon(stored: Stored, moment: int) -> Number:
    """One momentum of hidden matrices; Adam for embeddings, head and vectors."""
    return moment * stored.elements if stored.matrix and stored.hidden else _adam(stored, moment)


def _adafactor(stored: Stored, moment: int) -> Number:
    """Mean squares of the rows and the columns of each matrix, of every number of a vector."""
    if not stored.matrix:
        return 4 * stored.elements
    return 4 * stored.matrices * (stored.rows + stored.columns)


OPTIMIZERS: Final[Mapping[str, Optimizer]] = {
    each.name: each
    for each in (
        Optimizer("adam", "Kingma & Ba 2014, arXiv:1412.6980 algorithm 1", _adam),
        Optimizer("adam8bit", "Dettmers et al. 2021, arXiv:2110.02861 §2; bitsandbytes", _adam_8bit),
        Optimizer(
            "paged-adam8bit",
            "bitsandbytes PagedAdamW8bit: states in memory that CUDA pages to the host (arXiv:2305.14314 §3)",
            _adam_8bit,
            on_device=False,
            besides="states that come from the host",
        ),
        Optimizer(
            "muon",
            "Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, 2502.16982",
            _muon,
            besides="Muon's matrix products (Newton-Schulz), and the gradients gathered for them",
        ),
        Optimizer(
            "adafactor",
            "Shazeer & Stern 2018, arXiv:1804.04235 §3, without momentum",
            _adafactor,
            besides="Adafactor's further passes over gradients (row and column means, clipping)",
        ),
        Optimizer("sgd-momentum", "one momentum", lambda stored, moment: moment * stored.elements),
        Optimizer("sgd", "no state", lambda stored, moment: 0),
    )
}


def optimizer_of(name: str) -> Optimizer:
    """Return an optimizer by name.

    Raises:
        UnknownName: there is no such optimizer.

    >>> optimizer_of("adam").source
    'Kingma & Ba 2014, arXiv:1412.6980 algorithm 1'
    """
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
