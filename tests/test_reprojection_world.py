"""The reprojection world: the recorded picture at the recorded pose, trust, kept depth."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from countersteer.data.cameras import PicturesInMemory, read
from countersteer.data.cameras.drive import drive_of_log
from countersteer.data.sources import CameraDrive
from countersteer.errors import UserError
from countersteer.experts.log import LogExpert
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.recipes.reprojection import on_recordings as of_recording
from countersteer.recipes.reprojection import reprojection
from countersteer.reconstruction.depth import DepthMap, DepthSource, of_log, stored, stored_depths
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Recording, Scenario
from countersteer.storage import serialise
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.plans import Action, PlanSpec
from countersteer.vehicles.trackers import PurePursuit
from countersteer.worlds.interface import Outputs, TerminationReason
from countersteer.worlds.renderers.films import RenderedLogs, pad_fov
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.simulation.logs import RecordedLogs, camera_of_log
from countersteer.worlds.simulation.recorded import ValidityCorridor
from countersteer.worlds.world import World, WorldSpec
from worlds import changed, reprojected

CAMERA = Camera(width=32, height=16)
EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
SPEC = reprojected(
    cameras=(CAMERA,), vehicle=EXACT, logs=RenderedLogs(pad_fov(CAMERA, 8, 2)), future=1.0, duration=5.0
)


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    kinds = (RoadKind.STRAIGHT, RoadKind.GENTLE, RoadKind.TIGHT)
    return [procedural_road(60 + k, kind, lanes=2, traffic=0, duration=8.0) for k, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def world(roads: list[Scenario]) -> World:
    return SPEC.build(roads, 3, seed=4)


def at(world: World, tick: int) -> World:
    """A fork with one drive on each recording, on its recorded pose."""
    rows = torch.arange(3)
    twin = world.fork(rows)
    starts = twin.starts_at(rows, torch.full_like(rows, tick), rows, jitter=False)
    twin.reset(torch.ones(3, dtype=torch.bool), starts)
    return twin


def moved(world: World, lateral: float = 0.0, heading: float = 0.0) -> World:
    twin, one = world.fork(torch.arange(world.batch)), torch.ones(world.batch, 1)
    twin.perturb(lateral * one, heading * one, one)
    return twin


def recorded(world: World, scene: int, frame: int) -> torch.Tensor:
    """What the policy's part of a film shows."""
    return torch.from_numpy(world.simulation.logs[scene].cameras[0].frames[frame][2:-2, 8:-8].copy())


def departed(world: World, camera: Camera):
    """What the renderer makes of the view, with its shares."""
    return world.renderer.departed(world.simulation.scene(world.state.simulation), camera)


def expert_action(world: World) -> Action:
    motion = world.motion()
    return PurePursuit().track(RecoveryExpert().label(world).plan, PlanSpec(), motion.speed, motion.curvature)


# The recording.


@pytest.mark.parametrize("tick", [0, 17, 60])
def test_at_a_recorded_pose_the_picture_is_the_recorded_one(world: World, tick: int):
    data = at(world, tick).observe().sensors["front"].data[:, 0]
    for scene in range(3):
        assert torch.equal(data[scene], recorded(world, scene, tick))


def test_the_logs_own_actions_show_the_recorded_frames(world: World):
    """Curvatures and speeds of the recording, driven by a car without delay: its film again, bit by bit on a straight."""
    here, bank = at(world, 0), world.simulation.bank
    bends = here.path_at(here.simulation.recordings.tick_arc[:, None]).curvature
    faster = torch.diff(bank.speed[:, 0], dim=1) / SPEC.dt
    for tick in range(1, 50):
        here.step(Action(bends[:, :, tick], faster[:, tick - 1, None]))
        data = here.observe().sensors["front"].data[:, 0]
        assert torch.equal(data[0], recorded(world, 0, tick))
        for scene in (1, 2):
            error = (data[scene].double() - recorded(world, scene, tick).double()).square().mean()
            assert 10 * math.log10(255**2 / max(float(error), 1e-9)) > 35
    assert here.state.simulation.tick.tolist() == [49, 49, 49]
    assert bool((here.confidence() == 1).all())


def test_a_slower_car_sees_the_frames_of_where_it_is(world: World):
    here = at(world, 0)
    here.perturb(torch.zeros(3, 1), torch.zeros(3, 1), torch.full((3, 1), 0.5))
    for _ in range(20):
        here.step(Action(torch.zeros(3, 1), torch.zeros(3, 1)))
    assert int(here.state.simulation.tick[0]) == 10
    assert torch.equal(here.observe().sensors["front"].data[0, 0], recorded(world, 0, 10))
    now, later = here.log_at(torch.tensor([0.0, 1.0])).position[0, 0]
    assert float((now - here.truth().position[0, 0]).norm()) < 0.01, "the log is where the car is"
    speed = float(world.simulation.bank.speed[0, 0, 10])
    assert float((later - now).norm()) == pytest.approx(speed, rel=0.02), "and goes on at its own pace"


@pytest.mark.parametrize("lateral", [-1.5, 0.7])
def test_from_beside_the_picture_is_nearly_the_true_one(world: World, roads: list[Scenario], lateral: float):
    from countersteer.worlds.renderers.films import Studio

    there = moved(at(world, 30), lateral, 0.03)
    studio = Studio(dataclasses.replace(SPEC.simulation.logs, camera=CAMERA), roads)
    for scene in range(3):
        one = torch.ones(1)
        true, *_ = studio.look(scene, torch.tensor([30]), 0 * one, lateral * one, 0.03 * one)
        assert true.rgb is not None
        seen = there.observe().sensors["front"].data[scene, 0]
        wrong = world.simulation.logs[scene].cameras[0].frames[30][2:-2, 8:-8]
        error = (seen.double() - true.rgb[0].double()).abs().mean()
        assert error < 4.0
        assert error < 0.5 * np.abs(wrong.astype(float) - true.rgb[0].double().numpy()).mean()


def test_what_was_recorded_is_driven_home_by_both_experts(world: World):
    here = moved(at(world, 5), 1.0, 0.05)
    label = LogExpert().label(here)
    assert bool(label.valid.all())
    for _ in range(40):
        assert bool(RecoveryExpert().label(here).valid.all())
        here.step(expert_action(here))
    assert float(here.truth().lateral.abs().max()) < 0.15


def test_a_drive_ends_while_the_recording_still_has_a_future(world: World):
    here = at(world, 60)
    for _ in range(20):
        events = here.step(expert_action(here))
    assert bool((events.cause == int(TerminationReason.TIME)).all())
    assert not bool(here.alive().any())
    assert here.state.simulation.tick.tolist() == [70, 70, 70]  # one second before the last frame
    assert bool(here.log_at(torch.tensor([0.9])).valid.all())


# Trust.


def test_trust_falls_with_the_distance_and_the_drive_ends(world: World):
    here = at(world, 30)
    trust = [float(moved(here, metres).confidence()[1]) for metres in (0.0, 0.9, 1.5, 2.0, 3.0, 3.9)]
    assert trust[0] == trust[1] == 1.0
    assert trust[2] == pytest.approx(0.75, abs=0.01)
    assert trust[3] == pytest.approx(0.5, abs=0.01), "beyond two metres labels no longer count"
    assert trust[3] > trust[4] > trust[5]
    turned = [float(moved(here, heading=math.radians(angle)).confidence()[1]) for angle in (5.0, 14.9, 15.1)]
    assert turned[0] == 1.0
    assert turned[1] > 0.5 > turned[2]
    for lateral, heading in ((4.3, 0.0), (0.0, math.radians(41.0))):
        far = moved(here, lateral, heading)
        assert bool(
            (
                far.step(Action(torch.zeros(3, 1), torch.zeros(3, 1))).cause
                == int(TerminationReason.OFF_ROUTE)
            ).all()
        )
    fast = here.fork(torch.arange(3))
    fast.perturb(torch.zeros(3, 1), torch.zeros(3, 1), torch.full((3, 1), 1.9))
    assert float(fast.confidence().max()) < 0.5
    with pytest.raises(UserError, match=r"ValidityCorridor\.lateral"):
        ValidityCorridor(lateral=(2.0, 1.0, 4.0))


def test_painted_pictures_are_trusted_less(roads: list[Scenario]):
    narrow = changed(SPEC, logs=RenderedLogs(CAMERA), fill=())
    here = at(narrow.build(roads, 3, seed=4), 30)
    turned = moved(here, heading=math.radians(7.0))
    assert float(departed(turned, CAMERA).seen_share().max()) < 0.9
    assert float(turned.confidence().max()) < 1.0


# What cannot be.


def test_what_no_recording_says_is_refused(world: World, roads: list[Scenario]):
    with pytest.raises(UserError, match="what its pixels show"):
        world.images(CAMERA, Outputs(kind=True))
    with pytest.raises(UserError, match="what one recorded car"):
        changed(SPEC, agents=2).build(roads, 1, seed=0)
    with pytest.raises(UserError, match="no recorded frames"):
        changed(SPEC, logs=RecordedLogs()).build(roads, 1, seed=0)
    with pytest.raises(UserError, match="is too short"):
        changed(SPEC, future=7.9).build(roads, 1, seed=0)


def test_the_spec_travels_with_a_run():
    assert serialise.from_json(serialise.to_json(SPEC)) == SPEC


# Real frames.


def test_a_real_drive_is_a_world(shared_data: Path):
    path = shared_data / "kitti_odometry_06_stereo"
    log = read(path)
    camera = camera_of_log(log, 64, 24, math.radians(60.0))
    assert camera.position == pytest.approx((1.03, 0.0, 1.65), abs=1e-6)
    assert [camera.roll, camera.pitch, camera.yaw] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    spec = reprojected(
        cameras=(camera,), size=(310, 94), depth=DepthSource.GROUND, duration=2.0, future=1.0, vehicle=EXACT
    )
    whole = CameraDrive(str(path)).load()[0]
    world = spec.build([whole, whole.crop(2.0, 6.0)], 2, seed=0)
    rows = torch.arange(2)
    world.reset(
        torch.ones(2, dtype=torch.bool), world.starts_at(rows, torch.tensor([20, 0]), rows, jitter=False)
    )
    first, second = world.observe().sensors["front"].data[:, 0]
    assert torch.equal(first, second), "a part begins where the whole is by then"
    assert float(world.truth().lateral.abs().max()) < 0.1
    assert float(departed(world, camera).seen_share().min()) > 0.98
    for _ in range(8):
        world.step(expert_action(world))
    assert world.state.simulation.tick.tolist() == pytest.approx([28, 8], abs=1)


def test_a_recording_of_another_drive_is_refused(shared_data: Path):
    there = drive_of_log(read(shared_data / "kitti_odometry_06_stereo"))
    wrong = dataclasses.replace(there, cameras=Recording(str(shared_data / "kitti_odometry_00_mono")))
    camera = camera_of_log(read(shared_data / "kitti_odometry_00_mono"), 32, 16, 1.0)
    with pytest.raises(UserError, match="is not of this scenario"):
        reprojected(cameras=(camera,), depth=DepthSource.GROUND, size=(64, 20)).build([wrong], 1, seed=0)


def test_a_recipe_is_made_for_parts_of_a_recording(shared_data: Path):
    """Every drive stays within its part, and frames are kept at the policy's pixels per degree."""
    path = str(shared_data / "kitti_odometry_06_stereo")
    camera = camera_of_log(read(path), 128, 48, math.radians(62.0))
    recipe = of_recording(
        reprojection(), [CameraDrive(path, ((0.0, 2.0),)), CameraDrive(path, ((3.0, 5.0),))], camera
    )
    recipe.check()
    scenarios = recipe.stage.scenarios.load()
    assert [scenario.cameras.start for scenario in scenarios if scenario.cameras] == [0.0, 3.0]
    assert [scenario.duration for scenario in scenarios] == pytest.approx([2.0, 2.0])
    assert isinstance(recipe.stage.world, WorldSpec)
    assert recipe.stage.world.renderer.size is not None
    assert recipe.stage.world.renderer.size[0] == pytest.approx(1226 * camera.focal / 707.0912, abs=1)
    assert [log.cameras[0].frames.path for log in recipe.stage.world.simulation.logs.open(scenarios)] == [
        f"{path}/image_0"
    ] * 2


def test_depth_of_another_size_is_refused_by_file_and_time(world: World):
    """The kernel reads depth and colours of a pixel at one place."""
    log = world.simulation.logs[0]
    height, width = log.cameras[0].frames.height, log.cameras[0].frames.width
    half = DepthMap(
        np.ones((height // 2, width // 2), np.float32), np.ones((height // 2, width // 2), np.float32)
    )
    with pytest.raises(UserError, match=r"film of .*depth of another size at frame 10, 1\.000 s"):
        frame_bank(log, "front", [10], lambda number: half)
    assert (
        frame_bank(log, "front", [10], lambda number: half, (width // 2, height // 2))[1].width == width // 2
    )


# Kept depth.


@pytest.fixture
def film(world: World):
    """A film whose depth was not recorded."""
    log = world.simulation.logs[1]
    return dataclasses.replace(log, cameras=(dataclasses.replace(log.cameras[0], depth=None),))


def test_a_sweep_finds_the_road_just_in_front_of_a_camera_that_looks_down(roads: list[Scenario]):
    """Nearer than any plane that is swept."""
    camera = Camera(width=192, height=96, fov=1.4, pitch=0.3)
    log = RenderedLogs(camera).open(roads[1:2])[0]
    true, swept = (
        of_log.depth_of_frame(log, "front", 20, source).inverse
        for source in (DepthSource.RECORDED, DepthSource.SWEEP)
    )
    near = true > 1 / 3.5
    assert near.mean() > 0.1
    assert np.percentile(np.abs(swept - true)[near] / true[near], 90) < 0.1


def test_depth_is_computed_once(film, tmp_path: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        stored, "depth_of_frame", lambda *a: (asked.append(a[2]), of_log.depth_of_frame(*a))[1]
    )
    numbers, size = [10, 12, 15], (24, 10)
    first = stored_depths(film, "front", numbers, None, size, tmp_path)
    again = stored_depths(film, "front", numbers, None, size, tmp_path)
    assert asked == numbers
    assert all(np.array_equal(a.inverse, b.inverse) for a, b in zip(first, again, strict=True))
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]


@pytest.mark.parametrize(
    "change", ["frames", "size", "source", "pictures", "calibration", "damage", "killed"]
)
def test_depth_of_anything_else_is_computed_anew(film, tmp_path: Path, monkeypatch, change: str):
    camera = film.cameras[0]
    request = [film, "front", [10, 12], DepthSource.SWEEP, (24, 10), tmp_path]
    stored_depths(*request)
    (file,) = tmp_path.iterdir()
    if change == "frames":
        request[2] = [10, 13]
    elif change == "size":
        request[4] = (24, 12)
    elif change == "source":
        request[3] = DepthSource.GROUND
    elif change == "pictures":
        dark = PicturesInMemory(np.stack([camera.frames[k] // 2 for k in range(20)]), "dark")
        film = dataclasses.replace(
            film, cameras=(dataclasses.replace(camera, frames=dark, times=camera.times[:20]),)
        )
        request[0] = film
    elif change == "calibration":
        shifted = dataclasses.replace(camera.intrinsics, cx=camera.intrinsics.cx + 1)
        request[0] = dataclasses.replace(film, cameras=(dataclasses.replace(camera, intrinsics=shifted),))
    elif change == "damage":
        file.write_bytes(file.read_bytes()[:-40])
    elif change == "killed":
        file.rename(tmp_path / f".{file.name}.123.partial")
    asked = []
    monkeypatch.setattr(
        stored, "depth_of_frame", lambda *a: (asked.append(a[2]), of_log.depth_of_frame(*a))[1]
    )
    stored_depths(*request)
    assert asked == request[2]
