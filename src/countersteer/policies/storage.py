"""Policies as files: weights, the spec that builds them, and where they came from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from countersteer.errors import UserError
from countersteer.policies.interface import Policy, PolicySpec
from countersteer.storage import checkpoint, serialise

__all__ = ["frozen_policy", "load_policy", "save_policy"]


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


def load_policy(path: str | Path, modules: tuple[Any, ...] = ()) -> tuple[Policy, dict[str, Any]]:
    """The policy of a run folder or of a policy file, ready to drive, and what is written with it."""
    path = Path(path)
    file = path / "policy.safetensors" if path.is_dir() else path
    if not file.exists():
        unfinished = path.is_dir() and (path / "recipe.json").exists()
        raise UserError(
            f"{path} holds no finished policy",
            got="a run that has not finished" if unfinished else "no file policy.safetensors",
            expected="a run folder made by `countersteer train`, or a policy file",
            fix=f"countersteer train ... --out {path} --resume" if unfinished else "check the path",
        )
    tensors, metadata = checkpoint.load(file)
    if metadata.get("kind") != "policy":
        raise UserError(
            f"{file} is not a policy", got=metadata.get("kind", "a checkpoint"), expected="a policy file",
            fix="give the run folder, or its policy.safetensors",
        )  # fmt: skip
    spec = serialise.from_json(metadata["spec"], extra_modules=modules)
    assert isinstance(spec, PolicySpec)
    policy = spec.build()
    policy.load_state_dict(tensors)
    return policy.eval(), metadata


@functools.lru_cache(maxsize=4)
def frozen_policy(path: str) -> Policy:
    """The policy of a run folder or policy file, not to be trained; read once in a process.

    Raises:
        UserError: There is none.
    """
    return load_policy(path)[0].requires_grad_(False)
