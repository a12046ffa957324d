"""Drives and streets that come with the package; `NOTICE` beside each says whose they are and under which licence."""

from __future__ import annotations

import dataclasses
from importlib.resources import as_file, files

from countersteer.scenarios.network import RoadNetwork
from countersteer.scenarios.scenario import Scenario

__all__ = ["recorded_drive", "san_francisco"]


def recorded_drive() -> Scenario:
    """One recorded minute of a commute (comma2k19, MIT): about 1 km at 8 to 20 m/s, 20 poses a second.

    The recording has no map and no other road users.
    """
    from countersteer.data.readers import comma2k19

    with as_file(files(__name__) / "comma2k19") as folder:
        drive = comma2k19.READER.read(folder)
    # Where the package is installed is nobody's business, and would differ from machine to machine.
    provenance = dataclasses.replace(drive.provenance, path="countersteer.data.samples/comma2k19")
    return dataclasses.replace(drive, id="comma2k19-2018-08-02-40", provenance=provenance)


def san_francisco() -> RoadNetwork:
    """Streets of downtown San Francisco (LGSVL, Apache-2.0): 110 lane km, 88 junctions with lights."""
    from countersteer.data.roads import read

    with as_file(files(__name__) / "san_francisco" / "network.npz") as path:
        return read(path)
