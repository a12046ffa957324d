"""Calls of AlpaSim's contract that are wrong, hostile or out of time: each is answered, and the session drives on."""

# ruff: noqa: F811 (fixtures of another file)

import math
import socket
import subprocess
import warnings
from collections.abc import Callable

import pytest
import torch

from countersteer.errors import UserError
from test_alpasim import RIG, SPEC, motion, picture, protocol, refused, served, start, stub  # noqa: F401
from test_planner import planner

grpc = pytest.importorskip("grpc", reason="the extra `bridges` is not installed")

from countersteer.serving.alpasim import serving  # noqa: E402
from countersteer.serving.listening import Listening  # noqa: E402

INVALID = grpc.StatusCode.INVALID_ARGUMENT
HUGE = 2**31 - 1


def opening(change: Callable, name: str = "hostile", count: int = 1):
    """A request for a session whose cameras are changed."""
    request = protocol.DriveSessionRequest(session_uuid=name)
    cameras = request.rollout_spec.vehicle.available_cameras
    for k in range(count):
        camera = RIG.available_camera()
        if k:
            camera.logical_id = f"{camera.logical_id} {k}"
        cameras.append(camera)
    change(request, cameras)
    return request


def camera_with(**fields) -> Callable:
    def change(_, cameras) -> None:
        for place, value in fields.items():
            *path, last = place.split("__")
            target = cameras[0]
            for step in path:
                target = getattr(target, step)
            if isinstance(value, list):
                del getattr(target, last)[:]
                getattr(target, last).extend(value)
            else:
                setattr(target, last, value)

    return change


def twice(_, cameras) -> None:
    cameras.append(cameras[0])


LENS = "intrinsics__opencv_pinhole_param__"
SESSIONS = {
    "cameras declared twice": (opening(twice), "declared twice"),
    "no name of a camera": (opening(camera_with(logical_id="")), "0 characters"),
    "a very long name": (opening(camera_with(logical_id="x" * 10_000)), "10000 characters"),
    "200 cameras": (opening(lambda *_: None, count=200), "200 cameras"),
    "sizes of 2^31": (
        opening(camera_with(intrinsics__resolution_w=HUGE, intrinsics__resolution_h=HUGE)),
        "impossible size",
    ),
    "no width": (opening(camera_with(intrinsics__resolution_w=0)), "impossible size"),
    "no session name": (opening(lambda *_: None, name=""), "0 characters"),
    "a session name of a megabyte": (opening(lambda *_: None, name="x" * 1_000_000), "1000000 characters"),
}
# One camera that cannot be: others could do, so it is said why none can stand for the trained one.
CAMERAS = {
    "focal length not a number": (camera_with(**{LENS + "focal_length_x": math.nan}), "impossible"),
    "focal length 0": (camera_with(**{LENS + "focal_length_y": 0.0}), "out of range"),
    "focal length infinite": (camera_with(**{LENS + "focal_length_x": math.inf}), "impossible"),
    "principal point far away": (camera_with(**{LENS + "principal_point_x": 1e300}), "impossible"),
    "seven radial coefficients": (camera_with(**{LENS + "radial_coeffs": [0.1] * 7}), "7 radial"),
    "a coefficient that is not a number": (camera_with(**{LENS + "radial_coeffs": [math.nan]}), "impossible"),
    "no rotation": (
        camera_with(**{f"rig_to_camera__quat__{axis}": 0.0 for axis in "wxyz"}),
        "no rotation",
    ),
    "a rotation that is not a number": (camera_with(rig_to_camera__quat__w=math.nan), "no rotation"),
    "mounted a light year away": (camera_with(rig_to_camera__vec__x=1e16), "impossible"),
    "mounted nowhere": (camera_with(rig_to_camera__vec__z=math.nan), "impossible"),
    "f-theta without polynomial": (camera_with(intrinsics__ftheta_param__max_angle=1.0), "no polynomial"),
    "f-theta of 1,000 coefficients": (
        camera_with(intrinsics__ftheta_param__angle_to_pixeldist_poly=[1.0] * 1000),
        "no polynomial",
    ),
    "f-theta not a number": (
        camera_with(intrinsics__ftheta_param__angle_to_pixeldist_poly=[math.nan]),
        "impossible",
    ),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_that_cannot_be_are_refused(served, stub, name):
    request, words = SESSIONS[name]
    refused(lambda: stub.start_session(request), INVALID, words)
    assert served[1].sessions == 0


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras_that_cannot_be_stand_for_none(served, stub, name):
    change, words = CAMERAS[name]
    refused(lambda: stub.start_session(opening(change)), grpc.StatusCode.FAILED_PRECONDITION, words)
    assert served[1].sessions == 0


@pytest.fixture
def session(served, stub):
    """A session that drives along x at 10 m/s, 0.1 s a step; gives the stub, and a function that goes on for a step."""
    start(stub, "s")
    stub.submit_image_observation(picture("s"))
    ticks = iter(range(10**6))

    def drive() -> float:
        """One good step; where the plan begins along x."""
        tick = next(ticks)
        stub.submit_egomotion_observation(motion("s", 100_000 * tick, x=1.0 * tick))
        answer = stub.drive(protocol.DriveRequest(session_uuid="s", time_now_us=100_000 * tick))
        assert len(answer.trajectory.poses) == SPEC.plan.points + 1
        assert answer.trajectory.poses[0].pose.vec.x == 1.0 * tick
        return answer.trajectory.poses[-1].pose.vec.x

    drive()
    yield stub, drive
    stub.close_session(protocol.DriveSessionCloseRequest(session_uuid="s"))


def bomb() -> bytes:
    """A PNG of 20,000 x 20,000 in 48 kB."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2_501 * 20_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def route(*points: tuple[float, float]):
    request = protocol.RouteRequest(session_uuid="s")
    for x, y in points:
        request.route.waypoints.append(protocol.Vec3(x=x, y=y))
    return request


def many_poses(count: int):
    request = motion("s", 200_000)
    for _ in range(count):
        request.dynamic_states.add()
    return request


CALLS = {
    "a picture of 20,000 x 20,000": (
        "submit_image_observation",
        lambda: picture("s", content=bomb()),
        "larger",
    ),
    "a picture larger than its camera": (
        "submit_image_observation",
        lambda: picture("s", size=(900, 1600)),
        "larger",
    ),
    "an empty picture": ("submit_image_observation", lambda: picture("s", content=b""), "decoded"),
    "half a picture": (
        "submit_image_observation",
        lambda: picture("s", content=b"\x89PNG\r\n\x1a\n" + bytes(40)),
        "decoded",
    ),
    "a picture of a camera named with a megabyte": (
        "submit_image_observation",
        lambda: picture("s", camera="x" * 1_000_000, content=b""),
        "not declared",
    ),
    "a place that is not a number": (
        "submit_egomotion_observation",
        lambda: motion("s", 10**6, x=math.nan),
        "finite",
    ),
    "a place beyond the earth": (
        "submit_egomotion_observation",
        lambda: motion("s", 10**6, x=1e12),
        "finite",
    ),
    "no heading": ("submit_egomotion_observation", lambda: motion("s", 10**6, yaw=math.nan), "finite"),
    "faster than any car": (
        "submit_egomotion_observation",
        lambda: motion("s", 10**6, speed=1e6),
        "1e+06 m/s",
    ),
    "no speed": ("submit_egomotion_observation", lambda: motion("s", 10**6, speed=math.nan), "finite"),
    "turning 3 rad in a millisecond": (
        "submit_egomotion_observation",
        lambda: motion("s", 1_000, yaw=3.0),
        "rad/s",
    ),
    "a time beyond 64 bits": ("submit_egomotion_observation", lambda: motion("s", 2**64 - 1), "no time"),
    "more states than poses": (
        "submit_egomotion_observation",
        lambda: many_poses(1000),
        "1001 dynamic states",
    ),
    "a plan for a time beyond 64 bits": (
        "drive",
        lambda: protocol.DriveRequest(session_uuid="s", time_now_us=2**64 - 1),
        "no time",
    ),
    "a way point that is not a number": ("submit_route", lambda: route((0, 0), (math.nan, 1)), "way point"),
    "a way point beyond the earth": ("submit_route", lambda: route((0, 0), (1e30, 1)), "way point"),
    "a million way points": ("submit_route", lambda: route(*[(1.0, 0.0)] * 10_001), "10001 way points"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_refused_and_the_session_drives_on(session, name):
    stub, drive = session
    method, request, words = CALLS[name]
    refused(lambda: getattr(stub, method)(request()), INVALID, words)
    before = drive()
    assert drive() == pytest.approx(before + 1.0, abs=0.5)


@pytest.mark.parametrize("ahead", [10**9, 10**12, 10**15, 2**62])
def test_a_pose_with_a_time_far_ahead_does_not_silence_the_session(served, session, ahead):
    stub, drive = session
    stub.submit_egomotion_observation(motion("s", ahead))
    before = drive()
    assert drive() == pytest.approx(before + 1.0, abs=0.5)
    times = [time for time, *_ in served[1]._sessions["s"].agent._odometry]
    assert times == sorted(times)
    assert times[-1] < 1.0


def test_a_plan_for_a_time_far_ahead_does_not_silence_the_session(session):
    stub, drive = session
    stub.drive(protocol.DriveRequest(session_uuid="s", time_now_us=2**62))
    drive()


def test_poses_that_are_sent_again_change_nothing(served, session):
    stub, drive = session
    for _ in range(5):
        drive()
    before = list(served[1]._sessions["s"].agent._odometry)
    for tick in range(5):
        stub.submit_egomotion_observation(motion("s", 100_000 * tick, x=1.0 * tick))
    assert served[1]._sessions["s"].agent._odometry == before


def test_a_plan_that_is_not_finite_is_not_sent_and_the_next_begins_afresh(served, session):
    stub, drive = session
    agent = served[1]._sessions["s"].agent
    policy = agent.policy
    agent.policy = planner(SPEC, lively=False).eval()
    with torch.no_grad():
        agent.policy.answer.bias.fill_(math.nan)
    request = protocol.DriveRequest(session_uuid="s", time_now_us=10**6)
    refused(lambda: stub.drive(request), grpc.StatusCode.INTERNAL, "not finite")
    agent.policy = policy
    drive()


# --- who may talk, and where ----------------------------------------------------------------


def serve(**where):
    return serving(planner(SPEC, lively=False), "test", Listening(**where))


def test_a_port_belongs_to_one_server(served):
    port = int(served[0].rsplit(":", 1)[1])
    with pytest.raises(UserError, match="cannot listen"), serve(port=port):
        pass


def test_a_port_that_another_program_has_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match="cannot listen"), serve(port=port):
            pass


@pytest.mark.parametrize(("taken", "host"), [("127.0.0.1", "localhost"), ("::1", "::"), ("::1", "localhost")])
def test_a_port_that_is_taken_at_one_of_several_addresses_is_refused(taken, host):
    with socket.socket(socket.AF_INET6 if ":" in taken else socket.AF_INET) as other:
        try:
            other.bind((taken, 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        other.listen()
        addresses = {each[4][0] for each in socket.getaddrinfo(host, 1, type=socket.SOCK_STREAM)}
        if host == "localhost" and taken not in addresses:
            pytest.skip(f"localhost is not {taken} on this machine")
        where = Listening(host, other.getsockname()[1])
        with pytest.raises(UserError, match="cannot listen"), serving(planner(SPEC), "second", where):
            pass


@pytest.mark.parametrize("host", ["localhost\0x", "local host", "a\n", " 127.0.0.1"])
def test_hosts_that_are_none_are_refused(host):
    with pytest.raises(UserError, match="host"):
        Listening(host)


def test_a_message_of_very_many_poses_is_refused(session):
    stub, _ = session
    request = motion("s", 0)
    request.trajectory.poses.extend([request.trajectory.poses[0]] * 10_000)
    refused(lambda: stub.submit_egomotion_observation(request), INVALID, "10001 poses")


@pytest.mark.parametrize("port", [-1, 65_536, 99_999, 10**30])
def test_a_port_out_of_range_is_refused(port):
    with pytest.raises(UserError, match=r"\[0, 65535\]"):
        Listening(port=port)


def test_hosts_that_cannot_be_listened_on_are_refused():
    for host in ("256.1.1.1", "no such host", "192.0.2.1"):
        with pytest.raises(UserError, match="cannot listen"), warnings.catch_warnings(), serve(host=host):
            pass


@pytest.mark.parametrize(
    ("host", "address", "local"),
    [("::1", "[::1]:5", True), ("[::1]", "[::1]:5", True), ("::", "[::]:5", False), ("127.0.0.2", "127.0.0.2:5", True),
     ("0.0.0.0", "0.0.0.0:5", False), ("localhost", "localhost:5", True)],
)  # fmt: skip
def test_addresses_of_both_kinds(host, address, local):
    where = Listening(host, 5)
    assert (where.address, where.is_local) == (address, local)


def version(channel, **given):
    return protocol.EgodriverServiceStub(channel).get_version(protocol.Empty(), timeout=5, **given).version_id


def test_ipv6_answers():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve(host="::1") as (port, _), grpc.insecure_channel(f"[::1]:{port}") as channel:
        assert "countersteer" in version(channel)


def test_a_token_is_asked_for(caplog):
    with serve(token="open sesame") as (port, _), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for metadata in ((), (("authorization", "Bearer open"),), (("authorization", "open sesame"),)):
            refused(
                lambda m=metadata: version(channel, metadata=m), grpc.StatusCode.UNAUTHENTICATED, "Bearer"
            )
        assert "countersteer" in version(channel, metadata=(("authorization", "Bearer open sesame"),))
    assert not caplog.records


def test_beyond_loopback_what_is_missing_is_said(caplog):
    with serve(host="0.0.0.0", token="x"):
        assert "missing: TLS" in caplog.text
        assert "token" not in caplog.text


def test_tls_with_a_certificate_of_its_own(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    words += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    with serve(certificate=certificate, key=key) as (port, _):
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", trusted) as channel:
            assert "countersteer" in version(channel)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
            version(channel)


def test_certificates_that_are_none_are_refused(tmp_path):
    good = tmp_path / "certificate.pem"
    good.write_text("-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty").write_text("")
    with pytest.raises(UserError, match="certificate and its key"):
        Listening(certificate=good)
    for wrong in (tmp_path, tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(UserError), serve(certificate=wrong, key=good):
            pass
    with pytest.raises(UserError, match="cannot listen"), serve(certificate=good, key=good):
        pass
    with pytest.raises(UserError, match="token"):
        Listening(token="")
