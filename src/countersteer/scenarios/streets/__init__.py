"""Drives cut from a street network, filled with traffic: `street_drive`, one seed, one scenario."""

from __future__ import annotations

from countersteer.scenarios.streets.drives import street_drive
from countersteer.scenarios.streets.ways import Streets

__all__ = ["Streets", "street_drive"]
