"""On-policy training in recorded drives, after comma.ai (arXiv 2504.19077, sections 3 and 5): clone, perturb, on-policy.

    countersteer train reprojection --out runs/reprojection
    countersteer evaluate runs/reprojection --suite lane_keeping

The recordings are films of generated roads, so that there is a true closed loop to test in: boxworld itself, which
no recording offers. Their depth is not the true one but the ground's, from mounting and course; the roads are empty. The three
recipes see the same films with the same budget; who drives differs. The same on recordings of yours:

    countersteer train reprojection --scenarios kitti/06 --out runs/mine
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from countersteer.data.cameras import read
from countersteer.data.sources import CameraDrive, Combined, ProceduralRoads
from countersteer.drivers.drivers import ExpertDriver, LinearSchedule, MixedDriver, PerturbedDriver
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.objectives.imitation import Imitation
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.recipes.recordings import camera_drives
from countersteer.reconstruction.depth import DepthSource
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.recipe import Recipe
from countersteer.training.stages import ClosedLoop, OptimSpec, RolloutSpec
from countersteer.worlds.renderers.films import RenderedLogs, pad_fov
from countersteer.worlds.renderers.reprojection.renderer import ReprojectionRendererSpec
from countersteer.worlds.simulation.logs import RecordedLogs, camera_of_log
from countersteer.worlds.simulation.recorded import RecordedSimulationSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["on_recordings", "on_scenarios", "reprojection", "reprojection_clone", "reprojection_perturb"]

_CAMERA = Camera()


def reprojection_clone() -> Recipe:
    """Behaviour cloning on the recordings: the expert drives, and stays on the recorded path."""
    stage = ClosedLoop(
        name="reprojection_clone",
        scenarios=ProceduralRoads(
            count=16,
            seed=6,
            kinds=(RoadKind.GENTLE, RoadKind.TIGHT, RoadKind.STRAIGHT, RoadKind.S_CURVE),
            lanes=(1, 4),
            traffic=(0, 0),
            length=620.0,
        ),
        world=WorldSpec(
            RecordedSimulationSpec(logs=RenderedLogs(pad_fov(_CAMERA)), duration=10.0),
            ReprojectionRendererSpec(depth=DepthSource.GROUND),
        ),
        policy=CNNPlannerSpec(cameras=(_CAMERA,), bottleneck_bits=160.0),
        expert=RecoveryExpert(),
        driver=ExpertDriver(),
        objective=Imitation(),
        rollouts=RolloutSpec(iterations=1, total_frames=20_000, num_worlds=96),
        optim=OptimSpec(steps=1_600),
    )
    return Recipe.of(stage)


def reprojection_perturb() -> Recipe:
    """The expert drives and is thrown off its course; what it then sees is reprojected."""
    return reprojection_clone().replace(name="reprojection_perturb", driver=PerturbedDriver(ExpertDriver()))


def reprojection() -> Recipe:
    """The policy drives in the recordings, and learns at every state how the recorded path is reached again."""
    driver = PerturbedDriver(
        MixedDriver(expert_probability=LinearSchedule(1.0, 0.0, (0.0, 0.34))), period=10.0
    )
    recipe = reprojection_clone()
    rollouts = dataclasses.replace(recipe.stage.rollouts, iterations=4)
    return recipe.replace(name="reprojection", driver=driver, rollouts=rollouts)


def on_recordings(recipe: Recipe, drives: Sequence[CameraDrive], camera: Camera) -> Recipe:
    """One of the recipes above on recordings.

    Args:
        recipe: Who drives, and how much.
        drives: Camera logs in any format that is read, or parts of them. A drive stays within its part.
        camera: What the policy sees with, mounted as the recorded ones (`camera_of_log`).

    Raises:
        UserError: The first log cannot be read, or its first camera has no calibration.
    """
    renderer = recipe.stage.world.renderer
    assert isinstance(renderer, ReprojectionRendererSpec)
    assert isinstance(recipe.stage.policy, CNNPlannerSpec)
    # Frames are kept at the policy's pixels per degree: finer ones would be sampled with gaps.
    recorded = read(drives[0].path).cameras[0].calibrated()
    share = min(camera.focal / recorded.fx, 1.0)
    size = round(share * recorded.width), round(share * recorded.height)
    world = recipe.stage.world.simulate(logs=RecordedLogs(), duration=4.0, future=2.0)
    world = dataclasses.replace(world, renderer=dataclasses.replace(renderer, depth=None, size=size))
    return recipe.replace(
        scenarios=Combined(tuple(drives)),
        world=world,
        policy=dataclasses.replace(recipe.stage.policy, cameras=(camera,)),
    )


def on_scenarios(recipe: Recipe, folder: Path, message: Callable[[str], None] = print) -> Recipe:
    """One of the recipes above on camera logs: `countersteer train reprojection --scenarios LOG`.

    The policy's camera keeps its size and is mounted as the first recorded one.

    Args:
        recipe: Who drives, and how much.
        folder: A camera log, or a folder of them.
        message: Told which of them nobody can drive in.

    Raises:
        UserError: Nothing there can be driven.
    """
    drives = camera_drives(folder, message)
    seen = recipe.stage.policy.cameras[0]
    camera = camera_of_log(read(drives[0].path), seen.width, seen.height, seen.fov)
    return on_recordings(recipe, drives, camera)
