"""Policies, recipes, runs and replays that were made to break what reads them: each is refused by its name, at once, in little memory."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.replay import is_replay, load_replay, save_replay
from countersteer.evaluation.results import kept_evaluations, read_result, write_result
from countersteer.evaluation.scoring import SuiteScore
from countersteer.policies.storage import artefact_file, load_model, load_policy, save_policy
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.policies.weights import Weights
from countersteer.recipes.find import find_recipe
from countersteer.storage import checkpoint, serialise
from countersteer.training.folder import load_recipe
from fuzzing import formats
from tiny_recipe import CAMERAS, tiny

Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    torch.manual_seed(0)
    save_policy(path, tiny().stage.policy.build(), "tiny", 0, 1.0, {"commit": None})
    return path


def refused(read: Callable[[], object], *says: str) -> UserError:
    """The error of reading, which comes at once and without the memory that was asked for."""
    begun, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        read()
    assert time.monotonic() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 400 << 10  # [KiB]
    for text in says:
        assert text in str(caught.value), str(caught.value)
    assert caught.value.fix is not None
    return caught.value


def resealed(policy: Path, to: Path, change: Change) -> Path:
    """A policy with other content under a right check sum."""
    tensors, metadata = checkpoint.load(policy)
    change(metadata, tensors)
    checkpoint.save(to, tensors, metadata)
    return to


def deep(metadata: dict[str, Any], tensors: object) -> None:
    tree: Any = {"tuple": []}
    for _ in range(150):
        tree = {"tuple": [tree]}
    metadata["spec"] = tree


RESEALED: dict[str, Change] = {
    "no spec": lambda m, t: m.pop("spec"),
    "spec is text": lambda m, t: m.update(spec="x"),
    "spec is a list": lambda m, t: m.update(spec=[1]),
    "spec of another kind": lambda m, t: m.update(spec=serialise.to_json(CAMERAS[0])),
    "deep spec": deep,
    "a width that is text": lambda m, t: m["spec"].update(hidden="16"),
    "a width of NaN": lambda m, t: m["spec"].update(hidden={"float": "nan"}),
    "a width below its range": lambda m, t: m["spec"].update(hidden=-3),
    "a width of terabytes": lambda m, t: m["spec"].update(hidden=10**12),
    "a width of 400 digits": lambda m, t: m["spec"].update(hidden=10**400),
    "a hundred thousand layers": lambda m, t: m["spec"].update(channels={"tuple": [4] * 10**5}),
    "another class": lambda m, t: m["spec"].update(type="countersteer.policies.planner:CNNPlanner"),
    "a module that is none": lambda m, t: m["spec"].update(type="countersteer.a b\x00:C"),
    "a tensor is missing": lambda m, t: t.pop(next(iter(t))),
    "a tensor too many": lambda m, t: t.update(more=torch.zeros(2)),
    "a tensor of another shape": lambda m, t: t.update({n: v[:1] for n, v in t.items() if v.ndim == 2}),
    "a tensor turned": lambda m, t: t.update({n: v.T.contiguous() for n, v in t.items() if v.ndim == 2}),
    "a weight of NaN": lambda m, t: t["head.0.bias"].fill_(torch.nan),
    "an infinite weight": lambda m, t: t["head.0.bias"].fill_(torch.inf),
    "a mean picture of nothing": lambda m, t: t["mean_image"].fill_(torch.nan),
    "a recipe that is a number": lambda m, t: m.update(recipe=3),
    "seconds in words": lambda m, t: m.update(seconds="long"),
    "metadata is no table": lambda m, t: m.update(kind=[]),
}


@pytest.mark.parametrize("what", RESEALED)
def test_wrong_content_under_a_right_check_sum_is_refused(policy: Path, tmp_path: Path, what: str):
    path = resealed(policy, tmp_path / "policy.safetensors", RESEALED[what])
    refused(lambda: load_policy(path), str(path))


def test_a_policy_that_is_whole_is_read_as_before(policy: Path):
    state = torch.get_rng_state()
    model, metadata = load_model(policy)
    assert torch.equal(torch.get_rng_state(), state), "reading draws nothing"
    assert metadata["recipe"] == "tiny"
    assert all(
        torch.equal(value, checkpoint.load(policy)[0][name]) for name, value in model.state_dict().items()
    )
    assert all(value.device.type == "cpu" for value in model.state_dict().values())


def test_a_model_of_a_million_layers_is_never_built(tmp_path: Path):
    path = tmp_path / "vit.safetensors"
    save_policy(
        path, ViTPlannerSpec(cameras=CAMERAS, patch=8, width=16, depth=1, heads=2).build(), "v", 0, 1.0, {}
    )
    resealed(path, path, lambda m, t: m["spec"].update(depth=10**6))
    refused(lambda: load_policy(path), str(path), "larger than the tensors")


def header(text: bytes, size: int | None = None) -> bytes:
    return (len(text) if size is None else size).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", 2**40),
        header(b"{}", 2**63),
        header(b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"w":{"dtype":"F32","shape":[1073741824,1024],"data_offsets":[0,4398046511104]}}'),
        header(b'{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"__metadata__":{"format":"countersteer-1","metadata":"{}"}}'),
        header(b'{"__metadata__":{"format":"countersteer-1","metadata":' + b"[" * 5000),
    ],
)
def test_sizes_that_a_header_declares_are_not_believed(tmp_path: Path, content: bytes):
    (tmp_path / "policy.safetensors").write_bytes(content)
    refused(lambda: load_policy(tmp_path), "policy.safetensors")


TORN: dict[str, str] = {
    "empty": "",
    "cut": '{"recipe": {"type": "countersteer.tr',
    "digits": '{"recipe": {}, "seed": ' + "9" * 5000 + "}",
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 50_000,
    "a list": "[]",
    "a number": "3",
    "no seed": '{"recipe": {}}',
    "recipe of None": '{"recipe": null, "seed": 0, "stages": null, "cases": null}',
    "not text": "\udcff",
}


@pytest.mark.parametrize("what", TORN)
def test_torn_files_of_a_run_are_refused_by_name(tmp_path: Path, what: str):
    content = TORN[what].encode(errors="surrogateescape")
    for name in ("recipe.json", "run.json", "lanes.json"):
        (tmp_path / name).write_bytes(content)
    refused(lambda: load_recipe(tmp_path), "recipe.json")
    refused(lambda: artefact_file(tmp_path), "run" if what in ("recipe of None",) else str(tmp_path))
    refused(lambda: read_result(tmp_path / "lanes.json"), "lanes.json")


def test_stages_of_a_run_do_not_lead_out_of_it(policy: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("..", "../policy", str(policy.parent), ".", "a/../..", ""):
        (run / "run.json").write_text(json.dumps({"stages": {name: {}}}))
        refused(lambda: load_policy(run), "run.json")
    (run / "last").symlink_to(".")  # its last stage is itself
    (run / "run.json").write_text(json.dumps({"stages": {"last": {}}}))
    refused(lambda: load_policy(run), str(run))


def special(kind: str, path: Path) -> None:
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "a link to itself":
            path.symlink_to(path.name)
        case "a link to nothing":
            path.symlink_to("nothing")
        case "a folder":
            path.mkdir()
        case "an endless device":
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "kind", ["FIFO", "a link to itself", "a link to nothing", "a folder", "an endless device"]
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str):
    for name in ("policy.safetensors", "recipe.json", "lanes.json", "a.replay", "recipe.py"):
        special(kind, tmp_path / name)
    (tmp_path / "evaluation").mkdir()
    special(kind, tmp_path / "evaluation" / "lanes.json")
    special(kind, tmp_path / "step_00000001.safetensors")
    assert not is_replay(tmp_path / "a.replay")
    refused(lambda: checkpoint.load(tmp_path / "policy.safetensors"), "policy.safetensors")
    refused(lambda: load_policy(tmp_path), str(tmp_path))
    refused(lambda: Weights(str(tmp_path / "policy.safetensors")).resolve(), "policy.safetensors")
    refused(lambda: load_recipe(tmp_path), str(tmp_path))
    refused(lambda: read_result(tmp_path / "lanes.json"), "lanes.json")
    refused(lambda: load_replay(tmp_path / "a.replay"), "a.replay")
    refused(lambda: kept_evaluations([tmp_path]), str(tmp_path))
    refused(lambda: find_recipe(f"{tmp_path}/recipe.py:tiny"), "recipe.py")
    refused(lambda: checkpoint.CheckpointFolder(tmp_path).latest(), str(tmp_path))


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "/proc/1/mem/x"])
def test_names_that_no_file_has_are_refused(name: str):
    for read in (
        load_policy,
        checkpoint.load,
        load_replay,
        load_recipe,
        find_recipe,
        lambda n: find_recipe(f"{n}:f"),
    ):
        refused(lambda read=read: read(name))


def test_recipe_files_that_cannot_be_run_are_refused(tmp_path: Path):
    for name, text in (("a.py", "raise SystemExit(0)"), ("b.py", "x = ("), ("c.txt", "")):
        (tmp_path / name).write_text(text)
        refused(lambda name=name: find_recipe(f"{tmp_path / name}:f"), name)


FIELDS = [
    ("count", "many"),
    ("count", {"float": "nan"}),
    ("kinds", 3),
    ("kinds", {"tuple": [1]}),
    ("traffic", {"tuple": [0, 1, 2]}),
    ("seed", None),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_values_of_other_types_than_their_fields_are_refused_by_field(field: str, value: Any):
    tree = serialise.to_json(tiny().stage.scenarios)
    assert serialise.from_json(tree) == tiny().stage.scenarios
    tree[field] = value
    refused(lambda: serialise.from_json(tree), f"`{field}`")


def test_verdicts_and_scores_of_other_types_are_refused(tmp_path: Path):
    result = SuiteResult("lanes", "clone", "v1", (CaseResult("one", True, "", None, {"m": 1.0}),))
    write_result(tmp_path / "lanes.json", result)
    whole = json.loads((tmp_path / "lanes.json").read_text())
    assert read_result(tmp_path / "lanes.json")[0] == result
    for changes in (
        {"passed": "yes"},
        {"measures": [1]},
        {"measures": {"m": "far"}},
        {"case": None},
        {"more": 1},
    ):
        broken = whole | {"cases": [whole["cases"][0] | changes]}
        (tmp_path / "lanes.json").write_text(json.dumps(broken))
        refused(lambda: read_result(tmp_path / "lanes.json"), "lanes.json")
    score = {"benchmark": "b", "reference": "r", "best": 1.0, "drives": [{"case": "one"}]}
    for drives in ([{"case": "one"}], [1], None, [{"findings": 3}]):
        refused(lambda drives=drives: SuiteScore.from_json(score | {"drives": drives}), "stored score")


# Replays.


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return formats._replay(tmp_path_factory.mktemp("replay"))


def with_header(replay: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with zipfile.ZipFile(replay) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        header = json.loads(old.read("replay.json"))
        change(header)
        new.writestr("replay.json", json.dumps(header))
        for name in old.namelist()[1:]:
            new.writestr(name, old.read(name))
    return to


def test_pictures_that_a_replay_declares_are_not_believed(replay: Path, tmp_path: Path):
    for shape in ([10**6, 4000, 4000], [6, 16, 23], [7, 16, 24], [-1, 16, 24], [6, 10**9, 24], ["6", "x", 1]):
        path = with_header(
            replay, tmp_path / "a.replay", lambda h, s=shape: h["cases"][0]["cameras"][0].update(shape=s)
        )
        refused(lambda path=path: load_replay(path), str(path))
        assert len(load_replay(path, frames=False).records) == 2


def test_a_replay_that_grows_without_end_is_refused(replay: Path, tmp_path: Path):
    path = tmp_path / "bomb.replay"
    with_header(replay, path, lambda header: header["sha256"].update({"drives/0/more.arrow": "0"}))
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("drives/0/more.arrow", "w") as file,
    ):
        for _ in range(100):
            file.write(bytes(1 << 20))
    refused(lambda: load_replay(path), str(path), "times its own size")


def test_cases_of_a_replay_are_of_their_types(replay: Path, tmp_path: Path):
    for values in (
        {"passed": "yes"},
        {"case": 3},
        {"measures": None},
        {"actors_of": 10**30},
        {"scenario": -1},
    ):
        path = with_header(replay, tmp_path / "a.replay", lambda h, v=values: h["cases"][0].update(v))
        refused(lambda path=path: load_replay(path), str(path))


def test_a_replay_that_is_whole_is_read_as_before(replay: Path, tmp_path: Path):
    result = load_replay(replay)
    again = save_replay(result, tmp_path / "again.replay")
    assert again.read_bytes() == replay.read_bytes()
    assert dataclasses.replace(result, records=()).passed == 1
