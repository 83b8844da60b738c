"""Tensors by their letters: how many elements they have, what is stored, active and read of a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from calc.algebra import Number, ceil_div, exact_div, expected_distinct, expected_distinct_skewed, product
from calc.masks import Mask
from calc.records import Record, named_record

Env: TypeAlias = Mapping[str, Number]
Counts: TypeAlias = Literal["matmul", "all"]
COUNTS: tuple[Counts, ...] = ("matmul", "all")
Part: TypeAlias = Literal["embedding", "attention", "ffn", "router", "norm", "head", "other"]
PARTS: tuple[Part, ...] = ("embedding", "attention", "ffn", "router", "norm", "head", "other")
Phase: TypeAlias = Literal["prefill", "decode"]
Role: TypeAlias = Literal["weight", "activation", "cache"]
Traffic: TypeAlias = dict[Role, Number]
"""Elements moved, by the role whose format gives their bytes."""
WHOLE = "all t"
"""In an environment: the new tokens of a sequence on all ranks that share it, where ``t`` are those of one rank."""


def extent(dims: str, env: Env, over: Mask | None = None, causal: bool = True) -> Number:
    """Return how many elements a tensor with these letters has; a mask replaces t·s by the pairs that are computed.

    Where only ``t`` or only ``s`` stands (a query, a key), a mask leaves the queries or the keys that the pass touches.
    Of a sequence that μ ranks share, a rank has 1/μ of the keys, and of the pairs, whatever the mask: sequences are
    dealt out so that every rank has as many.

    >>> extent("btd", {"b": 2, "t": 3, "d": 8})
    48
    """
    if over is None:
        return product(_shared(env["s"], env) if letter == "s" and "t" not in dims else env[letter] for letter in dims)
    t, s = env.get(WHOLE, env["t"]), env["s"]
    if "t" in dims and "s" in dims:
        pairs = over.pairs if causal else over.dense_pairs
        return _shared(pairs(t, s, env), env) * product(env[letter] for letter in dims if letter not in "ts")
    keys = over.keys if causal else over.dense_keys
    queries = over.queries if causal else over.dense_queries

    def size(letter: str) -> Number:
        if letter == "s":
            return _shared(keys(t, s, env), env)
        if letter == "t":
            return _shared(queries(t, s, env), env) if WHOLE in env else queries(t, s, env)
        return env[letter]

    return product(size(letter) for letter in dims)


def _shared(number: Number, env: Env) -> Number:
    """Return one rank's share of what the ranks of a sequence have together."""
    return ceil_div(number, env["μ"]) if "μ" in env else number


def whole_keys(dims: str, env: Env) -> Env:
    """Return the environment in which an operand is read: new queries meet the keys of all ranks, passed on in a ring.

    At a decode step each rank reads the keys that it keeps.
    """
    if WHOLE not in env or "t" in dims:
        return env
    return {letter: value for letter, value in env.items() if letter != "μ"}


def distinct(*groups: str) -> str:
    """Return the letters of all groups, each once, in order of appearance."""
    return "".join(dict.fromkeys("".join(groups)))


@named_record
class Weight(Record):
    """A stored tensor: its letters, and how it is told apart when parameters are added up.

    ``chosen`` maps a letter to the letter that replaces it for one token: ``{"e": "j"}`` says that of e experts a token
    uses j. Where ``ρ`` ranks share the experts, each stores 1/ρ of them. A ``tied`` weight is read, but counted where
    it first stands. ``rows`` are the letters of a matrix's output features, which number formats with blocks need to
    know; a vector has none.
    """

    dims: str
    chosen: tuple[tuple[str, str], ...] = ()
    tied: bool = False
    rows: str = ""

    def shape(self, env: Env) -> tuple[Number, Number, Number]:
        """Return (matrices, rows, columns): one matrix for every combination of the chosen letters."""
        chosen = dict(self.chosen)
        apart = [letter for letter in self.dims if letter in chosen] if self.rows else []
        columns = [letter for letter in self.dims if letter not in self.rows and letter not in apart]
        sizes = (product(self._stored(letter, env) for letter in group) for group in (apart, self.rows, columns))
        matrices, rows, width = sizes
        return matrices, rows, width

    def _stored(self, letter: str, env: Env) -> Number:
        """Return the size of a dimension on one rank."""
        shared = "ρ" in env and letter in dict(self.chosen)
        return exact_div(env[letter], env["ρ"]) if shared else env[letter]

    def total(self, env: Env) -> Number:
        """Return the parameters stored."""
        return 0 if self.tied else product(self._stored(letter, env) for letter in self.dims)

    def active(self, env: Env) -> Number:
        """Return the parameters that one token uses (the published convention)."""
        chosen = dict(self.chosen)
        return 0 if self.tied else product(env[chosen.get(letter, letter)] for letter in self.dims)

    def read(self, env: Env, tokens: Number) -> Number:
        """Return the elements read when ``tokens`` tokens pass: of chosen letters, the expected distinct ones.

        Tokens choose independently; all experts are as popular, or follow Zipf's law with the exponent ``ζ`` of a pass.
        Where ``ρ`` ranks share the experts, the tokens of all of them choose: E·(1 − (1 − k/E)^(ρ·tokens)) / ρ.
        """
        chosen = dict(self.chosen)
        skew, ranks = env.get("ζ", 0), env.get("ρ")

        def touched(letter: str) -> Number:
            if letter not in chosen:
                return env[letter]
            number, picks, draws = env[letter], env[chosen[letter]], tokens if ranks is None else tokens * ranks
            if skew:
                found = expected_distinct_skewed(number, picks, draws, skew)
            else:
                found = expected_distinct(number, picks, draws)
            return found if ranks is None else found / ranks

        return product(touched(letter) for letter in self.dims)
