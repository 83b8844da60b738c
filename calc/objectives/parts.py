"""What objectives are put together from: passes of models, and models held in memory."""

from __future__ import annotations

from typing import Any, Final, Literal

from calc.algebra import Number
from calc.generation import Generation, scored
from calc.layers import Block
from calc.memory import training_memory
from calc.memory.optimizers import precision_of
from calc.model import Model, Pass, flops_by_operation, parameters, training_flops
from calc.operations import Einsum
from calc.records import Record, named_record, replace

End = Literal["vocabulary", "sequence", "token"]
"""What a model ends in: logits, one reward for a sequence, one value for each token."""


@named_record
class Phase(Record):
    """Some passes of one model in one step: ``flops`` of all of them. ``subject``: whose tables they are read off."""

    name: str
    model: str
    sequences: Number
    tokens: Number
    flops: Number
    note: str = ""
    kind: Literal["train", "forward", "generate", "other"] = "other"
    subject: tuple[Model, End] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON carries of it."""
        return {name: getattr(self, name) for name in ("name", "model", "sequences", "tokens", "flops", "note")}


@named_record
class Held(Record):
    """A model in memory, in bytes, all devices together.

    ``total`` are its states: weights, gradients, the optimizer's. ``activations``: what one sequence keeps for the
    backward pass, none recomputed; how many sequences are in flight is the layout's choice.
    """

    role: str
    model: str
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Weights, gradients and the optimizer's states."""
        return self.weights + self.gradients + self.optimizer


@named_record
class Training(Record):
    """How models are trained, as far as memory depends on it: number formats, optimizer, the framework's gradients."""

    precision: str = "bf16"
    optimizer: str = "adam"
    framework: str = "megatron"


def blocks_of(model: Model, end: End) -> list[Block]:
    """Return a model's tables with what it ends in."""
    return model.blocks() if end == "vocabulary" else scored(model, end)


def trained(role: str, model: Model, length: int, how: Training, *, end: End = "vocabulary", mtp: bool = False) -> Held:
    """Return the states and activations of a model that is trained, as ``calc train`` finds them on one device."""
    body = model if end == "vocabulary" else replace(model, head=None, pooler=None)
    found = training_memory(
        body, context=length, precision=how.precision, optimizer=how.optimizer, framework=how.framework, mtp=mtp
    )
    extra = model.mtp_blocks() if mtp else []
    count = int(parameters([*blocks_of(model, end), *extra]).total)
    own = int(parameters([*body.blocks(), *extra]).total)
    # a scalar end has as many bytes a parameter as the rest
    weights, gradients, optimizer = (
        round(part * count / own) for part in (found.weights, found.gradients, found.optimizer)
    )
    return Held(
        role=role,
        model=model.name,
        parameters=count,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=round(found.activations),
    )


def frozen(role: str, model: Model, how: Training, *, end: End = "vocabulary") -> Held:
    """Return a model that is only run forward: its weights."""
    count = int(parameters(blocks_of(model, end)).total)
    weights = precision_of(how.precision).compute * count
    return Held(role=role, model=model.name, parameters=count, weights=weights, gradients=0, optimizer=0, activations=0)


def train(
    name: str, model: Model, sequences: Number, length: Number, *, end: End = "vocabulary", times: int = 1
) -> Phase:
    """Return a training pass, forward and backward, of ``sequences`` of ``length`` tokens."""
    cost = training_flops(blocks_of(model, end), Pass.prefill(length, sequences), "matmul", recompute=False)
    return Phase(
        name=name,
        model=model.name,
        sequences=times * sequences,
        tokens=times * sequences * length,
        flops=times * cost,
        note=f"{times} times" if times > 1 else "",
        kind="train",
        subject=(model, end),
    )


def forward(name: str, model: Model, sequences: Number, length: Number, *, end: End = "vocabulary") -> Phase:
    """Return a forward pass of ``sequences`` of ``length`` tokens."""
    cost = sum(flops_by_operation(blocks_of(model, end), Pass.prefill(length, sequences), "matmul").values())
    tokens = sequences * length
    return Phase(
        name=name,
        model=model.name,
        sequences=sequences,
        tokens=tokens,
        flops=cost,
        kind="forward",
        subject=(model, end),
    )


def generate(name: str, model: Model, sequences: int, prompt: int, answer: int, prompts: int | None = None) -> Phase:
    """Return the generation of ``answer`` tokens for each of ``sequences``, from ``prompts`` prompts read once each."""
    run = Generation(model, prompt, answer)
    cost = (prompts or sequences) * run.prefill + sequences * run.between(0, answer)
    tokens = sequences * answer
    subject: tuple[Model, End] = (model, "vocabulary")
    return Phase(
        name=name, model=model.name, sequences=sequences, tokens=tokens, flops=cost, kind="generate", subject=subject
    )


SIMILARITY: Final = Einsum("similarity", "bæ,næ->bn", inputs=("one", "other"))
"""Every vector of a batch against every one of the other side; letters: b and n the batch, æ the joint width."""


def similarity_flops(batch: Number, width: Number, *, backward: bool = True) -> Number:
    """Return the FLOPs of the similarity matrix of a contrastive loss: 2·B²·d forward, twice that backward.

    Source: Radford et al. 2021, arXiv:2103.00020 Figure 3 (np.dot(I_e, T_e.T)).

    >>> similarity_flops(32_768, 512)
    3298534883328
    """
    env = {"b": batch, "n": batch, "æ": width}
    once = SIMILARITY.flops(env)
    return once + SIMILARITY.backward_flops(env) if backward else once
