"""Chains of thought that are checked and redone, and many of them side by side: tokens, context, chances.

Formulas, for M steps of S tokens, checked by V tokens each, redone with chance q in up to R attempts, an answer of Y
tokens, N samples of a prompt of P tokens:

    A = 1 + q + … + q^(R−1) = (1 − q^R)/(1 − q)      expected attempts of a step (1/(1 − q) without a limit)
    kept = M·S + Y                                    what stays in the context
    generated = N·(M·A·(S + V) + Y)                   what is generated and paid for
    peak = P + M·S + max(V, Y)                        the longest context of a sample (P + Y without steps)

A rejected attempt and every check are taken out of the context again, so that the next attempt starts where the last
one did: the cache before it still stands. Source of the process: Gemini 2.5's "thinking" as the literature has it, a
step y_i ~ p(·| x, y_<i), verified (Lightman et al. 2023, arXiv:2305.20050) and sampled again.
"""

from __future__ import annotations

from math import comb

from calc.algebra import Number, maximum
from calc.checks import share, whole
from calc.errors import SpecError
from calc.records import Record, named_record


@named_record
class Chain(Record):
    """A chain of thought: ``steps`` of ``step_tokens``, each checked and perhaps redone, then an answer.

    Numbers, numpy arrays or sympy symbols; ``attempts`` is a whole number, or None for as many as it takes.

    >>> chain = Chain(steps=4, step_tokens=100, check_tokens=20, redo=0.5, attempts=2, answer_tokens=50)
    >>> chain.tries, chain.kept, chain.generated
    (1.5, 450, 770.0)
    >>> import sympy
    >>> q = sympy.Symbol("q")
    >>> Chain(steps=1, step_tokens=1, redo=q, attempts=3).generated
    q**2 + q + 1
    """

    steps: Number
    step_tokens: Number
    check_tokens: Number = 0
    redo: Number = 0
    attempts: int | None = None
    answer_tokens: Number = 0

    @property
    def tries(self) -> Number:
        """Expected attempts of a step: (1 − q^R)/(1 − q), as the sum that needs no division."""
        if self.attempts is None:
            return 1 / (1 - self.redo)
        return sum(self.redo**attempt for attempt in range(self.attempts))

    @property
    def kept(self) -> Number:
        """Tokens that stay in the context: M·S + Y."""
        return self.steps * self.step_tokens + self.answer_tokens

    @property
    def generated(self) -> Number:
        """Expected tokens that are generated: M·A·(S + V) + Y."""
        return self.steps * self.tries * (self.step_tokens + self.check_tokens) + self.answer_tokens

    def peak(self, prompt: Number) -> Number:
        """Return the longest context of a sample: P + M·S + max(V, Y); without steps nothing is checked: P + Y.

        >>> Chain(steps=4, step_tokens=100, check_tokens=20, answer_tokens=50).peak(1000)
        1450
        """
        checks = 0 if isinstance(self.steps, int) and not self.steps else self.check_tokens
        return prompt + self.steps * self.step_tokens + maximum(checks, self.answer_tokens)

    @property
    def accepted(self) -> Number:
        """Chance that every step is accepted within its attempts: (1 − q^R)^M."""
        return 1 if self.attempts is None else (1 - self.redo**self.attempts) ** self.steps


def checked(chain: Chain, prompt: int, samples: int) -> None:
    """Refuse a chain that cannot be, behind a prompt and in samples that cannot.

    Raises:
        SpecError: a size that is no whole number, a chance that is none, redoing without end, nothing generated.
    """
    sizes = {"steps": chain.steps, "step_tokens": chain.step_tokens}
    sizes |= {"answer_tokens": chain.answer_tokens, "check_tokens": chain.check_tokens}
    for name, value in sizes.items():
        whole(name, value, 0)
    whole("prompt", prompt)
    whole("samples", samples)
    share("redo", chain.redo, what="chance")
    if chain.attempts is None and chain.redo == 1:
        raise SpecError("redo = 1 without a limit of attempts never ends: give attempts")
    if chain.attempts is not None:
        whole("attempts", chain.attempts)
    if not chain.kept:
        raise SpecError("nothing is generated: give steps of some tokens, or an answer")


def majority(chance: float, samples: int) -> float:
    """Return the chance that most of ``samples`` are right where each is with ``chance``, ties settled by a coin.

    Σ_{k > n/2} C(n, k)·p^k·(1 − p)^(n−k), and half of the term k = n/2. All wrong answers are taken to agree, which is
    the worst case. Source: Wang et al. 2022, arXiv:2203.11171 (self-consistency); Condorcet.

    >>> majority(0.6, 1), round(majority(0.6, 5), 5)
    (0.6, 0.68256)
    """
    total = 0.0
    for right in range(samples + 1):
        weight = 1.0 if 2 * right > samples else 0.5 if 2 * right == samples else 0.0
        total += weight * comb(samples, right) * chance**right * (1 - chance) ** (samples - right)
    return total


def best(chance: float, samples: int) -> float:
    """Return the chance that some of ``samples`` is right, which a judge without error then picks: 1 − (1 − p)^n.

    Source: Brown et al. 2024, arXiv:2407.21787 §2 (coverage); Cobbe et al. 2021, arXiv:2110.14168 (best of n).

    >>> round(best(0.1, 10), 4)
    0.6513
    """
    return 1 - (1 - chance) ** samples
