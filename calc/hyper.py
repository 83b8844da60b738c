"""Hyper-connections: several residual streams in place of one, mixed around each part of a layer."""

from __future__ import annotations

from typing import ClassVar

from calc.fields import Positive
from calc.mechanism import Mechanism
from calc.operations import Einsum, Elementwise, Norm, Softmax, Table
from calc.records import named_record


@named_record
class HyperConnection(Mechanism):
    """What stands around one part of a layer where n_hc residual streams pass (manifold-constrained).

    One map of all streams gives a token's coefficients: n_hc to collapse the streams into the part's input, n_hc to
    spread its output, n_hc² to mix the streams, made doubly stochastic by Sinkhorn's iterations. Parameters:
    (2 + n_hc)·n_hc·(n_hc·d + 1) + 3. It takes the residual addition's place.

    Source: Xie et al. 2025, arXiv:2512.24880 §4; ``DeepseekV4HyperConnection`` of transformers.

    >>> HyperConnection(n_streams=4).bind()
    {'Y': 4, 'Ω': 24, 'Θ': 4}
    """

    source: ClassVar[str] = "Xie et al. 2025, arXiv:2512.24880 §4"
    n_streams: Positive
    sinkhorn_iters: Positive = 20
    mixing: bool = True
    """The streams are mixed with each other; without it each keeps its own, 2·n_hc coefficients (Hunyuan 4)."""

    @property
    def n_mixes(self) -> int:
        """Coefficients of a token."""
        return (2 + self.n_streams) * self.n_streams if self.mixing else 2 * self.n_streams

    def operations(self) -> Table:
        """Return the coefficients, the collapse before the part, the spread and the mixed streams after it."""
        return (
            Norm("norm", "btYd", kind="rms", across="Y"),
            Einsum("mix", "btYd,YdΩ->btΩ", inputs=("norm",), weight="YdΩ", bias="Ω"),
            # a learned scale for each kind, a sigmoid
            Elementwise("coefficients", "btΩ", inputs=("mix",), each=4, scalars=3 if self.mixing else 2),
            *self._mixed(),
            Einsum("collapse", "btY,btYd->btd", inputs=("coefficients", "x")),
            *((Einsum("carry", "btYΘ,btYd->btΘd", inputs=("sinkhorn", "x")),) if self.mixing else ()),
            Elementwise("spread", "btYd", inputs=("carry" if self.mixing else "x", "coefficients"), each=2),
        )

    def _mixed(self) -> Table:
        """Return the doubly stochastic matrix that mixes the streams."""
        if not self.mixing:
            return ()
        return (
            Softmax("streams", "btYΘ", inputs=("coefficients",)),
            # rows and columns divided by their sums, in turn
            Elementwise("sinkhorn", "btYΘ", inputs=("streams",), each=4 * self.sinkhorn_iters),
        )


@named_record
class HyperHead(Mechanism):
    """The streams' weighted sum before the last norm: n_hc coefficients from one map of all streams.

    Parameters: n_hc·(n_hc·d + 1) + 1. Source: ``DeepseekV4HyperHead`` of transformers.
    """

    n_streams: Positive

    def operations(self) -> Table:
        """Return the coefficients and the collapse."""
        return (
            Norm("norm", "btYd", kind="rms", across="Y"),
            Einsum("mix", "btYd,YdΘ->btΘ", inputs=("norm",), weight="YdΘ", bias="Θ"),
            Elementwise("coefficients", "btΘ", inputs=("mix",), each=4, scalars=1),
            Einsum("collapse", "btΘ,btΘd->btd", inputs=("coefficients", "x")),
        )
