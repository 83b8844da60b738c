"""Measured collectives: all-reduces and their kin by operation, ranks and message size."""

from __future__ import annotations

from typing import Final

from calc.measured.rows import Measurement, NotModelled, Prediction
from calc.measured.setups import device_of
from calc.measured.units import BYTE_RATES, SECONDS, stated_in, unit_of
from calc.network import CONSTANTS, Library, collective_time
from calc.parallel import Collective
from calc.parallel.collective import Kind

KINDS: Final[tuple[tuple[tuple[str, ...], Kind], ...]] = (
    (("all_reduce", "allreduce"), "all_reduce"),
    (("all_gather", "allgather"), "all_gather"),
    (("reduce_scatter", "reducescatter"), "reduce_scatter"),
    (("all_to_all", "alltoall", "all2all"), "all_to_all"),
    (("send", "recv", "p2p", "point_to_point"), "send_recv"),
)
WIDTHS: Final = {
    "fp16": 2, "half": 2, "float16": 2, "bf16": 2, "bfloat16": 2, "fp32": 4, "float": 4, "int8": 1, "fp8": 1,
}  # fmt: skip
"""Format → bytes of an element."""


def predict(row: Measurement) -> Prediction | None:
    """Return the time or the bandwidth of a collective; None for another operator.

    Raises:
        NotModelled: ranks (two send and receive), size or device are not stated, or no link of it joins so many.
    """
    op = row.text("op", "operator", "operation", "collective").replace("-", "_").replace(" ", "_")
    kind = next((kind for words, kind in KINDS if any(word in op for word in words)), None)
    if kind is None:
        return None
    default = 2 if kind == "send_recv" else None
    ranks = row.whole("num_gpus", "n_gpus", "gpus", "world_size", "num_ranks", "ranks", "tp", default=default)
    call = Collective(kind=kind, bytes=_size(row), size=ranks, axis="tp", after=op, direction="forward")
    library: Library = "custom" if "custom" in op else "nccl"
    seconds = collective_time(call, device_of(row), library=library)
    if "vidur" in row.source.lower() or "eager" in row.text("launch", "mode"):
        # timed call by call from PyTorch: the host's time to issue one is the least that it can show
        seconds = max(seconds, CONSTANTS.host_s)
    return Prediction("operator.collective", _in_unit(row, call, float(seconds)))


def _size(row: Measurement) -> int:
    """Return the message's bytes, in nccl-tests' convention: the whole tensor."""
    if row.first("message_bytes", "size_bytes", "bytes", "size") is not None:
        return row.whole("message_bytes", "size_bytes", "bytes", "size")
    elements = row.whole("message_elements", "elements", "message_size")
    form = row.text("dtype", "nccl_dtype", "data_type", "precision")
    if form not in WIDTHS:
        raise NotModelled(f"the message's size in bytes is not stated, nor a format that is known ({form or 'none'})")
    return elements * WIDTHS[form]


def _in_unit(row: Measurement, call: Collective, seconds: float) -> float:
    """Return a time as the row states it: as a time, or as the algorithm's or the bus bandwidth."""
    if stated_in(row, SECONDS):
        return seconds / unit_of(row, SECONDS)
    if stated_in(row, BYTE_RATES):
        moved = call.sent if "bus" in row.metric else call.bytes
        return float(moved / seconds / unit_of(row, BYTE_RATES))
    raise NotModelled(f"{row.metric} in {row.unit} is neither a time nor a bandwidth")
