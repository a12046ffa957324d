"""An exported policy is the policy: same answers from ONNX Runtime, or no file."""

import json

import numpy as np
import pytest
import torch

from countersteer.commands import cli
from countersteer.errors import MissingExtraError, UserError
from countersteer.policies.storage import save_policy
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.serving import export
from test_planner import observation, planner

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A planner with weights that tell all inputs apart, and its file, as the command line writes it."""
    folder = tmp_path_factory.mktemp("export")
    policy = planner()
    save_policy(folder / "policy.safetensors", policy, "tiny", 3, 1.0, {"commit": "none"})
    out = folder / "policy.onnx"
    line = [
        "export",
        str(folder / "policy.safetensors"),
        "--out",
        str(out),
        "--json",
        str(folder / "table.json"),
    ]
    assert cli.main(line) == 0
    return policy, out, json.loads((folder / "table.json").read_text())


def leaves(seen, memory):
    named = seen.flatten() | {f"memory.{name}": leaf for name, leaf in memory.flatten().items()}
    return {name: leaf.numpy() for name, leaf in named.items()}


def test_the_file_drives_as_the_policy_does(exported):
    policy, out, _ = exported
    session = onnxruntime.InferenceSession(str(out))
    asked = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    memory = policy.initial_memory((5,))
    remembered = leaves(observation(5), memory)
    for tick in range(6):
        seen = observation(5, history=6, seed=tick, targets=3)
        given = leaves(seen, memory) | {k: v for k, v in remembered.items() if k.startswith("memory.")}
        answer = dict(
            zip(outputs, session.run(outputs, {k: v for k, v in given.items() if k in asked}), strict=True)
        )
        with torch.no_grad():
            expected = policy.act(policy.encode(seen), memory)
        memory = expected.memory
        np.testing.assert_allclose(answer["plan.position"], expected.plan.position, atol=1e-4)
        np.testing.assert_allclose(answer["hypotheses.logit"], expected.hypotheses.logit, atol=1e-4)
        remembered = {k.removeprefix("next_"): v for k, v in answer.items() if k.startswith("next_")}


def test_the_file_asks_for_what_is_read_and_says_what_it_means(exported):
    policy, out, table = exported
    session = onnxruntime.InferenceSession(str(out))
    said = json.loads(session.get_modelmeta().custom_metadata_map[export.KEY])
    assert set(said["inputs"]) == {value.name for value in session.get_inputs()} == set(table["inputs"])
    assert "sensors.front.data" in said["inputs"]
    # Neither the moment a picture was taken nor target points are read by this planner.
    assert not {"sensors.front.time", "intent.target_points"} & set(said["inputs"])
    assert all(entry["means"] for entry in (said["inputs"] | said["outputs"]).values())
    assert said["plan_times_s"] == policy.spec.plan.times().tolist()
    assert said["recipe"] == "tiny"
    assert table["largest_difference"] <= 1e-4


def test_a_privileged_policy_is_refused(tmp_path):
    with pytest.raises(UserError, match="what no car can know"):
        export.export_policy(SetActorCriticSpec().build(), tmp_path / "teacher.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_that_answers_differently(exported, tmp_path, monkeypatch):
    _, out, _ = exported
    monkeypatch.setattr(export, "_convert", lambda flat, written: (out.read_bytes(), {}, {}))
    with pytest.raises(UserError, match="nothing was written"):
        export.export_policy(planner(seed=1), tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_its_name_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"countersteer\[export\]"):
        export.export_policy(planner(), tmp_path / "policy.onnx")
