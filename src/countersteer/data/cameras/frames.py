"""Frames of one camera, from pictures or from a video file, by number, in any order.

Memory does not grow with the length: a video keeps an index of a few bytes a frame and a bounded number of
decoded pictures.
"""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.data.cameras.video import Damage, IndexedVideo, SeekError
from countersteer.errors import UserError
from countersteer.storage.files import read_bytes
from countersteer.storage.pictures import decode

__all__ = ["Frames", "PictureFiles", "PicturesInMemory", "SomeFrames", "UndistortedFrames", "VideoFile"]

_LARGEST_PICTURE = 1 << 27  # file of one [bytes]
_LARGEST_CACHE = 1 << 28  # of decoded pictures of a video [bytes]


class Frames(abc.ABC):
    """Pictures of one camera, numbered from 0, all of one size.

    Attributes:
        path: File or folder they come from, for messages.
        width, height: Size [px].
    """

    path: str
    width: int
    height: int

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abc.abstractmethod
    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        """One picture, RGB.

        Raises:
            IndexError: There is no such number.
            UserError: The picture is missing, damaged, or of another size.
        """

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path} has frames 0 to {len(self) - 1}, not {number}")


class PictureFiles(Frames):
    """A picture file for each frame (any format OpenCV reads; grey ones become RGB).

    Args:
        files: One for each frame, in order of time, at least one; only the first is opened now.
        folder: What messages call the lot.
    """

    def __init__(self, files: Sequence[Path], folder: Path):
        if not files:
            raise UserError(f"{folder} holds no pictures", expected="at least one", fix="check the path")
        self.path, self._files = str(folder), tuple(files)
        self.height, self.width = _read_picture(self._files[0]).shape[:2]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        picture = _read_picture(self._files[number])
        if picture.shape != (self.height, self.width, 3):
            raise UserError(
                f"{self._files[number]}: the picture has another size than the first one",
                got=f"{picture.shape[1]}x{picture.shape[0]}",
                expected=f"{self.width}x{self.height}",
                fix="put recordings of different cameras into different folders",
            )
        return picture


def _read_picture(file: Path) -> UInt8[ndarray, "height width 3"]:
    return decode(read_bytes(file, _LARGEST_PICTURE), str(file))


class PicturesInMemory(Frames):
    """Pictures that were not read from anywhere.

    Args:
        pictures: All of them.
        path: What messages call the lot.
    """

    def __init__(self, pictures: UInt8[ndarray, "frame height width 3"], path: str):
        self.path, self._pictures = path, pictures
        self.height, self.width = pictures.shape[1:3]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        return self._pictures[number]


class SomeFrames(Frames):
    """Consecutive frames of others.

    Args:
        frames: The others.
        first, count: Number of the first one, and how many.
    """

    def __init__(self, frames: Frames, first: int, count: int):
        self.path, self.height, self.width = frames.path, frames.height, frames.width
        self._frames, self._first, self._count = frames, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        return self._frames[self._first + number]


class VideoFile(Frames):
    """A video in any container and codec that FFmpeg decodes (H.264, HEVC, AV1, ...), by PyAV.

    Frame n is the n-th that is shown of the whole file, whatever was asked for before, and as the file says it is
    shown: turned, or mirrored. Opening reads through the file once (see `IndexedVideo`). A frame is found from the key frame
    before it, and going on from the last one costs no seek.

    Args:
        path: The file.
        cache: Decoded pictures that are kept, at least 1, at most 256 MiB.

    Attributes:
        times: When each frame is shown [s, from the file's own origin]; None if the file states none.
        notes: What the file says about how it is shown, for provenance.
    """

    def __init__(self, path: str | Path, cache: int = 32):
        self.path = str(path)
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist", expected="a video file", fix="check the path")
        self._cache: OrderedDict[int, ndarray] = OrderedDict()
        self._run: Any = None
        self._next = -1
        self._damaged: dict[int, tuple[int, object]] = {}
        try:
            self._video = video = IndexedVideo(Path(path))
        except Exception as error:  # PyAV's own errors are of many kinds
            raise self._unreadable(error) from error
        self.width, self.height, self.times, self.notes = video.width, video.height, video.times, video.notes
        self._room = max(min(cache, _LARGEST_CACHE // (3 * self.width * self.height)), 1)
        self._check_whole(video.declared, video.ends)
        if video.empty:
            raise self._unreadable(f"none of its {len(self)} frames can be decoded")

    def _check_whole(self, declared: int, ends: float | None) -> None:
        """Refuse a file with less in it than its header says; a copy that broke off has its beginning only."""
        last = 0.0 if self.times is None else float(self.times[-1])
        step = 0.0 if self.times is None or len(self) < 2 else float(np.median(np.diff(self.times)))
        # Two frames may go to an edit list, and a quarter of a second to rounding.
        if declared <= self._video.packets + 2 and (ends is None or ends - last <= 0.25 + 2 * step):
            return
        whole = f"{declared} frames" if declared else f"{ends:.3f} s"
        raise UserError(
            f"{self.path} ends early, at {last:.3f} s",
            got=f"{len(self)} frames",
            expected=f"{whole}, as its header says",
            fix=f"copy it again, or keep what is whole: ffmpeg -i IN -c copy -t {max(last - 0.5, 0.0):.1f} OUT",
        )

    def _broken(self, number: int, error: object) -> UserError:
        at = "" if self.times is None else f", at {self.times[number]:.3f} s,"
        return self._unreadable(f"frame {number} of {len(self)}{at} cannot be decoded: {error}")

    def _unreadable(self, error: object) -> UserError:
        return UserError(
            f"{self.path} is not a video that can be decoded",
            got=(str(error) or type(error).__name__)[:160],
            expected="a whole video file (H.264, HEVC, AV1, ...)",
            fix="play it with ffplay; if that fails too, the file is damaged or cut short",
        )

    def __len__(self) -> int:
        return self._video.count

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        frame = self._decoded(number)
        try:
            picture = self._video.upright(frame.to_ndarray(format="rgb24"))
        except Exception as error:  # of many kinds, as above
            raise self._broken(number, error) from error
        if picture.shape != (self.height, self.width, 3):
            raise self._broken(number, f"it is {picture.shape[1]}x{picture.shape[0]}")
        picture.flags.writeable = False
        self._cache[number] = picture
        while len(self._cache) > self._room:
            self._cache.popitem(last=False)
        return picture

    def _decoded(self, number: int) -> Any:
        """The frame, from where the decoder is if that is near, else from the key frame before it.

        Where that does not show it (a seek that lands elsewhere, a key frame that is none), decoding begins further back.
        """
        if self._run is not None and self._video.goes_on(self._next, number):
            try:
                return self._forward(number)
            except Exception:
                self._run = None
        starts, packet = self._video.starts(number), self._video.packet_of(number)
        whole, why = self._damaged.get(starts[0], (packet + 1, None))
        if packet >= whole:
            raise self._broken(number, why)
        found: set[int] = set()
        ways = [*((start, True) for start in starts if start), (0, False)]
        while ways:
            start, seek = ways.pop(0)
            self._run, self._next = self._video.decode(start, seek=seek), -1
            try:
                return self._forward(number)
            except SeekError:
                ways.insert(0, (start, False))
            except Exception as error:
                self._run, why = None, error
                if isinstance(error, Damage) and error.packet in found:  # it stays, from wherever one comes
                    break
                found |= {error.packet} if isinstance(error, Damage) else set()
        self._damaged[starts[0]] = (packet, why)
        raise self._broken(number, why)

    def _forward(self, number: int) -> Any:
        """Decode on to a frame; each has to be the one after the last."""
        for at, frame in self._run:
            if at < 0:
                continue
            if at > number or (self._next >= 0 and at != self._next):
                raise ValueError("it is not there")
            self._next = at + 1
            if at == number:
                return frame
        raise ValueError("the video ends before it")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None, "_cache": OrderedDict(), "_next": -1}


class UndistortedFrames(Frames):
    """Frames of a lens with distortion as a pinhole camera would have taken them.

    Args:
        frames: The recorded ones.
        map_x, map_y: Column and row of the recorded picture to look at, for each pixel (OpenCV's maps).
    """

    def __init__(
        self, frames: Frames, map_x: Float[ndarray, "height width"], map_y: Float[ndarray, "height width"]
    ):
        self._frames, self._x, self._y = frames, map_x.astype(np.float32), map_y.astype(np.float32)
        self.path = frames.path
        self.height, self.width = map_x.shape

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        import cv2

        return cv2.remap(self._frames[number], self._x, self._y, cv2.INTER_LINEAR)
