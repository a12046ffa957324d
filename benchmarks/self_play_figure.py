"""Draw what self-play showed: a teacher's curve while it trains, and students beside each other on unseen roads.

    python benchmarks/self_play_figure.py results/self_play --out docs/pictures/self_play.png

Reads `teacher_curve.json` (rounds: frames, goal, collision, off_road) and `students.json` (rows of
`countersteer self-play`, each with recipe, seed and frames).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

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
    curve = json.loads((known.folder / "teacher_curve.json").read_text())
    students = json.loads((known.folder / "students.json").read_text())
    plt.rcParams |= {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")

    steps = [row["frames"] / 1e6 for row in curve]
    for name, color in (("goal", "#2c9c69"), ("off_road", "#c0504d"), ("collision", "#d98c1f")):
        left.plot(steps, [100 * row[name] for row in curve], color=color, lw=1.6)
        at = 100 * sum(row[name] for row in curve[-10:]) / 10
        word = {"goal": "reached its goal", "off_road": "left the road", "collision": "collided"}[name]
        lift = {"goal": -12, "off_road": 10.0, "collision": 16.0}[name]
        left.text(steps[-1], at + lift, word, color=color, ha="right")
    left.set(
        title="Teacher, while it trains",
        xlabel="million agent steps",
        ylabel="% of ended drives",
        ylim=(0, 102),
    )

    rows = [row for row in students["rows"] if row["recipe"] in _NAMES]
    for place, (recipe, name) in enumerate(_NAMES.items()):
        mine = [row for row in rows if row["recipe"] == recipe and row["frames"] == 50_000]
        scores = [100 * row["score"] for row in mine]
        if not scores:
            continue
        mean = sum(scores) / len(scores)
        right.barh(place, mean, color=_COLORS[recipe], height=0.55)
        right.plot(scores, [place + 0.14] * len(scores), "o", color="black", ms=4)
        right.text(1.5, place - 0.13, f"{name}: {mean:.0f}", va="center", color="white", weight="bold")
    for name, words, where, side in (
        ("teacher", "teacher ", 0.66, "right"),
        ("straight", " straight on", 0.1, "left"),
    ):
        score = 100 * next(row["score"] for row in students["rows"] if row["recipe"] == name)
        right.axvline(score, color="0.35", lw=1, ls="--")
        right.text(score, where, words, transform=right.get_xaxis_transform(), ha=side, color="0.35")
    right.set(
        title="Students on unseen roads (50,000 frames, dots: seeds)", xlabel="driving score", xlim=(0, 102)
    )
    right.set_yticks([])
    right.invert_yaxis()
    known.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(known.out, dpi=110)


if __name__ == "__main__":
    main()
