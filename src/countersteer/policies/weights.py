"""Trained weights as values: a file, and the digest that says which content of it is meant."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from countersteer.errors import UserError, reading
from countersteer.models.interface import StoredModel
from countersteer.policies.interface import Policy
from countersteer.policies.storage import artefact_file, load_model
from countersteer.storage.files import open_regular

__all__ = ["STAGE", "Weights", "resolved"]

STAGE = "stage:"
"""What the path of weights begins with that an earlier stage of the same recipe makes: `stage:NAME`."""

_KEPT = 4
_loaded: OrderedDict[str, nn.Module] = OrderedDict()  # by digest


@dataclass(frozen=True)
class Weights(StoredModel):
    """A trained model, by its file.

    `train` gives every `Weights` of a recipe its digest before anything runs, and writes both into `run.json`. Without
    a digest the file counts as it is whenever it is asked for.

    Attributes:
        path: Policy file, model file or run folder; or `stage:NAME`, what an earlier stage of the recipe makes.
        digest: SHA-256 of the file in hexadecimal; None for whatever it holds.
    """

    path: str
    digest: str | None = None

    @property
    def stage(self) -> str | None:
        """The stage of the same recipe that makes them; None if they are a file."""
        return self.path.removeprefix(STAGE) if self.path.startswith(STAGE) else None

    def resolve(self) -> Weights:
        """The same with the digest of the file.

        Raises:
            UserError: There is no such file, or it has another digest than `digest`.
        """
        digest = self._digest()
        if self.digest not in (None, digest):
            raise UserError(
                f"the weights in {self.path} are not those that are meant",
                got=f"digest {digest[:12]}",
                expected=f"digest {self.digest[:12]}" if self.digest else "",
                fix="restore that file, or leave the digest out to take what is there",
            )
        return dataclasses.replace(self, digest=digest)

    def _digest(self) -> str:
        if self.stage is not None:
            raise UserError(
                f"what the stage {self.stage!r} makes has no file yet",
                got=self.path,
                expected="a policy file or a run folder",
                fix="train the recipe whose stage it is, or name the file that it made",
            )
        place = artefact_file(self.path)
        with (
            reading(place, "cannot be read", expected="a policy file", fix="check who may read it"),
            open_regular(place) as file,
        ):
            opened: Any = file
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def model(self) -> nn.Module:
        """The model in evaluation mode, frozen. It is shared by all who ask for it in a process: do not change it.

        Raises:
            UserError: There is none, or its digest is another.
        """
        digest = self.digest
        # A digest names its content for good, so what was read once with it is right.
        if digest is None or digest not in _loaded:
            digest = self.resolve().digest
        assert digest is not None
        if digest not in _loaded:
            _loaded[digest] = load_model(self.path)[0].eval().requires_grad_(False)
            while len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(digest)
        return _loaded[digest]

    def policy(self) -> Policy:
        """The policy among what `model` gives; frozen and shared likewise.

        Raises:
            UserError: There is none, it is no policy, or its digest is another.
        """
        model = self.model()
        if not isinstance(model, Policy):
            raise UserError(
                f"{self.path} is no policy",
                got=type(model).__name__,
                expected="a policy",
                fix="give a policy",
            )
        return model


def resolved(tree: Any, made: Mapping[str, Weights]) -> tuple[Any, dict[str, Weights]]:
    """A tree of frozen dataclasses in which every `Weights` has its digest.

    Args:
        tree: Dataclasses and tuples; anything else is left as it is.
        made: What earlier stages made, by their names.

    Returns:
        The tree, and its weights by their dotted path in it.

    Raises:
        UserError: Weights are missing, are others than their digest says, or of a stage that has made none.
    """
    found: dict[str, Weights] = {}

    def one(weights: Weights, path: str) -> Weights:
        if weights.stage is not None and weights.stage in made:
            weights = made[weights.stage]
        found[path] = weights.resolve()
        return found[path]

    return mapped(tree, one), found


def mapped(tree: Any, change: Callable[[Weights, str], Weights], path: str = "") -> Any:
    """A tree of frozen dataclasses and tuples with each of its weights replaced by `change(weights, dotted path)`."""
    if isinstance(tree, Weights):
        return change(tree, path)
    if isinstance(tree, tuple) and type(tree) is tuple:
        return tuple(mapped(item, change, f"{path}.{k}".lstrip(".")) for k, item in enumerate(tree))
    if not dataclasses.is_dataclass(tree) or isinstance(tree, type):
        return tree
    old = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree) if field.init}
    new = {name: mapped(value, change, f"{path}.{name}".lstrip(".")) for name, value in old.items()}
    changed = {name: value for name, value in new.items() if value is not old[name] and value != old[name]}
    return dataclasses.replace(tree, **changed) if changed else tree
