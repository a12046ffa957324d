"""A recipe: the stages of an experiment, each of which may use what earlier ones made."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from countersteer.errors import UserError, did_you_mean
from countersteer.policies.interface import PolicySpec
from countersteer.policies.weights import STAGE, Weights, mapped
from countersteer.training.coupling import check_closed_loop
from countersteer.training.stages import ClosedLoop, Stage

__all__ = ["MAX_NAME", "Recipe"]

MAX_NAME = 100
"""Most characters of the name of a stage: it is a folder's too, and a column's."""


@dataclass(frozen=True)
class Recipe:
    """Stages that are trained in order.

    Attributes:
        name: Of the recipe; runs and tables carry it.
        stages: At least one, each with a name of its own. A later one names what an earlier one makes by
            `Weights("stage:NAME")`.
    """

    name: str
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, stage: Stage) -> Recipe:
        """The recipe of one stage, which has its name."""
        return cls(stage.name, (stage,))

    @property
    def stage(self) -> ClosedLoop:
        """The only stage, or the last one, that ends in a policy.

        Raises:
            UserError: It does not drive.
        """
        last = self.stages[-1]
        if not isinstance(last, ClosedLoop):
            raise UserError(
                f"recipe {self.name!r} does not end with driving",
                got=f"the stage {last.name!r}, a {type(last).__name__}",
                expected="a ClosedLoop",
                fix="use a recipe that ends with one",
            )
        return last

    def replace(self, *, name: str | None = None, **changes: Any) -> Recipe:
        """The recipe with fields of its last stage changed.

        Args:
            name: Of the new recipe, and of its stage if it has one only; None keeps it.
            changes: New values of fields of the stage.
        """
        if name is not None and len(self.stages) == 1:
            changes["name"] = name
        last: Any = dataclasses.replace(self.stages[-1], **changes)
        return Recipe(name or self.name, (*self.stages[:-1], last))

    def check(self) -> None:
        """Refuse what cannot work, naming both sides and what to do; nothing is driven or learned.

        Raises:
            UserError: Parts of a stage do not go together, or stages do not.
        """
        if not self.stages:
            raise UserError(
                f"recipe {self.name!r} has no stage",
                expected="at least one",
                fix="give it a ClosedLoop or a Fit",
            )
        earlier: list[str] = []
        for stage in self.stages:
            self._check_names(stage, earlier)
            if isinstance(stage, ClosedLoop):
                check_closed_loop(stage, self.name, self._spec_of)
            earlier.append(stage.name)

    def _spec_of(self, weights: Weights) -> PolicySpec | None:
        """What describes a policy; None where that is not known before something runs."""
        if weights.stage is not None:
            made = next((stage for stage in self.stages if stage.name == weights.stage), None)
            return made.policy if isinstance(made, ClosedLoop) else None
        try:
            return weights.policy().spec
        except UserError:  # there is none, or not yet: `train` says so
            return None

    def _check_names(self, stage: Stage, earlier: list[str]) -> None:
        """Its own name is free, and the stages that it names come before it."""
        odd = len(self.stages) > 1 and not re.fullmatch(r"[A-Za-z][\w-]*", stage.name)
        odd = odd or len(stage.name) > MAX_NAME
        if odd or stage.name in earlier:
            raise UserError(
                f"recipe {self.name!r}: a stage cannot be called {stage.name[:MAX_NAME]!r}",
                got=stage.name[:MAX_NAME] + (", twice" if stage.name in earlier else ""),
                expected=f"a letter, then letters, digits, - and _, at most {MAX_NAME}, different for every stage",
                fix="rename the stage",
            )

        def known(weights: Weights, path: str) -> Weights:
            if weights.stage is not None and weights.stage not in earlier:
                raise UserError(
                    f"recipe {self.name!r}: {stage.name}.{path} names a stage that does not come before it",
                    got=weights.path,
                    expected=did_you_mean(weights.path, [STAGE + name for name in earlier])
                    if earlier
                    else "a policy file or run folder, for this is the first stage",
                    fix="name an earlier stage, or a file",
                )
            return weights

        mapped(stage, known)
