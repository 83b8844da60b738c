"""The figures of one model in one setting: what every view, comparison and plan starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field
from fractions import Fraction
from math import log2
from typing import Any

from calc.algebra import Number
from calc.checks import one_of, whole
from calc.errors import SpecError, UnknownName
from calc.fields import LARGEST
from calc.modality.tower import Tower
from calc.model import (
    Block,
    CacheBytes,
    Model,
    Parameters,
    Pass,
    cache_bytes,
    flops_by_operation,
    moved_bytes,
    parameters,
    running,
    training_flops,
)
from calc.operations import Counts, Phase, Role
from calc.records import Record, named_record, record, replace
from calc.results import Figure
from calc.schemes import stored_bytes, weight_forms
from calc.tensors import COUNTS
from calc.units import dtype

DEFAULT_CONTEXT = 8192
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@named_record
class Setting(Record):
    """What a figure is asked for: sequences, tokens, formats, and what is counted."""

    batch: int = 1
    context: int
    source: int | None = None
    weights_dtype: str | None = None
    cache_dtype: str = "bf16"
    causal: bool = True
    counts: Counts = "matmul"

    def __post_init__(self) -> None:
        for name in ("batch", "context", "source"):
            value = getattr(self, name)
            if value is not None or name != "source":
                self.__dict__[name] = whole(name, value, most=LARGEST)
        if not isinstance(self.causal, bool):
            raise SpecError(f"causal = {self.causal!r} is neither True nor False")
        one_of("counts", self.counts, COUNTS)
        for name in ("weights_dtype", "cache_dtype"):
            form = getattr(self, name)
            if not (isinstance(form, str) and form.strip()) and (form is not None or name == "cache_dtype"):
                raise SpecError(f"{name} = {form!r} is not the name of a number format")
        dtype(self.cache_dtype)

    @classmethod
    def of(cls, models: Iterable[Model], context: int | None, **values: Any) -> Setting:
        """Fill in the context: the longest that all models state, at most 8192 tokens; and the source that they read.

        Raises:
            SpecError: source tokens for models that read none, or a size or format that cannot be.
        """
        models = list(models)
        if values.get("source") is not None and not any(model.encoder or model.outside_source for model in models):
            raise SpecError(f"source = {values['source']}: no model here reads a source, they are decoders alone")
        if values.get("source") is None:
            read = {model.source_positions for model in models if model.encoder or model.outside_source}
            values["source"] = read.pop() if len(read) == 1 else None
        longest = min([model.max_context or DEFAULT_CONTEXT for model in models] + [DEFAULT_CONTEXT])
        return cls(context=longest if context is None else context, **values)

    def phase(self, phase: Phase) -> Pass:
        """Return the pass of a phase."""
        make = Pass.prefill if phase == "prefill" else Pass.decode
        return make(self.context, self.batch, source=self.source, causal=self.causal)

    def to_dict(self, model: Model) -> dict[str, Any]:
        """Return the setting as JSON carries it; ``source`` only where there is an encoder."""
        return {
            "batch": self.batch,
            "context": self.context,
            "source": (self.source or self.context) if model.encoder or model.outside_source else None,
            "causal": self.causal,
            "counts": self.counts,
        }

    def forms(self, model: Model, blocks: Iterable[Block]) -> dict[Role, Any]:
        """Return the number format of every role, for the tables of a model; activations are bf16."""
        weight = weight_forms(self.weights_dtype or model.weights_dtype, blocks)
        return {"weight": weight, "activation": dtype("bf16"), "cache": dtype(self.cache_dtype)}


def _plain(value: Number) -> Number:
    """Return a fraction as the float that JSON and tables show."""
    return float(value) if isinstance(value, Fraction) else value


@named_record
class TowerCosts(Record):
    """The size of a tower, which the model's figures leave out."""

    modality: str
    source: str
    n_layers: int
    d_model: int
    params: int
    projector_params: int
    """Of them in what turns its output into tokens."""
    weight_bytes: int
    """In the format of the model's weights, or in bf16 where that is a scheme of several formats."""

    @classmethod
    def of(cls, tower: Tower, weights_dtype: str) -> TowerCosts:
        """Count a tower."""
        blocks = tower.blocks()
        try:
            form = dtype(weights_dtype).name
        except UnknownName:
            form = "bf16"
        projectors = [block for block in blocks if block.name.startswith("projector")]
        return cls(
            modality=tower.modality,
            source=tower.source,
            n_layers=tower.n_layers,
            d_model=tower.d_model,
            params=parameters(blocks).total,
            projector_params=parameters(projectors).total,
            weight_bytes=stored_bytes(blocks, weight_forms(form)),
        )


@record
class Costs(Record):
    """The figures of one model in one setting."""

    model: Model
    setting: Setting
    params: Parameters
    weight_bytes: int
    cache: CacheBytes
    flops: Mapping[str, int]
    traffic: Mapping[str, Mapping[Role, float]]
    """Bytes moved unfused, by phase and role."""
    complexity: Mapping[str, float]
    flops_by_form: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """FLOPs by phase where a mechanism can be computed in several forms (latent attention: naive, absorbed)."""
    multi_head_cache: int = 0
    """What multi-head attention with the same heads would keep."""
    mtp_params: int = 0
    """Parameters of the multi-token prediction modules, which the total leaves out."""
    towers: tuple[TowerCosts, ...] = ()
    """Encoders of images and sound, which no other figure includes."""
    bounds: tuple[Costs, Costs] | None = None
    """The figures of the least and the most that an estimated architecture may be."""

    @classmethod
    def of(cls, model: Model, setting: Setting) -> Costs:
        """Count everything once."""
        blocks, ends = model.blocks(), model.bounds()
        forms = setting.forms(model, blocks)
        passes = {phase: setting.phase(phase) for phase in PHASES}
        flops: dict[str, int] = {
            phase: sum(flops_by_operation(blocks, pass_, setting.counts).values()) for phase, pass_ in passes.items()
        }
        forms_of = {name: model.in_form(name) for name in model.forms()}
        flops["train"] = training_flops(blocks, passes["prefill"], setting.counts, recompute=False)
        return cls(
            model=model,
            setting=setting,
            params=parameters(blocks),
            weight_bytes=stored_bytes(blocks, forms["weight"]),
            cache=cache_bytes(blocks, passes["decode"], forms["cache"]),
            flops=flops,
            traffic={phase: traffic(blocks, pass_, forms) for phase, pass_ in passes.items()},
            complexity=complexity(blocks),
            flops_by_form={
                name: {phase: other.flops(pass_, setting.counts) for phase, pass_ in passes.items()}
                for name, other in forms_of.items()
            },
            multi_head_cache=cache_bytes(
                [replace(block, states=block.uncompressed) for block in blocks], passes["decode"], dtype("bf16")
            ).bytes,
            mtp_params=parameters(model.mtp_blocks()).total,
            towers=tuple(TowerCosts.of(tower, setting.weights_dtype or model.weights_dtype) for tower in model.tower),
            bounds=None if ends is None else (cls.of(ends[0], setting), cls.of(ends[1], setting)),
        )

    def figure(self, of: Callable[[Costs], float | None], unit: str = "") -> Figure:
        """Return one of the figures, with its range and its provenance where the architecture is an estimate."""
        if self.bounds is None:
            return Figure(_plain(of(self)), unit)
        value, *ends = (_plain(of(costs)) for costs in (self, *self.bounds))
        if all(end == value for end in ends):
            return Figure(value, unit)
        known = sorted(end for end in ends if end is not None)
        low, high = (known[0], known[-1]) if known else (None, None)
        return Figure(value, unit, "estimate", low=low, high=high)

    def moved(self, phase: str) -> float:
        """Return the bytes that a phase moves."""
        return sum(self.traffic[phase].values())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of one model."""
        model, setting = self.model, self.setting
        return {
            "model": {
                "name": model.name,
                "title": model.heading,
                "source": model.source,
                "n_layers": model.n_layers,
                "d_model": model.d_model,
                "vocab_size": model.vocab_size,
                "max_context": model.max_context,
            },
            "pass": setting.to_dict(model),
            "params": {"total": self.params.total, **asdict(self.params), "mtp": self.mtp_params},
            "towers": [vars(tower) for tower in self.towers],
            "weights": {"dtype": setting.weights_dtype or model.weights_dtype, "bytes": self.weight_bytes},
            "cache": {
                "dtype": setting.cache_dtype,
                "bytes_per_token": _plain(self.cache.bytes_per_token),
                "bytes": self.cache.bytes,
                "state_bytes": self.cache.state_bytes,
                "multi_head_bytes": self.multi_head_cache,
                "by_kind": dict(self.cache.by_kind),
            },
            "flops": dict(self.flops),
            "flops_by_form": {form: dict(flops) for form, flops in self.flops_by_form.items()},
            "traffic": {phase: self.moved(phase) for phase in PHASES},
            "traffic_by_role": {phase: dict(self.traffic[phase]) for phase in PHASES},
            "intensity": {phase: self.flops[phase] / self.moved(phase) for phase in PHASES},
            "complexity": {kind: {"exponent": power} for kind, power in self.complexity.items()},
            "provenance": "estimate" if self.bounds else "exact",
            **({"low": self.bounds[0].to_dict(), "high": self.bounds[1].to_dict()} if self.bounds else {}),
        }


def traffic(blocks: Iterable[Block], pass_: Pass, forms: Mapping[Role, Any]) -> dict[Role, float]:
    """Return the bytes that a pass moves when nothing is fused: weights and operands read, results written."""
    total: dict[Role, float] = {"weight": 0, "activation": 0, "cache": 0}
    for block, operation, _ in running(blocks, pass_):
        for role, moved in moved_bytes(block, operation, pass_, forms).items():
            total[role] += moved
    return total


def complexity(blocks: Iterable[Block]) -> dict[str, float]:
    """Return the exponent of the sequence length in the attention FLOPs of a prefill, by kind of attention."""
    powers: dict[str, float] = {}
    for block in blocks:
        if block.name in ("attention", "cross"):
            counted = [
                sum(op.flops(env, counts="all") for _, op, env in running([block], Pass.prefill(length)))
                for length in (2**60, 2**61)
            ]
            powers[block.label] = round(2 * log2(counted[1] / counted[0])) / 2
    return powers
