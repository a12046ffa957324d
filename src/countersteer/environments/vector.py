"""A world as a Gymnasium vector environment: each car is a sub-environment.

Autoreset. `AutoresetMode.NEXT_STEP`, Gymnasium's own default, is the default here. `SAME_STEP` suits code
that looks for `final_obs`, and `DISABLED` leaves resets to `reset(options={"reset_mask": ...})`.

Several cars in a drive. A drive begins anew as a whole, when all of its cars are over. A car that is over
earlier stands in the world as an obstacle and waits: until the drive begins anew it goes on being terminated
(or truncated), its reward is 0, its actions count for nothing and it sees what there is to see where it
stopped. To a learner that leaves out the step after the end of an episode, as NEXT_STEP asks, this is a
reset that takes several steps: every step of the wait follows one that said "over". It needs to know nothing
of drives, and no value leaks from one episode into another. SAME_STEP cannot promise that and is refused
for several cars. Wrappers that count episodes count each step of the wait as an episode of length 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy import ndarray
from torch import Tensor

from countersteer.environments.spaces import ACTION_SPACE, Arrays, ObservationFormat, to_action
from countersteer.errors import UserError
from countersteer.rewards.interface import Reward, RewardInputs
from countersteer.rewards.progress import ProgressReward
from countersteer.tensors import TensorTree
from countersteer.vehicles.bicycle import Limits
from countersteer.worlds.interface import Capability, Events
from countersteer.worlds.observations import Observation
from countersteer.worlds.truth import Truth
from countersteer.worlds.world import World

__all__ = ["DrivingVectorEnv"]

_DRIVES = 2**48  # identities from which a seed draws the first; far below where they would overflow

_FEW = 256  # cars: the truth of all of them costs less than to pick out the drives that begin

Tree = TypeVar("Tree", bound=TensorTree)


class DrivingVectorEnv(VectorEnv[Arrays, ndarray, ndarray]):
    """A Gymnasium vector environment of `world.batch * world.agents` cars.

    Car a of drive d is sub-environment `d * world.agents + a`. Observations are as `ObservationFormat` says,
    actions as `to_action`. Rewards are float64. Infos of a step are the fields of `Events` but the two that
    are returned anyway, `cause` among them; an entry counts where its mask, `_cause` and so on, is true: where
    the car was driving at the beginning of the step. Infos of a reset are `drive`, the drives' identities.
    Everything is handed over in NumPy arrays, whatever device the world is on.

    Drives depend on the world's seed and on their identities alone. `reset(seed=...)` draws the identity of
    the first drive from the seed; each row goes on from there by itself, `batch` further at each new drive. A
    first reset without a seed begins with drive 0, so a world built alike gives the same drives.

    Args:
        world: To drive in; the environment's own from now on.
        limits: Of the vehicles: what the ends of the action space mean; `spec.vehicle.limits` of a boxworld.
        sensors: Names of the sensors to observe; None for all.
        reward: What ticks are worth; None for a `ProgressReward`.
        autoreset_mode: When drives begin anew.
        render_mode: "rgb_array" to have `render` show what the first camera saw last.

    Raises:
        UserError: The world does not tell the truth, which rewards need, has no camera to render, has no such
            sensor, or has drives of several cars, which cannot begin anew in the step they end in.
    """

    def __init__(
        self,
        world: World,
        *,
        limits: Limits = Limits(),
        sensors: Sequence[str] | None = None,
        reward: Reward | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ):
        if Capability.TRUTH not in world.capabilities:
            raise UserError(
                "rewards need the truth about the cars",
                got=f"a {type(world).__name__}, which does not tell it",
                expected="a world with Capability.TRUTH",
                fix="use another world, such as boxworld",
            )
        if autoreset_mode == AutoresetMode.SAME_STEP and world.agents > 1:
            raise UserError(
                "a drive of several cars does not begin anew in the step in which one of them ends",
                got=f"AutoresetMode.SAME_STEP with {world.agents} cars in a drive",
                expected="AutoresetMode.NEXT_STEP or AutoresetMode.DISABLED",
                fix="set autoreset_mode, or build the world with agents=1",
            )
        if render_mode not in (None, "rgb_array"):
            raise UserError("there is no such render mode", got=render_mode, expected="None or 'rgb_array'")
        if render_mode is not None and not world.cameras:
            raise UserError(
                "there is no camera to render",
                got="a world without cameras",
                expected="at least one",
                fix="build the world with a camera; `sensors` keeps it out of the observation",
            )
        self.world, self.limits = world, limits
        self.reward: Reward = ProgressReward() if reward is None else reward
        self.autoreset_mode, self.render_mode = autoreset_mode, render_mode
        self.metadata = {
            "render_modes": ["rgb_array"] if world.cameras else [],
            "render_fps": round(1 / world.dt),
            "autoreset_mode": autoreset_mode,
        }
        self.num_envs = world.batch * world.agents
        self._rows = torch.arange(world.batch, device=world.drives().device)
        everywhere = torch.ones_like(self._rows, dtype=torch.bool)
        world.reset(everywhere, world.draw_starts(self._rows))  # to see what observations look like
        self._format = ObservationFormat(world.observe(), sensors)
        self.single_observation_space, self.observation_space = self._format.single_space, self._format.space
        self.single_action_space = deepcopy(ACTION_SPACE)  # users seed theirs
        self.action_space = batch_space(ACTION_SPACE, self.num_envs)
        self._next_drive = self._rows
        self._terminated = self._truncated = torch.zeros_like(world.motion().speed, dtype=torch.bool)
        self._truth: Truth | None = None
        self._seen: Observation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Begin all drives, or those of `options["reset_mask"]` (bool `[num_envs]`, all or no cars of a drive).

        Args:
            seed: Makes these drives and those that follow them reproducible; None goes on with new ones.
            options: See above.
        """
        super().reset(seed=seed)
        mask = self._reset_mask(options)
        if seed is not None:
            first = int(self.np_random.integers(_DRIVES))
            self._next_drive = torch.where(mask, first + self._rows, self._next_drive)
        self._begin(mask)
        return self._format.arrays(self._observe()), self._begun(mask)

    def step(self, actions: Any) -> tuple[Arrays, ndarray, ndarray, ndarray, dict[str, Any]]:
        """Advance every drive by a tick; see the class for what goes in and out."""
        if self._truth is None:
            raise UserError("there is nothing to step yet", fix="call reset first")
        world, before = self.world, self._truth
        events = world.step(to_action(actions, world.motion(), self.limits))
        after = world.truth()
        reward = self.reward(RewardInputs(events, before, after, world.dt))
        if reward.shape != before.alive.shape:
            raise UserError(
                "the reward does not fit the cars",
                got=f"shape {tuple(reward.shape)}",
                expected=f"{tuple(before.alive.shape)}, worlds and cars",
                fix="return one number for each car",
            )
        driving, self._truth = before.alive, after
        was_over = (self._terminated | self._truncated).all(1)
        self._terminated = self._terminated | events.terminated
        self._truncated = self._truncated | events.truncated
        infos = _event_infos(events, driving)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and bool(was_over.any()):
            self._begin(was_over)
            infos |= self._begun(was_over)
        terminated, truncated = self._terminated, self._truncated
        over = (terminated | truncated).all(1)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and bool(over.any()):
            # A drive has one car here.
            infos = _event_infos(events, driving & ~over[:, None])
            infos |= self._finals(over, _event_infos(events, driving & over[:, None]))
            self._begin(over)
            infos |= self._begun(over)
        arrays = self._format.arrays(self._observe())
        rewards = torch.where(driving, reward, 0.0).double()
        return arrays, _array(rewards), _array(terminated), _array(truncated), infos

    def render(self) -> tuple[ndarray, ...] | None:
        """What each car's first camera saw last, uint8 `[height width channel]`; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._seen is None:
            raise UserError("there is nothing to render yet", fix="call reset first")
        return tuple(_array(self._seen.sensors[self.world.cameras[0].name].data))

    # --- drives ---------------------------------------------------------------------------------

    def _reset_mask(self, options: dict[str, Any] | None) -> Tensor:
        if options is None or "reset_mask" not in options:
            return torch.ones_like(self._rows, dtype=torch.bool)
        if self._truth is None:
            raise UserError("the first reset begins every drive", got="a reset mask", fix="leave it out")
        given = np.asarray(options["reset_mask"])
        if given.shape == (self.num_envs,) and given.dtype == np.bool_:
            cars = torch.tensor(given, device=self._rows.device).reshape(self.world.batch, -1)
            if bool((cars.any(1) == cars.all(1)).all()):
                return cars.all(1)
        raise UserError(
            "the reset mask does not fit the environment",
            got=f"{given.dtype} of shape {given.shape}",
            expected=f"bool of shape ({self.num_envs},), true for all cars of a drive or for none",
            fix="correct options['reset_mask']",
        )

    def _begin(self, mask: Tensor) -> None:
        """Begin the next drives of these rows."""
        world = self.world
        world.reset(mask, world.draw_starts(self._next_drive[mask]))
        self._next_drive = torch.where(mask, self._next_drive + world.batch, self._next_drive)
        self._terminated = self._terminated & ~mask[:, None]
        self._truncated = self._truncated & ~mask[:, None]
        if self._truth is None or self.num_envs <= _FEW or bool(mask.all()):
            self._truth = world.truth()
        else:
            rows = mask.nonzero().squeeze(1)
            fresh = self._read(rows, lambda world: world.truth())
            self._truth = self._truth.map(lambda old, new: old.index_copy(0, rows, new), fresh)

    def _begun(self, mask: Tensor) -> dict[str, Any]:
        cars = mask[:, None].expand(-1, self.world.agents)
        drives = self.world.drives()[:, None].expand_as(cars)
        return {"drive": _array(drives), "_drive": _array(cars)}

    def _finals(self, over: Tensor, infos: dict[str, Any]) -> dict[str, Any]:
        """What Gymnasium says of the last state of drives that begin anew in the same step."""
        rows = over.nonzero().squeeze(1)
        last = self._read(rows, lambda world: world.observe())
        space = batch_space(self.single_observation_space, len(rows))
        final_obs = np.full(self.num_envs, None, object)
        for row, obs in zip(rows.tolist(), iterate(space, self._format.arrays(last)), strict=True):
            final_obs[row] = obs
        return {
            "final_obs": final_obs,
            "_final_obs": _array(over),
            "final_info": infos,
            "_final_info": _array(over),
        }

    def _observe(self) -> Observation:
        self._seen = self.world.observe()
        return self._seen

    def _read(self, rows: Tensor, read: Callable[[World], Tree]) -> Tree:
        """What `read` tells of some rows; of a fork of just these, where the world can, as that is cheaper."""
        if Capability.FORK in self.world.capabilities:
            return read(self.world.fork(rows))
        return read(self.world)[rows]


def _event_infos(events: Events, mask: Tensor) -> dict[str, Any]:
    """What happened, in the form of Gymnasium: an array, and where it counts."""
    infos: dict[str, Any] = {}
    for field in fields(events):
        if field.name not in ("terminated", "truncated"):
            infos[field.name] = _array(getattr(events, field.name))
            infos[f"_{field.name}"] = _array(mask)
    return infos


def _array(tensor: Tensor) -> ndarray:
    """A copy `[world agent ...]` or `[world]` as `[world * agent ...]`."""
    flat = tensor.flatten(0, 1) if tensor.ndim > 1 else tensor
    return flat.cpu().numpy().copy()
