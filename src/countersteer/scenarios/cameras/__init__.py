"""Camera logs: frames, calibration, mounting and poses of a recorded drive.

`read` opens one, `check` says what is wrong with it. Frames are decoded when they are asked for.
"""

from countersteer.scenarios.cameras.checks import Finding, LogReport, Problem, check
from countersteer.scenarios.cameras.drive import drive_of_log
from countersteer.scenarios.cameras.frames import Frames, PictureFiles, PicturesInMemory, VideoFile
from countersteer.scenarios.cameras.log import CameraLog, Distortion, LidarSweeps, RecordedCamera
from countersteer.scenarios.cameras.poses import Poses
from countersteer.scenarios.cameras.readers import READERS, read
from countersteer.scenarios.cameras.road_users import AnnotatedBox, RoadUsers

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
    "check",
    "drive_of_log",
    "read",
]
