"""What films are made of: pictures become an mp4 that every browser plays, and words get into pictures.

H.264 in 4:2:0 with the index in front is what every browser plays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.errors import shown

__all__ = [
    "FAINT",
    "SHIFT",
    "fixed",
    "INK",
    "PAGE",
    "Color",
    "disc",
    "encode",
    "fill",
    "line",
    "pill",
    "shorten",
    "text_mask",
    "write",
]

Color = tuple[int, int, int]

PAGE: Color = (11, 13, 17)
INK: Color = (236, 239, 244)
FAINT: Color = (150, 158, 170)

SHIFT = 4  # fractional bits of the positions given to OpenCV


def encode(
    frames: Iterable[UInt8[ndarray, "height width 3"]], rate: Fraction | int, size: tuple[int, int]
) -> bytes:
    """The bytes of an mp4 of RGB frames of one size: width, height [pixels], both even, as 4:2:0 needs."""
    import av

    width, height = size
    # The index can only be moved to the front of a file that can be read again, hence a real one.
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder) / "film.mp4"
        with av.open(str(name), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": "23", "preset": "superfast", "g": "30"}
            # OpenCV converts by BT.601 in studio range; a browser left to guess shifts the colours.
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = 6, 1, 1
            context.color_range = 1
            for image in frames:
                halved = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(halved, format="yuv420p")))
            container.mux(stream.encode())
        return name.read_bytes()


_LONGEST_TEXT = 500  # [letters]


@cache
def _font(size: int, bold: bool):
    # OpenCV's own letters are strokes without accents; matplotlib brings a proper typeface.
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


@lru_cache(maxsize=4096)
def text_mask(text: str, size: int, bold: bool) -> UInt8[ndarray, "height width"]:
    """Coverage of a line of text, cut where no picture is as wide; the baseline is `size` below the top."""
    from PIL import Image, ImageDraw

    font, text = _font(size, bold), shown(text)[:_LONGEST_TEXT]
    canvas = Image.new("L", (int(font.getlength(text)) + 2, size + size // 2))
    ImageDraw.Draw(canvas).text((0, size), text, fill=255, font=font, anchor="ls")
    return np.asarray(canvas)


def write(
    image: ndarray, text: str, at: tuple[int, int], size: int, color: Color, *, bold: bool = False
) -> int:
    """Write a line whose baseline starts at `at`, cut at the picture's border; returns where it ends."""
    if not text:
        return at[0]
    mask = text_mask(text, size, bold)
    left, top = at[0], at[1] - size
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + mask.shape[1], image.shape[1]), min(top + mask.shape[0], image.shape[0])
    if x0 < x1 and y0 < y1:
        share = mask[y0 - top : y1 - top, x0 - left : x1 - left, None] / 255.0
        below = image[y0:y1, x0:x1]
        below[:] = np.round(below * (1 - share) + np.array(color) * share).astype(np.uint8)
    return left + mask.shape[1]


def shorten(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    font = _font(size, bold)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def fixed(points: ndarray) -> ndarray:
    """Positions as OpenCV takes them: whole sixteenths of a pixel, pixel centres at whole pixels."""
    # Far outside the picture they would overflow.
    return np.round(np.clip(points, -3e4, 3e4) * (1 << SHIFT)).astype(np.int32)


def line(image: ndarray, points: ndarray, color: Color, width: int, *, closed: bool = False) -> None:
    """Draw a line through points [n 2], in pixels."""
    if len(points) > 1:
        cv2.polylines(image, [fixed(points)], closed, color, width, cv2.LINE_AA, SHIFT)


def fill(image: ndarray, points: ndarray, color: Color) -> None:
    """Fill a polygon of corners [n 2], in pixels."""
    if len(points) > 2:
        cv2.fillPoly(image, [fixed(points)], color, cv2.LINE_AA, SHIFT)


def disc(image: ndarray, point: ndarray, radius: float | int, color: Color, *, width: int = -1) -> None:
    """Draw a disc, or a ring of some width."""
    x, y = fixed(point)
    cv2.circle(image, (int(x), int(y)), round(radius * (1 << SHIFT)), color, width, cv2.LINE_AA, SHIFT)


def pill(image: ndarray, place: tuple[int, int, int, int], color: Color, *, filled: bool) -> None:
    """Draw a bar with round ends in a place: x, y, width, height [pixels]."""
    x, y, width, height = place
    radius = height / 2
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 16)
    arc = np.stack([np.cos(turn), np.sin(turn)], -1) * radius
    left, right = np.array([x + radius, y + radius]), np.array([x + width - radius, y + radius])
    outline = np.concatenate([arc + left, right - arc])
    if filled:
        fill(image, outline, color)
    else:
        line(image, np.concatenate([outline, outline[:1]]), color, 2)
