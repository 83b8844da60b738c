"""Memory of one device while a model is trained on many: weights, gradients, optimizer, activations, and the rest."""

from __future__ import annotations

from calc.memory.frameworks import Framework, load_framework
from calc.memory.optimizers import OPTIMIZERS, PRECISIONS
from calc.memory.training import Run, TrainingMemory, memory_of, training_memory

__all__ = [
    "OPTIMIZERS", "PRECISIONS", "Framework", "Run", "TrainingMemory", "load_framework", "memory_of", "training_memory",
]  # fmt: skip
