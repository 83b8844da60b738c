"""The engines that are known, one line each."""

from __future__ import annotations

from calc.catalog import names
from calc.results import Figure, Grid, Result, Row
from calc.serving.engines import load_engine
from calc.units import MIB

SHARES = {
    "total": "of all memory, less weights and overhead",
    "static": "what loading leaves, less a reserve",
    "free": "of what loading leaves",
    "context": "what the context needs",
}
"""What the cache may have, in a few words."""


def engines(search: str = "") -> Result:
    """Return the shipped engines: version, cache's share of memory, block, batch, how prompts run, with the source.

    >>> [each["name"] for each in engines("vllm").data["engines"]]
    ['vllm']
    """
    found = [load_engine(name) for name in names("engines")]
    found = [each for each in found if search.lower() in f"{each.name} {each.title}".lower()]
    rows = []
    for each in found:
        fraction = "" if each.memory_fraction is None or each.budget == "context" else f"{each.memory_fraction:g} "
        cells = (
            each.name, each.version, fraction + SHARES[each.budget], Figure(each.block_tokens, "tokens"),
            Figure(each.max_batched_tokens, "tokens"), Figure(each.max_sequences), each.prefill,
            Figure(each.overhead_bytes // MIB * MIB, "B"),
        )  # fmt: skip
        rows.append(Row(each.name, cells))
    columns = ("engine", "version", "cache's memory", "block", "step", "sequences", "prompts", "overhead")
    notes = (
        "prompts: in steps with decode tokens (mixed) or alone; step and sequences: defaults on small devices",
        *(f"{each.name}: {each.source}" for each in found),
    )
    data = {
        "engines": [
            {
                "name": each.name,
                "title": each.title,
                "version": each.version,
                "source": each.source,
                "budget": each.budget,
                "memory_fraction": each.memory_fraction,
                "block_tokens": each.block_tokens,
                "max_batched_tokens": each.max_batched_tokens,
                "max_sequences": each.max_sequences,
                "prefill": each.prefill,
                "reported": each.reported,
                "overhead_bytes": each.overhead_bytes,
                "changes": [
                    {"before": one.before, "since": one.since, "fields": dict(one.fields)} for one in each.change
                ],
            }
            for each in found
        ]
    }
    said = () if rows else (f"no engine matches {search!r}; `calc list engines` lists all",)
    return Result(kind="engines", data=data, grids=(Grid("", columns, tuple(rows), notes),), notes=said)
