"""Rollout storage: what was collected, in memory for learning and on disk for resuming."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from countersteer.rollouts.rollout import Rollout

__all__ = ["RolloutStore"]

_PIECE = 32  # kept frames in a file


class RolloutStore:
    """The rollouts of a run, aggregated over its rounds (DAgger keeps everything it ever saw).

    Args:
        folder: Where each round is written, so that a resumed run learns from the same frames.
        keep: Rounds to keep, the latest ones; None keeps all. Where some are forgotten none is written: a
            resumed run drives the last ones anew.
    """

    def __init__(self, folder: Path, keep: int | None = None):
        self.folder, self.keep = folder, keep
        self.rollouts: list[Rollout] = []
        self.sizes: list[int] = []

    @property
    def rounds(self) -> int:
        """Rounds that were added, forgotten ones included."""
        return len(self.sizes)

    @property
    def frames(self) -> int:
        """Frames of all of them."""
        return sum(self.sizes)

    def _place(self, number: int) -> Path:
        return self.folder / f"round_{number:03d}"

    def add(self, rollout: Rollout) -> None:
        """Keep a rollout; if all are kept, it is on disk, whole, before it counts."""
        if self.keep is None:
            self._write(rollout)
        self.sizes.append(rollout.alive.numel())
        self.rollouts = [*self.rollouts, rollout][-(self.keep or self.rounds) :]

    def _write(self, rollout: Rollout) -> None:
        place = self._place(self.rounds)
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed here
        partial.mkdir(parents=True)
        # In pieces, because a file is put together in memory before it is written.
        for number, begin in enumerate(range(0, len(rollout.alive), _PIECE)):
            leaves = rollout[begin : begin + _PIECE].flatten()
            try:
                save_file(
                    {name: leaf.contiguous() for name, leaf in leaves.items()},
                    partial / f"{number:03d}.safetensors",
                )
            except SafetensorError as error:  # which says so of a full disk
                raise OSError(str(error)) from error
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)

    def load(self, sizes: list[int], template: Rollout, *, learned: bool) -> bool:
        """Read the rounds back that had these sizes; False, and nothing kept, if one is missing or damaged.

        Of a store that forgets, the last round counts as not driven yet, unless it has been `learned` from to the end.
        """
        if self.keep is not None:
            self.sizes = sizes if learned and self.keep == 1 else sizes[:-1]
            return True
        loaded = []
        for number in range(len(sizes)):
            files = sorted(self._place(number).glob("*.safetensors"))
            try:
                if not all(file.is_file() for file in files):
                    return False
                loaded.append(Rollout.cat([template.unflatten(load_file(file)) for file in files]))
            except Exception:
                return False
        self.rollouts, self.sizes = loaded, [rollout.alive.numel() for rollout in loaded]
        return True

    def remove(self) -> None:
        """Delete the files; the frames stay in memory."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sample(self, generator: torch.Generator, sequences: int, length: int) -> Rollout:
        """Random sequences `[sequences, length]` of consecutive kept frames, every frame alike likely."""
        sizes = torch.tensor([float(rollout.alive.numel()) for rollout in self.rollouts])
        which = torch.multinomial(sizes, sequences, replacement=True, generator=generator)
        parts = []
        for number, rollout in enumerate(self.rollouts):
            count = int((which == number).sum())
            if count == 0:
                continue
            time, drives = rollout.alive.shape
            begin = torch.randint(time - length + 1, (count, 1), generator=generator)
            drive = torch.randint(drives, (count, 1), generator=generator)
            rows: Tensor = begin + torch.arange(length)
            parts.append(rollout[rows, drive.expand(-1, length)])
        return Rollout.cat(parts)
