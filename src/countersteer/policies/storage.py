"""Policies as files: weights, the spec that builds them, and where they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from countersteer.errors import UserError, reading
from countersteer.policies.interface import Policy
from countersteer.storage import checkpoint, serialise
from countersteer.storage.files import read_object

__all__ = ["artefact_file", "last_stage", "load_model", "load_policy", "save_model", "save_policy"]


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
    # A name may be too long, and a folder may not be looked into.
    with reading(path, "cannot be read", expected="a policy file or a run folder", fix="check the path"):
        if path.is_file():
            return path
        for folder in filter(None, (path, last_stage(path))):
            for name in _ARTEFACTS:
                if (folder / name).is_file():
                    return folder / name
    unfinished = path.is_dir() and (path / "recipe.json").exists()
    raise UserError(
        f"{path} holds no finished policy",
        got="a run that has not finished" if unfinished else "no file policy.safetensors",
        expected="a run folder made by `countersteer train`, or a policy file",
        fix=f"countersteer train ... --out {path} --resume" if unfinished else "check the path",
    )


def last_stage(run: str | Path) -> Path | None:
    """Folder of the last stage of a run of several; None of any other folder.

    Raises:
        UserError: What the run says of its stages cannot be read.
    """
    description = Path(run) / "run.json"
    if not description.is_file():
        return None
    stages = read_object(description).get("stages", {})
    if not isinstance(stages, dict) or not all(_STAGE.fullmatch(name) for name in stages):
        raise UserError(
            f"{description} is damaged",
            got="stages that are none",
            expected="their names",
            fix="restore that file",
        )
    return Path(run) / list(stages)[-1] if stages else None


_STAGE = re.compile(r"[A-Za-z][\w-]{0,99}")  # of a recipe of several; nothing that leads out of the folder


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
    with reading(file, fix="use another file, or train again"):
        spec = serialise.from_json(metadata["spec"], extra_modules=modules)
        with torch.random.fork_rng(devices=[]):  # reading a file must not change what is drawn after it
            _check_size(spec, tensors)
            model = spec.build()
        model.load_state_dict(tensors)
        _check_numbers(model)
        for name, kind in _ABOUT.items():
            if not isinstance(metadata.get(name, kind()), kind | int if kind is float else kind):
                raise ValueError(f"{name!r} is {metadata[name]!r:.80}")
    return model.eval(), metadata


_ABOUT = {"recipe": str, "seed": int, "seconds": float, "environment": dict}


def _check_size(spec: Any, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a spec of another model than the tensors are of, before anything of its size is made.

    It is built without memory first, and no further than the file has tensors.
    """
    try:
        # Who is stopped on the way may have been inside a `no_grad` that is then never left: it is here.
        with (
            torch.set_grad_enabled(torch.is_grad_enabled()),
            torch.device("meta"),
            _AtMost(_CALLS * (len(tensors) + 100)),
        ):
            planned = spec.build().state_dict()
    except UserError:
        raise
    except Exception:
        return  # a part that cannot be built so; the real one follows, and says what is wrong with it
    for name, value in planned.items():
        if name in tensors and tensors[name].shape != value.shape:
            raise UserError(
                f"the tensor {name!r} is not of the model that is described beside it",
                got=f"shape {tuple(tensors[name].shape)}",
                expected=f"shape {tuple(value.shape)}",
                fix="use another file, or train again",
            )
    if planned.keys() != tensors.keys():
        odd = sorted(planned.keys() ^ tensors.keys())
        raise UserError(
            "the tensors are not those of the model that is described beside them",
            got=f"missing or too many: {', '.join(odd[:4])}",
            expected=f"{len(planned)} tensors",
            fix="use another file, or train again",
        )


_CALLS = 30  # of torch for a tensor of a model as it is built; our own models need five to twenty
_DRAWS = frozenset({"uniform_", "normal_", "trunc_normal_", "zero_", "fill_"})


class _AtMost(TorchFunctionMode):
    """Stops the building of a model that asks torch for more than this many things."""

    def __init__(self, count: int):
        super().__init__()
        self.left = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise UserError(
                "the model that is described is larger than the tensors beside it",
                got="more layers than there are tensors",
                expected="a model of these tensors",
                fix="use another file, or train again",
            )
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]  # there are no values to draw
        return func(*args, **(kwargs or {}))


def _check_numbers(model: nn.Module) -> None:
    """Refuse weights, and what a model keeps beside them, that are not finite: nothing that is driven with them is."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(
                f"the weights {name!r} are not finite",
                got="NaN or infinity",
                expected="finite numbers",
                fix="take an earlier checkpoint, or train again with a lower learning rate",
            )


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
