"""The protobuf messages of the Waymo Open Motion Dataset, as far as they are read.

Names and numbers of fields are those of `scenario.proto` and `map.proto` (waymo-open-dataset); fields that are
not named here are skipped. The messages are built from this table when the first file is read, so that there is
no generated code that has to fit the installed protobuf.
"""

from __future__ import annotations

import functools
from typing import Any

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
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "countersteer.waymo"
    file = descriptor_pb2.FileDescriptorProto(
        name="countersteer/waymo.proto", package=package, syntax="proto2"
    )
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for entry in fields.split(", "):
            kind, name, number = entry.split()
            field = described.field.add(name=name, number=int(number))
            field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _SCHEMA:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Scenario"))


def parse_scenario(data: bytes) -> Any:
    """The `Scenario` message in some bytes; absent fields have their defaults (0, empty).

    Raises:
        ValueError: The bytes are no such message.
    """
    from google.protobuf.message import DecodeError

    try:
        return _scenario_class().FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
