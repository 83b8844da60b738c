"""How evenly a router spreads tokens: losses that ask for balance, the bias that keeps it, what imbalance costs.

Loads are counts of (token, expert) pairs by expert. The *imbalance* is the largest load over the mean: with experts on
different devices, all wait for the fullest one, so times scale with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import exp, lgamma, log, log1p
from typing import Any

from calc.algebra import Number, ceil_div, expected_distinct, expected_distinct_skewed, zipf_shares
from calc.errors import SpecError
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


def imbalance_of_skew(n_experts: int, n_active: int, skew: float) -> float:
    """Return the imbalance, in the mean over many tokens, of experts whose popularity follows Zipf's law.

    >>> imbalance_of_skew(256, 8, 0.0)
    1.0
    """
    return max(zipf_shares(n_experts, n_active, skew)) * n_experts / n_active


def skew_of_imbalance(n_experts: int, n_active: int, wanted: float) -> float:
    """Return the Zipf exponent that gives this imbalance: what a measured max/mean load says about touched experts.

    Raises:
        SpecError: an imbalance below 1 or above E/k, which no routing has.

    >>> round(skew_of_imbalance(256, 8, imbalance_of_skew(256, 8, 0.5)), 6)
    0.5
    """
    if not 1 <= wanted <= n_experts / n_active:
        raise SpecError(f"imbalance = {wanted} is not between 1 and n_experts / n_active = {n_experts / n_active:g}")
    low, high = 0.0, 1.0
    while imbalance_of_skew(n_experts, n_active, high) < wanted:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if imbalance_of_skew(n_experts, n_active, middle) < wanted else (low, middle)
    return high


def dropped_share(tokens: int, n_experts: int, n_active: int, capacity_factor: float, skew: float = 0.0) -> float:
    """Return the expected share of (token, expert) pairs beyond the experts' buffers.

    Each expert takes at most C = ⌈c·tokens·k/E⌉ tokens. Tokens choose independently, so expert i is asked by
    X_i ~ Binomial(tokens, p_i) of them, and drops E[max(0, X_i − C)]; the share is Σ_i E[max(0, X_i − C)] / (tokens·k).

    Source of the buffers: Switch, arXiv:2101.03961 §2.2; GShard, arXiv:2006.16668 §3.2.

    >>> dropped_share(64, 16, 1, 16.0)
    0.0
    """
    size: int = buffer_size(tokens, n_experts, n_active, Fraction(str(capacity_factor)))
    shares = zipf_shares(n_experts, n_active, skew)
    excess = {share: _expected_excess(tokens, share, size) for share in set(shares)}
    return sum(excess[share] for share in shares) / (tokens * n_active)


def _expected_excess(draws: int, chance: float, limit: int) -> float:
    """Return E[max(0, X − limit)] for X ~ Binomial(draws, chance)."""
    if chance >= 1:
        return float(max(0, draws - limit))
    if limit >= draws or chance <= 0:
        return 0.0
    odds, mean = chance / (1 - chance), draws * chance
    total, x = 0.0, limit + 1
    density = exp(
        lgamma(draws + 1) - lgamma(x + 1) - lgamma(draws - x + 1) + x * log(chance) + (draws - x) * log1p(-chance)
    )
    while x <= draws and (density > 1e-18 or x < mean):
        total += (x - limit) * density
        density *= (draws - x) / (x + 1) * odds
        x += 1
    return total


def switch_loss(probabilities: Any, chosen: Any, coefficient: float = 1.0) -> float:
    """Return Switch's auxiliary loss α·E·Σ_i f_i·P_i of a batch.

    f_i: share of tokens whose best expert is i. P_i: mean router probability of i. Its value under even routing, α, is
    the minimum over f = P. Arrays [tokens, experts] and [tokens]. Source: arXiv:2101.03961 eq. 4–6.

    >>> switch_loss([[0.5, 0.5], [0.5, 0.5]], [0, 1])
    1.0
    """
    import numpy as np

    scores = np.asarray(probabilities, dtype=float)
    tokens, experts = scores.shape
    shares = np.bincount(np.asarray(chosen), minlength=experts) / tokens
    return float(coefficient * experts * (shares * scores.mean(axis=0)).sum())


def gshard_loss(probabilities: Any, chosen: Any) -> float:
    """Return GShard's auxiliary loss (1/E)·Σ_e (c_e/S)·m_e of a group of S tokens.

    c_e: tokens whose best expert is e. m_e: mean router probability of e. Even routing gives 1/E². Source:
    arXiv:2006.16668 Algorithm 1.

    >>> gshard_loss([[0.5, 0.5], [0.5, 0.5]], [0, 1])
    0.25
    """
    experts = len(probabilities[0])
    return switch_loss(probabilities, chosen) / experts**2


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


def balance_flops(method: str, tokens: Number, n_experts: Number, n_active: Number) -> Number:
    """Return the FLOPs that a way of balancing adds to a router over ``tokens`` tokens, forward: no matrix product.

    * ``switch``, ``gshard``: counts T, mean probabilities T·E, products and sum 2·E;
    * ``sequence``: counts T·k, normalised affinities 2·T·E, their mean T·E, products and sum 2·E;
    * ``bias``: T·E additions before the choice, counts T·k, two comparisons and an addition for each of E biases.

    Raises:
        SpecError: another method.

    >>> balance_flops("bias", 4096, 256, 8)
    1082112
    """
    if method in ("switch", "gshard"):
        return tokens + tokens * n_experts + 2 * n_experts
    if method == "sequence":
        return tokens * n_active + 3 * tokens * n_experts + 2 * n_experts
    if method == "bias":
        return tokens * n_experts + tokens * n_active + 3 * n_experts
    raise SpecError(f"balance method {method!r} is none of switch, gshard, sequence, bias")


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
