"""How evenly a router spreads tokens: the loss that asks for balance, the bias that keeps it, what imbalance costs.

Loads are counts of (token, expert) pairs by expert. The *imbalance* is the largest load over the mean: with experts on
different devices, all wait for the fullest one, so times scale with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from calc.algebra import Number, ceil_div, expected_distinct, expected_distinct_skewed
from calc.records import Record, named_record, record


def buffer_size(tokens: Number, n_experts: Number, n_active: Number, capacity_factor: Fraction) -> Number:
    """Return the tokens that one expert can take: ⌈c · tokens · k / E⌉ (Fedus et al. 2021, arXiv:2101.03961 eq. 3).

    >>> buffer_size(64, 16, 1, Fraction(5, 4))
    5
    """
    return ceil_div(capacity_factor.numerator * tokens * n_active, capacity_factor.denominator * n_experts)


def imbalance(loads: Sequence[float]) -> float:
    """Return max / mean of the loads: 1 when even, E when one expert takes everything.

    >>> imbalance([2, 2, 2, 2]), imbalance([8, 0, 0, 0])
    (1.0, 4.0)
    """
    return max(loads) * len(loads) / sum(loads)


def sequence_loss(affinities: Any, n_active: int, coefficient: float = 1.0, bias: Any = None) -> float:
    """Return DeepSeek-V3's complementary sequence-wise balance loss α·Σ_i f_i·P_i of one sequence.

    f_i = E/(k·T)·Σ_t 1(i among the k experts of t), P_i = 1/T·Σ_t s_{i,t}/Σ_j s_{j,t}. ``affinities`` s: [T, E],
    positive; ``bias`` takes part in the choice alone. Even routing gives α. Source: arXiv:2412.19437 eq. 17–20.

    >>> sequence_loss([[0.5, 0.5], [0.5, 0.5]], n_active=2)
    1.0
    """
    import numpy as np

    scores = np.asarray(affinities, dtype=float)
    tokens, experts = scores.shape
    chosen = _top(scores if bias is None else scores + np.asarray(bias), n_active)
    shares = np.bincount(chosen.ravel(), minlength=experts) * experts / (n_active * tokens)
    normalised = scores / scores.sum(axis=1, keepdims=True)
    return float(coefficient * (shares * normalised.mean(axis=0)).sum())


def _top(scores: Any, count: int) -> Any:
    """Return the indices of the ``count`` largest of each row."""
    import numpy as np

    return np.argpartition(-scores, count - 1, axis=1)[:, :count]


def updated_bias(bias: Any, loads: Any, gamma: float, tolerance: float = 0.0) -> Any:
    """Return the router's bias after a step: −γ for overloaded experts, +γ for underloaded ones.

    Overloaded: more than (1 + ε) × the mean load k·tokens/E; underloaded: less than (1 − ε) ×. With ε = 0 it is
    b_i + γ·sign(mean − load_i). Source: arXiv:2408.15664 Algorithm 1; DeepSeek-V3, arXiv:2412.19437 §2.1.2 (γ = 0.001).

    >>> updated_bias([0.0, 0.0, 0.0], [10, 1, 4], gamma=0.5, tolerance=0.3).tolist()
    [-0.5, 0.5, 0.0]
    """
    import numpy as np

    counts = np.asarray(loads, dtype=float)
    mean = counts.mean()
    over, under = counts > (1 + tolerance) * mean, counts < (1 - tolerance) * mean
    return np.asarray(bias, dtype=float) + gamma * (under.astype(float) - over.astype(float))


@named_record
class Routing(Record):
    """A router whose experts are not equally liked: what the bias update has to even out.

    The affinity of expert i for a token is sigmoid(u_i + z), z ~ N(0, 1) for each token and u_i ~ N(0, ``spread``²) for
    the expert; the k largest of affinity + bias are chosen (DeepSeek-V3, arXiv:2412.19437 eq. 13–16).
    """

    n_experts: int
    n_active: int
    tokens: int
    """Tokens between two updates of the bias."""
    gamma: float = 0.001
    tolerance: float = 0.0
    spread: float = 0.5
    seed: int = 0


@record
class Balance(Record):
    """What a simulation shows: the imbalance of every step, and the bias and the loads at its end."""

    imbalance: tuple[float, ...]
    bias: tuple[float, ...]
    loads: tuple[int, ...]

    def settled(self, last: int = 10) -> float:
        """Return the mean imbalance of the last steps: the factor by which expert time exceeds the balanced one."""
        return sum(self.imbalance[-last:]) / len(self.imbalance[-last:])


def simulate(routing: Routing, steps: int) -> Balance:
    """Route random tokens, update the bias after every step, and record how uneven each step was.

    >>> even = simulate(Routing(n_experts=16, n_active=2, tokens=512, gamma=0.02), steps=60)
    >>> even.imbalance[0] > 2 > 1.5 > even.settled()
    True
    """
    import numpy as np

    random = np.random.default_rng(routing.seed)
    liking = random.normal(0, routing.spread, routing.n_experts)
    bias: Any = np.zeros(routing.n_experts)
    loads: Any = np.zeros(routing.n_experts, dtype=int)
    seen: list[float] = []
    for _ in range(steps):
        logits = liking + random.normal(size=(routing.tokens, routing.n_experts))
        affinity = 1 / (1 + np.exp(-logits))
        loads = np.bincount(_top(affinity + bias, routing.n_active).ravel(), minlength=routing.n_experts)
        seen.append(imbalance(loads.tolist()))
        bias = updated_bias(bias, loads, routing.gamma, routing.tolerance)
    return Balance(tuple(seen), tuple(bias.tolist()), tuple(loads.tolist()))


def touched(n_experts: int, n_active: int, tokens: Number, skew: float = 0.0) -> Number:
    """Return the expected number of distinct experts that ``tokens`` tokens use, evenly or with Zipf's popularity.

    >>> touched(256, 8, 1), round(touched(256, 8, 64), 1), round(touched(256, 8, 64, skew=1.0), 1)
    (8.0, 222.4, 145.1)
    """
    if not skew:
        return expected_distinct(n_experts, n_active, tokens)
    return expected_distinct_skewed(n_experts, n_active, tokens, skew)
