"""Universal Transverse Mercator: latitude and longitude on the WGS84 ellipsoid to metres in a zone's plane."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = ["utm", "utm_zone"]

_SEMI_MAJOR, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS84
_SCALE, _FALSE_EASTING = 0.9996, 500_000.0
_N = _FLATTENING / (2 - _FLATTENING)
_RADIUS = _SEMI_MAJOR / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_ALPHA = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)


def utm_zone(longitude: float) -> int:
    """Number of the zone, 1 to 60, of a longitude [degrees]."""
    return int((longitude + 180.0) // 6.0) % 60 + 1


def utm(
    latitude: Float[ndarray, "*batch"], longitude: Float[ndarray, "*batch"], zone: int
) -> Float[ndarray, "*batch 2"]:
    """Easting and northing [m] of places, by Krueger's series to the fourth order: below a millimetre within a zone.

    Args:
        latitude: [degrees]; south is negative, and so are its northings.
        longitude: [degrees].
        zone: 1 to 60.

    Source: C. F. F. Karney, "Transverse Mercator with an accuracy of a few nanometers", J. Geodesy 85, 2011.
    """
    phi, away = np.radians(latitude), np.radians(longitude - (6.0 * zone - 183.0))
    e = math.sqrt(_FLATTENING * (2 - _FLATTENING))
    tau = np.tan(phi)
    sigma = np.sinh(e * np.arctanh(e * np.sin(phi)))
    conformal = tau * np.sqrt(1 + sigma**2) - sigma * np.sqrt(1 + tau**2)
    xi = np.arctan2(conformal, np.cos(away))
    eta = np.arcsinh(np.sin(away) / np.hypot(conformal, np.cos(away)))
    terms = range(1, len(_ALPHA) + 1)
    x = eta + sum(a * np.cos(2 * j * xi) * np.sinh(2 * j * eta) for j, a in zip(terms, _ALPHA, strict=True))
    y = xi + sum(a * np.sin(2 * j * xi) * np.cosh(2 * j * eta) for j, a in zip(terms, _ALPHA, strict=True))
    return np.stack([_FALSE_EASTING + _SCALE * _RADIUS * x, _SCALE * _RADIUS * y], -1)
