"""A policy as an ONNX file: weights, preprocessing and memory in one graph that needs no PyTorch.

Inputs are the leaves of an `Observation` and of the policy's memory by their dotted names, outputs those of
its `PolicyOutput`; every one has a free leading dimension. Memory goes in as `memory.*` and comes out as
`next_memory.*`. Pictures go in as they are, uint8 RGB of the camera that the policy was trained with: what
centres and scales them lies in the graph. `docs/formats.md` lists the names with units and frames, and the
file's metadata carries the same as JSON under the key "countersteer".

A file is written only if ONNX Runtime answers as PyTorch does, on random inputs and along a drive.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from countersteer import __version__
from countersteer.drivers.drivers import PolicyDriver
from countersteer.errors import MissingExtraError, UserError, write_results
from countersteer.policies.interface import Policy
from countersteer.rollouts.rollouter import Rollouter
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.serving.agent import refuse_privileged
from countersteer.storage import serialise
from countersteer.storage.files import write_whole
from countersteer.tensors import TensorTree
from countersteer.worlds.observations import Observation
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["KEY", "TOLERANCE", "Exported", "export_policy"]

KEY = "countersteer"
"""Of the file's metadata."""
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and PyTorch, in the outputs' own units."""
_VERSION = 1
_OPSET = 18
_ROAD = 7_777_777_777  # of the drive whose observations are compared; trained and tested roads have others
_TICKS = 40

MEANINGS = {
    "data": "picture, RGB, as the camera took it (nothing subtracted, nothing scaled)",
    "valid": "False where the sensor has nothing to say",
    "time": "when it was taken [s]",
    "motion.speed": "[m/s], one entry a tick, the latest last",
    "motion.yaw_rate": "[rad/s], positive to the left, one entry a tick, the latest last",
    "motion.valid": "False before the drive began",
    "intent.command": "0 follow the lane, 1 change one lane to the left, 2 to the right",
    "intent.command_age": "time since the command was given [s], 0 while following",
    "intent.set_speed": "speed asked for [m/s]",
    "intent.target_points": "points of the route ahead in the ego frame [m]",
    "intent.target_valid": "whether target points are given",
    "memory": "what the last tick gave as next_memory; zeros where a drive begins",
    "next_memory": "to be given as memory at the next tick",
    "plan.position": "rear axle at the plan's times, ego frame of now: x forward, y left [m]",
    "plan.heading": "relative to the present heading [rad], counter-clockwise",
    "plan.speed": "[m/s]",
    "hypotheses.location": "all plans: x [m], y [m], heading [rad], speed [m/s]",
    "hypotheses.scale": "Laplace scales of the same",
    "hypotheses.logit": "unnormalised log-probability of each plan",
    "logits": "unnormalised log-probability of each choice",
    "value": "expected return",
}


@dataclass(frozen=True)
class Exported:
    """What was written and what was measured before.

    Attributes:
        path: The file.
        inputs, outputs: Type and shape by name; the leading dimension is free.
        largest_difference: Between ONNX Runtime and PyTorch over all outputs, in their units.
        compared: Observations that were compared, random ones and those of a drive.
        torch_ms, onnx_ms: Shortest time of one observation with one thread, taken in turns [ms].
    """

    path: Path
    inputs: dict[str, str]
    outputs: dict[str, str]
    largest_difference: float
    compared: int
    torch_ms: float
    onnx_ms: float

    def to_json(self) -> dict[str, Any]:
        """The same for a file."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    def __str__(self) -> str:
        """What goes in and comes out, and how it was checked, in lines."""
        lines = []
        for title, values in (("inputs", self.inputs), ("outputs", self.outputs)):
            lines += [title, *(f"  {name:24} {kind}" for name, kind in values.items())]
        return "\n".join(lines) + (
            f"\ndiffers from PyTorch by {self.largest_difference:.1e} at most, over {self.compared} observations; "
            f"one takes {self.onnx_ms:.2f} ms, {self.torch_ms:.2f} ms in PyTorch (one thread)"
        )


class _Flat(nn.Module):
    """One tick of a policy, from leaves to leaves."""

    def __init__(self, policy: Policy, observation: Observation, memory: TensorTree):
        super().__init__()
        self.policy, self._observation, self._memory = policy, observation, memory
        self.names = [*observation.flatten(), *(f"memory.{name}" for name in memory.flatten())]

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        for leaf in leaves:
            # All share one batch; the exporter cannot see that by itself.
            torch._check(leaf.shape[0] == leaves[0].shape[0])
        seen = len(self._observation.flatten())
        observation = self._observation.unflatten(dict(zip(self.names, leaves[:seen], strict=False)))
        names = self._memory.flatten()
        memory = self._memory.unflatten(dict(zip(names, leaves[seen:], strict=True)))
        return tuple(self.answer(observation, memory).values())

    def answer(self, observation: Observation, memory: TensorTree) -> dict[str, Tensor]:
        """What the policy says, by the names of the file's outputs."""
        output = self.policy.act(self.policy.encode(observation), memory)
        leaves = output.flatten().items()
        return {(f"next_{name}" if name.startswith("memory.") else name): leaf for name, leaf in leaves}


def export_policy(policy: Policy, path: Path, written: dict[str, Any] | None = None) -> Exported:
    """Write a policy as an ONNX file, once ONNX Runtime gives its answers.

    Args:
        policy: A policy that a car could carry: every sensor is a camera.
        path: The file; what was there is replaced, by a whole file or not at all.
        written: What is known of the policy (recipe, seed, ...), kept in the metadata.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        UserError: The policy reads a privileged sensor, or the file does not answer as the policy does.
    """
    refuse_privileged(policy.spec)
    runtime = _runtime()
    # On the CPU, wherever it was trained; observations and ONNX Runtime are there.
    policy = copy.deepcopy(policy).to("cpu").eval()
    with _one_thread(), torch.no_grad():
        observations = _observations(policy)
        flat = _Flat(
            policy, observations[0], policy.initial_memory(tuple(observations[0].motion.speed.shape[:1]))
        )
        content, inputs, outputs = _convert(flat, written or {})
        session = _session(runtime, content)
        largest, compared = _compare(flat, session, observations)
        torch_ms, onnx_ms = _time(flat, session, observations[0][:1])
    if not largest <= TOLERANCE:
        raise UserError(
            "ONNX Runtime does not answer as the policy does, so nothing was written",
            got=f"outputs that differ by {largest:.2g}",
            expected=f"at most {TOLERANCE:g}",
            fix="give the policy's `encode` and `act` only what depends on their arguments and its weights",
        )
    write_results((path, lambda place: write_whole(place, content)))
    return Exported(path, inputs, outputs, largest, compared, torch_ms, onnx_ms)


def _runtime() -> Any:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            module = __import__(package)
        except ModuleNotFoundError as error:
            raise MissingExtraError(package, "export") from error
    return module  # pyright: ignore[reportPossiblyUnboundVariable]


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings about the exporter's own insides, nor about torchvision, which nobody needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _observations(policy: Policy) -> list[Observation]:
    """Those of a drive with the policy at the wheel and a lane change asked for, three cars at once."""
    start = StartSpec(lateral=0.5, heading=0.03, command_share=1.0, command_time=(1.0, 1.0))
    spec = WorldSpec(
        RoadSimulationSpec(dt=policy.spec.dt, start=start), BoxRendererSpec(), sensors=policy.spec.cameras
    )
    roads = [procedural_road(_ROAD + k, RoadKind.GENTLE, lanes=2, traffic=2) for k in range(2)]
    world = spec.build(roads, 3, seed=0)
    driving = Rollouter(world, PolicyDriver(), policy, None, seed=0)
    driving.begin(torch.ones(world.batch, dtype=torch.bool), world.draw_starts(torch.arange(world.batch)))
    seen = [driving.tick().observation for _ in range(_TICKS)]
    return [observation.map(lambda leaf: leaf[:, 0]) for observation in seen if observation is not None]


def _convert(flat: _Flat, written: dict[str, Any]) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """The file's bytes, and its inputs and outputs."""
    import onnx

    observation, memory = flat._observation, flat._memory
    leaves = (*observation.flatten().values(), *memory.flatten().values())
    batch = torch.export.Dim("batch")
    names = list(flat.answer(observation, memory))
    with _silence():
        program = torch.onnx.export(
            flat,
            leaves,
            None,
            input_names=flat.names,
            output_names=names,
            dynamo=True,
            dynamic_shapes=(tuple({0: batch} for _ in leaves),),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = onnx.load_model_from_string(program.model_proto.SerializeToString())
    # What the policy does not read nobody has to give, though the batch's size may have been taken from it.
    for node in model.graph.node:
        first = node.op_type == "Shape" and any(a.name == "end" and a.i == 1 for a in node.attribute)
        if first and node.input[0] in flat.names:
            node.input[0] = f"sensors.{flat.policy.spec.cameras[0].name}.data"
    read = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(value)
    inputs, outputs = _signature(model.graph.input), _signature(model.graph.output)
    spec = flat.policy.spec
    said = {
        "format": "countersteer-policy",
        "version": _VERSION,
        "countersteer": __version__,
        "policy": serialise.to_json(spec),
        "frame": "ego: origin on the ground below the rear axle, x forward, y left, z up; metres, radians",
        "tick_s": spec.dt,
        "plan_times_s": spec.plan.times().tolist(),
        "inputs": {name: {"is": kind, "means": _meaning(name)} for name, kind in inputs.items()},
        "outputs": {name: {"is": kind, "means": _meaning(name)} for name, kind in outputs.items()},
        **written,
    }
    onnx.helper.set_model_props(model, {KEY: json.dumps(said)})
    model.producer_name, model.producer_version = "countersteer", __version__
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), inputs, outputs


def _signature(values: Any) -> dict[str, str]:
    import onnx

    described = {}
    for value in values:
        kind = value.type.tensor_type
        sizes = [side.dim_param or str(side.dim_value) for side in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        described[value.name] = f"{dtype} [{' '.join(sizes)}]"
    return described


def _meaning(name: str) -> str:
    """By the whole name, its first part, or its last."""
    for key in (name, name.split(".")[0], name.split(".")[-1]):
        if key in MEANINGS:
            return MEANINGS[key]
    return ""


def _session(runtime: Any, content: bytes) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _ask(session: Any, observation: Observation, memory: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    leaves = {name: leaf.numpy() for name, leaf in observation.flatten().items()} | memory
    given = {value.name: leaves[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def _compare(flat: _Flat, session: Any, observations: list[Observation]) -> tuple[float, int]:
    """Largest difference along the drive and on noise, each side with its own memory; and how many were asked."""
    random = torch.Generator().manual_seed(0)

    def noisy(leaf: Tensor) -> Tensor:
        if leaf.dtype == torch.uint8:
            return torch.randint(0, 256, leaf.shape, generator=random, dtype=torch.uint8)
        if leaf.is_floating_point():
            return leaf + torch.randn(leaf.shape, generator=random)
        return leaf

    largest, compared = 0.0, 0
    for sequence in (observations, [observation.map(noisy) for observation in observations]):
        mine = flat._memory
        theirs = {f"memory.{name}": leaf.numpy() for name, leaf in mine.flatten().items()}
        for observation in sequence:
            expected = flat.answer(observation, mine)
            got = _ask(session, observation, theirs)
            sure = _decided(expected)
            for name, leaf in expected.items():
                rows = sure if name.startswith("plan.") else torch.ones_like(sure)
                apart = (torch.from_numpy(got[name]).double() - leaf.double()).abs()[rows]
                largest = max(largest, float(apart.nan_to_num(nan=torch.inf).max()) if apart.numel() else 0.0)
            mine = mine.unflatten({name: expected[f"next_memory.{name}"] for name in mine.flatten()})
            theirs = {
                name.removeprefix("next_"): leaf for name, leaf in got.items() if name.startswith("next_")
            }
            compared += len(sure)
    return largest, compared


def _decided(answer: dict[str, Tensor]) -> Tensor:
    """Where rounding cannot change which hypothesis is the best, so that the plans must agree."""
    logit = answer.get("hypotheses.logit")
    if logit is None or logit.shape[-1] < 2:
        return torch.ones(len(next(iter(answer.values()))), dtype=torch.bool)
    first, second = logit.topk(2).values.unbind(-1)
    return first - second > TOLERANCE


def _time(flat: _Flat, session: Any, observation: Observation, rounds: int = 30) -> tuple[float, float]:
    """Shortest milliseconds of PyTorch and of ONNX Runtime, which take turns."""
    memory = flat._memory[:1]
    arrays = {f"memory.{name}": leaf.numpy() for name, leaf in memory.flatten().items()}
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for k, ask in enumerate(
            (lambda: flat.answer(observation, memory), lambda: _ask(session, observation, arrays))
        ):
            began = time.perf_counter()
            ask()
            best[k] = min(best[k], time.perf_counter() - began)
    return 1e3 * best[0], 1e3 * best[1]
