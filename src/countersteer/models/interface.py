"""The seam between parts that use a trained model and the files that hold it."""

from __future__ import annotations

import abc

from torch import nn

__all__ = ["StoredModel"]


class StoredModel(abc.ABC):
    """A trained model as a value. `countersteer.policies.weights.Weights` is one: a file and its digest."""

    @abc.abstractmethod
    def model(self) -> nn.Module:
        """The model in evaluation mode, frozen and shared by all who ask: do not change it."""
