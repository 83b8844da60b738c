"""Measured operators that are not collectives: matrix products, attentions, experts, each by its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from calc.algebra import expected_distinct
from calc.kernels import Kernel
from calc.kernels.shapes import attention, gemm, stream
from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.setups import device_of
from calc.measured.units import BYTE_RATES, FLOP_RATES, SECONDS, stated_in, unit_of
from calc.records import Record, named_record
from calc.roofline import AttentionKernel, Launch, efficiency, kernel_time

COLLECTIVES: Final = ("reduce", "gather", "scatter", "all_to_all", "alltoall", "nccl", "p2p", "send", "broadcast")
"""Words of operators that ``calc.measured.readers.collectives`` reads."""


@named_record
class Form(Record):
    """How a product's operands are stored, what it multiplies in, and what quantising its input launches first."""

    compute: str
    weight_bits: float = 16
    input_bits: float = 16
    passes: int = 0
    """Kernels that read the 16-bit input before: one finds its largest value, one scales it."""


FORMS: Final[tuple[tuple[str, Form], ...]] = (
    # weights alone are narrow: they are widened on the way to the matrix units
    ("int8_wo", Form(compute="bf16", weight_bits=8)),
    ("w8a16", Form(compute="bf16", weight_bits=8)),
    ("int4_wo", Form(compute="bf16", weight_bits=4.25)),
    ("w4a16", Form(compute="bf16", weight_bits=4.25)),
    ("w4a8", Form(compute="fp8", weight_bits=4.25, input_bits=8, passes=1)),
    ("w4afp8", Form(compute="fp8", weight_bits=4.25, input_bits=8, passes=1)),
    ("nvfp4", Form(compute="fp4", weight_bits=4.5, input_bits=4.5, passes=1)),
    ("mxfp4", Form(compute="fp4", weight_bits=4.25, input_bits=4.25, passes=1)),
    ("fp4", Form(compute="fp4", weight_bits=4.5, input_bits=4.5, passes=1)),
    ("fp8_block", Form(compute="fp8", weight_bits=8, input_bits=8, passes=1)),
    ("fp8_static", Form(compute="fp8", weight_bits=8, input_bits=8, passes=1)),
    ("fp8", Form(compute="fp8", weight_bits=8, input_bits=8, passes=2)),
    ("int8", Form(compute="int8", weight_bits=8, input_bits=8, passes=2)),
    ("bf16", Form(compute="bf16")),
    ("bfloat16", Form(compute="bf16")),
    ("fp16", Form(compute="fp16")),
    ("float16", Form(compute="fp16")),
    ("half", Form(compute="fp16")),
    ("tf32", Form(compute="tf32", weight_bits=32, input_bits=32)),
    ("fp32", Form(compute="fp32", weight_bits=32, input_bits=32)),
    ("float32", Form(compute="fp32", weight_bits=32, input_bits=32)),
)
"""Word of a row's format → what it means; the first that stands in the text counts."""


@named_record
class Work(Record):
    """What a row's benchmark runs."""

    quantity: str
    kernels: tuple[Kernel, ...]
    launch: Launch
    attention: AttentionKernel = "default"
    counted: float | None = None
    """FLOP that the source's rate counts, where they are not those of the kernels (half of the square for causal)."""


def predict(row: Measurement) -> Prediction | None:
    """Return the time or the rate of a measured operator; None for a collective.

    Raises:
        NotModelled: an operator, a format or a device that the time model does not know.
    """
    op = row.text("op", "operator", "operation")
    if any(word in op for word in COLLECTIVES):
        return None
    work = _work(op, row)
    accelerator = device_of(row)
    constants = efficiency(accelerator, work.attention)
    seconds = sum(kernel_time(kernel, accelerator, constants, launch=work.launch).seconds for kernel in work.kernels)
    return Prediction(f"operator.{work.quantity}", _in_unit(row, work, seconds))


def _in_unit(row: Measurement, work: Work, seconds: float) -> float:
    """Return a time as the row states it: as a time, a rate of FLOP, or a rate of bytes."""
    if stated_in(row, SECONDS):
        return seconds / unit_of(row, SECONDS)
    if stated_in(row, FLOP_RATES):
        flops = work.counted or sum(kernel.flops for kernel in work.kernels)
        return float(flops / seconds / unit_of(row, FLOP_RATES))
    if stated_in(row, BYTE_RATES):
        return float(sum(kernel.bytes for kernel in work.kernels) / seconds / unit_of(row, BYTE_RATES))
    raise NotModelled(f"{row.metric} in {row.unit} is neither a time nor a rate")


def _work(op: str, row: Measurement) -> Work:
    if "peak" in row.metric:
        return _peak(op, row)
    for words, read in _READERS:
        if any(word in op for word in words):
            return read(op, row)
    raise NotModelled(f"{op or 'an operator without a name'} is not an operator that is modelled")


def _form(row: Measurement, *keys: str) -> Form:
    text = row.text(*keys)
    for word, form in FORMS:
        if word in text:
            return form
    if not text:
        return Form(compute="bf16")
    raise NotModelled(f"{keys[0]} = {text} is not a format that is modelled")


def _launch(row: Measurement) -> Launch:
    """Return how a source launches what it times: alone under a profiler, or one after the other."""
    alone = ("deepgemm", "flashmla", "vidur", "flash-attention")
    return "none" if any(name in f"{row.source} {row.text('op')}".lower() for name in alone) else "graph"


def _products(op: str, row: Measurement) -> Work:
    """Read a GEMM, plain or grouped, with the kernels that quantise its input where the source times them too."""
    if row.first("m") is None and row.first("tokens_per_expert", "tokens_per_group") is not None:
        return _expert_product(op, row)
    m, n, k = row.whole("m"), row.whole("n"), row.whole("k")
    groups = row.whole("groups", "num_groups", default=1)
    form = _form(row, "dtype", "gemm_dtype", "quant")
    product = gemm(
        m, n, k, groups=groups, form=form.compute, weight_bits=form.weight_bits, input_bits=form.input_bits
    )  # fmt: skip
    before = form.passes if row.first("engine", "framework") else 0
    read, written = 2.0 * m * k, m * k * form.input_bits / 8
    quantise = tuple(stream(read, written if last else 0) for last in [False] * (before - 1) + [True] * (before > 0))
    kind = "grouped_gemm" if groups > 1 else "gemm"
    return Work(quantity=kind, kernels=(*quantise, product), launch=_launch(row))


def _expert_product(op: str, row: Measurement) -> Work:
    """Read one product of a mixture's experts by the tokens that each gets on average."""
    hidden, inner = row.whole("hidden_size", "hidden"), row.whole("intermediate_size", "inter_size", "ffn")
    n, k = (hidden, inner) if "down" in op or "down" in row.text("proj", "projection") else (2 * inner, hidden)
    experts, rows = row.whole("num_local_experts", "experts", "groups"), row.whole("tokens_per_expert")
    form = _form(row, "dtype", "quant")
    bits = {"weight_bits": form.weight_bits, "input_bits": form.input_bits}
    product = gemm(rows, n, k, groups=float(experts), uneven=True, form=form.compute, **bits)
    return Work(quantity="grouped_gemm", kernels=(product,), launch=_launch(row))


def _layer(op: str, row: Measurement) -> Work:
    """Read a projection of a dense layer, as vidur names them, on one of ``tp`` devices."""
    tokens, tp = row.whole("num_tokens", "tokens", "m"), row.whole("tp", "tensor_parallel", default=1)
    hidden = row.whole("hidden", "hidden_size", "embedding_dim")
    heads = row.whole("heads", "num_heads", "n_head", default=0)
    kv_heads = row.whole("kv_heads", "num_kv_heads", "n_kv_head", default=heads)
    width = 3 * hidden if not heads else hidden * (heads + 2 * kv_heads) // heads
    if "up" in op or "gate" in op:
        n, k = 2 * row.whole("ffn", "intermediate_size") // tp, hidden
    elif "down" in op:
        n, k = hidden, row.whole("ffn", "intermediate_size") // tp
    elif "pre" in op or "qkv" in op:
        n, k = width // tp, hidden
    else:
        n, k = hidden, hidden // tp
    form = _form(row, "dtype")
    return Work(quantity="gemm", kernels=(gemm(tokens, n, k, form=form.compute),), launch=_launch(row))


def _experts(op: str, row: Measurement) -> Work:
    """Read a mixture of experts on one device: tokens copied to experts, two grouped products, and their sum."""
    tokens, chosen = row.whole("num_tokens", "tokens", "m"), row.whole("topk", "top_k", "num_experts_per_tok")
    hidden, inner = row.whole("hidden_size", "hidden"), row.whole("inter_size", "intermediate_size", "ffn")
    tp, ep = row.whole("moe_tp_size", "tp", default=1), row.whole("moe_ep_size", "ep", default=1)
    experts = row.whole("num_experts", "experts")
    form = _form(row, "moe_dtype", "dtype")
    touched = expected_distinct(experts, chosen, tokens) / ep
    rows = tokens * chosen / ep
    bits = {"weight_bits": form.weight_bits, "input_bits": form.input_bits}
    up = gemm(rows / touched, 2 * inner // tp, hidden, groups=touched, uneven=True, form=form.compute, **bits)
    down = gemm(rows / touched, hidden, inner // tp, groups=touched, uneven=True, form=form.compute, **bits)
    sides = (
        stream(2 * tokens * hidden, rows * hidden * form.input_bits / 8),
        stream(2 * rows * 2 * inner / tp, rows * inner / tp * form.input_bits / 8),
        stream(2 * rows * hidden, 2 * tokens * hidden),
    )
    return Work(quantity="moe", kernels=(sides[0], up, sides[1], down, sides[2]), launch=_launch(row))


def _latent(op: str, row: Measurement) -> Work:
    """Read an attention of multi-head latent attention: over rebuilt keys in prefill, over the latent in decode."""
    heads = row.whole("heads", "num_heads", "n_heads", default=128)
    latent, rotated = row.whole("kv_lora_rank", default=512), row.whole("rope_dim", "qk_rope_head_dim", default=64)
    nope, value = row.whole("nope_dim", "qk_nope_head_dim", default=128), row.whole("v_head_dim", default=128)
    batch = row.whole("batch_size", "batch", default=1)
    cache, form = _form(row, "kv_dtype", "dtype"), _form(row, "dtype")
    if _decodes(op):
        kernel = attention(
            batch, heads, 1, 1, _keys(row), head_dim=latent + rotated, value_dim=latent, values_in_keys=True,
            cache_bits=cache.input_bits, form=form.compute,
        )  # fmt: skip
    else:
        length = row.whole("seq_len", "isl", "input_len")
        kernel = attention(
            batch, heads, heads, length, length, head_dim=nope + rotated, value_dim=value, form=form.compute
        )  # fmt: skip
    return Work(quantity="mla", kernels=(kernel,), launch=_launch(row), attention=_attention_kernel(row))


def _attention(op: str, row: Measurement) -> Work:
    """Read a flash attention: forward, backward or both, in prefill or at a decode step."""
    if any(word in op for word in ("standard", "pytorch", "eager")):
        raise NotModelled(f"{op} writes its scores to memory; only flash attention is modelled as one kernel")
    width = row.whole("head_dim", "head_size", default=128)
    hidden = row.whole("hidden", "hidden_size", default=0)
    heads = row.whole("heads", "num_heads", "n_heads", default=hidden // width)
    if not heads:
        raise NotModelled("heads is not stated")
    kv_heads = row.whole("kv_heads", "num_kv_heads", "num_key_value_heads", default=heads)
    cache, form = _form(row, "kv_dtype", "dtype"), _form(row, "dtype")
    if _decodes(op):
        batch = row.whole("batch_size", "batch", default=1)
        kernel = attention(
            batch, heads, kv_heads, 1, _keys(row), head_dim=width, cache_bits=cache.input_bits, form=_half(form)
        )  # fmt: skip
        return Work(quantity="attention", kernels=(kernel,), launch=_launch(row), attention=_attention_kernel(row))
    length = row.whole("seq_len", "isl", "input_len")
    batch = row.whole("batch_size", "batch", default=max(row.whole("total_tokens", default=length) // length, 1))
    causal = row.config.get("causal", True) is not False
    directions: tuple[Literal["forward", "backward"], ...] = ("forward",)
    if "bwd" in op or "backward" in op:
        directions = ("forward", "backward") if "fwd" in op or "forward" in op else ("backward",)
    kernels = tuple(
        attention(
            batch,
            heads,
            kv_heads,
            length,
            length,
            head_dim=width,
            causal=causal,
            direction=direction,
            cache_bits=cache.input_bits,
            form=form.compute if form.compute == "fp8" else _half(form),
        )
        for direction in directions
    )
    # rates count half of the square for a causal mask, diagonal or not
    nominal = 4 * batch * heads * length * length * width * (0.5 if causal else 1)
    counted = nominal * sum({"forward": 1, "backward": 2.5}[direction] for direction in directions)
    return Work(
        quantity="attention",
        kernels=kernels,
        launch=_launch(row),
        attention=_attention_kernel(row),
        counted=counted,
    )


def _peak(op: str, row: Measurement) -> Work:
    """Read a rate that a library states for large sizes ("up to"): DeepSeek-V3's heads, where none are given."""
    heads = row.whole("heads", "num_heads", default=128)
    if stated_in(row, BYTE_RATES):
        kernel = attention(256, 16, 1, 1, 8192, head_dim=576, value_dim=512, values_in_keys=True)
    elif "sparse" in op and "prefill" in op:
        kernel = attention(8192, heads, 1, 1, 2048, head_dim=576, value_dim=512, values_in_keys=True, causal=False)
    elif _decodes(op):
        kernel = attention(256, heads, 1, 1, 8192, head_dim=576, value_dim=512, values_in_keys=True)
    else:
        direction: Literal["forward", "backward"] = "backward" if "backward" in op else "forward"
        kernel = attention(8, heads, heads, 8192, 8192, head_dim=192, value_dim=128, direction=direction)
    return Work(quantity="attention", kernels=(kernel,), launch=_launch(row))


def _decodes(op: str) -> bool:
    return "generation" in op or "decode" in op or "decoding" in op


def _keys(row: Measurement) -> int:
    keys, window = row.whole("kv_len", "context", "seq_len", "step"), row.whole("window_size", "window", default=0)
    return min(keys, window) if window else keys


def _half(form: Form) -> str:
    return form.compute if form.compute in ("bf16", "fp16", "fp32", "tf32") else "bf16"


def _attention_kernel(row: Measurement) -> AttentionKernel:
    """Return whose attention a row measures."""
    text = f"{row.text('op')} {row.text('engine', 'framework')} {row.source.lower()}"
    if "flashattention-2" in text or "flash-attention-2" in text or "fa2" in text:
        return "flash2"
    return "trtllm" if "trtllm" in text else "default"


_READERS: Final[tuple[tuple[tuple[str, ...], Callable[[str, Measurement], Work]], ...]] = (
    (("gemm", "matmul", "linear"), _products),
    (("moe", "expert"), _experts),
    (("mlp", "attn_pre_proj", "attn_post_proj", "proj"), _layer),
    (("mla",), _latent),
    (("attention", "attn", "mha", "gqa"), _attention),
)
"""Words of an operator's name → how it is read, in order."""
