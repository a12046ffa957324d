"""Drive the cases of a suite, all at once, and keep a record of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from countersteer.drivers.expert import ExpertDriver
from countersteer.drivers.interface import Driver
from countersteer.drivers.policy import PolicyDriver
from countersteer.errors import UserError
from countersteer.evaluation.records import DriveRecord
from countersteer.experts.interface import Expert
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.poses import world_from_local
from countersteer.policies.interface import Policy
from countersteer.rollouts.driving import Rollouter
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Plan
from countersteer.worlds.interface import Starts
from countersteer.worlds.simulation.spec import BoxWorldSpec
from countersteer.worlds.truth import Truth

__all__ = ["drive", "open_loop_error"]


def _who(policy: Policy | None, labels: bool) -> tuple[Driver, Expert | None]:
    if policy is None:
        return ExpertDriver(), RecoveryExpert()
    return PolicyDriver(plan=policy.spec.plan), RecoveryExpert(plan=policy.spec.plan) if labels else None


def check_cameras(policy: Policy, spec: BoxWorldSpec) -> None:
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
    spec: BoxWorldSpec,
    scenarios: list[Scenario],
    place: Callable[[Starts], Starts],
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
    ticks = round(spec.duration / spec.dt)
    columns: dict[str, list[np.ndarray]] = {}
    seen: dict[str, list[np.ndarray]] = {}

    def keep(**values: Tensor | np.ndarray) -> None:
        for name, value in values.items():
            array = value.numpy() if isinstance(value, Tensor) else value
            columns.setdefault(name, []).append(array)

    for tick in range(ticks):
        truth, actors = world.truth(), world.boxes()
        confidence = world.confidence()[:, 0].double()
        intent_offset = world.state.path_offset
        turn = driving.tick()
        assert turn.observation is not None
        plan = turn.output.plan if turn.output is not None else turn.label.plan  # type: ignore[union-attr]
        assert plan is not None

        def in_world(plan: Plan, truth: Truth = truth) -> Tensor:
            heading = truth.heading[..., None].expand(plan.heading.shape)
            return world_from_local(plan.position, truth.position[..., None, :], heading)[:, 0].double()

        keep(
            confidence=confidence,
            position=truth.position[:, 0].double(),
            heading=truth.heading[:, 0].double(),
            speed=truth.speed[:, 0].double(),
            curvature=truth.curvature[:, 0].double(),
            acceleration=truth.acceleration[:, 0].double(),
            lateral=truth.lateral[:, 0].double(),
            heading_error=truth.heading_error[:, 0].double(),
            arc=truth.arc[:, 0].double(),
            command=turn.observation.intent.command[:, 0],
            alive=turn.alive[:, 0],
            plan=in_world(plan),
            actors=actors,
            offset=intent_offset[:, 0].double(),
        )
        # Events belong to the tick they happened in; the cause is repeated once a drive has ended.
        for name in ("cause", "collision", "off_road", "red_light", "wrong_way", "uncomfortable"):
            keep(**{name: getattr(turn.events, name)[:, 0]})
        keep(collided_with=turn.events.collided_with[:, 0])
        if frames and turn.label is not None:
            keep(label=in_world(turn.label.plan), labelled=turn.label.valid[:, 0])
        if frames:
            for camera in spec.cameras:
                seen.setdefault(camera.name, []).append(
                    turn.observation.sensors[camera.name].data[:, 0].numpy()
                )
        if on_tick is not None:
            on_tick(tick + 1, ticks)

    stacked = {name: np.stack(values, 1) for name, values in columns.items()}
    views = {name: np.stack(values, 1) for name, values in seen.items()}
    path = world.bank.path[:, 0, :, :2].double().numpy()
    length = (world.bank.path_length[:, 0].numpy()).astype(int) + 1
    offset = stacked.pop("offset")
    size = world.bank.size[:, 0].double().numpy()
    planned = expert.plan if policy is None else policy.spec.plan  # type: ignore[union-attr]
    times_ahead = planned.times().double().numpy()
    records = []
    for k, scenario in enumerate(scenarios):
        course = world.bank.path[k, 0, : length[k], 2].double().numpy()
        aside = offset[k, -1] * np.stack([-np.sin(course), np.cos(course)], -1)
        fields = {name: values[k] for name, values in stacked.items()}
        fields["arc"] = fields["arc"] - fields["arc"][0]
        for name in ("label", "labelled"):
            fields.setdefault(name, None)  # type: ignore[arg-type]
        records.append(
            DriveRecord(
                times=np.arange(ticks) * spec.dt,
                path=path[k, : length[k]] + aside,
                size=(float(size[k, 0]), float(size[k, 1])),
                scenario=scenario,
                plan_times=times_ahead,
                views={name: pictures[k] for name, pictures in views.items()},
                **fields,  # type: ignore[arg-type]
            )
        )
    return records


@torch.no_grad()
def open_loop_error(
    policy: Policy, spec: BoxWorldSpec, scenarios: list[Scenario], *, seed: int, ticks: int = 120
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
