"""What each process does with a case: take its slices of the twin, run it, compare with the undivided twin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from calc.attention.gqa import GQA
from calc.model import Model
from calc.parallel.pipeline import sizes
from calc.records import Record, record
from calc.reference.model import ModelTwin
from calc.reference.ranks.attention import RankGQA
from calc.reference.ranks.comm import World, all_gather
from calc.reference.ranks.feedforward import Dispatch
from calc.reference.ranks.model import RankChunk
from calc.reference.ranks.train import RATE, Training
from calc.validate.ranks.cases import Case
from calc.validate.ranks.counter import CollectiveCounter, Sent


@record
class Report(Record):
    """What one process sent in a case, and how far its results are from the undivided twin's, relative to them."""

    rank: int
    stage: int
    sent: tuple[Sent, ...]
    error: float


def run(case: Case) -> Report:
    """Run one case on this process."""
    world, twin = _world(case), _twin(case.model)
    counter = CollectiveCounter(world.names)
    parts = _parts(case, world, twin)
    tokens = _tokens(case)
    do = {"training": _step, "prefill": _prefill, "decode": _decode}[case.does]
    error = do(case, world, twin, parts, tokens, counter)
    return Report(dist.get_rank(), world["pp"].index, tuple(counter.sent), error)


def _world(case: Case) -> World:
    layout = case.layout
    heads = [layer.attention.n_kv_heads for layer in case.model.layers() if isinstance(layer.attention, GQA)]
    world = World(
        tp=layout.tp,
        cp=layout.cp,
        dp=layout.dp,
        pp=layout.pp,
        ep=layout.ep,
        expert_tp=layout.etp,
        sequence=layout.sequence_parallel and layout.tp > 1,
        n_kv_heads=min(heads, default=layout.tp),
    )
    world.connect()
    return world


def _twin(model: Model) -> ModelTwin:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = ModelTwin(model)
        for each in twin.parameters():
            # norms begin as ones, biases as zeros: let nothing be alike
            each.data += 0.1 * torch.randn_like(each)
    return twin


def _parts(case: Case, world: World, twin: ModelTwin) -> list[RankChunk]:
    """Return this rank's chunks of the stack."""
    unit = case.layout.tp * case.layout.vocab_multiple
    padded = -(-case.model.vocab_size // unit) * unit
    chunks, start = [], 0
    for size in sizes(case.model.n_layers, case.layout):
        chunks.append(range(start, start + size))
        start += size
    dispatch: Dispatch = "all_gather" if case.ways.dispatch == "all_gather" else "all_to_all"
    return [
        RankChunk(world, twin, layers, padded=padded, dispatch=dispatch, exchange=case.ways.ring)
        for layers in chunks[world["pp"].index :: world.pp]
    ]


def _tokens(case: Case) -> Tensor:
    """Return token ids [replicas, micro-batches, b, t + 1] of the whole step, alike on every process."""
    shape = (case.layout.dp, case.micro_batches, case.batch, case.context + 1)
    return torch.randint(case.model.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def _own(case: Case, world: World, tokens: Tensor) -> Tensor:
    """Return this process's sequences, and its share of their positions: [micro-batches, b, t/cp]."""
    replica = dist.get_rank() // (world.tp * world.cp) % world.dp
    each = case.context // world.cp
    start = world["cp"].index * each
    return tokens[replica, ..., start : start + each]


def _step(
    case: Case, world: World, twin: ModelTwin, parts: list[RankChunk], tokens: Tensor, counter: CollectiveCounter
) -> float:
    """Do a training step, counted; returns how far updated weights and the loss are from the twin's."""

    @contextmanager
    def watch(phase: str) -> Iterator[None]:
        counter.phase = phase
        with counter:
            yield

    training = Training(world, parts, case.layout.zero, watch)
    training.tied = bool(case.model.head and case.model.head.tied)
    every = tokens[..., 1:].numel()
    loss = training.run(_own(case, world, tokens[..., :-1]), _own(case, world, tokens[..., 1:]), every_token=every)
    if training.units is not None:
        training.units.show()
    logits = twin(tokens[..., :-1].flatten(0, 2))[0]
    whole = F.cross_entropy(logits.flatten(0, 1), tokens[..., 1:].flatten())
    whole.backward()
    replicas = world["copies"]
    losses = torch.tensor([loss])
    if parts[-1].last:
        dist.all_reduce(losses, group=replicas.handle)
    worst = abs(float(losses) / float(whole.detach()) - 1) if parts[-1].last else 0.0
    for each in training.held:
        expected, own = _updated(each.whole)[each.at or ...], each.own.detach()
        own = own[: expected.shape[0]] if own.shape != expected.shape else own
        if expected.numel():
            moved = (expected - each.whole.detach()[each.at or ...]).abs().max().clamp(min=1e-6)
            worst = max(worst, float((own - expected).abs().max() / moved))
    return worst


def _updated(whole: Tensor) -> Tensor:
    assert whole.grad is not None
    return whole.detach() - RATE * whole.grad


def _prefill(
    case: Case, world: World, twin: ModelTwin, parts: list[RankChunk], tokens: Tensor, counter: CollectiveCounter
) -> float:
    """Read a prompt, counted, and let every rank have the logits of its last position."""
    (part,) = parts
    counter.phase = "forward"
    mine = _own(case, world, tokens[..., :-1])[0]
    with torch.no_grad(), counter:
        states = part(mine, torch.arange(case.context))
        assert part.head is not None
        logits = all_gather(part.head(states[:, -1:], part.table), world["tp"], 2)
    replica = dist.get_rank() // (world.tp * world.cp) % world.dp
    expected = twin(tokens[replica, 0, :, :-1])[0][:, -1:].detach()
    return float((logits[..., : case.model.vocab_size] - expected).abs().max() / expected.abs().max())


def _decode(
    case: Case, world: World, twin: ModelTwin, parts: list[RankChunk], tokens: Tensor, counter: CollectiveCounter
) -> float:
    """Read a prompt of which each rank keeps its positions, then one more token, counted."""
    (part,) = parts
    for module in part.modules():
        if isinstance(module, RankGQA):
            module.keeping = True
    counter.phase = "forward"
    first = world["cp"].index * (case.context // world.cp)
    with torch.no_grad():
        part(_own(case, world, tokens[..., :-1])[0], torch.arange(first, first + case.context // world.cp))
        with counter:
            states = part(tokens[0, 0, :, -1:], torch.tensor([case.context]))
            assert part.head is not None
            logits = all_gather(part.head(states, part.table), world["tp"], 2)
    expected = twin(tokens[0, 0])[0][:, -1:].detach()
    return float((logits[..., : case.model.vocab_size] - expected).abs().max() / expected.abs().max())
