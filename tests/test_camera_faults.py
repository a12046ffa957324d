"""Camera logs that are odd, broken or made to break: frame n is frame n, videos are upright, nothing grows or hangs."""

from __future__ import annotations

import json
import os
import re
import struct
import time
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from countersteer.commands.cli import main
from countersteer.data.cameras import Poses, Problem, VideoFile, check, drive_of_log, read
from countersteer.data.sources import CameraDrive
from countersteer.errors import UserError
from test_cameras import EVEN, circle, number_of, numbered, rig, write_video

X265 = "log-level=none:bframes=4:keyint=12:min-keyint=12"
X264 = "keyint=12:min-keyint=12"


def clip(path: Path, codec: str, count: int = 50, form: str | None = None, changed=None, **options) -> Path:
    """A video of numbered pictures; `changed` may alter packets, whose number it is given."""
    stamps, gop = options.pop("stamps", None), options.pop("gop", 12)
    muxing = options.pop("muxing", {})
    with av.open(str(path), "w", format=form, options=muxing) as container:
        stream = container.add_stream(
            codec, rate=20 if stamps is None else 1000, options=options.pop("coding", {})
        )
        stream.width, stream.height, stream.gop_size = 96, 64, gop
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        packets = []
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = int(stamps[number]), Fraction(1, 1000)
            packets += stream.encode(frame)
        for number, packet in enumerate(packets + stream.encode(None)):
            if changed is not None:
                changed(number, packet)
            container.mux(packet)
    return path


def plainly(path: Path) -> list[np.ndarray]:
    """All frames, decoded from the beginning."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = []
        for packet in container.demux(stream):
            if packet.size:
                found += packet.decode()
        return [frame.to_ndarray(format="rgb24") for frame in [*found, *stream.codec_context.decode(None)]]


def decoded_first(number: int, packet) -> None:
    packet.pts = packet.dts


UNEVEN = np.cumsum(np.random.default_rng(0).integers(5, 200, 50))
KINDS = {
    "open_gop.hevc": {"codec": "libx265", "form": "hevc", "coding": {"x265-params": f"{X265}:open-gop=1"}},
    "open_gop_265.mp4": {"codec": "libx265", "coding": {"x265-params": f"{X265}:open-gop=1"}},
    "radl.ts": {"codec": "libx265", "coding": {"x265-params": f"{X265}:open-gop=0:radl=2"}},
    "open_gop.mkv": {"codec": "libx264", "coding": {"x264-params": f"{X264}:open-gop=1:bframes=4"}},
    "open_gop.ts": {"codec": "libx264", "coding": {"x264-params": f"{X264}:open-gop=1:bframes=4"}},
    "refreshed.mp4": {"codec": "libx264", "coding": {"x264-params": f"{X264}:intra-refresh=1:bframes=2"}},
    "interlaced.mp4": {"codec": "libx264", "coding": {"x264-params": f"{X264}:interlaced=1:bframes=2"}},
    "raw.h264": {"codec": "libx264", "form": "h264", "coding": {"x264-params": f"{X264}:bframes=3"}},
    "no_b.hevc": {"codec": "libx265", "form": "hevc", "coding": {"x265-params": "log-level=none:bframes=0:keyint=12"}},
    "h264.avi": {"codec": "libx264", "coding": {"bf": "3"}},
    "mpeg4_b.avi": {"codec": "mpeg4", "coding": {"bf": "2"}},
    "mpeg2.ts": {"codec": "mpeg2video", "coding": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg"},
    "hidden.webm": {"codec": "libvpx", "coding": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "coding": {"cpu-used": "8", "lag-in-frames": "10"}},
    "one_key.mp4": {"codec": "libx264", "gop": 1000, "coding": {"bf": "3"}},
    "fragments.mp4": {"codec": "libx264", "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "uneven.mkv": {"codec": "libx264", "stamps": UNEVEN, "coding": {"bf": "3"}},
    "later.mp4": {"codec": "libx264", "stamps": 5000 + 50 * np.arange(50), "coding": {"bf": "3"}},
    "cut_by_edit_list.mp4": {"codec": "libx264", "stamps": 50 * np.arange(50) - 500, "coding": {"bf": "3"}},
    "stamps_of_decoding.mkv": {"codec": "libx264", "changed": decoded_first, "coding": {"bf": "3"}},
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_frame_n_is_the_nth_of_a_plain_decode_whatever_was_asked_before(tmp_path: Path, name: str):
    try:
        path = clip(tmp_path / name, **KINDS[name])
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg does not write it: {error}")
    frames, video = plainly(path), VideoFile(path, cache=1)
    assert len(video) == len(frames) >= 40
    order = np.random.default_rng(0).permutation(len(frames))[:25].tolist()
    for number in [*order, *range(len(frames) - 1, 0, -7), *range(20)]:
        assert np.array_equal(video[number], frames[number]), number
    if video.times is not None:
        assert len(video.times) == len(frames)
        assert (np.diff(video.times) > 0).all()


def test_covers_of_albums_are_no_videos_and_of_several_videos_the_first_is_read(tmp_path: Path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=20) for _ in range(2)]
        for stream, size in zip(streams, ((96, 64), (192, 128)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(30):
            for stream in streams:
                picture = numbered(number, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    video = VideoFile(tmp_path / "two.mkv")
    assert (video.width, video.height) == (96, 64)
    assert [number_of(video[number]) for number in (29, 3, 17)] == [29, 3, 17]
    assert "2 videos" in read(tmp_path / "two.mkv").provenance.notes[0]


# How a video is shown.

TURNS = {
    "none": ((1, 0, 0, 1), lambda picture: picture),
    "90": ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    "180": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "270": ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
    "left and right": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "top and bottom": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    "transposed at the other diagonal": ((0, -1, -1, 0), lambda picture: picture[::-1, ::-1].transpose(1, 0, 2)),
}  # fmt: skip


def told(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write a display matrix into an mp4 file."""
    data = bytearray(path.read_bytes())
    box = data.find(b"tkhd")
    at = box + 8 + (32 if data[box + 4] == 1 else 20) + 16
    a, b, c, d = (each << 16 for each in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("turn", TURNS)
def test_videos_are_shown_as_ffmpeg_and_opencv_show_them(tmp_path: Path, turn: str):
    matrix, shown = TURNS[turn]
    path = write_video(tmp_path / "drive.mp4", 12)
    stored = VideoFile(path)[5]
    video = VideoFile(told(path, matrix))
    assert np.array_equal(video[5], shown(stored))
    assert (video.height, video.width) == shown(stored).shape[:2]
    assert bool(read(path).provenance.notes) == (turn != "none")
    if turn in ("90", "180", "270"):  # OpenCV knows no others
        capture = cv2.VideoCapture(str(path))
        assert capture.read()[1].shape[:2] == (video.height, video.width)
        capture.release()


def test_pixels_that_are_not_square_and_odd_angles_are_noted(tmp_path: Path):
    path = clip(tmp_path / "wide.mp4", "libx264", 12, coding={"x264-params": "sar=4/3"})
    assert any("4:3" in note for note in read(path).provenance.notes)
    path = told(write_video(tmp_path / "askew.mp4", 12), (1, 1, -1, 1))
    assert any("45 degrees" in note for note in read(path).provenance.notes)


def test_videos_of_a_rig_share_a_clock(tmp_path: Path):
    folder = rig(tmp_path / "mine", circle(EVEN))
    both = json.loads((folder / "rig.json").read_text())
    for name, start in (("front", 3000), ("rear", 3200)):
        clip(folder / f"{name}.mp4", "libx264", 30, stamps=start + 100 * np.arange(30))
    both["cameras"] = [
        {**both["cameras"][0], "name": name, "video": f"{name}.mp4"} for name in ("front", "rear")
    ]
    (folder / "rig.json").write_text(json.dumps(both))
    log = read(folder)
    assert log.camera("front").times[[0, -1]] == pytest.approx([0.0, 2.9])
    assert log.camera("rear").times[[0, -1]] == pytest.approx([0.2, 3.1])


# Videos that are damaged, or made to break.


def test_frames_before_the_damage_are_read_and_then_an_error_names_the_place(tmp_path: Path):
    path = write_video(tmp_path / "torn.ts", 60, grain=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    video = VideoFile(path)
    assert 30 < len(video) < 55
    whole = len(video) - 4  # a decoder holds back as many
    assert [number_of(video[number]) for number in range(whole)] == list(range(whole))
    with pytest.raises(UserError, match="torn"):
        [video[number] for number in range(whole, len(video))]
    path = write_video(tmp_path / "holed.mkv", 60, grain=20)
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][30]
    half = len(packet) // 2
    noise = np.random.default_rng(0).bytes(len(packet) - half)
    path.write_bytes(path.read_bytes().replace(packet, packet[:half] + noise))
    video, good, said = VideoFile(path), [], set()
    for number in np.random.default_rng(0).permutation(len(video)).tolist():
        try:
            good.append((number, number_of(video[number])))
        except UserError as error:
            said.add(str(error).split(" ")[0])
    assert all(number == shown for number, shown in good)
    assert said == {str(path)}
    assert {*range(20), *range(50, 60)} <= {number for number, _ in good}
    assert len(good) < 60


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])


def nothing_in_it(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()


def vast(path: Path) -> None:
    picture = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    at = picture.find(b"\xff\xc0")
    picture[at + 5 : at + 9] = struct.pack(">HH", 40000, 40000)
    path.write_bytes(bytes(picture) * 20)


def many_packets(path: Path) -> None:
    data = bytearray(clip(path, "mjpeg", 5).read_bytes())
    at = data.find(b"stsz")
    data[at + 8 : at + 16] = struct.pack(">II", 1, 1 << 31)
    at = data.find(b"stsc")
    data[at + 16 : at + 20] = struct.pack(">I", 1 << 31)
    path.write_bytes(data)


def endless_index(path: Path) -> None:
    data = bytearray(clip(path, "mjpeg", 5).read_bytes())
    at = data.find(b"stts")
    data[at + 8 : at + 12] = struct.pack(">I", (1 << 32) - 1)
    path.write_bytes(data)


HOSTILE = {
    "head.mp4": lambda path: path.write_bytes(write_video(path, 20).read_bytes()[:512]),
    "empty.mp4": lambda path: path.write_bytes(b""),
    "zeros.ts": lambda path: path.write_bytes(bytes(100_000)),
    "noise.mkv": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "playlist.mp4": lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://localhost/a.ts\n"),
    "list.mp4": lambda path: path.write_text("ffconcat version 1.0\nfile '/etc/hostname'\n"),
    "sound.mp4": sound,
    "nothing.mkv": nothing_in_it,
    "vast.mp4": vast,
    "many.mp4": many_packets,
    "endless.mp4": endless_index,
    "pipe.mp4": os.mkfifo,
    "itself.mp4": lambda path: path.symlink_to(path),
    "folder.mp4": Path.mkdir,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_video_is_refused_by_name_and_quickly(tmp_path: Path, name: str):
    HOSTILE[name](tmp_path / name)
    began = time.perf_counter()
    with pytest.raises(UserError, match=re.escape(name)) as refused:
        read(tmp_path / name)
    assert "allocate" not in str(refused.value)  # no want of memory: nobody asked for any
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    "kind", [EOFError, MemoryError, IndexError, av.error.PatchWelcomeError, RuntimeError]
)
def test_whatever_pyav_raises_becomes_an_error_of_ours(tmp_path: Path, monkeypatch, kind: type[Exception]):
    path = write_video(tmp_path / "drive.mp4", 20)
    video = VideoFile(path)

    def fail(*_, **__):
        raise (
            kind(1, "said by a library")
            if issubclass(kind, av.error.FFmpegError)
            else kind("said by a library")
        )

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(UserError, match=r"drive.mp4"):
        VideoFile(path)
    with pytest.raises(UserError, match=r"drive.mp4[\s\S]*frame 3 of 20"):
        video[3]


# Pictures, folders and tables.


def bomb(side: int = 20000) -> bytes:
    """A small PNG file of a large picture."""
    packed = zlib.compress(bytes(side * (1 + 3 * side) // 16), 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pictures(folder: Path, count: int = 10, **changes) -> Path:
    """A rig whose frames are pictures; without poses."""
    camera = {
        "name": "front", "pictures": "front", "rate_hz": 10, "fx_px": 70, "fy_px": 70, "cx_px": 48, "cy_px": 32,
        "position_m": [1.5, 0, 1.4],
    }  # fmt: skip
    (folder / "front").mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / "front" / f"{number:06}.png"), numbered(number))
    (folder / "rig.json").write_text(json.dumps({"cameras": [{**camera, **changes}]}))
    return folder


def test_a_picture_that_declares_too_much_is_refused_before_it_is_decoded(tmp_path: Path):
    folder = pictures(tmp_path / "mine")
    (folder / "front" / "000004.png").write_bytes(bomb())
    log = read(folder)
    assert log.cameras[0].frames[3].shape == (64, 96, 3)
    with pytest.raises(UserError, match=r"000004.png[\s\S]*larger than it may be"):
        log.cameras[0].frames[4]
    (folder / "front" / "000000.png").write_bytes(bomb())
    with pytest.raises(UserError, match=r"000000.png"):
        read(folder)


@pytest.mark.parametrize("how", ["pipe", "link to itself", "folder"])
@pytest.mark.parametrize("what", ["front/000004.png", "poses.csv"])
def test_what_is_no_file_is_refused_and_named(tmp_path: Path, what: str, how: str):
    place = pictures(tmp_path / "mine") / what
    place.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "link to itself": lambda path: path.symlink_to(path), "folder": Path.mkdir}[how](
        place
    )
    with pytest.raises(UserError, match=re.escape(place.name)):
        read(tmp_path / "mine")


def test_folders_that_cannot_be_listed_and_links_to_themselves_are_refused(tmp_path: Path):
    folder = pictures(tmp_path / "mine", pictures="other")
    for make in (lambda path: path.symlink_to(path), lambda path: path.write_text("x"), Path.mkdir):
        make(folder / "other")
        with pytest.raises(UserError, match="mine"):
            read(folder)
        (folder / "other").rmdir() if (folder / "other").is_dir() else (folder / "other").unlink()


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("countersteer.data.cameras.readers.files._MOST_FILES", 9)
    with pytest.raises(UserError, match=r"front[\s\S]*more than 9 files"):
        read(pictures(tmp_path / "mine"))


@pytest.mark.parametrize(
    "text",
    [
        '{"cameras": ' + "[" * 100_000,
        '{"cameras": [' + "{}," * 3_000_000 + "{}]}",
        '{"cameras": [{"name": ' + "9" * 5000 + "}]}",
        '{"cameras": [{"name": "a", "pictures": "front", "rate_hz": 1e-320}]}',
        '{"cameras": [{"name": "a", "pictures": "fr\\u0000ont"}]}',
        '{"cameras": [{"name": "a", "video": ' + "9" * 4000 + "}]}",
    ],
)
def test_json_that_grows_is_refused(tmp_path: Path, text: str):
    folder = pictures(tmp_path / "mine")
    (folder / "rig.json").write_text(text)
    with pytest.raises(UserError, match=r"rig.json|name"):
        read(folder)


def test_sweeps_that_declare_too_much_are_refused(tmp_path: Path):
    from countersteer.data.cameras.readers.files import PackedSweeps

    header = np.lib.format.magic(1, 0) + struct.pack("<H", 118)
    header += b"{'descr': '<i2', 'fortran_order': False, 'shape': (3000000000, 3), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "000001.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xyz_5mm.npy", header + bytes(600))
    with pytest.raises(UserError, match=r"000001.npz"):
        PackedSweeps(tmp_path)(0)


def test_a_calibration_with_impossible_numbers_is_refused(tmp_path: Path):
    folder = tmp_path / "drive"
    (folder / "image_0").mkdir(parents=True)
    cv2.imwrite(str(folder / "image_0" / "000000.png"), numbered(1))
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    for row in (f"P{'0' * 5000}: 1 0 0 0", "P0: " + "9" * 5000 + " 0" * 11, "P0: 1 2"):
        (folder / "calib.txt").write_text(row)
        with pytest.raises(UserError, match=r"calib.txt"):
            read(folder)


# What one command checks all check.


def far(poses: np.ndarray) -> None:
    poses[0, 0, 3] = 1e7


def slowly_far(poses: np.ndarray) -> None:
    poses[:, :3, 3] *= 1e5


ABSURD = {"1e7 m away": far, "a long way": slowly_far}


@pytest.mark.parametrize("how", ABSURD)
@pytest.mark.parametrize(
    "command",
    [
        ["data", "inspect"],
        ["novel-view"],
        ["view-metrics"],
        ["train", "reprojection", "--scenarios"],
    ],
)
def test_poses_that_no_car_drives_are_refused_by_every_command(
    tmp_path: Path, capsys, monkeypatch, how, command
):
    monkeypatch.chdir(tmp_path)
    poses = circle(EVEN)
    ABSURD[how](poses)
    assert main([*command, str(rig(tmp_path / "mine", poses))]) == 2
    assert "cannot be rendered from yet" in capsys.readouterr().err


def test_poses_that_no_car_drives_are_refused_as_a_source_of_scenarios(tmp_path: Path):
    poses = circle(EVEN)
    far(poses)
    folder = rig(tmp_path / "mine", poses)
    with pytest.raises(UserError, match="jumps"):
        CameraDrive(str(folder)).load()
    with pytest.raises(UserError, match="jumps"):
        drive_of_log(read(folder))


def test_jumps_across_gaps_long_ways_and_long_times_are_found():
    from test_cameras import log_of

    times = np.concatenate([EVEN, EVEN + 1000.0])
    poses = circle(times)
    poses[60:, 0, 3] += 1e6
    assert check(log_of(times, poses, times)).of(Problem.POSE_JUMP)
    times = np.concatenate([EVEN, EVEN + 2e5])
    assert not check(log_of(times, circle(times), times)).usable
    straight = np.tile(np.eye(4), (20_000, 1, 1))
    times = np.arange(20_000.0)
    straight[:, 0, 3] = 40 * times
    assert check(log_of(EVEN, straight, times)).of(Problem.UNITS_POSE)


def test_a_fault_of_the_disk_names_the_file(tmp_path: Path, monkeypatch):
    folder = pictures(tmp_path / "mine")
    log = read(folder)

    def fail(path, *_, **__):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UserError, match=r"000002.png[\s\S]*Input/output error"):
        log.cameras[0].frames[2]
    with pytest.raises(UserError, match="mine"):
        read(folder)


def test_rotations_that_are_none_are_refused():
    world = np.tile(np.eye(4), (3, 1, 1))
    world[1, :3, :3] = 0.0
    with pytest.raises(UserError, match="rotation"):
        Poses(np.arange(3.0), world)
