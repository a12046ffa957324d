"""Numbers that the references of the scores give, beside what ours give; docs/scores.md is made from them.

Run as a program, this rewrites the table of that page.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from countersteer.evaluation.metrics import (
    alpasim,
    carla,
    comfort,
    hugsim,
    navsim,
    navsim_vehicle,
    nuplan,
    rad,
    rater_feedback,
)
from countersteer.evaluation.metrics import realism as realism_metric
from countersteer.evaluation.metrics.carla import Infractions, Leaderboard
from countersteer.evaluation.metrics.drive import Motion
from drives import moving, steady

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scores.md"
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Vector:
    """One number, or one array, of a reference.

    Attributes:
        score: Row of the page that it belongs to.
        name: What it is.
        source: "published" (by the reference's own tests), "run" (the reference was executed) or "hand".
        expected: The reference's.
        ours: Ours.
        digits: Half a unit in the last place that the reference states, 0 if it states all of them.
    """

    score: str
    name: str
    source: str
    expected: object
    ours: object
    digits: float = 0.0

    @property
    def difference(self) -> float:
        """Largest absolute difference."""
        expected, ours = np.asarray(self.expected, float), np.asarray(self.ours, float)
        assert expected.shape == ours.shape, f"{self.name}: {expected.shape} and {ours.shape}"
        return float(np.abs(expected - ours).max())

    @property
    def matches(self) -> bool:
        """Whether they agree within 1e-6, or as far as the reference's digits go."""
        return self.difference <= max(TOLERANCE, self.digits)


_T = np.arange(41) * 0.1


def _still(**channels: np.ndarray) -> Motion:
    return moving(steady(41, 0.1, speed=0.0), **channels)


def _forward(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.zeros_like(values)], -1)


def _comfort() -> Iterator[Vector]:
    def signals(**channels: np.ndarray) -> comfort.ComfortSignals:
        return comfort.filtered_signals(_still(**channels), 0.1, 1.461)

    def broken(s: comfort.ComfortSignals) -> list[bool]:
        names = [f.note for f in comfort.violations(s)]
        return [f.name.replace("_", " ") in names for f in dataclasses.fields(comfort.ComfortBounds)]

    def row(name: str, source: str, expected: object, ours: object, digits: float = 0.0) -> Vector:
        return Vector("Comfort", name, source, expected, ours, digits)

    none, lon, lon_jerk, yaw = np.zeros(6), np.eye(6)[0], np.eye(6)[3], np.eye(6)[5]
    yield row("a 2.39: none broken", "run", none, broken(signals(acceleration=_forward(np.full(41, 2.39)))))
    yield row("a 2.41: longitudinal", "run", lon, broken(signals(acceleration=_forward(np.full(41, 2.41)))))
    step = signals(acceleration=_forward(np.where(_T >= 2.0 - 1e-9, 2.0, 0.0)))
    smooth = [-0.1875, 0.0, 0.4375, 1.0, 1.5625, 2.0, 2.1875, 2.0]
    yield row("step: smoothed", "run", smooth, step.longitudinal_acceleration[16:24])
    peak = int(step.longitudinal_jerk.argmax())
    yield row("step: jerk peak and its sample", "run", [2.00892857, 19], [step.longitudinal_jerk[peak], peak])
    yield row("step: none broken", "run", none, broken(step))
    sine = signals(acceleration=_forward(2 * np.sin(np.pi * _T)))
    largest = [sine.longitudinal_acceleration.max(), np.abs(sine.longitudinal_jerk).max()]
    yield row("sine: smoothed and jerk", "run", [1.96125145, 5.82560043], largest)
    yield row("sine: longitudinal jerk broken", "run", lon_jerk, broken(sine))
    yield row("heading 0.9 t: none broken", "run", none, broken(signals(heading=0.9 * _T)))
    yield row("heading 1.0 t: yaw rate broken", "run", yaw, broken(signals(heading=1.0 * _T)))
    wave = signals(heading=0.3 * np.sin(0.5 * np.pi * _T))
    yield row(
        "heading sine", "run", [0.48727092, 0.73350264], [wave.yaw_rate.max(), wave.yaw_acceleration.max()]
    )


def _navsim() -> Iterator[Vector]:
    half = {"no_collision": 1.0, "drivable_area": 1.0, "progress": 0.8, "time_to_collision": 1.0}
    yield Vector(
        "EPDMS",
        "EP .8, LK 0",
        "hand",
        0.8125,
        navsim.epdms(
            navsim.EpdmsParts(
                **half,
                driving_direction=1.0,
                traffic_light=1.0,
                lane_keeping=0.0,
                history_comfort=1.0,
                extended_comfort=1.0,
            )
        ),
    )
    yield Vector("PDMS", "EP .8", "hand", 0.916667, navsim.pdms(navsim.PdmsParts(**half, comfort=1.0)), 5e-7)

    starts = np.array([[0.0, 0.0], [0.3, 0.1], [1.0, 0.0], [-0.5, 0.5]])
    near = navsim.follow_up_weights(np.array([0.2, 0.0]), starts)
    yield Vector("EPDMS two-stage", "near", "run", [0.457633, 0.505763, 0.022784, 0.013819], near)
    far = navsim.follow_up_weights(np.array([50.0, 0.0]), starts)
    yield Vector("EPDMS two-stage", "far: uniform", "run", [0.25] * 4, far)

    t, zero = np.arange(36) * 0.1, np.zeros(36)

    def motion(acceleration: np.ndarray = zero, heading: np.ndarray = zero) -> Motion:
        return moving(steady(36, 0.1, speed=0.0), acceleration=_forward(acceleration), heading=heading)

    pairs = {
        "a 1 and 1.69": (1.0, motion(zero + 1), motion(zero + 1.69)),
        "a 1 and 1.71": (0.0, motion(zero + 1), motion(zero + 1.71)),
        "heading slopes .09 apart": (1.0, motion(heading=0.2 * t), motion(heading=0.29 * t)),
        "heading slopes .11 apart": (0.0, motion(heading=0.2 * t), motion(heading=0.31 * t)),
        "acceleration slopes .4 apart": (1.0, motion(3 + 0.1 * (t - 1.75)), motion(3 + 0.5 * (t - 1.75))),
        "acceleration slopes .6 apart": (0.0, motion(3 + 0.1 * (t - 1.75)), motion(3 + 0.7 * (t - 1.75))),
    }
    for name, (expected, one, other) in pairs.items():
        ours, _ = navsim.extended_comfort(one, other, 0.1)
        yield Vector("EPDMS extended comfort", name, "run", expected, ours)

    state = navsim_vehicle.BicycleState(speed=10.0)
    expected = [
        (1.0, 0, 0, 10.033333, 0.333333, 0.006667, 0.021654),
        (2.003333, 0, 0.002165, 10.088889, 0.555556, 0.013333, 0.043550),
        (3.012220, 0.002185, 0.006520, 10.159259, 0.703704, 0.020000, 0.065786),
    ]
    for k, row in enumerate(expected):
        state = navsim_vehicle.step(state, 1.0, 0.1, 0.1)
        ours = [
            *(state.x, state.y, state.heading, state.speed),
            *(state.acceleration, state.steering, state.yaw_rate),
        ]
        yield Vector("NAVSIM bicycle", f"step {k + 1}", "run", row, ours, 5e-7)


def _carla() -> Iterator[Vector]:
    crash = Infractions(vehicle_collisions=1, red_lights=1)
    slow = Infractions(minimum_speed=(0.6,))
    rows = [
        ("RC 80, a car and a red light, 2.0", 0.8, crash, Leaderboard.V2_0, 33.6, 0.0),
        ("RC 80, a car and a red light, 2.1", 0.8, crash, Leaderboard.V2_1, 38.095238, 5e-7),
        ("RC 100, minimum speed 60 %, 2.0", 1.0, slow, Leaderboard.V2_0, 88.0, 0.0),
        ("RC 100, minimum speed 60 %, 2.1", 1.0, slow, Leaderboard.V2_1, 86.206897, 5e-7),
    ]
    for name, completion, infractions, edition, expected, digits in rows:
        ours = carla.driving_score(completion, infractions, edition)
        yield Vector("CARLA driving score", name, "hand", expected, ours, digits)


def _hugsim() -> Iterator[Vector]:
    plan = hugsim.PlanParts(1.0, 1.0, 0.0, 1.0)
    yield Vector("HD-Score", "TTC 0", "hand", 0.285714, hugsim.plan_score(plan), 5e-7)
    ours = hugsim.hd_score(hugsim.HdParts(0.5, (plan,)))
    yield Vector("HD-Score", "TTC 0, Rc 0.5", "hand", 0.142857, ours, 5e-7)


def _alpasim() -> Iterator[Vector]:
    rows = [
        ("progress .4", alpasim.SceneParts(0.4, 10.0, False, False), 0.5),
        ("progress 0 of 4.9 m", alpasim.SceneParts(0.0, 4.9, False, False), 1.0),
        ("progress .8, 11 m from the path", alpasim.SceneParts(0.8, 10.0, False, False), 1.0),
        ("collision", alpasim.SceneParts(0.8, 10.0, True, False), 0.0),
        ("off road", alpasim.SceneParts(0.8, 10.0, False, True), 0.0),
    ]
    for name, parts, expected in rows:
        yield Vector("AlpaSim scene score", name, "published", expected, alpasim.scene_score(parts))


def _nuplan() -> Iterator[Vector]:
    yield Vector("nuPlan closed loop", "one object hit", "hand", 0.5, nuplan.collision_score(0, 0, 1))
    yield Vector("nuPlan closed loop", "two objects hit", "hand", 0.0, nuplan.collision_score(0, 0, 2))


def _realism() -> Iterator[Vector]:
    def row(name: str, source: str, expected: object, ours: object, digits: float = 0.0) -> Vector:
        return Vector("WOSAC realism", name, source, expected, ours, digits)

    steps = realism_metric.central_difference(np.array([0.0, 0.5, 1.5, 2.0, 3.5]), pad=-1.0)
    yield row("central difference", "published", [-1.0, 0.75, 0.75, 1.0, -1.0], steps)
    valid = realism_metric.central_validity(np.array([True, False, True, True, False]), pad=True)
    yield row("central validity", "published", [1, 1, 0, 0, 1], valid)

    unit = realism_metric.Histogram(0.0, 1.0, 10, 0.0)
    same = np.array([[0.05], [0.15], [0.25]])
    ours = np.exp(realism_metric.histogram_log_likelihood(same, same, unit))
    yield row("simulated as logged", "published", np.ones((3, 1)), ours)

    flags = np.array([[True, False, False, False]])
    ours = np.exp(realism_metric.bernoulli_log_likelihood(np.array([True]), flags))
    yield row("one of four", "hand", [0.250125], ours, 5e-7)
    never = np.exp(realism_metric.bernoulli_log_likelihood(np.array([True]), np.zeros((1, 32), bool)))
    yield row("none of 32", "hand", [0.001 / 32.002], never)

    speed = realism_metric.Histogram(0.0, 25.0, 10)
    logs = realism_metric.histogram_log_likelihood(
        np.array([[0.3, 2.7, 9.0]]), np.array([[0.2, 0.4, 2.0, 2.6, 3.1, 7.4]]), speed
    )
    yield row("speeds: bins", "hand", [[0.442857, 0.3, 0.014286]], np.exp(logs), 5e-7)
    ours = realism_metric.likelihood(logs, np.ones((1, 3), bool))
    yield row("speeds: likelihood", "hand", 0.123812, ours, 5e-7)
    for year, weights in ((2025, realism_metric.WEIGHTS_2025), (2024, realism_metric.WEIGHTS_2024)):
        ones = realism_metric.RealismParts(*[1.0] * 10)
        yield row(f"weights of {year} sum to 1", "published", 1.0, realism_metric.realism(ones, weights))


def _rater_feedback() -> Iterator[Vector]:
    def row(name: str, expected: object, ours: object) -> Vector:
        return Vector("Rater feedback score", name, "published", expected, ours)

    still = np.zeros((2, 20, 2))
    half, tens = np.full(2, 0.5), np.full(3, 10.0)
    score = rater_feedback.score_rater_feedback(still, half, [np.zeros((20, 2))] * 3, tens, 0.0)
    yield row("nobody moves", 10.0, score.value)
    score = rater_feedback.score_rater_feedback(still, half, [np.zeros((19, 2))] * 2, tens[:2], 0.0)
    yield row("nobody moves, short and few", 10.0, score.value)

    # The reference's grid: one straight trajectory rated 1, plans off by -2 to 2 half widths each way.
    path = np.stack([np.arange(1.0, 6.0), np.zeros(5)], -1)
    shifts = np.linspace(-2.0, 2.0, 9)

    def grid(speed: float, decay: float, floor: float) -> np.ndarray:
        region = rater_feedback.trust_region(speed)
        scores = np.zeros((9, 9))
        for i, along in enumerate(shifts):
            for j, aside in enumerate(shifts):
                plan = path.copy()
                plan[[2, 4], 0] += along * region.longitudinal
                plan[[2, 4], 1] -= aside * region.lateral
                one = np.ones(1)
                scores[i, j] = rater_feedback.score_rater_feedback(
                    plan[None], one, [path], one, speed, frequency=1, decay=decay, floor=floor
                ).value
        return scores

    ring = np.maximum(*np.meshgrid(*[[4, 3, 2, 1, 0, 1, 2, 3, 4]] * 2))
    printed = np.array([1.0, 1.0, 1.0, 0.5477, 0.3])[ring]
    yield dataclasses.replace(row("grid as printed, decay 0.3", printed, grid(6.2, 0.3, 0.0)), digits=5e-5)
    for decay in (0.1, 0.2, 0.3):
        for floor in (0.0, 0.4):
            borders = [grid(speed, decay, floor)[:, 0] for speed in (0.0, 1.4, 6.2, 11.0, 22.0)]
            expected = np.full((5, 9), max(decay, floor))
            yield row(f"grid's border, decay {decay}, floor {floor}", expected, borders)


def _rad() -> Iterator[Vector]:
    def clip(end: rad.ClipEnd) -> rad.ClipParts:
        return rad.ClipParts(end, 0, 0.0, 0.0, 0.0)

    ends = [rad.ClipEnd.DYNAMIC_COLLISION] * 2 + [rad.ClipEnd.STATIC_COLLISION] + [rad.ClipEnd.TIME] * 7
    yield Vector(
        "RAD ratios", "three of ten clips collide", "hand", 0.3, rad.ratios([clip(e) for e in ends]).collision
    )


def vectors() -> list[Vector]:
    """Every vector that is checked."""
    groups = (
        *(_comfort, _navsim, _nuplan, _carla, _alpasim),
        *(_hugsim, _rater_feedback, _realism, _rad),
    )
    return [vector for group in groups for vector in group()]


ROWS = {
    "PDMS": ("NC DAC (5 TTC + 5 EP + 2 C) / 12", "navsim v1.1", "navsim.score_pdms"),
    "EPDMS": (
        "NC DAC DDC TLC (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16, human filter",
        "navsim 0a380a9",
        "navsim.score_epdms",
    ),
    "EPDMS two-stage": (
        "mean over two frames of S1 Σ w S2, w ~ exp(-d²/0.2 m²)",
        "navsim 0a380a9",
        "navsim.pseudo_simulation",
    ),
    "EPDMS extended comfort": (
        "rms difference of two plans 0.5 s apart within four bounds",
        "navsim 0a380a9",
        "navsim.extended_comfort",
    ),
    "NAVSIM bicycle": ("what drives a plan before it is scored", "navsim 0a380a9", "navsim_vehicle.step"),
    "Comfort": ("six bounds on smoothed signals", "navsim 0a380a9, nuplan-devkit e924167", "comfort"),
    "nuPlan closed loop": (
        "NC DAC MP DDC (5 EP + 5 TTC + 4 SL + 2 C) / 16",
        "nuplan-devkit e924167",
        "nuplan.score_closed_loop",
    ),
    "nuPlan open loop": (
        "miss rate (ADE + FDE + 2 AHE + 2 FHE) / 6 at 3, 5, 8 s",
        "nuplan-devkit e924167",
        "nuplan.score_open_loop",
    ),
    "CARLA driving score": (
        "completion × penalty: a product (1.0, 2.0) or 1 / (1 + sum) (2.1)",
        "leaderboard-1.0, -2.0, -2.1",
        "carla.score_driving",
    ),
    "Bench2Drive": (
        "2.0's score without minimum speed; success, efficiency, comfortness",
        "Bench2Drive 7ec25d1",
        "bench2drive",
    ),
    "AlpaSim scene score": (
        "min(progress / 0.8, 1), 0 for a collision at fault or off road",
        "alpasim 3032e0c",
        "alpasim.score_scene",
    ),
    "HD-Score": ("Rc × mean of NC DAC (5 TTC + 2 COM) / 7 of each plan", "HUGSIM 62c690d", "hugsim.score_hd"),
    "Rater feedback score": (
        "best rating near the plan at 3 and 5 s, at least 4 outside",
        "waymo-open-dataset 99a4cb3",
        "rater_feedback.score_rater_feedback",
    ),
    "WOSAC realism": (
        "mean by weight of ten likelihoods of the log under 32 rollouts",
        "waymo-open-dataset 99a4cb3, weights of 2025 and 2024",
        "realism.score_realism",
    ),
    "RAD ratios": ("shares of clips that end in each way; ADD; jerk", "arXiv 2502.13144", "rad.ratios"),
    "Displacement": (
        "ADE, FDE, minADE, miss rate; L2 at and up to a horizon",
        "by definition",
        "displacement",
    ),
}
_VECTORS = "<!-- vectors: made by tests/score_vectors.py -->"
_PARITY = "<!-- parity: made by tests/score_vectors.py from results/score_parity.json -->"
_END = "<!-- end -->"


def table() -> str:
    """The table of docs/scores.md."""
    lines = [
        "| score | what it is | reference | code | vectors met | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    everything = vectors()
    assert {v.score for v in everything} <= set(ROWS), "a vector belongs to no row"
    for name, (what, reference, code) in ROWS.items():
        mine = [v for v in everything if v.score == name]
        met, largest = sum(v.matches for v in mine), max((v.difference for v in mine), default=0.0)
        # Below 1e-12 is rounding of the machine, and differs between machines.
        difference = "-" if not mine else "0" if largest < 1e-12 else f"{largest:.0e}"
        count = f"{met} of {len(mine)}" if mine else "-"
        lines.append(f"| {name} | {what} | {reference} | `{code}` | {count} | {difference} |")
    return "\n".join(lines)


def parity() -> str:
    """The table of what `benchmarks/score_parity.py` found."""
    rows = json.loads((PAGE.parents[1] / "results" / "score_parity.json").read_text())
    lines = [
        "| score | reference, run | scenes | of them below the best score | that differ |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = f"{row['cases']} | {row['below_one']} | {row['differing']}"
        lines.append(f"| {row['score']} | {row['reference']} | {numbers} |")
    return "\n".join(lines)


def rewritten(page: str) -> str:
    """The page with its tables replaced."""
    for start, rows in ((_VECTORS, table()), (_PARITY, parity())):
        before, rest = page.split(start)
        _, after = rest.split(_END, 1)
        page = f"{before}{start}\n\n{rows}\n\n{_END}{after}"
    return page


if __name__ == "__main__":
    for v in vectors():
        print(f"{v.score:24} {v.name:40} {v.source:10} {v.difference:.2e} {'ok' if v.matches else 'DIFFERS'}")
    PAGE.write_text(rewritten(PAGE.read_text()))
    print(f"wrote the tables of {PAGE}")
