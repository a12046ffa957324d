"""Pictures from bytes of unknown origin: the size that a file declares is looked at before anything is decoded."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.errors import UserError

__all__ = ["MAX_PIXELS", "decode"]

MAX_PIXELS = 36_000_000
"""Largest picture that is decoded [pixels]: 8192 x 4320 fits; the largest cameras of cars have 8 to 20 million."""

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")


def decode(content: bytes, name: str, most: int = MAX_PIXELS) -> UInt8[ndarray, "height width 3"]:
    """The picture of an encoded file, RGB.

    Args:
        content: The file's bytes: PNG, JPEG, BMP, WebP, PPM or TIFF.
        name: What messages call it.
        most: Pixels that it may have, at most `MAX_PIXELS`.

    Raises:
        UserError: It is none of these, is damaged, or declares more pixels.
    """
    import cv2
    from PIL import Image

    declared, pixels = "nothing", 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bound, which is said below
            with Image.open(io.BytesIO(content), formats=_FORMATS) as header:  # reads the header alone
                declared, pixels = "{} x {} pixels".format(*header.size), math.prod(header.size)
    except Image.DecompressionBombError:  # the size is not handed out
        declared, pixels = f"more than {MAX_PIXELS} pixels", MAX_PIXELS + 1
    except Exception:  # each format of Pillow fails in its own ways on damaged headers
        pixels = 0
    if pixels > most:
        raise UserError(
            f"{name} is larger than it may be",
            got=f"{declared} in {len(content)} bytes",
            expected=f"at most {most} pixels",
            fix="scale the picture down; a small file that grows this much is not to be trusted",
        )
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if pixels else None
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError(
            f"{name} is not a picture that can be decoded",
            got=f"{len(content)} bytes",
            expected="a whole PNG or JPEG file",
            fix="the file is damaged or cut short; copy it again",
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
