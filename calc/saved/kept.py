"""The rules: what each operation of a layer keeps for its derivative, under the kernels that run."""

from __future__ import annotations

from collections.abc import Mapping

from calc.algebra import Number
from calc.layers import Block
from calc.operations import Einsum, Elementwise, Env, Norm, Operation, Softmax, extent
from calc.passes import Pass
from calc.records import replace
from calc.saved.joined import Joined, named, over_pairs, repeated
from calc.saved.keeping import FP32, POSITIONS, QKV, Adapters, Keeping, Recompute, Saved, Tensor


class Kept(Joined):
    """What one layer, or a table outside the layers, keeps: each tensor once, by the first operation that needs it."""

    def __init__(self, blocks: list[Block], pass_: Pass, keeping: Keeping) -> None:
        super().__init__(blocks, pass_, keeping)
        self.found: dict[Tensor, Saved] = {}

    # ---- what is kept

    def kept(self, recompute: Recompute) -> list[Saved]:
        """Return what the group keeps."""
        self.found = {}
        repeat = next(iter(self.blocks.values())).repeat
        layered = bool(next(iter(self.blocks.values())).layer)
        if recompute == "full" and layered:
            return [replace(self._input(), repeat=repeat)]
        core = self.core()
        if recompute == "products" and layered:
            self._keep_products(core)
            return [replace(each, repeat=repeat) for each in (self._input(), *self.found.values())]
        for block, operation in self.order:
            if (block.path, operation.name) in core:
                if self.keeping.attention == "flash" or recompute == "selective":
                    self._keep_core(block, operation, core, statistics=recompute != "selective")
                    continue
                self._keep_pairs(block, operation)
            self._keep(block, operation)
        if self.keeping.fused:
            self._fuse()
        return [replace(each, repeat=1 if each.shared else repeat) for each in self.found.values()]

    def _keep_products(self, core: set[Tensor]) -> None:
        """Keep the attention's result and its statistics, and the results of every second product with a weight."""
        products = 0
        for block, operation in self.order:
            own = (block.path, operation.name)
            env, size = self.envs[own], self.keeping.bytes
            if own in core:
                if isinstance(operation, Softmax):
                    key = (block.path, f"{operation.name}@lse")
                    self._add(key, block, operation, f"{operation.name}, log-sum-exp", operation.output[:-1], FP32, env)
                elif isinstance(operation, Einsum) and not over_pairs(operation.output):
                    self._add(own, block, operation, operation.name, operation.output, size, env)
            elif isinstance(operation, Einsum) and operation.weight:
                products += 1
                if products % 2:
                    self._add(own, block, operation, operation.name, operation.output, size, env)

    def _input(self) -> Saved:
        """Return what enters the layer, which is all that full recomputation keeps of it."""
        block, operation = self.order[0]
        env = self.envs[block.path, operation.name]
        return self._saved(block, operation, "x", "btd", extent("btd", env), self.keeping.bytes)

    def _saved(self, block: Block, op: Operation, tensor: str, dims: str, elements: Number, size: int) -> Saved:
        return Saved(
            path=block.path, operation=op.name, tensor=tensor, dims=dims, elements=elements, bytes=size * elements
        )

    def _add(self, key: Tensor, block: Block, op: Operation, what: str, dims: str, size: int, env: Env) -> None:
        """Keep a tensor unless it is kept already."""
        if key not in self.found and key not in self.elsewhere:
            over = op.over if POSITIONS & set(dims) else None
            made = self._saved(block, op, what, dims, extent(dims, env, over, causal=False), size)
            self.found[key] = replace(made, shared=True) if key[1] == "source" else made

    def _keep(self, block: Block, operation: Operation) -> None:
        """Keep what an operation's derivative needs."""
        own = (block.path, operation.name)
        env, size = self.envs[own], self.keeping.bytes
        if isinstance(operation, Norm):
            self._keep_norm(block, operation)
            return
        if self.keeping.adapters and isinstance(operation, Einsum) and operation.weight:
            self._keep_adapted(block, operation, self.keeping.adapters)
            if not self.keeping.quantised_inputs:
                return
        for name in operation.needed if self.keeping.fused else operation.needed_apart:
            if name == operation.name:
                self._add(own, block, operation, name, operation.output, size, env)
                continue
            key = self.operand(block, operation, name)
            dims = self.operand_letters(block, operation, name)
            what = named(key, block)
            if isinstance(operation, Einsum) and operation.chosen and dims not in operation.operands:
                key, what = (block.path, f"{key[1]}@chosen"), f"{what}, chosen"
            elif isinstance(operation, Einsum) and not operation.weight and not over_pairs(dims):
                # in the layout of a batched product: a copy of its own
                key = (block.path, f"{operation.name}({name})")
            whole = self.keeping.whole_operands and isinstance(operation, Einsum)
            self._add(key, block, operation, what, dims, size, env if whole else {**env, **self.envs.get(key, env)})
        if isinstance(operation, Elementwise) and operation.inside and not self.keeping.fused:
            for number in range(operation.inside):
                key = (block.path, f"{operation.name}@{number}")
                self._add(key, block, operation, f"{operation.name}, inside", operation.output, size, env)
        if self.keeping.dropout and operation.name.endswith("_residual"):
            key = (block.path, f"{operation.name}@mask")
            self._add(key, block, operation, f"{operation.inputs[-1]}, mask", operation.output, 1, env)

    def _keep_adapted(self, block: Block, operation: Einsum, adapters: Adapters) -> None:
        """Keep what an adapter's two matrices need: what enters it, and the rank between them."""
        if adapters.kind == "scale":
            env = self.envs[block.path, operation.name]
            key = (block.path, f"{operation.name}@scaled")
            self._add(key, block, operation, f"{operation.name}, scaled", operation.output, self.keeping.bytes, env)
        if not adapters.adapts(operation):
            return
        env, size = self.envs[block.path, operation.name], self.keeping.bytes
        (name,) = operation.inputs
        key, dims, what = (
            self.operand(block, operation, name),
            self.operand_letters(block, operation, name),
            operation.name,
        )
        joint = self.keeping.joint_qkv and operation.name in QKV
        if adapters.dropout:
            of = "qkv" if joint else operation.name
            self._add((block.path, f"{of}@adapter mask"), block, operation, f"{name}, mask", dims, 1, env)
            self._add((block.path, f"{of}@adapter"), block, operation, f"{name}, dropped", dims, size, env)
        else:
            self._add(key, block, operation, named(key, block), dims, size, {**env, **self.envs.get(key, env)})
        tokens = "".join(letter for letter in operation.output if letter not in operation.weight)
        between = self._saved(block, operation, f"{what}, rank", tokens, adapters.rank * extent(tokens, env), size)
        self.found[block.path, f"{what}@rank"] = between
        if joint and not set(QKV) <= set(adapters.targets):
            self._add((block.path, f"{what}@added"), block, operation, f"{what}, added", operation.output, size, env)

    def _keep_norm(self, block: Block, operation: Norm) -> None:
        """Keep a norm's input, its statistics, and in separate kernels what its scale multiplies."""
        env, size = self.envs[block.path, operation.name], self.keeping.bytes
        (name,) = operation.inputs
        key = self.operand(block, operation, name)
        what, of, rows = named(key, block), operation.name, operation.rows
        if self.keeping.fused:
            self._add(key, block, operation, what, operation.dims, size, {**env, **self.envs.get(key, env)})
            for number in range(1 if operation.kind == "rms" else 2):
                self._add((block.path, f"{of}@{number}"), block, operation, f"{of}, statistics", rows, FP32, env)
            return
        if operation.kind == "layer":
            key, what = (block.path, f"{of}@centred"), f"{of}, centred"
        elif self.keeping.wide_norms and size < FP32:
            key, what = (block.path, f"{of}@wide"), f"{what}, in fp32"
        wide = FP32 if self.keeping.wide_norms else size
        self._add(key, block, operation, what, operation.dims, wide, env)
        self._add((block.path, f"{of}@0"), block, operation, f"{of}, statistics", rows, wide, env)
        frozen = self.keeping.adapters and self.keeping.adapters.kind != "scale"
        if operation.weight and not frozen:
            self._add((block.path, f"{of}@normed"), block, operation, f"{of}, inside", operation.dims, wide, env)

    # ---- the attention core

    def _keep_core(self, block: Block, op: Operation, core: set[Tensor], *, statistics: bool) -> None:
        """Keep what a kernel for the whole core keeps: its operands, its result, and a number for each row."""
        own = (block.path, op.name)
        env, size = self.envs[own], self.keeping.bytes
        for name in op.inputs:
            key = self.operand(block, op, name)
            if key in core or over_pairs(self._letters(key, op)):
                continue
            dims = self._core_operand(block, op, name)
            if isinstance(op, Einsum) and not (self._lent(block, name) and not self.keeping.repeated_keys):
                rest = repeated(op)[op.inputs.index(name)] if self.keeping.repeated_keys else ""
                if rest:
                    dims, key = dims + rest, (block.path, f"{op.name}({name})")
                self._add(key, block, op, name, dims, size, {**env, **self.envs.get(key, env)})
                if self.keeping.joint_qkv and not over_pairs(op.output) and env.get("g", 1) == 1:
                    twice = self._saved(block, op, "queries and keys beside", dims, 2 * extent(dims, env), size)
                    self.found.setdefault((*own[:1], "qk@joint"), twice)
        if not statistics:
            return
        if isinstance(op, Softmax):
            self._add((*own[:1], f"{op.name}@lse"), block, op, f"{op.name}, log-sum-exp", op.output[:-1], FP32, env)
        elif isinstance(op, Einsum) and not over_pairs(op.output):
            self._add(own, block, op, op.name, op.output, size, env)
            if self.keeping.adapters and self.keeping.adapters.kind == "prompt":
                self._add((*own[:1], f"{op.name}@prompt"), block, op, f"{op.name}, of prompts", op.output, size, env)
            if self.keeping.two_results:
                self._add((*own[:1], f"{op.name}@twice"), block, op, f"{op.name}, as sent", op.output, size, env)

    def _core_operand(self, block: Block, op: Operation, name: str) -> str:
        """Return the letters of an operand of a core: parts of a key that are concatenated have the same heads."""
        if not isinstance(op, Einsum):
            return op.output
        place = op.inputs.index(name)
        dims = op.operands[place]
        sums = [
            other.operands[place]
            for other in self.tables[block.name]
            if isinstance(other, Einsum) and other.output == op.output and len(other.operands) == 2
            and not other.weight and other.over == op.over
        ]  # fmt: skip
        heads = "".join(x for other in sums if len(sums) > 1 for x in other[:-1] if x not in dims)
        return dims + "".join(dict.fromkeys(heads))

    @staticmethod
    def _lent(block: Block, name: str) -> bool:
        """Tell whether keys or values are those of an earlier layer, which keeps them."""
        return any(state.name == name and state.tied for state in block.states)

    def _letters(self, key: Tensor, op: Operation) -> str:
        made = self.operations.get(key)
        return made[1].output if made else ""

    def _keep_pairs(self, block: Block, operation: Operation) -> None:
        """Keep the mask and the dropped copy of a softmax whose values eager attention sums."""
        if not (self.keeping.dropout and isinstance(operation, Softmax)):
            return
        env, of = self.envs[block.path, operation.name], operation.name
        self._add((block.path, f"{of}@mask"), block, operation, f"{of}, mask", operation.output, 1, env)
        key, size = (block.path, f"{of}@dropped"), self.keeping.bytes
        self._add(key, block, operation, f"{of}, dropped", operation.output, size, env)

    # ---- fused chains

    def _fuse(self) -> None:
        """Replace results inside chains of elementwise operations by what enters the chain."""
        users = self._users()
        waiting = list(self.found)
        while waiting:
            key = waiting.pop()
            made = self.operations.get(key)
            if key not in self.found or made is None or not self.chained(made[1]) or not self.between(key):
                continue
            if not all(self.chained(op) for op in users.get(key, ())):
                continue
            block, operation = made
            del self.found[key]
            env = self.envs[block.path, operation.name]
            for name in operation.inputs:
                source = self.operand(block, operation, name)
                dims = self.operand_letters(block, operation, name)
                made_in = self.envs.get(source, env)
                self._add(source, block, operation, named(source, block), dims, self.keeping.bytes, made_in)
                waiting.append(source)

    def _users(self) -> Mapping[Tensor, list[Operation]]:
        """Return which operations need each kept tensor."""
        users: dict[Tensor, list[Operation]] = {}
        for block, operation in self.order:
            for name in operation.needed:
                key = (block.path, name) if name == operation.name else self.operand(block, operation, name)
                users.setdefault(key, []).append(operation)
        return users
