"""What a simulation of roads tells a model of traffic."""

from __future__ import annotations

import torch

from countersteer.traffic.interface import Past, RoadPieces, Traffic
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import RoadState, lights_now

__all__ = ["past_of", "traffic_now"]


def traffic_now(
    spec: RoadSettings, bank: SceneBank, state: RoadState, roads: RoadPieces | None = None
) -> Traffic:
    """Everybody now, and what the recording says of the next tick."""
    rows, scene = state.rows, state.scene[:, None]
    actors = torch.arange(bank.pose.shape[1], device=state.scene.device)[None]
    tick = torch.minimum(state.tick + 1, bank.ticks[state.scene] - 1)[:, None]
    controlled = (actors < spec.agents).expand(len(scene), -1)
    return Traffic(
        drive=state.drive,
        age=state.age,
        pose=state.actor,
        speed=state.actor_speed,
        size=rows.size,
        kind=rows.kind,
        present=state.actor_there & rows.present,
        movable=bank.movable[state.scene] & ~controlled,
        controlled=controlled,
        tow=bank.tow[state.scene],
        logged_pose=bank.pose[scene, actors, tick],
        logged_speed=bank.speed[scene, actors, tick],
        logged_present=bank.valid[scene, actors, tick],
        stop_point=rows.stop_point,
        stop_heading=rows.stop_heading,
        light=lights_now(bank, state),
        scene=state.scene,
        roads=roads,
    )


def past_of(spec: RoadSettings, bank: SceneBank, state: RoadState, before: tuple[float, ...]) -> Past | None:
    """Where the recording had everybody so long before now [s]; None where nobody asks."""
    if not before:
        return None
    ticks = torch.tensor([round(seconds / spec.dt) for seconds in before], device=state.scene.device)
    tick = (state.tick[:, None] - ticks)[:, None]
    scene = state.scene[:, None, None]
    actors = torch.arange(bank.pose.shape[1], device=state.scene.device)[None, :, None]
    then = tick.clamp(min=0)
    return Past(bank.pose[scene, actors, then], bank.valid[scene, actors, then] & (tick >= 0))
