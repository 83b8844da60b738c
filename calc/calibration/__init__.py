"""Measuring a device: the constants of the time model for the machine at hand, and how far off they leave it.

``calibrate`` measures matrix products, attention, memory, launches, and exchanges where several devices are; it fits
the constants of ``calc.roofline`` and ``calc.network``, judges them on points that took no part in the fit and on whole
layers, and returns a device that has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from calc.checks import listed
from calc.errors import MissingExtra
from calc.progress import Progress
from calc.results import Result


def calibrate(
    device: Literal["cpu", "cuda"] = "cpu",
    *,
    seconds: float | None = None,
    forms: str | Sequence[str] = (),
    threads: int | None = None,
    ranks: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure a device for about ``seconds`` (45 on a CPU, 120 on a GPU) and fit the constants of the time model.

    ``forms``: the formats of products and attention, by default fp32 on a CPU and bf16 on a GPU. ``threads``: of a CPU,
    by default PyTorch's number. ``ranks``: among how many exchanges are measured, CUDA devices (by default all) or
    processes of a CPU (by default 1, none). The result holds the device, its constants, the errors on points that were
    not fitted, whole layers predicted and measured in the same run, and every measurement. ``record_calibration``
    writes it; its file is an accelerator, for whatever takes one.

    Raises:
        MissingExtra: PyTorch is not installed.
        SpecError: there is no such device; the time does not suffice.
    """
    if find_spec("torch") is None:
        raise MissingExtra("calibration needs PyTorch: pip install 'transformer-calc[torch]'")
    from calc.calibration.report import measure

    return measure(device, seconds, tuple(listed(forms)), threads, ranks, progress)


def record_calibration(result: Result, path: str | Path) -> Path:
    """Write the file of a calibration; an existing one is replaced in one step.

    Raises:
        SpecError: the folder does not exist or cannot be written to.
    """
    from calc.calibration.report import write

    return write(result, path)
