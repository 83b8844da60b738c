"""From means to quantiles: of waits, of prompts' lengths, of the sequences that run at once.

All functions take numbers or numpy arrays where a mean stands.
"""

from __future__ import annotations

from math import exp, log
from statistics import NormalDist

from calc.algebra import Number, maximum


def wait_at(quantile: float, mean: Number, chance: Number) -> Number:
    """Return a quantile of a wait: nobody waits with 1 − ``chance``, others exponentially, ``mean`` over all.

    max(0, m/C · ln(C/(1 − q))): exact for M/M/k, and the usual approximation for M/G/k (Kleinrock 1975, "Queueing
    Systems" I §3.5).

    >>> round(wait_at(0.9, 1.0, 1.0), 6)
    2.302585
    >>> wait_at(0.5, 1.0, 0.4)
    0.0
    """
    import numpy as np

    some = maximum(chance, 1e-12)
    found = np.maximum(0.0, mean / some * np.log(some / (1 - quantile)))
    return float(found) if np.ndim(found) == 0 else found


def length_at(quantile: float, spread: float) -> float:
    """Return a quantile of a log-normal length over its mean: exp(z·σ − σ²/2), σ² = ln(1 + cv²).

    >>> [round(length_at(quantile, 1.0), 3) for quantile in (0.5, 0.9)]
    [0.707, 2.055]
    """
    sigma = log(1 + spread**2) ** 0.5
    return exp(NormalDist().inv_cdf(quantile) * sigma - sigma**2 / 2)


def crowd_at(quantile: float, running: Number) -> Number:
    """Return a quantile of a Poisson number of sequences over its mean: 1 + z/√n, the normal approximation.

    >>> round(crowd_at(0.9, 100), 3)
    1.128
    """
    return 1 + NormalDist().inv_cdf(quantile) / maximum(running, 1.0) ** 0.5
