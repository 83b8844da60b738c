"""Published scaling laws over the cost that the tables count: sizes for budgets, experts, lengths of attention."""

from __future__ import annotations

from calc.scaling.rivals import lengths
from calc.scaling.views import curve, routed_laws, scale
from calc.scaling.widening import experts, granular_optimum

__all__ = ["curve", "experts", "granular_optimum", "lengths", "routed_laws", "scale"]
