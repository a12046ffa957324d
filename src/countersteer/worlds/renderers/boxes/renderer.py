"""Cars on roads seen as boxes on painted ground."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import ActorKind, SignalState
from countersteer.tensors import TensorTree, constant
from countersteer.worlds.interface import Images, Outputs, Renderer, RendererSpec, Simulation
from countersteer.worlds.renderers.boxes import (
    APPEARANCE_NUMBERS,
    Appearance,
    AppearanceRandomization,
    Boxes,
    Colour,
    PixelClass,
    Views,
    random_appearance,
)
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.drawing import render
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.road import RoadSimulation
from countersteer.worlds.simulation.state import RoadScene

__all__ = ["BoxRenderer", "BoxRendererSpec", "BoxRendererState"]

_LIGHT_SIZE, _LIGHT_HEIGHT = 0.5, 5.0  # of a traffic light's cube [m]
_SIGNAL = int(PixelClass.SIGNAL)
_KINDS = {
    ActorKind.VEHICLE: PixelClass.VEHICLE,
    ActorKind.PEDESTRIAN: PixelClass.PEDESTRIAN,
    ActorKind.CYCLIST: PixelClass.CYCLIST,
    ActorKind.STATIC: PixelClass.STATIC,
}


@dataclass(frozen=True)
class BoxRendererSpec(RendererSpec):
    """Boxes on painted ground.

    Attributes:
        looks: What appearances are drawn from.
        shift: How what the cameras record differs from what is drawn; None: not at all.
    """

    looks: AppearanceRandomization = AppearanceRandomization()
    shift: CameraDomainShift | None = None

    def build(self, simulation: Simulation, cameras: Sequence[Camera], seed: int) -> BoxRenderer:
        """See `RendererSpec.build`."""
        if not isinstance(simulation, RoadSimulation):
            raise UserError(
                "boxes are drawn of cars on roads",
                got=type(simulation).__name__,
                expected="a RoadSimulation",
                fix="choose another renderer",
            )
        return BoxRenderer(self, simulation.ground, cameras, seed, simulation.device)


@dataclass(frozen=True)
class BoxRendererState(TensorTree):
    """What no tick changes of a batch of drives.

    Attributes:
        look: Of each drive.
        size, kind, instance: Of all boxes, as in `Boxes`: the actors, then the lights.
        colour: Of the actors.
        light_center, light_heading: Of the lights' boxes.
        mounts: Of each camera, `ego_from_camera` rotations.
        heights: Of each camera, above the ground [m].
    """

    look: Appearance
    size: Float[Tensor, "world box 3"]
    kind: Int[Tensor, "world box"]
    instance: Int[Tensor, "world box"]
    colour: Int[Tensor, "world actor"]
    light_center: Float[Tensor, "world light 3"]
    light_heading: Float[Tensor, "world light"]
    mounts: dict[str, Tensor]
    heights: dict[str, Tensor]


class BoxRenderer(Renderer):
    """See `Renderer` and `BoxRendererSpec`. Looks and mountings depend on the drive alone.

    Args:
        spec: Settings.
        ground: What boxes stand on.
        cameras: Of every controlled car.
        seed: Of all randomness.
        device: Where tensors lie.
    """

    def __init__(
        self,
        spec: BoxRendererSpec,
        ground: GroundBank,
        cameras: Sequence[Camera],
        seed: int,
        device: torch.device | str,
    ):
        self.spec, self.cameras, self.seed, self.ground = spec, tuple(cameras), seed, ground
        self._classes = torch.tensor([int(_KINDS[kind]) for kind in ActorKind], device=device)
        # By state of a signal, the colour of its cube.
        shown = [int(Colour.SIGNAL_GREEN)] * len(SignalState)
        shown[SignalState.CAUTION] = int(Colour.SIGNAL_YELLOW)
        shown[SignalState.STOP] = int(Colour.SIGNAL_RED)
        self._shown = torch.tensor(shown, device=device)

    def begin(self, scene: RoadScene) -> BoxRendererState:
        """See `Renderer.begin`."""
        drive, actors, lights, looks = scene.drive, scene.actors, scene.lights, self.spec.looks
        zero = torch.zeros_like(drive)
        numbers = noise.uniform(self.seed, drive, zero, "looks", APPEARANCE_NUMBERS)
        kind, slots = actors.kind, actors.kind.shape[1]
        draw = noise.uniform(self.seed, drive, zero, "paint", slots)
        paint = (draw * int(Colour.STATIC)).long()
        point = lights.position
        shape = point.shape[:2]
        cube = torch.full((*shape, 3), _LIGHT_SIZE, device=kind.device)
        number = torch.arange(slots + shape[1], device=kind.device)
        error = 2 * noise.uniform(self.seed, drive, zero, "mounting", 4) - 1
        turned = looks.camera_angle * error[:, :3]
        raised = (looks.camera_height * error[:, 3:]).double()
        return BoxRendererState(
            look=random_appearance(numbers, looks.colours),
            size=torch.cat([actors.size, cube], 1),
            kind=torch.cat([self._classes[kind], torch.full_like(kind[:, :1], _SIGNAL).expand(shape)], 1),
            instance=number.expand(len(drive), -1).contiguous(),
            colour=torch.where(kind == ActorKind.STATIC, int(Colour.STATIC), paint),
            light_center=torch.cat([point, torch.full_like(point[..., :1], _LIGHT_HEIGHT)], -1),
            light_heading=lights.heading.nan_to_num(),  # a cube that shines to all sides
            mounts={camera.name: _mounted(camera, turned) for camera in self.cameras},
            heights={camera.name: raised + camera.position[2] for camera in self.cameras},
        )

    def draw(
        self, state: BoxRendererState, scene: RoadScene, camera: Camera, outputs: Outputs = Outputs()
    ) -> Images:
        """See `Renderer.draw`; a shift changes the colours only."""
        views, boxes = self.views(state, scene, camera), self.boxes(state, scene)
        shift = self.spec.shift
        if shift is None or not outputs.rgb:
            return render(self.ground, views, boxes, state.look, outputs)
        images = render(self.ground, views, boxes, state.look, dataclasses.replace(outputs, depth=True))
        assert images.rgb is not None
        assert images.depth is not None
        agents = scene.heading.shape[1]
        # Cars of one drive carry different cameras.
        cars = (scene.drive[:, None] * agents + torch.arange(agents, device=scene.drive.device)).flatten()
        tick = scene.tick.repeat_interleave(agents)
        rgb = shift.recorded(images.rgb, images.depth, views, cars, tick, self.seed)
        return dataclasses.replace(images, rgb=rgb, depth=images.depth if outputs.depth else None)

    def views(self, state: BoxRendererState, scene: RoadScene, camera: Camera) -> Views:
        """Where one camera of every controlled car is, `world * agent` views, cars of a world adjacent."""
        heading = scene.heading
        worlds, agents = heading.shape
        # The product with a turn about the vertical, written out: small matrices are slow to multiply.
        cos, sin = heading.double().cos()[..., None], heading.double().sin()[..., None]
        ahead, left, up = state.mounts[camera.name].unbind(-2)
        rotation = torch.stack(
            [cos * ahead - sin * left, sin * ahead + cos * left, up.expand(worlds, agents, 3)], -2
        )
        x, y = camera.position[:2]
        offset = torch.cat([cos * x - sin * y, sin * x + cos * y], -1)
        height = state.heights[camera.name][:, None].expand(worlds, agents, 1)
        center = torch.cat([offset + scene.position, height], -1)
        return Views(
            width=camera.width,
            height=camera.height,
            scene=scene.scene.repeat_interleave(agents),
            world=torch.arange(worlds, device=heading.device).repeat_interleave(agents),
            position=center.flatten(0, 1).float(),
            rotation=rotation.flatten(0, 1).float(),
            focal=torch.full((worlds * agents,), camera.focal, device=heading.device),
            ego_slot=torch.arange(agents, device=heading.device).repeat(worlds),
        )

    def boxes(self, state: BoxRendererState, scene: RoadScene) -> Boxes:
        """Everybody and everything that stands on the ground."""
        actors, lights = scene.actors, scene.lights
        slots = actors.kind.shape[1]
        center = torch.cat([actors.pose[..., :2], state.size[:, :slots, 2:] / 2], -1)
        heading, colour, present = actors.pose[..., 2], state.colour, actors.present
        if lights.state.shape[1]:
            center = torch.cat([center, state.light_center], 1)
            heading = torch.cat([heading, state.light_heading], 1)
            colour = torch.cat([colour, self._shown[lights.state]], 1)
            present = torch.cat([present, lights.state != SignalState.UNKNOWN], 1)
        return Boxes(
            center=center,
            heading=heading,
            size=state.size,
            kind=state.kind,
            instance=state.instance,
            colour=colour,
            present=present,
        )


def _mounted(camera: Camera, turned: Float[Tensor, "world 3"]) -> Float[Tensor, "world 1 3 3"]:
    """`ego_from_camera` of each drive, turned from where the camera should be by roll, pitch, yaw [rad]."""
    return _rotation(camera.roll + turned[:, 0], camera.pitch + turned[:, 1], camera.yaw + turned[:, 2])[
        :, None
    ].contiguous()


def _rotation(roll: Tensor, pitch: Tensor, yaw: Tensor) -> Float[Tensor, "world 3 3"]:
    """`ego_from_camera` of `countersteer.geometry.cameras`, batched."""
    roll, pitch, yaw = roll.double(), pitch.double(), yaw.double()
    zero, one = torch.zeros_like(roll), torch.ones_like(roll)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).unflatten(-1, (3, 3))

    about_x = matrix(one, zero, zero, zero, roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos())
    about_y = matrix(pitch.cos(), zero, pitch.sin(), zero, one, zero, -pitch.sin(), zero, pitch.cos())
    about_z = matrix(yaw.cos(), -yaw.sin(), zero, yaw.sin(), yaw.cos(), zero, zero, zero, one)
    axes = constant(((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)), roll.device).to(roll.dtype)
    return about_z @ about_y @ about_x @ axes
