"""Policies as files: weights, the spec that builds them, and where they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from countersteer.errors import UserError
from countersteer.policies.interface import Policy
from countersteer.storage import checkpoint, serialise

__all__ = ["artefact_file", "load_model", "load_policy", "save_model", "save_policy"]


def save_policy(
    path: Path, policy: Policy, recipe: str, seed: int, seconds: float, environment: dict[str, Any]
) -> None:
    """Write a policy with everything needed to drive with it: spec, recipe, seed, environment."""
    metadata = {
        "kind": "policy",
        "spec": serialise.to_json(policy.spec),
        "recipe": recipe,
        "seed": seed,
        "seconds": seconds,
        "environment": environment,
    }
    checkpoint.save(path, {k: v.cpu().contiguous() for k, v in policy.state_dict().items()}, metadata)


def save_model(path: Path, model: nn.Module, spec: Any, metadata: dict[str, Any]) -> None:
    """Write a model that is no policy, with the spec that builds it."""
    tensors = {k: v.cpu().contiguous() for k, v in model.state_dict().items()}
    checkpoint.save(path, tensors, metadata | {"kind": "model", "spec": serialise.to_json(spec)})


_ARTEFACTS = ("policy.safetensors", "model.safetensors")


def artefact_file(path: str | Path) -> Path:
    """The file of a finished run, of its last stage where it has several, or the file that is named itself.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in _ARTEFACTS:
        if (path / name).is_file():
            return path / name
    if (last := last_stage(path)) is not None:
        return artefact_file(last)
    unfinished = path.is_dir() and (path / "recipe.json").exists()
    raise UserError(
        f"{path} holds no finished policy",
        got="a run that has not finished" if unfinished else "no file policy.safetensors",
        expected="a run folder made by `countersteer train`, or a policy file",
        fix=f"countersteer train ... --out {path} --resume" if unfinished else "check the path",
    )


def last_stage(run: str | Path) -> Path | None:
    """Folder of the last stage of a run of several; None of any other folder."""
    description = Path(run) / "run.json"
    if not description.is_file():
        return None
    stages = json.loads(description.read_text()).get("stages", {})
    return Path(run) / list(stages)[-1] if stages else None


def load_model(path: str | Path, modules: tuple[Any, ...] = ()) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a run folder or of a file, policy or not, and what is written with it.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    file = artefact_file(path)
    tensors, metadata = checkpoint.load(file)
    if metadata.get("kind") not in ("policy", "model"):
        raise UserError(
            f"{file} is not a policy", got=metadata.get("kind", "a checkpoint"), expected="a policy file",
            fix="give the run folder, or its policy.safetensors",
        )  # fmt: skip
    spec = serialise.from_json(metadata["spec"], extra_modules=modules)
    with torch.random.fork_rng(devices=[]):  # reading a file must not change what is drawn after it
        model = spec.build()
    model.load_state_dict(tensors)
    return model.eval(), metadata


def load_policy(path: str | Path, modules: tuple[Any, ...] = ()) -> tuple[Policy, dict[str, Any]]:
    """The policy of a run folder or of a policy file, ready to drive, and what is written with it.

    Raises:
        UserError: There is none, or it is another kind of model.
    """
    policy, metadata = load_model(path, modules)
    if not isinstance(policy, Policy):
        raise UserError(
            f"{path} is not a policy", got="a model", expected="a policy file",
            fix="give the run folder, or its policy.safetensors",
        )  # fmt: skip
    return policy, metadata
