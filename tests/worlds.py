"""Worlds for tests, from settings named flat: each goes to the simulation, the renderer or the sensors it belongs to."""

from __future__ import annotations

import dataclasses
from typing import Any

from countersteer.geometry.cameras import Camera
from countersteer.worlds.bridges.metadrive.simulation import MetaDriveSpec
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.renderers.reprojection.renderer import ReprojectionRendererSpec
from countersteer.worlds.simulation.recorded import RecordedSimulationSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


def boxworld(**settings: Any) -> WorldSpec:
    """Cars on roads drawn as boxes; `cameras` (one by default), `vector`, `looks` and `shift` beside the simulation's settings."""
    return _world(RoadSimulationSpec, BoxRendererSpec, settings)


def reprojected(**settings: Any) -> WorldSpec:
    """A recorded drive seen through reprojection."""
    return _world(RecordedSimulationSpec, ReprojectionRendererSpec, settings)


def in_metadrive(**settings: Any) -> WorldSpec:
    """MetaDrive drawn as boxes."""
    return _world(MetaDriveSpec, BoxRendererSpec, settings)


def changed(spec: WorldSpec, **settings: Any) -> WorldSpec:
    """The world with settings replaced, named flat too."""
    sensors = spec.sensors
    if "cameras" in settings:
        sensors = (*settings.pop("cameras"), *(s for s in sensors if not isinstance(s, Camera)))
    if "vector" in settings:
        vector = settings.pop("vector")
        sensors = (*(s for s in sensors if s.name != "vector"), *((vector,) if vector is not None else ()))
    drawn = {f.name for f in dataclasses.fields(spec.renderer)} if spec.renderer is not None else set()  # type: ignore[arg-type]
    own = {name: settings.pop(name) for name in list(settings) if name in ("twin", "renderer")}
    rendering = {name: settings.pop(name) for name in list(settings) if name in drawn}
    spec = dataclasses.replace(spec.simulate(**settings), sensors=sensors, **own)
    if rendering:
        spec = dataclasses.replace(spec, renderer=dataclasses.replace(spec.renderer, **rendering))  # type: ignore[type-var]
    return spec


def _world(simulation: Any, renderer: Any, settings: dict[str, Any]) -> WorldSpec:
    settings = {"cameras": (Camera(),)} | settings
    return changed(WorldSpec(simulation(), renderer()), **settings)


__all__ = ["AppearanceRandomization", "boxworld", "changed", "in_metadrive", "reprojected"]
