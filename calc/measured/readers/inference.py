"""Rows of inference benchmarks: latency under load, offline throughput, decoding and prompts of single batches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from calc.errors import SpecError
from calc.measured.models import model_of
from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.setups import accelerator_of, cache_dtype_of, checkpoint_cache, engine_of, weights_of
from calc.measured.units import SECONDS, unit_of
from calc.model import Model
from calc.parallel import Layout, has_experts
from calc.serving.deployment import Deployment, Settings
from calc.serving.runs import Run, run
from calc.serving.steady import Replica, Steady, Work
from calc.serving.steps import Batch

ROUNDS = 10
"""Requests that each user of a closed loop sends: ``--num-prompts`` is ten times the concurrency in InferenceX's runs
(github.com/SemiAnalysisAI/InferenceX, benchmarks), vLLM's and SGLang's own examples."""
SPREAD = 0.2
"""Lengths of such runs are drawn from the upper fifth of the stated one (``--random-range-ratio 0.8``)."""

DATASETS: Mapping[str, tuple[int, int]] = {
    "llama2-70b": (294, 294),
    "llama3.1-405b": (9_428, 684),
    "llama3.1-8b": (870, 73),
    "deepseek-r1": (800, 3_880),
    "mixtral-8x7b": (300, 145),
    "gptj": (870, 69),
}
"""Mean tokens in and out of MLPerf's data sets (mlcommons/inference, language/*/README.md; outputs are those of the
reference runs, where a row does not state its own)."""


def predict(row: Measurement) -> Prediction | None:
    """Return latency in ms, tokens per second or their like, in the row's unit; None for other figures."""
    reader = READ.get(row.metric)
    return None if reader is None else reader(row)


# ---- deployments


def layout_of(row: Measurement, model: Model) -> Layout:
    """Return the layout: degrees as stated, experts by ``moe_tp`` and ``moe_ep``, the rest of the devices as copies.

    Where experts are divided over more ranks than attention is, attention's ranks are repeated (attention DP).
    """
    tp, pp = row.whole("tp", "tensor_parallel", default=0), row.whole("pp", default=1)
    experts = has_experts(model)
    moe_tp, ep = row.whole("moe_tp", default=0), row.whole("moe_ep", "ep", default=1)
    gpus = row.whole("num_gpus", "gpus", "num_chips", default=0)
    tp = tp or max(gpus // pp, 1)
    if experts and "attention-DP" in row.note and gpus > 1:
        return Layout(dp=gpus, ep=gpus)
    if not experts or ep * max(moe_tp, 1) <= 1 or ep * max(moe_tp, 1) == tp == moe_tp:
        copies = gpus // (tp * pp) if gpus > tp * pp and row.first("dp") is None else row.whole("dp", default=1)
        return Layout(tp=tp, pp=pp, dp=max(copies, 1))
    ranks = max(tp, ep * max(moe_tp, 1))
    etp = max(1, min(tp, moe_tp or tp // ep if tp >= ep else 1))
    if ranks % tp or ranks % etp or tp % etp:
        raise NotModelled(f"experts on moe_tp = {moe_tp}, ep = {ep} beside tp = {tp}")
    return Layout(tp=tp, pp=pp, dp=ranks // tp, ep=ranks // etp, expert_tp=etp)


def deployment_of(row: Measurement, layout: Layout | None = None, default_engine: str | None = None) -> Deployment:
    """Return what was run, with the limits that the row states."""
    model = model_of(row)
    settings = Settings(
        memory_fraction=row.first("gpu_memory_utilization", "mem_fraction_static", "kv_fraction"),
        batched_tokens=row.first("max_num_batched_tokens", "chunked_prefill_size", "max_num_tokens"),
        sequences=row.first("max_num_seqs", "max_batch_size") or row.first("concurrency"),
    )
    engine, weights = engine_of(row, default_engine), weights_of(row, model)
    return Deployment(
        model,
        accelerator_of(row),
        layout or layout_of(row, model),
        engine,
        weights_dtype=weights,
        cache_dtype=cache_dtype_of(row, checkpoint_cache(row, engine, weights)),
        settings=settings,
    )


def lengths_of(row: Measurement) -> tuple[int, int]:
    """Return tokens in and out of a request."""
    name = row.text("model").removesuffix("-99.9").removesuffix("-99")
    known = DATASETS.get(name, (0, 0)) if row.first("scenario") in ("Offline", "Server", "Interactive") else (0, 0)
    outputs = row.first("osl", "output_tokens", "output_len", "mean_output_tokens", "gen_tokens") or known[1]
    return row.whole("isl", "input_tokens", "input_len", default=known[0]), int(float(outputs))


def work_of(row: Measurement, spread: float | None = None) -> Work:
    """Return what each request asks for.

    Raises:
        NotModelled: the lengths are not stated.
    """
    inputs, outputs = lengths_of(row)
    if not inputs or not outputs:
        raise NotModelled("tokens in and out of a request are not stated")
    cached = row.whole("shared_prefix_tokens", "cached_tokens", default=0) if row.first("prefix_caching") else 0
    return Work(input_tokens=inputs, output_tokens=outputs, cached=min(cached, inputs - 1), spread=spread)


# ---- latency under load


def _loaded(row: Measurement) -> Steady | Run:
    """Return the state of one model copy; found once for the several figures of a run."""
    key = json.dumps([row.config, row.note], sort_keys=True, default=str)
    if key not in _STATES:
        _STATES[key] = _state(row)
    return _STATES[key]


_STATES: dict[str, Steady | Run] = {}


def _state(row: Measurement) -> Steady | Run:
    """Return the state of one model copy at the row's rate, with its number of users, or with all requests at once.

    Where a row states how many requests there were, a rate's means are those of that run, not of a steady state.
    """
    rate, users = row.first("request_rate_qps", "request_rate", "rate_qps"), row.first("concurrency", "users")
    requests = row.first("num_requests", "num_prompts")
    deployment = deployment_of(row)
    copies = deployment.layout.dp
    if rate is None and users is not None:
        work = work_of(row, spread=SPREAD)
        replica = Replica(deployment.steps, work, deployment.limits(work))
        return replica.at_users(max(float(users) / copies, 1.0), rounds=ROUNDS)
    if rate is None and requests is None:
        raise NotModelled("neither a request rate nor a number of users is stated")
    work = work_of(row)
    replica = Replica(deployment.steps, work, deployment.limits(work))
    each = float("inf") if rate is None else float(rate) / copies
    if requests is not None:
        return run(replica, each, float(requests) / copies)
    found = replica.at_rate(each)
    if not found.stable:
        raise NotModelled("more requests come than the deployment can answer: its queue has no steady state")
    return found


def _tpot(row: Measurement) -> Prediction:
    return Prediction("serving.tpot", float(_loaded(row).itl) / unit_of(row, SECONDS))


def _ttft(row: Measurement) -> Prediction:
    return Prediction("serving.ttft", float(_loaded(row).ttft) / unit_of(row, SECONDS))


# ---- offline throughput


def _offline(row: Measurement) -> Prediction:
    """Return output tokens per second of all devices when every request is there from the start.

    Requests that are alike are followed from the first to the last. Others leave at the rate R of full batches; at the
    end the batch empties, on average at half its size: N·O / (N/R + half a residence).
    """
    gpus = row.whole("num_gpus", default=1)
    model = model_of(row)
    best = max((_throughput(row, layout) for layout in _layouts(row, model, gpus)), default=0.0)
    if not best:
        raise NotModelled("no layout of the stated devices holds the model")
    return Prediction("serving.throughput", best)


def _layouts(row: Measurement, model: Model, gpus: int) -> list[Layout]:
    """Return the stated layout; where a benchmark leaves it open, one copy on 1, 2, 4, … devices."""
    if row.first("tp", "tensor_parallel") is not None or gpus == 1:
        return [layout_of(row, model)]
    found = [Layout(tp=tp, dp=gpus // tp) for tp in (1, 2, 4, 8) if gpus % tp == 0]
    if has_experts(model):
        node = next(each for each in (8, 4, 2, 1) if gpus % each == 0)
        found.append(Layout(dp=gpus, ep=node))
    return found


def _throughput(row: Measurement, layout: Layout) -> float:
    replica = _replica(row, layout)
    if replica is None:
        return 0.0
    requests = row.first("num_requests")
    share = float(requests) / layout.dp if requests else float("inf")
    if requests and _alike(row):
        return run(replica, float("inf"), share).rate * float(replica.work.output_tokens) * layout.dp
    state = replica.at_users(min(share, float(replica.limits.sequences)))
    rate = float(state.rate)
    if share != float("inf"):
        residence = float(state.ttft - state.queue) + float(replica.decodes) * float(state.step)
        rate = share / (share / rate + residence / 2)
    return rate * float(replica.work.output_tokens) * layout.dp


def _alike(row: Measurement) -> bool:
    """Tell whether all requests have the same lengths, so that those that entered together leave together.

    trtllm-bench's data sets do (``--input-stdev=0 --output-stdev=0`` in TensorRT-LLM's performance/perf-overview.md).
    """
    return "trtllm-bench" in row.source or "ISL+OSL fixed" in row.note


def _replica(row: Measurement, layout: Layout) -> Replica | None:
    """Return a model copy under the row's work; None where the layout does not hold it."""
    try:
        deployment = deployment_of(row, layout, "tensorrt-llm")
        work = work_of(row)
        limits = deployment.limits(work)
    except SpecError:
        return None
    return Replica(deployment.steps, work, limits)


LIMITS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("llama2-70b", "Server"): (2.0, 0.200),
    ("llama2-70b", "Interactive"): (0.450, 0.040),
    ("llama3.1-405b", "Server"): (6.0, 0.175),
    ("llama3.1-405b", "Interactive"): (4.5, 0.080),
    ("llama3.1-8b", "Server"): (2.0, 0.100),
    ("llama3.1-8b", "Interactive"): (0.500, 0.030),
    ("deepseek-r1", "Server"): (2.0, 0.080),
    ("mixtral-8x7b", "Server"): (2.0, 0.200),
}
"""Seconds to first token and per token that 99 % of MLPerf's requests keep (mlcommons/inference_policies,
inference_rules.adoc, "Benchmarks", v5.1)."""


KEPT = 0.99
"""The share of requests that keep them."""


def _mlperf(row: Measurement) -> Prediction:
    """Return tokens per second offline, or at the highest load whose latencies stay within the scenario's limits."""
    if row.first("scenario") == "Offline":
        return _offline(row)
    name = row.text("model").removesuffix("-99.9").removesuffix("-99")
    limits = LIMITS.get((name, str(row.first("scenario"))))
    if limits is None:
        raise NotModelled(f"the latency limits of {name}, scenario {row.first('scenario')}, are not known")
    gpus = row.whole("num_gpus", default=1)
    best = max((_limited(row, layout, *limits) for layout in _layouts(row, model_of(row), gpus)), default=0.0)
    if not best:
        raise NotModelled("no layout of the stated devices keeps the latency limits")
    return Prediction("serving.throughput", best)


def _limited(row: Measurement, layout: Layout, first: float, each: float) -> float:
    """Return the output tokens per second of the largest load within limits of both latencies."""
    import numpy as np

    from calc.serving.quantiles import crowd_at, wait_at

    replica = _replica(row, layout)
    if replica is None:
        return 0.0
    most = replica.at_users(float(replica.limits.sequences)).rate
    rates = float(most) * np.linspace(0.02, 0.995, 60)
    found = replica.at_rate(rates)
    waits = wait_at(KEPT, found.queue, replica.waiting_chance(rates))
    steps = found.itl * crowd_at(KEPT, found.running)
    kept = (found.ttft - found.queue + waits <= first) & (steps <= each) & found.stable
    return float(rates[kept].max(initial=0.0)) * float(replica.work.output_tokens) * layout.dp


# ---- single batches


def _decode_speed(row: Measurement) -> Prediction:
    """Return tokens per second of one batch that decodes, without prompts in between."""
    batch = row.whole("batch_size", default=1)
    start = row.whole("prompt_tokens", default=0)
    new = re.search(r"\d+", str(row.first("gen_tokens", "new_tokens", "output_tokens") or ""))
    context = start + (int(new.group()) if new else 128) / 2
    deployment = deployment_of(row, _split(row), "gpt-fast")
    step = deployment.steps.time(Batch(sequences=float(batch), context=context))
    return Prediction("serving.decode", batch / float(step.seconds))


def _prompt_speed(row: Measurement) -> Prediction:
    """Return prompt tokens per second of one sequence, cut into steps as the engine does."""
    tokens = row.whole("prompt_tokens", "seq_len", "isl")
    deployment = deployment_of(row, _split(row), "gpt-fast")
    size = min(deployment.batched_tokens, tokens)
    step = Batch(prompts=1.0, chunk=size, seen=(tokens + size) / 2, finishing=size / tokens)
    # stages work on different pieces at once, where there are pieces enough
    pieces = tokens / size
    stages = deployment.layout.pp
    seconds = float(deployment.steps.time(step).seconds) * (pieces + stages - 1) / stages
    return Prediction("serving.prefill", tokens / seconds)


def _split(row: Measurement) -> Layout | None:
    """Return the layers-apart layout of llama.cpp on several devices (``3090 24GB * 2``), None for what is stated."""
    found = re.search(r"[*x×]\s*(\d+)\s*$", row.text("hardware"))
    return Layout(pp=int(found.group(1))) if found and "llama" in row.text("engine") else None


# ---- per device and per node


def _per_gpu(row: Measurement) -> Prediction:
    """Return tokens per second of one device in a phase run by itself (large expert parallelism, profiles)."""
    phase = row.text("phase") or ("prefill" if "prefill" in row.metric else "decode")
    layout = _wide(row)
    deployment = deployment_of(row, layout, "sglang")
    if phase == "prefill":
        length = row.whole("seq_len", "isl")
        tokens = row.whole("tokens_per_gpu_batch", "max_prefill_tokens", default=length)
        batch = Batch(
            prompts=max(tokens / length, 1.0), chunk=min(length, tokens), seen=length, finishing=tokens / length
        )
        done = tokens / layout.tp
    else:
        context = row.first("kv_len", "mean_kv_len") or row.whole("isl") + row.whole("osl", default=0) / 2
        sequences = row.whole("batch_per_gpu", "batch_size")
        batch = Batch(sequences=float(sequences * layout.tp), context=float(context))
        done = float(sequences)
    seconds = deployment.steps.time(batch, overlapped=bool(row.first("two_batch_overlap"))).seconds
    return Prediction("serving.throughput", done / float(seconds))


def _per_node(row: Measurement) -> Prediction:
    """Return tokens per second of a node in a deployment with experts on many devices.

    Prompts include those that a cache had; decoding runs as many sequences as the stated speed of a user allows.
    """
    from calc.serving.tables import grid

    ranks = re.search(r"EP\s*(\d+)", str(row.first("deployment") or ""))
    if ranks is None:
        raise NotModelled("the ranks that share the experts are not stated")
    node = accelerator_of(row).node_size
    ep = int(ranks.group(1))
    experts = max(block.letters.get("e", 1) for block in model_of(row).blocks())
    if experts % ep:  # redundant copies of some experts make the numbers even (DeepSeek-V3, arXiv:2412.19437 §3.4)
        ep = max(each for each in range(1, ep + 1) if experts % each == 0)
    steps = deployment_of(row, Layout(dp=ep, ep=ep), "sglang").steps
    if "input" in row.metric:
        length, tokens = 4096, 16_384
        batch = Batch(prompts=tokens / length, chunk=length, seen=length, finishing=tokens / length)
        rate = tokens / float(steps.time(batch, overlapped=True).seconds)
        hit = float(row.first("cache_hit_pct") or 0) / 100
        return Prediction("serving.throughput", node * rate / (1 - hit))
    speeds = [float(each) for each in re.findall(r"\d+(?:\.\d+)?", row.text("user_speed"))]
    context = row.first("mean_kv_len")
    if not speeds or context is None:
        raise NotModelled("neither the speed of a user nor the length of the cache is stated")
    speed = sum(speeds) / len(speeds)
    sizes = grid(1024)
    batch = Batch(sequences=sizes, context=float(context))
    seconds = steps.time(batch, overlapped=True).seconds
    running = float(sizes[seconds <= 1 / speed].max(initial=0.0))
    return Prediction("serving.throughput", node * running * speed)


def _wide(row: Measurement) -> Layout:
    ep = row.whole("ep", default=1)
    if ep > 1:
        return Layout(dp=ep, ep=ep)
    return Layout(tp=row.whole("tp", default=row.whole("num_gpus", default=1)))


READ: Mapping[str, Callable[[Measurement], Prediction]] = {
    "tpot": _tpot,
    "itl": _tpot,
    "mean_tpot": _tpot,
    "mean_itl": _tpot,
    "inter_token_latency": _tpot,
    "mean_inter_token_latency": _tpot,
    "ttft": _ttft,
    "mean_ttft": _ttft,
    "time_to_first_token": _ttft,
    "total_output_throughput": _offline,
    "output_throughput": _offline,
    "tokens_per_second": _mlperf,
    "decode_tokens_per_second": _decode_speed,
    "prefill_tokens_per_second": _prompt_speed,
    "prefill_tokens_per_second_per_gpu": _per_gpu,
    "decode_tokens_per_second_per_gpu": _per_gpu,
    "input_tokens_per_second_per_node": _per_node,
    "output_tokens_per_second_per_node": _per_node,
}
"""Metric → how it is predicted."""
