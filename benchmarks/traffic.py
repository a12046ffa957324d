"""Models of traffic on INTERACTION recordings: realism, collisions, reaction, beside the log, constant velocity and IDM.

    python benchmarks/traffic.py vocabularies FOLDER
    countersteer train benchmarks/traffic.py:recorded_study --folder FOLDER --out runs/study     (or recorded: only the first stage)
    python benchmarks/traffic.py score FOLDER plain=runs/study/traffic ... --split A --rollouts 32
    python benchmarks/traffic.py react FOLDER plain=runs/study/traffic ...
    python benchmarks/traffic.py drift FOLDER runs/study/traffic         (CAT-K: distance to the log by K)
    python benchmarks/traffic.py speed FOLDER runs/study/traffic

FOLDER is the `interaction` folder of the data set: a folder for each site beside `maps`. A: the last recording of each site that was
trained on. B: sites that were not. Results go to results/traffic/*.json. Nothing here ships: the recordings are not for publishing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from countersteer.data.readers.interaction import read_everybody
from countersteer.data.sources import ScenarioSource
from countersteer.data.traffic_windows import TrafficWindows
from countersteer.evaluation.traffic import (
    DT,
    Futures,
    OffRoad,
    TrafficScore,
    judged_in,
    recorded_future,
    sample_futures,
    score_log,
    score_traffic,
)
from countersteer.geometry import polygons, polylines
from countersteer.objectives.next_token import closest_among, drawn_near
from countersteer.policies.weights import Weights
from countersteer.recipes.traffic import closed_loop_stage, plain_stage
from countersteer.scenarios.scenario import Scenario
from countersteer.traffic.idm import IDM
from countersteer.traffic.tokens.model import TokenTraffic, network_of
from countersteer.traffic.tokens.vocabulary import (
    DiskVocabulary,
    GridVocabulary,
    Vocabulary,
    VocabularySpec,
    segments_of,
)
from countersteer.training.recipe import Recipe
from countersteer.training.stages import OptimSpec

HELD = ("DR_CHN_Roundabout_LN", "DR_USA_Intersection_EP1")
RESULTS = Path(__file__).resolve().parents[1] / "results" / "traffic"
SECONDS, BEFORE = 8.0, 6.0


@dataclass(frozen=True)
class Interaction(ScenarioSource):
    """Recordings of the data set as they are, without an ego.

    Attributes:
        folder: `interaction`.
        split: "train", "A" or "B".
    """

    folder: str
    split: Literal["train", "A", "B"] = "train"

    def files(self) -> list[Path]:
        """Tracks, by site and number."""
        found = []
        for site in sorted(Path(self.folder).glob("DR_*")):
            files = sorted(site.glob("vehicle_tracks_*"))
            if (site.name in HELD) == (self.split == "B"):
                found += files if self.split == "B" else files[:-1] if self.split == "train" else files[-1:]
        return found

    def load(self) -> list[Scenario]:
        """See `ScenarioSource.load`."""
        return [read_everybody(file) for file in self.files()]


def recorded(folder: str = "data/traffic/interaction", steps: int = 6000) -> Recipe:
    """The network on the training recordings."""
    return Recipe.of(plain_stage(Interaction(folder), steps))


def recorded_study(
    folder: str = "data/traffic/interaction",
    steps: int = 6000,
    tuned: int = 600,
    closest: int = 32,
    rate: float = 1e-4,
) -> Recipe:
    """The network; then CAT-K from its weights; and, as a control, as much time of the same as before: 1.8 times as many steps."""
    source = Interaction(folder)
    plain, weights = plain_stage(source, steps), Weights("stage:traffic")
    optim = OptimSpec(steps=tuned, learning_rate=rate, warmup=20, checkpoint_every=100)
    loop = dataclasses.replace(closed_loop_stage(source, weights, closest), optim=optim)
    more = dataclasses.replace(optim, steps=round(1.8 * tuned))
    control = dataclasses.replace(plain, name="control", optim=more, init_from=weights)
    return Recipe("recorded_study", (plain, loop, control))


def recorded_closed_loop(
    folder: str = "data/traffic/interaction",
    weights: str = "runs/study/traffic",
    closest: int = 8,
    steps: int = 200,
    rate: float = 1e-4,
) -> Recipe:
    """CAT-K alone, from weights that are there."""
    stage = closed_loop_stage(Interaction(folder), Weights(weights), closest)
    optim = OptimSpec(steps=steps, learning_rate=rate, warmup=20, checkpoint_every=100)
    return Recipe.of(dataclasses.replace(stage, optim=optim))


# --- scenes -------------------------------------------------------------------------------------


def scenes(folder: str, split: str, every: float) -> Iterator[tuple[str, Scenario, float]]:
    """Names, scenes of 15 s and where in them to begin, one in `every` seconds with at least two to judge."""
    for file in Interaction(folder, split).files():  # type: ignore[arg-type]
        whole = read_everybody(file)
        for begin in np.arange(BEFORE, whole.duration - SECONDS - 0.5, every):
            scene = _cut(whole, float(begin))
            if scene is not None:
                yield f"{file.parent.name}_{file.name[15:18]}_{begin:.0f}", scene, BEFORE


def _cut(whole: Scenario, begin: float) -> Scenario | None:
    first, last = round((begin - BEFORE) / DT), round((begin + SECONDS) / DT) + 1
    tracks = whole.tracks.at(slice(first, last))
    who = np.flatnonzero(tracks.valid[:, round(BEFORE / DT)])
    tracks = dataclasses.replace(
        tracks,
        ids=tuple(tracks.ids[k] for k in who),
        **{
            name: getattr(tracks, name)[who]
            for name in ("kind", "position", "heading", "velocity", "size", "valid")
        },
    )
    scene = dataclasses.replace(
        whole, times=np.arange(last - first) * DT, tracks=tracks, signals=whole.signals.at(slice(first, last))
    )
    if not len(who) or len(judged_in(recorded_future(scene, BEFORE, SECONDS))) < 2:
        return None
    return scene


# --- models that do not learn -------------------------------------------------------------------


def constant_velocity(happened: Futures, speed: np.ndarray, rollouts: int) -> Futures:
    """Straight on."""
    ticks = np.arange(1, happened.logged.shape[1] + 1) * DT
    course = happened.begin[:, 2]
    ahead = speed[:, None, None] * ticks[:, None] * np.stack([np.cos(course), np.sin(course)], -1)[:, None]
    turn = np.broadcast_to(course[:, None, None], (*ahead.shape[:2], 1))
    pose = np.concatenate([happened.begin[:, None, :2] + ahead, turn], -1)
    return dataclasses.replace(happened, pose=np.broadcast_to(pose, (rollouts, *pose.shape)))


def along_the_path(
    happened: Futures,
    speed: np.ndarray,
    rollouts: int,
    desired: tuple[float, float],
    seed: int,
    told: np.ndarray | None = None,
) -> Futures:
    """IDM along the path that was recorded, which it knows, then straight on; desired speeds are drawn for each car and rollout."""
    paths = [_path_ahead(*each) for each in zip(happened.begin, happened.logged, happened.seen, strict=True)]
    rng = np.random.default_rng([seed, 21])
    wanted = np.maximum(rng.uniform(*desired, (rollouts, len(paths))), 0.8 * speed)
    poses = [_idm(happened, paths, speed, each, told) for each in wanted]
    return dataclasses.replace(happened, pose=np.stack(poses))


def _path_ahead(begin: np.ndarray, way: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points 0.5 m apart, with courses: along what was recorded, then straight on for 200 m."""
    line, course = begin[None, :2], begin[2]
    if seen.any() and np.linalg.norm(way[seen][:, :2] - begin[:2], axis=1).max() > 1.0:
        known = np.concatenate([begin[None, :2], way[seen, :2]])
        kept = [0]
        for k in range(1, len(known)):  # a car that creeps has no course
            if np.linalg.norm(known[k] - known[kept[-1]]) > 0.3:
                kept.append(k)
        line, course = known[kept], way[seen][-1, 2]
    ahead = line[-1] + 200.0 * np.array([np.cos(course), np.sin(course)])
    points = polylines.resample(np.concatenate([line, ahead[None]]), 0.5)
    return np.concatenate([points, polylines.headings(points)[:, None]], 1)


def _idm(
    happened: Futures,
    paths: list[np.ndarray],
    speed: np.ndarray,
    desired: np.ndarray,
    told: np.ndarray | None,
) -> np.ndarray:
    """Poses [car, tick, 3] of one rollout."""
    size, model, ticks = happened.size, IDM(), happened.logged.shape[1]
    arc, v, here = np.zeros(len(paths)), speed.copy(), happened.begin.copy()
    poses = []
    for tick in range(ticks):
        gap, lead = np.full(len(paths), np.inf), np.zeros(len(paths))
        for k, path in enumerate(paths):
            piece = path[int(arc[k] / 0.5) :][:100:2]
            apart = np.linalg.norm(here[:, None, :2] - piece[None, :, :2], axis=-1)
            nearest = apart.argmin(1)
            on = (apart.min(1) < (size[:, 1] + size[k, 1]) / 2 + 0.2) & (nearest > 0)
            on[k] = False
            bumper = np.where(on, nearest * 1.0 - (size[:, 0] + size[k, 0]) / 2, np.inf)
            leader = int(bumper.argmin())
            gap[k], lead[k] = bumper[leader], max(v[leader] * np.cos(here[leader, 2] - here[k, 2]), 0.0)
        pushed = model.answer(*(torch.from_numpy(each) for each in (v, desired, gap, lead))).numpy()
        if told is not None:
            pushed = np.where(np.isnan(told[tick]), pushed, (np.nan_to_num(told[tick]) - v) / DT)
        new = np.maximum(v + DT * pushed, 0.0)
        arc, v = arc + DT * (v + new) / 2, new
        for k, path in enumerate(paths):
            at = min(arc[k] / 0.5, len(path) - 1.001)
            low = int(at)
            here[k] = path[low] + (at - low) * (path[low + 1] - path[low])
        poses.append(here.copy())
    return np.stack(poses, 1)


def speeds_of(scene: Scenario, happened: Futures) -> np.ndarray:
    """At the start [m/s]."""
    at = round(BEFORE / DT)
    rows = [scene.tracks.ids.index(name) for name in happened.ids]
    return np.linalg.norm(scene.tracks.velocity[rows, at].astype(float), axis=-1)


# --- commands -----------------------------------------------------------------------------------


def score(
    folder: tyro.conf.Positional[str],
    models: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    split: Literal["A", "B"] = "A",
    rollouts: int = 32,
    every: float = 30.0,
    temperature: float = 1.0,
    top: int = 64,
    desired: tuple[float, float] = (4.0, 8.0),
    plain: bool = True,
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Realism and rates of the rows log, constant velocity, IDM and token models, NAME=RUN each."""
    named = dict(each.split("=") for each in models)
    rows: dict[str, list[TrafficScore]] = {
        name: [] for name in (*(("log", "constant velocity", "IDM") if plain else ()), *named)
    }
    edges: dict[str, OffRoad] = {}
    began, names = time.monotonic(), []
    for name, scene, start in scenes(folder, split, every):
        names.append(name)
        place = name.rsplit("_", 2)[0]
        if place not in edges:
            edges[place] = OffRoad(scene.road)
        edge = edges[place]
        happened = recorded_future(scene, start, SECONDS)
        speed = speeds_of(scene, happened)
        if plain:
            rows["log"].append(score_log(happened, edge, rollouts))
            rows["constant velocity"].append(
                score_traffic(constant_velocity(happened, speed, rollouts), edge)
            )
            rows["IDM"].append(score_traffic(along_the_path(happened, speed, rollouts, desired, seed), edge))
        for model, run in named.items():
            traffic = TokenTraffic(Weights(run).resolve(), temperature=temperature, top=top, together=True)
            sampled = sample_futures(traffic, scene, start, rollouts, seconds=SECONDS, seed=seed)
            rows[model].append(score_traffic(sampled, edge))
        print(name, {model: round(found[-1].realism, 3) for model, found in rows.items()}, flush=True)
    table = {model: _mean(found) for model, found in rows.items()}
    _print(table)
    settings = {
        "split": split,
        "rollouts": rollouts,
        "every_s": every,
        "temperature": temperature,
        "top": top,
        "seed": seed,
        "idm_desired_speed": desired,
    }
    _keep(
        out or f"score_{split}",
        settings
        | {
            "seconds": time.monotonic() - began,
            "scenes": names,
            "weights": {name: Weights(run).resolve().digest for name, run in named.items()},
        },
        table,
    )


def _mean(found: list[TrafficScore]) -> dict[str, float]:
    values = [each.to_json() for each in found]
    mean = {name: float(np.nanmean([each[name] for each in values])) for name in values[0]}
    cars = np.array([each["judged"] for each in values], float)
    by_car = {
        f"{name}_by_road_user": float(np.average([each[name] for each in values], weights=cars))
        for name in ("collisions", "off_road", "ade")
    }
    spread = float(np.std([each["realism"] for each in values]) / math.sqrt(len(values)))
    return mean | by_car | {"realism_se": spread, "scenes": float(len(values)), "judged": float(cars.sum())}


def _print(table: dict[str, dict[str, float]]) -> None:
    columns = (
        "realism",
        "realism_se",
        "kinematic",
        "interactive",
        "map",
        "collisions",
        "off_road",
        "ade",
        "min_ade",
    )
    print(f"{'':24s}" + "".join(f"{name:>12s}" for name in columns))
    for model, values in table.items():
        print(f"{model:24s}" + "".join(f"{values[name]:12.3f}" for name in columns))


def react(
    folder: tyro.conf.Positional[str],
    models: tyro.conf.Positional[tuple[str, ...]],
    *,
    pairs: int = 24,
    rollouts: int = 16,
    braking: float = 5.0,
    seconds: float = 4.0,
    temperature: float = 1.0,
    top: int = 64,
    out: str | None = None,
) -> None:
    """The leaders of pairs brake; how often does the follower touch them, beside IDM and one who does not see them."""
    named = dict(each.split("=") for each in models)
    hits: dict[str, list[float]] = {
        name: [] for name in (*named, *(f"{name}, blind" for name in named), "IDM")
    }
    used: list[str] = []
    ticks = round(seconds / DT)
    for name, scene, start in scenes(folder, "A", 5.0):
        happened = recorded_future(scene, start, seconds)
        speed = speeds_of(scene, happened)
        pair, site = _pair(happened, speed), name.rsplit("_", 2)[0]
        if pair is None or sum(each.startswith(site) for each in used) >= math.ceil(pairs / 4):
            continue
        used.append(name)
        follower, leader = pair
        told = np.full((ticks, len(speed)), np.nan)
        told[:, leader] = np.maximum(speed[leader] - braking * DT * np.arange(1, ticks + 1), 0.0)
        course = happened.begin[leader, 2]
        way = happened.begin[leader, :2] + np.cumsum(told[:, leader, None], 0) * DT * [
            np.cos(course),
            np.sin(course),
        ]
        braked = np.concatenate([way, np.full((ticks, 1), course)], 1)

        def touched(
            futures: Futures,
            follower: int = follower,
            leader: int = leader,
            braked: np.ndarray = braked,
            happened: Futures = happened,
        ) -> float:
            pose = futures.pose.copy()
            pose[:, leader] = braked
            return float(_touch(pose, happened.size, follower, leader).mean())

        for model, run in named.items():
            traffic = TokenTraffic(Weights(run).resolve(), temperature=temperature, top=top, together=True)
            told_it = sample_futures(traffic, scene, start, rollouts, seconds=seconds, speeds=told)
            hits[model].append(touched(told_it))
            alone = sample_futures(
                traffic, _without(scene, happened.ids[leader]), start, rollouts, seconds=seconds
            )
            blind = dataclasses.replace(happened, pose=np.insert(alone.pose, leader, 0.0, axis=1))
            hits[f"{model}, blind"].append(touched(blind))
        hits["IDM"].append(touched(along_the_path(happened, speed, rollouts, (4.0, 8.0), 0, told)))
        print(name, {model: each[-1] for model, each in hits.items()}, flush=True)
    table = {
        model: {"contact": float(np.mean(each)), "pairs": float(len(each))} for model, each in hits.items()
    }
    print(json.dumps(table, indent=1))
    settings = {
        "pairs": used,
        "rollouts": rollouts,
        "braking": braking,
        "seconds": seconds,
        "temperature": temperature,
        "top": top,
    }
    _keep(out or "react", settings, table)


def _pair(happened: Futures, speed: np.ndarray) -> tuple[int, int] | None:
    """Two who drive at least 4 m/s one behind the other, 5 to 25 m apart: the follower and its leader."""
    for follower in np.flatnonzero(speed > 4.0).tolist():
        x, y, turn = (happened.begin - happened.begin[follower]).T
        course = happened.begin[follower, 2]
        ahead, left = np.cos(course) * x + np.sin(course) * y, np.cos(course) * y - np.sin(course) * x
        gap = ahead - (happened.size[:, 0] + happened.size[follower, 0]) / 2
        near = (gap > 4.0) & (gap < 20.0) & (np.abs(left) < 1.2) & (np.cos(turn) > 0.94) & (speed > 4.0)
        if near.any():
            return follower, int(np.where(near, gap, np.inf).argmin())
    return None


def _touch(pose: np.ndarray, size: np.ndarray, a: int, b: int) -> np.ndarray:
    """Whether two boxes touch in each rollout."""
    boxes = [
        polygons.rectangle(
            pose[:, k, :, :2],
            pose[:, k, :, 2],
            np.broadcast_to(size[k, :2], (*pose.shape[:1], pose.shape[2], 2)),
        )
        for k in (a, b)
    ]
    return np.asarray((polygons.rectangle_distance(*boxes) < 0.0).any(1))


def _without(scene: Scenario, name: str) -> Scenario:
    tracks = scene.tracks
    keep = [k for k, each in enumerate(tracks.ids) if each != name]
    rows = {
        each: getattr(tracks, each)[keep]
        for each in ("kind", "position", "heading", "velocity", "size", "valid")
    }
    return dataclasses.replace(
        scene, tracks=dataclasses.replace(tracks, ids=tuple(tracks.ids[k] for k in keep), **rows)
    )


def vocabularies(folder: tyro.conf.Positional[str], *, files: int = 100) -> None:
    """Error of tokens on recordings of A, by kind of vocabulary, of single motions and after 16 chained ones."""
    data = TrafficWindows(Interaction(folder))
    segments = data.segments()
    kinds: dict[str, VocabularySpec] = {
        "grid 0.15 m, 0.03 rad": GridVocabulary(),
        "grid 0.20 m, 0.04 rad": GridVocabulary(0.2, 0.04),
        "grid 0.10 m, 0.02 rad": GridVocabulary(0.1, 0.02),
        **{f"disks {count}": DiskVocabulary(count) for count in (256, 512, 1024)},
    }
    table = {}
    tests = [each for file in Interaction(folder, "A").files() for each in [read_everybody(file)]]
    for name, spec in kinds.items():
        vocabulary = spec.build(segments, 4096)
        errors, ends = [], []
        for scenario in tests:
            poses = np.concatenate(
                [scenario.tracks.position[..., :2], scenario.tracks.heading[..., None]], -1
            )
            pose, valid = torch.from_numpy(poses.astype(np.float32)), torch.from_numpy(scenario.tracks.valid)
            errors.append(vocabulary.error(segments_of(pose, valid, 3), 0))
            ends.append(_chained(vocabulary, pose, valid))
        error, end = torch.cat(errors) * 100, torch.cat(ends) * 100
        table[name] = {
            "tokens": float(len(vocabulary.kind)),
            "median_cm": error.median().item(),
            "p99_cm": error.quantile(0.99).item(),
            "above_10_cm": (error > 10).float().mean().item(),
            "after_16_median_cm": end.median().item(),
            "after_16_p99_cm": end.quantile(0.99).item(),
        }
        print(name, table[name], vocabulary.digest()[:12], flush=True)
    _keep("vocabularies", {"segments": {str(k): len(v) for k, v in segments.items()}}, table)


def _chained(vocabulary: Vocabulary, pose: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Distance of the box's corners to the recorded pose after 16 motions, each the nearest from where the last one ended."""
    from countersteer.traffic.tokens.frames import compose, ends_of, relative, squared_distance

    starts = [(a, int(valid[a].float().argmax())) for a in range(len(pose)) if int(valid[a].sum()) > 85]
    rows, first = (torch.tensor(each) for each in zip(*starts, strict=True))
    here, kind = pose[rows, first], torch.zeros(len(rows), dtype=torch.long)
    ends = ends_of(vocabulary.motion[:, -1], vocabulary.kind)
    squared = torch.zeros(len(rows))
    for step in range(1, 17):
        away = squared_distance(ends, vocabulary.kind, relative(pose[rows, first + 5 * step], here), kind)
        squared, best = away.min(-1)
        here = compose(here, vocabulary.motion[best, -1])
    return squared.sqrt()


def drift(folder: tyro.conf.Positional[str], run: tyro.conf.Positional[str], *, batches: int = 4) -> None:
    """Mean distance of CAT-K's roll-outs to the recording, by K: between the re-tokenised log and the likeliest token."""
    data = TrafficWindows(Interaction(folder, "A"), windows=8)
    network = network_of(Weights(run))
    table: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        for name in ("drawn near", "nearest", 1, 2, 4, 8, 16, 32, 64, 128, network.used):
            away = []
            for k in range(batches):
                batch = data.batch(7, k)
                near, _ = drawn_near(network, batch, 0.05 if name == "drawn near" else 0.0)
                pose = near if isinstance(name, str) else closest_among(network, batch, name, near)[0]
                gap = (pose - batch.pose)[..., :2].norm(dim=-1)
                away.append(
                    (gap[batch.seen].mean().item(), gap[:, :, -2][batch.seen[:, :, -2]].mean().item())
                )
            table[str(name)] = {
                "mean_m": float(np.mean([a for a, _ in away])),
                "last_m": float(np.mean([b for _, b in away])),
            }
            print(name, table[str(name)], flush=True)
    _keep("drift", {"run": Weights(run).resolve().digest, "batches": batches}, table)


def speed(folder: tyro.conf.Positional[str], run: tyro.conf.Positional[str]) -> None:
    """Sampled road users times seconds, in a second."""
    table = {}
    _, scene, start = next(scenes(folder, "A", 30.0))
    for together in (True, False):
        traffic = TokenTraffic(Weights(run).resolve(), together=together)
        sample_futures(traffic, scene, start, 32, seconds=1.0)
        began, used = time.monotonic(), time.process_time()
        futures = sample_futures(traffic, scene, start, 32, seconds=8.0)
        wall, cpu = time.monotonic() - began, time.process_time() - used
        amount = futures.pose.shape[0] * futures.pose.shape[1] * 8.0
        table["one call" if together else "a call for each drive"] = {
            "agent_seconds_per_s": amount / wall,
            "agent_seconds_per_cpu_s": amount / cpu,
            "agents": float(futures.pose.shape[1]),
        }
    print(table)
    _keep("speed", {"run": Weights(run).resolve().digest, "threads": torch.get_num_threads()}, table)


def _keep(name: str, settings: dict[str, Any], table: dict[str, Any]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parents[1],
    )
    # Where things lie on this machine says nothing to others.
    words = [
        f"{w.split('=')[0]}=RUN" if "=" in w else "FOLDER" if Path(w).is_dir() else w for w in sys.argv[1:]
    ]
    content = {
        "command": " ".join(["python benchmarks/traffic.py", *words]),
        "commit": commit.stdout.strip(),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "settings": settings,
        "rows": table,
    }
    (RESULTS / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"score": score, "react": react, "vocabularies": vocabularies, "drift": drift, "speed": speed}
    )
