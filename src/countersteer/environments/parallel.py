"""One drive of several cars as a PettingZoo parallel environment; needs the extra `pettingzoo`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate
from numpy import ndarray

from countersteer.environments.spaces import ACTION_SPACE
from countersteer.environments.vector import DrivingVectorEnv
from countersteer.errors import MissingExtraError, UserError, did_you_mean
from countersteer.rewards.rewards import Reward
from countersteer.vehicles.bicycle import Limits
from countersteer.worlds.world import World

try:
    from pettingzoo import ParallelEnv
except ModuleNotFoundError as error:
    raise MissingExtraError("pettingzoo", "pettingzoo") from error

__all__ = ["DrivingParallelEnv"]


class DrivingParallelEnv(ParallelEnv[str, Any, ndarray]):
    """A PettingZoo environment of the cars of one drive, `car_0`, `car_1` and so on.

    `DrivingVectorEnv` says what each car sees, does, earns and is told. A car leaves `agents` when its drive
    has ended; it goes on standing in the others' way. The episode is over when all have left.

    Args:
        world: Of one drive; the environment's own from now on.
        limits, sensors, reward, render_mode: See `DrivingVectorEnv`.

    Raises:
        UserError: The world has several drives, or is of no use to a `DrivingVectorEnv`.
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
        if world.batch != 1:
            raise UserError(
                "a parallel environment is one drive",
                got=f"{world.batch} drives",
                expected="1",
                fix="build the world with batch 1, or use DrivingVectorEnv for many drives",
            )
        self._cars = DrivingVectorEnv(
            world,
            limits=limits,
            sensors=sensors,
            reward=reward,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
        )
        self.possible_agents = [f"car_{slot}" for slot in range(world.agents)]
        self.agents: list[str] = []
        # Spaces of their own: users seed and sample each car's.
        self._observation_spaces = {
            name: deepcopy(self._cars.single_observation_space) for name in self.possible_agents
        }
        self._action_spaces = {name: deepcopy(ACTION_SPACE) for name in self.possible_agents}
        self.render_mode = render_mode
        self.metadata = {
            "name": "countersteer_driving",
            "is_parallelizable": True,
            "render_modes": self._cars.metadata["render_modes"],
            "render_fps": self._cars.metadata["render_fps"],
        }

    def observation_space(self, agent: str) -> Space:
        """Of one car, always the same object."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Space:
        """Of one car, always the same object."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin the next drive, or the first one of a seed, with all cars."""
        observations, infos = self._cars.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._each(self._observations(observations)), self._each(self._infos(infos))

    def step(
        self, actions: dict[str, ndarray]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Drive for a tick.

        Args:
            actions: Of each car in `agents`; those of cars that have left are not used.

        Raises:
            UserError: An action is missing or of another shape, or there is no such car.
        """
        for name in actions:
            if name not in self.possible_agents:
                raise UserError(
                    "there is no such car", got=name, expected=did_you_mean(name, self.possible_agents)
                )
        missing = [name for name in self.agents if name not in actions]
        if missing:
            raise UserError(
                "cars were given no action",
                got=f"none for {', '.join(missing)}",
                expected="one for each car in `agents`",
                fix="give every car an action",
            )
        rest = np.zeros(ACTION_SPACE.shape, np.float32)
        told = [actions[name] if name in self.agents else rest for name in self.possible_agents]
        observations, rewards, terminated, truncated, infos = self._cars.step(told)
        split = (
            self._each(self._observations(observations)),
            self._each(rewards.tolist()),
            self._each(terminated.tolist()),
            self._each(truncated.tolist()),
            self._each(self._infos(infos)),
        )
        over = terminated | truncated
        self.agents = [n for n, gone in zip(self.possible_agents, over, strict=True) if not gone]
        return split

    def render(self) -> ndarray | None:
        """What the cars' first cameras saw last, side by side, uint8 `[height width channel]`."""
        frames = self._cars.render()
        return None if frames is None else np.concatenate(frames, 1)

    def _each(self, values: Iterable[Any]) -> dict[str, Any]:
        """Those of the values, one a slot, that belong to cars in `agents`."""
        pairs = zip(self.possible_agents, values, strict=True)
        return {name: value for name, value in pairs if name in self.agents}

    def _observations(self, observations: Any) -> Iterable[Any]:
        return iterate(self._cars.observation_space, observations)

    def _infos(self, infos: dict[str, Any]) -> Iterable[dict[str, Any]]:
        for slot in range(len(self.possible_agents)):
            yield {name: value[slot].item() for name, value in infos.items() if not name.startswith("_")}
