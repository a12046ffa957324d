"""A compact camera planner: a few frames and the car's own motion in, a few hypothetical plans out.

Each frame is encoded once by a small convolutional network whose feature map is flattened, not pooled,
because where a lane marking is in the picture is what lane keeping needs. A multi-layer perceptron reads
the features of the current and of some earlier frames, the car's motion and its intent, and answers with
Laplace hypotheses in the manner of comma.ai (arXiv 2504.19077, section 4). Its residuals are relative to
going straight on at the present speed, in units of what a car can reach by then, so an untrained planner
already drives straight and every output is of order one.

A car's past motion predicts its own next motion so well that a net allowed to see it copies it and looks
at the road less (the copycat problem). In training it is therefore dropped for half of the samples, as in
ChauffeurNet (Bansal et al. 2018, section 3.4); the present speed stays.

Where pictures are made from recorded ones, what they lack gives away how far the car has departed. `CNNPlannerSpec.bottleneck_bits`
bounds what features can say: they lie in [-1, 1] and carry Gaussian noise while training.

The planner has no normalisation layers: on a CPU they cost 20 to 42 % of the throughput
(`benchmarks/planner.py` prints the table), and at four layers it trains without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.ego import EgoInputs, constant_velocity_anchor, pictures
from countersteer.policies.interface import Hypotheses, Policy, PolicyOutput, PolicySpec
from countersteer.policies.precision import centred, in_float32
from countersteer.ranges import Count, Positive, Share, Tick, check_increasing
from countersteer.tensors import TensorTree
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.worlds.observations import Observation

__all__ = ["CNNPlanner", "PlannerMemory", "CNNPlannerSpec"]

_CONTRAST = 64.0  # grey levels that count as one
# Smallest Laplace scales: x [m], y [m], heading [rad], speed [m/s]. Below them a label is noise.
_SCALE_FLOOR = (0.05, 0.05, 0.005, 0.05)
_PATCH = 4


@dataclass(frozen=True)
class CNNPlannerSpec(PolicySpec):
    """Describes a `CNNPlanner`.

    Attributes:
        cameras: Cameras it sees with, all of one size; width and height are multiples of 4 px.
        plan: Times of its plans.
        dt: Tick it is run at [s].
        stride: Ticks between the frames it may look at; training needs every `stride`-th frame only.
        history: Earlier frames it looks at beside the current one, counted back in strides, increasing.
            Having crossed a line a second ago tells a lane change that is done from one that is not.
        motion_ticks: Ticks of ego motion it reads, the current one included.
        hypotheses: Plans it proposes.
        channels: Width of the patch embedding, then of each convolution, which halves the resolution.
        features: Width of what it keeps of a frame.
        hidden: Width of the layers that plan.
        motion_dropout: Probability, in training mode, that a sample sees nothing of its motion but its speed.
        target_points: Target points of the intent that it reads; 0 ignores them, given or not.
        navigation: Whether it is trained to be told left or right at turns (`RoadSettings.navigation`).
        jerk: Discrete jerks that it gives odds of beside its plans; None for none.
        bottleneck_bits: Bits that the image features of a frame may carry while training; None sets no bound. See
            `CNNPlanner.bits`.
        blind: Sees the mean image instead of every picture; a baseline for how far motion and intent lead.

    Raises:
        UserError: A value is outside its range.
    """

    cameras: tuple[Camera, ...] = (Camera(),)
    plan: PlanSpec = field(default_factory=PlanSpec)
    dt: Tick = 0.1
    stride: Count = 3
    history: tuple[Count, ...] = (2, 4, 6)
    motion_ticks: Count = 5
    hypotheses: Count = 3
    channels: tuple[Count, ...] = (32, 64, 128)
    features: Count = 128
    hidden: Count = 256
    motion_dropout: Share = 0.5
    target_points: int = 0
    navigation: bool = field(default=False, metadata={"absent": False})
    jerk: JerkSpec | None = field(default=None, metadata={"absent": None})
    bottleneck_bits: Positive | None = field(default=None, metadata={"absent": None})
    blind: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "history", strictly=True)
        sizes = sorted({(camera.width, camera.height) for camera in self.cameras})
        if len(sizes) != 1 or sizes[0][0] % _PATCH or sizes[0][1] % _PATCH:
            raise UserError(
                "`cameras` of the planner do not fit its encoder",
                got=", ".join(f"{width}x{height}" for width, height in sizes) or "no camera",
                expected=f"one or more cameras of one size, width and height multiples of {_PATCH}",
                fix="set `cameras` of CNNPlannerSpec",
            )

    @property
    def memory_ticks(self) -> int:
        """Ticks back to the oldest frame it looks at."""
        return max(self.history, default=0) * self.stride

    @property
    def look_back(self) -> list[int]:
        """Strides back to each frame it looks at, the oldest first, 0 for the current one."""
        return [*reversed(self.history), 0]

    @property
    def noise(self) -> float:
        """Standard deviation of the noise that `bottleneck_bits` asks for on features in [-1, 1]; 0 without a bound."""
        if self.bottleneck_bits is None:
            return 0.0
        return 1.0 / math.sqrt(math.expm1(2.0 * math.log(2.0) * self.bottleneck_bits / self.features))

    def build(self) -> CNNPlanner:
        """A planner with freshly drawn weights (torch's global generator)."""
        return CNNPlanner(self)


@dataclass(frozen=True)
class PlannerMemory(TensorTree):
    """Image features of the last ticks, the oldest first.

    Attributes:
        images: One row for each of the last `CNNPlannerSpec.memory_ticks` ticks; 0 where there was none.
        valid: False before the drive began.
    """

    images: Float[Tensor, "*batch tick image"]
    valid: Bool[Tensor, "*batch tick"]


class CNNPlanner(Policy):
    """See the module's docstring. Features are `CNNPlannerSpec.features` numbers of the image, then the state.

    Attributes:
        mean_image: What a blind planner sees and any other has subtracted, in [0, 255]; mid-grey until
            `calibrate`.
    """

    spec: CNNPlannerSpec
    mean_image: Float[Tensor, "camera height width 3"]
    times: Float[Tensor, "point"]
    scale_floor: Float[Tensor, "4"]

    def __init__(self, spec: CNNPlannerSpec):
        super().__init__()
        self.spec = spec  # pyright: ignore[reportIncompatibleVariableOverride]
        height, width = spec.cameras[0].height, spec.cameras[0].width
        self.register_buffer("mean_image", torch.full((len(spec.cameras), height, width, 3), 127.5))
        self.register_buffer("times", spec.plan.times(), persistent=False)
        self.register_buffer("scale_floor", torch.tensor(_SCALE_FLOOR), persistent=False)

        self.patches = nn.Conv2d(3, spec.channels[0], _PATCH, _PATCH)
        height, width = height // _PATCH, width // _PATCH
        stages: list[nn.Module] = [nn.ReLU(inplace=True)]
        for narrow, wide in zip(spec.channels[:-1], spec.channels[1:], strict=True):
            stages += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
            height, width = (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.image_features = nn.Linear(len(spec.cameras) * height * width * spec.channels[-1], spec.features)

        self.ego = EgoInputs(spec.motion_ticks, spec.target_points)
        answers = spec.hypotheses * (spec.plan.points * 8 + 1)
        self.head = nn.Sequential(
            nn.Linear(len(spec.look_back) * (spec.features + 1) + self.ego.size, spec.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(spec.hidden, spec.hidden),
            nn.ReLU(inplace=True),
        )
        self.answer = nn.Linear(spec.hidden, answers)
        self.choose = nn.Linear(spec.hidden, spec.jerk.choices) if spec.jerk else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():  # nearly straight on at first, yet no two hypotheses alike
            self.answer.weight.mul_(0.01)
            if self.choose is not None:
                self.choose.weight.mul_(0.01)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def calibrate(self, observation: Observation) -> None:
        """Take the mean image from data. Before training only, for it changes what the weights mean.

        Args:
            observation: Any number of observations; readings that are not valid do not count.

        Raises:
            UserError: A camera has no valid reading.
        """
        for camera, mean in zip(self.spec.cameras, self.mean_image, strict=True):
            frames = pictures(observation, camera)
            valid = observation.sensors[camera.name].valid.reshape(-1)
            if not valid.any():
                raise UserError(
                    f"no picture of camera {camera.name!r} is valid, so there is no mean image",
                    got="no valid reading",
                    expected="at least one",
                    fix="pass observations of drives that have begun",
                )
            total = torch.zeros_like(mean, dtype=torch.int64)
            # In parts: a round of driving is gigabytes once its bytes are copied or are floats.
            for part, counts in zip(frames.split(256), valid.split(256), strict=True):
                total += part[counts].sum(0, dtype=torch.int32)
            mean.copy_(total / valid.sum())

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> PlannerMemory:
        """Memory at the start of a drive, leading dimensions `batch`: no earlier frame."""
        ticks = self.spec.memory_ticks
        return PlannerMemory(
            torch.zeros(*batch, ticks, self.spec.features, device=device),
            torch.zeros(*batch, ticks, dtype=torch.bool, device=device),
        )

    def encode(self, observation: Observation) -> Float[Tensor, "*batch feature"]:
        """Features of one observation, without memory.

        Args:
            observation: Frames `uint8 [*batch height width 3]` of the cameras of the spec, at least
                `motion_ticks` of ego motion, and the intent. A camera whose reading is not valid adds nothing
                to the image features, whatever its data holds.

        Raises:
            UserError: A camera is missing, its picture has another size, or the ego motion is too short.
        """
        state = self.ego.read(observation)
        batch = state.shape[:-1]
        if self.spec.blind:
            # The mean image less the mean image; one row of it serves the whole batch.
            nothing = torch.zeros_like(self.mean_image)
            maps = [self._see(nothing[i : i + 1]) for i in range(len(self.spec.cameras))]
            image = self._kept(self.image_features(torch.cat(maps, -1)).expand(*batch, -1))
        else:
            maps = []
            for camera, mean in zip(self.spec.cameras, self.mean_image, strict=True):
                frames = centred(pictures(observation, camera), mean)
                maps.append(self._see(frames) * observation.sensors[camera.name].valid.reshape(-1, 1))
            image = self._kept(self.image_features(torch.cat(maps, -1)).reshape(*batch, -1))
        return torch.cat([image.float(), state], -1)

    def _kept(self, image: Float[Tensor, "*batch image"]) -> Float[Tensor, "*batch image"]:
        """What is kept of a frame: rectified, or bounded and, while training, noisy."""
        if self.spec.bottleneck_bits is None:
            return image.relu()
        image = image.tanh()
        return image + self.spec.noise * torch.randn_like(image) if self.training else image

    def bits(self, features: Float[Tensor, "sample feature"]) -> float:
        """Information that the image features of a frame carry past the noise of training, at most [bit].

        A channel of power P below Gaussian noise of variance s^2 carries no more than log2(1 + P / s^2) / 2 bits, and
        P <= 1 since features lie in [-1, 1] (comma.ai, arXiv 2504.19077, section 5.2, bounds theirs to some 700
        bits). Features whose variance is small carry less than `CNNPlannerSpec.bottleneck_bits`.

        Args:
            features: What `encode` returned in evaluation mode, of many frames.

        Raises:
            UserError: This planner has no bound.
        """
        if self.spec.bottleneck_bits is None:
            raise UserError(
                "features without noise carry any number of bits",
                got="bottleneck_bits None",
                expected="a planner with a bound",
                fix="set `bottleneck_bits` of CNNPlannerSpec",
            )
        power = features.detach()[..., : self.spec.features].flatten(0, -2).var(0, correction=0)
        return float((1.0 + power / self.spec.noise**2).log2().sum() / 2.0)

    def act(
        self,
        features: Float[Tensor, "*batch feature"],
        memory: PlannerMemory,
        condition: Tensor | None = None,
    ) -> PolicyOutput:
        """The plan, from features and memory; call once a tick.

        Args:
            features: What `encode` returned.
            memory: What the last tick returned, or `initial_memory` where a drive begins.
            condition: Must be None; this planner takes none.
        """
        if condition is not None:
            raise UserError(
                "the planner takes no condition",
                got=f"a tensor of shape {tuple(condition.shape)}",
                expected="None",
                fix="use a policy that is trained with conditions",
            )
        image, state = features[..., : self.spec.features], features[..., self.spec.features :]
        images = torch.cat([memory.images, image[..., None, :]], -2)
        valid = torch.cat([memory.valid, memory.valid.new_ones(*image.shape[:-1], 1)], -1)
        seen = [self.spec.memory_ticks - back * self.spec.stride for back in self.spec.look_back]
        answer = self._plan(images[..., seen, :], valid[..., seen], state)
        return answer.replace(memory=PlannerMemory(images[..., 1:, :], valid[..., 1:]))

    def forward_sequence(self, observations: Observation, first: Bool[Tensor, "*batch time"]) -> PolicyOutput:
        """What `act` would answer along stretches of driving, for training: each frame is encoded once.

        Args:
            observations: Leading dimensions `[*batch time]`; frames `CNNPlannerSpec.stride` ticks apart.
            first: True where what was seen before this frame does not count: since the last frame a drive
                began or the car was displaced. The past of a stretch's own first frame is unknown, so its
                first `history[-1]` answers may know less than `act` would.

        Returns:
            Answers `[*batch time ...]` without memory. In training mode the motion is dropped for each frame on
            its own.
        """
        return self.plan_sequence(self.encode(observations), first)

    def plan_sequence(
        self, features: Float[Tensor, "*batch time feature"], first: Bool[Tensor, "*batch time"]
    ) -> PolicyOutput:
        """The second half of `forward_sequence`, from what `encode` returned."""
        image, state = features[..., : self.spec.features], features[..., self.spec.features :]
        time, before = first.shape[-1], max(self.spec.look_back)
        images = functional.pad(image, (0, 0, before, 0))
        drive = functional.pad(first.long().cumsum(-1), (before, 0), value=-1)
        present = drive[..., before:]
        starts = [before - back for back in self.spec.look_back]
        valid = torch.stack([drive[..., k : k + time] == present for k in starts], -1)
        seen = torch.stack([images[..., k : k + time, :] for k in starts], -2)
        return self._plan(seen * valid[..., None], valid, state)

    def _see(self, frames: Float[Tensor, "n height width 3"]) -> Float[Tensor, "n map"]:
        """The flattened feature map of centred frames; channels stay last, so nothing is transposed."""
        # The contrast divides the weights, not the pixels: the same for one pass less over the images.
        patches = functional.conv2d(
            frames.permute(0, 3, 1, 2),
            self.patches.weight / _CONTRAST,
            self.patches.bias,
            self.patches.stride,
        )
        return self.stages(patches).permute(0, 2, 3, 1).flatten(1)

    @in_float32
    def _plan(
        self,
        images: Float[Tensor, "*batch frame image"],
        valid: Bool[Tensor, "*batch frame"],
        state: Float[Tensor, "*batch state"],
    ) -> PolicyOutput:
        """The answer from the frames to look at, the oldest first; invalid ones are zero. Without memory."""
        batch, spec = state.shape[:-1], self.spec
        speed = self.ego.speed(state)
        if self.training and spec.motion_dropout > 0.0:
            state = self.ego.hide_motion(state, spec.motion_dropout)
        hidden = self.head(torch.cat([images.flatten(-2), valid.float(), state], -1))
        answer = self.answer(hidden)
        curves, logit = answer[..., : -spec.hypotheses], answer[..., -spec.hypotheses :]
        residual, spread = curves.reshape(*batch, spec.hypotheses, spec.plan.points, 8).split(4, -1)

        # softplus(-1.5) = 0.2: at first a fifth of the reach.
        location, reach = constant_velocity_anchor(residual, speed, self.times)
        scale = self.scale_floor + functional.softplus(spread - 1.5) * reach
        hypotheses = Hypotheses(location, scale, logit)
        logits = self.choose(hidden) if self.choose is not None else None
        return PolicyOutput(hypotheses.best(), None, hypotheses=hypotheses, logits=logits)
