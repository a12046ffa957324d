"""Bring your own policy: subclass the spec and the module, put the spec into a recipe.

countersteer train examples/bring_your_own_policy.py:tiny --out runs/tiny --optim.steps 200
"""

import dataclasses

from torch import nn

from countersteer.policies.planner import CNNPlanner, CNNPlannerSpec
from countersteer.recipes.closed_loop import on_policy
from countersteer.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class TinySpec(CNNPlannerSpec):
    """A planner whose convolutions are replaced by one linear layer on the patches."""

    def build(self) -> "Tiny":
        return Tiny(self)


class Tiny(CNNPlanner):
    """Everything of the planner but its eyes; any `Policy` with the same methods would do."""

    def __init__(self, spec: TinySpec):
        super().__init__(spec)
        camera = spec.cameras[0]
        cells = (camera.height // 4) * (camera.width // 4) * spec.channels[0]
        self.stages = nn.Sequential(nn.ReLU())
        self.image_features = nn.Linear(cells, spec.features)


def tiny() -> Recipe:
    """`on_policy` with the tiny planner."""
    return on_policy().replace(name="tiny", policy=TinySpec())
