"""Small recordings in the forms of published data sets, for the tests of their readers.

Every one tells the same story in its own format and frame: the ego drives a left turn, a parked car stands
to the left of its start, a pedestrian walks towards +y. What a reader gives is compared with that story, so a
flipped sign anywhere shows.
"""

from __future__ import annotations

import struct

import numpy as np

from countersteer.scenarios.readers import wire

COUNT, DT = 30, 0.1
YAW_RATE = 0.2  # of the ego, to the left [rad/s]
SPEED = 8.0  # of the ego [m/s]
ORIGIN = np.array([5000.0, -3000.0, 10.0])  # of the story, in the source's frame [m]
PARKED = np.array([5.0, 10.0])  # seen from the ego's start: ahead and left [m]


def ego_heading() -> np.ndarray:
    """Headings of the ego [rad]."""
    return YAW_RATE * DT * np.arange(COUNT)


def ego_path() -> np.ndarray:
    """Positions of the ego [count 2], an exact circle from (0, 0) eastwards, around (0, radius)."""
    turn, radius = ego_heading(), SPEED / YAW_RATE
    return radius * np.stack([np.sin(turn), 1 - np.cos(turn)], -1)


def ego_velocity() -> np.ndarray:
    turn = ego_heading()
    return SPEED * np.stack([np.cos(turn), np.sin(turn)], -1)


def walker_path() -> np.ndarray:
    return np.array([8.0, 3.0]) + 1.2 * DT * np.arange(COUNT)[:, None] * np.array([0.0, 1.0])


# Waymo ------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | bytes | str) -> bytes:
    """One protobuf field: whole numbers as varint, floats as double, the rest with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def single(number: int, value: float) -> bytes:
    """A float of four bytes."""
    return varint(number << 3 | 5) + struct.pack("<f", value)


def point(x: float, y: float, z: float = 9.2) -> bytes:
    return field(1, float(x)) + field(2, float(y)) + field(3, float(z))


def waymo_message(name: str = "small", *, ego: int = 0) -> bytes:
    """A `Scenario` message with the story, a light, and one map feature of every kind."""

    def track(number: int, kind: int, where: np.ndarray, turn: np.ndarray, speed: np.ndarray, size) -> bytes:
        states = b""
        for tick in range(COUNT):
            x, y = where[tick] + ORIGIN[:2]
            state = field(2, float(x)) + field(3, float(y)) + field(4, 10.0)
            for key, value in zip(range(5, 11), [*size, turn[tick], *speed[tick]], strict=True):
                state += single(key, value)
            states += field(3, state + field(11, 1)) if tick != 7 or number != 8 else field(3, field(11, 0))
        return field(2, field(1, number) + field(2, kind) + states)

    still = np.tile(PARKED, (COUNT, 1))
    zero, none = np.zeros(COUNT), np.zeros((COUNT, 2))
    walk = np.tile([0.0, 1.2], (COUNT, 1))
    message = b"".join(field(1, DT * tick) for tick in range(COUNT)) + field(5, name) + field(6, ego)
    message += track(7, 1, ego_path(), ego_heading(), ego_velocity(), (4.8, 2.0, 1.6))
    message += track(8, 1, still, zero, none, (4.5, 1.9, 1.5))
    message += track(9, 2, walker_path(), np.full(COUNT, np.pi / 2), walk, (0.7, 0.7, 1.7))
    for tick in range(COUNT):
        light = field(1, 1) + field(2, 4 if tick < 20 else 6) + field(3, point(5030, -3000))
        message += field(7, field(1, light) if tick != 5 else b"")
    east = b"".join(field(8, point(4990 + k, -3000)) for k in range(60))
    left = b"".join(field(2, point(4990 + k, -2998.2)) for k in range(60))
    right = b"".join(field(2, point(4990 + k, -3001.6)) for k in range(60))
    edges = field(13, field(1, 0) + field(2, 59) + field(3, 3)) + field(
        14, field(1, 0) + field(2, 59) + field(3, 4)
    )
    square = b"".join(
        field(1, point(5020 + a, -3003 + b)) for a, b in ((0, 0), (3, 0), (3, 6), (0, 6), (0, 0))
    )
    features = [
        (1, 3, field(1, 25.0) + field(2, 2) + east + edges),
        (2, 3, field(2, 3) + east),  # a bicycle lane
        (3, 4, field(1, 6) + left),  # single solid yellow
        (4, 5, right),
        (5, 7, field(1, 1) + field(2, point(5003, -3000))),
        (6, 8, square),
        (7, 9, square),
        (8, 10, square),
        (9, 4, field(1, 1) + left),  # broken single white
    ]
    for number, kind, body in features:
        message += field(8, field(1, number) + field(kind, body))
    return message + field(10, 10)


def tfrecord(*messages: bytes) -> bytes:
    """TFRecord of some messages."""
    data = b""
    for message in messages:
        length = struct.pack("<Q", len(message))
        data += length + struct.pack("<I", wire.masked_crc(length))
        data += message + struct.pack("<I", wire.masked_crc(message))
    return data
