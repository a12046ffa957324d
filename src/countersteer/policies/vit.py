"""A multi-camera planner after DrivoR (arXiv 2601.05083), the student of Gigapixel (arXiv 2606.19641, section 4).

Each picture goes through a small vision transformer together with a few learned registers of its camera; only the
registers are kept, so however large the pictures, what is planned from is a few tokens. Each proposal is a query, a
learned vector plus the car's state, that reads the tokens through a decoder and answers with a plan. With several
proposals, a scorer reads the finished plans, whose gradient stops there, and says which is likeliest.

It differs from DrivoR in three points: the transformer is written and trained from scratch here; every plan is
relative to going straight on, so an untrained one drives straight; and the scorer learns which proposal is closest to the
expert's plan, where DrivoR's learns sub-scores of NAVSIM, which no forked world tells. As there, only the
present picture is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.ego import EgoInputs, constant_velocity_anchor, pictures
from countersteer.policies.interface import Hypotheses, NoMemory, Policy, PolicyOutput, PolicySpec
from countersteer.policies.precision import in_float32
from countersteer.ranges import Count, Share, Tick
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.worlds.observations import Observation

__all__ = ["ViTPlanner", "ViTPlannerSpec"]

_CONTRAST = 64.0  # grey levels that count as one
_SCALE = 0.2  # of the reach: one Laplace scale for all, so the likelihood is DrivoR's L1


@dataclass(frozen=True)
class ViTPlannerSpec(PolicySpec):
    """Describes a `ViTPlanner`; the defaults are small enough for a CPU.

    Attributes:
        cameras: Cameras it sees with, each with width and height multiples of `patch`; one transformer for all.
        plan: Times of its plans.
        dt: Tick it is run at [s].
        stride: Training keeps every `stride`-th frame.
        motion_ticks: Ticks of ego motion it reads, the current one included.
        target_points: Target points of the intent that it reads; 0 ignores them.
        motion_dropout: Probability, in training mode, that a sample sees nothing of its motion but its speed.
        patch: Side of a patch [px].
        width: Of all tokens, a multiple of `heads`.
        depth: Layers of the transformer.
        heads: Of its attention.
        registers: Tokens that are kept of each camera.
        decoder: Layers that the proposals read the tokens through.
        proposals: Plans it proposes; 1 regresses without a scorer.
        jerk: As `CNNPlannerSpec.jerk`.
        navigation: As `CNNPlannerSpec.navigation`.
        weights: File of a trained perception, the keys `patches.*`, `encoder.*` ... of `perception`, to begin from
            (safetensors); None for drawn ones.

    Raises:
        UserError: A value is outside its range.
    """

    cameras: tuple[Camera, ...] = (Camera(),)
    plan: PlanSpec = field(default_factory=PlanSpec)
    dt: Tick = 0.1
    stride: Count = 3
    motion_ticks: Count = 5
    target_points: int = 3
    motion_dropout: Share = 0.5
    patch: Count = 8
    width: Count = 96
    depth: Count = 3
    heads: Count = 3
    registers: Count = 8
    decoder: Count = 2
    proposals: Count = 1
    jerk: JerkSpec | None = field(default=None, metadata={"absent": None})
    navigation: bool = field(default=False, metadata={"absent": False})
    weights: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise UserError(
                "`width` of the planner does not share out among its heads",
                got=f"width {self.width}, heads {self.heads}",
                expected="a multiple of the heads",
                fix="set `width` of ViTPlannerSpec",
            )
        sizes = sorted({(camera.width, camera.height) for camera in self.cameras})
        if not sizes or any(width % self.patch or height % self.patch for width, height in sizes):
            raise UserError(
                "`cameras` of the planner do not fit its patches",
                got=", ".join(f"{width}x{height}" for width, height in sizes) or "no camera",
                expected=f"one or more cameras, width and height multiples of {self.patch}",
                fix="set `cameras` or `patch` of ViTPlannerSpec",
            )

    def build(self) -> ViTPlanner:
        """A planner with freshly drawn weights (torch's global generator), or with those of `weights`."""
        return ViTPlanner(self)


class ViTPlanner(Policy):
    """See the module's docstring. Features are the registers of every camera, then the state."""

    spec: ViTPlannerSpec
    times: Float[Tensor, "point"]

    def __init__(self, spec: ViTPlannerSpec):
        super().__init__()
        self.spec = spec  # pyright: ignore[reportIncompatibleVariableOverride]
        self.ego = EgoInputs(spec.motion_ticks, spec.target_points)
        self.register_buffer("times", spec.plan.times(), persistent=False)
        width = spec.width
        self.perception = _Perception(spec)
        self.query = nn.Parameter(torch.randn(spec.proposals, width))
        self.state = nn.Linear(self.ego.size, width)
        self.decoder = nn.ModuleList(_decoder_layer(width, spec.heads) for _ in range(spec.decoder))
        self.answer = _mlp(width, spec.plan.points * 4)
        self.scorer = None
        if spec.proposals > 1:
            self.read_plan = _mlp(spec.plan.points * 4, width)
            self.scorer = _decoder_layer(width, spec.heads)
            self.score = nn.Linear(width, 1)
        self.choose = _mlp(width, spec.jerk.choices) if spec.jerk else None
        with torch.no_grad():  # nearly straight on at first, yet no two proposals alike
            last = self.answer[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
            last.bias.zero_()
        if spec.weights is not None:
            self._load_perception(Path(spec.weights))

    def _load_perception(self, path: Path) -> None:
        from safetensors.torch import load_file

        try:
            self.perception.load_state_dict(load_file(path))
        except Exception as error:
            raise UserError(
                f"{path} holds no perception for this planner",
                got=str(error).splitlines()[0],
                expected="a safetensors file with the names and shapes of `ViTPlanner.perception.state_dict()`",
                fix="rename the tensors, or set width, depth, patch and cameras to those of the file",
            ) from None

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> NoMemory:
        """It has none."""
        return NoMemory()

    def encode(self, observation: Observation) -> Float[Tensor, "*batch feature"]:
        """Registers of every camera, then the state.

        Args:
            observation: Frames `uint8 [*batch height width 3]` of the cameras of the spec, at least `motion_ticks` of
                ego motion, and the intent. A camera whose reading is not valid gives zeros.

        Raises:
            UserError: A camera is missing, its picture has another size, or the ego motion is too short.
        """
        state = self.ego.read(observation)
        tokens = []
        for number, camera in enumerate(self.spec.cameras):
            frames = pictures(observation, camera).float().sub_(127.5).div_(_CONTRAST)
            seen = self.perception(frames, number).flatten(1)
            tokens.append(seen * observation.sensors[camera.name].valid.reshape(-1, 1))
        return torch.cat([torch.cat(tokens, -1).float().reshape(*state.shape[:-1], -1), state], -1)

    def act(
        self, features: Float[Tensor, "*batch feature"], memory: NoMemory, condition: Tensor | None = None
    ) -> PolicyOutput:
        """The plan from features; `condition` must be None, this planner takes none."""
        if condition is not None:
            raise UserError(
                "the planner takes no condition",
                got=f"a tensor of shape {tuple(condition.shape)}",
                expected="None",
                fix="use a policy that is trained with conditions",
            )
        return self._plan(features).replace(memory=memory)

    def forward_sequence(self, observations: Observation, first: Bool[Tensor, "*batch time"]) -> PolicyOutput:
        """What `act` would answer along stretches of driving; the past does not count, so `first` is not read."""
        return self.plan_sequence(self.encode(observations), first)

    def plan_sequence(
        self, features: Float[Tensor, "*batch time feature"], first: Bool[Tensor, "*batch time"]
    ) -> PolicyOutput:
        """The second half of `forward_sequence`, from what `encode` returned."""
        return self._plan(features)

    @in_float32
    def _plan(self, features: Float[Tensor, "*batch feature"]) -> PolicyOutput:
        spec = self.spec
        batch, kept = features.shape[:-1], len(spec.cameras) * spec.registers * spec.width
        features = features.reshape(-1, features.shape[-1])
        tokens, state = features[:, :kept].unflatten(1, (-1, spec.width)), features[:, kept:]
        speed = self.ego.speed(state)
        if self.training and spec.motion_dropout > 0.0:
            state = self.ego.hide_motion(state, spec.motion_dropout)
        own = self.state(state)[:, None]
        queries = self.query + own
        for layer in self.decoder:
            queries = layer(queries, tokens)
        location, reach = constant_velocity_anchor(
            self.answer(queries).unflatten(-1, (spec.plan.points, 4)), speed, self.times
        )
        logit = location.new_zeros(len(location), spec.proposals)
        if self.scorer is not None:
            plans = (location / reach).detach().flatten(-2)
            logit = self.score(self.scorer(self.read_plan(plans) + own, tokens)).squeeze(-1)
        hypotheses = Hypotheses(location, (_SCALE * reach).expand_as(location), logit)
        hypotheses = hypotheses.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]))
        logits = None
        if self.choose is not None:
            logits = self.choose(queries.mean(1)).reshape(*batch, -1)
        return PolicyOutput(hypotheses.best(), None, hypotheses=hypotheses, logits=logits)


class _Perception(nn.Module):
    """Registers of pictures: patches and the registers of their camera through a vision transformer."""

    def __init__(self, spec: ViTPlannerSpec):
        super().__init__()
        width, count = spec.width, len(spec.cameras)
        most = max((c.width // spec.patch) * (c.height // spec.patch) for c in spec.cameras)
        self.patches = nn.Conv2d(3, width, spec.patch, spec.patch)
        self.places = nn.Parameter(0.02 * torch.randn(count, most, width))
        self.registers = nn.Parameter(torch.randn(count, spec.registers, width) / width**0.5)
        layer = nn.TransformerEncoderLayer(
            width, spec.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, spec.depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(
        self, frames: Float[Tensor, "n height width 3"], camera: int
    ) -> Float[Tensor, "n register channel"]:
        patches = self.patches(frames.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        patches = patches + self.places[camera, : patches.shape[1]]
        registers = self.registers[camera].expand(len(patches), -1, -1)
        return self.encoder(torch.cat([registers, patches], 1))[:, : registers.shape[1]]


def _decoder_layer(width: int, heads: int) -> nn.TransformerDecoderLayer:
    return nn.TransformerDecoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))
