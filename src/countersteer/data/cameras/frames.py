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

from countersteer.errors import UserError

__all__ = ["Frames", "PictureFiles", "PicturesInMemory", "SomeFrames", "UndistortedFrames", "VideoFile"]


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
    import cv2

    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read", got=error, expected="a picture", fix="check the path"
        ) from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError(
            f"{file} is not a picture that can be decoded",
            got=f"{len(data)} bytes",
            expected="a whole PNG or JPEG file",
            fix="the file is damaged or cut short; copy it again",
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


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

    Opening reads through the file once without decoding. A frame is found from the key frame before it, and
    going on from the last one costs no seek. Raw streams without time stamps are numbered by counting.

    Args:
        path: The file.
        cache: Decoded pictures that are kept, at least 1.

    Attributes:
        times: When each frame is shown [s, from the file's own origin]; None if the file states none.
    """

    def __init__(self, path: str | Path, cache: int = 32):
        import av

        self.path, self._file = str(path), Path(path)
        if not self._file.is_file():
            raise UserError(f"{path} does not exist", expected="a video file", fix="check the path")
        self._cache: OrderedDict[int, ndarray] = OrderedDict()
        self._room = max(cache, 1)
        self._decoder: Any = None
        self._next = -1
        stamps, keys = [], []
        try:
            with av.open(self.path) as container:
                if not container.streams.video:
                    raise ValueError("there is no video stream in it")
                stream = container.streams.video[0]
                self.width, self.height = int(stream.codec_context.width), int(stream.codec_context.height)
                base, declared = stream.time_base, stream.frames
                ends = _seconds(stream.metadata.get("DURATION", ""))  # Matroska's way to say it
                for packet in container.demux(stream):
                    if packet.size:
                        stamps.append(packet.pts)
                        keys.append(bool(packet.is_keyframe))
        except (OSError, ValueError) as error:  # PyAV's own errors are of these kinds
            raise self._damaged(error) from error
        if not stamps or not self.width or not self.height:
            raise self._damaged("no frames")
        self._stamps: ndarray | None = None
        self.times: Float[ndarray, "frame"] | None = None
        if any(stamp is None for stamp in stamps) or base is None:
            self._count, self._keys = len(stamps), np.flatnonzero(keys)
        else:
            order = np.argsort(np.array(stamps, np.int64), kind="stable")
            self._stamps = np.array(stamps, np.int64)[order]
            self._keys = np.flatnonzero(np.array(keys)[order])
            self._count = len(stamps)
            self.times = self._stamps * float(base)
        if not len(self._keys) or self._keys[0] != 0:
            self._keys = np.concatenate([[0], self._keys]).astype(np.int64)
        self._check_whole(declared, ends)

    def _check_whole(self, declared: int, ends: float | None) -> None:
        """Refuse a file with less in it than its header says; a copy that broke off has its beginning only."""
        last = 0.0 if self.times is None else float(self.times[-1])
        step = 0.0 if self.times is None or self._count < 2 else float(np.median(np.diff(self.times)))
        # Two frames may go to an edit list, and a quarter of a second to rounding.
        if declared <= self._count + 2 and (ends is None or ends - last <= 0.25 + 2 * step):
            return
        whole = f"{declared} frames" if declared else f"{ends:.3f} s"
        raise UserError(
            f"{self.path} ends early, at {last:.3f} s",
            got=f"{self._count} frames",
            expected=f"{whole}, as its header says",
            fix=f"copy it again, or keep what is whole: ffmpeg -i IN -c copy -t {max(last - 0.5, 0.0):.1f} OUT",
        )

    def _broken(self, number: int, error: object) -> UserError:
        at = "" if self.times is None else f", at {self.times[number]:.3f} s,"
        return self._damaged(f"frame {number} of {self._count}{at} cannot be decoded: {error}")

    def _damaged(self, error: object) -> UserError:
        return UserError(
            f"{self.path} is not a video that can be decoded",
            got=str(error)[:160],
            expected="a whole video file (H.264, HEVC, AV1, ...)",
            fix="play it with ffplay; if that fails too, the file is damaged or cut short",
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        key = int(self._keys[np.searchsorted(self._keys, number, side="right") - 1])
        # Decoding on is cheaper than a seek that would land behind where we are.
        if self._decoder is None or not self._next <= number or key > self._next:
            self._seek(key)
        try:
            while True:
                decoder: Any = self._decoder
                at, frame = next(decoder)
                self._next = at + 1
                if at >= number:
                    break
        except StopIteration:
            self._decoder = None
            raise self._broken(number, "the video ends before it") from None
        except (OSError, ValueError) as error:
            self._decoder = None
            raise self._broken(number, error) from error
        if at != number:
            self._decoder = None
            raise self._broken(number, "it is not there")
        picture = frame.to_ndarray(format="rgb24")
        if picture.shape != (self.height, self.width, 3):
            raise self._broken(number, f"it is {picture.shape[1]}x{picture.shape[0]}")
        picture.flags.writeable = False
        self._cache[number] = picture
        while len(self._cache) > self._room:
            self._cache.popitem(last=False)
        return picture

    def _seek(self, key: int) -> None:
        try:
            self._decoder = self._decode_from(key)
        except (OSError, ValueError) as error:
            raise self._broken(key, error) from error
        self._next = key

    def _decode_from(self, key: int) -> Any:
        """Numbers and frames from a key frame on."""
        import av

        with av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"  # frame threads would hold back many frames and their memory
            # Otherwise FFmpeg hides damage by guessing, and a guess looks like a picture.
            stream.codec_context.options = {"err_detect": "explode"}
            if self._stamps is None:
                skip, number = key, key
                for packet in container.demux(stream):
                    if packet.size and skip > 0:
                        skip -= 1
                        continue
                    for frame in packet.decode():
                        yield number, frame
                        number += 1
                return
            container.seek(int(self._stamps[key]), stream=stream, backward=True, any_frame=False)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                number = int(np.searchsorted(self._stamps, frame.pts))
                if number < len(self._stamps) and self._stamps[number] == frame.pts:
                    yield number, frame

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None, "_cache": OrderedDict(), "_next": -1}


def _seconds(text: str) -> float | None:
    """Of "hours:minutes:seconds"; None for anything else."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


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
