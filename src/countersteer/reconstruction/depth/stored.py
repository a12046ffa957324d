"""Depth of many frames, kept on disk: sweeping and matching cost more than drawing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.reconstruction.depth.depth_map import DepthMap
from countersteer.reconstruction.depth.of_log import DepthSource, depth_of_frame, sources_of
from countersteer.storage import checkpoint
from countersteer.storage.names import file_name

__all__ = ["stored_depths"]

_VERSION = 3  # raise it when a source of depth changes what it says


def stored_depths(
    log: CameraLog,
    camera: str,
    frames: Sequence[int],
    source: DepthSource | None = None,
    size: tuple[int, int] | None = None,
    folder: str | Path | None = None,
) -> list[DepthMap]:
    """Depth of some frames of a camera, from the folder if an earlier call left it there.

    A file stands for one log, camera, source, size and list of frames; it is known by a hash over them, the
    log's fingerprint and some of its pictures, so that what has changed is computed anew. Files are written
    whole or not at all, and one that is damaged is replaced.

    Args:
        log: The recording.
        camera: Name of a calibrated camera without distortion.
        frames: Numbers of the frames.
        source: Where depth comes from; None for the best there is.
        size: Width and height of the answer [px]; None for the recorded size.
        folder: Where to keep it; None keeps nothing. Depth that was recorded is never kept again.
    """
    source = source or sources_of(log, camera)[0]

    def found(number: int) -> DepthMap:
        depth = depth_of_frame(log, camera, number, source)
        return depth if size is None else depth.resized(*size)

    if folder is None or source is DepthSource.RECORDED:
        return [found(number) for number in frames]
    described = _described(log, camera, frames, source, size)
    key = hashlib.sha256(described.encode()).hexdigest()
    name = file_name(log.id, "log")[:80]
    file = Path(folder) / f"{name}-{source.value}-{key[:16]}.safetensors"
    try:
        tensors, metadata = checkpoint.load(file)
        if metadata["of"] == described:
            pairs = zip(tensors["inverse"].numpy(), tensors["confidence"].numpy(), strict=True)
            return [DepthMap(inverse, confidence) for inverse, confidence in pairs]
    except UserError:
        pass  # never written, or damaged
    maps = [found(number) for number in frames]
    tensors = {
        name: torch.from_numpy(np.stack([getattr(depth, name) for depth in maps]).astype(np.float32))
        for name in ("inverse", "confidence")
    }
    checkpoint.save(file, tensors, {"of": described})
    return maps


def _described(
    log: CameraLog, camera: str, frames: Sequence[int], source: DepthSource, size: tuple[int, int] | None
) -> str:
    recorded = log.camera(camera)
    pictures = hashlib.sha256()
    for number in sorted({frames[0], frames[len(frames) // 2], frames[-1]}):
        pictures.update(recorded.frames[number].tobytes())
    poses = log.world_from_camera(camera, np.array(frames)) if log.poses is not None else np.zeros(0)
    return json.dumps(
        {
            "version": _VERSION,
            "log": log.provenance.fingerprint,
            "pictures": pictures.hexdigest(),
            "calibration": repr(recorded.intrinsics),
            "poses": hashlib.sha256(np.ascontiguousarray(poses).tobytes()).hexdigest(),
            "camera": camera,
            "source": source.value,
            "size": size,
            "frames": list(frames),
        }
    )
