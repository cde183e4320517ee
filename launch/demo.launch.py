"""Play a bag to the node and show the result: the whole way from a bag to RViz or Foxglove.

    ros2 launch lemumo_ros demo.launch.py
    ros2 launch lemumo_ros demo.launch.py model:=lemumo-tiny-thermal
    ros2 launch lemumo_ros demo.launch.py bag:=/path/to/bag model:=/path/to/package viewer:=foxglove

Without a bag a street is rendered, once, to out/bags of the working folder: with LiDAR, or at night
with a thermal camera, as the model takes them.
"""

import json
import runpy
import subprocess
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

perception = runpy.run_path(str(Path(__file__).with_name("perception.launch.py")))
SHARE = perception["SHARE"]

ARGUMENTS = {
    "bag": ("", "folder or file of a bag; empty: a rendered street"),
    "image": ("", "topic of the images, where the bag leaves a choice"),
    "points": (
        "",
        "topic of the point clouds, where the bag leaves a choice; several: with commas",
    ),
    "model": ("lemumo-tiny", "folder of the model package, or the name of a shipped one"),
    "rate": ("0.5", "speed of playing"),
    "loop": ("true", "play the bag again and again"),
    "viewer": ("auto", "rviz, foxglove (its bridge), none, or auto: what is installed"),
}
VIEWERS = {
    "rviz": {
        "package": "rviz2",
        "executable": "rviz2",
        "arguments": ["-d", str(SHARE / "rviz" / "lemumo.rviz")],
    },
    "foxglove": {"package": "foxglove_bridge", "executable": "foxglove_bridge"},
}


def is_installed(package):
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def viewer_actions(chosen):
    """Return what starts the viewer, or says how to see the results."""
    if chosen not in (*VIEWERS, "none", "auto"):
        raise ValueError(f"viewer:={chosen} is none of {', '.join(VIEWERS)}, none, auto")
    if chosen == "auto":
        installed = [name for name in VIEWERS if is_installed(VIEWERS[name]["package"])]
        chosen = installed[0] if installed else ""
    if chosen in VIEWERS:
        actions = [Node(parameters=[{"use_sim_time": True}], **VIEWERS[chosen])]
        if chosen == "foxglove":
            layout = SHARE / "foxglove" / "lemumo.json"
            text = f"open ws://localhost:8765 in Foxglove and import the layout {layout}"
            actions.append(LogInfo(msg=text))
        return actions
    names = " nor ".join(options["package"] for options in VIEWERS.values())
    text = f"neither {names} is installed: look at the topics below /perception/output"
    return [] if chosen == "none" else [LogInfo(msg=text)]


def find_bag(**chosen):
    """Return the launch arguments that a bag asks for; renders one where none is given.

    Another process reads it: launch's own Python need not be the one that lemumo is installed for.
    """
    installed = SHARE.parent.parent / "lib" / "lemumo_ros" / "demo_bag"
    program = installed if installed.is_file() else SHARE / "scripts" / "demo_bag"
    command = [str(program)]
    for name, text in chosen.items():
        command += [f"--{name}", text] if text else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def start(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    chosen = {name: value(name) for name in ("bag", "image", "points", "model")}
    found = find_bag(**chosen)
    bag = found.pop("bag")
    defaults = {name: default for name, (default, _) in perception["ARGUMENTS"].items()}
    arguments = {**defaults, **found, "model": value("model"), "use_sim_time": "true"}
    options = perception["node_options"](arguments.__getitem__)
    loop = ["--loop"] if perception["is_true"]("loop", value("loop")) else []
    player = ["--live", "--rate", value("rate"), *loop]
    return [
        Node(package="lemumo_ros", executable="perception", **options),
        Node(
            package="lemumo_ros",
            executable="replay",
            arguments=[bag, *player],
            additional_env=perception["environment"](),
            output="screen",
        ),
        *viewer_actions(value("viewer")),
    ]


def generate_launch_description():
    return LaunchDescription([*perception["declared"](ARGUMENTS), OpaqueFunction(function=start)])
