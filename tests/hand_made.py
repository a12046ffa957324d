"""Scenarios made by hand, for tests of what is baked and drawn of a map."""

from __future__ import annotations

import numpy as np

from countersteer.scenarios.scenario import MapFeature, Provenance, RoadMap, Scenario, Signals, Tracks


def scenario(*features: MapFeature, route: np.ndarray | None = None) -> Scenario:
    """A map with nobody on it."""
    tracks = Tracks(
        ids=(),
        kind=np.zeros(0, np.int64),
        position=np.zeros((0, 2, 3)),
        heading=np.zeros((0, 2)),
        velocity=np.zeros((0, 2, 2)),
        size=np.zeros((0, 3)),
        valid=np.zeros((0, 2), bool),
    )
    signals = Signals.none(2)
    provenance = Provenance("test", "test", "none", "none")
    return Scenario(
        id="hand-made",
        times=np.array([0.0, 1.0]),
        road=RoadMap(features),
        tracks=tracks,
        ego=None,
        route=route,
        signals=signals,
        provenance=provenance,
    )
