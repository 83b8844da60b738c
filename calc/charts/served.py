"""What charts of serving ask: the same prompts and answers of each deployment, over the number of its users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calc.charts.chart import Asked
from calc.errors import CalcError
from calc.hardware import Accelerator
from calc.serving import Serving, serve

INPUT, OUTPUT = 2048, 256


def over_users(
    asked: Asked, device: Accelerator, gpus: int, users: Iterable[int], tp: int | None = None
) -> Iterator[Serving]:
    """Yield a deployment under more and more users, up to where it cannot be; without a load where it does not fit."""
    for each in users:
        try:
            yield serve(
                asked.models[0],
                device,
                gpus=gpus,
                tp=tp,
                input_tokens=INPUT,
                output_tokens=OUTPUT,
                concurrency=each,
                weights_dtype=asked.weights_dtype,
                cache_dtype=asked.cache_dtype or "bf16",
            )
        except CalcError:
            return
