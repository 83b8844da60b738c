"""Training objectives and what they cost: next token, contrast, preferences, distillation, continual updates."""

from __future__ import annotations

from calc.objectives.plans import OBJECTIVES
from calc.objectives.views import objective

__all__ = ["OBJECTIVES", "objective"]
