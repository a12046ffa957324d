"""The protobuf messages of the Waymo Open Motion Dataset, as far as they are read.

Names and numbers of fields are those of `scenario.proto` and `map.proto` (waymo-open-dataset); fields that are
not named here are skipped.
"""

from __future__ import annotations

import functools
from typing import Any

from countersteer.data.readers.protobuf_tables import message_class, parse_message

__all__ = ["parse_scenario"]

_SCHEMA = {
    "Scenario": "double* timestamps_seconds 1, Track* tracks 2, bytes scenario_id 5, int64 sdc_track_index 6, "
    "DynamicMapState* dynamic_map_states 7, MapFeature* map_features 8",
    "Track": "int64 id 1, int64 object_type 2, ObjectState* states 3",
    "ObjectState": "double center_x 2, double center_y 3, double center_z 4, float length 5, float width 6, "
    "float height 7, float heading 8, float velocity_x 9, float velocity_y 10, bool valid 11",
    "DynamicMapState": "TrafficSignalLaneState* lane_states 1",
    "TrafficSignalLaneState": "int64 lane 1, int64 state 2, MapPoint stop_point 3",
    "MapPoint": "double x 1, double y 2, double z 3",
    "MapFeature": "int64 id 1, LaneCenter lane 3, RoadLine road_line 4, RoadEdge road_edge 5, StopSign stop_sign 7, "
    "Area crosswalk 8, Area speed_bump 9, Area driveway 10",
    "LaneCenter": "double speed_limit_mph 1, int64 type 2, MapPoint* polyline 8, BoundarySegment* left_boundaries 13, "
    "BoundarySegment* right_boundaries 14",
    "BoundarySegment": "int64 lane_start_index 1, int64 lane_end_index 2, int64 boundary_feature_id 3",
    "RoadLine": "int64 type 1, MapPoint* polyline 2",
    "RoadEdge": "MapPoint* polyline 2",
    "StopSign": "MapPoint position 2",
    "Area": "MapPoint* polygon 1",  # Crosswalk, SpeedBump and Driveway are alike
}  # enumerations are read as numbers


@functools.cache
def _scenario_class() -> Any:
    return message_class("waymo", _SCHEMA, "Scenario")


def parse_scenario(data: bytes) -> Any:
    """The `Scenario` message in some bytes; absent fields have their defaults (0, empty).

    Raises:
        ValueError: The bytes are no such message.
    """
    return parse_message(_scenario_class(), data)
