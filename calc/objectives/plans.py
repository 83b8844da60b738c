"""The objectives, each as the passes it makes and the models it holds."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2
from typing import Final

from calc.errors import SpecError
from calc.model import Model, training_flops
from calc.model import Pass as Passes
from calc.mtp import MTP
from calc.objectives.parts import (
    Held,
    Phase,
    Training,
    forward,
    frozen,
    generate,
    similarity_flops,
    train,
    trained,
)
from calc.records import Record, named_record, replace


@named_record
class Asked(Record):
    """What an objective is asked for.

    ``other``: the second model it needs (tower, reward, teacher); ``tokens``: of a corpus or an update; ``group``:
    answers of a prompt; ``epochs``: passes over what was generated.
    """

    model: Model
    batch: int
    prompt: int
    answer: int
    other: Model | None
    critic: Model | None
    tokens: float | None
    group: int
    epochs: int
    top_k: int
    modules: int
    updates: int
    replay: float
    value_bytes: int
    how: Training

    @property
    def length(self) -> int:
        """Tokens of a whole sequence."""
        return self.prompt + self.answer


@named_record
class Plan(Record):
    """One step of an objective: its passes, the models it holds, what else it stores, its formula and source."""

    phases: tuple[Phase, ...]
    holds: tuple[Held, ...]
    formula: str
    source: str
    stored: tuple[tuple[str, float, str], ...] = ()
    """(what, bytes, how it comes about)."""
    whole: bool = False
    """The phases are of the whole corpus or year, not of one step."""
    notes: tuple[str, ...] = ()


def _next_token(asked: Asked) -> Plan:
    logits = asked.batch * asked.length * asked.model.vocab_size
    return Plan(
        phases=(train("train", asked.model, asked.batch, asked.length),),
        holds=(trained("model", asked.model, asked.length, asked.how),),
        formula="training_flops(batch, context) ≈ 6·N·tokens + attention",
        source="Radford et al. 2018; Kaplan et al. 2020, arXiv:2001.08361 §2.1",
        stored=(("logits", 4.0 * logits, "fp32, batch·context·V, unless the loss is fused"),),
    )


def _multi_token(asked: Asked) -> Plan:
    model = asked.model
    notes: tuple[str, ...] = ()
    if model.mtp is None or asked.modules:
        last = list(model.layers())[-1]
        tokens = asked.modules or 1
        model = replace(model, mtp=MTP(modules=tokens, layer=last))
        notes = (
            f"{model.name} with {tokens} prediction modules made of its last layer: none, or others, were published",
        )
    modules = model.mtp_blocks()
    step = Passes.prefill(asked.length, asked.batch)
    extra = training_flops(modules, step, "matmul", recompute=False)
    count = asked.batch * asked.length
    further = Phase(name="prediction modules", model=model.name, sequences=asked.batch, tokens=count, flops=extra)
    return Plan(
        phases=(train("train", model, asked.batch, asked.length), further),
        holds=(trained("model and modules", model, asked.length, asked.how, mtp=True),),
        formula="training_flops + K·(2·d²-map, layer, head) forward and backward",
        source="DeepSeek-V3, arXiv:2412.19437 §2.2; Gloeckle et al. 2024, arXiv:2404.19737",
        notes=notes,
    )


def _contrastive(asked: Asked) -> Plan:
    other = asked.other or asked.model
    width = max(_joint(asked.model), _joint(other))
    if _joint(asked.model) != _joint(other):
        raise SpecError(
            f"{asked.model.name} ends {_joint(asked.model):,} wide and {other.name} {_joint(other):,}: "
            "no joint space to compare them in"
        )
    pairs = similarity_flops(asked.batch, width)
    matrix = Phase(
        name="similarities",
        model="batch × batch",
        sequences=asked.batch,
        tokens=0,
        flops=pairs,
        note=f"6·{asked.batch:,}²·{width:,}",
    )
    sides = (
        _side("first tower", asked.model, asked.batch, asked.prompt),
        _side("second tower", other, asked.batch, asked.answer),
    )
    both = sides[0].flops + sides[1].flops
    even = both / asked.batch / (6 * width)
    holds = [trained("first tower", replace(asked.model, head=None), asked.prompt, asked.how)]
    if asked.other:
        holds.append(trained("second tower", replace(other, head=None), asked.answer, asked.how))
    return Plan(
        phases=(*sides, matrix),
        holds=tuple(holds),
        formula="towers(B) + 6·B²·d: 2·B²·d forward, 4·B²·d backward",
        source="Radford et al. 2021, arXiv:2103.00020 §2.3; Zhai et al. 2023 (SigLIP), arXiv:2303.15343",
        stored=(
            ("similarities", 4.0 * asked.batch**2, "fp32, B²"),
            ("gathered vectors", 2.0 * 2 * asked.batch * width, "bf16, both sides, on every device"),
        ),
        notes=(f"the squared term would equal the towers at a batch of {even:,.0f}",),
    )


def _joint(model: Model) -> int:
    """Return the width of the vectors that are compared."""
    return (model.pooler.d_projection if model.pooler else None) or model.d_model


def _side(name: str, model: Model, batch: int, length: int) -> Phase:
    """Return the training pass of a tower, which needs no vocabulary."""
    return train(name, replace(model, head=None), batch, length)


def _instruction(asked: Asked) -> Plan:
    share = asked.answer / asked.length
    return Plan(
        phases=(train("train", asked.model, asked.batch, asked.length),),
        holds=(trained("model", asked.model, asked.length, asked.how),),
        formula="training_flops(batch, prompt + answer): masking the prompt's loss saves nothing",
        source="Ouyang et al. 2022, arXiv:2203.02155 §3.5; Wei et al. 2021, arXiv:2109.01652",
        notes=(f"{share:.0%} of the tokens are learned from",),
    )


def _reward(asked: Asked) -> Plan:
    return Plan(
        phases=(train("train on pairs", asked.model, 2 * asked.batch, asked.length, end="sequence"),),
        holds=(trained("reward model", asked.model, asked.length, asked.how, end="sequence"),),
        formula="training_flops(2·batch, prompt + answer) with a scalar in place of the vocabulary",
        source="Ouyang et al. 2022, arXiv:2203.02155 §3.5: −log σ(r(chosen) − r(rejected))",
    )


def _dpo(asked: Asked) -> Plan:
    model = asked.model
    return Plan(
        phases=(
            forward("reference", asked.other or model, 2 * asked.batch, asked.length),
            train("train on pairs", model, 2 * asked.batch, asked.length),
        ),
        holds=(trained("policy", model, asked.length, asked.how), frozen("reference", asked.other or model, asked.how)),
        formula="forward(2·batch) of the reference + training_flops(2·batch): 4/3 of training on pairs",
        source="Rafailov et al. 2023, arXiv:2305.18290 eq. 7",
        notes=("log-probabilities of the reference may be stored once instead: then it is neither held nor run",),
    )


def _ppo(asked: Asked) -> Plan:
    policy = asked.model
    reward, critic = asked.other or policy, asked.critic or asked.other or policy
    count, length = asked.batch, asked.length
    return Plan(
        phases=(
            generate("generate", policy, count, asked.prompt, asked.answer),
            forward("log-probabilities", policy, count, length),
            forward("reference", policy, count, length),
            forward("rewards", reward, count, length, end="sequence"),
            forward("values", critic, count, length, end="token"),
            train("train policy", policy, count, length, times=asked.epochs),
            train("train critic", critic, count, length, end="token", times=asked.epochs),
        ),
        holds=(
            trained("policy", policy, asked.length, asked.how),
            trained("critic", critic, asked.length, asked.how, end="token"),
            frozen("reference", policy, asked.how),
            frozen("reward model", reward, asked.how, end="sequence"),
        ),
        formula="generation + forward of policy, reference, reward, critic + epochs·(training of policy and critic)",
        source="Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155 §3.5 and C.4",
        stored=_rollout(asked, count),
    )


def _grpo(asked: Asked) -> Plan:
    policy = asked.model
    count, length = asked.batch * asked.group, asked.length
    phases = [
        generate("generate", policy, count, asked.prompt, asked.answer, prompts=asked.batch),
        forward("log-probabilities", policy, count, length),
        forward("reference", policy, count, length),
    ]
    holds = [trained("policy", policy, asked.length, asked.how), frozen("reference", policy, asked.how)]
    if asked.other:
        phases.append(forward("rewards", asked.other, count, length, end="sequence"))
        holds.append(frozen("reward model", asked.other, asked.how, end="sequence"))
    phases.append(train("train policy", policy, count, length, times=asked.epochs))
    return Plan(
        phases=tuple(phases),
        holds=tuple(holds),
        formula="G·generation + G·forward of policy and reference (and reward) + epochs·G·training; no critic",
        source="Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300 §4.1",
        stored=_rollout(asked, count),
        notes=() if asked.other else ("rewards by rules: --with names a reward model",),
    )


def _rollout(asked: Asked, sequences: int) -> tuple[tuple[str, float, str], ...]:
    """Return the cache of all sequences that are generated, at their longest."""
    kept = asked.model.cache(asked.length, sequences)
    return (("rollout cache", float(kept.bytes + kept.state_bytes), f"bf16, {sequences:,} sequences at once"),)


def stored_bytes_per_token(vocab_size: int, top_k: int, value_bytes: int = 2) -> tuple[int, float]:
    """Return what the top-K logits of a token take: with indices of whole bytes, and with indices of ⌈log₂ V⌉ bits.

    K·(value + index): 2 bytes of index up to a vocabulary of 65,536, else 4 (int16, int32); packed, 18 bits for 256 K.
    All logits would take V·value.

    >>> stored_bytes_per_token(256_000, 256), stored_bytes_per_token(32_000, 64)
    ((1536, 1088.0), (256, 248.0))
    """
    whole = 2 if vocab_size <= 2**16 else 4
    bits = ceil(log2(vocab_size))
    return top_k * (value_bytes + whole), top_k * (value_bytes + bits / 8)


def _distillation(asked: Asked) -> Plan:
    student, teacher = asked.model, asked.other
    if teacher is None:
        raise SpecError("distillation needs a teacher: name it with --with")
    if asked.top_k > teacher.vocab_size:
        raise SpecError(
            f"top_k = {asked.top_k:,} is more than the vocabulary of {teacher.name}, {teacher.vocab_size:,}"
        )
    tokens = float(asked.batch * asked.length) if asked.tokens is None else asked.tokens
    sequences = tokens / asked.length
    whole, packed = stored_bytes_per_token(teacher.vocab_size, asked.top_k, asked.value_bytes)
    index = whole // asked.top_k - asked.value_bytes
    everything = teacher.vocab_size * asked.value_bytes
    notes = [f"{everything / whole:,.0f} times less than all {teacher.vocab_size:,} logits"]
    if student.vocab_size != teacher.vocab_size:
        notes.append(f"vocabularies differ ({student.vocab_size:,}, {teacher.vocab_size:,}): indices need a map")
    return Plan(
        phases=(
            forward("teacher", teacher, sequences, asked.length),
            train("train student", student, sequences, asked.length),
        ),
        holds=(trained("student", student, asked.length, asked.how), frozen("teacher", teacher, asked.how)),
        formula="forward of the teacher once + training_flops of the student; storage tokens·K·(value + index)",
        source="Hinton et al. 2015, arXiv:1503.02531; top-K: Gemma 3, arXiv:2503.19786 §2.2",
        stored=(
            ("top-K logits", tokens * whole, f"{asked.top_k:,} × ({asked.value_bytes} + {index}) bytes for each token"),
            ("  indices packed", tokens * packed, f"⌈log₂ V⌉ = {ceil(log2(teacher.vocab_size))} bits for each index"),
            ("  all logits", tokens * everything, f"{teacher.vocab_size:,} × {asked.value_bytes} bytes"),
        ),
        whole=asked.tokens is not None,
        notes=tuple(notes),
    )


def _continual(asked: Asked) -> Plan:
    if asked.tokens is None:
        raise SpecError("continual updates need the new tokens of one update: give --tokens")
    learned = asked.tokens / (1 - asked.replay)
    once = train("one update", asked.model, learned / asked.length, asked.length)
    every = Phase(
        name=f"{asked.updates:,} updates",
        model=asked.model.name,
        sequences=asked.updates * once.sequences,
        tokens=asked.updates * once.tokens,
        flops=asked.updates * once.flops,
        note=f"{asked.replay:.0%} of each is replayed" if asked.replay else "",
    )
    anew = (asked.updates + 1) / 2 * (1 - asked.replay)
    return Plan(
        phases=(every,),
        holds=(trained("model", asked.model, asked.length, asked.how),),
        formula="updates·training_flops(new / (1 − replay))",
        source="Ibrahim et al. 2024, arXiv:2403.08763 (replay and re-warming)",
        whole=True,
        notes=(
            f"one update: {once.tokens:.4g} tokens, {once.flops:.4g} FLOP",
            f"training anew on all updates so far each time would cost {anew:.3g} times as much",
        ),
    )


OBJECTIVES: Final[dict[str, tuple[str, Callable[[Asked], Plan]]]] = {
    "next-token": ("next-token prediction", _next_token),
    "multi-token": ("multi-token prediction", _multi_token),
    "contrastive": ("contrastive alignment", _contrastive),
    "instruction": ("instruction tuning", _instruction),
    "reward": ("reward model on preferences", _reward),
    "dpo": ("direct preference optimisation", _dpo),
    "ppo": ("PPO with four models", _ppo),
    "grpo": ("GRPO", _grpo),
    "distillation": ("distillation with top-K logits", _distillation),
    "continual": ("continual updates", _continual),
}
"""Name → title, and what makes its plan."""
OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "other": ("contrastive", "dpo", "ppo", "grpo", "distillation"),
    "critic": ("ppo",),
    "tokens": ("distillation", "continual"),
    "group": ("grpo",),
    "epochs": ("ppo", "grpo"),
    "top_k": ("distillation",),
    "value_bytes": ("distillation",),
    "modules": ("multi-token",),
    "updates": ("continual",),
    "replay": ("continual",),
}
"""Options that not every objective has, and whose they are."""
