"""A replay: the drives of an evaluation in one file, to be scored or watched again years later.

`docs/formats.md` describes it: a zip archive of a header, scenarios in our own form (`scenarios.storage`),
one Arrow table a drive, and each camera's pictures as lossless video (FFV1, RFC 9043). What is loaded is bit
for bit what was saved, pictures included.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.errors import UserError, reading, writing
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.scenarios import storage
from countersteer.scenarios.scenario import Scenario
from countersteer.storage.files import exists, open_regular, parse_json
from countersteer.storage.serialise import checked

__all__ = ["VERSION", "find_replay", "is_replay", "load_replay", "save_replay"]

VERSION = 3
"""Version of the format that is written; `load_replay` reads this one and those before it."""

_FORMAT = "countersteer-replay"
_HEADER = "replay.json"
_MEMBER = re.compile(r"(replay\.json|scenarios/\d+/\w+\.(json|arrow)|drives/\d+/\w+\.(arrow|mkv))")
_LARGEST = 64 << 30  # of all members together, after decompression [bytes]
_LARGEST_HEADER = 64 << 20  # [bytes]; a thousand drives have two million
_GROWTH = (
    300  # of tables and pictures as they are unpacked: they shrink by half, drawn pictures to a fiftieth
)
_ALWAYS = 64 << 20  # what a small file may grow to all the same [bytes]

# Columns of `ticks.arrow`, with the number and length of their axes after time; None: the header says.
_SERIES: dict[str, tuple[int | None, ...]] = {
    "times": (),
    "position": (2,),
    "heading": (),
    "speed": (),
    "curvature": (),
    "acceleration": (),
    "lateral": (),
    "heading_error": (),
    "arc": (),
    "command": (),
    "alive": (),
    "cause": (),
    "collision": (),
    "off_road": (),
    "red_light": (),
    "wrong_way": (),
    "uncomfortable": (),
    "collided_with": (),
    "plan": (None, 2),
    "actors": (None, 7),
    "label": (None, 2),
    "labelled": (),
    "confidence": (),
    "heights": (None,),
}
_OPTIONAL = ("label", "labelled", "confidence", "heights")


def save_replay(result: SuiteResult, path: str | Path) -> Path:
    """Write the drives of a suite into one file; an existing one is replaced at once, or not at all.

    Args:
        result: With its records.
        path: The file; by custom its name ends in .replay.

    Raises:
        UserError: The result has no records, or the file cannot be written.
    """
    path = Path(path)
    if not result.records or len(result.records) != len(result.cases):
        raise UserError(
            "only drives that were kept can be written into a replay",
            got=f"{len(result.records)} records of {len(result.cases)} cases",
            expected="one record a case",
            fix="drive the suite again; results that were loaded from verdicts have no drives",
        )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as draft:
            folder = Path(draft) / "replay"
            header = _write(result, folder)
            whole = Path(draft) / "whole"
            with zipfile.ZipFile(whole, "w") as archive:
                for name in (_HEADER, *header["sha256"]):
                    # Tables shrink by half; video cannot. A fixed date: the same drives give the same file.
                    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                    member.compress_type = (
                        zipfile.ZIP_STORED if name.endswith("mkv") else zipfile.ZIP_DEFLATED
                    )
                    member.external_attr = 0o644 << 16
                    archive.writestr(member, (folder / name).read_bytes(), compresslevel=3)
            os.replace(whole, path)
    return path


def find_replay(place: Path) -> Path:
    """The replay at a path, or the only one in a folder.

    Raises:
        UserError: A folder has none, or several.
    """
    if not place.is_dir():
        return place
    kept = sorted(place.rglob("*.replay"))
    if len(kept) != 1:
        raise UserError(
            f"{place} does not say which drives are meant",
            got=", ".join(map(str, kept)) or "no replay",
            expected="a folder with one replay, or a replay",
            fix=f"countersteer evaluate {place} --suite lane_keeping --keep {place}/lane_keeping.replay",
        )
    return kept[0]


def _write(result: SuiteResult, folder: Path) -> dict[str, Any]:
    """The members as files below a new folder; returns the header."""
    numbers: dict[tuple[object, ...], int] = {}
    shared: dict[int, int] = {}  # cars of one world have one table of actors
    cases = []
    for k, (case, record) in enumerate(zip(result.cases, result.records, strict=True)):
        scenario = record.scenario
        key = (scenario.fingerprint(), scenario.provenance, scenario.cameras)
        if key not in numbers:
            numbers[key] = len(numbers)
            storage.save(scenario, folder / "scenarios" / str(numbers[key]))
        place = folder / "drives" / str(k)
        place.mkdir(parents=True)
        owner = shared.setdefault(id(record.actors), k)
        columns = {name: getattr(record, name) for name in _SERIES if name != "actors" or owner == k}
        storage.write_table(
            place / "ticks.arrow",
            # A list without a place (the plan of who plans nothing) is no column.
            {
                n: v.reshape(len(v), -1) if v.ndim > 1 else v
                for n, v in columns.items()
                if v is not None and v.size
            },
        )
        storage.write_table(place / "path.arrow", {"x": record.path[:, 0], "y": record.path[:, 1]})
        interval = float(np.median(np.diff(record.times))) if len(record.times) > 1 else 0.1
        for number, frames in enumerate(record.views.values()):
            _write_video(place / f"camera_{number}.mkv", frames, interval)
        cases.append(
            {
                **dataclasses.asdict(case),
                "scenario": numbers[key],
                "points": record.plan.shape[1],
                "actors": record.actors.shape[1],
                "actors_of": owner,
                "slot": record.slot,
                "start_s": record.start,
                "goal_m": record.goal,
                "plan_times_s": None if record.plan_times is None else record.plan_times.tolist(),
                "size_m": list(record.size),
                "cameras": [
                    {"name": name, "shape": list(frames.shape[:3])} for name, frames in record.views.items()
                ],
            }
        )
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    header = {
        "format": _FORMAT,
        "version": VERSION,
        "suite": result.suite,
        "driver": result.driver,
        "protocol": result.protocol,
        "cases": cases,
        "sha256": sums,
    }
    (folder / _HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
    return header


def _write_video(path: Path, frames: UInt8[ndarray, "time height width 3"], interval: float) -> None:
    import av

    # Without the flag every file gets an identifier of its own.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("ffv1", rate=Fraction(1 / interval).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        stream.options = {"level": "3", "context": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _read_video(path: Path, shape: list[int]) -> UInt8[ndarray, "time height width 3"]:
    import av
    from av.video.reformatter import VideoReformatter

    count, height, width = (int(side) for side in shape)
    size = path.stat().st_size
    if min(count, height, width) < 0 or count * height * width * 3 > max(_ALWAYS, _GROWTH * size):
        raise ValueError(f"{count} pictures of {width}x{height} in {size} bytes")
    reformatter = VideoReformatter()  # one for all: making it is the costly part
    k, frames = 0, np.empty((0, height, width, 3), np.uint8)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        if (codec.width, codec.height) != (width, height):
            raise ValueError(f"pictures of {codec.width}x{codec.height}, not {width}x{height}")
        frames = np.empty((count, height, width, 3), np.uint8)
        for k, frame in enumerate(container.decode(video=0), 1):
            frames[k - 1] = reformatter.reformat(frame, format="rgb24").to_ndarray()
    if k != count:
        raise ValueError(f"{k} pictures, not {count}")
    return frames


def is_replay(path: str | Path) -> bool:
    """Whether a file was written by `save_replay`; what is inside may still be damaged."""
    try:
        with open_regular(path) as whole, zipfile.ZipFile(whole) as archive, archive.open(_HEADER) as file:
            return f'"{_FORMAT}"'.encode() in file.read(200)
    except Exception:
        # A damaged archive fails in a dozen ways; in none of them is it a replay that can be read.
        return False


def load_replay(path: str | Path, *, frames: bool = True) -> SuiteResult:
    """The result that was saved, with its records.

    Args:
        path: The file.
        frames: Whether to read the cameras' pictures, which scores do not need.

    Raises:
        UserError: The file is no replay, is damaged, or was written by a later version.
    """
    path = Path(path)
    if not exists(path):
        raise UserError(f"{path} does not exist", expected="a replay", fix="check the path")
    with (
        reading(
            path,
            "is not a replay, or is damaged",
            expected="a file that `countersteer evaluate --keep` wrote (docs/formats.md)",
            fix="copy it again, or drive the suite again",
        ),
        open_regular(path) as whole,
        zipfile.ZipFile(whole) as archive,
        tempfile.TemporaryDirectory() as draft,
    ):
        folder = Path(draft)
        with archive.open(_HEADER) as packed:
            content = packed.read(_LARGEST_HEADER + 1)
        if len(content) > _LARGEST_HEADER:
            raise ValueError(f"a header of more than {_LARGEST_HEADER >> 20} MiB")
        header = parse_json(content, f"{_HEADER} of {path}")
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise ValueError(f"no format {_FORMAT!r}")
        if not 1 <= int(header["version"]) <= VERSION:
            raise UserError(
                f"{path}: the format is of another version",
                got=f"version {header['version']}",
                expected=f"version 1 to {VERSION}",
                fix="install a newer countersteer",
            )
        _extract(archive, header["sha256"], folder, frames, os.fstat(whole.fileno()).st_size)
        return _read(header, folder, frames)


def _extract(archive: zipfile.ZipFile, sums: dict[str, str], folder: Path, frames: bool, size: int) -> None:
    """Put the members of an archive of some bytes below a folder, each checked against its sum."""
    members = archive.infolist()
    if {member.filename for member in members} != {_HEADER, *sums} or len(members) != len(sums) + 1:
        raise ValueError("other members than the header lists")
    # `ZipFile` reads no more of a member than this.
    if sum(member.file_size for member in members) > min(_LARGEST, max(_ALWAYS, _GROWTH * size)):
        raise ValueError(f"more than {_LARGEST >> 30} GiB, or more than {_GROWTH} times its own size")
    for name, expected in sums.items():
        if not _MEMBER.fullmatch(name):
            raise ValueError(f"a member called {name[:80]!r}")
        if name.endswith("mkv") and not frames:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as packed, (folder / name).open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError(f"{name} was changed after it was written")


def _videos(entry: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Files and cameras of a case; version 1 kept the first camera only, without its name."""
    if "camera" in entry:
        return (
            [] if entry["camera"] is None else [("frames.mkv", {"name": "front", "shape": entry["camera"]})]
        )
    return [(f"camera_{k}.mkv", camera) for k, camera in enumerate(entry["cameras"])]


def _read(header: dict[str, Any], folder: Path, frames: bool) -> SuiteResult:
    scenarios: dict[int, Scenario] = {}
    cases, records = [], []
    for k, entry in enumerate(header["cases"]):
        number = int(entry["scenario"])
        if number not in scenarios:
            scenarios[number] = storage.load(folder / "scenarios" / str(number))
        place = folder / "drives" / str(k)
        ticks, line = storage.read_table(place / "ticks.arrow"), storage.read_table(place / "path.arrow")
        series: dict[str, Any] = {}
        for name, axes in _SERIES.items():
            if name not in ticks and name in _OPTIONAL:
                series[name] = None
                continue
            if name == "actors" and (owner := int(entry.get("actors_of", k))) != k:
                series[name] = records[owner].actors
                continue
            sides = [
                side if side is not None else entry["actors" if name in ("actors", "heights") else "points"]
                for side in axes
            ]
            column = np.zeros(0) if name not in ticks and 0 in sides else ticks[name]
            series[name] = column.reshape(len(ticks["times"]), *sides)
        times = entry["plan_times_s"]
        if times is not None and len(times) != int(entry["points"]):
            raise ValueError(f"{len(times)} times of a plan of {entry['points']} points")
        length, width = entry["size_m"]
        views = {}
        for video, camera in _videos(entry) if frames else ():
            views[str(camera["name"])] = _read_video(place / video, camera["shape"])
        records.append(
            DriveRecord(
                **series,
                path=np.stack([line["x"], line["y"]], -1),
                size=(float(length), float(width)),
                scenario=scenarios[number],
                # Drives of version 2 and before are of single cars, and began when their scenario does.
                slot=int(entry.get("slot", 0)),
                start=float(entry.get("start_s", 0.0)),
                goal=None if entry.get("goal_m") is None else float(entry["goal_m"]),
                plan_times=None if times is None else np.array(times, float),
                views=views,
            )
        )
        cases.append(checked(CaseResult(**{f.name: entry[f.name] for f in dataclasses.fields(CaseResult)})))
    return SuiteResult(
        str(header["suite"]), str(header["driver"]), str(header["protocol"]), tuple(cases), tuple(records)
    )
