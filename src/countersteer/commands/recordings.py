"""`countersteer novel-view` and `countersteer view-metrics`: a recorded drive seen from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from countersteer.commands.flags import Json, Log, keep_numbers
from countersteer.commands.flags import size as read_size
from countersteer.errors import UserError

__all__ = ["novel_view", "view_metrics"]


def novel_view(
    log: Log,
    *,
    out: Path = Path("departure.mp4"),
    lateral: float = 1.2,
    heading: float = 0.0,
    start: float = 0.0,
    seconds: float = 12.0,
    cache: Path | None = None,
) -> int:
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
    return 0


def view_metrics(
    log: Log,
    *,
    ahead: int = 5,
    camera: str | None = None,
    depth: Literal["recorded", "stereo", "lidar", "sweep", "learned", "ground"] | None = None,
    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None,
    pairs: int = 200,
    pictures: Path | None = None,
    json: Json = None,
) -> int:
    """Measure how real the views of a recorded drive from other poses are.

    Args:
        ahead: Warp so many frames ahead.
        camera: Default the first of the rig.
        depth: Default the most precise that the log offers.
        size: Default as recorded.
        pairs: Measure at most so many.
        pictures: Folder for a few views beside what was recorded there.
    """
    from countersteer.commands import console
    from countersteer.data.cameras import check, read
    from countersteer.evaluation.realism import measure_realism
    from countersteer.reconstruction.depth import DepthSource

    if pairs < 1:
        raise UserError("there is nothing to measure without a pair", got=pairs, expected="at least 1")
    opened = read(log)
    report = check(opened)
    report.require_usable()
    for finding in report.findings:
        console.say(f"warning: {log}: {finding}")
    measured = measure_realism(
        opened,
        camera=camera,
        ahead=ahead,
        pairs=pairs,
        size=None if size is None else read_size(size),
        depth=None if depth is None else DepthSource(depth),
        show=None if pictures is None else _keep_pictures(pictures),
    )
    found = measured.to_json()
    fills = found.pop("fills")
    for name, value in found.items():
        print(f"{name:25} {value:.3f}" if isinstance(value, float) else f"{name:25} {value}")
    if fills:
        print("\nholes filled by     all pixels, detail   holes alone, detail")
    for fill in fills:
        by, *numbers = fill.values()
        print("{:20}{:6.3f}{:10.3f}{:15.3f}{:9.3f}".format(by, *numbers))
    keep_numbers(json, measured.to_json())
    return 0


def _keep_pictures(folder: Path) -> Callable[[str, int, Any, Any], None]:
    """Writes every tenth view above what was recorded there."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, frame: int, view: Any, recorded: Any) -> None:
        if frame % 10 == 0:
            cv2.imwrite(str(folder / f"{name}_{frame:06}.jpg"), np.vstack([view, recorded])[..., ::-1])

    return keep
