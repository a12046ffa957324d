"""Realism of simulated agents: the meta-metric of the Waymo Open Sim Agents Challenge (Montali et al. 2023).

How likely is what was recorded under what a simulator rolls out? For each feature and agent, a histogram of the
rollouts gives a probability to the recorded value; a feature's likelihood is the exponential of the mean
logarithm, and the score is a weighted mean of ten features. Weights and histograms of 2025 and of 2024;
scores of different years must not be mixed.

Derived from the papers and the published configuration and unit tests, not from the evaluation's code, which
has a licence of its own. Samples that are not valid (the ends of a central difference) are left out of the
histograms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.drive import Road
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polygons
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = [
    "WEIGHTS_2024",
    "WEIGHTS_2025",
    "AgentFeatures",
    "Histogram",
    "RealismParts",
    "agent_features",
    "bernoulli_log_likelihood",
    "buckets",
    "central_difference",
    "central_validity",
    "histogram_log_likelihood",
    "likelihood",
    "realism",
    "score_realism",
]

CORNER_ROUNDING = 0.7
LONGEST_TIME_TO_COLLISION = 5.0  # [s]


@dataclass(frozen=True)
class Histogram:
    """Equal bins over a range, with a pseudocount in each."""

    low: float
    high: float
    bins: int
    pseudocount: float = 0.1


@dataclass(frozen=True)
class RealismParts:
    """A number for each feature: its likelihood in (0, 1], or its weight."""

    linear_speed: float
    linear_acceleration: float
    angular_speed: float
    angular_acceleration: float
    distance_to_nearest_object: float
    collision_indication: float
    time_to_collision: float
    distance_to_road_edge: float
    offroad_indication: float
    traffic_light_violation: float


WEIGHTS_2025 = RealismParts(0.05, 0.05, 0.05, 0.05, 0.10, 0.25, 0.10, 0.05, 0.25, 0.05)
WEIGHTS_2024 = RealismParts(0.05, 0.05, 0.05, 0.05, 0.10, 0.25, 0.10, 0.10, 0.25, 0.0)
_NAMES = tuple(f.name for f in fields(RealismParts))
_BUCKETS = {"kinematic": _NAMES[:4], "interactive": _NAMES[4:7], "map": _NAMES[7:]}
_HISTOGRAMS = {
    "linear_speed": Histogram(0.0, 25.0, 10),
    "linear_acceleration": Histogram(-12.0, 12.0, 11),
    "angular_speed": Histogram(-0.628, 0.628, 11),
    "angular_acceleration": Histogram(-3.14, 3.14, 11),
    "distance_to_nearest_object": Histogram(-5.0, 40.0, 10),
    "time_to_collision": Histogram(0.0, 5.0, 10),
    "distance_to_road_edge": Histogram(-20.0, 40.0, 10),
}


def realism(parts: RealismParts, weights: RealismParts = WEIGHTS_2025) -> float:
    """The meta-metric: mean of the likelihoods by weight."""
    return sum(getattr(parts, name) * getattr(weights, name) for name in _NAMES)


def buckets(parts: RealismParts, weights: RealismParts = WEIGHTS_2025) -> dict[str, float]:
    """Mean by weight of the kinematic, the interactive and the map features."""
    return {
        bucket: sum(getattr(parts, n) * getattr(weights, n) for n in names)
        / sum(getattr(weights, n) for n in names)
        for bucket, names in _BUCKETS.items()
    }


def central_difference(
    values: Float[ndarray, "*batch time"], pad: float = math.nan
) -> Float[ndarray, "*batch time"]:
    """(x[t+1] - x[t-1]) / 2, `pad` at both ends."""
    result = np.full(values.shape, pad)
    result[..., 1:-1] = (values[..., 2:] - values[..., :-2]) / 2
    return result


def central_validity(valid: Bool[ndarray, "*batch time"], pad: bool = False) -> Bool[ndarray, "*batch time"]:
    """Where both neighbours are valid, `pad` at both ends."""
    result = np.full(valid.shape, pad)
    result[..., 1:-1] = valid[..., 2:] & valid[..., :-2]
    return result


def histogram_log_likelihood(
    logged: Float[ndarray, "agent time"], simulated: Float[ndarray, "agent sample"], histogram: Histogram
) -> Float[ndarray, "agent time"]:
    """Logarithm of the probability that an agent's simulated samples give its logged values.

    Values beyond the range count in the outermost bins. NaN among the samples does not count; a logged NaN
    gives a number without meaning, which the caller must mask.

    Args:
        logged: Recorded values.
        simulated: Samples of all rollouts, and of all steps where the feature pools them.
        histogram: Bins.
    """
    edges = np.linspace(histogram.low, histogram.high, histogram.bins + 1)

    def bin_of(values: ndarray) -> ndarray:
        return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, histogram.bins - 1)

    counts = np.full((len(simulated), histogram.bins), histogram.pseudocount)
    for agent, samples in enumerate(simulated):
        counts[agent] += np.bincount(bin_of(samples[~np.isnan(samples)]), minlength=histogram.bins)
    with np.errstate(divide="ignore"):
        logs = np.log(counts / counts.sum(-1, keepdims=True))
    return np.take_along_axis(logs, bin_of(logged), axis=-1)


def bernoulli_log_likelihood(
    logged: Bool[ndarray, "agent"], simulated: Bool[ndarray, "agent rollout"], pseudocount: float = 0.001
) -> Float[ndarray, "agent"]:
    """Logarithm of the probability that an agent's rollouts give its logged flag."""
    hits = simulated.sum(-1)
    share = (hits + pseudocount) / (simulated.shape[-1] + 2 * pseudocount)
    return np.log(np.where(logged, share, 1.0 - share))


def likelihood(log_likelihood: Float[ndarray, "*batch"], valid: Bool[ndarray, "*batch"]) -> float:
    """exp of the mean over what is valid; 1 if nothing is."""
    return float(np.exp(log_likelihood[valid].mean())) if valid.any() else 1.0


@dataclass(frozen=True)
class AgentFeatures:
    """Features of the evaluated agents over time; NaN where one is not defined.

    Attributes:
        linear_speed: [m/s].
        linear_acceleration: Change of the speed [m/s^2].
        angular_speed: [rad/s].
        angular_acceleration: [rad/s^2].
        distance_to_nearest_object: Between boxes with rounded corners, negative where they overlap [m].
        time_to_collision: With the vehicle in front, at most 5 [s].
        distance_to_road_edge: Of the corner farthest out, positive off the road [m].
        red_light: Where the agent crosses a stop line while its light is red.
    """

    linear_speed: Float[ndarray, "agent time"]
    linear_acceleration: Float[ndarray, "agent time"]
    angular_speed: Float[ndarray, "agent time"]
    angular_acceleration: Float[ndarray, "agent time"]
    distance_to_nearest_object: Float[ndarray, "agent time"]
    time_to_collision: Float[ndarray, "agent time"]
    distance_to_road_edge: Float[ndarray, "agent time"]
    red_light: Bool[ndarray, "agent time"]


def _nearest(tracks: Tracks, agents: ndarray) -> Float[ndarray, "agent time"]:
    size = tracks.size[:, :2]
    radius = CORNER_ROUNDING * size.min(-1) / 2
    inner = np.broadcast_to((size - 2 * radius[:, None])[:, None], (*tracks.heading.shape, 2))
    boxes = polygons.rectangle(np.nan_to_num(tracks.position[..., :2]), np.nan_to_num(tracks.heading), inner)
    result = np.full((len(agents), tracks.valid.shape[1]), np.nan)
    for k, agent in enumerate(agents):
        others = np.arange(len(tracks.ids)) != agent
        gaps = polygons.rectangle_distance(np.broadcast_to(boxes[agent], boxes[others].shape), boxes[others])
        gaps = gaps - radius[agent] - radius[others, None]
        gaps = np.where(tracks.valid[others], gaps, np.inf)
        nearest = gaps.min(0) if others.any() else np.full(result.shape[1], np.inf)
        result[k] = np.where(tracks.valid[agent], nearest, np.nan)
    return result


def _time_to_collision(tracks: Tracks, agents: ndarray, speed: ndarray) -> Float[ndarray, "agent time"]:
    """Gap to the vehicle in front over the closing speed.

    In front is the nearest vehicle ahead that overlaps the agent's width, with headings within 75 degrees, or
    within 10 where they overlap by less than 0.5 m.
    """
    result = np.full((len(agents), tracks.valid.shape[1]), LONGEST_TIME_TO_COLLISION)
    vehicle = tracks.kind == ActorKind.VEHICLE
    length, width = tracks.size[:, 0, None], tracks.size[:, 1, None]
    for k, agent in enumerate(agents):
        if not vehicle[agent]:
            result[k] = np.nan
            continue
        turn = np.abs(wrap_angle(tracks.heading - tracks.heading[agent]))
        x, y = np.moveaxis(
            local_from_world(tracks.position[..., :2], tracks.position[agent, :, :2], tracks.heading[agent]),
            -1,
            0,
        )
        along = (length * np.abs(np.cos(turn)) + width * np.abs(np.sin(turn)) + length[agent]) / 2
        across = (length * np.abs(np.sin(turn)) + width * np.abs(np.cos(turn)) + width[agent]) / 2
        gap, overlap = x - along, across - np.abs(y)
        follows = (turn <= math.radians(75)) & ((overlap >= 0.5) | (turn <= math.radians(10)))
        ahead = tracks.valid & vehicle[:, None] & (gap > 0) & (overlap > 0) & follows
        ahead[agent] = False
        gap = np.where(ahead, gap, np.inf)
        leader = gap.argmin(0)
        steps = np.arange(gap.shape[1])
        closing = speed[agent] - speed[leader, steps]
        with np.errstate(divide="ignore", invalid="ignore"):
            seconds = gap[leader, steps] / closing
        real = ahead.any(0) & (closing > 0)
        result[k] = np.where(real, np.minimum(seconds, LONGEST_TIME_TO_COLLISION), LONGEST_TIME_TO_COLLISION)
        result[k] = np.where(np.isnan(speed[agent]), np.nan, result[k])
    return result


def _to_edge(tracks: Tracks, agents: ndarray, road: Road) -> Float[ndarray, "agent time"]:
    shape = (len(agents), tracks.valid.shape[1])
    if not road.edges:
        return np.full(shape, np.nan)
    corners = polygons.rectangle(
        np.nan_to_num(tracks.position[agents, :, :2]),
        np.nan_to_num(tracks.heading[agents]),
        np.broadcast_to(tracks.size[agents, None, :2], (*shape, 2)),
    )
    signed = np.stack([polygons.side_distance(edge, corners) for edge in road.edges], -1)
    best = np.abs(signed).argmin(-1)[..., None]
    return np.take_along_axis(signed, best, -1)[..., 0].max(-1)


def agent_features(
    tracks: Tracks,
    dt: float,
    road: Road,
    agents: Int[ndarray, "agent"],
    red_light: Bool[ndarray, "agent time"] | None = None,
) -> AgentFeatures:
    """Features of some of the agents of a scene.

    Args:
        tracks: Everybody in the scene.
        dt: Interval [s].
        road: Its edges, with the road on their left.
        agents: Who is evaluated.
        red_light: Where each crosses a stop line on red; None for nowhere.
    """
    speed = np.sqrt(sum(central_difference(tracks.position[..., axis]) ** 2 for axis in range(3))) / dt
    speed = np.where(central_validity(tracks.valid), speed, np.nan)
    heading = np.where(tracks.valid, tracks.heading, np.nan)
    turn = np.full(heading.shape, np.nan)
    turn[:, 1:-1] = wrap_angle(heading[:, 2:] - heading[:, :-2]) / 2 / dt
    return AgentFeatures(
        linear_speed=speed[agents],
        linear_acceleration=central_difference(speed)[agents] / dt,
        angular_speed=turn[agents],
        angular_acceleration=central_difference(turn)[agents] / dt,
        distance_to_nearest_object=_nearest(tracks, agents),
        time_to_collision=_time_to_collision(tracks, agents, speed),
        distance_to_road_edge=np.where(tracks.valid[agents], _to_edge(tracks, agents, road), np.nan),
        red_light=np.zeros((len(agents), tracks.valid.shape[1]), bool) if red_light is None else red_light,
    )


def score_realism(
    logged: AgentFeatures, rollouts: Sequence[AgentFeatures], weights: RealismParts = WEIGHTS_2025
) -> Score[RealismParts]:
    """Realism of the rollouts of one scenario, in (0, 1]; the benchmark's is the mean over scenarios.

    Even the log itself does not reach 1: the pseudocounts and the bins cost something.

    Args:
        logged: What was recorded, NaN where an agent was not valid.
        rollouts: The same agents and steps, 32 times 80 steps in the challenge.
        weights: Of the year.

    Raises:
        UserError: If there is no rollout, or a rollout has other agents or steps.
    """
    shapes = {one.linear_speed.shape for one in (logged, *rollouts)}
    if not rollouts or len(shapes) > 1:
        raise UserError(
            "rollouts and the log must cover the same agents and steps",
            got=f"{len(rollouts)} rollouts, shapes {sorted(shapes)}",
            expected="at least one rollout, all of the log's shape",
        )
    found: list[Finding] = []

    def keep(name: str, logs: ndarray, valid: ndarray) -> float:
        value = likelihood(logs, valid)
        means = [logs[k][valid[k]].mean() if valid[k].any() else 0.0 for k in range(len(logs))]
        if means:
            worst = int(np.argmin(means))
            found.append(
                Finding(name, None, (worst,), math.exp(means[worst]), "likelihood of the least likely agent")
            )
        return value

    values: dict[str, float] = {}
    for name, histogram in _HISTOGRAMS.items():
        log = getattr(logged, name)
        samples = np.concatenate([getattr(one, name) for one in rollouts], -1)
        values[name] = keep(name, histogram_log_likelihood(log, samples, histogram), ~np.isnan(log))
    here = ~np.isnan(logged.distance_to_nearest_object)
    flags = {
        "collision_indication": lambda one: one.distance_to_nearest_object < 0.0,
        "offroad_indication": lambda one: one.distance_to_road_edge > 0.0,
        "traffic_light_violation": lambda one: one.red_light,
    }
    for name, flag in flags.items():
        log = (flag(logged) & here).any(-1)
        rolled = np.stack([(flag(one) & here).any(-1) for one in rollouts], -1)
        logs = bernoulli_log_likelihood(log, rolled)
        values[name] = keep(name, logs[:, None], np.asarray(here.any(-1, keepdims=True)))
    parts = RealismParts(**values)
    return Score(realism(parts, weights), parts, tuple(found))
