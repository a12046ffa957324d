"""What the cars of a boxworld see: its state, given to the renderer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import ActorKind, SignalState
from countersteer.worlds.boxworld.rendering import (
    APPEARANCE_NUMBERS,
    Appearance,
    Boxes,
    Colour,
    PixelClass,
    Views,
    random_appearance,
)
from countersteer.worlds.boxworld.scenes import SceneBank
from countersteer.worlds.boxworld.spec import Looks

__all__ = ["Painter"]

_LIGHT_SIZE, _LIGHT_HEIGHT = 0.5, 5.0  # of a traffic light's cube [m]
_KINDS = {
    ActorKind.VEHICLE: PixelClass.VEHICLE,
    ActorKind.PEDESTRIAN: PixelClass.PEDESTRIAN,
    ActorKind.CYCLIST: PixelClass.CYCLIST,
    ActorKind.STATIC: PixelClass.STATIC,
}


class Painter:
    """Says what cameras see. Looks depend on the drive alone, so nothing is remembered between ticks.

    Args:
        looks: How much drives differ.
        bank: The scenes.
        seed: Of all randomness.
    """

    def __init__(self, looks: Looks, bank: SceneBank, seed: int):
        self.looks, self.bank, self.seed = looks, bank, seed
        classes = [int(_KINDS[kind]) for kind in ActorKind]
        self._classes = torch.tensor(classes, device=bank.kind.device)

    def drawing(
        self,
        camera: Camera,
        scene: Int[Tensor, "world"],
        drive: Int[Tensor, "world"],
        tick: Int[Tensor, "world"],
        actor: Float[Tensor, "world actor 3"],
        there: Tensor,
        position: Float[Tensor, "world agent 2"],
        heading: Float[Tensor, "world agent"],
    ) -> tuple[Views, Boxes, Appearance]:
        """What one camera of every controlled car looks at, `world * agent` views, cars of a world adjacent.

        Args:
            camera: Which.
            scene, drive, tick: Of each drive.
            actor, there: Box centres, headings and presence of all actors.
            position, heading: Rear axles of the controlled cars.
        """
        worlds, agents = heading.shape
        zero = torch.zeros_like(drive)
        look = random_appearance(
            noise.uniform(self.seed, drive, zero, "looks", APPEARANCE_NUMBERS), self.looks.colours
        )
        mounting = 2 * noise.uniform(self.seed, drive, zero, "mounting", 4) - 1
        views = Views(
            width=camera.width,
            height=camera.height,
            scene=scene.repeat_interleave(agents),
            world=torch.arange(worlds, device=heading.device).repeat_interleave(agents),
            **self._mounted(camera, mounting, position, heading),
            focal=torch.full((worlds * agents,), camera.focal, device=heading.device),
            ego_slot=torch.arange(agents, device=heading.device).repeat(worlds),
        )
        return views, self._boxes(scene, drive, tick, actor, there), look

    def _mounted(
        self, camera: Camera, mounting: Tensor, position: Tensor, heading: Tensor
    ) -> dict[str, Tensor]:
        """Optical centres and `world_from_camera` rotations, `[world * agent]`."""
        turned = self.looks.camera_angle * mounting[:, :3]
        ego_from_camera = _rotation(
            camera.roll + turned[:, 0], camera.pitch + turned[:, 1], camera.yaw + turned[:, 2]
        )
        cos, sin = heading.double().cos(), heading.double().sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        world_from_ego = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(
            -1, (3, 3)
        )
        rotation = world_from_ego @ ego_from_camera[:, None]
        mount = torch.tensor(camera.position, dtype=torch.float64, device=heading.device)
        center = (world_from_ego @ mount[:, None])[..., 0]
        center = center + torch.cat([position.double(), zero[..., None]], -1)
        center[..., 2] += (self.looks.camera_height * mounting[:, 3:]).double()
        return {"position": center.flatten(0, 1).float(), "rotation": rotation.flatten(0, 1).float()}

    def _boxes(self, scene: Tensor, drive: Tensor, tick: Tensor, actor: Tensor, there: Tensor) -> Boxes:
        bank = self.bank
        size = bank.size[scene]
        slots = actor.shape[1]
        kind = bank.kind[scene]
        draw = noise.uniform(self.seed, drive, torch.zeros_like(drive), "paint", slots)
        paint = (draw * int(Colour.STATIC)).long()
        colour = torch.where(kind == ActorKind.STATIC, int(Colour.STATIC), paint)
        boxes = Boxes(
            center=torch.cat([actor[..., :2], size[..., 2:] / 2], -1),
            heading=actor[..., 2],
            size=size,
            kind=self._classes[kind],
            instance=torch.arange(slots, device=kind.device).expand(len(scene), -1),
            colour=colour,
            present=there & bank.present[scene],
        )
        lights = bank.stop_point.shape[1]
        if lights == 0:
            return boxes
        row = torch.arange(lights, device=kind.device)
        state = bank.light[scene[:, None], row, tick[:, None]]
        shown = torch.full_like(state, int(Colour.SIGNAL_GREEN))
        shown = torch.where(state == SignalState.CAUTION, int(Colour.SIGNAL_YELLOW), shown)
        shown = torch.where(state == SignalState.STOP, int(Colour.SIGNAL_RED), shown)
        point = bank.stop_point[scene]
        high = torch.full_like(point[..., :1], _LIGHT_HEIGHT)
        signals = Boxes(
            center=torch.cat([point, high], -1),
            heading=bank.stop_heading[scene],
            size=torch.full((*state.shape, 3), _LIGHT_SIZE, device=kind.device),
            kind=torch.full_like(state, int(PixelClass.SIGNAL)),
            instance=slots + row.expand_as(state),
            colour=shown,
            present=state != SignalState.UNKNOWN,
        )
        return Boxes.cat([boxes, signals], 1)


def _rotation(roll: Tensor, pitch: Tensor, yaw: Tensor) -> Float[Tensor, "world 3 3"]:
    """`ego_from_camera` of `countersteer.geometry.cameras`, batched."""
    roll, pitch, yaw = roll.double(), pitch.double(), yaw.double()
    zero, one = torch.zeros_like(roll), torch.ones_like(roll)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).unflatten(-1, (3, 3))

    about_x = matrix(one, zero, zero, zero, roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos())
    about_y = matrix(pitch.cos(), zero, pitch.sin(), zero, one, zero, -pitch.sin(), zero, pitch.cos())
    about_z = matrix(yaw.cos(), -yaw.sin(), zero, yaw.sin(), yaw.cos(), zero, zero, zero, one)
    axes = roll.new_tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    return about_z @ about_y @ about_x @ axes
