"""What `same_numbers` measures: settings that all trees share, and digests of what a tree computes with them."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from same_numbers_of.api import Api, leaves_of

# --- settings: plain data, the same for every tree ------------------------------------------------------------------

# roads: how many generated roads the scenario source is shrunk to (recorded drives stay). rounds, frames, drives,
# last_learning_share: of the collection. steps: of the learning. What is not named stays as the recipe has it. Frames are kept frames in
# all, over rounds, drives and agents; a world ticks `stride` (3; of the teacher 1) times a kept frame.
TRAIN: dict[str, dict[str, Any]] = {
    "clone": {"roads": 4, "rounds": 1, "frames": 480, "drives": 8, "steps": 50},
    "perturb": {"roads": 4, "rounds": 1, "frames": 480, "drives": 8, "steps": 50},
    # Five rounds, as the recipe has: in the second one expert and policy take turns, later the policy drives.
    "on_policy": {"roads": 4, "rounds": 5, "frames": 600, "drives": 6, "steps": 50},
    "blind": {"roads": 4, "rounds": 2, "frames": 640, "drives": 8, "steps": 50, "last_learning_share": 0.5},
    "reprojection_clone": {"roads": 4, "rounds": 1, "frames": 480, "drives": 8, "steps": 50},
    "reprojection_perturb": {"roads": 4, "rounds": 1, "frames": 480, "drives": 8, "steps": 50},
    "reprojection": {
        "roads": 4,
        "rounds": 2,
        "frames": 640,
        "drives": 8,
        "steps": 50,
        "last_learning_share": 0.5,
    },
    # An even share each: first_round_share too, as `Collection.even` says.
    "self_play_teacher": {
        "roads": 12,
        "rounds": 2,
        "frames": 2 * 4 * 12 * 129,
        "drives": 4,
        "steps": 50,
        "first_round_share": 0.5,
        "last_learning_share": 0.5,
    },
    # Three rounds: in the second one teacher and student take turns.
    "self_play": {"roads": 12, "rounds": 3, "frames": 4 * 8 * 60, "drives": 4, "steps": 50},
    "self_play_vit": {
        "roads": 12,
        "rounds": 2,
        "frames": 4 * 8 * 56,
        "drives": 4,
        "steps": 50,
        "last_learning_share": 0.5,
    },
    "self_play_single": {
        "roads": 12,
        "rounds": 2,
        "frames": 16 * 56,
        "drives": 16,
        "steps": 50,
        "last_learning_share": 0.5,
    },
    "self_play_clone": {"roads": 12, "rounds": 1, "frames": 4 * 8 * 40, "drives": 4, "steps": 50},
    "self_play_adapted": {"roads": 12, "rounds": 1, "frames": 4 * 8 * 40, "drives": 4, "steps": 50},
}
TRAIN_SEED = 0

# "recorded_more" is "recorded" with these generated roads beside the bundled drive, each replayed and with reacting traffic.
MORE_ROADS = {"count": 3, "seed": 11, "traffic": (4, 6)}
# Drivers: the expert, or a shipped policy by its name; the suite is the one for that policy.
SUITES = [
    (suite, driver)
    for driver in ("expert", "on_policy", "self_play")
    for suite in ("lane_keeping", "lane_change", "recorded", "recorded_more")
]
SCORES = [("recorded_more", "on_policy"), ("lane_keeping", "on_policy")]

POPULATION = {"worlds": 6, "roads_seed": 1_000_000, "seed": 0}
# "teacher_fast" is asked for the upper end of `velocity`, the other coefficients in the middle; "student_gap" sees behind a Gap.
POPULATION_ROWS = ("straight", "rules", "student", "teacher", "teacher_fast", "student_gap")

REPROJECTION = {"roads": 4, "drives": 6, "seed": 3, "ticks": 30, "period": 1.0}
REPROJECTION_DRIVERS = ("expert", "perturbed")

BOXWORLD = {
    "roads": 10,
    "roads_seed": 5,
    "drives": 10,
    "agents": 8,
    "seed": 7,
    "ticks": 50,
    "cameras": (
        {"name": "front", "width": 96, "height": 40},
        {"name": "left", "width": 64, "height": 32, "yaw": 1.2, "roll": 0.05},
    ),
    "vector_dropout": (0.3, 0.2),
    "command_share": 0.5,
    "duration": 20.0,
}
# variant: what differs; "torch" runs the reference code of ticks and vector, without pictures.
BOXWORLD_VARIANTS: dict[str, dict[str, Any]] = {
    "kernel": {},
    "torch": {"engine": "TORCH", "cameras": (), "ticks": 25},
}


def parts() -> list[str]:
    """All parts, the cheapest and most telling first."""
    return [
        *(f"boxworld/{variant}" for variant in BOXWORLD_VARIANTS),
        *(f"reprojection/{driver}" for driver in REPROJECTION_DRIVERS),
        *(f"suite/{driver}/{suite}" for suite, driver in SUITES if driver != "self_play"),
        *(f"train/{recipe}" for recipe in TRAIN),
        *(f"suite/{driver}/{suite}" for suite, driver in SUITES if driver == "self_play"),
        *(f"population/{row}" for row in POPULATION_ROWS),
        "held_out_error",
        *(f"scores/{driver}/{suite}" for suite, driver in SCORES),
    ]


# --- what is measured -----------------------------------------------------------------------------------------------


def as_array(value: Any) -> np.ndarray:
    """A tensor or an array as a contiguous array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    shape = np.shape(value)
    return np.ascontiguousarray(value).reshape(shape)


def described(value: Any) -> Any:
    """Digest of an array, exact text of anything else."""
    if isinstance(value, np.ndarray) or hasattr(value, "detach"):
        array = as_array(value)
        return {
            "dtype": str(array.dtype),
            "shape": list(array.shape),
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            "mean": _mean(array),
        }
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return f"{float(value).hex()} ({float(value):.6g})"
    if isinstance(value, dict):
        return {str(name): described(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [described(item) for item in value]
    if isinstance(value, (int, np.integer)):
        return int(value)
    assert value is None or isinstance(value, str), type(value)
    return value


def _mean(array: np.ndarray) -> float | None:
    """For people only; what is not finite does not count."""
    numbers = array.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(f"{numbers.mean():.9g}") if numbers.size else None


class Trace:
    """Leaves over time: a digest of each leaf over all ticks, and a short one of all leaves at each tick."""

    def __init__(self) -> None:
        self.hashes: dict[str, Any] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.ticks: list[str] = []

    def add(self, leaves: dict[str, Any]) -> None:
        each = []
        for name, leaf in leaves.items():
            array = as_array(leaf)
            digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
            each.append(digest)
            self.hashes.setdefault(name, hashlib.sha256()).update(digest)
            about = self.about.setdefault(
                name, {"dtype": str(array.dtype), "shape": list(array.shape), "ticks": 0, "means": []}
            )
            about["ticks"] += 1
            about["means"].append(_mean(array))
        # Whatever the leaves are called.
        self.ticks.append(hashlib.sha256(b"".join(sorted(each))).hexdigest()[:16])

    def told(self) -> dict[str, Any]:
        leaves = {}
        for name, each in self.hashes.items():
            about = dict(self.about[name])
            means = [mean for mean in about.pop("means") if mean is not None]
            about["mean"] = float(f"{np.mean(means):.9g}") if means else None
            leaves[name] = {**about, "sha256": each.hexdigest()}
        return {"leaves": leaves, "ticks": self.ticks}


def measure_boxworld(api: Api, variant: str) -> dict[str, Any]:
    """Random actions, some cars displaced, some drives begun anew, forks, a state put back."""
    import torch

    settings = BOXWORLD | BOXWORLD_VARIANTS[variant]
    world = api.boxworld(settings)
    batch, agents = world.batch, world.agents
    drawn = np.random.RandomState(20)

    def numbers(rows: int, scale: float, around: float = 0.0) -> Any:
        values = around + scale * drawn.uniform(-1.0, 1.0, (rows, agents))
        return torch.from_numpy(values.astype(np.float32))

    def move(which: Any, tick: int) -> dict[str, Any]:
        if tick % 3 == 2:
            return which.jerk(numbers(which.batch, 8.0), numbers(which.batch, 4.0))
        return which.act(numbers(which.batch, 0.04), numbers(which.batch, 2.0, 0.3))

    main, forks, begun = Trace(), {}, {}
    numbers_of = torch.arange(batch)
    everybody = torch.ones(batch, dtype=torch.bool)
    world.begin(everybody, numbers_of, all_given=True)
    begun["start"] = described(leaves_of(state=world.state()))
    for tick in range(settings["ticks"]):
        seen = world.look()
        moved = move(world, tick)
        main.add({f"seen.{k}": v for k, v in seen.items()} | moved | leaves_of(state=world.state()))
        if tick in (9, 19, 29, 39):
            # Every third drive, given as all starts; or every other one, given alone.
            mask = numbers_of % 3 == tick // 10 % 3 if tick % 20 == 9 else numbers_of % 2 == 1
            world.begin(mask, 1000 * (tick + 1) + numbers_of, all_given=tick % 20 == 9)
            begun[f"after {tick}"] = described(leaves_of(state=world.state()))
        if tick in (5, 15, 25):
            world.displace(numbers(batch, 0.8), numbers(batch, 0.1), numbers(batch, 0.2, 1.0))
            begun[f"displaced {tick}"] = described(leaves_of(state=world.state()))
        if tick in (3, 22):
            kept = world.save()
            for fresh in (False, True):
                twin = world.fork(torch.tensor([3, 0, 3, batch - 1]), fresh_noise=fresh)
                trace = Trace()
                for later in range(6):
                    seen = twin.look()
                    trace.add(
                        {f"seen.{k}": v for k, v in seen.items()}
                        | move(twin, later)
                        | leaves_of(state=twin.state())
                    )
                forks[f"at {tick}, {'fresh' if fresh else 'same'} noise"] = trace.told()
            world.restore(kept)
    return {"main": main.told(), "forks": forks, "begun": begun}


def measure_reprojection(api: Api, driver: str) -> dict[str, Any]:
    """What a world of recordings was loaded with, and how it is driven in."""
    loaded, ticks = api.reprojection(REPROJECTION, driver)
    trace = Trace()
    for leaves in ticks:
        trace.add(leaves)
    return {"loaded": described(loaded), "driven": trace.told()}


class Watch:
    """Keeps what a training tells."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {"scenarios": {}, "rollouts": {}, "outcomes": {}, "steps": []}

    def scenarios(self, fingerprints: dict[str, str]) -> None:
        self.kept["scenarios"] = dict(fingerprints)

    def rollout(self, number: int, leaves: dict[str, Any]) -> None:
        self.kept["rollouts"][f"round {number}"] = described(leaves)

    def outcomes(self, number: int, frames: int, outcomes: dict[str, float]) -> None:
        self.kept["outcomes"][f"round {number}"] = described({"frames": frames, **outcomes})

    def learned(self, step: int, logged: dict[str, float]) -> None:
        self.kept["steps"].append({"step": step} | {n: float(v).hex() for n, v in logged.items()})


def measure_train(api: Api, name: str) -> dict[str, Any]:
    """What was driven and learned, and the policy that came of it."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        state = api.train(name, TRAIN[name], Path(folder) / "run", watch, TRAIN_SEED)
    assert len(watch.kept["steps"]) == TRAIN[name]["steps"]
    last = {n: float.fromhex(v) for n, v in watch.kept["steps"][-1].items() if n != "step"}
    whole = hashlib.sha256()
    for leaf in state.values():
        whole.update(as_array(leaf).tobytes())
    return {
        "settings": TRAIN[name],
        **watch.kept,
        "mean of last step": {n: float(f"{v:.9g}") for n, v in last.items()},
        "policy": whole.hexdigest(),
        "policy leaves": described(dict(state)),
    }


def measure_suite(api: Api, driver: str, suite: str) -> dict[str, Any]:
    """Verdicts and records of a suite's drives."""
    result = api.suite(suite, driver, MORE_ROADS)
    cases = {
        name: {"verdict": described(verdict), "record": described(fields)}
        for name, verdict, fields in api.cases(result)
    }
    return {
        "name": result.suite,
        "info protocol": result.protocol,
        "passed": result.passed,
        "total": result.total,
        "cases": cases,
    }


def measure_scores(api: Api, driver: str, suite: str) -> dict[str, Any]:
    """Scores of a suite's drives."""
    found: dict[str, Any] = {}
    for benchmark, case, value, parts, findings in api.scores(api.suite(suite, driver, MORE_ROADS)):
        told = {"value": value, "parts": parts, "findings": findings}
        found.setdefault(benchmark, {})[case] = described(told)
    return found


def measure_population(api: Api, row: str) -> dict[str, Any]:
    """What became of the cars of a population."""
    arrays, shares = api.population(row, POPULATION)
    return {"arrays": described(arrays), "shares": described(shares)}


def measure_held_out_error(api: Api) -> dict[str, Any]:
    """Open-loop error of the shipped policy."""
    return {"error": described(api.held_out_error())}


def measure(api: Api, part: str) -> dict[str, Any]:
    """The digests of a part."""
    what, *arguments = part.split("/")
    return globals()[f"measure_{what}"](api, *arguments)
