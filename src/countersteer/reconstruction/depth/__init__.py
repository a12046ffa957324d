"""Dense depth of recorded frames: stereo, plane sweep, lidar, a network that the
recording teaches, the ground alone, or a user's network.

Every source answers with a `DepthMap`: inverse depth for every pixel and how far it can be trusted. Inverse
depth, because it is affine on planes, zero at the sky, and as precise as the picture can tell.
"""

from countersteer.reconstruction.depth.depth_map import DepthMap, sky
from countersteer.reconstruction.depth.ground import GroundPlane, ground_depth, ground_of_log
from countersteer.reconstruction.depth.learned import LearnedDepth, LearningSettings, learn_depth
from countersteer.reconstruction.depth.lidar import lidar_depth, project_points
from countersteer.reconstruction.depth.network import DepthNetwork, network_depth
from countersteer.reconstruction.depth.of_log import DepthSource, depth_of_frame, sources_of, stereo_partner
from countersteer.reconstruction.depth.stereo import StereoPair, stereo_depth
from countersteer.reconstruction.depth.stored import stored_depths
from countersteer.reconstruction.depth.sweep import Neighbour, SweepSettings, plane_sweep_depth

__all__ = [
    "DepthMap",
    "DepthNetwork",
    "DepthSource",
    "GroundPlane",
    "LearnedDepth",
    "LearningSettings",
    "Neighbour",
    "StereoPair",
    "SweepSettings",
    "depth_of_frame",
    "ground_depth",
    "ground_of_log",
    "learn_depth",
    "lidar_depth",
    "network_depth",
    "plane_sweep_depth",
    "project_points",
    "sky",
    "sources_of",
    "stereo_depth",
    "stereo_partner",
    "stored_depths",
]
