"""The tables of one rank: letters divided by the degrees of a layout, which the legend names for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from calc.algebra import Number, ceil_div
from calc.dims import LEGEND
from calc.errors import SpecError
from calc.model import Block, Model
from calc.operations import Operation
from calc.parallel.layout import Layout
from calc.parallel.pipeline import chunks
from calc.records import replace
from calc.tensors import distinct


def shard(blocks: Iterable[Block], layout: Layout) -> list[Block]:
    """Return the tables of one rank: the same operations, with letters divided by the degrees of the layout.

    Heads, channels, widths and vocabulary are divided by ``tp``, the experts' width by ``expert_tp`` (the legend says
    which letter by what: ``calc.dims``). A letter that is smaller than the degree and has a ``rest`` stands on several
    ranks (one key-value head on tp/h_kv of them, as in Megatron and vLLM), and the vocabulary is padded to a multiple
    of tp (of ``vocab_multiple``·tp). Routed experts are stored on ``ep`` ranks (letter ρ), sequences are shared by
    ``cp`` ranks (letter μ). What no divided letter touches – norms, residuals, routers, latent projections – is done by
    every rank, or with ``sequence_parallel`` on 1/tp of the tokens.

    The figures of one rank are then read off these tables by the functions that read any table; a pass gives the
    tokens of one model copy (a micro-batch of whole sequences), of which one rank's share follows. Pipeline stages
    (``stages``) and data parallelism change neither.

    Raises:
        SpecError: a letter that its degree does not divide.

    >>> import calc
    >>> blocks = shard(calc.load("llama-3-8b").blocks(), Layout(tp=4))
    >>> next(block for block in blocks if block.name == "attention").letters["k"]
    2
    """
    return [_sharded(block, layout) for block in blocks]


def is_expert(operation: Operation) -> bool:
    """Tell whether an operation's weights are routed experts: laid out by ``ep`` and ``expert_tp``, not by ``tp``."""
    return any(LEGEND[letter].axis == "ep" for letter, _ in getattr(operation, "chosen", ()))


@lru_cache(maxsize=2**14)
def letters_of(operation: Operation) -> str:
    """Return the letters of everything that an operation reads, stores and writes."""
    weights = (weight.dims for weight in operation.weights)
    return distinct(*getattr(operation, "operands", ()), getattr(operation, "scanned", ""), *weights, operation.output)


def degrees(letters: Mapping[str, Number], layout: Layout) -> dict[str, int]:
    """Return by how much each letter of a table is divided on one rank.

    Raises:
        SpecError: a letter that its degree does not divide.
    """
    found: dict[str, int] = {}
    for letter, value in letters.items():
        axis, rest = LEGEND[letter].axis, LEGEND[letter].rest
        degree = {"tp": layout.tp, "vocab": layout.tp, "expert_tp": layout.etp}.get(axis, 1)
        if degree == 1 and axis != "vocab":
            continue
        if axis == "vocab" or value % degree == 0:
            found[letter] = degree
        elif rest in letters and degree % value == 0:
            found[letter] = value
        else:
            raise SpecError(_indivisible(letter, value, degree, layout, replicable=rest in letters))
    for letter, value in letters.items():
        if LEGEND[letter].axis == "rest":
            owner = next(other for other in letters if LEGEND[other].rest == letter)
            degree = layout.tp // found.get(owner, 1)
            if value % degree:
                raise SpecError(f"n_heads = {letters[owner] * value} is not divisible by tp = {layout.tp}")
            found[letter] = degree
    return found


def _indivisible(letter: str, value: Number, degree: int, layout: Layout, *, replicable: bool) -> str:
    name = "expert_tp" if LEGEND[letter].axis == "expert_tp" and layout.expert_tp is not None else "tp"
    text = f"{LEGEND[letter].name} = {value} is not divisible by {name} = {degree}"
    return f"{text}, nor {name} by it" if replicable else text


def divisions(block: Block, layout: Layout) -> dict[str, int]:
    """Return by how much each letter that a table uses is divided on one rank.

    Raises:
        SpecError: a letter that its degree does not divide.
    """
    used = {letter for operation in block.operations for letter in letters_of(operation)}
    used |= {letter for state in block.states for letter in state.dims}
    divided = degrees({letter: value for letter, value in block.letters.items() if letter in used}, layout)
    return _without_index_tables(block, divided)


def _sharded(block: Block, layout: Layout) -> Block:
    letters, divided = dict(block.letters), divisions(block, layout)
    for letter, degree in divided.items():
        if LEGEND[letter].axis == "vocab":
            letters[letter] = ceil_div(letters[letter], layout.vocab_multiple * degree) * layout.vocab_multiple
        else:
            letters[letter] = letters[letter] // degree
    if layout.cp > 1:
        letters["μ"] = layout.cp
    if layout.ep > 1 and any(is_expert(operation) for operation in block.operations):
        letters["ρ"] = _expert_ranks(letters["e"], layout)
    operations = tuple(_split(operation, divided, layout) for operation in block.operations)
    return replace(block, letters=letters, operations=operations)


def _without_index_tables(block: Block, divided: dict[str, int]) -> dict[str, int]:
    """Leave the vocabulary whole where a table maps tokens to experts: indices are not added up."""
    if any("v" in weight.dims and "j" in weight.dims for op in block.operations for weight in op.weights):
        return {letter: degree for letter, degree in divided.items() if letter != "v"}
    return divided


def _expert_ranks(n_experts: Number, layout: Layout) -> int:
    if n_experts % layout.ep:
        raise SpecError(f"n_experts = {n_experts} is not divisible by ep = {layout.ep}")
    return layout.ep


def _split(operation: Operation, divided: Mapping[str, int], layout: Layout) -> Operation:
    """Return an operation with the degree by which its tokens are divided among tensor-parallel ranks."""
    degree = token_split(operation, divided, layout)
    return operation if degree == 1 else replace(operation, split=degree)


def token_split(operation: Operation, divided: Mapping[str, int], layout: Layout) -> int:
    """Return how many tensor-parallel ranks share an operation's tokens.

    Routed experts of a smaller degree than tp: the ranks beyond it. Operations of which each rank has its own heads or
    channels: 1. What is left is done by every rank, or with sequence parallelism on a share of the tokens.
    """
    letters = letters_of(operation)
    if is_expert(operation) or any(LEGEND[letter].axis == "expert_tp" for letter in letters):
        return layout.tp // layout.etp
    if layout.tp == 1 or any(letter in divided for letter in letters):
        return 1
    return layout.tp if layout.sequence_parallel and "t" in letters else 1


def check(model: Model, layout: Layout, n_gpus: int | None = None) -> None:
    """Refuse a layout that the model cannot have, with the reason.

    Key-value heads fewer than tp are no reason (they are repeated), nor is a vocabulary that tp does not divide (it is
    padded).

    Raises:
        SpecError: devices that do not match; heads, channels or experts that are not divisible; fewer layers than
            stages; experts' ranks for a model without experts; ranks that share a sequence where an operation needs
            all of it in order, or with an encoder; experts that neither their own ranks nor sequence parallelism share.
    """
    if n_gpus is not None and layout.gpus != n_gpus:
        raise SpecError(f"tp·cp·dp·pp = {layout.gpus:,} devices ({layout.text()}), not {n_gpus:,}")
    blocks = model.blocks() + model.mtp_blocks()
    _check_experts(model, [operation for block in blocks for operation in block.operations], layout)
    if layout.cp > 1:
        _check_context(model, blocks, layout)
    for block in blocks:
        try:
            _sharded(block, layout)
        except SpecError as error:
            raise SpecError(f"{model.name}, {block.path}: {error}") from None
    chunks(model, layout)


def has_experts(model: Model) -> bool:
    """Tell whether a model has routed experts, in a layer or in a prediction module."""
    blocks = model.blocks() + model.mtp_blocks()
    return any(is_expert(operation) for block in blocks for operation in block.operations)


def _check_experts(model: Model, operations: Iterable[Operation], layout: Layout) -> None:
    experts = [operation for operation in operations if is_expert(operation)]
    if layout.ep > 1 and not experts:
        raise SpecError(f"ep = {layout.ep}: {model.name} has no routed experts")
    if layout.ep > 1 and any(LEGEND[letter].axis == "tp" for op in experts for letter in letters_of(op)):
        raise SpecError(f"ep = {layout.ep}: the experts of {model.name} are heads, whose queries meet all keys")
    if experts and not layout.sequence_parallel and (layout.ep * layout.etp) % layout.tp:
        raise SpecError(
            f"ep·expert_tp = {layout.ep * layout.etp} is no multiple of tp = {layout.tp}: without sequence_parallel "
            "ranks would repeat the experts' work"
        )


def _check_context(model: Model, blocks: Iterable[Block], layout: Layout) -> None:
    if model.encoder or model.outside_source:
        raise SpecError(f"cp = {layout.cp}: sequences of a model with an encoder are not shared by ranks")
    for block in blocks:
        if any(not state.positional for state in block.states):
            raise SpecError(
                f"cp = {layout.cp}: {block.path} ({block.label}) has a recurrent state, which no ring shares"
            )
