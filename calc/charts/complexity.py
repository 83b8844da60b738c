"""Growth of attention with the context."""

from __future__ import annotations

from calc.attention import Attention
from calc.charts.chart import Asked, Chart, shared_length, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.costs import complexity
from calc.errors import SpecError
from calc.layers import Block
from calc.model import Model, Pass, running
from calc.records import replace
from calc.sparse_masks import optimal_stride
from calc.units import big_o

D_MODEL, HEADS, KV_HEADS, HEAD_DIM = 4096, 32, 8, 128
CONTEXTS = tuple(2**power for power in range(10, 23))


def _kinds(context: int) -> dict[str, Attention]:
    """Return the mechanisms that are compared, of one width; a stride that is best for the context."""
    stride = max(round(optimal_stride(context)), 1)
    grouped = {"kind": "gqa", "n_heads": HEADS, "n_kv_heads": KV_HEADS, "head_dim": HEAD_DIM}
    latent = {
        "kind": "dsa", "n_heads": HEADS, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": HEAD_DIM,
        "qk_rope_head_dim": 64, "v_head_dim": HEAD_DIM, "n_index_heads": 16, "index_head_dim": 128, "n_selected": 2048,
    }  # fmt: skip
    return {
        "causal": Attention.build(grouped),
        "2,048 selected by 16 index heads": Attention.build(latent),
        "strided, ℓ = √(n/2)": Attention.build(
            {**grouped, "mask": {"kind": "strided", "window": stride, "stride": stride}}
        ),
        "window of 4,096": Attention.build({**grouped, "mask": {"kind": "window", "window": 4096}}),
        "linear": Attention.build({"kind": "linear", "n_heads": HEADS, "head_dim": HEAD_DIM}),
    }


ORDERS = {"strided, ℓ = √(n/2)": 1.5}
"""What a stride that grows with the context makes of the order; the others' are read off their tables."""


def mixing(block: Block, context: int) -> int:
    """Return the matmul FLOPs of a layer's attention for a prompt, without its projections of single tokens."""
    total: int = sum(op.flops(env) for _, op, env in running([block], Pass.prefill(context)) if not op.weights)
    found: int = block.repeat * total
    return found


def data(asked: Asked) -> ChartData:
    """Return what mixing positions costs each token: of one layer of several mechanisms, or of some models."""
    last = asked.context or CONTEXTS[-1]
    contexts = (*(context for context in CONTEXTS if context < last), last)
    series = _of_models(asked.models, contexts) if asked.models else _of_mechanisms(contexts)
    shown = asked.models or ()
    what = "mixers of all layers" if shown else "one layer"
    panel = Panel(
        x=Axis(label="context, tokens", unit="tokens", scale="log", base=2, low=contexts[0], high=last),
        y=Axis(label=f"FLOPs for each token to mix positions, {what} (log scale)", unit="FLOP", scale="log"),
        series=series,
    )
    width = f"d_model {D_MODEL:,}, {HEADS} heads of {HEAD_DIM}, {KV_HEADS} key-value heads. " if not shown else ""
    return ChartData(
        chart="complexity",
        finding=_finding(series),
        panels=(panel,),
        conventions=f"{width}Matrix products of a causal prefill that read no weights: scores, values, states, "
        "indexers. A total of O(n²) is O(n) for each token.",
        source=sources(shown)
        if shown
        else "arXiv:2305.13245, 2512.02556 §2.1, 1904.10509 §4.3, 2004.05150, 2006.16236",
    )


def _of_mechanisms(contexts: tuple[int, ...]) -> tuple[Series, ...]:
    found: dict[str, list[float]] = {}
    orders: dict[str, float] = dict(ORDERS)
    for context in contexts:
        for name, mechanism in _kinds(context).items():
            block = _block(mechanism)
            found.setdefault(name, []).append(mixing(block, context) / context)
            if name not in orders:
                orders[name] = complexity([block])[block.label]
    return tuple(
        Series(name=name, x=contexts, y=tuple(flops), note=big_o(orders[name])) for name, flops in found.items()
    )


def _block(mechanism: Attention) -> Block:
    block = Block.of("attention", mechanism)
    return replace(block, letters={"d": D_MODEL, "o": D_MODEL, **block.letters})


def _of_models(models: tuple[Model, ...], contexts: tuple[int, ...]) -> tuple[Series, ...]:
    found = []
    for model in models:
        mixers = [block for block in model.blocks() if block.name in ("attention", "beside") and not block.encoder]
        if not any(mixing(block, contexts[0]) for block in mixers):
            raise SpecError(f"{model.heading} mixes positions without matrix products")
        flops = tuple(sum(mixing(block, context) for block in mixers) / context for context in contexts)
        order = max(complexity(mixers).values(), default=1.0)
        found.append(Series(name=model.heading, x=contexts, y=flops, stated=model.max_context, note=big_o(order)))
    return tuple(found)


def _finding(series: tuple[Series, ...]) -> str:
    """Compare the dearest and the cheapest at the longest context that half of the models state."""
    at = shared_length((each.stated for each in series), series[0].x)
    index = series[0].x.index(at)
    most, least = (pick(series, key=lambda each: each.y[index]) for pick in (max, min))
    if len(series) == 1:
        growth = times(most.y[index] / most.y[0])
        return f"Mixing positions costs each token of {most.name} {growth} as much at {at:,.0f} as at {most.x[0]:,.0f}"
    ratio = times(most.y[index] / least.y[index])
    orders = (f" {most.note}", f" {least.note}") if most.note != least.note else ("", "")
    return (
        f"At {at:,.0f} tokens, mixing positions costs {ratio} as much with {most.name}{orders[0]} as with "
        f"{least.name}{orders[1]}"
    )


CHART = Chart(
    about="Growth of attention with the context: O(n), O(n√n), O(n²) with their constants",
    data=data,
    draw=draw,
    least=0,
    takes=("context",),
)
