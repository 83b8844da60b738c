"""The forms of published scaling laws: loss from size and tokens, and the best size for a compute budget.

Like the tables, a law reads numbers, numpy arrays or sympy symbols: only ``+ * / **`` and one logarithm are used.
Sizes are parameters, data are tokens, compute is FLOP, loss is nats per token of the law's own validation text: losses
of different laws (other tokenizers, other data) do not compare.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from calc.algebra import Number, logarithm
from calc.checks import number
from calc.records import Record, named_record

Counted: TypeAlias = Literal["total", "non_embedding", "active"]
"""What a law calls N: all parameters, those without embedding and head, or those that a token uses (with both)."""

PF_DAY: Final = 8.64e19
"""FLOP of a petaflop/s-day, Kaplan's unit of compute."""


@named_record
class Optimum(Record):
    """The best split of a compute budget: size, tokens, the loss that the law foresees (None where it has none)."""

    size: Number
    tokens: Number
    loss: Number | None


@named_record
class Law(Record):
    """A published law: its name, what N counts, where its coefficients are from, and what it was fitted on."""

    name: str
    title: str
    counted: Counted
    source: str
    fitted: str
    """The range of the experiments; beyond it the law is an extrapolation."""

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        raise NotImplementedError(type(self).__name__)

    def loss(self, size: Number, tokens: Number) -> Number | None:
        """Return the loss in nats per token, or None: the law says only how to split a budget."""
        raise NotImplementedError(type(self).__name__)

    def optimum(self, compute: Number) -> Optimum:
        """Return the best size and tokens for a budget in FLOP, with C = 6·N·D."""
        raise NotImplementedError(type(self).__name__)

    def excess(self, size: float, tokens: float) -> float | None:
        """Return how far the loss lies above that of the best split of the same compute, or None without a loss."""
        best = self.optimum(6.0 * size * tokens)
        if best.loss is None:
            return None
        above = float(self.loss(size, tokens) - best.loss)
        return above if above > 1e-12 else 0.0  # what is less is rounding


@named_record
class Sum(Law):
    """L(N, D) = E + A/N^α + B/D^β.

    With C = 6·N·D the best split is N = G·(C/6)^(β/(α+β)), D = (C/6)^(α/(α+β)) / G, G = (α·A / (β·B))^(1/(α+β)).
    Source: Hoffmann et al. 2022, arXiv:2203.15556 §3.3, eq. 2 and 4.
    """

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        return f"{self.e:g} + {self.a:g}/N^{self.alpha:g} + {self.b:g}/D^{self.beta:g}"

    def loss(self, size: Number, tokens: Number) -> Number:
        """Return the loss in nats per token."""
        return self.e + self.a / size**self.alpha + self.b / tokens**self.beta

    def optimum(self, compute: Number) -> Optimum:
        """Return the best size and tokens for a budget in FLOP, in closed form."""
        both = self.alpha + self.beta
        scale = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both)
        size = scale * (compute / 6) ** (self.beta / both)
        tokens = (compute / 6) ** (self.alpha / both) / scale
        return Optimum(size=size, tokens=tokens, loss=self.loss(size, tokens))


@named_record
class Frontier(Law):
    """N = k·C^a, and D = C/(6·N): what a law says that gives no loss."""

    k: float
    a: float

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        return f"N = {self.k:.4g}·C^{self.a:.4g}, D = C/(6·N)"

    def loss(self, size: Number, tokens: Number) -> None:
        """Return None: no loss is fitted."""

    def optimum(self, compute: Number) -> Optimum:
        """Return the best size and tokens for a budget in FLOP."""
        size = self.k * compute**self.a
        return Optimum(size=size, tokens=compute / (6 * size), loss=None)


@named_record
class Kaplan(Law):
    """L(N, D) = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D; best size N = n·(C/PF-day)^p, its loss (C_c·PF-day/C)^α_C.

    Source: Kaplan et al. 2020, arXiv:2001.08361 eq. 1.5 with Table 2, eq. 1.3 and Table 6.
    """

    n_c: float
    d_c: float
    alpha_n: float
    alpha_d: float
    best_size: float
    best_power: float
    c_c: float
    alpha_c: float

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        ratio = f"{self.alpha_n:g}/{self.alpha_d:g}"
        return (
            f"(({self.n_c:.3g}/N)^({ratio}) + {self.d_c:.3g}/D)^{self.alpha_d:g}; "
            f"N = {self.best_size:.3g}·(C/{PF_DAY:.3g})^{self.best_power:g}"
        )

    def loss(self, size: Number, tokens: Number) -> Number:
        """Return the loss in nats per token."""
        return ((self.n_c / size) ** (self.alpha_n / self.alpha_d) + self.d_c / tokens) ** self.alpha_d

    def optimum(self, compute: Number) -> Optimum:
        """Return the best size and tokens for a budget in FLOP at a batch far below the critical one."""
        size = self.best_size * (compute / PF_DAY) ** self.best_power
        loss = (self.c_c * PF_DAY / compute) ** self.alpha_c
        return Optimum(size=size, tokens=compute / (6 * size), loss=loss)

    def excess(self, size: float, tokens: float) -> None:
        """Return None: L(N, D) is of training until the loss stops falling, the optimum's loss is not."""


def saturated(experts: Number, start: float, most: float) -> Number:
    """Return Ê, the number of experts that counts: few help less than they should, and so do very many.

    1/Ê = 1/(E − 1 + (1/E_start − 1/E_max)^−1) + 1/E_max. Source: Clark et al. 2022, arXiv:2202.01169 eq. 8.

    >>> round(saturated(1, 1.847, 314.478), 3)
    1.847
    """
    return 1 / (1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)


@named_record
class Routed(Record):
    """Routing at a fixed 130 billion tokens: log L = a·log N + b·log Ê + c·log N·log Ê + d, logarithms to base 10.

    N is the size of the dense model that the experts widen, E the experts, of which a token uses one.
    Source: Clark et al. 2022, arXiv:2202.01169 eq. 1 and Table 3.

    >>> base = Routed(name="s-base", a=-0.082, b=-0.108, c=0.009, d=1.104, start=1.847, most=314.478)
    >>> round(base.loss(5e6, 1), 2), round(base.loss(5e6, 128), 2)
    (3.48, 2.89)
    """

    name: str
    a: float
    b: float
    c: float
    d: float
    start: float
    most: float
    source: str = "Clark et al. 2022, arXiv:2202.01169 Table 3"

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        return (
            f"log10 L = {self.a:g}·log10 N − {-self.b:g}·log10 Ê + {self.c:g}·log10 N·log10 Ê + {self.d:g}, "
            f"1/Ê = 1/(E − 1 + (1/{self.start:g} − 1/{self.most:g})^−1) + 1/{self.most:g}"
        )

    def loss(self, size: Number, experts: Number) -> Number:
        """Return the loss in nats per token after 130 billion tokens."""
        effective = logarithm(saturated(experts, self.start, self.most), 10)
        return 10 ** (self.b * effective + self.d) * size ** (self.a + self.c * effective)

    def dense_equal(self, size: Number, experts: Number) -> Number:
        """Return the effective parameter count: the dense size of the same loss (eq. 11).

        N̄ = N^(α(Ê)/α(E_start)) · (Ê/E_start)^(b/α(E_start)), α(Ê) = a + c·log Ê.
        """
        effective = logarithm(saturated(experts, self.start, self.most), 10)
        first = logarithm(self.start, 10)
        slope = self.a + self.c * first
        power = (self.a + self.c * effective) / slope
        return size**power * 10 ** (self.b * (effective - first) / slope)

    @property
    def cutoff(self) -> float:
        """The size from which on routing does not help: 10^(−b/c), where the slope in Ê is zero."""
        value: float = 10 ** (-self.b / self.c)
        return value


@named_record
class Joint(Record):
    """L(N_act, D, E) = a·Ê^δ·N_act^(α + γ·ln Ê) + b·Ê^ω·D^(β + ζ·ln Ê) + c: a ``Sum`` for every number of experts.

    N_act are the parameters that a token uses, embedding and head included; E the expansion, experts over experts used.
    Source: Ludziejewski et al. 2025, arXiv:2502.05172 eq. 6 and Table 3; fitted with 1 to 32 experts, one of them used.
    """

    a: float
    alpha: float
    delta: float
    gamma: float
    b: float
    beta: float
    omega: float
    zeta: float
    start: float
    most: float
    c: float
    source: str = "Ludziejewski et al. 2025, arXiv:2502.05172 Table 3"
    largest: int = 32
    """The most experts in the experiments."""

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        return (
            f"{self.a:g}·Ê^{self.delta:g}·N^({self.alpha:g} + {self.gamma:g}·ln Ê) + "
            f"{self.b:g}·Ê^{self.omega:g}·D^({self.beta:g} − {-self.zeta:g}·ln Ê) + {self.c:g}"
        )

    def with_experts(self, experts: float) -> Sum:
        """Return the law for one expansion rate."""
        effective = saturated(experts, self.start, self.most)
        slope = logarithm(effective)
        return Sum(
            name=f"joint-{experts:.3g}",
            title="Joint MoE law, dense" if experts == 1 else f"Joint MoE law, {experts:.3g}-fold experts",
            counted="active",
            source=self.source,
            fitted="79 M to 2.7 B active parameters, 0.5 to 80 B tokens, 1 to 32 experts",
            e=self.c,
            a=self.a * effective**self.delta,
            alpha=-(self.alpha + self.gamma * slope),
            b=self.b * effective**self.omega,
            beta=-(self.beta + self.zeta * slope),
        )

    def loss(self, active: Number, tokens: Number, experts: float) -> Number:
        """Return the loss in nats per token."""
        return self.with_experts(experts).loss(active, tokens)


@named_record
class Granular(Record):
    """L(N, D, G) = c + (g/G^γ + a)/N^α + b/D^β, with granularity G = d_ff/d_expert at 64-fold expansion.

    N are all parameters without embedding and head, routed experts included; a token uses G of the 64·G experts.
    Source: Krajewski et al. 2024, arXiv:2402.07871 eq. 9 and Table 1.
    """

    c: float
    g: float
    gamma: float
    a: float
    alpha: float
    b: float
    beta: float
    expansion: int = 64
    source: str = "Krajewski et al. 2024, arXiv:2402.07871 Table 1"

    @property
    def formula(self) -> str:
        """The law with its coefficients."""
        return f"{self.c:g} + ({self.g:g}/G^{self.gamma:g} + {self.a:g})/N^{self.alpha:g} + {self.b:g}/D^{self.beta:g}"

    def loss(self, size: Number, tokens: Number, granularity: Number) -> Number:
        """Return the loss in nats per token."""
        return self.c + (self.g / granularity**self.gamma + self.a) / size**self.alpha + self.b / tokens**self.beta


def positive(name: str, value: float) -> float:
    """Return a size or budget as a float.

    Raises:
        SpecError: not a positive finite number.
    """
    return float(number(name, value, above=0))
