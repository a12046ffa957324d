"""Where types lie now that files of earlier versions name by where they lay, what their fields are called, and which are gone.

`serialise.from_json` asks here first, so recipes, runs, policies and replays of earlier versions can be read.
"""

from __future__ import annotations

from typing import Any

from countersteer.errors import UserError

__all__ = ["present"]

# Longest first: the first that fits is taken.
_PACKAGES = (
    ("countersteer.worlds.boxworld.rendering", "countersteer.worlds.renderers.boxes"),
    ("countersteer.worlds.boxworld.vector", "countersteer.worlds.sensors.vector"),
    ("countersteer.worlds.boxworld.engine", "countersteer.worlds.backend"),
    ("countersteer.worlds.boxworld.gap", "countersteer.worlds.renderers.boxes.camera_shift"),
    ("countersteer.worlds.boxworld", "countersteer.worlds.simulation"),
    ("countersteer.worlds.reprojection", "countersteer.worlds.renderers.reprojection"),
    *(
        (f"countersteer.drivers.{module}", "countersteer.drivers.drivers")
        for module in ("choice", "expert", "mixed", "perturbed", "policy", "roles", "teacher")
    ),
    ("countersteer.scenarios.sources", "countersteer.data.sources"),
    ("countersteer.scenarios.cameras", "countersteer.data.cameras"),
    ("countersteer.scenarios.depth", "countersteer.reconstruction.depth"),
)

# Where single types lie now, by module and name as they are called now.
_MODULES = {
    "AppearanceRandomization": "countersteer.worlds.renderers.boxes.appearance",
    "RecordedLogs": "countersteer.worlds.simulation.logs",
    "RenderedLogs": "countersteer.worlds.renderers.films",
    "ValidityCorridor": "countersteer.worlds.simulation.recorded",
    "OptimSpec": "countersteer.training.stages",
    "RolloutSpec": "countersteer.training.stages",
    "ProgressReward": "countersteer.rewards.progress",
    "MultiplicativeReward": "countersteer.rewards.weighted",
    "RewardWeights": "countersteer.rewards.weights",
    "WeightedReward": "countersteer.rewards.weighted",
}
_SPLIT = (
    "countersteer.training.recipe",
    "countersteer.rewards.rewards",
    "countersteer.environments.rewards",
    "countersteer.worlds.simulation.spec",
    "countersteer.worlds.renderers.reprojection.spec",
)
"""Modules whose types lie in several now."""

_CLASSES = {
    "Adaptation": "PerceptionAdaptation",
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
    "CNNPlannerSpec": {"capacity": "bottleneck_bits"},
    "Imitation": {
        "classification": "mode_weight",
        "quantity_weight": "dimension_weight",
        "relaxation": "wta_epsilon",
        "unit": "error_scale",
    },
    "MixedDriver": {"expert_share": "expert_probability"},
    "OptimSpec": {"clip": "max_grad_norm", "length": "sequence_length", "sequences": "batch_size"},
    "PPO": {
        "again": "respawn_on",
        "clip": "clip_ratio",
        "filter": "advantage_threshold",
        "trace": "gae_lambda",
    },
    "RewardWeights": {"often_low": "skewed"},
    "RolloutSpec": {
        "drives": "num_worlds",
        "fewest_alive": "min_active_fraction",
        "first_round_share": "first_iteration_share",
        "frames": "total_frames",
        "keep": "buffer_iterations",
        "last_learning_share": "final_learning_share",
        "rounds": "iterations",
    },
    "SetActorCriticSpec": {"coefficients": "reward_weights", "item": "token_dim"},
}

# Fields that are not said any more, because another part of a recipe says the same.
_GONE = {
    "CategoricalDriver": ("jerk",),  # the world's
    "ExpertDriver": ("plan",),  # the expert's
    "MultiplicativeReward": ("dt",),  # the world's
    "PolicyDriver": ("plan",),  # the policy's
    "ProgressReward": ("dt",),
    "WeightedReward": ("dt",),
}

# Fields that held the path of a run or policy file.
_WEIGHTS = {
    "ClosedLoop": "init_from",
    "PerceptionAdaptation": "student",
    "RolloutExpert": "teacher",
    "TeacherDriver": "teacher",
}

_JERK = {
    "type": "countersteer.vehicles.jerk:JerkSpec",
    "longitudinal": {"tuple": [-15.0, -4.0, 0.0, 4.0]},
    "lateral": {"tuple": [-4.0, 0.0, 4.0]},
    "braking": 5.0,
    "acceleration": 2.5,
    "lateral_acceleration": 4.0,
}
"""What planners of earlier versions chose from, which gave only the count of it."""


def _weights(path: Any) -> Any:
    if not isinstance(path, str):
        return path
    return {"type": "countersteer.policies.weights:Weights", "path": path, "digest": None}


def _jerk(choices: Any) -> Any:
    """The jerks of a planner that said only how many there are."""
    if choices == 0:
        return None
    known = len(_JERK["longitudinal"]["tuple"]) * len(_JERK["lateral"]["tuple"])
    if choices != known:
        raise UserError(
            "a planner of an earlier version does not say which jerks it chooses among",
            got=f"{choices} choices",
            expected=f"0, or {known}: those of JerkSpec()",
            fix='in its spec, replace "choices" by "jerk" with the JerkSpec that it was trained with',
        )
    return _JERK


def _stages(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe of before there were stages, as one of a single stage."""
    objective, policy = recipe["objective"], recipe["policy"]
    read = policy.get("coefficients", policy.get("reward_weights"))
    if objective.get("coefficients", read) != read:
        raise UserError(
            f"the recipe {recipe['name']!r} of an earlier version drew other reward weights than its policy read",
            got="objective.coefficients other than policy.coefficients",
            expected="the same; they are said by the policy only",
            fix="train again; what it learned from was not what it was told",
        )
    stage = {key: value for key, value in recipe.items() if key != "type"}
    if recipe["world"].get("cameras") == policy.get("cameras"):
        stage["world"] = recipe["world"] | {"cameras": {"tuple": []}}  # the policy says what it reads
    stage["rollouts"] = stage.pop("collection")
    stage["optim"] = stage.pop("learning")
    stage["init_from"] = _weights(stage.pop("begin", None))
    stage["objective"] = {key: value for key, value in objective.items() if key != "coefficients"}
    stage = {"type": "countersteer.training.stages:ClosedLoop"} | stage
    return {"type": recipe["type"], "name": recipe["name"], "stages": {"tuple": [stage]}}


_SIMULATED = {
    "clear_ended": "remove_done_agents",
    "engine": "backend",
    "fewest": "min_agents",
    "lost_distance": "max_route_deviation",
    "lost_heading": "max_heading_error",
}
_BOXES = "countersteer.worlds.renderers.boxes.renderer:BoxRendererSpec"
_REPROJECTION = "countersteer.worlds.renderers.reprojection.renderer:ReprojectionRendererSpec"
_WORLDS = {
    "BoxWorldSpec": "countersteer.worlds.simulation.road:RoadSimulationSpec",
    "ReprojectionSpec": "countersteer.worlds.simulation.recorded:RecordedSimulationSpec",
}
"""Worlds of earlier versions, by what simulates them now."""


def _world(kind: str, old: dict[str, Any]) -> dict[str, Any]:
    """A world of before it was a simulation seen through a renderer; its fields stood side by side."""
    fields = {_SIMULATED.get(name, name): value for name, value in old.items() if name != "type"}
    cameras, vector = fields.pop("cameras")["tuple"], fields.pop("vector", None)
    looks, shift = fields.pop("looks"), fields.pop("gap", None)
    fields.setdefault("navigation", False)
    boxes = {"type": _BOXES, "looks": looks, "shift": shift}
    renderer = boxes
    if kind == "ReprojectionSpec":
        names = ("size", "depth", "fill", "cache")
        renderer = {"type": _REPROJECTION} | {name: fields.pop(name) for name in names}
    return {
        "type": "countersteer.worlds.world:WorldSpec",
        "simulation": {"type": _WORLDS[kind]} | fields,
        "renderer": renderer,
        "sensors": {"tuple": [*cameras, *([] if vector is None else [vector])]},
        "twin": None if shift is None else boxes | {"shift": None},
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
    if module in _SPLIT:
        module = _MODULES.get(kind, module)
    members, fields = _MEMBERS.get(kind, {}), _FIELDS.get(kind, {})
    gone = _GONE.get(kind, ()) if module.startswith("countersteer.") else ()
    renamed = {fields.get(field, field): value for field, value in data.items() if field not in gone}
    renamed[key] = f"{module}:{kind}"
    if key == "enum" and isinstance(member := data.get("name"), str):
        renamed["name"] = members.get(member, member)
    if kind in _WEIGHTS and _WEIGHTS[kind] in renamed:
        renamed[_WEIGHTS[kind]] = _weights(renamed[_WEIGHTS[kind]])
    if kind in ("CNNPlannerSpec", "ViTPlannerSpec") and "choices" in renamed:
        renamed["jerk"] = _jerk(renamed.pop("choices"))
    if kind in _WORLDS and module.startswith("countersteer.worlds."):
        return _world(kind, renamed)
    if f"{module}:{kind}" == "countersteer.training.recipe:Recipe" and "stages" not in renamed:
        return _stages(renamed)
    return renamed
