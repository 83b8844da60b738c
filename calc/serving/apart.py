"""Prompts read by other devices than those that decode: the wait in front of them, the way of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calc.algebra import Number, minimum
from calc.serving.steady import NEARLY

if TYPE_CHECKING:
    from calc.serving.deployment import Deployment


def prompt_wait(load: Number, each: Number, variation: Number) -> Number:
    """Return the mean wait before a copy that only reads prompts: M/G/1, ρ/(1 − ρ) · S · (1 + cv²)/2.

    ``each``: seconds S of one prompt; ``variation``: coefficient of variation of that time. Pollaczek–Khinchine
    (Kleinrock 1975, "Queueing Systems" I §5.6). Takes numbers or numpy arrays.

    >>> prompt_wait(0.5, 2.0, 1.0)  # M/M/1: ρ/(1 − ρ) · S
    2.0
    """
    load = minimum(load, NEARLY)
    return load / (1 - load) * each * (1 + variation**2) / 2


def transfer_s(deployment: Deployment, input_tokens: Number, gpus: int) -> float:
    """Return the seconds in which a prompt's cache moves among ``gpus`` devices: each rank sends its share.

    Raises:
        CalcError: no link is stated that joins so many devices.
    """
    device = deployment.accelerator
    span = device.node_size + 1 if gpus > device.node_size else gpus
    held = deployment.capacity(input_tokens)
    return float(held.logical_bytes) / float(device.link(span).bytes_per_s)
