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
from jaxtyping import Float
from numpy import ndarray

from countersteer import __version__
from countersteer.errors import MissingExtraError, UserError
from countersteer.policies.interface import Policy
from countersteer.serving.agent import Agent, NavigationRequest
from countersteer.serving.alpasim_messages import (
    LATEST,
    MAX_COORDINATE,
    check_cameras,
    decoded,
    pose_of,
    rig_camera,
    to_local,
    to_rig,
)
from countersteer.serving.listening import Listening, TokenCheck, listening
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
_FASTEST, _FASTEST_TURN = 150.0, 20.0  # [m/s], [rad/s]; beyond them a pose is in error
_LONGEST_NAME = 200  # of a session [characters]
_MOST_WAYPOINTS = 10_000
_MOST_POSES = 10_000  # of a message
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
        declared: Every camera of the rig.
        used: The policy's camera for each camera of the rig that it looks through, and the pixels of a picture.
        pose: Latest pose of the car: x, y, z, yaw in the local frame, and when [us].
        route: Way points in the local frame.
        spoken: When the client was last heard.
    """

    agent: Agent
    used: dict[str, tuple[str, int]]
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
            if not 0 < len(request.session_uuid) <= _LONGEST_NAME:
                raise UserError(
                    f"the session's name has {len(request.session_uuid)} characters, not 1 to {_LONGEST_NAME}"
                )
            session = self._session(check_cameras(cameras))
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
        rigs: dict[str, RigCamera] = {}
        reasons: list[str] = []
        for camera in cameras:
            try:
                rigs[camera.logical_id] = rig_camera(camera)
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
        looked_through = {
            name: (trained, rigs[name].width * rigs[name].height) for name, trained in used.items()
        }
        return _Session(Agent(self.policy, rig), looked_through, {camera.logical_id for camera in cameras})

    # --- what the car sees ----------------------------------------------------------------------

    def submit_image_observation(self, request: Any, context: Any) -> Any:
        """Takes an encoded picture of a camera that was declared."""
        with self._open(request.session_uuid, context) as session:
            image = request.camera_image
            if image.logical_id not in session.declared:
                raise UserError(
                    f"camera {image.logical_id[:_LONGEST_NAME]!r} was not declared; declared are {sorted(session.declared)}"
                )
            if image.logical_id in session.used:
                name, pixels = session.used[image.logical_id]
                session.agent.add_image(name, decoded(image, pixels))
        return protocol.Empty()

    def submit_egomotion_observation(self, request: Any, context: Any) -> Any:
        """Takes poses of the rig in the local frame, with their velocities if there are any."""
        with self._open(request.session_uuid, context) as session:
            poses, states = request.trajectory.poses, request.dynamic_states
            if len(poses) > _MOST_POSES:
                raise UserError(f"{len(poses)} poses; at most {_MOST_POSES}")
            if states and len(states) != len(poses):
                raise UserError(
                    f"{len(states)} dynamic states for {len(poses)} poses; give one each, or none"
                )
            read = [pose_of(pose) for pose in poses]  # all of them, before any counts
            for k, pose in enumerate(read):
                before = session.pose
                step = math.inf if before is None else 1e-6 * (pose[0] - before[0])
                if -_LARGEST_STEP <= step <= 0.0:
                    continue  # runtimes may send the last pose again
                if step < 0.0:  # the clock was set back, or the pose before it was in error
                    before, step = None, math.inf
                velocity = states[k].linear_velocity if states else None
                speed = 0.0 if velocity is None else math.hypot(velocity.x, velocity.y)
                yaw_rate = states[k].angular_velocity.z if states else 0.0
                if before is not None and step <= _LARGEST_STEP:
                    turn = (pose[4] - before[4] + math.pi) % (2 * math.pi) - math.pi
                    yaw_rate = turn / step
                    if velocity is None:
                        speed = math.hypot(pose[1] - before[1], pose[2] - before[2]) / step
                if not (math.isfinite(speed) and math.isfinite(yaw_rate)):
                    raise UserError("a velocity is not a finite number")
                if speed > _FASTEST or abs(yaw_rate) > _FASTEST_TURN:
                    raise UserError(
                        f"at {pose[0]} us the car moves at {speed:.3g} m/s and turns at {yaw_rate:.3g} rad/s; "
                        f"at most {_FASTEST:g} and {_FASTEST_TURN:g} are believed"
                    )
                session.pose = pose
                session.agent.add_odometry(1e-6 * pose[0], speed, yaw_rate)
        return protocol.Empty()

    def submit_route(self, request: Any, context: Any) -> Any:
        """Takes way points in the rig frame of the latest pose."""
        with self._open(request.session_uuid, context) as session:
            if len(request.route.waypoints) > _MOST_WAYPOINTS:
                raise UserError(f"{len(request.route.waypoints)} way points; at most {_MOST_WAYPOINTS}")
            points = np.array([[point.x, point.y] for point in request.route.waypoints]).reshape(-1, 2)
            if not (np.abs(points) <= MAX_COORDINATE).all():
                raise UserError(f"a way point is not finite, or beyond {MAX_COORDINATE:g} m")
            session.route = None
            if session.pose is not None and len(points) > 1:
                session.route = to_local(points, session.pose)
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
            if request.time_now_us > LATEST:
                raise UserError(f"{request.time_now_us} us is no time")
            trajectory = protocol.Trajectory()
            if session.agent.ready and session.pose is not None:
                route = None
                if session.route is not None:
                    route = to_rig(session.route, session.pose)
                wish = NavigationRequest(self.set_speed, route=route)
                try:
                    plan = session.agent.plan(1e-6 * request.time_now_us, wish)
                except UserError as error:  # the policy's fault: the call was as it should be
                    raise _Refused(grpc.StatusCode.INTERNAL, _line(error)) from None
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
        local = to_local(position, pose)
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
    policy: Policy, name: str, where: Listening = Listening(), *, set_speed: float = 10.0
) -> Iterator[tuple[int, Egodriver]]:
    """Serve while the block runs; gives the port (a free one for 0) and who answers.

    Raises:
        UserError: The port cannot be had; the certificate is not one.
    """
    driver = Egodriver(policy, name, set_speed)
    # gRPC lets several servers share a port, each answering some of the calls.
    options = [*protocol.channel_options(), ("grpc.so_reuseport", 0)]
    checks: list[grpc.ServerInterceptor] = [] if where.token is None else [TokenCheck(where.token)]
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=checks, options=options)
    protocol.add_EgodriverServiceServicer_to_server(driver, server)
    with listening(where, server) as port:
        yield port, driver


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
    return _Refused(
        grpc.StatusCode.NOT_FOUND, f"no session {uuid[:_LONGEST_NAME]!r} is open; start one first"
    )
