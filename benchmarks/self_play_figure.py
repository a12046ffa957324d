"""Draw what self-play showed: a teacher's curve while it trains, students beside each other on unseen roads, and what turning a dial does.

    python benchmarks/self_play_figure.py results/self_play --out docs/pictures

Reads `teacher_curve.json` (rounds: frames, goal, collision, off_road) and `students.json` (rows of
`countersteer evaluate --suite self_play`, each with recipe, seed and frames) for `self_play.png`; `conditions.json` (the same with
`--conditions`) and `scaling.json` (of `benchmarks/self_play_scaling.py`) for `self_play_dials.png`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_NAMES = {
    "self_play": "self-play DAgger",
    "self_play_single": "single-agent DAgger",
    "self_play_clone": "behaviour cloning",
    "blind": "blind",
}
_COLORS = {
    "self_play": "#2f7ed8",
    "self_play_single": "#8a63c9",
    "self_play_clone": "#c0504d",
    "blind": "#7f7f7f",
}


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description="Figure of self-play.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    known = parser.parse_args()
    plt.rcParams |= {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    known.out.mkdir(parents=True, exist_ok=True)
    draw_students(known.folder, known.out / "self_play.png")
    draw_dials(known.folder, known.out / "self_play_dials.png")


def draw_dials(folder: Path, out: Path) -> None:
    """What a teacher does that is asked for other coefficients, and how students grow."""
    rows = [row for row in json.loads((folder / "conditions.json").read_text())["rows"] if "asked" in row]
    scaling = json.loads((folder / "scaling.json").read_text())["rows"]
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.9), layout="constrained")

    def line(
        axis: Axes, rows: list[dict], x: Callable[[dict], float], y: str, color: str, times: float
    ) -> None:
        rows = sorted(rows, key=x)
        at, value = [x(row) for row in rows], [times * row[y] for row in rows]
        low, high = ([times * row[f"{y}_interval"][end] for row in rows] for end in (0, 1))
        axis.fill_between(at, low, high, color=color, alpha=0.18, lw=0)
        axis.plot(at, value, "o-", color=color, ms=4, lw=1.6)
        axis.set_ylim(bottom=0)

    def asked(name: str) -> list[dict]:
        return [row for row in rows if name in row["asked"]]

    line(axes[0], asked("collision"), lambda row: row["asked"]["collision"], "collision", "#c0504d", 100)
    axes[0].set(
        title="Asked to fear collisions", xlabel="cost of a collision", ylabel="% of cars that collided"
    )
    for name, color in (("velocity", "#2c9c69"), ("overspeed", "#8a63c9")):
        mine = asked(name)
        most = max(row["asked"][name] for row in mine)
        line(axes[1], mine, lambda row, n=name, m=most: row["asked"][n] / m, "speed", color, 1)
        end = max(mine, key=lambda row: row["asked"][name])
        axes[1].annotate(
            f"{'worth of speed' if name == 'velocity' else 'cost of overspeed'} (0 to {most:g})",
            (1.0, end["speed"]),
            xytext=(0, 10 if name == "velocity" else -16),
            textcoords="offset points",
            ha="right",
            color=color,
        )
    axes[1].set(title="Asked for speed", xlabel="share of the range", ylabel="mean speed [m/s]")
    axes[1].set_ylim(8, None)
    middle = sorted({row["frames"] for row in scaling if row["size"] != 1.0})[0]
    sizes = [row for row in scaling if row["frames"] == middle]
    line(axes[2], sizes, lambda row: row["weights"] / 1e6, "score", "#2f7ed8", 100)
    axes[2].set(
        title=f"Students of other sizes ({middle:,} frames)", xlabel="million weights", ylabel="driving score"
    )
    budgets = [row for row in scaling if row["size"] == 1.0]
    line(axes[3], budgets, lambda row: row["frames"] / 1e3, "score", "#2f7ed8", 100)
    axes[3].set(title="Students with other budgets", xlabel="thousand frames", ylabel="driving score")
    for axis, ticks in (
        (axes[2], [row["weights"] / 1e6 for row in sizes]),
        (axes[3], [row["frames"] / 1e3 for row in budgets]),
    ):
        axis.set(ylim=(0, 102), xscale="log")
        axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axis.set_xticks([], minor=True)
    figure.savefig(out, dpi=110)


def draw_students(folder: Path, out: Path) -> None:
    """A teacher's curve, and students on unseen roads."""
    curve = json.loads((folder / "teacher_curve.json").read_text())
    students = json.loads((folder / "students.json").read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")

    steps = [row["frames"] / 1e6 for row in curve]
    for name, color in (("goal", "#2c9c69"), ("off_road", "#c0504d"), ("collision", "#d98c1f")):
        left.plot(steps, [100 * row[name] for row in curve], color=color, lw=1.6)
        late = 100 * sum(row[name] for row in curve[-10:]) / 10
        word, at, height = {
            "goal": ("reached its goal", 0.97, late - 18.0),
            "off_road": ("left the road", 0.02, 100 * max(row[name] for row in curve) + 4.0),
            "collision": ("collided", 0.97, late + 9.0),
        }[name]
        left.text(at * steps[-1], height, word, color=color, ha="right" if at > 0.5 else "left")
    left.set(
        title="SetActorCritic, while it trains",
        xlabel="million agent steps",
        ylabel="% of ended drives",
        ylim=(0, 102),
    )

    rows = [row for row in students["rows"] if row["recipe"] in _NAMES]
    (budget,) = {row["frames"] for row in rows}
    for place, (recipe, name) in enumerate(_NAMES.items()):
        mine = [row for row in rows if row["recipe"] == recipe]
        scores = [100 * row["score"] for row in mine]
        if not scores:
            continue
        mean = sum(scores) / len(scores)
        right.barh(place, mean, color=_COLORS[recipe], height=0.55)
        right.plot(scores, [place + 0.14] * len(scores), "o", color="black", ms=4)
        beside = mean < 50
        right.text(
            max(scores) + 2 if beside else 1.5,
            place - (0.0 if beside else 0.13),
            f"{name}: {mean:.0f}",
            va="center",
            color=_COLORS[recipe] if beside else "white",
            weight="bold",
        )
    for name, words, where, side in (
        ("teacher", "teacher ", 0.66, "right"),
        ("straight", " straight on", 0.02, "left"),
    ):
        score = 100 * next(row["score"] for row in students["rows"] if row["recipe"] == name)
        right.axvline(score, color="0.35", lw=1, ls="--")
        right.text(score, where, words, transform=right.get_xaxis_transform(), ha=side, color="0.35")
    right.set(
        title=f"Students on unseen roads ({budget:,} frames, dots: seeds)",
        xlabel="driving score",
        xlim=(0, 102),
    )
    right.set_yticks([])
    right.invert_yaxis()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
