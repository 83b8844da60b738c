"""A model on accelerators under an engine: its memory, what bounds its batch, its steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from calc.algebra import Number, maximum, minimum
from calc.errors import SpecError
from calc.generation import check_writes
from calc.hardware import Accelerator
from calc.layers import Block
from calc.masks import Causal, Window
from calc.media.shares import Input
from calc.model import Model
from calc.parallel import Layout, check
from calc.records import Record, named_record, replace
from calc.serving.cache import Capacity, capacity
from calc.serving.encoding import encoding_peak, encoding_s, tower_bytes
from calc.serving.engines import Engine
from calc.serving.guesses import Drafter
from calc.serving.memory import ServingMemory, divide, peak_bytes
from calc.serving.steady import Limits, Work
from calc.serving.steps import Steps
from calc.serving.weights import loaded
from calc.units import dtype


@named_record
class Settings(Record):
    """What a user may set on an engine; None is its default on the accelerator at hand."""

    memory_fraction: float | None = None
    batched_tokens: int | None = None
    sequences: int | None = None
    graphs: bool = True
    host_experts: bool = False
    """Routed experts stay in the host's memory."""


class Deployment:
    """One model copy on its layout; data-parallel copies are alike.

    ``drafter``: what guesses tokens, in the memory of the last stage. ``inputs``: what stands in every prompt beside
    its text, as ``calc.media.shares.inputs_of`` returns it.

    Raises:
        SpecError: a layout that the model cannot have.
    """

    def __init__(
        self,
        model: Model,
        accelerator: Accelerator,
        layout: Layout,
        engine: Engine,
        *,
        weights_dtype: str | None = None,
        cache_dtype: str = "bf16",
        settings: Settings | None = None,
        skew: float = 0,
        inputs: Sequence[Input] = (),
        drafter: Drafter | None = None,
    ) -> None:
        _writes(model)
        check(model, layout)
        model = _without_windows(model) if engine.windows_off else model
        self.model, self.accelerator, self.layout, self.engine = model, accelerator, layout, engine
        self.settings, self.inputs = settings or Settings(), tuple(inputs)
        self.drafter = drafter or Drafter()
        self.cache_form = dtype(cache_dtype)
        self.steps = Steps(
            model, accelerator, layout, engine,
            weights_dtype=weights_dtype, cache_dtype=cache_dtype, skew=skew,
            host_experts=self.settings.host_experts,
        )  # fmt: skip

    @property
    def batched_tokens(self) -> int:
        """Tokens of one step at most."""
        return self.settings.batched_tokens or self.engine.batched_tokens(self.accelerator)

    @property
    def sequences(self) -> int:
        """Sequences that run at once at most, however much cache there is."""
        return self.settings.sequences or self.engine.sequences(self.accelerator)

    @property
    def stages(self) -> list[list[Block]]:
        """The tables of one rank of every pipeline stage."""
        return self.steps.stages

    @cached_property
    def memories(self) -> list[ServingMemory]:
        """The division of a device's memory, for one rank of every pipeline stage."""
        places = range(len(self.stages))
        return [self._memory(self.stages[place], first=place == 0, last=place == places[-1]) for place in places]

    @property
    def host_bytes(self) -> int:
        """Bytes of the experts that a device leaves in the memory of its host, at the stage with most of them."""
        if not self.settings.host_experts:
            return 0
        forms, longest = self.steps.weights, self.model.max_context
        whole = [loaded(blocks, forms, self.engine, longest) for blocks in self.stages]
        held = [loaded(blocks, forms, self.engine, longest, without_experts=True) for blocks in self.stages]
        return max(int(one.stored - other.stored) for one, other in zip(whole, held, strict=True))

    @property
    def memory_of_towers(self) -> int:
        """Bytes of the towers' weights on a rank that has them."""
        return int(self.memories[0].weights.towers)

    @cached_property
    def encoding_s(self) -> float:
        """Seconds for what stands in one prompt beside its text."""
        return encoding_s(self.model, self.inputs, self.accelerator, self.layout, self.engine)

    @property
    def memory(self) -> ServingMemory:
        """That of the stage with the least room for the cache."""
        return min(self.memories, key=lambda memory: float(memory.cache))

    def _memory(self, blocks: list[Block], *, first: bool, last: bool) -> ServingMemory:
        weights = loaded(
            blocks, self.steps.weights, self.engine, self.model.max_context, without_experts=self.settings.host_experts
        )
        gathered = self.layout.dp if self.engine.gathered_experts and self.layout.ep > 1 else 1
        peak = peak_bytes(blocks, self.batched_tokens, self.sequences, self.model.vocab_size, self.engine, gathered)
        if first:
            weights = replace(weights, towers=tower_bytes(self.model, self.layout))
            peak = maximum(peak, encoding_peak(self.model, self.inputs, self.layout, self.engine))
        if last:
            weights = replace(weights, drafter=self.drafter.weight_bytes)
        return divide(
            self.accelerator, self.engine, weights, peak,
            fraction=self.settings.memory_fraction, batched_tokens=self.batched_tokens, sequences=self.sequences,
            n_gpus=self.layout.tp * self.layout.pp, graphs=self.settings.graphs,
        )  # fmt: skip

    def capacity(self, context: Number, longest: Number | None = None) -> Capacity:
        """Return what one model copy holds of sequences of ``context`` tokens: its stage that holds least."""
        found = [
            capacity(
                blocks, self.cache_form, self.engine, memory.cache, context,
                batched_tokens=self.batched_tokens, longest=longest,
            )
            for blocks, memory in zip(self._keeping, self.memories, strict=True)
        ]  # fmt: skip
        least = found[0]
        for other in found[1:]:
            if float(other.allocated_sequences) < float(least.allocated_sequences):
                least = other
        return least

    @property
    def _keeping(self) -> list[list[Block]]:
        """The tables of each stage that keep something of a sequence: the drafter's are on the last one."""
        *others, last = self.stages
        return [*others, [*last, *self.drafter.blocks]]

    @property
    def fits(self) -> bool:
        """Whether the weights leave room for a cache."""
        return float(self.memory.cache) > 0

    def limits(self, work: Work) -> Limits:
        """Return how many sequences a model copy runs at once: what its cache holds, what the engine allows.

        An engine that admits a sequence with its blocks of the moment holds as many as fit at their mean length; one
        that reserves room to the end, as many as fit at their longest.

        Raises:
            SpecError: not even one sequence fits.
        """
        whole = self.capacity(work.longest).allocated_sequences
        # one sequence must fit whole, whatever the others' mean is
        if not self.fits or float(whole) < 1:
            raise SpecError("not one sequence fits")
        most = whole if self.engine.reserves else self.capacity(work.mean_context).allocated_sequences
        places = minimum(maximum(most, 1.0), self.sequences)
        return Limits(sequences=places, batched_tokens=self.batched_tokens)


def _without_windows(model: Model) -> Model:
    """Return the model as an engine runs it that keeps and attends to all tokens unless it is told otherwise."""

    def whole(mixer: Any) -> Any:
        window = isinstance(getattr(mixer, "mask", None), Window)
        return replace(mixer, mask=Causal()) if window else mixer

    stacks = tuple(
        replace(stack, layer=tuple(replace(each, attention=whole(each.attention)) for each in stack.layer))
        for stack in model.stack
    )
    return replace(model, stack=stacks)


def _writes(model: Model) -> None:
    """Refuse a model that does not write token by token, or reads a source of its own for every request.

    Raises:
        SpecError: an encoder, or an encoder and decoder.
    """
    if model.encoder is not None:
        raise SpecError(f"{model.name} has an encoder: serving a source for every request is not modelled")
    check_writes(model)
