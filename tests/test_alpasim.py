"""AlpaSim's driver contract over loopback, with the public client at the other end."""

import math

import numpy as np
import pytest

from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlannerSpec
from test_planner import planner

grpc = pytest.importorskip("grpc", reason="the extra `bridges` is not installed")
testing = pytest.importorskip("carla_driver_interface.testing", reason="the extra `bridges` is not installed")
protocol = pytest.importorskip("carla_driver_interface.protocol")

from countersteer.serving.alpasim import serving  # noqa: E402

CAMERA = Camera(width=64, height=24, pitch=0.1)
SPEC = CNNPlannerSpec(cameras=(CAMERA,), channels=(4, 8), features=8, hidden=16, history=(1,))
RIG = testing.FakeCamera(width=160, height=90, fov_deg=90.0, x=1.5, z=1.4, pitch_down_deg=math.degrees(0.1))


@pytest.fixture(scope="module")
def served():
    """A planner that goes straight on, and its server."""
    with serving(planner(SPEC, lively=False), "test", set_speed=12.0) as (port, driver):
        yield f"127.0.0.1:{port}", driver


@pytest.fixture
def stub(served):
    with grpc.insecure_channel(served[0], options=protocol.channel_options()) as channel:
        yield protocol.EgodriverServiceStub(channel)


def start(stub, name, cameras=(RIG,)):
    request = protocol.DriveSessionRequest(session_uuid=name)
    request.rollout_spec.vehicle.available_cameras.extend(camera.available_camera() for camera in cameras)
    return stub.start_session(request)


def picture(name, camera="camera_front", content=None, size=(90, 160)):
    import cv2

    image = protocol.RolloutCameraImage(session_uuid=name)
    image.camera_image.logical_id = camera
    if content is None:
        content = cv2.imencode(".png", np.full((*size, 3), 90, np.uint8))[1].tobytes()
    image.camera_image.image_bytes = content
    return image


def motion(name, time_us, x=0.0, y=0.0, yaw=0.0, speed=10.0):
    request = protocol.RolloutEgoTrajectory(session_uuid=name)
    quat = protocol.Quat(w=math.cos(yaw / 2), z=math.sin(yaw / 2))
    pose = protocol.Pose(vec=protocol.Vec3(x=x, y=y), quat=quat)
    request.trajectory.poses.append(protocol.PoseAtTime(pose=pose, timestamp_us=time_us))
    request.dynamic_states.append(protocol.DynamicState(linear_velocity=protocol.Vec3(x=speed)))
    return request


def refused(call, code, words):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code
    assert words in caught.value.details()


def test_the_public_client_drives_straight_on_and_leaves_nothing(served):
    address, driver = served
    with testing.FakeLoop(address, [RIG], initial_speed_mps=10.0) as loop:
        result = loop.run(20)
    assert result.steps == 20
    # An untrained planner goes straight on at its speed.
    assert result.ego.positions[-1, 0] == pytest.approx(19.0, abs=2.0)
    assert np.abs(result.lateral_offsets_m).max() < 0.5
    assert driver.sessions == 0


def test_a_plan_is_given_in_the_local_frame(stub):
    """A car at (5, -3) that heads to the left of +x at 90 degrees plans along +y."""
    start(stub, "turned")
    stub.submit_egomotion_observation(motion("turned", 0, 5.0, -3.0, math.pi / 2))
    assert len(stub.drive(protocol.DriveRequest(session_uuid="turned")).trajectory.poses) == 0  # hold
    stub.submit_image_observation(picture("turned"))
    answer = stub.drive(protocol.DriveRequest(session_uuid="turned", time_now_us=7))
    poses = answer.trajectory.poses
    assert [poses[0].pose.vec.x, poses[0].pose.vec.y, poses[0].timestamp_us] == [5.0, -3.0, 7]
    assert poses[-1].pose.vec.y == pytest.approx(-3.0 + 10.0 * 3.0, abs=3.0)
    assert poses[-1].pose.vec.x == pytest.approx(5.0, abs=2.0)
    assert poses[-1].timestamp_us == 7 + 3_000_000
    assert 2 * math.atan2(poses[-1].pose.quat.z, poses[-1].pose.quat.w) == pytest.approx(math.pi / 2, abs=0.2)
    stub.close_session(protocol.DriveSessionCloseRequest(session_uuid="turned"))


def test_odometry_is_told_from_poses(served, stub):
    """Yaw rate from headings, left positive, and across the seam at pi."""
    start(stub, "turning")
    for k in range(3):
        stub.submit_egomotion_observation(motion("turning", k * 100_000, yaw=math.pi - 0.03 + 0.02 * k))
    _, speed, yaw_rate = served[1]._sessions["turning"].agent._odometry[-1]
    assert (speed, yaw_rate) == (pytest.approx(10.0), pytest.approx(0.2))
    stub.close_session(protocol.DriveSessionCloseRequest(session_uuid="turning"))


def test_mistakes_are_answered_and_nothing_leaks(served, stub):
    status, driver = grpc.StatusCode, served[1]
    drive, close = protocol.DriveRequest, protocol.DriveSessionCloseRequest
    refused(lambda: stub.drive(drive(session_uuid="nobody")), status.NOT_FOUND, "no session 'nobody'")
    refused(lambda: stub.close_session(close(session_uuid="nobody")), status.NOT_FOUND, "no session")
    refused(lambda: start(stub, "blind", ()), status.INVALID_ARGUMENT, "no camera")
    behind = testing.FakeCamera(yaw_left_deg=180.0)
    refused(lambda: start(stub, "back", (behind,)), status.FAILED_PRECONDITION, "looks elsewhere")
    start(stub, "one")
    refused(lambda: start(stub, "one"), status.ALREADY_EXISTS, "open already")
    bad = {
        "not declared": picture("one", camera="roof"),
        "can be decoded": picture("one", content=b"not a picture"),
        "uint8 [90, 160, 3]": picture("one", size=(40, 40)),
    }
    for words, request in bad.items():
        refused(lambda r=request: stub.submit_image_observation(r), status.INVALID_ARGUMENT, words)
    for wrong in (motion("one", 5, x=math.nan), motion("one", 5, speed=math.inf)):
        refused(lambda r=wrong: stub.submit_egomotion_observation(r), status.INVALID_ARGUMENT, "finite")
    lone = motion("one", 5)
    lone.dynamic_states.add()
    refused(lambda: stub.submit_egomotion_observation(lone), status.INVALID_ARGUMENT, "2 dynamic states")
    # Closed midway: what follows is refused, and the others drive on.
    start(stub, "two")
    for name in ("one", "two"):
        stub.submit_image_observation(picture(name))
        stub.submit_egomotion_observation(motion(name, 10))
    stub.close_session(close(session_uuid="one"))
    refused(lambda: stub.drive(drive(session_uuid="one", time_now_us=10)), status.NOT_FOUND, "'one'")
    assert len(stub.drive(drive(session_uuid="two", time_now_us=10)).trajectory.poses) == 13
    stub.close_session(close(session_uuid="two"))
    assert driver.sessions == 0


def test_bytes_that_are_no_message_do_not_stop_the_server(served, stub):
    with grpc.insecure_channel(served[0]) as channel:
        raw = channel.unary_unary("/egodriver.EgodriverService/drive")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "countersteer" in stub.get_version(protocol.Empty()).version_id


def test_a_session_remembers_a_bounded_past(served, stub):
    start(stub, "long")
    stub.submit_image_observation(picture("long"))
    for k in range(200):
        stub.submit_egomotion_observation(motion("long", k * 100_000, x=float(k)))
    session = served[1]._sessions["long"]
    assert len(session.agent._odometry) < 20
    stub.close_session(protocol.DriveSessionCloseRequest(session_uuid="long"))
