"""The viewer: what is on the page, and that it works in a real browser without a word in its console."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from countersteer.commands import cli
from countersteer.errors import MissingExtraError, UserError
from countersteer.evaluation.benchmarks import BENCHMARKS
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.replay import save_replay
from countersteer.evaluation.scoring import score_suite
from countersteer.reporting.watch import events_of, write_viewer
from test_report import Page, a_drive, a_verdict

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def a_result() -> SuiteResult:
    """A drive that leaves the road after a command, with pictures and labels, and a clean one without."""
    seen = a_drive(ticks=30, drift=1.0, command_at=5)
    assert seen.frames is not None
    seen.frames[:] += np.arange(30, dtype=np.uint8)[:, None, None, None]  # a little brighter at every tick
    behind = np.full((30, 36, 48, 3), [200, 40, 40], np.uint8)
    seen = dataclasses.replace(seen, views=seen.views | {"rear <b>": behind})
    seen = dataclasses.replace(
        seen, label=seen.plan + 0.5, labelled=np.arange(30) > 10, confidence=np.linspace(1, 0.8, 30)
    )
    clean = a_drive(ticks=30, frames=None)
    clean.speed[20:] = np.nan  # a state that is no number is shown as none
    measures = {"mean_error_m": 2.06, "speed_mps": 10.0, "share": 0.5}
    failed = dataclasses.replace(a_verdict("bend </script>", seen), measures=measures)
    cases = (CaseResult("clean", True, "", None, {}), failed)
    return SuiteResult("lanes & co", "clone", "lanes v1 0123", cases, (clean, seen))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = a_result()
    scores = score_suite(result, [b for b in BENCHMARKS if b.name == "navsim_v1"])
    return write_viewer(tmp_path_factory.mktemp("watch") / "new" / "drives.html", result, scores=scores)


def content(page: Path) -> dict[str, Any]:
    match = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert match is not None
    return json.loads(match.group(1))


def test_the_page_is_well_formed_loads_nothing_and_begins_with_the_failure(page: Path):
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    policy = next(a["content"] for a in read.all("meta") if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(""", text)
    assert "lanes & co" in " ".join(read.text)
    data = content(page)
    assert data["first"] == 1
    assert [case["cause"] for case in data["cases"]] == [None, "drift"]
    assert [path.name for path in page.parent.iterdir()] == [page.name], "no draft is left"


def test_events_are_in_order_and_lead_to_the_tick_they_happened_in():
    result = a_result()
    failed, verdict = result.records[1], result.cases[1]
    events = events_of(failed, verdict, None, [])
    assert [event["tick"] for event in events] == sorted(event["tick"] for event in events)
    ticks = {event["kind"]: event["tick"] for event in events}
    assert ticks["command"] == 5
    assert ticks["event"] == ticks["end"] == ticks["verdict"] == int(np.flatnonzero(failed.off_road)[0])


def test_numbers_of_the_page_are_those_of_the_record(page: Path):
    case, record = content(page)["cases"][1], a_result().records[1]
    assert [(c["name"], c["width"], c["height"]) for c in case["cameras"]] == [
        ("front", 128, 64),
        ("rear <b>", 48, 36),
    ]
    origin = np.round(record.position[0])
    assert np.allclose(np.array([case["x"], case["y"]]).T, record.position - origin, atol=0.006)
    plan = np.array(case["plan"], float).reshape(record.plan.shape)
    assert np.allclose(plan, record.plan - origin, atol=0.006)
    label = np.array(case["label"], float).reshape(record.plan.shape)
    assert np.isnan(label[:11]).all(), "where the expert is not defined, nothing is shown"
    assert np.isfinite(label[11:]).all()
    assert [actor["x"].count(None) for actor in case["actors"]] == [0, 15]


def test_what_cannot_be_watched_is_refused(tmp_path: Path):
    result = a_result()
    with pytest.raises(UserError, match="nothing to watch"):
        write_viewer(tmp_path / "a.html", dataclasses.replace(result, records=()))
    with pytest.raises(UserError, match=r"a\.pdf"):
        write_viewer(tmp_path / "a.pdf", result)
    with pytest.raises(UserError, match="no case 'other'"):
        write_viewer(tmp_path / "a.html", result, first="other")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_writes_the_page_beside_the_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    kept = save_replay(a_result(), tmp_path / "run" / "lanes.replay")
    assert cli.main(["watch", str(kept.parent), "--case", "clean"]) == 0
    assert content(kept.with_suffix(".html"))["first"] == 0
    assert cli.main(["watch", str(tmp_path)]) == 0
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for line, words in (
        (f"watch {tmp_path / 'empty'}", ["no replay", "--keep"]),
        (f"watch {kept} --case nowhere", ["nowhere", "clean"]),
    ):
        assert cli.main(line.split()) == 2
        answer = capsys.readouterr().err
        assert all(word in answer for word in words), answer


SCRIPT = """
<script>
const said = [];
window.addEventListener("error", event => said.push(String(event.message)));
const pixels = id => document.getElementById(id).toDataURL().length + document.getElementById(id).toDataURL().slice(-400);
const press = (key, more = {}) => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, ...more}));
const state = () => ({tick: Number(document.body.dataset.tick), name: document.body.dataset.case,
                      camera: pixels("camera"), above: pixels("above"), timeline: pixels("timeline")});
setTimeout(() => {
  const steps = {start: state()};
  const rows = [...document.querySelectorAll("#events button")];
  steps.events = rows.map(row => row.textContent);
  rows.find(row => row.className.includes("verdict")).click();
  steps.jumped = state();
  steps.marked = document.querySelectorAll("#events .now").length;
  press("Home"); steps.home = state();
  press("n"); steps.next = state();
  press("ArrowRight"); steps.right = state();
  press("ArrowRight", {shiftKey: true}); steps.second = state();
  press("Home");
  steps.cameras = [...document.querySelectorAll("#cameras button")].map(button => button.textContent);
  press("c"); steps.rear = state();
  document.querySelector("#cameras button").click(); steps.front = state();
  steps.marked_camera = document.querySelectorAll("#cameras .now").length;
  press("["); steps.other = state();
  steps.no_cameras = document.getElementById("cameras").hidden;
  document.getElementById("seek").value = 7;
  document.getElementById("seek").dispatchEvent(new Event("input"));
  steps.sought = state();
  press("]");
  steps.measures = [...document.querySelectorAll("#measures div")].map(one => one.textContent);
  // A list that is too short for its events.
  const list = document.getElementById("events").parentElement;
  list.style.cssText = "flex: none; height: 130px";
  press("End"); press("p");
  const row = document.querySelector("#events .now").getBoundingClientRect(), box = list.getBoundingClientRect();
  steps.listed = row.top >= box.top - 1 && row.bottom <= box.bottom + 1;
  steps.scrolled = list.scrollTop > 0;
  steps.said = said;
  const out = document.createElement("pre");
  out.id = "steps";
  out.textContent = JSON.stringify(steps);
  document.body.append(out);
}, 500);
</script></body>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser_jumping_to_an_event_shows_that_moment(page: Path, tmp_path: Path):
    """Events, keys, the slider and the choice of a case move the clock, and every picture with it."""
    driven = tmp_path / "driven.html"
    driven.write_text(page.read_text(encoding="utf-8").replace("</body>", SCRIPT), encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(
                f"--user-data-dir={tmp_path / 'profile'}",
                "--window-size=1400,900",
                "--virtual-time-budget=4000",
            ),
            *("--enable-logging=stderr", "--dump-dom", driven.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    match = re.search(r'<pre id="steps">(.*?)</pre>', done.stdout, re.S)
    assert match is not None
    steps = json.loads(match.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert steps["said"] == []
    verdict = next(event for event in content(page)["cases"][1]["events"] if event["kind"] == "verdict")
    assert (steps["start"]["tick"], steps["start"]["name"]) == (0, "bend </script>")
    assert steps["jumped"]["tick"] == verdict["tick"]
    assert steps["marked"] == 1
    for picture in ("camera", "above", "timeline"):
        assert steps["start"][picture] != steps["jumped"][picture], f"the {picture} did not change"
    assert steps["home"]["above"] == steps["start"]["above"], "the same tick is drawn the same"
    assert steps["next"]["tick"] == 5, "the first event is the command"
    assert steps["right"]["tick"] == 6
    assert steps["second"]["tick"] == 16
    assert steps["cameras"] == ["front", "rear <b>"]
    assert steps["rear"]["camera"] != steps["home"]["camera"] == steps["front"]["camera"]
    assert steps["marked_camera"] == 1
    assert steps["no_cameras"], "a drive without pictures has none to choose from"
    assert (steps["other"]["name"], steps["other"]["tick"]) == ("clean", 0)
    assert steps["sought"]["tick"] == 7
    assert steps["listed"], "the event is in sight in its list"
    assert steps["scrolled"], "which had to be scrolled for it"
    assert steps["measures"] == ["mean error2.06 m", "speed10 m/s", "share0.5"], "units are written as such"


def test_a_recording_for_rerun_needs_its_extra_and_holds_the_drive(tmp_path: Path):
    """Without the package, the error names the extra; with it, every kind of thing is in the file."""
    from countersteer.reporting.rerun_recording import write_recording

    out = tmp_path / "new" / "drive.rrd"
    if importlib.util.find_spec("rerun") is None:
        with pytest.raises(MissingExtraError, match=r"countersteer\[view\]"):
            write_recording(out, a_result())
        return
    assert write_recording(out, a_result()) == out
    data = out.read_bytes()
    assert data[:3] == b"RRF"
    for name in (
        b"/world/map",
        b"/world/boxes",
        b"/world/plan",
        b"/world/label",
        b"/camera",
        b"/numbers/speed",
    ):
        assert name in data
    assert [path.name for path in out.parent.iterdir()] == ["drive.rrd"]
    with pytest.raises(UserError, match="no case 'other'"):
        write_recording(out, a_result(), case="other")
