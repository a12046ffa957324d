"""A privileged teacher: the vector observation and a style in, odds of discrete jerks and a value out.

A set encoder in the manner of Gigaflow (Cusumano-Towner et al. 2025, arXiv 2502.03349) and of Gigapixel's
teacher (arXiv 2606.19641, section 3.1): everything of a kind goes through one small network, and the largest
of each feature over the set is kept, so neither order nor number of the things matters. Actor and critic
share it. The car's own reward weights are part of the input; nobody sees those of others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import NoMemory, Policy, PolicyOutput, PolicySpec
from countersteer.policies.precision import in_float32
from countersteer.ranges import Count, Tick
from countersteer.rewards.weights import RewardWeights
from countersteer.scenarios.scenario import ActorKind
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.worlds.observations import Observation
from countersteer.worlds.sensors.vector import VectorSpec

__all__ = ["SetActorCritic", "SetActorCriticSpec"]

# Divisors that bring the fields to order one.
_UNITS = {
    "speed": 15.0, "curvature": 0.1, "acceleration": 4.0, "asked_curvature": 0.1, "asked_acceleration": 4.0,
    "length": 5.0, "width": 2.0, "lateral": 2.0, "heading_error": 0.5, "set_speed": 15.0, "remaining": 100.0,
    "x": 30.0, "y": 30.0, "velocity_x": 10.0, "velocity_y": 10.0,
}  # fmt: skip
_SETS = ("actors", "lights", "lanes", "edges")


@dataclass(frozen=True)
class SetActorCriticSpec(PolicySpec):
    """Describes a `SetActorCritic`.

    Attributes:
        vector: What it sees.
        jerk: What it chooses from.
        reward_weights: Ranges of the reward weights it can be asked for.
        token_dim: Width of the network that reads each thing of a set.
        hidden: Width of the two layers behind the sets.
        plan: Times of plans that are made by driving it ahead.
        dt: Tick it is run at [s].
    """

    vector: VectorSpec = VectorSpec()  # pyright: ignore[reportIncompatibleVariableOverride]
    jerk: JerkSpec = JerkSpec()  # pyright: ignore[reportIncompatibleVariableOverride]
    reward_weights: RewardWeights = RewardWeights()  # pyright: ignore[reportIncompatibleVariableOverride]
    token_dim: Count = 64
    hidden: Count = 256
    plan: PlanSpec = field(default_factory=PlanSpec)
    dt: Tick = 0.1

    cameras: tuple[Camera, ...] = ()
    stride: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cameras or self.stride != 1:
            raise UserError(
                "a teacher has no eyes and no memory",
                got=f"{len(self.cameras)} cameras, stride {self.stride}",
                expected="no camera, stride 1",
                fix="leave both out of SetActorCriticSpec",
            )

    def build(self) -> SetActorCritic:
        """A teacher with freshly drawn weights (torch's global generator)."""
        return SetActorCritic(self)


class SetActorCritic(Policy):
    """See the module's docstring."""

    spec: SetActorCriticSpec
    scale: Float[Tensor, "feature"]

    def __init__(self, spec: SetActorCriticSpec):
        super().__init__()
        self.spec = spec  # pyright: ignore[reportIncompatibleVariableOverride]
        layout = spec.vector.layout
        scale = torch.ones(spec.vector.size)
        for group in layout.values():
            for k, name in enumerate(group.fields):
                begin = group.start + k * group.slots
                scale[begin : begin + group.slots] = 1.0 / _UNITS.get(name, 1.0)
        self.register_buffer("scale", scale, persistent=False)

        known = layout["route"].stop + len(RewardWeights.names())
        self.ego = _layers(known, spec.token_dim, spec.token_dim)
        kinds = {"actors": len(ActorKind) - 1}
        self.sets = nn.ModuleDict(
            {
                name: _layers(
                    len(layout[name].fields) - 1 + kinds.get(name, 0), spec.token_dim, spec.token_dim
                )
                for name in _SETS
            }
        )
        self.trunk = _layers(spec.token_dim * (1 + len(_SETS)), spec.hidden, spec.hidden)
        self.actor = nn.Linear(spec.hidden, spec.jerk.choices)
        self.critic = nn.Linear(spec.hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, 2**0.5)
                nn.init.zeros_(module.bias)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.orthogonal_(self.critic.weight, 1.0)

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> NoMemory:
        """It has none."""
        return NoMemory()

    def encode(self, observation: Observation) -> Float[Tensor, "*batch feature"]:
        """The vector sensor, scaled to order one.

        Raises:
            UserError: There is no such sensor, or it is of another size.
        """
        reading = observation.sensors.get("vector")
        size = self.spec.vector.size
        if reading is None or reading.data.shape[-1] != size:
            raise UserError(
                "the observation lacks the vector that the teacher was trained with",
                got="no sensor 'vector'" if reading is None else f"{reading.data.shape[-1]} floats",
                expected=f"{size} floats",
                fix="give the world the `vector` of the teacher's spec",
            )
        return reading.data * self.scale

    def act(
        self,
        features: Float[Tensor, "*batch feature"],
        memory: NoMemory,
        condition: Tensor | None = None,
    ) -> PolicyOutput:
        """Odds of the choices and the value, from features; `condition` are reward weights, None their middle."""
        if condition is None:
            condition = self.spec.reward_weights.middle(*features.shape[:-1], device=features.device)
        logits, value = self.evaluate(features, condition)
        return PolicyOutput(plan=None, memory=memory, logits=logits, value=value)

    def evaluate(
        self, features: Float[Tensor, "*batch feature"], reward_weights: Float[Tensor, "*batch weight"]
    ) -> tuple[Float[Tensor, "*batch choice"], Float[Tensor, "*batch"]]:
        """Logits and value of cars with these reward weights."""
        return self(features, self.spec.reward_weights.normalised(reward_weights))

    @in_float32
    def forward(
        self, features: Float[Tensor, "*batch feature"], style: Float[Tensor, "*batch weight"]
    ) -> tuple[Float[Tensor, "*batch choice"], Float[Tensor, "*batch"]]:
        """Logits and value; `style` are normalised reward weights."""
        layout = self.spec.vector.layout
        known = torch.cat([features[..., : layout["route"].stop], style], -1)
        parts = [self.ego(known)]
        for name in _SETS:
            group = layout[name]
            items = features[..., group.start : group.stop].unflatten(-1, (len(group.fields), group.slots))
            items = items.transpose(-1, -2)
            seen = items[..., -1:]
            items = items[..., :-1]
            if name == "actors":
                kind = items[..., -1].long()
                kinds = torch.arange(len(ActorKind), device=kind.device)
                items = torch.cat([items[..., :-1], (kind[..., None] == kinds).to(items.dtype)], -1)
            # Features are not negative, so what is not there is nothing.
            parts.append((self.sets[name](items) * seen).amax(-2))
        hidden = self.trunk(torch.cat(parts, -1))
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs), nn.ReLU())
