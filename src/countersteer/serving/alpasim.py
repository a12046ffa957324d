"""A policy as AlpaSim's driver: its `egodriver.EgodriverService`, over gRPC.

A runtime opens a session with the cameras of its car, sends pictures, ego motion and routes, and asks where to
drive; the answer is a trajectory in the session's local frame, from the present pose on. Rig and local frames
are ours (x forward, y left, z up; the rig's origin on the ground below the rear axle). Before a session has sent
a picture and ego motion the answer is empty, which a runtime reads as "hold".

Messages and service names come from the package carla-driver-interface, which vendors AlpaSim's contract
(Apache-2.0). What a client does wrong is answered with a status and a sentence, and costs nobody else anything:
a session is one `Agent` and one pose, closed sessions are gone, and abandoned ones go when others begin.
"""

from __future__ import annotations

import logging
import math
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer import __version__
from countersteer.data.cameras.log import Distortion
from countersteer.errors import MissingExtraError, UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import matrix_from_quaternion
from countersteer.policies.interface import Policy
from countersteer.serving.agent import Agent, NavigationRequest
from countersteer.serving.views import RigCamera, View
from countersteer.vehicles.plans import Plan

try:
    import grpc
    from carla_driver_interface import contract, protocol
except ModuleNotFoundError as error:
    raise MissingExtraError("carla-driver-interface", "bridges") from error

__all__ = ["Egodriver", "serving"]

_MOST_SESSIONS = 64
_ABANDONED = 600.0  # a session that nobody has spoken to for so long [s]
_LARGEST_STEP = 5.0  # longest time between poses that a yaw rate is taken from [s]
_log = logging.getLogger(__name__)


class _Refused(Exception):
    def __init__(self, code: grpc.StatusCode, text: str):
        super().__init__(text)
        self.code, self.text = code, text


@dataclass
class _Session:
    """One drive.

    Attributes:
        agent: Who drives.
        declared: Size of every camera of the rig, width and height.
        used: The policy's camera for each camera of the rig that it looks through.
        pose: Latest pose of the car: x, y, z, yaw in the local frame, and when [us].
        route: Way points in the local frame.
        spoken: When the client was last heard.
    """

    agent: Agent
    used: dict[str, str]
    declared: set[str]
    pose: tuple[int, float, float, float, float] | None = None
    route: Float[ndarray, "n 2"] | None = None
    spoken: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Egodriver(protocol.EgodriverServiceServicer):
    """Serves one policy to any number of sessions.

    Args:
        policy: Of which every sensor is a camera.
        name: What `get_version` says.
        set_speed: Speed the passenger asks for, since the contract has no word for it [m/s].
    """

    def __init__(self, policy: Policy, name: str, set_speed: float):
        self.policy, self.name, self.set_speed = policy, name, set_speed
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    # --- sessions -------------------------------------------------------------------------------

    def start_session(self, request: Any, context: Any) -> Any:
        """Opens a session; refused if no camera of the car sees what the policy was trained with."""
        with _answering(context):
            try:
                revision = contract.client_revision(context, contract.CONTRACT_REVISION)
            except contract.ContractError as error:
                raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
            cameras = contract.cameras_to_revision(
                request.rollout_spec.vehicle.available_cameras, revision, contract.CONTRACT_REVISION
            )
            session = self._session(list(cameras))
            with self._lock:
                now = time.monotonic()
                for uuid in [u for u, s in self._sessions.items() if now - s.spoken > _ABANDONED]:
                    del self._sessions[uuid]
                if request.session_uuid in self._sessions:
                    raise _Refused(
                        grpc.StatusCode.ALREADY_EXISTS, f"session {request.session_uuid!r} is open already"
                    )
                if len(self._sessions) >= _MOST_SESSIONS:
                    raise _Refused(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        f"{_MOST_SESSIONS} sessions are open; close one of them",
                    )
                session.spoken = now
                self._sessions[request.session_uuid] = session
            return protocol.SessionRequestStatus()

    def close_session(self, request: Any, context: Any) -> Any:
        """Forgets a session; one that is not open is an error."""
        with _answering(context):
            with self._lock:
                if self._sessions.pop(request.session_uuid, None) is None:
                    raise _unknown(request.session_uuid)
            return protocol.Empty()

    def get_version(self, request: Any, context: Any) -> Any:
        """Who drives."""
        context.send_initial_metadata(contract.contract_metadata())
        version = protocol.VersionId(
            version_id=f"countersteer-{__version__} {self.name}", git_hash=protocol.ALPASIM_REV
        )
        version.grpc_api_version.CopyFrom(protocol.ALPASIM_API_VERSION)
        return version

    @contextmanager
    def _open(self, uuid: str, context: Any) -> Iterator[_Session]:
        """The session of that name, held alone; what goes wrong with it is answered."""
        with _answering(context):
            with self._lock:
                session = self._sessions.get(uuid)
            if session is None:
                raise _unknown(uuid)
            with session.lock:
                session.spoken = time.monotonic()
                yield session

    def _session(self, cameras: list[Any]) -> _Session:
        """A rig for the policy: for each of its cameras that of the car which sees most of the same."""
        if not cameras:
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "the session declares no camera")
        rigs: dict[str, RigCamera] = {}
        reasons: list[str] = []
        for camera in cameras:
            try:
                rigs[camera.logical_id] = _rig_camera(camera)
            except UserError as error:
                reasons.append(_line(error))
        rig, used = {}, {}
        for trained in self.policy.spec.cameras:
            best = 0.0
            for name, candidate in rigs.items():
                try:
                    seen = View(candidate, trained).seen
                except UserError as error:
                    reasons.append(f"camera {name!r}: {_line(error)}")
                    continue
                if seen > best:
                    best, rig[trained.name] = seen, candidate
                    used = {k: v for k, v in used.items() if v != trained.name} | {name: trained.name}
            if trained.name not in rig:
                raise _Refused(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"no camera of the car can stand for {trained.name!r}: {'; '.join(reasons)}",
                )
        return _Session(Agent(self.policy, rig), used, {camera.logical_id for camera in cameras})

    # --- what the car sees ----------------------------------------------------------------------

    def submit_image_observation(self, request: Any, context: Any) -> Any:
        """Takes an encoded picture of a camera that was declared."""
        with self._open(request.session_uuid, context) as session:
            image = request.camera_image
            if image.logical_id not in session.declared:
                raise _Refused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"camera {image.logical_id!r} was not declared; declared are {sorted(session.declared)}",
                )
            if image.logical_id in session.used:
                session.agent.see(session.used[image.logical_id], _decoded(image))
        return protocol.Empty()

    def submit_egomotion_observation(self, request: Any, context: Any) -> Any:
        """Takes poses of the rig in the local frame, with their velocities if there are any."""
        with self._open(request.session_uuid, context) as session:
            poses, states = request.trajectory.poses, request.dynamic_states
            if states and len(states) != len(poses):
                raise _Refused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"{len(states)} dynamic states for {len(poses)} poses; give one each, or none",
                )
            read = [_pose(pose) for pose in poses]  # all of them, before any counts
            for k, pose in enumerate(read):
                before = session.pose
                if before is not None and pose[0] <= before[0]:
                    continue  # runtimes may send the last pose again
                velocity = states[k].linear_velocity if states else None
                speed = 0.0 if velocity is None else math.hypot(velocity.x, velocity.y)
                yaw_rate = states[k].angular_velocity.z if states else 0.0
                if before is not None and (step := 1e-6 * (pose[0] - before[0])) <= _LARGEST_STEP:
                    turn = (pose[4] - before[4] + math.pi) % (2 * math.pi) - math.pi
                    yaw_rate = turn / step
                    if velocity is None:
                        speed = math.hypot(pose[1] - before[1], pose[2] - before[2]) / step
                if not (math.isfinite(speed) and math.isfinite(yaw_rate)):
                    raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "a velocity is not a finite number")
                session.pose = pose
                session.agent.move(1e-6 * pose[0], speed, yaw_rate)
        return protocol.Empty()

    def submit_route(self, request: Any, context: Any) -> Any:
        """Takes way points in the rig frame of the latest pose."""
        with self._open(request.session_uuid, context) as session:
            points = np.array([[point.x, point.y] for point in request.route.waypoints]).reshape(-1, 2)
            if not np.isfinite(points).all():
                raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "a way point is not finite")
            session.route = None
            if session.pose is not None and len(points) > 1:
                session.route = _to_local(points, session.pose)
        return protocol.Empty()

    def submit_recording_ground_truth(self, request: Any, context: Any) -> Any:
        """Not looked at: a driver must not know."""
        with self._open(request.session_uuid, context):
            return protocol.Empty()

    # --- where it drives ------------------------------------------------------------------------

    def drive(self, request: Any, context: Any) -> Any:
        """The plan from the latest pose on, in the local frame; empty before there is anything to plan from."""
        with self._open(request.session_uuid, context) as session:
            began = time.perf_counter()
            trajectory = protocol.Trajectory()
            if session.agent.ready and session.pose is not None:
                route = None
                if session.route is not None:
                    route = _to_rig(session.route, session.pose)
                wish = NavigationRequest(self.set_speed, route=route)
                plan = session.agent.plan(1e-6 * request.time_now_us, wish)
                trajectory = self._trajectory(plan, session.pose, request.time_now_us)
            seconds = time.perf_counter() - began
            # AlpaSim's evaluation unpickles this field; plain values need nothing of ours to be read.
            said = {"policy_name": self.name, "inference_seconds": seconds, "scalars": {}}
            debug = protocol.DriveResponse.DebugInfo(unstructured_debug_info=pickle.dumps(said))
            return protocol.DriveResponse(trajectory=trajectory, debug_info=debug)

    def _trajectory(self, plan: Plan, pose: tuple[int, float, float, float, float], now_us: int) -> Any:
        times = np.concatenate([[0.0], self.policy.spec.plan.times().numpy()])
        position = np.concatenate([np.zeros((1, 2)), plan.position.numpy().astype(float)])
        heading = np.concatenate([[0.0], plan.heading.numpy().astype(float)]) + pose[4]
        local = _to_local(position, pose)
        trajectory = protocol.Trajectory()
        for k in range(len(times)):
            half = heading[k] / 2
            trajectory.poses.append(
                protocol.PoseAtTime(
                    timestamp_us=now_us + round(1e6 * float(times[k])),
                    pose=protocol.Pose(
                        vec=protocol.Vec3(x=local[k, 0], y=local[k, 1], z=pose[3]),
                        quat=protocol.Quat(w=math.cos(half), x=0.0, y=0.0, z=math.sin(half)),
                    ),
                )
            )
        return trajectory


@contextmanager
def serving(
    policy: Policy, name: str, *, set_speed: float = 10.0, host: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[int, Egodriver]]:
    """Serve while the block runs; gives the port (a free one for 0) and who answers.

    Raises:
        UserError: The port cannot be had.
    """
    driver = Egodriver(policy, name, set_speed)
    server = grpc.server(futures.ThreadPoolExecutor(8), options=protocol.channel_options())
    protocol.add_EgodriverServiceServicer_to_server(driver, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(
            "the server cannot listen there", got=f"{host}:{port}", expected="a free port of this machine",
            fix="choose another --port, or 0 for a free one",
        )  # fmt: skip
    server.start()
    try:
        yield bound, driver
    finally:
        server.stop(grace=1.0).wait()


@contextmanager
def _answering(context: Any) -> Iterator[None]:
    """Turns what goes wrong into a status and a sentence."""
    try:
        yield
        return
    except _Refused as error:
        code, text = error.code, error.text
    except UserError as error:
        code, text = grpc.StatusCode.INVALID_ARGUMENT, _line(error)
    except Exception as error:
        _log.exception("a call failed")
        code, text = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
    context.abort(code, text)


def _line(error: UserError) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())


def _unknown(uuid: str) -> _Refused:
    return _Refused(grpc.StatusCode.NOT_FOUND, f"no session {uuid!r} is open; start one first")


def _decoded(image: Any) -> UInt8[ndarray, "height width 3"]:
    import cv2

    content = np.frombuffer(image.image_bytes, np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        raise _Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the picture of camera {image.logical_id!r} cannot be decoded ({len(content)} bytes); send JPEG or PNG",
        )
    return np.ascontiguousarray(picture[..., ::-1])


def _pose(stamped: Any) -> tuple[int, float, float, float, float]:
    """When [us], x, y, z [m], yaw [rad]."""
    vec, quat = stamped.pose.vec, stamped.pose.quat
    numbers = np.array([vec.x, vec.y, vec.z, quat.w, quat.x, quat.y, quat.z])
    if not np.isfinite(numbers).all() or np.linalg.norm(numbers[3:]) < 1e-6:
        raise _Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the pose at {stamped.timestamp_us} us is none: finite numbers and a rotation are expected",
        )
    rotation = matrix_from_quaternion(numbers[3:])
    return stamped.timestamp_us, vec.x, vec.y, vec.z, math.atan2(rotation[1, 0], rotation[0, 0])


def _turned(yaw: float) -> ndarray:
    return np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])


def _to_local(points: ndarray, pose: tuple[int, float, float, float, float]) -> ndarray:
    return points @ _turned(pose[4]).T + np.array(pose[1:3])


def _to_rig(points: ndarray, pose: tuple[int, float, float, float, float]) -> ndarray:
    return (points - np.array(pose[1:3])) @ _turned(pose[4])


def _rig_camera(camera: Any) -> RigCamera:
    """From a declared camera; its pose is that of the optical axes (right, down, forward) in the rig."""
    spec, name = camera.intrinsics, camera.logical_id
    vec, quat = camera.rig_to_camera.vec, camera.rig_to_camera.quat
    rotation = np.array([quat.w, quat.x, quat.y, quat.z])
    if not np.isfinite(rotation).all() or np.linalg.norm(rotation) < 1e-6:
        raise UserError(f"the mounting of camera {name!r} is no rotation", got=rotation.tolist())
    mounting = np.eye(4)
    mounting[:3, :3] = matrix_from_quaternion(rotation)
    mounting[:3, 3] = vec.x, vec.y, vec.z
    width, height = spec.resolution_w, spec.resolution_h
    kind = spec.WhichOneof("camera_param")
    if kind == "ftheta_param":
        lens = spec.ftheta_param
        shear = (lens.linear_cde.linear_c, lens.linear_cde.linear_d, lens.linear_cde.linear_e)
        if not lens.angle_to_pixeldist_poly or width < 1 or height < 1:
            raise UserError(
                f"camera {name!r} has no polynomial or no size", expected="angle_to_pixeldist_poly"
            )
        return RigCamera.f_theta(
            width,
            height,
            (lens.principal_point_x, lens.principal_point_y),
            tuple(lens.angle_to_pixeldist_poly),
            lens.max_angle or math.pi / 2,
            mounting,
            shear if any(shear) else (1.0, 0.0, 0.0),
        )
    if kind not in ("opencv_pinhole_param", "opencv_fisheye_param"):
        raise UserError(f"camera {name!r} has no lens that we know", got=kind)
    lens = getattr(spec, kind)
    inside = Intrinsics(
        width,
        height,
        lens.focal_length_x,
        lens.focal_length_y,
        lens.principal_point_x,
        lens.principal_point_y,
    )
    radial = list(lens.radial_coeffs)
    if kind == "opencv_fisheye_param":
        bend = Distortion(tuple(radial + [0.0] * (4 - len(radial))), fisheye=True)
        return RigCamera.pinhole(inside, mounting, bend)
    if any(lens.thin_prism_coeffs):
        raise UserError(f"camera {name!r} has a thin prism, which we do not know")
    radial += [0.0] * (6 - len(radial))
    tangential = [*lens.tangential_coeffs, 0.0, 0.0][:2]
    bent = any(radial) or any(tangential)
    bend = Distortion((*radial[:2], *tangential, *radial[2:6])) if bent else None
    return RigCamera.pinhole(inside, mounting, bend)
