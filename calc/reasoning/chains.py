"""Chains of thought that are checked and redone, and many of them side by side: expected tokens, FLOPs, cache, money.

Formulas, for M steps of S tokens, checked by V tokens each, redone with chance q in up to R attempts, an answer of Y
tokens, N samples of a prompt of P tokens:

    A = 1 + q + … + q^(R−1) = (1 − q^R)/(1 − q)      expected attempts of a step (1/(1 − q) without a limit)
    kept = M·S + Y                                    what stays in the context
    generated = N·(M·A·(S + V) + Y)                   what is generated and paid for
    peak = P + M·S + max(V, Y)                        the longest context of a sample

A rejected attempt and every check are taken out of the context again, so that the next attempt starts where the last
one did: the cache before it still stands. Source of the process: Gemini 2.5's "thinking" as the literature has it, a
step y_i ~ p(·| x, y_<i), verified (Lightman et al. 2023, arXiv:2305.20050) and sampled again.
"""

from __future__ import annotations

from math import comb, inf
from pathlib import Path
from typing import Any

from calc import catalog
from calc.algebra import Number
from calc.errors import SpecError
from calc.generation import Generation, scored
from calc.model import CacheBytes, Model, Pass, flops_by_operation
from calc.operations import Counts
from calc.records import Record, named_record
from calc.results import Figure, Grid, Result, Row


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

    @property
    def accepted(self) -> Number:
        """Chance that every step is accepted within its attempts: (1 − q^R)^M."""
        return 1 if self.attempts is None else (1 - self.redo**self.attempts) ** self.steps


def _checked(chain: Chain, samples: int) -> None:
    sizes = {"steps": chain.steps, "step_tokens": chain.step_tokens}
    sizes |= {"answer_tokens": chain.answer_tokens, "check_tokens": chain.check_tokens, "samples": samples}
    for name, value in sizes.items():
        least = 1 if name == "samples" else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SpecError(f"{name} = {value!r} is not a whole number from {least} on")
    if not (isinstance(chain.redo, (int, float)) and 0 <= chain.redo <= 1):
        raise SpecError(f"redo = {chain.redo!r} is not a probability")
    if chain.attempts is None and chain.redo == 1:
        raise SpecError("redo = 1 without a limit of attempts never ends: give attempts")
    if chain.attempts is not None and chain.attempts < 1:
        raise SpecError(f"attempts = {chain.attempts} is not at least 1")
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


def reason(
    model: str | Path | Model,
    *,
    prompt: int,
    answer: int = 0,
    steps: int = 0,
    step_tokens: int = 0,
    check_tokens: int = 0,
    redo: float = 0.0,
    attempts: int | None = None,
    samples: int = 1,
    judge: str | Path | Model | None = None,
    chance: float | None = None,
    cache_dtype: str = "bf16",
    counts: Counts = "matmul",
    tokens_per_second: float | None = None,
    usd_per_hour: float | None = None,
    usd_per_million: float | None = None,
    usd_per_million_input: float | None = None,
) -> Result:
    """Return what answering one prompt with a chain of thought costs, expected over its redone steps.

    ``judge``: a reward model that reads every sample (best of n); without one, samples vote (majority). ``chance``:
    that one sample is right; gives the chance of the vote or of the best. Rates are the user's: tokens each second of
    one sequence, dollars an hour of what serves it, dollars for a million tokens. Every generated token is passed
    through the model once. Samples share the prompt's cache and run side by side.

    Units: tokens, FLOP, bytes, seconds, USD. Not counted: queueing, batching with other requests, a sampler's own work.

    Raises:
        SpecError: a size, chance or rate that cannot be; a context longer than 2^22 tokens.

    >>> data = reason("llama-3-8b", prompt=100, answer=50, steps=4, step_tokens=100, redo=0.5, attempts=2).data
    >>> data["tokens"]["generated"], data["tokens"]["peak_context"]
    (650.0, 550)
    """
    loaded = catalog.load(model)
    chain = Chain(
        steps=steps,
        step_tokens=step_tokens,
        check_tokens=check_tokens,
        redo=redo,
        attempts=attempts,
        answer_tokens=answer,
    )
    _checked(chain, samples)
    rates = {"tokens_per_second": tokens_per_second, "usd_per_hour": usd_per_hour}
    rates |= {"usd_per_million": usd_per_million, "usd_per_million_input": usd_per_million_input}
    for name, rate in {**rates, "chance": chance}.items():
        if rate is not None and not 0 < rate < (inf if name != "chance" else 1.0000001):
            raise SpecError(f"{name} = {rate} is not positive" + (" and at most 1" if name == "chance" else ""))
    if usd_per_hour and not tokens_per_second:
        raise SpecError("usd_per_hour needs tokens_per_second: how long it takes")
    tokens = _tokens(chain, prompt, samples)
    flops = _flops(loaded, chain, prompt, samples, counts)
    flops["judge"] = 0.0 if judge is None else _judged(catalog.load(judge), prompt + chain.kept, samples, counts)
    flops["total"] = sum(flops.values())
    cache = _cache(loaded, prompt, tokens["peak_context"], samples, cache_dtype)
    data: dict[str, Any] = {
        "model": loaded.name,
        "judge": None if judge is None else catalog.load(judge).name,
        "chain": {**vars(chain), "tries": float(chain.tries), "accepted": float(chain.accepted), "samples": samples},
        "tokens": tokens,
        "flops": flops,
        "plain": _plain(loaded, prompt, answer, counts),
        "cache": cache,
        "chance": _chances(chance, samples, judge is not None),
        "time": {"seconds": None, "tokens_per_second": tokens_per_second},
        "usd": None,
    }
    if tokens_per_second:
        data["time"]["seconds"] = tokens["generated"] / samples / tokens_per_second
    data["usd"] = _money(data, prompt, samples, usd_per_hour, usd_per_million, usd_per_million_input)
    return Result(kind="reason", data=data, grids=(_card(loaded, data, cache_dtype), _formulas(chain, prompt, samples)))


def _tokens(chain: Chain, prompt: int, samples: int) -> dict[str, Any]:
    """Return the expected tokens, of all samples together."""
    generated = float(samples * chain.generated)
    peak = prompt + chain.steps * chain.step_tokens + max(chain.check_tokens if chain.steps else 0, chain.answer_tokens)
    return {
        "prompt": prompt,
        "kept": samples * chain.kept,
        "generated": generated,
        "discarded": generated - samples * chain.kept,
        "peak_context": peak,
    }


def _flops(model: Model, chain: Chain, prompt: int, samples: int, counts: Counts) -> dict[str, float]:
    """Return the expected FLOPs: the prompt once, every attempt of every step at its place, the answer."""
    end = chain.steps * chain.step_tokens
    run = Generation(model, prompt, end + max(chain.answer_tokens, chain.check_tokens), counts)
    attempt = chain.step_tokens + chain.check_tokens
    starts = [step * chain.step_tokens for step in range(chain.steps)]
    thinking = float(chain.tries) * sum(run.between(start, start + attempt) for start in starts)
    answer = run.between(end, end + chain.answer_tokens)
    return {"prefill": float(run.prefill), "steps": samples * thinking, "answer": samples * answer}


def _judged(judge: Model, length: int, samples: int, counts: Counts) -> float:
    """Return the FLOPs of a reward model that reads prompt and chain of every sample."""
    return float(samples * sum(flops_by_operation(scored(judge, "sequence"), Pass.prefill(length), counts).values()))


def _plain(model: Model, prompt: int, answer: int, counts: Counts) -> dict[str, Any] | None:
    """Return what the answer alone would cost, without thinking."""
    if not answer:
        return None
    run = Generation(model, prompt, answer, counts)
    return {"generated": answer, "flops": run.prefill + run.between(0, answer)}


def _cache(model: Model, prompt: int, peak: int, samples: int, form: str) -> dict[str, Any]:
    """Return the cache at the longest context: samples share the prompt's positions, each keeps a state of its own."""
    at_prompt, at_peak = model.cache(prompt, form=form), model.cache(peak, form=form)

    def shared(of: CacheBytes, before: CacheBytes) -> int:
        return int(before.bytes + samples * (of.bytes - before.bytes))

    return {
        "dtype": form,
        "bytes": shared(at_peak, at_prompt),
        "unshared_bytes": int(samples * at_peak.bytes),
        "state_bytes": int(samples * at_peak.state_bytes),
    }


def _chances(chance: float | None, samples: int, judged: bool) -> dict[str, Any] | None:
    if chance is None:
        return None
    return {
        "one": chance,
        "by": "best" if judged else "majority",
        "of_all": best(chance, samples) if judged else majority(chance, samples),
    }


def _money(
    data: dict[str, Any],
    prompt: int,
    samples: int,
    by_hour: float | None,
    by_million: float | None,
    by_million_input: float | None,
) -> float | None:
    """Return dollars: by the hour that the chain takes, or by tokens; None without a rate."""
    if by_hour:
        return float(by_hour * data["time"]["seconds"] / 3600)
    if by_million is None and by_million_input is None:
        return None
    return float((by_million or 0) * data["tokens"]["generated"] + (by_million_input or 0) * prompt) / 1e6


def _card(model: Model, data: dict[str, Any], form: str) -> Grid:
    tokens, flops, plain, chain = data["tokens"], data["flops"], data["plain"], data["chain"]
    times = "" if not plain else f"{flops['total'] / plain['flops']:,.3g} × the answer alone"
    rows = [
        Row("tokens.generated", ("generated", Figure(tokens["generated"]), "expected, all samples"), True, "Tokens"),
        Row("tokens.kept", ("  kept", Figure(tokens["kept"]), "")),
        Row("tokens.discarded", ("  taken out again", Figure(tokens["discarded"]), "rejected attempts, checks")),
        Row("tokens.peak_context", ("longest context", Figure(tokens["peak_context"]), "of one sample")),
        Row("chain.tries", ("attempts of a step", Figure(chain["tries"]), "expected")),
        Row("chain.accepted", ("every step accepted", Figure(chain["accepted"], "percent"), "")),
        Row("flops.total", ("total", Figure(flops["total"], "FLOP"), times), True, "Compute"),
        Row("flops.prefill", ("  prompt", Figure(flops["prefill"], "FLOP"), "once, shared")),
        Row("flops.steps", ("  steps", Figure(flops["steps"], "FLOP"), "")),
        Row("flops.answer", ("  answers", Figure(flops["answer"], "FLOP"), "")),
    ]
    if data["judge"]:
        rows.append(
            Row("flops.judge", ("  judge", Figure(flops["judge"], "FLOP"), f"{data['judge']} reads each sample"))
        )
    cache = data["cache"]
    rows.append(
        Row(
            "cache.bytes",
            ("cache at its longest", Figure(cache["bytes"], "B"), f"{form}, prompt shared"),
            True,
            "Memory",
        )
    )
    if chain["samples"] > 1:
        rows.append(Row("cache.unshared_bytes", ("  prompt not shared", Figure(cache["unshared_bytes"], "B"), "")))
    if cache["state_bytes"]:
        rows.append(Row("cache.state_bytes", ("recurrent states", Figure(cache["state_bytes"], "B"), "")))
    section = "Outcome"
    if data["chance"]:
        named = "best of all, judge without error" if data["chance"]["by"] == "best" else "majority"
        rows.append(Row("chance.of_all", ("right", Figure(data["chance"]["of_all"], "percent"), named), True, section))
        section = ""
    if data["time"]["seconds"] is not None:
        note = f"at {data['time']['tokens_per_second']:g} tokens a second, samples side by side"
        rows.append(Row("time.seconds", ("time", Figure(data["time"]["seconds"], "s"), note), True, section))
        section = ""
    if data["usd"] is not None:
        rows.append(Row("usd", ("money", Figure(data["usd"], "USD"), "at the rates given"), True, section))
    shape = f"{chain['samples']:,} × {chain['steps']:,} steps after {tokens['prompt']:,} tokens"
    title = f"{model.title or model.name}: {shape}"
    return Grid(title, ("", "expected", ""), tuple(rows), ("every generated token is passed through the model once",))


def _formulas(chain: Chain, prompt: int, samples: int) -> Grid:
    q, limit = chain.redo, chain.attempts
    tries = f"(1 − {q:g}^{limit})/(1 − {q:g})" if limit and q < 1 else f"{limit}" if limit else f"1/(1 − {q:g})"
    rows = (
        ("attempts", "A = (1 − q^R)/(1 − q)", f"{tries} = {float(chain.tries):.4g}"),
        (
            "generated",
            "N·(M·A·(S + V) + Y)",
            f"{samples}·({chain.steps}·{float(chain.tries):.4g}·({chain.step_tokens} + {chain.check_tokens}) + "
            f"{chain.answer_tokens}) = {float(samples * chain.generated):,.6g}",
        ),
        (
            "longest context",
            "P + M·S + max(V, Y)",
            f"{prompt} + {chain.steps}·{chain.step_tokens} + max({chain.check_tokens}, {chain.answer_tokens})",
        ),
    )
    return Grid("Formulas", ("", "formula", "numbers put in"), tuple(Row(f"formula.{row[0]}", row) for row in rows))
