"""Definitions of sensors' types that are not in ROS itself, for bags that do not define them."""

from __future__ import annotations

from lemumo_core.messages.compressed_clouds import COMPRESSED_CLOUD, LIVOX_TYPES
from lemumo_core.messages.video import FFMPEG_PACKET, FOXGLOVE_VIDEO

LIVOX_POINT = """uint32 offset_time
float32 x
float32 y
float32 z
uint8 reflectivity
uint8 tag
uint8 line
"""
LIVOX_MESSAGE = """std_msgs/Header header
uint64 timebase
uint32 point_num
uint8 lidar_id
uint8[3] rsvd
CustomPoint[] points
"""
DEFINITIONS = {
    FOXGLOVE_VIDEO: """builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
""",
    FFMPEG_PACKET: """std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
""",
    COMPRESSED_CLOUD: """std_msgs/Header header
uint32 height
uint32 width
sensor_msgs/PointField[] fields
bool is_bigendian
uint32 point_step
uint32 row_step
uint8[] compressed_data
bool is_dense
string format
""",
    **{name.replace("CustomMsg", "CustomPoint"): LIVOX_POINT for name in LIVOX_TYPES},
    **dict.fromkeys(LIVOX_TYPES, LIVOX_MESSAGE),
}
"""Type to the text of its definition."""
