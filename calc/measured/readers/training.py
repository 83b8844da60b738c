"""Training runs: step time, throughput, utilisation, and the GPU hours of whole runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from calc.catalog import load, presets_folder
from calc.errors import SpecError
from calc.identify import find_accelerator
from calc.measured.models import compact, model_of
from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.setups import device_of
from calc.measured.units import SECONDS, unit_of
from calc.parallel import Layout
from calc.records import replace
from calc.training.answer import memory_for
from calc.training.api import train
from calc.training.practice import Practice, load_practice
from calc.training.run import RECOMPUTE, Recompute, Run
from calc.training.step import StepTime, step_time

FRAMEWORKS: tuple[tuple[str, str], ...] = (
    (r"automodel", "automodel"),
    (r"dist_moe", "torchtitan-captured"),
    (r"torchtitan", "torchtitan"),
    (r"foundry", "llm-foundry"),
    (r"llm\.c", "llm.c"),
    (r"nanogpt", "nanogpt"),
    (r"nanotron", "nanotron"),
    (r"tinyllama|lightning|litgpt", "lightning"),
    (r"flash-attention", "flash-attention"),
    (r"megatron-deepspeed|bigscience", "megatron-deepspeed"),
    (r"zero-3", "deepspeed"),
    (r"simumax", "megatron-plain"),
    (r"2[6-9]\.(0[6-9]|1\d)\S* nemo", "nemo-captured"),
    (r"megatron-bridge|nemo", "nemo"),
    (r"korthikanti|narayanan|2104\.04473|2205\.05198", "megatron-lm"),
    (r"megatron-lm 0\.1\d|model_table|megatron-core|h100", "megatron-core"),
    (r"megatron", "megatron-lm"),
)
"""What a row's framework, scheme and source are searched for → the framework."""

MICRO_BATCHES = (1, 2, 4, 8, 16)
"""Tried where a row does not state the micro-batch: authors report the fastest."""


def predict(row: Measurement) -> Prediction | None:
    """Return step time, throughput or utilisation of a run, or the GPU hours of a whole training; else None."""
    if row.metric == EXTRAPOLATED:
        return Prediction("training.time", 3e11 / _speed(row) / 86_400)
    if row.metric in WHOLE or row.metric in LASTS:
        return Prediction("training.gpu_hours", whole_run(row))
    if row.metric not in _RATES:
        return None
    run, time = fastest(row)
    return Prediction("training.time", _RATES[row.metric](row, run, time))


def fastest(row: Measurement) -> tuple[Run, StepTime]:
    """Return the run of a row and its step; the fastest where the row leaves the micro-batch open."""
    timed = [(run, step_time(run)) for run in runs(row)]
    return min(timed, key=lambda one: one[1].iteration / one[0].tokens)


# ---- from a row to runs


def runs(row: Measurement) -> Iterator[Run]:
    """Yield the runs that a row may mean: one, or one for each micro-batch where it states none.

    Raises:
        NotModelled: the row lacks model, hardware, devices or batch, or states what cannot be.
    """
    model, accelerator, habits = model_of(row), device_of(row), load_practice(framework_of(row))
    layout = layout_of(row, habits)
    context = row.whole("seq_len", "sequence_length", "context")
    stated = row.first("micro_batch_size")
    if stated is None and layout.pp == 1:
        stated = row.first("local_batch_size")
    if stated is None and row.first("tokens_per_gpu_microbatch"):
        stated = row.whole("tokens_per_gpu_microbatch") // context
    if stated is None and "torchtitan" in row.source and layout.pp > 1:
        stated = 1  # torchtitan's pipeline_parallel_microbatch_size
    batch = global_batch(row, layout, context, stated)
    if stated is None and batch and (number := row.whole("micro_batches", "num_microbatches", default=0)):
        stated = max(1, batch // (layout.dp * number))
    refused, found = "", False
    for micro, virtual in choices(row, layout, stated, model.n_layers):
        try:
            run = _fitting(row, Run(
                model=model, accelerator=accelerator, layout=virtual, micro_batch=micro,
                global_batch=batch or micro * layout.dp, context=context, precision=precision_of(row),
                recompute=recompute_of(row) or "none", method="lora" if "lora" in _words(row) else "full",
                mtp="w/ mtp" in row.text("model"), practice=habits,
            ))  # fmt: skip
        except SpecError as error:
            refused = str(error)
            continue
        found = True
        yield run
    if not found:
        raise NotModelled(refused)


def _fitting(row: Measurement, run: Run) -> Run:
    """Return a run with the least recompute that fits, where the row does not say what is computed again.

    Raises:
        NotModelled: the row states no layout either, and without one the model does not fit.
    """
    if recompute_of(row) is not None:
        return run
    if run.practice.memory == "megatron" and row.first("tp", "pp", "fsdp") is not None:
        return run  # NVIDIA's recipes keep weights and moments in fewer bits than is stated, and recompute little
    for again in RECOMPUTE:
        tried = replace(run, recompute=again)
        if memory_for(tried).total <= run.accelerator.capacity:
            return tried
    if row.first("tp", "pp", "fsdp", "sharding", "zero_stage") is None:
        raise NotModelled("no layout is stated, and without one the model does not fit")
    return run


def choices(row: Measurement, layout: Layout, stated: object, layers: int) -> Iterator[tuple[int, Layout]]:
    """Yield the micro-batches and numbers of virtual stages that a row leaves open."""
    for micro in (int(str(stated)),) if stated else MICRO_BATCHES:
        yield micro, layout
        open_virtual = stated is None and layout.pp > 1 and layout.virtual_stages == 1 and "h100" in row.id
        for virtual in (2, 3, 4, 6) if open_virtual else ():
            if layers % (layout.pp * virtual) == 0:
                yield micro, replace(layout, virtual_stages=virtual, schedule="interleaved")


def _words(row: Measurement) -> str:
    return " ".join(row.text(key) for key in ("workload", "task", "method"))


def framework_of(row: Measurement) -> str:
    """Return the framework that a row names, or that its source is about."""
    text = " ".join([row.text("framework"), row.text("scheme"), row.source.lower(), row.id, row.text("hardware")])
    for pattern, name in FRAMEWORKS:
        if re.search(pattern, text):
            return name
    return "megatron-core"


def layout_of(row: Measurement, habits: Practice) -> Layout:
    """Return the layout that a row states, with what its framework does where it says nothing."""
    gpus = row.whole("num_gpus", "gpus")
    tp, pp, cp = row.whole("tp", default=1), row.whole("pp", default=1), row.whole("cp", default=1)
    if gpus % (tp * pp * cp):
        raise NotModelled(f"num_gpus = {gpus} is not divisible by tp·pp·cp = {tp * pp * cp}")
    virtual = row.whole("vpp", "virtual_pp", "interleave_stages", default=1) if pp > 1 else 1
    if virtual == 1 and pp > 1 and "interleaved" in row.text("technique"):
        virtual = 2  # torchtitan's interleaved schedule gives each rank two stages
    return Layout(
        tp=tp, pp=pp, cp=cp, ep=row.whole("ep", default=1), dp=gpus // (tp * pp * cp), zero=zero_of(row, habits),
        sequence_parallel=_sequence_parallel(row, habits, tp), virtual_stages=virtual,
        schedule="interleaved" if virtual > 1 else "1f1b",
        expert_tp=1 if row.whole("ep", default=1) > 1 else None,
    )  # fmt: skip


def _sequence_parallel(row: Measurement, habits: Practice, tp: int) -> bool:
    stated = row.first("sequence_parallel")
    return tp > 1 and (habits.sequence_parallel if stated is None else bool(stated))


def zero_of(row: Measurement, habits: Practice) -> int:
    """Return the stage of ZeRO that a row states."""
    sharding = row.text("sharding")
    if sharding:
        return {"full_shard": 3, "hybrid_shard": 3, "shard_grad_op": 2}.get(sharding, 0)
    stage, fsdp = row.first("zero_stage", "zero"), row.first("fsdp")
    if stage is not None:
        return int(stage)
    if fsdp is not None and int(fsdp) > 1:
        return 3
    text = " ".join(row.text(key) for key in ("optimizer", "scheme", "parallelism"))
    if found := re.search(r"zero-?([0-3])", text):
        return int(found[1])
    return 3 if "fsdp" in text else habits.zero


def global_batch(row: Measurement, layout: Layout, context: int, micro: object) -> int | None:
    """Return the sequences of a step, from whichever figure the row states; None where it states none."""
    if (batch := row.first("global_batch_size")) is not None:
        return int(float(batch))
    tokens = row.first("batch_tokens", "tokens_per_step", "batch_tokens_per_iter")
    if tokens is not None:
        return max(1, round(_tokens(str(tokens)) / context))
    if (local := row.first("local_batch_size")) is not None:
        return int(local) * layout.dp
    if micro is not None:
        return int(str(micro)) * layout.dp * row.whole("grad_accum", "grad_accumulation", "micro_batches", default=1)
    return None


def _tokens(text: str) -> float:
    """Read ``524288``, ``0.5M`` or ``2M (2048*1024)``."""
    if product := re.search(r"(\d+)\s*\*\s*(\d+)", text):
        return int(product[1]) * int(product[2])
    found = re.match(r"\s*([\d.]+)\s*([KMB]?)", text)
    if not found:
        raise NotModelled(f"batch_tokens = {text!r} is not a number")
    return float(found[1]) * {"": 1, "K": 2**10, "M": 2**20, "B": 2**30}[found[2]]


def precision_of(row: Measurement) -> str:
    """Return the recipe that products with weights are done in."""
    text = f"{row.text('precision')} {row.text('technique')}"
    if re.search(r"nvfp4|fp4", text):
        return "nvfp4"
    if re.search(r"mxfp8|fp8-mx", text):
        return "mxfp8"
    if re.search(r"fp8|float8", text):
        return "fp8"
    return "fp16" if "fp16" in text else "bf16"


def recompute_of(row: Measurement) -> Recompute | None:
    """Return what a row says is computed again, or None where it says nothing."""
    stated = row.first("activation_checkpointing")
    if stated is not None:
        return "full" if stated is True or str(stated).lower() in ("true", "full") else "none"
    text = row.text("recompute")
    if not text:
        return None
    return "full" if text.startswith("full") else "selective" if text.startswith("select") else "none"


# ---- from a step to the row's unit


def _time(row: Measurement, run: Run, time: StepTime) -> float:
    return time.iteration / unit_of(row, SECONDS)


def _per_gpu(row: Measurement, run: Run, time: StepTime) -> float:
    return run.tokens / time.iteration / run.layout.gpus


def _tokens_per_second(row: Measurement, run: Run, time: StepTime) -> float:
    return run.tokens / time.iteration


def _achieved(row: Measurement, run: Run, time: StepTime) -> float:
    """Return TFLOP/s per GPU by the convention of the source."""
    return stated_flops(row, run) / time.iteration / run.layout.gpus / 1e12


def _utilisation(row: Measurement, run: Run, time: StepTime) -> float:
    """Return the utilisation in percent: FLOPs by the source's convention over the peak that it divides by."""
    peak = run.accelerator.peak("fp8" if run.precision == "fp8" else "bf16")
    return 100 * stated_flops(row, run) / time.iteration / run.layout.gpus / peak


_RATES: Mapping[str, Callable[[Measurement, Run, StepTime], float]] = {
    "iteration_time": _time,
    "step_time": _time,
    "tokens_per_second_per_gpu": _per_gpu,
    "tokens_per_second": _tokens_per_second,
    "mfu": _utilisation,
    "achieved_flops_per_gpu": _achieved,
}


def stated_flops(row: Measurement, run: Run) -> float:
    """Return the FLOPs of one step as the row's source counts them.

    Every source here charges attention with all pairs (no causal halving). Narayanan et al. 2021 (arXiv:2104.04473,
    equation 3) count the recomputed forward pass too: 96·b·s·l·h² instead of 72.
    """
    again = 4 / 3 if "narayanan" in row.id and run.recompute == "full" else 1
    return again * float(run.model.training_flops(run.context, run.global_batch, causal=False))


# ---- whole trainings

WHOLE = {"gpu_hours": 1.0, "gpu_hours_pretraining": 1.0, "gpu_hours_total": 1.0}
LASTS = {"training_days": 86_400.0, "training_hours": 3_600.0}
EXTRAPOLATED = "training_days_300B_tokens"
"""Days that authors computed from the throughput of some steps."""

AVAILABLE = 0.9
"""Share of a long run's time in which it makes progress; "higher than 90 %" (Llama 3, arXiv:2407.21783 §3.3.4)."""


@cache
def campaigns() -> Mapping[str, Mapping[str, Any]]:
    """Return what is published about whole trainings: devices, batch, layout, tokens, by name of the model."""
    path = presets_folder() / "measurements" / "campaigns.toml"
    listed = tomllib.loads(path.read_text("utf-8"))["campaign"]
    return {compact(name): entry for entry in listed for name in entry["models"]}


def whole_run(row: Measurement) -> float:
    """Return the GPU hours of a whole training, or how long it lasts in the row's unit.

    What the row leaves open is taken from what is published about the training; where that leaves the layout open, the
    fastest that fits is taken.
    """
    known = campaigns().get(compact(str(row.first("model") or "")), {})
    tokens = _total_tokens(row, known)
    if row.first("layers", "hidden") is not None and row.first("num_gpus") is not None and not known:
        rate, gpus = _speed(row), row.whole("num_gpus")
    else:
        rate, gpus = _campaign_speed(row, known)
    seconds = tokens / rate / AVAILABLE
    return seconds * gpus / 3600 if row.metric in WHOLE else seconds / LASTS[row.metric]


def _total_tokens(row: Measurement, known: Mapping[str, Any]) -> float:
    stated = row.first("total_tokens", "tokens")
    if stated is None and row.first("tokens_billion") is not None:
        stated = 1e9 * float(row.first("tokens_billion"))
    if stated is None and row.first("max_iters") is not None:
        stated = float(row.first("max_iters")) * _tokens(str(row.first("batch_tokens_per_iter", "batch_tokens")))
    stated = known.get("tokens", stated)
    if stated is None:
        raise NotModelled("how many tokens were trained on is not stated")
    return float(stated)


def _speed(row: Measurement) -> float:
    """Return tokens per second of the run that a row describes."""
    run, time = fastest(row)
    return run.tokens / time.iteration


@cache
def _searched(model: str, device: str, gpus: int, batch: int, context: int, precision: str, framework: str) -> float:
    answer = train(
        load(model), find_accelerator(device), gpus, global_batch=batch, context=context, precision=precision,
        framework=framework, search=True,
    )  # fmt: skip
    return answer.tokens_per_second


def _campaign_speed(row: Measurement, known: Mapping[str, Any]) -> tuple[float, int]:
    """Return (tokens per second, devices) of a published training."""
    if not known:
        raise NotModelled("devices and batch of the whole training are neither stated nor known")
    device = str(row.first("hardware") or known["accelerator"])
    gpus, context = int(known["gpus"]), int(known["context"])
    precision, framework = str(known.get("precision", "bf16")), str(known.get("framework", "megatron-core"))
    name = model_of(row).name
    if "tp" not in known:
        batch = int(known["batch_tokens"]) // context
        return _searched(name, device, gpus, batch, context, precision, framework), gpus
    degrees: dict[str, Any] = {
        key: int(known[key]) for key in ("tp", "pp", "ep", "zero", "virtual_stages", "micro_batch") if key in known
    }
    if degrees.get("ep", 1) > 1:
        degrees["expert_tp"] = 1
    answer = train(
        load(name), find_accelerator(device), gpus, global_batch=int(known["batch_tokens"]) // context,
        context=context, precision=precision, framework=framework, recompute=known.get("recompute", "none"), **degrees,
    )  # fmt: skip
    return answer.tokens_per_second, gpus
