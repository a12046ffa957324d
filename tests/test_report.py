"""Films and the report, on drives made up here."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.film import FILM_SIZE, film
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)
from countersteer.worlds.interface import Cause, Command

LANE = 3.6


def a_road(turn: float) -> tuple[RoadMap, np.ndarray]:
    """Two lanes of 400 m that turn at `turn` [1/m] after 60 m, and the path along the right one."""
    arc = np.arange(-60.0, 340.0, 2.0)
    heading = np.where(arc < 60.0, 0.0, (arc - 60.0) * turn)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1) * 2.0, 0)
    path -= path[30]
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)

    def line(name: str, kind: MapKind, offset: float) -> MapFeature:
        points = path + left * offset
        return MapFeature(name, kind, np.column_stack([points, np.zeros(len(points))]), width=LANE)

    features = (
        line("right", MapKind.LANE, 0.0),
        line("left", MapKind.LANE, LANE),
        line("middle", MapKind.LINE_DASHED_WHITE, LANE / 2),
        line("border right", MapKind.LINE_SOLID_WHITE, -LANE / 2),
        line("border left", MapKind.LINE_SOLID_YELLOW, 1.5 * LANE),
        line("edge right", MapKind.ROAD_EDGE, -LANE / 2 - 0.4),
        line("edge left", MapKind.ROAD_EDGE, 1.5 * LANE + 0.4),
    )
    return RoadMap(features), path


def a_drive(
    *,
    turn: float = 0.004,
    drift: float = 0.0,
    ticks: int = 40,
    frames: tuple[int, int] | None = (64, 128),
    command_at: int | None = None,
) -> DriveRecord:
    """A car at 12 m/s whose distance from the path grows as `drift` t^2 [m]; beyond 2.2 m it leaves the road.

    Another car waits ahead, a cyclist is present for half of the time.
    """
    road, path = a_road(turn)
    times = np.arange(ticks) * 0.1
    arc = 12.0 * times
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=-1))])
    at = along[30] + arc
    tangent = np.gradient(path, axis=0)
    bearing = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    heading = np.interp(at, along, bearing)
    lateral = drift * times**2
    over = np.flatnonzero(np.abs(lateral) > 2.2)
    end = int(over[0]) if len(over) else ticks - 1
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)
    position = np.stack([np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])], -1)
    position = position + left * lateral[:, None]
    heading = heading + np.arctan2(2 * drift * times, 12.0)

    held = np.minimum(np.arange(ticks), end)  # what follows the end repeats it
    position, heading, lateral, arc = position[held], heading[held], lateral[held], arc[held]
    ahead = position[:, None] + np.stack([np.cos(heading), np.sin(heading)], -1)[:, None] * (
        np.arange(1, 13)[None, :, None] * 3.0
    )
    actors = np.full((ticks, 3, 7), -1.0)
    size = (4.6, 1.85)
    actors[:, 0] = np.column_stack([position, heading, np.tile([*size, 1.5, 0.0], (ticks, 1))])
    actors[:, 1] = [*path[80], bearing[80], 4.8, 1.9, 1.6, ActorKind.VEHICLE]
    actors[: ticks // 2, 2] = [*path[50] - [0.0, 2.8], bearing[50], 1.8, 0.6, 1.7, ActorKind.CYCLIST]
    command = np.full(ticks, int(Command.FOLLOW))
    if command_at is not None:
        command[command_at:] = Command.LEFT
    off = np.zeros(ticks, bool)
    cause = np.zeros(ticks, int)
    alive = np.arange(ticks) <= end
    if len(over):
        off[end] = True
        cause[end:] = Cause.OFF_ROAD
    pictures = None
    if frames is not None:
        pictures = np.zeros((ticks, *frames, 3), np.uint8)
        pictures[:] = np.linspace(40, 200, frames[0]).astype(np.uint8)[:, None, None]
    tracks = Tracks(
        ids=(),
        kind=np.zeros(0, int),
        position=np.zeros((0, ticks, 3)),
        heading=np.zeros((0, ticks)),
        velocity=np.zeros((0, ticks, 2)),
        size=np.zeros((0, 3)),
        valid=np.zeros((0, ticks), bool),
    )
    signals = Signals((), np.zeros((0, 3)), np.zeros(0), np.zeros((0, ticks), int))
    scenario = Scenario(
        id="made-up",
        times=times,
        road=road,
        tracks=tracks,
        ego=None,
        route=path,
        signals=signals,
        provenance=Provenance("test", "a_drive", "none needed", "0"),
    )
    none = np.zeros(ticks, bool)
    return DriveRecord(
        times=times,
        position=position,
        heading=heading,
        speed=np.where(alive, 12.0, 0.0),
        curvature=np.full(ticks, turn),
        acceleration=np.zeros(ticks),
        lateral=lateral,
        heading_error=np.zeros(ticks),
        arc=arc,
        command=command,
        alive=alive,
        cause=cause,
        collision=none,
        off_road=off,
        red_light=none,
        wrong_way=none,
        uncomfortable=none,
        collided_with=np.full(ticks, -1),
        plan=ahead,
        actors=actors,
        frames=pictures,
        path=path,
        size=size,
        scenario=scenario,
    )


def a_verdict(name: str, record: DriveRecord) -> CaseResult:
    """Fails where the drive left the road."""
    off = np.flatnonzero(record.off_road)
    when = float(record.times[off[0]]) if len(off) else None
    reason = "" if when is None else f"off road at {when:.1f} s, {record.lateral[off[0]]:.2f} m from the path"
    worst = {"largest offset [m]": float(np.abs(record.lateral).max())}
    return CaseResult(name, when is None, reason, when, worst)
