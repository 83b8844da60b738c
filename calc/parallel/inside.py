"""The collectives within a layer: read off its table and the letters that are divided.

An operation that sums over a divided letter leaves a partial sum on every rank: its result is reduced. One that has its
own heads or channels of a tensor that every rank has alike (or, with sequence parallelism, a share of the tokens of)
needs all tokens of it, and its gradient is a partial sum on the way back (the conjugate operators f and g of Shoeybi et
al. 2019, arXiv:1909.08053 §3; with sequence parallelism Korthikanti et al. 2022, arXiv:2205.05198 §4.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from calc.algebra import Number, exact_div, product
from calc.dims import LEGEND
from calc.errors import SpecError
from calc.model import Block, Pass
from calc.operations import Einsum, Elementwise, Lookup, Norm, Operation, Softmax
from calc.parallel.collective import Collective, Direction, Kind, Ways, Wire, group_of
from calc.parallel.layout import Group, Layout
from calc.parallel.sharding import divisions, is_expert, letters_of, shard
from calc.passes import environment, runs
from calc.records import replace
from calc.tensors import WHOLE, extent
from calc.units import Format

COUNT_BYTES = 8
"""Of the number of tokens for an expert, which ranks tell each other before they exchange tokens, and of the number of
an expert (int64)."""
STATISTIC_BYTES = 4
"""Of the sums of a norm or a softmax whose elements several ranks have (fp32)."""
OPPOSITE: dict[Kind, Kind] = {
    "all_gather": "reduce_scatter",
    "reduce_scatter": "all_gather",
    "all_to_all": "all_to_all",
}


def routed(operation: Operation) -> bool:
    """Tell whether an operation is a product with routed experts' own widths: what tokens are sent to."""
    return is_expert(operation) and any(LEGEND[letter].axis == "expert_tp" for letter in letters_of(operation))


class Walk:
    """One walk through a table in its order, noting what is exchanged."""

    def __init__(self, block: Block, layout: Layout, pass_: Pass, wire: Wire, ways: Ways) -> None:
        self.block, self.layout, self.wire, self.ways = block, layout, wire, ways
        self.divided = divisions(block, layout) if layout.tp > 1 else {}
        [self.local] = shard([block], layout)
        self.env = environment(self.local, pass_)
        self.prompt = pass_.phase == "prefill"
        self.operations = [op for op in self.local.operations if runs(block, op, pass_)]
        self.made = {op.name: op for op in self.operations}
        self.kept = {state.name: state.of for state in block.states}
        self.partial: dict[str, str] = {}
        """Results that are a sum over ranks, not yet added up, with the letters that are to be."""
        self.gathered: dict[str, bool] = {}
        """Tensors that every rank has alike and that divided operations read: whether a weight multiplies them."""
        self.forward: list[Collective] = []
        self.backward: list[Collective] = []
        self.sequence = layout.sequence_parallel and layout.tp > 1

    def collectives(self, *, training: bool, regather: bool, again: bool) -> Iterator[Collective]:
        """Yield what is exchanged forward, and for training backward (``again``: with the forward pass once more)."""
        experts = [op for op in self.operations if routed(op)]
        for operation in self.operations:
            if experts and operation is experts[0]:
                self.send_to_experts(operation)
            self.visit(operation)
            if experts and operation is experts[-1]:
                self.return_from_experts(operation)
        for name in list(self.partial):
            self.reduce(name)
        if self.layout.cp > 1:
            self.share_keys()
        for operation in self.operations:
            if self.divided and self.by_vocabulary(operation):
                self.loss(operation) if training else self.logits(operation)
        yield from self.forward
        if training:
            yield from (replace(one, direction="backward") for one in self.forward if again)
            yield from self.backward
            if self.sequence and regather:
                yield from self.gathered_again()

    # ---- tensor parallelism

    def visit(self, operation: Operation) -> None:
        """Note what one operation needs from other ranks, and what its result is."""
        if not self.divided and not self.partial:  # whole experts leave partial sums, too
            return
        letters = letters_of(operation)
        touches = [letter for letter in letters if letter in self.divided]
        names = [self.kept.get(name, name) for name in operation.inputs]
        waiting = [name for name in names if name in self.partial]
        if waiting and self.linear(operation, names):
            self.partial[operation.name] = self.summed(operation)
            for name, dims in self.read(operation, names):
                if name not in self.partial:  # a factor, of whose gradient each rank then has a part
                    self.gather(name, dims, weighted=False)
            for name in waiting:
                del self.partial[name]
            return
        for name in waiting:
            self.reduce(name)
        if touches and not routed(operation):
            for name, dims in self.read(operation, names):
                if not self.sharded(name):
                    self.gather(name, dims, weighted=isinstance(operation, Einsum) and bool(operation.weight))
        if not touches:
            return
        if not self.contracted(operation):
            self.statistics(operation)
        elif not routed(operation):
            self.partial[operation.name] = operation.output

    def sharded(self, name: str) -> bool:
        """Tell whether each rank has its own heads or channels of a tensor, be it made later in the table (a state)."""
        made = self.made.get(name)
        if made is None:
            return False
        return routed(made) or (any(x in self.divided for x in letters_of(made)) and not self.contracted(made))

    def read(self, operation: Operation, names: list[str]) -> Iterator[tuple[str, str]]:
        """Yield the tensors that an operation reads, with their letters."""
        operands = operation.operands if isinstance(operation, Einsum) else (operation.output,) * len(names)
        for name, dims in zip(names, operands, strict=True):
            yield name, self.made[name].output if name in self.made else dims

    def contracted(self, operation: Operation) -> str:
        """Return the divided letters that an operation sums over."""
        if not isinstance(operation, (Einsum, Lookup)):
            return ""
        return "".join(x for x in letters_of(operation) if x in self.divided and x not in operation.output)

    def linear(self, operation: Operation, names: list[str]) -> bool:
        """Tell whether partial sums pass an operation: a sum of such, or a product with a factor of fewer letters.

        With sequence parallelism they do not: the factor is known for a share of the tokens.
        """
        if (
            self.sequence
            or not isinstance(operation, Elementwise)
            or isinstance(operation, Softmax)
            or operation.weights
        ):
            return False
        others = [name for name in names if name not in self.partial]
        return all(name in self.made and set(self.made[name].output) < set(operation.output) for name in others)

    def summed(self, operation: Operation) -> str:
        """Return the letters of a result; the weighted sum over a token's experts has no letter for them."""
        chosen = {pick for op in self.operations for _, pick in getattr(op, "chosen", ())}
        return "".join(letter for letter in operation.output if letter not in chosen)

    def gather(self, name: str, dims: str, *, weighted: bool) -> None:
        """Note that a divided operation reads what every rank has alike: one exchange for all of its readers."""
        if name in self.gathered:
            self.gathered[name] |= weighted
            return
        self.gathered[name] = weighted
        if self.sequence:
            self.note("all_gather", "tp", name, dims)
            self.back("reduce_scatter", "tp", name, dims)
        else:
            self.back("all_reduce", "tp", name, dims)

    def gathered_again(self) -> Iterator[Collective]:
        """Yield the gathers of inputs that weights' gradients need and that only a share was saved of."""
        for name, weighted in self.gathered.items():
            if weighted:
                found = next(each for each in self.forward if each.after == self.path(name) and each.axis == "tp")
                yield replace(found, direction="backward")

    def reduce(self, name: str) -> None:
        """Add up a partial sum, together with others of the same inputs: frameworks have one matrix for them."""
        inputs = self.made[name].inputs
        names = [other for other in self.partial if self.made[other].inputs == inputs]
        size = sum(self.size_of(self.partial.pop(other)) for other in names)
        forward: Kind = "reduce_scatter" if self.sequence else "all_reduce"
        self.forward.append(self.made_of(forward, "tp", "+".join(names), size, "forward"))
        if self.sequence:
            self.backward.append(self.made_of("all_gather", "tp", "+".join(names), size, "backward"))

    def statistics(self, operation: Operation) -> None:
        """Note that a norm over divided letters adds up one number a row, forward and backward."""
        if not isinstance(operation, Norm):
            return
        over = operation.output[-1] + operation.across
        if any(letter in self.divided for letter in over):
            rows = "".join(letter for letter in operation.output if letter not in over)
            size = STATISTIC_BYTES * extent(rows, self.env)
            self.forward.append(self.made_of("all_reduce", "tp", operation.name, size, "forward"))
            self.backward.append(self.made_of("all_reduce", "tp", operation.name, size, "backward"))

    # ---- the vocabulary

    def by_vocabulary(self, operation: Operation) -> bool:
        """Tell whether a product makes logits, of which each rank has its own words."""
        letters = [letter for letter in operation.output if LEGEND[letter].axis == "vocab"]
        return isinstance(operation, Einsum) and any(letter in self.divided for letter in letters)

    def loss(self, operation: Operation) -> None:
        """Cross-entropy of divided logits adds up the maximum, the label's logit and the sum of exponentials.

        One fp32 number each a token (``vocab_parallel_cross_entropy`` of Megatron-Core).
        """
        tokens = "".join(letter for letter in operation.output if letter not in self.divided)
        one = self.made_of("all_reduce", "tp", operation.name, STATISTIC_BYTES * extent(tokens, self.env), "forward")
        self.forward.append(replace(one, count=3 * one.count))

    def logits(self, operation: Operation) -> None:
        """Whoever picks the next token needs all words: of the last position of each sequence, at a step of all."""
        env = {**self.env, "t": 1} if self.prompt else self.env
        words = extent(operation.output, env) * self.layout.tp
        size = self.wire.of("activation").bytes(words)
        self.forward.append(self.made_of("all_gather", "tp", operation.name, size, "forward"))

    # ---- experts

    def send_to_experts(self, first: Operation) -> None:
        """Note the exchange before the first product with experts: tokens go to the ranks that hold theirs."""
        names = [self.kept.get(name, name) for name in first.inputs]
        name, dims = next(self.read(first, names))
        if name in self.partial:
            self.reduce(name)
        self.width = "".join(letter for letter in dims if letter not in "btj")
        self.exchange(name, "dispatch")

    def return_from_experts(self, last: Operation) -> None:
        """Note the exchange after the last product: results go back to the tokens' ranks, to be added up if partial."""
        self.exchange(last.name, "combine")
        layout = self.layout
        if layout.tp > 1 and not self.sequence:
            self.partial[last.name] = last.output

    def exchange(self, name: str, way: Literal["dispatch", "combine"]) -> None:
        """Note one way of tokens to or from the experts."""
        layout, there = self.layout, way == "dispatch"
        form = self.wire.of(way)
        tokens = extent(f"bt{self.width}", self.env)
        if self.sequence or layout.tp == 1:
            tokens = exact_div(tokens, layout.tp) if layout.tp > 1 else tokens
            self.between_shares(name, tokens, form, there=there)
        else:
            self.between_copies(name, tokens, form, there=there)

    def between_shares(self, name: str, tokens: Number, form: Format, *, there: bool) -> None:
        """Every rank has tokens of its own: they go to ``ep`` ranks, and to all that share an expert's width."""
        layout = self.layout
        joint = {"size": layout.ep * layout.etp, "stride": 1}
        if self.ways.dispatch == "all_gather" or layout.ep == 1:
            self.gathered_by_all(name, tokens, form, joint, there=there)
            return
        sent = tokens * self.copies()
        if there:
            self.counts(name, joint)
        steps: list[tuple[Kind, Group, Number]] = [
            ("all_to_all", "ep", form.bytes(sent)),
            ("all_gather", "expert_tp", form.bytes(sent * layout.etp)),
        ]
        for kind, axis, amount in steps if there else reversed(steps):
            self.there_and_back(kind, axis, name, amount, there=there)

    def between_copies(self, name: str, tokens: Number, form: Format, *, there: bool) -> None:
        """Tensor-parallel ranks have the same tokens: each keeps those for its experts; other replicas' are exchanged.

        What tensor-parallel ranks then have of a token's result is a partial sum.
        """
        layout = self.layout
        outer = {"size": layout.ep * layout.etp // layout.tp, "stride": layout.tp}
        if outer["size"] > 1 and self.ways.dispatch == "all_gather":
            self.gathered_by_all(name, tokens, form, outer, there=there)
        elif outer["size"] > 1:
            if there:
                self.counts(name, outer)
            amount = form.bytes(exact_div(tokens * self.copies() * layout.etp, layout.tp))
            self.there_and_back("all_to_all", "ep", name, amount, there=there, group=outer)
        if there:
            self.gather(name, f"bt{self.width}", weighted=True)

    def gathered_by_all(self, name: str, tokens: Number, form: Format, group: dict[str, int], *, there: bool) -> None:
        """Every rank gets all tokens of a group, with what the router says of them; sums go back to the owners."""
        ranks = group["size"]
        self.there_and_back("all_gather", "ep", name, form.bytes(tokens * ranks), there=there, group=group)
        if there and ranks > 1:
            choices = exact_div(tokens, product(self.local.letters[x] for x in self.width)) * self.local.letters["j"]
            weights = self.wire.of("activation").bytes(choices * ranks)
            self.there_and_back("all_gather", "ep", "choice", weights, there=True, group=group)
            one = self.made_of("all_gather", "ep", "choice", COUNT_BYTES * choices * ranks, "forward")
            self.forward.append(replace(one, size=ranks, stride=group["stride"]))

    def counts(self, name: str, group: dict[str, int]) -> None:
        """Note that ranks tell each other how many tokens they have for each expert."""
        amount = COUNT_BYTES * self.local.letters["e"] * group["size"]
        one = self.made_of("all_gather", "ep", name, amount, "forward")
        self.forward.append(replace(one, size=group["size"], stride=group["stride"]))

    def copies(self) -> Number:
        """Return how often a token is sent: to each of its experts, or once to each rank that holds one of them."""
        chosen, ep = self.local.letters["j"], self.layout.ep
        return ep * (1 - (1 - 1 / ep) ** chosen) if self.ways.dispatch == "once_per_rank" else chosen

    def there_and_back(
        self,
        kind: Kind,
        axis: Group,
        name: str,
        amount: Number,
        *,
        there: bool,
        group: dict[str, int] | None = None,
    ) -> None:
        """Note an exchange of the way to the experts (or its opposite on the way from them), and the gradient's."""
        ways: tuple[Kind, Kind] = (kind, OPPOSITE[kind])
        forward, backward = ways if there else ways[::-1]
        one = self.made_of(forward, axis, name, amount, "forward")
        if group:
            one = replace(one, size=group["size"], stride=group["stride"])
        if one.size > 1:
            self.forward.append(one)
            self.backward.append(replace(one, kind=backward, direction="backward"))

    # ---- context parallelism

    def share_keys(self) -> None:
        """Keys and values of the other ranks: passed on in a ring, or gathered (Llama 3, arXiv:2407.21783 §3.3.2)."""
        if WHOLE not in self.env:
            self.combine_shares()
            return
        keys = dict(self.keys())
        if not keys:
            return
        if self.ways.ring == "all_to_all":
            self.exchange_heads()
            return
        here = self.wire.of("activation").bytes(sum(keys.values()))
        name, ranks = "+".join(keys), self.layout.cp
        if self.ways.ring == "all_gather":
            self.forward.append(self.made_of("all_gather", "cp", name, here * ranks, "forward"))
            self.backward.append(self.made_of("all_gather", "cp", name, here * ranks, "backward"))
            self.backward.append(self.made_of("reduce_scatter", "cp", name, here * ranks, "backward"))
            return
        step = self.made_of("send_recv", "cp", name, here, "forward")
        self.forward.append(replace(step, count=step.count * (ranks - 1)))
        # keys and values go round once more, their gradients all the way home
        self.backward.append(replace(step, count=step.count * (ranks - 1), direction="backward"))
        self.backward.append(replace(step, count=step.count * ranks, direction="backward"))

    def keys(self) -> Iterator[tuple[str, Number]]:
        """Yield the tensors on the keys' side of attention, with one rank's elements."""
        for operation in self.operations:
            if isinstance(operation, Einsum) and operation.over is not None and not operation.weight:
                for name, dims in zip(operation.inputs, operation.operands, strict=True):
                    if "s" in dims and "t" not in dims:
                        yield name, extent(dims, self.env)

    def exchange_heads(self) -> None:
        """Give every rank all tokens of 1/cp of its heads, and its tokens of all of them back.

        What has no heads (the one rotated key of latent attention) is gathered.

        Raises:
            SpecError: heads that cannot be divided so.
        """
        for name, dims in dict(self.met()).items():
            heads = [letter for letter in dims if LEGEND[letter].axis in ("tp", "rest")]
            size = self.wire.of("activation").bytes(extent(dims, self.env))
            ranks = self.layout.cp
            if not heads:
                self.forward.append(self.made_of("all_gather", "cp", name, size * ranks, "forward"))
                self.backward.append(self.made_of("reduce_scatter", "cp", name, size * ranks, "backward"))
                continue
            if self.local.letters[heads[0]] % ranks:
                number = f"{self.local.letters[heads[0]]} {LEGEND[heads[0]].name} on a rank"
                raise SpecError(f"{self.block.path}: {number} are not divisible by cp = {ranks}, which shares them")
            one = self.made_of("all_to_all", "cp", name, size, "forward")
            self.forward.append(one)
            self.backward.append(replace(one, direction="backward"))

    def met(self) -> Iterator[tuple[str, str]]:
        """Yield queries, keys, values and results of attention, with their letters."""
        softmaxed = {op.name for op in self.operations if isinstance(op, Softmax)}
        for operation in self.operations:
            if isinstance(operation, Einsum) and operation.over is not None and not operation.weight:
                for name, dims in zip(operation.inputs, operation.operands, strict=True):
                    if name not in softmaxed:
                        yield name, dims
                if operation.inputs[0] in softmaxed:
                    yield operation.name, operation.output

    def combine_shares(self) -> None:
        """At a decode step each rank has attended to its share of the keys: results are weighed and added up.

        Each rank's sum of exponentials is gathered and the results are reduced: what flash decoding does among the
        parts of one device (Dao et al. 2023, https://crfm.stanford.edu/2023/10/12/flashdecoding.html).
        """
        softmaxed = {op.name for op in self.operations if isinstance(op, Softmax)}
        for operation in self.operations:
            if isinstance(operation, Einsum) and operation.over is not None and operation.inputs[0] in softmaxed:
                rows = "".join(letter for letter in operation.output if letter in operation.operands[0])
                size = STATISTIC_BYTES * extent(rows, self.env) * self.layout.cp
                self.forward.append(self.made_of("all_gather", "cp", operation.name, size, "forward"))
                self.note("all_reduce", "cp", operation.name, operation.output)

    # ---- notes

    def path(self, name: str) -> str:
        """Return where a tensor is made."""
        return f"{self.block.path}.{name}"

    def note(self, kind: Kind, axis: Group, name: str, dims: str) -> None:
        """Note an exchange of the forward pass."""
        self.forward.append(self.made_of(kind, axis, name, self.size_of(dims), "forward"))

    def back(self, kind: Kind, axis: Group, name: str, dims: str) -> None:
        """Note an exchange of the backward pass."""
        self.backward.append(self.made_of(kind, axis, name, self.size_of(dims), "backward"))

    def size_of(self, dims: str) -> Number:
        """Return the bytes of an activation on the tokens of a tensor-parallel group."""
        return self.wire.of("activation").bytes(extent(dims, self.env))

    def made_of(self, kind: Kind, axis: Group, name: str, size: Number, direction: Direction) -> Collective:
        """Return an exchange of this table, as often as it stands."""
        return Collective(
            kind=kind,
            bytes=size,
            **group_of(self.layout, axis),
            count=self.block.repeat,
            axis=axis,
            after=self.path(name),
            direction=direction,
        )


def inside(
    blocks: Iterable[Block], layout: Layout, pass_: Pass, wire: Wire, ways: Ways, *, training: bool
) -> Iterator[Collective]:
    """Yield the collectives within the tables of one pass, in the order of the tables."""
    for block in blocks:
        again = ways.recompute == "full" and bool(block.layer)
        yield from Walk(block, layout, pass_, wire, ways).collectives(
            training=training, regather=ways.regather, again=again
        )
