"""Camera logs: frames, calibration, mounting and poses of a recorded drive.

`read` opens one, `check` says what is wrong with it. Frames are decoded when they are asked for.
"""

from countersteer.data.cameras.checks import Finding, LogReport, Problem, check
from countersteer.data.cameras.drive import drive_of_log
from countersteer.data.cameras.frames import Frames, PictureFiles, PicturesInMemory, VideoFile
from countersteer.data.cameras.log import CameraLog, Distortion, LidarSweeps, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers import READERS, available_readers, is_log, read
from countersteer.data.cameras.road_users import AnnotatedBox, RoadUsers

__all__ = [
    "READERS",
    "AnnotatedBox",
    "CameraLog",
    "Distortion",
    "Finding",
    "Frames",
    "LidarSweeps",
    "LogReport",
    "PictureFiles",
    "PicturesInMemory",
    "Poses",
    "Problem",
    "RecordedCamera",
    "RoadUsers",
    "VideoFile",
    "available_readers",
    "check",
    "drive_of_log",
    "is_log",
    "read",
]
