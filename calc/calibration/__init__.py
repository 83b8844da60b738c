"""Measuring a device: the constants of the time model for the machine at hand, and how far off they leave it.

``calibrate`` measures matrix products, attention, memory and launches, fits the constants of ``calc.roofline``, judges
them on points that took no part in the fit and on whole layers, and returns what ``--calibration`` reads.
"""

from __future__ import annotations

from calc.calibration.report import calibrate, record_calibration

__all__ = ["calibrate", "record_calibration"]
