"""Worlds in which one policy drives every car: who reaches its goal, and who fails how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.evaluation.statistics import clustered_interval
from countersteer.experts.interface import Expert
from countersteer.policies.interface import Policy
from countersteer.rewards.rewards import RewardWeights
from countersteer.rollouts.driving import Rollouter
from countersteer.worlds.interface import Starts, TerminationReason
from countersteer.worlds.world import World

__all__ = ["FAILURES", "RED_LIGHT", "Population", "drive_population"]

RED_LIGHT = 0.7
"""What a red light leaves of a car's score, as in the CARLA leaderboard."""
FAILURES = (
    TerminationReason.COLLISION,
    TerminationReason.OFF_ROAD,
    TerminationReason.OFF_ROUTE,
    TerminationReason.WRONG_WAY,
    TerminationReason.INVALID_STATE,
)
"""Causes that a car is to blame for; TIME and GOAL are none."""


@dataclass(frozen=True)
class Population:
    """What became of the cars that had begun, one entry each.

    Attributes:
        scene: Scene each drove in.
        cause: `TerminationReason` by which its drive ended; TIME where the time ran out.
        progress: Share of the way to its goal that it made, in [0, 1].
        red_lights: Stop lines that it crossed at red.
        uncomfortable: Share of its ticks outside the comfort bounds.
        speed: Mean over its drive [m/s].
    """

    scene: Int[ndarray, "car"]
    cause: Int[ndarray, "car"]
    progress: Float[ndarray, "car"]
    red_lights: Int[ndarray, "car"]
    uncomfortable: Float[ndarray, "car"]
    speed: Float[ndarray, "car"]

    def ended_by(self, *causes: TerminationReason) -> Bool[ndarray, "car"]:
        """Which cars ended so."""
        return np.isin(self.cause, [int(cause) for cause in causes])

    @property
    def score(self) -> Float[ndarray, "car"]:
        """Rollouter score of each car, in [0, 1].

        The share of its way that it made, times `RED_LIGHT` for each red light; 0 for a car that ended by a failure.
        """
        score = self.progress * RED_LIGHT**self.red_lights
        return np.where(self.ended_by(*FAILURES), 0.0, score)

    def shares(self) -> dict[str, float]:
        """Means over the cars: goals, failures by cause, score, comfort, speed."""
        causes = {
            f"{c.name.lower()}": float(self.ended_by(c).mean()) for c in (TerminationReason.GOAL, *FAILURES)
        }
        return causes | {
            "progress": float(self.progress.mean()),
            "score": float(self.score.mean()),
            "red_lights": float(self.red_lights.mean()),
            "uncomfortable": float(self.uncomfortable.mean()),
            "speed": float(self.speed.mean()),
        }

    def interval(
        self, values: Float[ndarray, "car"], *, seed: int = 0, draws: int = 2_000
    ) -> tuple[float, float]:
        """95 % interval of a mean, by drawing whole scenes anew: cars of one scene are not independent."""
        return clustered_interval(values, self.scene, seed=seed, draws=draws)


def drive_population(
    world: World,
    driver: Driver,
    policy: Policy | None = None,
    expert: Expert | None = None,
    *,
    coefficients: RewardWeights | None = None,
    seed: int = 0,
    first_drive: int = 1_000_000_000,
    starts: Starts | None = None,
) -> Population:
    """Drive every world once, until all cars' drives have ended.

    Args:
        world: Its `terminate` should hold the failures that count.
        driver: Who drives all cars.
        policy, expert: Asked if the driver needs them.
        coefficients: What each car is asked for; None for the policy's default.
        seed: Of the driver's randomness.
        first_drive: Identity of the first world's drive; training uses small ones.
        starts: Of every world; None draws them as the world's own settings say.
    """
    ticks = round(world.spec.duration / world.dt)
    if ticks < 1:
        raise UserError(
            "the drives of a population have no time",
            got=world.spec.duration,
            expected="> 0 s",
            fix="set duration",
        )
    if starts is None:
        starts = world.draw_starts(first_drive + torch.arange(world.batch))
    driving = Rollouter(world, driver, policy, expert, seed, coefficients=coefficients)
    driving.begin(torch.ones(world.batch, dtype=torch.bool), starts)
    begun, start = world.state.alive, world.state.arc
    way = (world.state.goal_arc - start).clamp(min=1.0)
    reds = torch.zeros_like(start)
    jolts, time, pace = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)
    for _ in range(ticks):
        going = world.state.alive
        if not going.any():
            break
        turn = driving.tick(keep=False)
        reds += turn.events.red_light
        jolts += turn.events.uncomfortable
        time += going
        pace += torch.where(going, world.state.cars.speed, 0.0)
    state = world.state
    cause = torch.where(state.alive, int(TerminationReason.TIME), state.cause)
    arrived = cause == TerminationReason.GOAL
    progress = torch.where(arrived, 1.0, ((state.arc - start) / way).clamp(0.0, 1.0))
    scene = state.scene[:, None].expand_as(begun)
    return Population(
        scene=scene[begun].numpy(),
        cause=cause[begun].numpy(),
        progress=progress[begun].double().numpy(),
        red_lights=reds[begun].long().numpy(),
        uncomfortable=(jolts / time.clamp(min=1.0))[begun].double().numpy(),
        speed=(pace / time.clamp(min=1.0))[begun].double().numpy(),
    )
