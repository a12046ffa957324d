"""Drive, and keep a record of every car."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from countersteer.drivers.drivers import ExpertDriver, PolicyDriver
from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.evaluation.records import DriveRecord
from countersteer.experts.interface import Expert
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.geometry.poses import world_from_local
from countersteer.policies.interface import Policy
from countersteer.rollouts.rollouter import Rollouter
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Plan
from countersteer.worlds.simulation.starting import RoadStarts
from countersteer.worlds.world import World, WorldSpec

__all__ = ["drive", "open_loop_error", "record_drives"]


_EVENTS = ("cause", "collision", "off_road", "red_light", "wrong_way", "uncomfortable", "collided_with")


def _who(policy: Policy | None, labels: bool) -> tuple[Driver, Expert | None]:
    if policy is None:
        return ExpertDriver(), RecoveryExpert()
    return PolicyDriver(), RecoveryExpert(plan=policy.spec.plan) if labels else None


def check_cameras(policy: Policy, spec: WorldSpec) -> None:
    """Refuse to drive a policy with sensors or a tick it was not trained with."""
    for name, mine, theirs in (
        ("cameras", policy.spec.cameras, spec.cameras),
        ("tick", policy.spec.dt, spec.dt),
    ):
        if mine != theirs:
            raise UserError(
                f"the policy was trained with other {name} than this world has",
                got=theirs,
                expected=mine,
                fix=f"give the world the {name} of the policy",
            )


def drive(
    spec: WorldSpec,
    scenarios: list[Scenario],
    place: Callable[[RoadStarts], RoadStarts],
    policy: Policy | None,
    *,
    seed: int,
    frames: bool = True,
    on_tick: Callable[[int, int], None] | None = None,
) -> list[DriveRecord]:
    """One drive in each scenario, from its recorded start as changed by `place`.

    Args:
        spec: The world; its `duration` is the length of the drives.
        scenarios: One for each drive.
        place: Changes the starts (offsets, commands).
        policy: Who drives; None for the expert.
        seed: Of vehicles and looks.
        frames: Whether to keep what is only looked at: what the cameras saw, if there are any, and what the expert
            would have planned.
        on_tick: Told tick and number of ticks.
    """
    if policy is not None:
        check_cameras(policy, spec)
    world = spec.build(scenarios, len(scenarios), seed)
    rows = torch.arange(len(scenarios))
    starts = place(world.starts_at(rows, torch.zeros_like(rows), rows, jitter=False))
    driver, expert = _who(policy, labels=frames)
    driving = Rollouter(world, driver, policy, expert, seed)
    driving.begin(torch.ones(len(rows), dtype=torch.bool), starts)
    cameras = spec.cameras if frames else ()
    ticks = round(spec.duration / spec.dt)
    return record_drives(driving, starts, ticks, labels=frames, cameras=cameras, on_tick=on_tick)


def record_drives(
    driving: Rollouter,
    starts: RoadStarts,
    ticks: int,
    *,
    to_goals: bool = False,
    labels: bool = False,
    cameras: Sequence[Camera] = (),
    viewer: int | None = None,
    on_tick: Callable[[int, int], None] | None = None,
) -> list[DriveRecord]:
    """Drive on from where drives have just begun; a record of every controlled car, those of a world adjacent.

    Args:
        driving: Begun at `starts`. It observes: the command is what the cars were told.
        starts: Where.
        ticks: How many, at most.
        to_goals: Whether each car has a goal. Then driving stops in the first tick in which nobody's drive goes on.
        labels: Whether to keep what the expert would have planned, if it is asked.
        cameras: Those of the world's whose pictures are kept.
        viewer: Whose pictures; None for every car's.
        on_tick: Told tick and number of ticks.
    """
    world = driving.world
    columns: dict[str, list[ndarray]] = {}
    seen: dict[str, list[ndarray]] = {camera.name: [] for camera in cameras}
    first = world.truth()
    for tick in range(ticks):
        over = to_goals and not bool(world.alive().any())
        for camera in cameras:
            seen[camera.name].append(_pictures(world, camera, viewer))
        for name, value in _tick(driving, labels).items():
            columns.setdefault(name, []).append(value.numpy())
        if on_tick is not None:
            on_tick(tick + 1, ticks)
        if over:
            break
    actors = list(np.stack(columns.pop("actors"), 1))  # one array a world, which its cars share
    heights = list(np.stack(columns.pop("heights"), 1)) if "heights" in columns else []
    # A car's own numbers lie together: [world agent time ...].
    stacked = {name: np.stack(values, 2) for name, values in columns.items()}
    views = {name: np.stack(values, 2) for name, values in seen.items()}
    goals = (first.goal_arc.double() - first.arc.double()).numpy() if to_goals else None
    asked = driving.policy.spec.plan if driving.policy is not None else getattr(driving.expert, "plan", None)
    planned = asked.times().double().numpy() if asked is not None and stacked["plan"].shape[3] else None
    stacked["arc"] = stacked["arc"] - stacked["arc"][:, :, :1]
    paths = _paths(world, stacked.pop("offset")[:, :, -1])
    shown = range(world.agents) if viewer is None else [viewer]
    return [
        DriveRecord(
            times=np.arange(len(actors[row])) * world.dt,
            actors=actors[row],
            path=paths[row][car],
            size=(float(actors[row][0, car, 3]), float(actors[row][0, car, 4])),
            scenario=world.scenarios[int(starts.scenario[row])],
            plan_times=planned,
            views={n: each[row, shown.index(car)] for n, each in views.items()} if car in shown else {},
            slot=car,
            start=float(starts.tick[row]) * world.dt,
            goal=None if goals is None else float(goals[row, car]),
            heights=heights[row] if heights and heights[row].any() else None,
            **{name: values[row, car] for name, values in stacked.items()},
        )
        for row, car in itertools.product(range(world.batch), range(world.agents))
    ]


def _pictures(world: World, camera: Camera, viewer: int | None) -> UInt8[ndarray, "world agent _ _ 3"]:
    rgb = world.images(camera).rgb
    assert rgb is not None
    pictures = rgb.unflatten(0, (world.batch, world.agents)).numpy()
    return pictures if viewer is None else pictures[:, viewer : viewer + 1].copy()


def _tick(driving: Rollouter, labels: bool) -> dict[str, Tensor]:
    """Drive one tick; what a record keeps of it, `[world agent ...]`, and the actors."""
    world = driving.world
    truth = world.truth()
    assert truth.actors is not None
    confidence = world.confidence()
    turn = driving.tick()
    assert turn.observation is not None
    answer = turn.output or turn.label
    plan = answer.plan if answer is not None else None

    def in_world(plan: Plan) -> Tensor:
        heading = truth.heading[..., None].expand(plan.heading.shape)
        return world_from_local(plan.position, truth.position[..., None, :], heading).double()

    kept = {
        "confidence": confidence.double(),
        "position": truth.position.double(),
        "heading": truth.heading.double(),
        "speed": truth.speed.double(),
        "curvature": truth.curvature.double(),
        "acceleration": truth.acceleration.double(),
        "lateral": truth.lateral.double(),
        "heading_error": truth.heading_error.double(),
        "arc": truth.arc.double(),
        "command": turn.observation.intent.command,
        "alive": turn.alive,
        "plan": in_world(plan) if plan is not None else torch.zeros(*truth.arc.shape, 0, 2).double(),
        "actors": truth.actors.boxes().double(),
        "offset": truth.path_offset.double(),
    }
    if truth.heights is not None:
        kept["heights"] = truth.heights.double()
    # Events belong to the tick they happened in; the cause is repeated once a drive has ended.
    for name in _EVENTS:
        kept[name] = getattr(turn.events, name)
    if labels and turn.label is not None:
        kept |= {"label": in_world(turn.label.plan), "labelled": turn.label.valid}
    return kept


def _paths(world: World, offset: Float[ndarray, "world agent"]) -> list[list[Float[ndarray, "n 2"]]]:
    """The way points of the cars' paths, where a commanded lane change has moved them."""
    routes = world.routes()
    whole, lengths = routes.points.double().numpy(), routes.length.int().tolist()

    def path(row: int, car: int) -> ndarray:
        points = whole[row, car, : lengths[row][car] + 1]
        course = points[:, 2]
        return points[:, :2] + offset[row, car] * np.stack([-np.sin(course), np.cos(course)], -1)

    return [[path(row, car) for car in range(world.agents)] for row in range(world.batch)]


@torch.no_grad()
def open_loop_error(
    policy: Policy, spec: WorldSpec, scenarios: list[Scenario], *, seed: int, ticks: int = 120
) -> float:
    """Mean distance between the policy's plan and the expert's on frames the expert drove [m].

    The policy is asked at every tick with its own memory, never obeyed; the mean is over frames, drives
    and the plan's times.
    """
    check_cameras(policy, spec)
    world = spec.build(scenarios, len(scenarios), seed)
    rows = torch.arange(len(scenarios))
    starts = world.starts_at(rows, torch.zeros_like(rows), rows, jitter=False)
    driving = Rollouter(world, ExpertDriver(), None, RecoveryExpert(plan=policy.spec.plan), seed)
    driving.begin(torch.ones(len(rows), dtype=torch.bool), starts)
    memory = policy.initial_memory((len(rows), 1))
    total = count = 0.0
    for _ in range(ticks):
        turn = driving.tick()
        assert turn.observation is not None
        assert turn.label is not None
        answer = policy.act(policy.encode(turn.observation), memory)
        memory = answer.memory
        use = turn.label.valid & turn.alive
        assert answer.plan is not None
        miss = (answer.plan.position - turn.label.plan.position).norm(dim=-1).mean(-1)
        total += float(miss[use].sum())
        count += float(use.sum())
    return total / max(count, 1.0)
