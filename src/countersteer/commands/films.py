"""`countersteer watch` and `countersteer drive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from countersteer.commands.flags import Scores, UserRecipe, modules, wanted_scores
from countersteer.errors import UserError

__all__ = ["drive", "watch"]


def watch(
    replay: Annotated[Positional[Path], arg(metavar="FILE")],
    *,
    out: Path | None = None,
    case: str | None = None,
    scores: Scores = None,
    viewer: Literal["page", "rerun"] = "page",
) -> int:
    """Look at the drives of a replay: cameras, map, boxes, plans, labels, scores.

    Args:
        replay: Replay, or run folder that has one.
        out: Page or recording to write; default FILE with the ending .html or .rrd.
        case: Where to begin; default the first that failed.
        viewer: One page for a browser, or a recording for the Rerun viewer (extra `view`).
    """
    from countersteer.evaluation.replay import load_replay
    from countersteer.evaluation.scoring import score_suite

    if replay.is_dir():
        kept = sorted(replay.rglob("*.replay"))
        if len(kept) != 1:
            raise UserError(
                f"{replay} does not say which drives to watch",
                got=", ".join(map(str, kept)) or "no replay",
                expected="a folder with one replay, or a replay",
                fix=f"countersteer evaluate {replay} --suite lane_keeping --keep {replay}/lane_keeping.replay",
            )
        replay = kept[0]
    benchmarks = wanted_scores(scores)
    result = load_replay(replay)
    found = score_suite(result, benchmarks) if benchmarks else ()
    if viewer == "rerun":
        from countersteer.reporting.rerun_recording import write_recording

        written = write_recording(out or replay.with_suffix(".rrd"), result, scores=found, case=case)
        print(f"wrote {written}; open it with: rerun {written}")
        return 0
    from countersteer.reporting.watch import write_viewer

    written = write_viewer(out or replay.with_suffix(".html"), result, scores=found, first=case)
    print(f"wrote {written}; open it in a browser")
    return 0


def drive(
    policy: Annotated[Positional[Path | None], arg(metavar="[RUN]")] = None,
    *,
    out: Path = Path("drive.mp4"),
    start: float = 40.0,
    recipe: UserRecipe = None,
) -> int:
    """Film a policy driving the recorded road; nothing is trained.

    Args:
        policy: Run folder or policy file; default the shipped one.
        out: Film to write.
        start: Second of the recording to start at.
    """
    from countersteer.reporting.run_report import film_drive

    print(f"wrote {out}: {film_drive(policy, out, start, modules(recipe))}")
    return 0
