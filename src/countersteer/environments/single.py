"""One drive of one car as a Gymnasium environment, for code that wants a single one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate
from numpy import ndarray

from countersteer.environments.vector import DrivingVectorEnv
from countersteer.errors import UserError
from countersteer.rewards.rewards import Reward
from countersteer.vehicles.bicycle import Limits
from countersteer.worlds.world import World

__all__ = ["DrivingEnv"]


class DrivingEnv(gymnasium.Env[Any, ndarray]):
    """A Gymnasium environment of one car; `DrivingVectorEnv` says what goes in and out, and is the fast one.

    Args:
        world: Of one drive with one car; the environment's own from now on.
        limits, sensors, reward, render_mode: See `DrivingVectorEnv`.

    Raises:
        UserError: The world has several drives or cars, or is of no use to a `DrivingVectorEnv`.
    """

    def __init__(
        self,
        world: World,
        *,
        limits: Limits = Limits(),
        sensors: Sequence[str] | None = None,
        reward: Reward | None = None,
        render_mode: str | None = None,
    ):
        if world.batch != 1 or world.agents != 1:
            raise UserError(
                "a single environment is one drive of one car",
                got=f"{world.batch} drives of {world.agents} cars",
                expected="1 and 1",
                fix="build the world with batch 1 and agents=1, or use DrivingVectorEnv",
            )
        self._cars = DrivingVectorEnv(
            world,
            limits=limits,
            sensors=sensors,
            reward=reward,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
        )
        self.observation_space = self._cars.single_observation_space
        self.action_space = self._cars.single_action_space
        self.render_mode = render_mode
        self.metadata = {k: v for k, v in self._cars.metadata.items() if k != "autoreset_mode"}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next drive, or the first one of a seed."""
        super().reset(seed=seed)
        observations, infos = self._cars.reset(seed=seed)
        return self._first(observations), _first_info(infos)

    def step(self, action: ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drive for a tick; after the end of the drive nothing happens any more until it is reset."""
        observations, rewards, terminated, truncated, infos = self._cars.step(np.asarray(action)[None])
        return (
            self._first(observations),
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _first_info(infos),
        )

    def render(self) -> Any:
        """What the first camera saw last, uint8 `[height width channel]`; None without a render mode."""
        frames = self._cars.render()
        return None if frames is None else frames[0]

    def _first(self, observations: Any) -> Any:
        return next(iter(iterate(self._cars.observation_space, observations)))


def _first_info(infos: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0].item() for name, value in infos.items() if not name.startswith("_")}
