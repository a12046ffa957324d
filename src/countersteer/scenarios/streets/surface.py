"""The pavement around a drive: where it ends, as polygons and as edges, found on a raster of its lanes.

Maps draw junctions in many ways or not at all. On a raster their lanes and areas simply add up; slits between them that
no kerb would fit into are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from countersteer.geometry.polylines import offset
from countersteer.scenarios.procedural.sections import feature
from countersteer.scenarios.scenario import MapFeature, MapKind

__all__ = ["Ribbon", "Surface"]

_CELL = 0.25  # in which lanes are drawn [m]
_FINE = 2  # outlines are found on cells so many times smaller, from a blurred raster: without its steps
_BLUR = 1.5  # standard deviation of that [cells]
_SLIT = 2.5  # pavement surrounds no gap narrower than this [m]
_TILE = 400  # side of a polygon [fine cells]
_SMALLEST_TILE = 24
_TOLERANCE = 0.12  # of outlines [m]
_ISLAND = 3.0  # smaller islands and specks are none [m^2]
_BITS = 4  # fractional bits of drawn coordinates


@dataclass(frozen=True)
class Ribbon:
    """Pavement along a line: so far [m] to its left and right."""

    line: Float[ndarray, "n 2"]
    left: float
    right: float


@dataclass(frozen=True)
class Surface:
    """Pavement on a raster.

    Attributes:
        origin: Corner of its first cell [m].
        mask: Where it is, on fine cells.
    """

    origin: Float[ndarray, "2"]
    mask: UInt8[ndarray, "rows cols"]

    @classmethod
    def of(
        cls,
        low: Float[ndarray, 2],
        high: Float[ndarray, 2],
        ribbons: Sequence[Ribbon],
        areas: Sequence[Float[ndarray, "_ 2"]],
    ) -> Surface:
        """The pavement of ribbons and areas between two corners [m]."""
        import cv2

        cols, rows = (int(n) for n in np.ceil((high - low) / _CELL))
        mask = np.zeros((rows, cols), np.uint8)

        def cells(points: ndarray) -> ndarray:
            return np.round(((points - low) / _CELL - 0.5) * (1 << _BITS)).astype(np.int32)[:, None]

        for ribbon in ribbons:
            thick = max(round((ribbon.left + ribbon.right) / _CELL), 1)
            middle = offset(ribbon.line, (ribbon.left - ribbon.right) / 2)
            cv2.polylines(mask, [cells(middle)], False, 1, thick, cv2.LINE_8, _BITS)
        for area in areas:
            cv2.fillPoly(mask, [cells(area)], 1, cv2.LINE_8, _BITS)
        size = round(_SLIT / _CELL) | 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        padded = cv2.copyMakeBorder(mask, size, size, size, size, cv2.BORDER_CONSTANT)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[size:-size, size:-size]
        whole = _without_islands(np.ascontiguousarray(closed))
        soft = cv2.GaussianBlur(whole * np.uint8(200), (0, 0), _BLUR)
        fine = cv2.resize(soft, (cols * _FINE, rows * _FINE), interpolation=cv2.INTER_LINEAR)
        return cls(np.asarray(low, float), (fine > 100).astype(np.uint8))

    def inside(self, points: Float[ndarray, "n 2"]) -> Bool[ndarray, "n"]:
        """Whether there is pavement at each point; there is none beyond the raster."""
        cols, rows = np.floor((points - self.origin) / _CELL * _FINE).astype(int).T
        known = (cols >= 0) & (rows >= 0) & (cols < self.mask.shape[1]) & (rows < self.mask.shape[0])
        return known & (self.mask[np.where(known, rows, 0), np.where(known, cols, 0)] > 0)

    def features(self) -> list[MapFeature]:
        """Its edges, and polygons without holes that cover it."""
        import cv2

        found = []
        padded = cv2.copyMakeBorder(self.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        for k, contour in enumerate(contours):
            line = self._points(contour, -1, -1)
            found.append(feature(f"edge_{k}", MapKind.ROAD_EDGE, np.concatenate([line, line[:1]])))
        return found + [
            feature(f"pavement_{k}", MapKind.DRIVABLE_AREA, outline)
            for k, outline in enumerate(self._outlines())
        ]

    def _points(self, contour: ndarray, row: int, col: int) -> Float[ndarray, "n 2"]:
        import cv2

        thin = cv2.approxPolyDP(contour, _TOLERANCE * _FINE / _CELL, True)[:, 0].astype(float)
        return self.origin + (thin + np.array([col + 0.5, row + 0.5])) * _CELL / _FINE

    def _outlines(self) -> list[Float[ndarray, "n 2"]]:
        """Polygons of the pavement, tile by tile; a tile in which one would have a hole is cut in two."""
        import cv2

        rows, cols = self.mask.shape
        waiting = [(r, r + _TILE, c, c + _TILE) for r in range(0, rows, _TILE) for c in range(0, cols, _TILE)]
        found: list[ndarray] = []
        while waiting:
            top, bottom, left, right = waiting.pop()
            # Neighbours share the cells at their border: outlines go through the middle of cells.
            part = np.ascontiguousarray(self.mask[top : bottom + 1, left : right + 1])
            if not part.any():
                continue
            contours, tree = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            outer = tree[0, :, 3] < 0
            if not outer.all() and max(bottom - top, right - left) > _SMALLEST_TILE:
                if bottom - top >= right - left:
                    middle = (top + bottom) // 2
                    waiting += [(top, middle, left, right), (middle, bottom, left, right)]
                else:
                    middle = (left + right) // 2
                    waiting += [(top, bottom, left, middle), (top, bottom, middle, right)]
                continue
            lines = (
                self._points(contour, top, left)
                for contour, kept in zip(contours, outer, strict=True)
                if kept
            )
            found += [line for line in lines if len(line) > 2]
        return found


def _without_islands(mask: ndarray) -> UInt8[ndarray, "rows cols"]:
    """The pavement without specks of it, and without small islands in it."""
    import cv2

    for value in (1, 0):
        count, label, stats, _ = cv2.connectedComponentsWithStats(
            (mask == value).astype(np.uint8), connectivity=4
        )
        small = np.flatnonzero(stats[1:count, cv2.CC_STAT_AREA] < _ISLAND / _CELL**2) + 1
        if len(small):
            mask[np.isin(label, small)] = 1 - value
    return mask
