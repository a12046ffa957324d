"""A video file by number: which packet shows which frame, and from where on it can be decoded.

Frame n is the n-th that a decoder shows which begins at the beginning of the file. Neither time stamps nor key frames
promise that: streams lack stamps, repeat them, or state those of another order; pictures before a key frame may need
what came before it; files hide frames by edit lists. So packets are known by their number in the file, which decoders hand
on to what they show, and frames that are decoded from a key frame on have to come one after another. Where stamps
cannot tell the order, the whole file is decoded once on opening.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

__all__ = ["MAX_FRAMES", "Damage", "IndexedVideo", "SeekError"]

MAX_FRAMES = 2_000_000
"""Most frames of a video: a day at 20 Hz."""

# Demuxers that open no other file or address, whatever stands in the one they are given.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,av1,obu,ivf,mjpeg,flv,asf,ogg,mxf,nut,dv,"
    "yuv4mpegpipe,gif,3gp,mj2"
)
# Each packet of these codecs shows one frame, and those of the first show them in this order, unless the stream says that
# it is delayed.
_IN_ORDER = frozenset({"hevc", "mpeg4", "mjpeg", "vp9", "av1", "ffv1", "prores", "dnxhd", "rawvideo"})
_ONE_EACH = _IN_ORDER | {"h264", "mpeg2video", "mpeg1video", "vvc", "huffyuv", "ffvhuff", "jpeg2000", "png"}
_MOST_PIXELS = 8192 * 4320  # a decoder may keep sixteen such pictures
_TRIED = 8  # frames whose order is compared with that of the stamps on opening
_DEEPEST = 32  # a decoder holds back no more frames than this


class Damage(Exception):
    """A packet cannot be decoded.

    Attributes:
        packet: Its number.
    """

    def __init__(self, packet: int, error: object):
        super().__init__(str(error))
        self.packet = packet


class SeekError(Exception):
    """A container cannot be sought in, or a seek lands elsewhere."""


class IndexedVideo:
    """A video file and its index. Opening reads through it once, and decodes its first few frames.

    Args:
        path: An existing file.

    Attributes:
        count: How many frames there are.
        width, height: Size of the pictures as they are shown [px].
        times: When each frame is shown [s, from the file's own origin]; None if the file states none.
        notes: What the file says about how it is shown.
        empty: Whether no frame at all can be decoded.
        packets: How many there are.
        declared, ends: Packets and last second [s] that its header promises; 0 and None if it promises nothing.

    Raises:
        Exception: Whatever PyAV raises, or ValueError: there is no video in it.
    """

    def __init__(self, path: Path):
        self._path = path
        self.notes: tuple[str, ...] = ()
        shown = self._scan()
        if not self._order_by_stamps() or shown != self._packet_of[: len(shown)].tolist():
            self._order_by_decoding()
        stamps = self._decoded if self._stamps is None else self._stamps
        if self._until is not None and stamps is not None and stamps.max() >= self._until:
            self.declared = 0  # an edit list leaves out the others
        self.times: Float[ndarray, "frame"] | None = None
        if self._base is not None and stamps is not None:
            # Frames are shown in their own order, whatever order a file states (or, as AVI, states not at all).
            self.times = np.sort(stamps[self._packet_of]) * float(self._base)

    def _open(self) -> tuple[Any, Any]:
        """A container, and its first video that is not the cover of an album."""
        import av

        options = {
            "protocol_whitelist": "file",
            "format_whitelist": _CONTAINERS,
            "max_pixels": str(_MOST_PIXELS),
        }
        try:
            container = av.open(f"file:{self._path}", options=options)
        except MemoryError as error:  # FFmpeg says so without having asked for any
            raise ValueError("its index declares more frames than FFmpeg counts") from error
        try:
            videos = _videos(container)
            context = videos[0].codec_context if videos else None
            if context is None:
                raise ValueError("there is no video stream in it that FFmpeg decodes")
            if context.width * context.height > _MOST_PIXELS:
                size = f"{context.width}x{context.height}"
                raise ValueError(f"it declares {size} pixels, which no camera has")
            videos[0].thread_type = "SLICE"  # frame threads would hold back many frames and their memory
            # Otherwise FFmpeg hides damage by guessing, and a guess looks like a picture.
            context.options = {"err_detect": "explode", "max_pixels": str(_MOST_PIXELS)}
        except BaseException:
            container.close()
            raise
        return container, videos[0]

    def _scan(self) -> list[int]:
        """Index the packets; the numbers of those that show the first few frames, in their order."""
        rows: list[tuple[int | None, int | None, int | None, bool, bool]] = []
        shown: list[int] = []
        empty, first = 0, None
        container, stream = self._open()
        with container:
            context = stream.codec_context
            self._codec, self._delayed = context.name, bool(context.has_b_frames)
            self._base, self.declared = stream.time_base, stream.frames
            self._until = None  # a stamp of the last but one frame
            if None not in (stream.start_time, stream.duration) and stream.frames:
                step = stream.duration // stream.frames
                self._until = stream.start_time + stream.duration - 2 * step
            self.ends = _seconds(stream.metadata.get("DURATION", ""))  # Matroska's way to say it
            for packet in container.demux(stream):
                if not packet.size:  # dropped by the recorder, or the end
                    empty += 1
                    continue
                number = len(rows)
                if number == MAX_FRAMES:
                    raise ValueError(f"it has more than {MAX_FRAMES} frames")
                rows.append((packet.pts, packet.dts, packet.pos, packet.is_keyframe, packet.is_discard))
                if len(shown) < _TRIED and (number < 2 * _DEEPEST or first is None):
                    for frame in _decode(packet, number, []):
                        first = frame if first is None else first
                        shown.append(frame.pts)
            if len(shown) < _TRIED and (len(rows) < 2 * _DEEPEST or first is None):
                for frame in _finish(context, []):
                    first = frame if first is None else first
                    shown.append(frame.pts)
            if not rows:
                raise ValueError("no frames")
            if container.format.name == "avi":  # it counts frames that the recorder left out
                self.ends, self.declared = float(self.declared * (self._base or 0)), 0
            self._describe(container, stream, first)
        stamps, decoded, places, keys, hidden = zip(*rows, strict=True)
        self.packets = len(rows) + max(empty - 1, 0)
        self._stamps, self._decoded, self._places = _whole(stamps), _whole(decoded), _whole(places)
        self._keys, self._hidden = np.flatnonzero(keys), np.array(hidden, bool)
        self._marks = next(
            (marks for marks in (self._stamps, self._places) if marks is not None and _differ(marks)), None
        )
        return shown

    def _describe(self, container: Any, stream: Any, first: Any) -> None:
        """Size, orientation and shape of pixels, by what the file says and its first frame, if any can be decoded."""
        self.empty, name = first is None, self._path.name
        shown = stream.codec_context if first is None else first
        self.width, self.height = shown.width, shown.height
        self._turned, self._mirrored, self._flipped = False, False, False
        if len(_videos(container)) > 1:
            self.notes += (f"{name} holds {len(_videos(container))} videos: the first one is read",)
        ratio = stream.sample_aspect_ratio
        if ratio and ratio != 1:
            shape = f"{ratio.numerator}:{ratio.denominator}"
            self.notes += (f"pixels of {name} are not square but {shape}: pictures are as stored",)
        told = () if first is None else first.side_data
        matrix = next((bytes(data) for data in told if data.type.name == "DISPLAYMATRIX"), b"")
        if len(matrix) < 36:
            return
        a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).tolist()
        angle = math.degrees(math.atan2(b, a))
        if abs(angle - 90 * round(angle / 90)) > 1 or a * d - b * c == 0:
            self.notes += (f"{name} asks for pictures turned by {angle:.0f} degrees: they are as stored",)
            return
        # As FFmpeg does it: rows become columns, then left and right, top and bottom are exchanged.
        self._turned = abs(b) > abs(a)
        self._mirrored, self._flipped = (c < 0, b < 0) if self._turned else (a < 0, d < 0)
        if self._turned:
            self.width, self.height = self.height, self.width
        if self._turned or self._mirrored or self._flipped:
            how = f"turned by {angle:.0f} degrees" if a * d - b * c > 0 else "mirrored"
            self.notes += (f"pictures of {name} are {how}, as it says that they are shown",)

    def upright(self, picture: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "height width 3"]:
        """A decoded picture as it is shown."""
        picture = picture.transpose(1, 0, 2) if self._turned else picture
        picture = picture[:, ::-1] if self._mirrored else picture
        return np.ascontiguousarray(picture[::-1] if self._flipped else picture)

    def _order_by_stamps(self) -> bool:
        """Number the frames by their stamps, or as their packets come; whether that is the order they are shown in."""
        packets = np.flatnonzero(~self._hidden)
        if not len(packets):
            raise ValueError("it hides all of its frames")
        begins = len(self._keys) > 0 and self._keys[0] == 0
        stamps = None if self._stamps is None else self._stamps[packets]
        if stamps is None or not _differ(stamps):
            self._number(packets)
            return begins and not self._delayed and self._codec in _IN_ORDER
        self._number(packets[np.argsort(stamps, kind="stable")])
        # What is shown before the first key frame but comes after it cannot be decoded.
        begins = begins and (bool(self._hidden.any()) or self._packet_of[0] == 0)
        moved = int(np.abs(self._packet_of - packets).max())
        return begins and self._codec in _ONE_EACH and moved <= (_DEEPEST if self._delayed else 0)

    def _order_by_decoding(self) -> None:
        """Number the frames by decoding all of them from the beginning.

        One that cannot be decoded keeps a number, behind those whose packets come before its own.
        """
        shown: list[int] = []
        lost: list[Damage] = []
        container, stream = self._open()
        with container:
            number = 0
            for packet in container.demux(stream):
                if packet.size:
                    shown += [frame.pts for frame in _decode(packet, number, lost)]
                    number += 1
            shown += [frame.pts for frame in _finish(stream.codec_context, lost)]
        order = np.array([packet for packet in dict.fromkeys(shown) if packet < len(self._hidden)], np.int64)
        for packet in sorted({damage.packet for damage in lost} - set(shown)):
            if packet >= 0 and not self._hidden[packet]:
                order = np.insert(order, int((order < packet).sum()), packet)
        self._number(order)

    def _number(self, packets: Int[ndarray, "frame"]) -> None:
        """State which packet shows each frame."""
        self.count, self._packet_of = len(packets), packets
        self._frame_of = np.full(len(self._hidden), -1, np.int64)
        self._frame_of[packets] = np.arange(len(packets))

    def packet_of(self, frame: int) -> int:
        """Number of the packet that shows a frame."""
        return int(self._packet_of[frame])

    def starts(self, frame: int) -> list[int]:
        """Packets that decoding can begin at to show a frame, the best first; the last one is the beginning."""
        keys = self._keys[: np.searchsorted(self._keys, self._packet_of[frame], side="right")]
        # What is shown before a key frame but comes after it needs what came before.
        keys = keys[(self._frame_of[keys] <= frame) & (self._frame_of[keys] >= 0)]
        return [*keys[keys > 0][:-4:-1].tolist(), 0]

    def goes_on(self, position: int, frame: int) -> bool:
        """Whether decoding on from the frame `position` to a later one is cheaper than a seek."""
        return position <= frame and int(self._frame_of[self.starts(frame)[0]]) <= position

    def decode(self, start: int, *, seek: bool) -> Iterator[tuple[int, Any]]:
        """Numbers and frames, in the order they are shown, from a packet on.

        Args:
            start: Number of the packet.
            seek: Seek there; else all packets from the beginning are read, and those before `start` left out.

        Raises:
            Damage: A packet cannot be decoded; frames of packets before it were given.
            SeekError: No way leads there by a seek.
            Exception: The container cannot be read, or `start` is no key frame that decoding can begin at.
        """
        lost: list[Damage] = []
        begun = not start
        stamps = self._stamps if self._decoded is None else self._decoded
        if seek and (stamps is None or self._marks is None):
            raise SeekError
        container, stream = self._open()
        with container:
            number = None if seek else 0
            if seek:
                assert stamps is not None
                try:
                    container.seek(int(stamps[start]), stream=stream, backward=True, any_frame=False)
                except Exception as error:
                    raise SeekError from error
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                number = self._place(packet, start) if number is None else number
                if number >= len(self._hidden) or self._mark(packet, number) != self._mark_of(number):
                    raise SeekError if seek else ValueError("its packets come in another order than before")
                if number >= start:
                    frames = _decode(packet, number, lost)
                    if frames and not begun:
                        self._check_start(start, frames)
                        begun = True
                    yield from self._before(lost, frames)
                number += 1
                if lost and number > lost[0].packet + _DEEPEST:
                    raise lost[0]
            yield from self._before(lost, _finish(stream.codec_context, lost))
            if lost:
                raise lost[0]

    def _check_start(self, start: int, frames: Sequence[Any]) -> None:
        """Refuse a key frame that does not show itself or is not whole: streams may be refreshed bit by bit instead."""
        begins = self._frame_of[frames[0].pts] < self._frame_of[start]
        if begins or (frames[0].pts == start and (frames[0].interlaced_frame or frames[0].pict_type == 1)):
            return
        self._keys = self._keys[self._keys != start]
        raise ValueError("a key frame is none")

    def _before(self, lost: list[Damage], frames: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Those frames whose packets come before damage; then the damage."""
        for frame in frames:
            if lost and frame.pts >= lost[0].packet:
                raise lost[0]
            yield int(self._frame_of[frame.pts]), frame

    def _mark(self, packet: Any, number: int) -> int | None:
        if self._marks is None:
            return number
        return packet.pts if self._marks is self._stamps else packet.pos

    def _mark_of(self, number: int) -> int:
        return number if self._marks is None else int(self._marks[number])

    def _place(self, packet: Any, start: int) -> int:
        """Number of the first packet after a seek."""
        assert self._marks is not None
        places = np.flatnonzero(self._marks[: start + 1] == self._mark(packet, 0))
        if not len(places):
            raise SeekError
        return int(places[0])


def _videos(container: Any) -> list[Any]:
    """Streams of pictures, without covers of albums."""
    from av.stream import Disposition

    cover = Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def _decode(packet: Any, number: int, lost: list[Damage]) -> list[Any]:
    """What a packet makes the decoder show; each frame's `pts` is the number of its own packet. Adds what is damaged."""
    packet.pts = number
    try:
        return packet.decode()
    except Exception as error:  # PyAV's errors are of many kinds
        lost.append(Damage(number, error))
        return []


def _finish(context: Any, lost: list[Damage]) -> list[Any]:
    """What the decoder still holds back."""
    try:
        return context.decode(None)
    except Exception as error:
        lost.append(Damage(1 << 62, error))
        return []


def _whole(values: Sequence[int | None]) -> Int[ndarray, "packet"] | None:
    """As an array; None if one is missing."""
    return None if any(value is None for value in values) else np.array(values, np.int64)


def _differ(values: Int[ndarray, "packet"]) -> bool:
    return len(np.unique(values)) == len(values)


def _seconds(text: str) -> float | None:
    """Of "hours:minutes:seconds"; None for anything else."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds
