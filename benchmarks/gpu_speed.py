"""Parts of `gpu.py` that ask how fast a GPU drives, draws and learns."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_parts import SEED, Row, Settings, actions_of, driven


def state(at: Settings) -> Iterator[Row]:
    """Ticks with the vector observation; car steps a second."""
    from countersteer.evaluation.speed import crossroads, measure

    sizes = at.pick([(2, 2)], [(64, 16), (1024, 16), (4096, 16), (1024, 1)])
    for worlds, agents in sizes:
        scenes = crossroads(at.pick(1, 8), agents)
        row = measure(
            "state", scenes, worlds=worlds, agents=agents, device=at.device, seconds=at.pick(0.1, 3.0)
        )
        yield row.to_json()


def state_compiled(at: Settings) -> Iterator[Row]:
    """The same by `torch.compile`, and how long its first turn takes."""
    import torch

    from countersteer.worlds.backend import Backend
    from countersteer.worlds.sensors.vector import VectorSpec

    if at.quick:
        # Compiling takes a minute here; the rest of this part is the same.
        torch.compile = lambda function, **_: function
    worlds, agents = at.pick((2, 2), (1024, 16))
    world = driven(worlds, agents, (VectorSpec(),), at.device, backend=Backend.COMPILED)
    actions = actions_of(world, 8)
    rows, turns = torch.arange(worlds, device=world.device), iter(range(10**12))

    def turn() -> None:
        number = next(turns)
        world.step(actions[number % len(actions)])
        world.reset(~world.alive().any(1), world.draw_starts(number * worlds + rows))
        world.observe()

    with torch.no_grad():
        began = time.perf_counter()
        turn()
        at.wait()
        first = time.perf_counter() - began
        rate = at.rate(turn)
    yield {
        "worlds": worlds,
        "agents": agents,
        "first_turn_s": first,
        "agent_steps_per_s": rate * worlds * agents,
    }


def pictures(at: Settings) -> Iterator[Row]:
    """Pictures a second, drawn alone and in a full step, by size and cameras."""
    from countersteer.evaluation.speed import all_around, crossroads, measure

    worlds, agents = at.pick((1, 2), (128, 8))
    scenes = crossroads(at.pick(1, 8), agents)
    stages = ("render", "full")
    sizes = at.pick([(32, 16)], [(64, 32), (128, 64), (256, 128)])
    if at.device == "cpu" and at.quick:
        stages = ("render",)
    for count in (1, 4):
        for width, height in sizes:
            for stage in stages:
                row = measure(
                    stage, scenes, worlds=worlds, agents=agents, cameras=all_around(count, width, height),
                    device=at.device, seconds=at.pick(0.05, 1.5),
                )  # fmt: skip
                yield row.to_json() | {"pictures_per_s": row.agent_steps_per_s * count}


def environment_steps(at: Settings) -> Iterator[Row]:
    """The Gymnasium environment, whose arrays come to the host at every step."""
    from gymnasium.vector import AutoresetMode

    from countersteer.environments.vector import DrivingVectorEnv
    from countersteer.worlds.sensors.vector import VectorSpec

    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        world = driven(at.pick(2, 1024), 1, (VectorSpec(),), at.device)
        env = DrivingVectorEnv(world, autoreset_mode=mode)
        env.reset(seed=SEED)
        env.action_space.seed(SEED)
        action = env.action_space.sample()
        rate = at.rate(lambda: env.step(action))  # noqa: B023
        yield {"autoreset": mode.value, "cars": env.num_envs, "agent_steps_per_s": rate * env.num_envs}


# --- learning -----------------------------------------------------------------------------------


def _imitation_batch(spec: Any, batch: int, time_: int) -> Any:
    """Noise, which is learned from as fast or slowly as any picture."""
    import torch

    from countersteer.objectives.imitation import ImitationBatch
    from countersteer.vehicles.plans import Plan
    from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading

    shape, camera, points = (batch, time_), spec.cameras[0], spec.plan.points
    generator, yes = torch.Generator().manual_seed(SEED), torch.ones(batch, time_, dtype=torch.bool)
    size = (*shape, camera.height, camera.width, 3)
    noise = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    speed = torch.full((*shape, spec.motion_ticks), 10.0)
    zero = torch.zeros(shape)
    seen = Observation(
        {camera.name: SensorReading(noise, zero, yes)},
        EgoMotion(speed, torch.zeros_like(speed), torch.ones_like(speed, dtype=torch.bool)),
        Intent(zero.long(), zero, zero + 10.0, torch.zeros(*shape, 0, 2), ~yes),
    )
    ahead = 10.0 * spec.plan.times().expand(*shape, -1)
    label = Plan(
        torch.stack([ahead, 0 * ahead], -1), torch.zeros(*shape, points), torch.full_like(ahead, 10.0)
    )
    return ImitationBatch(seen, ~yes, label, yes)


def training_step(at: Settings) -> Iterator[Row]:
    """A gradient step of the planner in float32, in bfloat16 and compiled; pictures a second."""
    import torch

    from countersteer.geometry.cameras import Camera
    from countersteer.objectives.imitation import Imitation
    from countersteer.policies.planner import CNNPlannerSpec
    from countersteer.training.learner import Learner
    from countersteer.training.stages import OptimSpec

    small: Row = {"cameras": (Camera(width=32, height=16),), "channels": (4, 8), "features": 8, "hidden": 16, "history": (1,)}  # fmt: skip
    spec = CNNPlannerSpec(**(small if at.quick else {}))
    for sequences in at.pick([2], [OptimSpec().batch_size, 64, 256]):
        length = at.pick(4, OptimSpec().sequence_length)
        batch = _imitation_batch(spec, sequences, length).to(at.device)
        for precision in ("float32", "bf16"):
            for compiled in (False, True):
                torch.manual_seed(SEED)
                planner = spec.build()
                learner = Learner({"policy": planner}, {}, Imitation(mirror=False), OptimSpec(), at.device)
                ask = planner.forward_sequence
                if compiled:
                    # Without a compiler's minute in a quick run, whose speeds say nothing.
                    ask = torch.compile(ask, backend="eager" if at.quick else "inductor")

                def answer(*given: Any, ask: Any = ask, low: bool = precision == "bf16") -> Any:
                    kind = torch.device(at.device).type
                    with torch.autocast(kind, torch.bfloat16, enabled=low):
                        return ask(*given)

                planner.forward_sequence = answer
                began = time.perf_counter()
                logged = learner.update(batch)
                at.wait()
                first, loss = time.perf_counter() - began, logged["loss/policy"]
                rate = at.rate(lambda: learner.update(batch))  # noqa: B023
                yield {
                    "batch": [sequences, length],
                    "precision": precision,
                    "compiled": compiled,
                    "first_step_s": first,
                    "first_loss": loss,
                    "ms": 1e3 / rate,
                    "pictures_per_s": rate * sequences * length,
                }


def _train(recipe: Any, at: Settings, out: Path) -> Iterator[Row]:
    """Train with worlds and learner on the device; what it told on the way."""
    from countersteer.training.run import Progress, train

    class Noted(Progress):
        def __init__(self) -> None:
            self.rounds: list[Row] = []
            self.losses: list[float] = []
            self.rates: list[float] = []

        def collected(
            self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
        ) -> None:
            self.rounds.append({"frames": frames, "seconds": seconds, "outcomes": outcomes})

        def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
            self.losses.append(logged["loss/policy"])
            self.rates.append(samples_per_s)

    noted, began = Noted(), time.perf_counter()
    train(recipe, out, seed=SEED, device=at.device, actor_device=at.device, progress=noted)
    rates = sorted(noted.rates)
    yield {
        "recipe": recipe.name,
        "seconds": time.perf_counter() - began,
        "rounds": noted.rounds,
        "steps": len(noted.losses),
        "losses": [noted.losses[0], noted.losses[-1]],
        "samples_per_s": rates[len(rates) // 2],
    }


def teacher(at: Settings) -> Iterator[Row]:
    """A short training of the self-play teacher."""
    from countersteer.recipes.self_play import roads, self_play_teacher, self_play_world
    from countersteer.training.stages import RolloutSpec

    recipe = self_play_teacher()
    stage = recipe.stage
    iterations, worlds, agents, ticks = at.pick((2, 2, 3, 12), (4, 256, 12, 129))
    policy = dataclasses.replace(stage.policy, token_dim=8, hidden=8) if at.quick else stage.policy
    frames = iterations * worlds * agents * ticks
    optim = dataclasses.replace(
        stage.optim, steps=iterations * at.pick(1, 40), batch_size=at.pick(2, 256), sequence_length=ticks
    )
    yield from _train(
        recipe.replace(
            scenarios=roads(at.pick(2, 24)),
            world=self_play_world(agents),
            policy=policy,
            rollouts=RolloutSpec.even(iterations, frames, worlds, stage.rollouts.min_active_fraction),
            optim=optim,
        ),
        at,
        at.work / "teacher",
    )


def student(at: Settings) -> Iterator[Row]:
    """A short training of the self-play student, asked by that teacher, or by an untrained one where there is none."""
    from countersteer.geometry.cameras import Camera
    from countersteer.policies.storage import save_policy
    from countersteer.policies.weights import Weights
    from countersteer.recipes.self_play import roads, self_play, self_play_teacher
    from countersteer.training.stages import RolloutSpec

    asked = at.work / "teacher" / "policy.safetensors"
    untrained = not asked.is_file()
    if untrained:
        asked = at.work / "untrained.safetensors"
        save_policy(asked, self_play_teacher().stage.policy.build(), "untrained", SEED, 0.0, {})
    recipe = self_play(Weights(str(asked)))
    stage = recipe.stage
    worlds, agents, frames, iterations = at.pick((2, 2, 40, 2), (96, 8, 24_000, 2))
    policy = stage.policy
    if at.quick:
        camera = Camera(width=32, height=16)
        policy = dataclasses.replace(policy, cameras=(camera,), channels=(4, 8), features=8, hidden=16, history=(1,))  # fmt: skip
    optim = dataclasses.replace(
        stage.optim, steps=at.pick(2, 150), **({"batch_size": 2, "sequence_length": 4} if at.quick else {})
    )
    smaller = recipe.replace(
        scenarios=roads(at.pick(2, 24)),
        world=stage.world.simulate(agents=agents),
        policy=policy,
        rollouts=RolloutSpec(
            iterations=iterations, total_frames=frames, num_worlds=worlds, min_active_fraction=0.3
        ),
        optim=optim,
    )
    for row in _train(smaller, at, at.work / "student"):
        yield row | {"untrained_teacher": untrained}
