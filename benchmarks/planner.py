"""Speed of the camera planner: images a second in training, milliseconds in driving; what its encoder costs.

    python benchmarks/planner.py [--threads 2] [--rounds 3] [--processor-time]

Training is a whole step (forward, imitation loss, backward, clipping, AdamW) on the stretches of a recipe's batch
(`Learning`), frames as large as the planner's, float32. The alternatives to the planner's encoder differ in one
respect each. Every round times every encoder, and the best step of all rounds counts, so that a busy machine
disturbs the comparison little; on a very busy one take --threads 1 --processor-time, which leaves out the time spent waiting for a core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading
from torch import Tensor, nn

from countersteer.objectives.imitation import Batch, Imitation
from countersteer.policies.planner import CNNPlanner, CNNPlannerSpec
from countersteer.training.recipe import OptimSpec
from countersteer.vehicles.plans import Plan

SPEC = CNNPlannerSpec()


def observation(*batch: int) -> Observation:
    """Noise, as fast or slow as any picture."""
    camera, yes = SPEC.cameras[0], torch.ones(batch, dtype=torch.bool)
    pictures = torch.randint(0, 256, (*batch, camera.height, camera.width, 3), dtype=torch.uint8)
    speed = torch.full((*batch, SPEC.motion_ticks), 10.0)
    return Observation(
        {camera.name: SensorReading(pictures, torch.zeros(batch), yes)},
        EgoMotion(speed, torch.zeros_like(speed), torch.ones_like(speed, dtype=torch.bool)),
        Intent(
            torch.zeros(batch, dtype=torch.long),
            torch.zeros(batch),
            torch.full(batch, 10.0),
            torch.zeros(*batch, 0, 2),
            ~yes,
        ),
    )


class ChannelNorm(nn.Module):
    """Layer normalisation of each position's channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n channel height width], channels last in memory."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def full(narrow: int, wide: int) -> list[nn.Module]:
    """The planner's own stage."""
    return [nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]


def depthwise(narrow: int, wide: int) -> list[nn.Module]:
    """A 5x5 convolution of each channel, then a mixing of channels."""
    return [nn.Conv2d(narrow, narrow, 5, stride=2, padding=2, groups=narrow), nn.Conv2d(narrow, wide, 1)]


def merging(narrow: int, wide: int) -> list[nn.Module]:
    """2x2 patches without overlap."""
    return [nn.Conv2d(narrow, wide, 2, stride=2)]


def variant(
    patch: int = 4,
    channels: tuple[int, ...] = (32, 64, 128),
    stage: Callable[[int, int], list[nn.Module]] = full,
    norm: Callable[[int], nn.Module] | None = None,
) -> CNNPlanner:
    """A planner with another encoder in front of the same head."""
    planner = SPEC.build()
    camera = SPEC.cameras[0]
    layers: list[nn.Module] = []
    for number, wide in enumerate(channels):
        layers += stage(channels[number - 1], wide) if number else []
        layers += [norm(wide)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    planner.patches = nn.Conv2d(3, channels[0], patch, patch)
    planner.stages = nn.Sequential(*layers)
    shrink = patch * 2 ** (len(channels) - 1)
    positions = (camera.height // shrink) * (camera.width // shrink)
    planner.image_features = nn.Linear(positions * channels[-1], SPEC.features)
    return planner.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


ENCODERS: dict[str, Callable[[], CNNPlanner]] = {
    "the planner's own: 4 px patches, 3x3 convolutions 32-64-128": SPEC.build,
    "with group normalisation": lambda: variant(norm=lambda c: nn.GroupNorm(8, c)),
    "with layer normalisation of channels": lambda: variant(norm=ChannelNorm),
    "depthwise 5x5 + 1x1 stages": lambda: variant(stage=depthwise),
    "2x2 patch merging stages": lambda: variant(stage=merging),
    "48-96-128 channels": lambda: variant(channels=(48, 96, 128)),
    "8 px patches, 64-128 channels": lambda: variant(8, (64, 128)),
    "8 px patches, 96-128 channels": lambda: variant(8, (96, 128)),
}


def best(work: Callable[[], object], seconds: float, clock: Callable[[], float]) -> float:
    """Shortest of the repetitions that fit into a time, at least three [s]."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def training_step(planner: CNNPlanner, batch: Batch) -> Callable[[], object]:
    """One whole step of learning."""
    optimizer = torch.optim.AdamW(planner.parameters(), 1e-4)
    objective = Imitation()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective.losses({"policy": planner}, batch).groups["policy"].backward()
        nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    points = SPEC.plan.points
    shape = (OptimSpec().sequences, OptimSpec().length)
    no = torch.zeros(shape, dtype=torch.bool)
    label = Plan(torch.zeros(*shape, points, 2), torch.zeros(*shape, points), torch.zeros(*shape, points))
    batch = Batch(observation(*shape), no, label, ~no)

    planners = {name: build() for name, build in ENCODERS.items()}
    steps = {name: training_step(planner, batch) for name, planner in planners.items()}
    seconds = dict.fromkeys(planners, float("inf"))
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            seconds[name] = min(seconds[name], best(step, 0.5, clock))
    unit = "processor time" if arguments.processor_time else "wall time"
    print(
        f"training, batch {shape[0]} x {shape[1]}, {arguments.threads} threads, {unit}, torch {torch.__version__}\n"
    )
    print("| encoder | parameters | images/s |\n|---|---|---|")
    for name, planner in planners.items():
        size = sum(p.numel() for p in planner.parameters())
        print(f"| {name} | {size / 1e6:.2f} M | {batch.first.numel() / seconds[name]:,.0f} |")

    planner = next(iter(planners.values())).eval()
    print("\ndriving (encode + act)\n\n| batch | ms | images/s |\n|---|---|---|")
    for count in (1, 24, 48):
        seen, memory = observation(count), planner.initial_memory((count,))
        with torch.no_grad():
            spent = min(
                best(lambda: planner.act(planner.encode(seen), memory), 0.3, clock)  # noqa: B023
                for _ in range(arguments.rounds)
            )
        print(f"| {count} | {spent * 1e3:.2f} | {count / spent:,.0f} |")


if __name__ == "__main__":
    main()
