"""Training memory: rows that say how much of a device a training run takes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

from calc.catalog import presets_folder
from calc.errors import CalcError
from calc.identify import find_accelerator
from calc.measured.models import compact, model_of
from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.units import BYTES, stated_in, unit_of
from calc.memory import Run, TrainingMemory, load_framework, memory_of
from calc.memory.shape import bytes_of, place, shapes
from calc.memory.training import untied
from calc.parallel import Layout
from calc.records import replace
from calc.saved import Adapters, Keeping, Recompute
from calc.units import GIB

QUANTITY = "training.memory"

FRAMEWORKS: Mapping[str, str] = {
    "megatron-deepspeed": "megatron-deepspeed",
    "bigscience": "megatron-deepspeed",
    "torchtitan": "torchtitan",
    "torchtune": "torchtune",
    "litgpt": "litgpt",
    "megatron": "megatron",
    "simumax": "megatron",
    "korthikanti": "megatron",
    "nemo": "megatron",
}
"""Words in a row's framework or source → the framework's preset; the first that is found."""

ATTENTION = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TORCHTUNE = ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""lora_attn_modules of torchtune's recipes, and its apply_lora_to_mlp."""


def predict(row: Measurement) -> Prediction | None:
    """Return the memory of a training run in the row's unit, or None for rows that are not about one.

    Raises:
        NotModelled: the row lacks what the model needs, or cannot be as it is described.
    """
    metric = row.metric.lower()
    if "memory" not in metric and "optimizer" not in metric:
        return None
    if "inference" in row.text("task") and framework_of(row) == "litgpt":
        return Prediction("serving.memory", _generating(row) / unit_of(row, BYTES))
    if _serves(row):
        return None
    if "pct_of" in metric:
        return Prediction(QUANTITY, 100 * _share_of_baseline(row))
    if not stated_in(row, BYTES):
        return None
    run, micro_batch = _run(row)
    if "activation" in metric:
        return Prediction(QUANTITY, _activations(run, micro_batch) / unit_of(row, BYTES))
    if "parameter" in metric or "optimizer" in metric:
        return Prediction(QUANTITY, _states(run) / unit_of(row, BYTES))
    memory = memory_of(run, micro_batch)
    if framework_of(row) == "litgpt":
        _possible(row, memory)
    return Prediction(QUANTITY, _shown(row, memory) / _unit(row))


def _serves(row: Measurement) -> bool:
    """Tell whether a row is about an inference engine."""
    return bool(row.first("engine")) or "inference" in row.text("task") or "kv" in row.metric.lower()


def _unit(row: Measurement) -> float:
    """Return the bytes of the row's unit; nvidia-smi's GB are GiB."""
    if "first_or_last_stage" in row.metric:
        return GIB
    return unit_of(row, BYTES)


def _shown(row: Measurement, memory: TrainingMemory) -> float:
    """Return which figure a row shows: allocated, reserved, or all that the driver counts."""
    metric, source = row.metric.lower(), row.source.lower()
    if "first_or_last_stage" in metric or "nvidia_smi" in metric:
        return float(memory.total)
    if "allocated" in metric or "litgpt" in source:  # which prints max_memory_allocated
        return float(memory.allocated)
    return float(memory.reserved)


# ---- what was run


def framework_of(row: Measurement) -> str:
    """Return the preset of the framework that a row names.

    Raises:
        NotModelled: none is known.
    """
    told = f"{row.text('framework')} {row.source.lower()}"
    for word, name in FRAMEWORKS.items():
        if word in told:
            return name
    raise NotModelled(f"no framework is known that {row.source!r} names")


def _run(row: Measurement) -> tuple[Run, int]:
    """Return how a row's model was trained, and the sequences of a micro-batch."""
    framework = framework_of(row)
    if framework == "litgpt":
        return _litgpt(row)
    if framework == "torchtune":
        return _torchtune(row)
    layout = _layout(row, framework)
    micro_batch = row.whole("micro_batch_size", "micro_batch", default=1)
    if framework == "torchtitan" and row.first("local_batch_size") is not None:
        # the local batch is cut into as many micro-batches as there are stages (pipeline_parallel_microbatches)
        micro_batch = max(1, row.whole("local_batch_size") // layout.pp)
    old = "korthikanti" in row.source.lower() or framework == "megatron-deepspeed"
    return Run(
        model=model_of(row),
        layout=layout,
        context=row.whole("seq_len", "sequence_length"),
        micro_batches=_micro_batches(row, layout, micro_batch),
        recompute=_recompute(row),
        precision=_precision(row),
        framework=framework,
        attention="eager" if old else None,
        dropout="korthikanti" in row.source.lower(),
        fused="compile" in row.text("technique", "compile") if framework == "torchtitan" else None,
        async_tensor_parallel="asynctp" in row.text("technique"),
        fused_loss=bool(row.first("cross_entropy_fusion")) if framework == "megatron" else True,
        # SimuMax's scripts run Megatron with --cp-comm-type a2a (simu_tools/megatron_scripts/scripts)
        exchange="all_to_all" if "simumax" in row.source.lower() or "a2a" in row.text("cp_comm_type") else None,
    ), micro_batch


def _layout(row: Measurement, framework: str) -> Layout:
    tp, pp, cp = (row.whole(name, default=1) for name in ("tp", "pp", "cp"))
    ep = row.whole("ep", default=1)
    gpus = row.whole("num_gpus", "gpus", default=0)
    dp = row.whole("dp", default=0) or max(1, gpus // (tp * pp * cp))
    fsdp = row.first("fsdp")
    if fsdp is not None:
        dp = max(1, int(fsdp) // (cp if int(fsdp) * tp * pp == gpus and cp > 1 else 1))
    virtual = row.whole("interleave_stages", "virtual_stages", "vpp", default=1)
    if "interleaved" in row.text("technique", "schedule") and virtual == 1:
        virtual = 2
    return Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        ep=ep,
        dp=dp,
        zero=_zero(row, framework),
        sequence_parallel=bool(row.first("sequence_parallel")) or framework == "torchtitan",
        expert_tp=row.first("etp", "expert_tp") or (1 if ep > 1 else None),
        virtual_stages=virtual if pp > 1 else 1,
        schedule="interleaved" if virtual > 1 and pp > 1 else "1f1b",
        vocab_multiple=128 if framework.startswith("megatron") else 1,
    )


def _zero(row: Measurement, framework: str) -> int:
    stage = row.first("zero_stage", "zero")
    if stage is not None:
        return int(stage)
    optimizer = row.text("optimizer")
    if "zero-" in optimizer or "distributed optimizer" in optimizer:
        found = re.search(r"zero-?(\d)", optimizer)
        return int(found[1]) if found else 1
    return 3 if framework == "torchtitan" or row.first("fsdp") is not None else 0


def _micro_batches(row: Measurement, layout: Layout, micro_batch: int) -> int:
    stated = row.first("micro_batches", "micro_batches_per_dp_rank", "micro_batch_count")
    if stated is not None:
        return int(stated)
    local = row.first("local_batch_size")
    if local is not None and layout.pp > 1:
        return max(1, int(local) // micro_batch)
    batch = row.first("global_batch_size")
    return max(1, int(batch) // (layout.dp * micro_batch)) if batch is not None and local is None else 1


def _recompute(row: Measurement) -> Recompute:
    text = row.text("recompute", "activation_checkpointing")
    if "selective" in text:
        # torchtitan's "selective" is by operation (selective_ac_option = "op"), Megatron's the attention's core
        return "products" if framework_of(row) == "torchtitan" else "selective"
    return "full" if "full" in text else "none"


def _precision(row: Measurement) -> str:
    text = row.text("precision", "dtype")
    if "true" in text:
        return "bf16-true"
    return "fp16" if "fp16" in text else "bf16"


# ---- Korthikanti's figures


def _activations(run: Run, micro_batch: int) -> float:
    """Return what the first stage keeps."""
    return float(memory_of(run, micro_batch, stage=0).activations)


def _states(run: Run) -> float:
    """Return weights, gradients and optimizer of the average device."""
    stages = [memory_of(run, 1, stage=index) for index in range(run.layout.pp)]
    return float(sum(each.weights + each.gradients + each.optimizer for each in stages) / len(stages))


def _share_of_baseline(row: Measurement) -> float:
    """Return a run's activations over those of tensor parallelism alone without recomputation."""
    run, micro_batch = _run(row)
    plain = replace(run, recompute="none", layout=replace(run.layout, sequence_parallel=False))
    return _activations(run, micro_batch) / _activations(plain, micro_batch)


# ---- fine-tuning on one device


@cache
def _hub() -> dict[str, Any]:
    return tomllib.loads((presets_folder() / "measurements" / "litgpt.toml").read_text("utf-8"))


def _possible(row: Measurement, memory: TrainingMemory) -> None:
    """Refuse a run that its device cannot hold: what was measured is then not what the row says."""
    held = memory.weights + memory.optimizer + memory.gradients
    if held > _capacity(row):
        raise NotModelled(
            f"weights, gradients and optimizer alone take {held / GIB:.0f} GiB, more than {row.first('hardware')} has: "
            "the row does not say what was left out"
        )


def _devices(row: Measurement) -> int:
    found = re.match(r"\s*(\d+)\s*x", row.text("hardware"))
    return row.whole("num_gpus", default=int(found[1]) if found else 1)


def _litgpt(row: Measurement) -> tuple[Run, int]:
    task = row.text("task", "method")
    hub = row.first("config") is not None
    # a configuration of the hub says itself on how many devices it runs, whatever the machine holds
    devices = _hub_entry(row)["devices"] if hub and "full" in task else 1 if hub else _devices(row)
    form = _quantised(row)
    full = "full" in task
    run = Run(
        model=model_of(row),
        layout=Layout(dp=devices, zero=3 if devices > 1 else 0),
        context=row.whole("longest_example_tokens", "seq_len"),
        micro_batches=2,  # gradients of earlier micro-batches wait
        recompute="full" if devices > 1 else "none",
        precision="bf16-true",
        framework="litgpt",
        adapters=None if full else _litgpt_adapters(row, task, quantised=form is not None),
        frozen_form=form,
    )
    return run, row.whole("micro_batch_size")


def _hub_entry(row: Measurement) -> dict[str, Any]:
    """Return what LitGPT's configuration of a row's model sets."""
    found = dict(_hub()["default"])
    if row.first("config") is not None:
        key = compact(str(row.first("model")))
        for entry in _hub()["config"]:
            if key in map(compact, entry["models"]):
                found |= entry
    return found


GENERATED = 50
"""New tokens of LitGPT's generate script by default, which allocates the cache for them and the prompt."""
PROMPT = 8
"""Tokens of its default prompt, "What food do llamas eat?"."""


def _generating(row: Measurement) -> float:
    """Return what LitGPT's generate script holds: weights, cache, and of quantised ones the largest matrix in 16 bits.

    bitsandbytes quantises linear layers, the head among them, and dequantises one while it multiplies.
    """
    model, form = untied(model_of(row)), _quantised(row)
    weights = largest = 0
    for shape in shapes(model, Layout(), PROMPT, Keeping(), "none", 0, mtp=False).values():
        repeat = next(block.repeat for block in model.blocks() if place(block) == shape.path)
        for stored in shape.stored:
            frozen = form is not None and stored.matrix and not stored.looked_up
            weights += repeat * (bytes_of(form, stored) if frozen and form else 2 * stored.elements)
            largest = max(largest, 2 * stored.elements if frozen else 0)
    copies = load_framework("litgpt").dequantised_copies
    return float(weights + copies * largest + model.cache(PROMPT + GENERATED).bytes)


def _quantised(row: Measurement) -> str | None:
    """Return the number format of a row's quantised weights, or None."""
    text = row.text("quantization")
    if "nf4" not in text and "qlora" not in row.text("task", "method"):
        return None
    return "nf4" if "dq" in text else "nf4-single"


def _litgpt_adapters(row: Measurement, task: str, *, quantised: bool) -> Adapters:
    if "adapter v2" in task or "adapter_v2" in task:
        return Adapters(kind="scale", rank=10)
    if "adapter" in task:
        return Adapters(kind="prompt", rank=10)
    found = _hub_entry(row)
    rank = found["quantised_rank"] if quantised and "quantised_rank" in found else found["rank"]
    return Adapters(rank=rank, targets=ALL if found["adapted"] == "all" else ATTENTION, dropout=found["dropout"])


def _torchtune(row: Measurement) -> tuple[Run, int]:
    method = row.text("method")
    devices = _devices(row)
    low_rank = "lora" in method
    offload = "offload" in method
    run = Run(
        model=model_of(row),
        layout=Layout(dp=devices, zero=3 if devices > 1 else 0),
        context=row.whole("seq_len"),
        micro_batches=1,
        precision="bf16-true",
        optimizer="adam" if low_rank or devices > 1 else "paged-adam8bit",
        framework="torchtune",
        adapters=Adapters(rank=16 if devices > 1 else 8, targets=TORCHTUNE) if low_rank else None,
        frozen_form="nf4" if "qlora" in method else None,
        step_in_backward=not low_rank and devices == 1,
        offload=offload,
    )
    batch = row.whole("batch_size", "micro_batch_size")
    if row.first("recompute", "activation_checkpointing") is not None:
        return replace(run, recompute=_recompute(row)), batch
    # recipes recompute unless the device has room not to
    fits = memory_of(run, batch).total <= _capacity(row)
    return (run if fits else replace(run, recompute="full")), batch


def _capacity(row: Measurement) -> float:
    try:
        return float(find_accelerator(row.text("hardware")).memory_bytes)
    except CalcError as error:
        raise NotModelled(f"recompute is not stated, and neither is the device's memory: {error}") from None
