"""What the tables say of small work and of unfused traffic, and where eager code does not go by the rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from calc.layers import Block
from calc.model import Pass, running
from calc.operations import Einsum, Norm, Operation, Softmax
from calc.reference.base import Key

_RUNS = "one softmax, computed in parts"
_IN_PARTS = dict.fromkeys(("softmax_near", "sinks", "values_near"), _RUNS)
_FAR_IN_PARTS = _IN_PARTS | dict.fromkeys(("softmax_far", "values_far"), _RUNS)
_FOLDED = "a constant factor that kernels fold into the map"

BESIDE: Mapping[str, Mapping[str, str]] = {
    "local_kv": _IN_PARTS,
    "hca": _FAR_IN_PARTS,
    "csa": _FAR_IN_PARTS | {"index_head_weights": _FOLDED},
    "dsa": {"index_weights": _FOLDED},
    "msa": {"select": "blocks are ranked by the largest of their scores"},
    "nsa": {"select": "the highest of the blocks, not of the entries", "block_scores": "its mask is not told"},
    "longformer": {"scale": "the rows of global positions are computed, and thrown away"},
    "differential": dict.fromkeys(("lambda_q1", "lambda_q2"), "parameters alone"),
    "gated_delta": dict.fromkeys(
        ("q_norm", "k_norm", "decay_mask", "solve_values", "solve_keys", "read", "write", "carry", "step_decay"),
        "decays are applied where they are needed, keys normed after they are repeated",
    ),
    "kda": dict.fromkeys(
        ("decay_mask", "solve_values", "solve_keys", "read", "write", "carry", "step_decay"),
        "decays are applied where they are needed",
    ),
    "lightning": dict.fromkeys(
        ("decay_mask", "decayed_q", "decayed_k", "carry", "step_carry"), "decays are made where they are needed"
    ),
    "linear": dict.fromkeys(("accumulate", "normaliser_sum"), "running sums of a prefill, one sum at a step"),
    "mamba2": dict.fromkeys(
        ("pass", "decayed_b", "combine", "step_write"), "decays between chunks, one number for many elements"
    ),
    "moe": {"group_scores": "the two best are added", "router_norm": "and a constant factor"},
    "hyperconnection": dict.fromkeys(
        ("mix", "coefficients", "streams", "sinkhorn"), "a bias in another operation; terms that keep sums from zero"
    ),
    "altup": {
        **dict.fromkeys(("predict_router", "correct_router", "correct_coefficients"), "a constant factor or sum"),
        "correct_norm": "a constant factor",
    },
    "altup_in": {"magnitude": "the first stream's is computed once for all others"},
    "altup_out": dict.fromkeys(("magnitude", "mean"), "the first stream's is computed once; a mean of all streams"),
    "per_layer_input": {"residual": "added to each of the other streams"},
    "hyperhead": dict.fromkeys(("mix", "coefficients"), "a bias by another operation"),
}
"""By kind and operation: what the twin's eager code does besides, or elsewhere than, the rule says; not compared."""

_UNFILLED = "positions of an entry that is not full yet are used by nobody"
_STATES = "decays and running states are made inside"

MOVED_OTHERWISE: Mapping[str, Mapping[str, str]] = {
    "local_kv": {"values_near": _RUNS},
    "hca": {"values_near": _RUNS, "values_far": _RUNS, "compress_kv": _UNFILLED},
    "csa": {
        **dict.fromkeys(("values_near", "values_far"), _RUNS),
        **dict.fromkeys(("compress_kv", "compress_next_kv", "index_kv", "index_next_kv"), _UNFILLED),
    },
    "nsa": dict.fromkeys(("k_far_proj", "v_far_proj"), _UNFILLED),
    "longformer": {"values": "the rows of global positions are thrown away"},
    "differential": dict.fromkeys(("values_1", "values_2"), "each value head is read by two groups"),
    "dynamic": dict.fromkeys(("scores", "values"), "keys and values are repeated for the heads of a group"),
    "moa": dict.fromkeys(("scores", "values"), "keys and values are repeated for the chosen experts"),
    "shared_block": {"norm": "one input stands for both"},
    "gated_delta": dict.fromkeys(("solve_keys", "read", "write"), _STATES),
    "kda": dict.fromkeys(("solve_keys", "read", "write"), _STATES),
    "mamba2": {"pass": _STATES},
    "hyperconnection": dict.fromkeys(("norm", "mix", "carry", "collapse"), "copies of one stream; a bias elsewhere"),
    "hyperhead": {"mix": "a bias in another operation"},
    "altup": {"correct_norm": "the router's norm, used twice"},
    "embedding": dict.fromkeys(("conv1", "conv2"), "windows of frames overlap"),
}
"""By kind and operation: what is read or written otherwise than the table's operands say; not compared."""

_COPIES = "a view that is cut is copied for the product"
_ZERO = "the state before the first position is zero: no activation"
_WINDOWS = "windows of inputs are copied, one for each tap"
_CHUNKED = "chunks are padded and copied, decays and running states made inside"

KEPT_OTHERWISE: Mapping[str, Mapping[str, str]] = {
    "dsa": {"index_dots": "queries and keys of the indexer are both copied for its heads"},
    "longformer": dict.fromkeys(("values", "values_global", "q_global"), "rows of global positions are put in place"),
    "msa": {"select": "the largest score of each block keeps them all"},
    "nsa": dict.fromkeys(("values_far", "values_selected", "values_near"), _COPIES),
    "local_kv": dict.fromkeys(("values_near", "sinks"), _COPIES),
    "hca": dict.fromkeys(("values_near", "values_far", "compress_mean", "sinks"), _COPIES),
    "csa": {
        **dict.fromkeys(("values_near", "values_far", "sinks", "index_dots"), _COPIES),
        **dict.fromkeys(("compress_mean", "index_mean", "index_relu"), "products of a selection"),
    },
    "differential": {
        "difference": "pairs of value heads are joined and parted: both halves stay",
        "difference_norm": "a pair of heads has one statistic",
    },
    "gated_delta": dict.fromkeys(
        ("conv_q", "conv_k", "conv_v", "solve_values", "solve_keys", "read", "local", "write", "q_norm", "k_norm",
         "k_beta", "v_beta", "decay_mask", "carry", "recall"),
        _CHUNKED,
    ),
    "kda": dict.fromkeys(
        ("conv_q", "conv_k", "conv_v", "solve_values", "solve_keys", "read", "local", "q_norm", "k_norm", "k_beta",
         "v_beta", "decay_mask", "carry", "recall"),
        _CHUNKED,
    ),
    "linear": dict.fromkeys(("denominator", "write", "read"), "features are multiplied where they lie"),
    "lightning": {"read": _ZERO},
    "mamba": {"conv": _WINDOWS, "write": _ZERO},
    "mamba2": {
        **dict.fromkeys(("conv_x", "conv_b", "conv_c"), _WINDOWS),
        **dict.fromkeys(("pass", "decay_mask", "decayed_b", "combine", "read"), _CHUNKED),
        "norm": "a statistic for each group of channels",
    },
    "rglru": {"conv": _WINDOWS, "write": _ZERO},
    "shortconv": {"conv": _WINDOWS},
    "rwkv": dict.fromkeys(("wkv", "carry"), "running sums of every position stay"),
    "rwkv7": {
        "recall": "the states of every position stay",
        **dict.fromkeys(("removed", "add_own"), "and one number for each head"),
    },
    "moe": {"normalise": "and each token's sum"},
    "embedding": dict.fromkeys(("conv1", "conv2"), "windows of frames overlap"),
    "attention_pool": dict.fromkeys(("q_proj", "scores", "values"), "one learned query for all: no activation"),
    "pooler": {"normalised": "and each vector's length"},
    "projector": {"norm": "over what was put together"},
}  # fmt: skip
"""By kind and operation: what eager code keeps otherwise than the table says; not compared."""

MIXED_STREAMS: Mapping[str, str] = {
    "hyperconnection": "streams are mixed by code that keeps coefficients of its own",
    "altup": "predicted streams are views of one tensor",
    "per_layer_table": "the embedding is kept by whichever reads it first",
}
"""Kinds whose models are not compared: tensors between their tables are not those of one residual stream."""

JOINED = {"sinks": "softmax"}
"""An operation whose work eager code does inside another: a sink is one more column of the softmax."""


def by_rule(blocks: Iterable[Block], pass_: Pass) -> dict[Key, int]:
    """Return what the rules say of a pass, of the operations that are compared."""
    told: Counter[Key] = Counter()
    for block, operation, env in running(blocks, pass_):
        if not beside(block, operation):
            told[_place(block, operation)] += block.repeat * int(operation.other_flops(env, pass_.causal))
    return dict(told)


def compared(blocks: Iterable[Block], counted: Mapping[Key, int]) -> dict[Key, int]:
    """Return the counts without operations that are not compared."""
    left_out = {(block.path, op.name) for block in blocks for op in block.operations if beside(block, op)}
    return {key: flops for key, flops in counted.items() if key not in left_out}


def operands(blocks: Iterable[Block], pass_: Pass, bytes_each: int) -> tuple[dict[Key, int], dict[Key, int]]:
    """Return the bytes that unfused operations read and write: of matrix products, norms, softmax and residuals."""
    read: Counter[Key] = Counter()
    written: Counter[Key] = Counter()
    for block, operation, env in running(blocks, pass_):
        if moved(block, operation):
            elements = sum(each for _, each in operation.reads(env, pass_.causal)) + operation.weight_reads(env)
            each = bytes_each * block.repeat
            read[block.path, operation.name] += int(each * elements)
            written[block.path, operation.name] += int(each * operation.writes(env, pass_.causal))
    return dict(read), dict(written)


def moved(block: Block, operation: Operation) -> bool:
    """Tell whether the traffic of an operation is compared.

    Not of picked weights (the table has the expected number), nor of elementwise work elsewhere than at residual
    connections: tables give every input the extent of the result, and eager code also reads what it broadcasts, copies
    what it leaves as it is (the unrotated part of a head), and joins a sink to the scores.
    """
    names = {op.name for op in block.operations}
    product = type(operation) is Einsum and not operation.chosen
    softmax = type(operation) is Softmax and not names & set(JOINED)
    residual = operation.name.endswith("_residual")
    known = product or softmax or residual or isinstance(operation, Norm)
    return known and operation.name not in MOVED_OTHERWISE.get(block.label.partition(" ")[0], {})


def kept(block: Block, operation: Operation) -> bool:
    """Tell whether what an operation keeps is compared.

    Not of a softmax with a sink, which is one more column of it, nor where buffers of a fixed capacity are padded.
    """
    names = {op.name for op in block.operations}
    sink = isinstance(operation, Softmax) and bool(names & set(JOINED))
    kind = block.label.partition(" ")[0]
    return not sink and not _buffered(block, operation) and operation.name not in KEPT_OTHERWISE.get(kind, {})


def one_stream(blocks: Iterable[Block]) -> bool:
    """Tell whether all tables stand on one residual stream."""
    return not {block.label.partition(" ")[0] for block in blocks} & set(MIXED_STREAMS)


def _buffered(block: Block, operation: Operation) -> bool:
    """Tell whether an operation works on buffers of a fixed capacity: partly empty, tokens beyond them dropped."""
    capacity = any(getattr(op, "capacity", None) for op in block.operations)
    return capacity and ("j" in operation.output or bool(getattr(operation, "chosen", ())))


def beside(block: Block, operation: Operation) -> bool:
    """Tell whether eager code does an operation's small work otherwise than by the rule."""
    kind = block.label.partition(" ")[0]
    return operation.name in BESIDE.get(kind, {}) or _buffered(block, operation)


def _place(block: Block, operation: Operation) -> Key:
    other = JOINED.get(operation.name, "")
    inside = any(op.name == other for op in block.operations)
    return block.path, other if inside else operation.name
