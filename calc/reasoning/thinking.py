"""What answering with a chain of thought costs: tokens, FLOPs, cache, outcome, time and money."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calc import catalog
from calc.checks import one_of, share
from calc.generation import Generation, check_writes, scored
from calc.hardware import Accelerator
from calc.model import Model, Pass, flops_by_operation
from calc.operations import Counts
from calc.reasoning.chains import Chain, best, checked, majority
from calc.reasoning.spending import Rates, SharedCache, Spent
from calc.results import Figure, Grid, Result, Row
from calc.tensors import COUNTS


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
    accelerator: str | Path | Accelerator | None = None,
    tokens_per_second: float | None = None,
    usd_per_hour: float | None = None,
    usd_per_million: float | None = None,
    usd_per_million_input: float | None = None,
) -> Result:
    """Return what answering one prompt with a chain of thought costs, expected over its redone steps.

    ``judge``: a reward model that reads every sample (best of n); without one, samples vote (majority). ``chance``:
    that one sample is right; gives the chance of the vote or of the best. Rates are the user's (tokens each second of
    one sequence, dollars an hour of what serves it, dollars for a million tokens), or those of one ``accelerator``,
    modelled: its kernels' times with all samples in one batch, its price. Every generated token is passed
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
    checked(chain, prompt, samples)
    check_writes(loaded)
    one_of("counts", counts, COUNTS)
    if chance is not None:
        share("chance", chance, zero=False, what="chance")
    rates = Rates(
        accelerator=None if accelerator is None else catalog.load_accelerator(accelerator),
        tokens_per_second=tokens_per_second,
        usd_per_hour=usd_per_hour,
        usd_per_million=usd_per_million,
        usd_per_million_input=usd_per_million_input,
    )
    tokens = _tokens(chain, prompt, samples)
    flops = _flops(loaded, chain, prompt, samples, counts)
    reader = None if judge is None else catalog.load(judge)
    flops["judge"] = 0.0 if reader is None else _judged(reader, prompt + chain.kept, samples, counts)
    flops["total"] = sum(flops.values())
    cache = SharedCache.of(loaded, prompt, tokens["peak_context"], samples, cache_dtype)
    data: dict[str, Any] = {
        "model": loaded.name,
        "judge": None if reader is None else reader.name,
        "chain": {**vars(chain), "tries": float(chain.tries), "accepted": float(chain.accepted), "samples": samples},
        "tokens": tokens,
        "flops": flops,
        "plain": _plain(loaded, prompt, answer, counts),
        "cache": {"dtype": cache_dtype, **vars(cache)},
        "chance": _chances(chance, samples, reader is not None),
    }
    spent = rates.spent(loaded, chain, prompt, samples, cache_dtype)
    data |= {"time": spent.to_dict(), "usd": spent.usd}
    notes = loaded.beyond(tokens["peak_context"]) + (() if reader is None else reader.beyond(prompt + chain.kept))
    grids = (_card(loaded, data, spent), _formulas(chain, prompt, samples))
    return Result(kind="reason", data=data, grids=grids, notes=notes)


def _tokens(chain: Chain, prompt: int, samples: int) -> dict[str, Any]:
    """Return the expected tokens, of all samples together."""
    generated = float(samples * chain.generated)
    return {
        "prompt": prompt,
        "kept": samples * chain.kept,
        "generated": generated,
        "discarded": generated - samples * chain.kept,
        "peak_context": int(chain.peak(prompt)),
    }


def _flops(model: Model, chain: Chain, prompt: int, samples: int, counts: Counts) -> dict[str, float]:
    """Return the expected FLOPs: the prompt once, every attempt of every step at its place, the answer."""
    end = chain.steps * chain.step_tokens
    run = Generation(model, prompt, int(chain.peak(prompt)) - prompt, counts)
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


def _chances(chance: float | None, samples: int, judged: bool) -> dict[str, Any] | None:
    if chance is None:
        return None
    return {
        "one": chance,
        "by": "best" if judged else "majority",
        "of_all": best(chance, samples) if judged else majority(chance, samples),
    }


def _card(model: Model, data: dict[str, Any], spent: Spent) -> Grid:
    tokens, flops, plain, chain = data["tokens"], data["flops"], data["plain"], data["chain"]
    times = "" if not plain else f"{flops['total'] / plain['flops']:,.3g} × the answer alone"
    rows = [
        Row(
            "tokens.generated",
            ("generated", Figure(tokens["generated"], "tokens"), "expected, all samples"),
            True,
            "Tokens",
        ),
        Row("tokens.kept", ("  kept", Figure(tokens["kept"], "tokens"), "")),
        Row(
            "tokens.discarded",
            ("  taken out again", Figure(tokens["discarded"], "tokens"), "rejected attempts, checks"),
        ),
        Row("tokens.peak_context", ("longest context", Figure(tokens["peak_context"], "tokens"), "of one sample")),
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
            ("cache at its longest", Figure(cache["bytes"], "B"), f"{cache['dtype']}, prompt shared"),
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
    if spent.seconds is not None:
        rows.append(Row("time.seconds", ("time", spent.time(), spent.how), True, section))
        section = ""
    if spent.usd is not None:
        rows.append(Row("usd", ("money", spent.money(), spent.price), True, section))
    what = f"{chain['steps']:,} steps" if chain["steps"] else f"an answer of {chain['answer_tokens']:,} tokens"
    shape = f"{chain['samples']:,} × {what} after {tokens['prompt']:,} tokens"
    title = f"{model.heading}: {shape}"
    notes = ["every generated token is passed through the model once"]
    if spent.error:
        notes.append(f"modelled time: {spent.error.text()}, of single operators")
    return Grid(title, ("", "expected", ""), tuple(rows), tuple(notes))


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
            "P + M·S + max(V, Y)" if chain.steps else "P + Y",
            (
                f"{prompt} + {chain.steps}·{chain.step_tokens} + max({chain.check_tokens}, {chain.answer_tokens})"
                if chain.steps
                else f"{prompt} + {chain.answer_tokens}"
            )
            + f" = {chain.peak(prompt):,}",
        ),
    )
    return Grid("Formulas", ("", "formula", "numbers put in"), tuple(Row(f"formula.{row[0]}", row) for row in rows))
