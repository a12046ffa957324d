"""The lines of OpenDRIVE: reference lines from their pieces, and the piecewise cubics along them.

Format: ASAM OpenDRIVE 1.4 to 1.8, chapters geometry, elevation and lanes. Stations are metres along the reference line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.roads.xml_files import number
from countersteer.errors import UserError

__all__ = ["Cubics", "ReferenceLine"]

_FINE = 0.25  # step of what is integrated [m]
_LONGEST = 100e3  # road [m]


@dataclass(frozen=True)
class Cubics:
    """A function of the station in pieces, each a + b d + c d² + d d³ of the distance d from where it begins.

    Attributes:
        begins: Stations [m], increasing.
        factors: a, b, c, d of each piece; without a piece the function is 0.
    """

    begins: Float[ndarray, "n"]
    factors: Float[ndarray, "n 4"]

    @classmethod
    def of(cls, elements: Iterable[Element], station: str = "s", begin: float = 0.0) -> Cubics:
        """The pieces in some elements, whose attribute `station` is counted from `begin` [m]."""
        rows = sorted(
            ((number(each, station, 0.0), *(number(each, key, 0.0) for key in "abcd")) for each in elements),
            key=lambda row: row[0],
        )
        table = np.array(rows, float).reshape(-1, 5)
        return cls(table[:, 0] + begin, table[:, 1:])

    def at(self, s: Float[ndarray, "q"]) -> Float[ndarray, "q"]:
        """Values at stations [m]."""
        if not len(self.begins):
            return np.zeros(len(s))
        piece = np.maximum(np.searchsorted(self.begins, s, side="right") - 1, 0)
        d = s - self.begins[piece]
        a, b, c, e = self.factors[piece].T
        return np.where(s < self.begins[0], 0.0, a + d * (b + d * (c + d * e)))


@dataclass(frozen=True)
class ReferenceLine:
    """The line that stations are counted along, finely sampled.

    Attributes:
        s: Stations [m].
        points: [m].
        heading: [rad].
    """

    s: Float[ndarray, "n"]
    points: Float[ndarray, "n 2"]
    heading: Float[ndarray, "n"]

    @classmethod
    def of(cls, road: Element) -> ReferenceLine:
        """The line of a `road` element.

        Raises:
            UserError: It has no pieces, or one that cannot be.
        """
        parts = []
        for piece in road.iterfind("planView/geometry"):
            length = number(piece, "length")
            if not 0.0 <= length <= _LONGEST:
                raise UserError(
                    f"road {road.get('id', '')!r} has a wrong length",
                    got=f"{length:g} m",
                    expected="0 to 100 km",
                )
            if length > 1e-6 and len(piece):
                parts.append(_piece(piece, length))
        if not parts:
            raise UserError(
                f"road {road.get('id', '')!r} has no line",
                got="no <geometry> with a length",
                expected="planView",
            )
        parts.sort(key=lambda part: part[0][0])
        s, points, heading = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return cls(s, points, np.unwrap(heading))

    def at(self, s: Float[ndarray, "q"]) -> tuple[Float[ndarray, "q 2"], Float[ndarray, "q"]]:
        """Points [m] and headings [rad] at stations [m]."""
        points = np.stack([np.interp(s, self.s, self.points[:, k]) for k in range(2)], axis=1)
        return points, np.interp(s, self.s, self.heading)

    def beside(self, s: Float[ndarray, "q"], t: Float[ndarray, "q"]) -> Float[ndarray, "q 2"]:
        """Points at stations, `t` [m] to the left of the line."""
        points, heading = self.at(s)
        return points + t[:, None] * np.stack([-np.sin(heading), np.cos(heading)], axis=1)


def _piece(piece: Element, length: float) -> tuple[ndarray, ndarray, ndarray]:
    """Stations, points and headings of one `geometry` element."""
    begin, heading = number(piece, "s"), number(piece, "hdg")
    origin = np.array([number(piece, "x"), number(piece, "y")])
    d = np.linspace(0.0, length, max(int(np.ceil(length / _FINE)), 1) + 1)
    shape = piece[0]
    if shape.tag == "line":
        local, turned = np.stack([d, np.zeros(len(d))], axis=1), np.zeros(len(d))
    elif shape.tag in ("arc", "spiral"):
        first = number(shape, "curvature" if shape.tag == "arc" else "curvStart")
        last = first if shape.tag == "arc" else number(shape, "curvEnd")
        local, turned = _bend(d, first, last)
    elif shape.tag in ("poly3", "paramPoly3"):
        local, turned = _polynomial(shape, d)
    else:
        raise UserError(
            f"a piece of a road has the unknown shape <{shape.tag[:40]}>",
            got=shape.tag[:40],
            expected="line, arc, spiral, poly3 or paramPoly3",
        )
    cos, sin = np.cos(heading), np.sin(heading)
    points = origin + local @ np.array([[cos, sin], [-sin, cos]])
    return begin + d, points, heading + turned


def _bend(d: ndarray, first: float, last: float) -> tuple[ndarray, ndarray]:
    """A curve whose curvature [1/m] grows linearly; Simpson's rule over each step."""
    if max(abs(first), abs(last)) > 10.0:
        raise UserError(
            "a bend is too tight", got=f"curvature {first:g} to {last:g}", expected="a radius above 0.1 m"
        )
    slope = (last - first) / d[-1]
    turned = d * (first + slope * d / 2)
    middle = (d[1:] + d[:-1]) / 2
    between = middle * (first + slope * middle / 2)
    step = np.diff(d)[:, None] / 6
    ahead = [np.stack([np.cos(angle), np.sin(angle)], axis=1) for angle in (turned, between)]
    moves = step * (ahead[0][:-1] + 4 * ahead[1] + ahead[0][1:])
    return np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)]), turned


def _polynomial(shape: Element, d: ndarray) -> tuple[ndarray, ndarray]:
    """`poly3` (v of u) or `paramPoly3` (u and v of a parameter), by distance along the curve."""
    length = d[-1]
    if shape.tag == "poly3":
        u_factors, v_factors = [0.0, 1.0, 0.0, 0.0], [number(shape, key, 0.0) for key in "abcd"]
        p = d
    else:
        u_factors, v_factors = ([number(shape, key + side, 0.0) for key in "abcd"] for side in "UV")
        p = d / length if shape.get("pRange", "normalized") == "normalized" else d
    u, v = np.polyval(u_factors[::-1], p), np.polyval(v_factors[::-1], p)
    du, dv = (np.polyval(np.polyder(np.array(factors[::-1])), p) for factors in (u_factors, v_factors))
    points, turned = np.stack([u, v], axis=1), np.unwrap(np.arctan2(dv, du))
    # The parameter runs evenly, the station along the curve; where both ends agree, the way between does too.
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    if along[-1] < 1e-9 or not np.isfinite(along[-1]):
        raise UserError("a piece of a road has no length", got="a polynomial that stands", expected="a curve")
    reached = along if shape.tag == "poly3" else along * (length / along[-1])
    return np.stack([np.interp(d, reached, points[:, k]) for k in range(2)], axis=1), np.interp(
        d, reached, turned
    )
