"""The car in which NAVSIM drives plans before it scores them: a kinematic bicycle with lagging actuators.

Reference: `batch_kinematic_bicycle.py` and `pdm_simulator.py` of navsim 0a380a9, after nuPlan's
`KinematicBicycleModel`. Our own worlds have a bicycle of their own (`vehicles.bicycle`); this one is
kept to the reference's order of operations, since scores under its name depend on it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

__all__ = ["PACIFICA_WHEELBASE", "BicycleState", "step"]

PACIFICA_WHEELBASE = 3.089
"""[m]; the car is 5.176 m long and 2.297 m wide, its centre 1.461 m ahead of the rear axle."""
_ACCELERATION_LAG, _STEERING_LAG = 0.2, 0.05  # [s]
_LARGEST_STEERING = math.pi / 3


@dataclass(frozen=True)
class BicycleState:
    """State at the rear axle.

    Attributes:
        x, y: [m, world].
        heading: [rad, in [-pi, pi)].
        speed: [m/s].
        acceleration: [m/s^2].
        steering: Angle of the front wheel [rad].
        yaw_rate: [rad/s].
        yaw_acceleration: [rad/s^2].
    """

    x: float = 0.0
    y: float = 0.0
    heading: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0
    steering: float = 0.0
    yaw_rate: float = 0.0
    yaw_acceleration: float = 0.0


def step(state: BicycleState, acceleration: float, steering_rate: float, dt: float) -> BicycleState:
    """One explicit Euler step under a command.

    The command passes first-order lags with gain dt / (dt + lag); pose and speed then advance by what
    the state was, the steering by what it became.

    Args:
        state: Now.
        acceleration: Commanded [m/s^2].
        steering_rate: Commanded [rad/s].
        dt: [s].
    """
    lagged = state.acceleration + dt / (dt + _ACCELERATION_LAG) * (acceleration - state.acceleration)
    steered = dt / (dt + _STEERING_LAG) * dt * steering_rate
    heading = state.heading + dt * state.speed * math.tan(state.steering) / PACIFICA_WHEELBASE
    speed = state.speed + dt * lagged
    steering = min(max(state.steering + steered, -_LARGEST_STEERING), _LARGEST_STEERING)
    yaw_rate = speed * math.tan(steering) / PACIFICA_WHEELBASE
    return dataclasses.replace(
        state,
        x=state.x + dt * state.speed * math.cos(state.heading),
        y=state.y + dt * state.speed * math.sin(state.heading),
        heading=math.remainder(heading, 2 * math.pi),
        speed=speed,
        acceleration=lagged,
        steering=steering,
        yaw_rate=yaw_rate,
        yaw_acceleration=(yaw_rate - state.yaw_rate) / dt,
    )
