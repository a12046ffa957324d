"""One tick of the boxworld: vehicles, traffic, commands and events of every drive at once."""

from __future__ import annotations

from countersteer.vehicles.plans import Action
from countersteer.worlds.boxworld.ground import GroundBank
from countersteer.worlds.boxworld.scenes import SceneBank
from countersteer.worlds.boxworld.spec import BoxWorldSpec
from countersteer.worlds.boxworld.state import BoxWorldState
from countersteer.worlds.boxworld.stepping import reference
from countersteer.worlds.interface import Events

__all__ = ["advance"]


def advance(
    spec: BoxWorldSpec, bank: SceneBank, ground: GroundBank, state: BoxWorldState, action: Action
) -> tuple[BoxWorldState, Events]:
    """The state one tick later and what happened on the way; nothing that is passed is written into.

    Args:
        spec: Settings.
        bank, ground: The scenes.
        state: Of every drive; drives that have ended stay as they are.
        action: Of every controlled car; one that is not finite ends the drive as NUMERIC.
    """
    return reference.advance(spec, bank, ground, state, action)
