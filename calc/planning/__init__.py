"""Capacity planning: the cheapest deployments that meet objectives, from traffic to devices and money."""

from __future__ import annotations

from calc.planning.answer import Choice, Plan, Rejected
from calc.planning.api import plan
from calc.planning.demand import Demand, Lengths, Objectives
from calc.planning.fleets import Fleet, fleet

__all__ = ["Choice", "Demand", "Fleet", "Lengths", "Objectives", "Plan", "Rejected", "fleet", "plan"]
