"""Small CommonRoad files that tests write themselves.

A street along x with a lane either way, 3.5 m wide, from x = 0 to 100 m in two pieces; from its eastward lane at 50 m a lane
turns off to the right. A car drives east at 10 m/s, one comes towards it, one stands, somebody walks.
"""

from __future__ import annotations

import numpy as np

WIDTH = 3.5  # of a lane [m]
STEPS, DT = 60, 0.1
SPEED = 10.0  # of the car eastwards [m/s]


def _points(points: np.ndarray) -> str:
    return "".join(f"<point><x>{x:.4f}</x><y>{y:.4f}</y></point>" for x, y in points)


def line(x0: float, x1: float, y: float, count: int = 6) -> np.ndarray:
    """Points along x at a height y."""
    return np.stack([np.linspace(x0, x1, count), np.full(count, y)], -1)


def arc(radius: float, count: int = 12) -> np.ndarray:
    """A quarter circle to the right, from (50, -WIDTH / 2) eastwards, with the lane's middle at 10 m from its centre."""
    turn = np.linspace(0.0, np.pi / 2, count)
    return np.array([50.0, -WIDTH / 2 - 10.0]) + radius * np.stack([np.sin(turn), np.cos(turn)], -1)


def lanelet(name: int, left: np.ndarray, right: np.ndarray, extra: str = "", marking: str = "") -> str:
    """A lanelet of two bounds."""
    mark = f"<lineMarking>{marking}</lineMarking>" if marking else ""
    sides = f"<leftBound>{_points(left)}{mark}</leftBound><rightBound>{_points(right)}{mark}</rightBound>"
    return f'<lanelet id="{name}">{sides}{extra}</lanelet>'


def _map(version: str, width: float) -> str:
    w, users = width, "<laneletType>urban</laneletType><userOneWay>car</userOneWay>"
    users = users if version == "2020a" else ""

    def limit(stated: str) -> str:
        return f"<speedLimit>{stated}</speedLimit>" if version == "2018b" else ""

    signs = '<trafficSignRef ref="90"/><trafficLightRef ref="95"/>' if version == "2020a" else ""
    beside = '<adjacentLeft ref="{}" drivingDir="opposite"/>'
    pieces = [
        lanelet(1, line(0, 50, 0), line(0, 50, -w), f'<successor ref="2"/><successor ref="5"/>{beside.format(3)}{limit("13.89")}{users}{signs}'),
        lanelet(2, line(50, 100, 0), line(50, 100, -w), f'<predecessor ref="1"/>{beside.format(4)}{limit("13.89")}{users}'),
        lanelet(3, line(0, 50, 0)[::-1], line(0, 50, w)[::-1], f'{beside.format(1)}{users}'),
        lanelet(4, line(50, 100, 0)[::-1], line(50, 100, w)[::-1], f'<successor ref="3"/>{beside.format(2)}{users}'),
    ]  # fmt: skip
    if width == WIDTH:
        pieces.append(lanelet(5, arc(10.0 + w / 2), arc(10.0 - w / 2), f'<predecessor ref="1"/>{users}'))
    if version == "2020a":
        pieces.append(lanelet(6, line(20, 22, -6), line(20, 22, 6), "<laneletType>crosswalk</laneletType>"))
        sign = "<trafficSignElement><trafficSignID>{}</trafficSignID>{}</trafficSignElement>"
        value = "<additionalValue>13.89</additionalValue>"
        pieces.append(f'<trafficSign id="90">{sign.format(274, value)}{sign.format(206, "")}</trafficSign>')
        cycle = "".join(
            f"<cycleElement><duration>{steps}</duration><color>{colour}</color></cycleElement>"
            for steps, colour in ((20, "red"), (5, "redYellow"), (30, "green"), (5, "yellow"))
        )
        pieces.append(
            f'<trafficLight id="95"><cycle>{cycle}<timeOffset>10</timeOffset></cycle><active>true</active></trafficLight>'
        )
    return "".join(pieces)


def _state(tag: str, step: int, x: float, y: float, heading: float, speed: float) -> str:
    values = "".join(
        f"<{name}><exact>{value:.4f}</exact></{name}>"
        for name, value in (("orientation", heading), ("velocity", speed))
    )
    place = f"<position><point><x>{x:.4f}</x><y>{y:.4f}</y></point></position>"
    return f"<{tag}><time><exact>{step}</exact></time>{place}{values}</{tag}>"


def obstacle(
    version: str, name: int, kind: str, states: list[tuple], shape: str, *, moves: bool = True
) -> str:
    """An obstacle with its track."""
    first, *rest = (_state("state" if k else "initialState", *state) for k, state in enumerate(states))
    body = f"<shape>{shape}</shape>{first}" + (f"<trajectory>{''.join(rest)}</trajectory>" if moves else "")
    if version == "2018b":
        role = "dynamic" if moves else "static"
        return f'<obstacle id="{name}"><role>{role}</role><type>{kind}</type>{body}</obstacle>'
    tag = "dynamicObstacle" if moves else "staticObstacle"
    return f'<{tag} id="{name}"><type>{kind}</type>{body}</{tag}>'


CAR = "<rectangle><length>4.5</length><width>1.8</width></rectangle>"


def scene(
    version: str = "2020a",
    *,
    width: float = WIDTH,
    dt: float = DT,
    sign: float = 1.0,
    source: str = "The Intersection Drone Dataset (inD)",
    people: bool = True,
) -> str:
    """The file; `sign` turns headings round, `people` puts somebody on the street."""
    first = 3  # recordings need not begin at 0
    steps = range(first, first + STEPS)
    here = [(k, 5 + SPEED * dt * (k - first), -width / 2, 0.0, SPEED) for k in steps]
    towards = [(k, 95 - 8 * dt * (k - first), width / 2, sign * np.pi, 8.0) for k in steps]
    walk = [(k, 21.0, -6 + 1.2 * dt * (k - first), sign * np.pi / 2, 1.2) for k in steps]
    turn = 0.05 * (np.arange(STEPS))
    circle = [
        (k, 50 + 10 * np.sin(a), 40 + 10 * (1 - np.cos(a)), sign * a, 0.5 / dt)
        for k, a in zip(steps, turn, strict=True)
    ]
    obstacles = [
        obstacle(version, 71, "car", here, CAR),
        obstacle(version, 72, "truck" if version == "2020a" else "car", towards, CAR.replace("4.5", "9.5")),
        obstacle(version, 73, "parkedVehicle", [(0, 30.0, 6.0, 0.0, 0.0)], CAR, moves=False),
        obstacle(version, 74, "pedestrian", walk, "<circle><radius>0.35</radius></circle>"),
        obstacle(version, 75, "car", circle, CAR),
    ]
    problem = '<planningProblem id="800"><initialState><time><exact>0</exact></time></initialState><goalState/></planningProblem>'
    head = (
        f'commonRoadVersion="{version}" timeStepSize="{dt}" benchmarkID="DEU_Small-1_1_T-1" source="{source}"'
    )
    body = _map(version, width) + ("".join(obstacles) if people else "") + problem
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<commonRoad {head}>{body}</commonRoad>\n'
