"""Where types lie now that files of earlier versions name by where they lay, and what their fields are called.

`serialise.from_json` asks here first, so recipes, runs, policies and replays of earlier versions can be read.
"""

from __future__ import annotations

from typing import Any

__all__ = ["present"]

# Longest first: the first that fits is taken.
_PACKAGES = (
    ("countersteer.worlds.boxworld.rendering", "countersteer.worlds.renderers.boxes"),
    ("countersteer.worlds.boxworld.vector", "countersteer.worlds.sensors.vector"),
    ("countersteer.worlds.boxworld.gap", "countersteer.worlds.renderers.boxes.gap"),
    ("countersteer.worlds.boxworld", "countersteer.worlds.simulation"),
    ("countersteer.worlds.reprojection", "countersteer.worlds.renderers.reprojection"),
    ("countersteer.environments.rewards", "countersteer.rewards.rewards"),
    ("countersteer.scenarios.sources", "countersteer.data.sources"),
    ("countersteer.scenarios.cameras", "countersteer.data.cameras"),
    ("countersteer.scenarios.depth", "countersteer.reconstruction.depth"),
)


def present(data: dict[str, Any]) -> dict[str, Any]:
    """A stored dataclass or enum as this version would have written it; one of this version is handed back."""
    for key in ("type", "enum"):
        name = data.get(key)
        if not isinstance(name, str):
            continue
        for old, new in _PACKAGES:
            if name.startswith((f"{old}.", f"{old}:")):
                return data | {key: new + name.removeprefix(old)}
    return data
