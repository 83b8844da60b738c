"""Serving engines: how each divides a device's memory, batches and reports, as data with its source.

A preset (``presets/engines/NAME.toml``) states the behaviour of one version, and under ``[[change]]`` what is
different before or since another.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from calc.catalog import names, presets_folder, read_text, toml_table
from calc.errors import SpecError, UnknownName
from calc.fields import Natural, Positive, Rate
from calc.hardware import Accelerator
from calc.records import Record, named_record, replace
from calc.units import MIB

Budget: TypeAlias = Literal["total", "static", "free", "context"]
"""What the cache may have: ``total``, a fraction of all memory less weights, peak and overhead (vLLM); ``static``, what
loading leaves free, less a share of what was free before (SGLang); ``free``, a fraction of what loading and a run at
the largest batch leave (TensorRT-LLM); ``context``, what the configured context needs (llama.cpp)."""

Layers: TypeAlias = Literal["groups", "pools"]
"""Layers that keep different positions: equal groups that share one pool of blocks, or a pool for each kind."""


@named_record
class Change(Record):
    """What is different in versions ``before`` one, or ``since`` one."""

    before: str | None = None
    since: str | None = None
    fields: Mapping[str, Any]

    def holds(self, version: tuple[int, ...]) -> bool:
        """Tell whether a version is one of those."""
        if self.before is not None:
            return version < parsed(self.before)
        return self.since is not None and version >= parsed(self.since)


@named_record
class Engine(Record):
    """An inference server or library. Units: bytes, tokens, seconds.

    ``overhead_bytes``: what a process takes beside tensors (context, libraries, communication buffers).
    ``logit_bytes``: bytes per logit that sampling holds at its peak. ``rotary_table``: angles are a stored table, which
    logs count as weights. ``graph_bytes``: recorded launches (CUDA graphs), inside the cache's budget or beside it.
    ``prefill``: prompts and decode tokens share a step (``mixed``), or a prompt's step stands alone.
    """

    name: str
    title: str
    version: str
    source: str
    budget: Budget
    memory_fraction: float | None = None
    reserve_base_mib: Rate = 0
    reserve_per_chunk_token_mib: Rate = 0
    reserve_per_graph_sequence_mib: Rate = 0
    reserve_per_eight_gpus_mib: Rate = 0
    reserve_least_mib: Rate = 0
    reserve_least_from_bytes: Natural = 0
    overhead_bytes: Natural
    logit_bytes: Natural
    rotary_table: bool
    absorbed_copies: bool = False
    """Latent attention's up-projections are stored a second time for decode steps."""
    mxfp4_width_multiple: Positive = 1
    """What the width of experts stored in MXFP4 is padded to a multiple of, for the kernels' sake."""
    mxfp4_model_multiple: Positive = 1
    """The same for d_model, their input."""
    gathered_experts: bool = False
    """Where copies of attention share experts, a rank has buffers for the tokens of all copies, as if all were its."""
    graphs_in_budget: bool
    graph_bytes: Natural
    block_tokens: Positive
    layers: Layers
    windows_off: bool = False
    """Windows of attention are an option: without it all tokens are kept and attended to."""
    window_share: float = 1.0
    """Tokens of a window layer's pool per token of a full layer's, where each kind has a pool."""
    states: Literal["page", "share"]
    state_share: float = 0.0
    """Bytes of recurrent states per byte of keys and values, where they share what is left."""
    reported: Literal["blocks", "concurrency", "tokens", "bytes"]
    prefill: Literal["mixed", "alone"]
    reserves: bool = False
    """A sequence is admitted only where the cache has room for it to its end."""
    max_batched_tokens: Positive
    max_sequences: Positive
    large_batched_tokens: Positive | None = None
    large_sequences: Positive | None = None
    large_from_bytes: Natural = 0
    large_except: tuple[str, ...] = ()
    step_host_s: Rate = 0
    """Host work of one step (scheduling, inputs, outputs), in seconds."""
    sequence_host_s: Rate = 0
    """The same for each sequence in the batch."""
    eager_kernel_s: Rate = 0
    """Host time to launch one (fused) kernel of a step with prompts, which no recorded graph replays: such a step takes
    no less than all of its launches."""
    eager_experts_s: Rate = 0
    """The same for a product with experts: sorting tokens, choosing a kernel, quantising, all from the host's code."""
    core_flops_per_clock: Natural = 0
    """What one multiprocessor's products reach in a clock with the engine's own kernels; 0 for those of libraries."""
    core_flops_per_clock_quantised: Natural = 0
    """The same where weights of fewer than 8 bits are unpacked first."""
    dispatch: Literal["all_to_all", "all_gather"] = "all_to_all"
    """How tokens of copies of attention come to the experts that they share: each to its own, or all to every rank."""
    all_reduce: Literal["custom", "nccl"] = "custom"
    """Kernels of its own for all-reduces within a domain where they are faster, or the library's."""
    request_s: Rate = 0
    """From a request's arrival to the scheduler, and from its first token to the client: HTTP, tokenizer, processes."""
    sampled_bytes: Natural = 0
    """Bytes moved per logit to sample a token."""
    change: tuple[Change, ...] = ()

    def at(self, version: str | None) -> Engine:
        """Return the engine as a version behaves; None is the version that the preset describes.

        >>> load_engine("vllm").at("0.21").reported, load_engine("vllm").at("0.9.2").reported
        ('concurrency', 'blocks')
        """
        now = parsed(version or self.version)
        changed: dict[str, Any] = {}
        for change in self.change:
            changed |= dict(change.fields) if change.holds(now) else {}
        return replace(self, version=version or self.version, **changed)

    def large(self, accelerator: Accelerator) -> bool:
        """Tell whether the defaults for devices with much memory hold."""
        excepted = any(word in accelerator.name for word in self.large_except)
        return accelerator.capacity >= self.large_from_bytes and not excepted

    def batched_tokens(self, accelerator: Accelerator) -> int:
        """Return the tokens of one step that the engine allows by default."""
        large = self.large_batched_tokens if self.large(accelerator) else None
        return large or self.max_batched_tokens

    def sequences(self, accelerator: Accelerator) -> int:
        """Return the sequences of one batch that the engine allows by default."""
        large = self.large_sequences if self.large(accelerator) else None
        return large or self.max_sequences

    def reserve(self, accelerator: Accelerator, batched: int, sequences: int, n_gpus: int) -> float:
        """Return the bytes that a ``static`` budget keeps out, where no fraction is given."""
        mib = self.reserve_base_mib + self.reserve_per_chunk_token_mib * max(batched, 2048)
        mib += self.reserve_per_graph_sequence_mib * sequences + self.reserve_per_eight_gpus_mib * n_gpus / 8
        if accelerator.capacity > self.reserve_least_from_bytes:
            mib = max(mib, self.reserve_least_mib)
        return mib * MIB


def parsed(version: str) -> tuple[int, ...]:
    """Read the first number with dots of a version: ``V1, about v0.15.1`` is 0.15.1; build b6000 is 6000.

    >>> parsed("0.9-0.10"), parsed("b6000")
    ((0, 9), (6000,))
    """
    found = re.search(r"\d+(?:\.\d+)+", version) or re.search(r"\d+", version)
    if found is None:
        raise SpecError(f"version {version!r} has no number")
    return tuple(int(part) for part in found.group().split("."))


def load_engine(engine: str | Path | Engine, version: str | None = None) -> Engine:
    """Return an engine by name (``vllm``, ``sglang``, ``tensorrt-llm``, ``llama.cpp``) or from a file of one's own.

    Raises:
        UnknownName: no such engine; near ones are suggested.
        SpecError: a file that describes no engine.
    """
    if isinstance(engine, Engine):
        return engine.at(version) if version else engine
    name = str(engine).strip()
    known = names("engines")
    if name.lower() in known:
        path = presets_folder() / "engines" / f"{name.lower()}.toml"
        return _built(tomllib.loads(path.read_text("utf-8")), name.lower(), str(path)).at(version)
    path = Path(name).expanduser()
    if path.suffix.lower() != ".toml" or not path.is_file():
        raise UnknownName("engine", name, known)
    return validated(toml_table(read_text(path), str(path)), path.stem, str(path)).at(version)


def later(engine: Engine) -> tuple[str, ...]:
    """Return the note that a version is later than any that the shipped preset speaks of; none where it is not.

    >>> later(load_engine("vllm", "0.9.2")), later(load_engine("vllm"))
    ((), ())
    """
    if engine.name not in names("engines"):
        return ()
    preset = load_engine(engine.name)
    stated = (preset.version, *(each.since or each.before or preset.version for each in preset.change))
    last = max(stated, key=parsed)
    if parsed(engine.version)[: len(parsed(last))] <= parsed(last):
        return ()
    return (f"{engine.title} {engine.version} is later than {last}, the last that is known: it is taken to work alike",)


def _built(data: dict[str, Any], name: str, origin: str) -> Engine:
    """Build from trusted data, or from what pydantic has checked."""
    values = {"name": name, **data}
    values["large_except"] = tuple(data.get("large_except", ()))
    values["change"] = tuple(_change(dict(change), origin) for change in data.get("change", ()))
    return Engine(**values)


def _change(data: dict[str, Any], origin: str) -> Change:
    before, since = data.pop("before", None), data.pop("since", None)
    if (before is None) == (since is None):
        raise SpecError(f"a change needs either before or since ({origin})")
    unknown = set(data) - {field.name for field in fields(Engine)}
    if unknown:
        raise SpecError(f"change: {', '.join(sorted(unknown))} is not a known field ({origin})")
    return Change(before=before, since=since, fields=data)


def validated(data: dict[str, Any], name: str, origin: str) -> Engine:
    """Check a user's engine against the record, every version's fields too, and build it.

    Raises:
        SpecError: the first thing that is wrong, in one line.
    """
    from pydantic import TypeAdapter, ValidationError

    from calc.catalog import describe

    engine = dict(data)
    changes = engine.pop("change", [])
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        raise SpecError(f"change is not a list of tables ({origin})")
    parsed_changes = [_change(dict(change), origin) for change in changes]
    adapter = TypeAdapter(Engine)
    try:
        for each in ({}, *(dict(change.fields) for change in parsed_changes)):
            excepted = tuple(engine.get("large_except", ()))
            adapter.validate_python({"name": name, **engine, **each, "large_except": excepted})
    except ValidationError as error:
        raise SpecError(f"{describe(error)} ({origin})") from None
    return _built(data, name, origin)
