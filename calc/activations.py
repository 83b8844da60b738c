"""Activation functions, and what one costs per element."""

from __future__ import annotations

from typing import Literal, TypeAlias

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "sigmoid", "identity", "xielu", "situ"]
Needs: TypeAlias = tuple[str, ...] | Literal["operands", "result"]

ACTIVATION_FLOPS: dict[str, int] = {
    "identity": 0,
    "relu": 1,  # one comparison
    "relu2": 2,  # and a square
    "sigmoid": 3,  # exp, add, divide
    "silu": 4,  # x · sigmoid(x)
    "quick_gelu": 5,  # x · sigmoid(1.702 x)
    "gelu": 5,  # x/2 · (1 + erf(x/√2)): divide, erf, add, two products
    "gelu_tanh": 9,  # x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))): cube 2, scale, add, scale, tanh, add, halve, product
    "situ": 7,  # c tanh(x/c) · sigmoid(x): divide, tanh, scale, 3, product
    "xielu": 9,  # β x + (α_p x² or α_n (exp(min(x, ε)) − 1 − x)), both branches: scale 1 and 2, add; 5
}
"""FLOPs per element, a transcendental function counting as one."""

ACTIVATION_NEEDS: dict[str, tuple[Needs, Needs | None, int]] = {
    "identity": ((), None, 0),
    "relu": ("result", None, 0),
    "relu2": ("operands", (), 1),  # the relu, which both its steps need
    "sigmoid": ("result", None, 0),
    "silu": ("operands", None, 0),
    "quick_gelu": ("operands", None, 1),  # the sigmoid
    "gelu": ("operands", None, 0),
    "gelu_tanh": ("operands", None, 0),
    "situ": ("operands", (), 3),  # tanh, that times c, sigmoid
    "xielu": ("operands", None, 2),  # α_p x, and exp(min(x, ε)) − 1
}
"""What the derivative needs, what separate kernels keep in place of it, and how many results inside them as well."""
