"""What is looked at: `countersteer watch`, `drive`, `novel-view`, `view-metrics` and `traffic`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from countersteer.commands.flags import (
    Json,
    Log,
    Scores,
    Seed,
    UserRecipe,
    Written,
    keep_numbers,
    modules,
    wanted_scores,
)
from countersteer.commands.flags import size as read_size
from countersteer.errors import check_writable
from countersteer.ranges import Count, NonNegative, Positive, Range

__all__ = ["drive", "novel_view", "traffic", "view_metrics", "watch"]


def watch(
    replay: Annotated[Positional[Path], arg(metavar="FILE")],
    *,
    out: Annotated[Path | None, Written.FILE] = None,
    case: str | None = None,
    scores: Scores = None,
    viewer: Literal["page", "rerun"] = "page",
) -> None:
    """Look at the drives of a replay: cameras, map, boxes, plans, labels, scores.

    Args:
        replay: Replay, or run folder that has one.
        out: Page or recording to write; default FILE with the ending .html or .rrd.
        case: Where to begin; default the first that failed.
        viewer: One page for a browser, or a recording for the Rerun viewer (extra `view`).
    """
    from countersteer.evaluation.replay import find_replay, load_replay
    from countersteer.evaluation.scoring import score_suite

    replay = find_replay(replay)
    out = out or replay.with_suffix(".rrd" if viewer == "rerun" else ".html")
    check_writable(out)
    benchmarks = wanted_scores(scores)
    result = load_replay(replay)
    found = score_suite(result, benchmarks)
    if viewer == "rerun":
        from countersteer.reporting.rerun_recording import write_recording

        written = write_recording(out, result, scores=found, case=case)
        print(f"wrote {written}; open it with: rerun {written}")
    else:
        from countersteer.reporting.watch import write_viewer

        written = write_viewer(out, result, scores=found, first=case)
        print(f"wrote {written}; open it in a browser")


def drive(
    policy: Annotated[Positional[Path | None], arg(metavar="[RUN]")] = None,
    *,
    out: Annotated[Path, Written.FILE] = Path("drive.mp4"),
    road: str = "recorded",
    start: NonNegative = 40.0,
    seed: Seed = 0,
    seconds: Annotated[float, Range("[5, 600]")] = 30.0,
    traffic: Annotated[int, Range("[0, 200]")] = 10,
    recipe: UserRecipe = None,
) -> None:
    """Film a policy driving the recorded road, or real streets among generated traffic; nothing is trained.

    Args:
        policy: Run folder or policy file; default the shipped one.
        out: Film to write.
        road: `recorded`, `san_francisco`, or a file with a street network (SUMO, Apollo, OpenDRIVE, ...).
        start: Second of the recording to start at.
        seed: On streets: which drive.
        seconds: On streets: longest film.
        traffic: On streets: other cars.
    """
    from countersteer.data.sources import StreetDrives
    from countersteer.reporting.run_report import film_drive

    chosen = start
    if road != "recorded":
        chosen = StreetDrives(
            path=None if road == "san_francisco" else road,
            count=1,
            seed=seed,
            length=max(100.0, 15.0 * seconds),
            duration=seconds,
            traffic=(traffic, traffic),
        )
    print(f"wrote {out}: {film_drive(policy, out, chosen, modules(recipe))}")


def novel_view(
    log: Log,
    *,
    out: Annotated[Path, Written.FILE] = Path("departure.mp4"),
    lateral: Annotated[float, Range("[-100, 100]")] = 1.2,
    heading: Annotated[float, Range("[-180, 180]")] = 0.0,
    start: NonNegative = 0.0,
    seconds: Annotated[float, Range("(0, 86400]")] = 12.0,
    cache: Annotated[Path | None, Written.FOLDER] = None,
) -> None:
    """Film a camera log from beside its recorded path, on the way back to it.

    Args:
        out: Film to write.
        lateral: Offset from the path at the beginning [m], left positive.
        heading: Turn there [degrees].
        start: Second of the recording to begin at.
        seconds: Longest film.
        cache: Folder that depth is kept in.
    """
    from countersteer.reporting.departure import film_departure

    film_departure(
        log, out, lateral=lateral, heading=math.radians(heading), start=start, seconds=seconds, cache=cache
    )
    print(f"wrote {out}")


def view_metrics(
    log: Log,
    *,
    ahead: Count = 5,
    camera: str | None = None,
    depth: Literal["recorded", "stereo", "lidar", "sweep", "learned", "ground"] | None = None,
    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None,
    pairs: Count = 200,
    pictures: Annotated[Path | None, Written.FOLDER] = None,
    json: Json = None,
) -> None:
    """Measure how real the views of a recorded drive from other poses are.

    Args:
        ahead: Warp so many frames ahead.
        camera: Default the first of the rig.
        depth: Default the most precise that the log offers.
        size: Default as recorded.
        pairs: Measure at most so many.
        pictures: Folder for a few views beside what was recorded there.
    """
    from countersteer.data.cameras import check, read
    from countersteer.evaluation.realism import measure_realism
    from countersteer.reconstruction.depth import DepthSource
    from countersteer.reporting.departure import view_keeper
    from countersteer.reporting.terminal import print_realism, say

    opened = read(log)
    report = check(opened)
    report.require_usable()
    for finding in report.findings:
        say(f"warning: {log}: {finding}")
    measured = measure_realism(
        opened,
        camera=camera,
        ahead=ahead,
        pairs=pairs,
        size=None if size is None else read_size(size),
        depth=None if depth is None else DepthSource(depth),
        show=None if pictures is None else view_keeper(pictures),
    )
    print_realism(measured)
    keep_numbers(json, measured.to_json())


def traffic(
    scenario: Annotated[Positional[Path], arg(metavar="SCENE")],
    *,
    weights: Annotated[Path, arg(metavar="RUN", help="What `countersteer train traffic` made.")],
    rollouts: Annotated[int, Range("[1, 1000]")] = 32,
    start: NonNegative = 1.0,
    seconds: Annotated[float, Range("[1, 60]")] = 8.0,
    temperature: Positive = 1.0,
    out: Annotated[Path, Written.FILE] = Path("traffic.mp4"),
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Film sampled futures of a recorded scene beside the recording, and score how real they are.

    Args:
        scenario: Recorded scene in any format that is read.
        rollouts: How many futures; realism asks for 32, with fewer it comes out lower.
        start: Second of the scene at which they begin; what lies before is their past.
        seconds: How long they are.
        temperature: Of the draws; below 1 the likely becomes likelier.
        out: Film to write.
    """
    from countersteer.data.readers import read
    from countersteer.evaluation.traffic import OffRoad, sample_futures, score_log, score_traffic
    from countersteer.policies.weights import Weights
    from countersteer.reporting.traffic_film import film_futures
    from countersteer.traffic.tokens.model import TokenTraffic

    model = TokenTraffic(Weights(str(weights)).resolve(), temperature=temperature, together=True)
    recorded = read(scenario)
    futures = sample_futures(model, recorded, start, rollouts, seconds=seconds, seed=seed)
    edge = OffRoad(recorded.road)
    score, log = score_traffic(futures, edge), score_log(futures, edge, rollouts)
    film_futures(recorded, futures, start, title="learned traffic", path=out, score=score, log=log)
    print(
        f"wrote {out}: realism {score.realism:.3f} (the recording itself {log.realism:.3f}), {score.judged} road users, {rollouts} futures"
    )
    print(
        f"touch somebody {score.collisions:.1%}, leave the lanes {score.off_road:.1%}, mean distance to the recording {score.ade:.1f} m"
    )
    keep_numbers(json, {"futures": score.to_json(), "recording": log.to_json(), "rollouts": rollouts})
