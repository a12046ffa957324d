"""Where types lie now that files of earlier versions name by where they lay, what their fields are called, and which are gone.

`serialise.from_json` asks here first, so recipes, runs, policies and replays of earlier versions can be read.
"""

from __future__ import annotations

from typing import Any

__all__ = ["present"]

# Longest first: the first that fits is taken.
_PACKAGES = (
    ("countersteer.worlds.boxworld.rendering", "countersteer.worlds.renderers.boxes"),
    ("countersteer.worlds.boxworld.vector", "countersteer.worlds.sensors.vector"),
    ("countersteer.worlds.boxworld.gap", "countersteer.worlds.renderers.boxes.camera_shift"),
    ("countersteer.worlds.boxworld", "countersteer.worlds.simulation"),
    ("countersteer.worlds.reprojection", "countersteer.worlds.renderers.reprojection"),
    ("countersteer.environments.rewards", "countersteer.rewards.rewards"),
    *(
        (f"countersteer.drivers.{module}", "countersteer.drivers.drivers")
        for module in ("choice", "expert", "mixed", "perturbed", "policy", "roles", "teacher")
    ),
    ("countersteer.scenarios.sources", "countersteer.data.sources"),
    ("countersteer.scenarios.cameras", "countersteer.data.cameras"),
    ("countersteer.scenarios.depth", "countersteer.reconstruction.depth"),
)

_CLASSES = {
    "BoxworldFilms": "RenderedLogs",
    "Cause": "TerminationReason",
    "ChoiceDriver": "CategoricalDriver",
    "Coefficients": "RewardWeights",
    "Collection": "RolloutSpec",
    "Corridor": "ValidityCorridor",
    "Engine": "Backend",
    "ForkedTeacher": "RolloutExpert",
    "Gap": "CameraDomainShift",
    "Learning": "OptimSpec",
    "Linear": "LinearSchedule",
    "Looks": "AppearanceRandomization",
    "PlannerSpec": "CNNPlannerSpec",
    "ProductReward": "MultiplicativeReward",
    "RolesDriver": "EgoAndOthersDriver",
    "StyleReward": "WeightedReward",
    "TeacherSpec": "SetActorCriticSpec",
}

_MEMBERS = {"TerminationReason": {"LOST": "OFF_ROUTE", "NUMERIC": "INVALID_STATE"}}

# By class, as it is called now.
_FIELDS = {
    "BoxWorldSpec": {
        "clear_ended": "remove_done_agents",
        "fewest": "min_agents",
        "lost_distance": "max_route_deviation",
        "lost_heading": "max_heading_error",
    },
    "CNNPlannerSpec": {"capacity": "bottleneck_bits"},
    "MixedDriver": {"expert_share": "expert_probability"},
    "RewardWeights": {"often_low": "skewed"},
    "RolloutSpec": {"fewest_alive": "min_active_fraction"},
}
_FIELDS["ReprojectionSpec"] = _FIELDS["BoxWorldSpec"]

# Fields that are not said any more, because another part of a recipe says the same.
_GONE = {
    "CategoricalDriver": ("jerk",),  # the world's
    "ExpertDriver": ("plan",),  # the expert's
    "PolicyDriver": ("plan",),  # the policy's
}


def present(data: dict[str, Any]) -> dict[str, Any]:
    """A stored dataclass or enum as this version would have written it; one of this version is handed back."""
    key = "type" if "type" in data else "enum"
    name = data.get(key)
    if not isinstance(name, str):
        return data
    for old, new in _PACKAGES:
        if name.startswith((f"{old}.", f"{old}:")):
            name = new + name.removeprefix(old)
            break
    module, _, kind = name.partition(":")
    kind = _CLASSES.get(kind, kind)
    members, fields = _MEMBERS.get(kind, {}), _FIELDS.get(kind, {})
    gone = _GONE.get(kind, ()) if module.startswith("countersteer.") else ()
    renamed = {fields.get(field, field): value for field, value in data.items() if field not in gone}
    renamed[key] = f"{module}:{kind}"
    if key == "enum" and isinstance(member := data.get("name"), str):
        renamed["name"] = members.get(member, member)
    return renamed
