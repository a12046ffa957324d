"""What the cars of a boxworld see: its state, given to the renderer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import ActorKind, SignalState
from countersteer.tensors import TensorTree
from countersteer.worlds.renderers.boxes import (
    APPEARANCE_NUMBERS,
    Appearance,
    Boxes,
    Colour,
    PixelClass,
    Views,
    random_appearance,
)
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.spec import AppearanceRandomization

__all__ = ["Painter"]

_LIGHT_SIZE, _LIGHT_HEIGHT = 0.5, 5.0  # of a traffic light's cube [m]
_SIGNAL = int(PixelClass.SIGNAL)
_KINDS = {
    ActorKind.VEHICLE: PixelClass.VEHICLE,
    ActorKind.PEDESTRIAN: PixelClass.PEDESTRIAN,
    ActorKind.CYCLIST: PixelClass.CYCLIST,
    ActorKind.STATIC: PixelClass.STATIC,
}


@dataclass(frozen=True)
class _Dress(TensorTree):
    """What no tick changes of a batch of drives; drawn anew where one of them begins.

    Attributes:
        look: Of each drive.
        mounting: Errors of the cameras of each drive in [-1, 1): roll, pitch, yaw, height.
        size, kind, instance: Of all boxes, as in `Boxes`: the actors, then the lights.
        colour: Of the actors.
        present: Whether an actor's slot is used.
        light_center, light_heading: Of the lights' boxes.
    """

    look: Appearance
    mounting: Float[Tensor, "world 4"]
    size: Float[Tensor, "world box 3"]
    kind: Int[Tensor, "world box"]
    instance: Int[Tensor, "world box"]
    colour: Int[Tensor, "world actor"]
    present: Tensor
    light_center: Float[Tensor, "world light 3"]
    light_heading: Float[Tensor, "world light"]


class Painter:
    """Says what cameras see. AppearanceRandomization depend on the drive alone.

    What the drives and their scenes decide is kept until another batch of drives is drawn, known by the
    tensors `scene` and `drive` themselves: a world replaces them where drives begin, and never writes into them.

    Args:
        looks: How much drives differ.
        bank: The scenes.
        seed: Of all randomness.
    """

    def __init__(self, looks: AppearanceRandomization, bank: SceneBank, seed: int):
        self.looks, self.bank, self.seed = looks, bank, seed
        classes = [int(_KINDS[kind]) for kind in ActorKind]
        self._classes = torch.tensor(classes, device=bank.kind.device)
        # By state of a signal, the colour of its cube.
        shown = [int(Colour.SIGNAL_GREEN)] * len(SignalState)
        shown[SignalState.CAUTION] = int(Colour.SIGNAL_YELLOW)
        shown[SignalState.STOP] = int(Colour.SIGNAL_RED)
        self._shown = torch.tensor(shown, device=bank.kind.device)
        self._kept: tuple[Tensor, Tensor, _Dress] | None = None
        self._mounts: dict[Camera, tuple[_Dress, Tensor, Tensor]] = {}

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
        dress = self._dress(scene, drive, actor.shape[1])
        views = Views(
            width=camera.width,
            height=camera.height,
            scene=scene.repeat_interleave(agents),
            world=torch.arange(worlds, device=heading.device).repeat_interleave(agents),
            **self._mounted(camera, dress, position, heading),
            focal=torch.full((worlds * agents,), camera.focal, device=heading.device),
            ego_slot=torch.arange(agents, device=heading.device).repeat(worlds),
        )
        return views, self._boxes(dress, scene, tick, actor, there), dress.look

    def _dress(self, scene: Tensor, drive: Tensor, slots: int) -> _Dress:
        """Of the drives that are drawn; where it costs no wait, only those that have begun are dressed anew."""
        if self._kept is None:
            dress = self._dressed(scene, drive, slots)
        else:
            scenes, drives, dress = self._kept
            if scenes is scene and drives is drive:
                return dress
            if len(scenes) == len(scene) and scene.device.type == "cpu":
                rows = ((scenes != scene) | (drives != drive)).nonzero()[:, 0]
                begun = self._dressed(scene[rows], drive[rows], slots)
                dress = dress.map(lambda kept, new: kept.index_copy(0, rows, new), begun)
            else:
                dress = self._dressed(scene, drive, slots)
        self._kept = scene, drive, dress
        return dress

    def _dressed(self, scene: Tensor, drive: Tensor, slots: int) -> _Dress:
        bank, zero = self.bank, torch.zeros_like(drive)
        numbers = noise.uniform(self.seed, drive, zero, "looks", APPEARANCE_NUMBERS)
        kind = bank.kind[scene]
        draw = noise.uniform(self.seed, drive, zero, "paint", slots)
        paint = (draw * int(Colour.STATIC)).long()
        point = bank.stop_point[scene]
        lights = point.shape[:2]
        cube = torch.full((*lights, 3), _LIGHT_SIZE, device=kind.device)
        number = torch.arange(slots + lights[1], device=kind.device)
        return _Dress(
            look=random_appearance(numbers, self.looks.colours),
            mounting=2 * noise.uniform(self.seed, drive, zero, "mounting", 4) - 1,
            size=torch.cat([bank.size[scene], cube], 1),
            kind=torch.cat([self._classes[kind], torch.full_like(kind[:, :1], _SIGNAL).expand(lights)], 1),
            instance=number.expand(len(scene), -1).contiguous(),
            colour=torch.where(kind == ActorKind.STATIC, int(Colour.STATIC), paint),
            present=bank.present[scene],
            light_center=torch.cat([point, torch.full_like(point[..., :1], _LIGHT_HEIGHT)], -1),
            light_heading=bank.stop_heading[scene],
        )

    def _mounted(self, camera: Camera, dress: _Dress, position: Tensor, heading: Tensor) -> dict[str, Tensor]:
        """Optical centres and `world_from_camera` rotations, `[world * agent]`."""
        kept = self._mounts.get(camera)
        if kept is None or kept[0] is not dress:
            turned = self.looks.camera_angle * dress.mounting[:, :3]
            ego_from_camera = _rotation(
                camera.roll + turned[:, 0], camera.pitch + turned[:, 1], camera.yaw + turned[:, 2]
            )
            height = (self.looks.camera_height * dress.mounting[:, 3:]).double() + camera.position[2]
            kept = dress, ego_from_camera[:, None].contiguous(), height
            self._mounts[camera] = kept
        _, mounted, height = kept
        # The product with a turn about the vertical, written out: small matrices are slow to multiply.
        cos, sin = heading.double().cos()[..., None], heading.double().sin()[..., None]
        ahead, left, up = mounted.unbind(-2)
        rotation = torch.stack(
            [cos * ahead - sin * left, sin * ahead + cos * left, up.expand(*heading.shape, 3)], -2
        )
        x, y = camera.position[:2]
        aside = torch.cat([cos * x - sin * y, sin * x + cos * y], -1)
        center = torch.cat([aside + position, height[:, None].expand(*heading.shape, 1)], -1)
        return {"position": center.flatten(0, 1).float(), "rotation": rotation.flatten(0, 1).float()}

    def _boxes(self, dress: _Dress, scene: Tensor, tick: Tensor, actor: Tensor, there: Tensor) -> Boxes:
        bank, slots = self.bank, actor.shape[1]
        center = torch.cat([actor[..., :2], dress.size[:, :slots, 2:] / 2], -1)
        heading, colour, present = actor[..., 2], dress.colour, there & dress.present
        if bank.stop_point.shape[1]:
            row = torch.arange(bank.stop_point.shape[1], device=scene.device)
            state = bank.light[scene[:, None], row, tick[:, None]]
            center = torch.cat([center, dress.light_center], 1)
            heading = torch.cat([heading, dress.light_heading], 1)
            colour = torch.cat([colour, self._shown[state]], 1)
            present = torch.cat([present, state != SignalState.UNKNOWN], 1)
        return Boxes(
            center=center,
            heading=heading,
            size=dress.size,
            kind=dress.kind,
            instance=dress.instance,
            colour=colour,
            present=present,
        )


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
