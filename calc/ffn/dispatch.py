"""Products with the experts' weights, where each token meets the few experts it was sent to."""

from __future__ import annotations

from dataclasses import KW_ONLY
from fractions import Fraction

from calc.algebra import Number, minimum, product
from calc.operations import Einsum, Env, Weight
from calc.records import named_record, record
from calc.routing import buffer_size


@named_record
class EvenWeight(Weight):
    """Experts that each take their share of the tokens (expert choice): min(E, k·tokens) of them are touched."""

    def read(self, env: Env, tokens: Number) -> Number:
        """Return the elements of the experts that take a token."""
        chosen = dict(self.chosen)
        return product(
            minimum(self._stored(letter, env), env[chosen[letter]] * tokens) if letter in chosen else env[letter]
            for letter in self.dims
        )


@record
class ExpertEinsum(Einsum):
    """An einsum over ``exd``-like weights whose expert letter ``e`` is picked by a router, ``j`` times for a token.

    FLOPs = 2·b·t·k·(the other letters): each (token, expert) pair once. With ``capacity`` c the experts work on buffers
    of ⌈c·b·t·k / E⌉ tokens, full or not: 2·E·⌈c·b·t·k / E⌉·(the other letters); tokens beyond a buffer are dropped.

    >>> up = ExpertEinsum("up", "btd,edx->btjx", weight="edx", capacity=Fraction(5, 4))
    >>> up.flops({"b": 1, "t": 64, "d": 8, "x": 32, "e": 16, "j": 1})
    40960
    """

    _: KW_ONLY
    chosen: tuple[tuple[str, str], ...] = (("e", "j"),)
    capacity: Fraction | None = None
    even: bool = False
    """Whether every expert takes the same number of tokens (expert choice)."""

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The matrices of all experts, and their biases."""
        plain = super().weights
        return tuple(EvenWeight(**vars(weight)) for weight in plain) if self.even else plain

    def matmul_flops(self, env: Env, causal: bool) -> Number:
        """Return 2 × the product of the distinct letters, over pairs or over the slots of the buffers."""
        if self.capacity is None:
            return super().matmul_flops(env, causal)
        one_slot = super().matmul_flops({**env, "b": 1, "t": 1, "j": 1}, causal)
        return one_slot * env["e"] * buffer_size(env["b"] * env["t"], env["e"], env["j"], self.capacity)
