"""Training: memory of a device, time of a step, and the bill of a token budget."""

from __future__ import annotations

from calc.training.answer import Budget, Training
from calc.training.api import train
from calc.training.practice import Practice, load_practice
from calc.training.run import Run
from calc.training.step import StepTime, step_time

__all__ = ["Budget", "Practice", "Run", "StepTime", "Training", "load_practice", "step_time", "train"]
