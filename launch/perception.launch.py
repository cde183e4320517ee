"""Start the perception node on live topics.

    ros2 launch lemumo_ros perception.launch.py model:=lemumo-tiny image:=/cam/image_raw

`--show-args` lists the arguments. An argument left empty leaves the parameter file's value alone.
A launch file that includes this one twice gives every argument each time, or puts each include in
a GroupAction of its own: launch keeps what the first include was given.
"""

import os
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(__file__).resolve().parent.parent  # share/lemumo_ros, or the source tree

ARGUMENTS = {
    "model": (
        "",
        "folder of the model package, or a shipped one; empty: as in params_file",
    ),
    "cameras": ("", "names of several cameras, e.g. front,left; empty: one"),
    "image": ("/{camera}/image_raw", "topic of a camera's images; {camera}: its name, or camera"),
    "camera_info": ("/{camera}/camera_info", "topic of a camera's calibration"),
    "camera_info_url": ("", "calibration file, in the place of camera_info; {camera}: as above"),
    "points": (
        "/lidar/points",
        "topic of the LiDAR's point clouds; of several: with commas, merged",
    ),
    "depth_image": ("", "topic of a depth camera's images, instead of points; empty: none"),
    "depth_info": ("/{camera}/depth/camera_info", "topic of a depth camera's calibration"),
    "thermal": ("/{camera}/thermal/image_raw", "topic of a thermal camera's images"),
    "thermal_info": ("/{camera}/thermal/camera_info", "topic of a thermal camera's calibration"),
    "compressed": ("false", "true: read images from the compressed topic beside `image`"),
    "image_transport": (
        "",
        "raw, compressed or ffmpeg beside `image`, or foxglove: `image` itself",
    ),
    "points_transport": ("", "raw, draco, zlib or zstd beside `points`, or livox"),
    "params_file": (str(SHARE / "config" / "lemumo.yaml"), "parameters of the node"),
    "output_frame": ("", "frame of the published boxes; empty: as in params_file"),
    "fixed_frame": ("", "frame of /tf that does not move, e.g. odom; empty: as in params_file"),
    "tracking": ("", "true: follow objects over frames; empty: as in params_file"),
    "score_threshold": ("", "least score of a published detection; empty: as in params_file"),
    "backend": ("", "auto, or RUNTIME[:PRECISION]; empty: as in params_file"),
    "sync_tolerance_ms": ("", "most between a pair's stamps; empty: as in params_file"),
    "companion_deadline_ms": ("", "longest wait for a companion; empty: as in params_file"),
    "overlay_rate_hz": ("", "overlays per second, 0: none; empty: as in params_file"),
    "use_sim_time": ("", "true: time from /clock; empty: as in params_file or SetUseSimTime"),
    "autostart": ("", "false: leave activation to a lifecycle manager; empty: as in params_file"),
    "name": ("perception", "name of the node, and first part of its output topics"),
    "namespace": ("", "namespace of the node"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


NUMBERS = ("score_threshold", "sync_tolerance_ms", "companion_deadline_ms", "overlay_rate_hz")
COMPRESSED_DEPTH = "/compressedDepth"
FLAGS = ("use_sim_time", "autostart", "tracking")
TEXTS = ("model", "output_frame", "fixed_frame", "backend")


def is_true(name, value):
    """Read a yes-or-no argument; anything but true or false is an error."""
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{name}:={value} is neither true nor false")
    return value.lower() == "true"


def node_options(value):
    """Return parameters, remappings and log level of a node; `value(name)` is a launch argument."""
    parameters = {key: value(key) for key in TEXTS if value(key)}
    parameters.update({key: float(value(key)) for key in NUMBERS if value(key)})
    parameters.update({key: is_true(key, value(key)) for key in FLAGS if value(key)})
    if is_true("compressed", value("compressed")):
        parameters["image_transport"] = "compressed"
    words = ("image_transport", "points_transport")
    parameters.update({key: value(key) for key in words if value(key)})
    if value("depth_image"):
        compressed = value("depth_image").endswith(COMPRESSED_DEPTH)
        parameters["companion_source"] = "compressed_depth" if compressed else "depth_image"
    cameras = words_of(value("cameras"))
    if cameras:
        parameters["cameras"] = cameras
    if url := value("camera_info_url"):
        own = {f"{name}.camera_info_url": url.replace("{camera}", name) for name in cameras}
        parameters.update(own or {"camera_info_url": url.replace("{camera}", "camera")})
    if len(words_of(value("points"))) > 1:
        parameters["lidars"] = list(lidars(value))
    return {
        "name": value("name"),
        "namespace": value("namespace"),
        "parameters": [value("params_file"), *([parameters] if parameters else [])],
        "additional_env": environment(),
        "remappings": remappings(cameras, value),
        "ros_arguments": ["--log-level", value("log_level")],
        "output": "screen",
    }


def words_of(text):
    """Return the words of a list that is separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def lidars(value):
    """Return topics of the LiDARs by the names that they have in the node; '' is a single one's."""
    topics = words_of(value("points"))
    if len(topics) < 2:
        return {"": value("points")}
    return {f"lidar_{number}": topic for number, topic in enumerate(topics, 1)}


def remappings(cameras, value):
    """Return the remappings from the node's inputs to the topics in the launch arguments."""
    pairs = []
    for name, topic in lidars(value).items():
        own = f"~/input/{name}/points" if name else "~/input/points"
        pairs.append((own, topic))
        pairs += [beside(own, topic, transport) for transport in ("draco", "zlib", "zstd")]
    depth = ("depth_image", "depth_info") if value("depth_image") else ()
    for name in ("image", "camera_info", *depth, "thermal", "thermal_info"):
        if len(cameras) > 1 and "{camera}" not in value(name):
            raise ValueError(f"{name}:={value(name)} is one topic for {cameras}: needs {{camera}}")
        for camera in cameras or ["camera"]:
            own = f"~/input/{camera}/{name}" if cameras else f"~/input/{name}"
            pairs.append((own, value(name).replace("{camera}", camera)))
    if value("depth_image").endswith(COMPRESSED_DEPTH):
        pairs += [(own + COMPRESSED_DEPTH, to) for own, to in pairs if own.endswith("/depth_image")]
    images = [pair for pair in pairs if pair[0].endswith("/image")]
    for transport in ("compressed", "ffmpeg"):
        pairs += [beside(own, topic, transport) for own, topic in images]
    return [*pairs, *((f"{own}/foxglove", topic) for own, topic in images)]


def beside(own, topic, transport):
    """Return the remapping to a transport's topic, which may be given itself."""
    suffix = f"/{transport}"
    return own + suffix, topic.removesuffix(suffix) + suffix


def environment():
    """Return the variables of our Fast DDS transports, which let megabyte messages through.

    None where the user set one. They go to our process alone, not to the file that includes this.
    """
    names = ["FASTDDS_DEFAULT_PROFILES_FILE"]
    if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy"):
        names.append("FASTRTPS_DEFAULT_PROFILES_FILE")  # the older name; newer ROS warns of it
    if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ or names[0] in os.environ:
        return {}
    return {name: str(SHARE / "config" / "fastdds.xml") for name in names}


def declared(arguments):
    """Return the launch arguments of a table of name: (default, description); None: no default."""
    return [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]


def start(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    return [Node(package="lemumo_ros", executable="perception", **node_options(value))]


def generate_launch_description():
    return LaunchDescription([*declared(ARGUMENTS), OpaqueFunction(function=start)])
