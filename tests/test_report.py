"""Films and the report, on drives made up here."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.statistics import CompareRow
from countersteer.reporting.film import FILM_SIZE, film
from countersteer.reporting.report import CaseFilm, RunInfo, write_report
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command

LANE = 3.6


def a_road(turn: float) -> tuple[RoadMap, np.ndarray]:
    """Two lanes of 400 m that turn at `turn` [1/m] after 60 m, and the path along the right one."""
    arc = np.arange(-60.0, 340.0, 2.0)
    heading = np.where(arc < 60.0, 0.0, (arc - 60.0) * turn)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1) * 2.0, 0)
    path -= path[30]
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)

    def line(name: str, kind: MapKind, offset: float) -> MapFeature:
        points = path + left * offset
        return MapFeature(name, kind, np.column_stack([points, np.zeros(len(points))]), width=LANE)

    features = (
        line("right", MapKind.LANE, 0.0),
        line("left", MapKind.LANE, LANE),
        line("middle", MapKind.LINE_DASHED_WHITE, LANE / 2),
        line("border right", MapKind.LINE_SOLID_WHITE, -LANE / 2),
        line("border left", MapKind.LINE_SOLID_YELLOW, 1.5 * LANE),
        line("edge right", MapKind.ROAD_EDGE, -LANE / 2 - 0.4),
        line("edge left", MapKind.ROAD_EDGE, 1.5 * LANE + 0.4),
    )
    return RoadMap(features), path


def a_drive(
    *,
    turn: float = 0.004,
    drift: float = 0.0,
    ticks: int = 40,
    frames: tuple[int, int] | None = (64, 128),
    command_at: int | None = None,
) -> DriveRecord:
    """A car at 12 m/s whose distance from the path grows as `drift` t^2 [m]; beyond 2.2 m it leaves the road.

    Another car waits ahead, a cyclist is present for half of the time.
    """
    road, path = a_road(turn)
    times = np.arange(ticks) * 0.1
    arc = 12.0 * times
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=-1))])
    at = along[30] + arc
    tangent = np.gradient(path, axis=0)
    bearing = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    heading = np.interp(at, along, bearing)
    lateral = drift * times**2
    over = np.flatnonzero(np.abs(lateral) > 2.2)
    end = int(over[0]) if len(over) else ticks - 1
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)
    position = np.stack([np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])], -1)
    position = position + left * lateral[:, None]
    heading = heading + np.arctan2(2 * drift * times, 12.0)

    held = np.minimum(np.arange(ticks), end)  # what follows the end repeats it
    position, heading, lateral, arc = position[held], heading[held], lateral[held], arc[held]
    ahead = position[:, None] + np.stack([np.cos(heading), np.sin(heading)], -1)[:, None] * (
        np.arange(1, 13)[None, :, None] * 3.0
    )
    actors = np.full((ticks, 3, 7), -1.0)
    size = (4.6, 1.85)
    actors[:, 0] = np.column_stack([position, heading, np.tile([*size, 1.5, 0.0], (ticks, 1))])
    actors[:, 1] = [*path[80], bearing[80], 4.8, 1.9, 1.6, ActorKind.VEHICLE]
    actors[: ticks // 2, 2] = [*path[50] - [0.0, 2.8], bearing[50], 1.8, 0.6, 1.7, ActorKind.CYCLIST]
    command = np.full(ticks, int(Command.FOLLOW))
    if command_at is not None:
        command[command_at:] = Command.LEFT
    off = np.zeros(ticks, bool)
    cause = np.zeros(ticks, int)
    alive = np.arange(ticks) <= end
    if len(over):
        off[end] = True
        cause[end:] = TerminationReason.OFF_ROAD
    pictures = None
    if frames is not None:
        pictures = np.zeros((ticks, *frames, 3), np.uint8)
        pictures[:] = np.linspace(40, 200, frames[0]).astype(np.uint8)[:, None, None]
    tracks = Tracks(
        ids=(),
        kind=np.zeros(0, int),
        position=np.zeros((0, ticks, 3)),
        heading=np.zeros((0, ticks)),
        velocity=np.zeros((0, ticks, 2)),
        size=np.zeros((0, 3)),
        valid=np.zeros((0, ticks), bool),
    )
    signals = Signals.none(ticks)
    scenario = Scenario(
        id="made-up",
        times=times,
        road=road,
        tracks=tracks,
        ego=None,
        route=path,
        signals=signals,
        provenance=Provenance("test", "a_drive", "none needed", "0"),
    )
    none = np.zeros(ticks, bool)
    return DriveRecord(
        times=times,
        position=position,
        heading=heading,
        speed=np.where(alive, 12.0, 0.0),
        curvature=np.full(ticks, turn),
        acceleration=np.zeros(ticks),
        lateral=lateral,
        heading_error=np.zeros(ticks),
        arc=arc,
        command=command,
        alive=alive,
        cause=cause,
        collision=none,
        off_road=off,
        red_light=none,
        wrong_way=none,
        uncomfortable=none,
        collided_with=np.full(ticks, -1),
        plan=ahead,
        actors=actors,
        views={} if pictures is None else {"front": pictures},
        path=path,
        size=size,
        scenario=scenario,
    )


def a_verdict(name: str, record: DriveRecord) -> CaseResult:
    """Fails where the drive left the road."""
    off = np.flatnonzero(record.off_road)
    when = float(record.times[off[0]]) if len(off) else None
    reason = "" if when is None else f"off road at {when:.1f} s, {record.lateral[off[0]]:.2f} m from the path"
    worst = {"largest offset [m]": float(np.abs(record.lateral).max())}
    return CaseResult(name, when is None, reason, when, worst)


class Page(HTMLParser):
    """Reads a page, insisting that every element is closed where it should be."""

    void = frozenset({"meta", "input", "br", "link", "img", "hr"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def decoded(mp4: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def redness(image: np.ndarray) -> float:
    """How red the border of a frame is."""
    edge = image[:2].astype(float)
    return float((edge[..., 0] - edge[..., 1:].max(-1)).mean())


def test_film_has_one_frame_a_tick_plays_in_real_time_and_starts_with_its_index():
    record = a_drive(ticks=13)
    mp4 = film(record, title="clone")
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == FILM_SIZE
        assert float(stream.average_rate) == pytest.approx(10.0)
    assert len(decoded(mp4)) == 13
    # Browsers begin to play before the whole file has come only if the index lies before the pictures.
    assert 0 < mp4.index(b"moov") < mp4.index(b"mdat")


def test_film_flashes_red_from_the_failing_tick_on_and_not_before():
    record = a_drive(drift=1.0, ticks=25)
    verdict = a_verdict("c", record)
    assert verdict.fail_time is not None
    frames = decoded(film(record, title="clone", subtitle="lanes", verdict=verdict))
    first = int(np.searchsorted(record.times, verdict.fail_time - 1e-6))
    assert redness(frames[first - 1]) < 5
    assert redness(frames[first]) > 80
    assert redness(frames[-1]) < 5


def test_film_shows_the_camera_sharp_and_says_so_where_there_is_none():
    """A checkerboard seen by the camera comes back as squares of whole pixels; no frames is no error."""
    record = a_drive(ticks=2)
    assert record.frames is not None
    record.frames[:] = 255 * ((np.add.outer(np.arange(64), np.arange(128)) // 8) % 2)[..., None].astype(
        np.uint8
    )
    picture = decoded(film(record, title="x"))[0][48 : 48 + 256, 12 : 12 + 512]
    expected = np.kron(record.frames[0, ..., 0], np.ones((4, 4)))
    assert np.mean(np.abs(picture[..., 0] - expected) < 40) > 0.98
    assert len(decoded(film(a_drive(ticks=2, frames=None), title="x"))) == 2


@pytest.mark.parametrize("frames", [(37, 65), (540, 960), (252, 434), (600, 100)])
def test_film_takes_any_camera_size(frames):
    assert decoded(film(a_drive(ticks=2, frames=frames), title="x"))[0].shape == (
        FILM_SIZE[1],
        FILM_SIZE[0],
        3,
    )


def test_view_from_above_turns_with_the_road():
    """The same drive on a world turned by an angle gives the same view: heading is up, left is left."""
    from countersteer.reporting.above import CAR_AT, view_from_world

    for facing in (0.0, 1.0, -2.5):
        at = np.array([10.0, -4.0])
        view = view_from_world(at, facing)
        ahead = at + np.array([np.cos(facing), np.sin(facing)])
        left = at + np.array([-np.sin(facing), np.cos(facing)])
        for point, (right, down) in ((at, (0, 0)), (ahead, (0, -1)), (left, (-1, 0))):
            pixel = view[:, :2] @ point + view[:, 2] - np.array(CAR_AT)
            assert np.sign(np.round(pixel, 6)).tolist() == [right, down]


def test_film_draws_the_car_where_the_map_is_drawn():
    """The map under the car is the lane it drives in: asphalt around the box, no line through it."""
    frame = decoded(film(a_drive(ticks=2, turn=0.0), title="x"))[0]
    above = frame[48 : 48 + 324, 536 : 536 + 412].astype(int)
    row = above[288]  # behind the car, across the road
    bright = np.flatnonzero(row.min(-1) > 140)  # white lines
    # The right border is 1.8 m = 14.4 pixels to the right of the car, which is at column 206.
    assert np.abs(bright - (206 + 14.4)).min() < 2.5


def test_failures_are_shown_by_cause_four_of_a_kind(tmp_path):
    records = tuple(a_drive(drift=1.0 + 0.1 * k, ticks=30, frames=None) for k in range(6))
    cases = tuple(a_verdict(f"case {k}", record) for k, record in enumerate(records))
    result = SuiteResult("lanes", "clone", "v1", cases, records)
    page = write_report(
        tmp_path / "a.html", title="x", rows=[CompareRow.of(result)], results=[result], runs=[], films=[]
    ).read_text(encoding="utf-8")
    assert re.findall(r'<h4><span class="badge fail">(.*?)</span> <span class="soft">(.*?)</span>', page) == [
        ("drift", "and 2 more")
    ]
    assert re.findall(r'alt="clone in (case \d)', page) == ["case 0", "case 1", "case 2", "case 3"]


def test_film_is_written_to_the_path_and_refuses_other_names(tmp_path):
    record = a_drive(ticks=2)
    mp4 = film(record, title="x", path=tmp_path / "deep" / "x.mp4")
    assert (tmp_path / "deep" / "x.mp4").read_bytes() == mp4
    with pytest.raises(UserError, match="avi"):
        film(record, title="x", path=tmp_path / "x.avi")


@pytest.fixture(scope="module")
def material():
    """Two drivers on one suite of three cases, one of which does not count; the clone fails one."""
    results = []
    for driver, drift in (("clone", 0.5), ("on_policy", 0.0)):
        records = (
            a_drive(drift=drift, ticks=30, frames=None),
            a_drive(ticks=30, frames=None),
            a_drive(ticks=30),
        )
        cases = [
            a_verdict(name, record) for name, record in zip(("bend-<1>", "b", "c"), records, strict=True)
        ]
        cases[2] = CaseResult("c", None, "", None, {})
        results.append(SuiteResult("lanes & co", driver, "v1", tuple(cases), records))
    rows = [
        CompareRow.of(result, open_loop_error=error, seconds=60.0)
        for result, error in zip(results, (0.31, 0.39), strict=True)
    ]
    films = [
        CaseFilm(r.driver, r.suite, r.cases[0].case, film(r.records[0], title=r.driver, verdict=r.cases[0]))
        for r in results
    ]
    runs = [
        RunInfo(
            driver="clone",
            command="countersteer train clone --seed 0",
            commit="abc1234",
            hardware="2 cores",
            seeds=(0, 1),
            versions={"torch": "2.13.0"},
            loss=tuple((float(step), 1.0 / (1 + step)) for step in range(50)),
        )
    ]
    return {"title": "A <b>title</b>", "rows": rows, "results": results, "films": films, "runs": runs}


@pytest.fixture(scope="module")
def report(material, tmp_path_factory):
    path = write_report(tmp_path_factory.mktemp("report") / "new" / "report.html", **material)
    return path.read_text(encoding="utf-8")


def test_report_is_well_formed_and_says_what_happened(report):
    page = Page(report)
    text = " ".join(" ".join(page.text).split())
    assert "A <b>title</b>" in text  # escaped, so it comes back as written
    assert "lanes & co: on_policy passes 2 of 2, clone 1 of 2." in text
    assert "Open loop would have chosen clone (0.31 m), which passes 1 of 2." in text
    for expected in ("countersteer train clone --seed 0", "abc1234", "2 cores", "torch 2.13.0"):
        assert expected in text


def test_report_lists_every_case_with_its_verdict(report):
    page = Page(report)
    rows = [attrs for attrs in page.all("tr") if "data-failed" in attrs]
    shown = [(row["data-driver"], row["data-failed"]) for row in rows]
    assert shown == [("clone", "1"), ("clone", "0"), ("clone", "0"), *[("on_policy", "0")] * 3]
    assert report.count("not counted") == 2
    assert "<td>off road at 2.1 s, " in report


def test_report_counts_causes_and_shows_the_moment(report):
    """The clone drifted off the road once; the picture is of the tick at which it left its lane."""
    page = Page(report)
    text = " ".join(" ".join(page.text).split())
    assert "Failures" in text
    (picture,) = page.all("img")
    assert picture["alt"] is not None
    assert re.fullmatch(r"clone in bend-<1> at \d\.\d s: drift", picture["alt"])
    assert (picture["src"] or "").startswith("data:image/jpeg;base64,")


def test_report_loads_nothing_from_outside(report):
    assert not re.search(r"""(?:src|href|action|poster)\s*=\s*["']?\s*(?:https?:)?//""", report)
    assert not re.search(r"@import|url\(", report)
    policy = next(a["content"] for a in Page(report).all("meta") if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_report_holds_the_films_of_a_case_together_and_can_jump_to_the_failure(report, material):
    import base64

    page = Page(report)
    videos = page.all("video")
    assert [(video["aria-label"] or "").split()[0] for video in videos] == ["clone", "on_policy"]
    prefix = "data:video/mp4;base64,"
    for video, one in zip(videos, material["films"], strict=True):
        assert base64.b64decode((video["src"] or "").removeprefix(prefix)) == one.mp4
    fail_time = material["results"][0].cases[0].fail_time
    jumps = [a for a in page.all("button") if a.get("class") == "jump"]
    assert [float(a["data-time"] or 0) for a in jumps] == [fail_time]
    (group,) = page.all("article")
    watch = [a for a in page.all("button") if a.get("class") == "watch"]
    assert {a["data-film"] for a in watch} == {group["id"]}
    assert re.fullmatch(r"[\w-]+", group["id"] or "")


def test_report_draws_every_case_and_every_drawing_has_a_description(report):
    page = Page(report)
    drawings = page.all("svg")
    assert len(drawings) == 2 + 1 + 1  # a drawing a driver, one scatter, one loss
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    curves = [a["class"] for a in page.all("polyline")]
    assert curves.count("curve") == 5
    assert curves.count("curve failed") == 1


def test_report_pools_seeds_and_pairs_scenarios(material, tmp_path):
    """Two runs of each driver: cases are numbered by run, and the paired test still sees two scenarios."""
    material = {**material, "results": material["results"] * 2}
    page = write_report(tmp_path / "r.html", **material).read_text()
    assert page.count(">run 1<") == page.count(">run 2<") == 6
    assert "on_policy − clone" in page
    assert "+50 points</td><td>1 of 2</td><td>1.0000" in page


def test_report_warns_about_different_protocols_and_does_not_test_across_them(material, tmp_path):
    clone, other = material["results"]
    other = SuiteResult(other.suite, other.driver, "v2", other.cases)
    page = write_report(tmp_path / "r.html", title="t", rows=[], results=[clone, other]).read_text()
    assert "different protocols" in page
    assert "Paired tests" not in page


def test_report_of_rows_alone_is_well_formed(material, tmp_path):
    """A comparison loaded from a file has no records, films or runs."""
    rows = [*material["rows"], CompareRow("expert", "lanes & co", 0, 0, (0.0, 1.0))]
    page = Page(write_report(tmp_path / "r.html", title="t", rows=rows, results=[]).read_text())
    assert not page.all("video")
    assert "expert" in page.text


def test_report_refuses_what_does_not_fit_together(material, tmp_path):
    one = material["films"][0]
    stray = CaseFilm(one.driver, one.suite, "no such case", one.mp4)
    with pytest.raises(UserError, match="no such case"):
        write_report(tmp_path / "r.html", **{**material, "films": [stray]})
    with pytest.raises(UserError, match="two rows"):
        write_report(tmp_path / "r.html", **{**material, "rows": material["rows"] * 2})
    with pytest.raises(UserError, match="nothing to report"):
        write_report(tmp_path / "r.html", title="t", rows=[], results=[])
    with pytest.raises(UserError, match=r"r\.pdf"):
        write_report(tmp_path / "r.pdf", **material)
    assert list(tmp_path.iterdir()) == []


def test_the_headline_names_drivers_that_were_not_trained_apart(tmp_path):
    rows = [
        CompareRow("expert", "keeping", 4, 4, (0.5, 1.0), None, None),
        CompareRow("clone", "keeping", 1, 4, (0.0, 0.7), 0.1, 9.0),
        CompareRow("on_policy", "keeping", 3, 4, (0.3, 0.9), 0.2, 9.0),
    ]
    page = Page(write_report(tmp_path / "report.html", title="t", rows=rows, results=[], runs=[]).read_text())
    text = " ".join(" ".join(page.text).split())
    assert "keeping: on_policy passes 3 of 4, clone 1 of 4 (expert 4)." in text
