"""Run a model over a recorded bag: every frame, in order, as fast as the machine can.

    ros2 launch lemumo_ros replay.launch.py bag:=/path/to/bag model:=/path/to/package out:=results
    ... options:="--workers 2 --results-bag"

The bag feeds the same callbacks as the perception node, without DDS. `live:=true` publishes the
bag over DDS with /clock instead, for a node that runs elsewhere with use_sim_time.
"""

import runpy
import shlex
from pathlib import Path

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

perception = runpy.run_path(str(Path(__file__).with_name("perception.launch.py")))

ARGUMENTS = {
    "bag": (None, "folder or file of the bag"),
    "model": ("", "folder of the model package; not needed with live:=true"),
    "out": ("", "folder for the results; empty: only report"),
    "live": ("false", "true: publish the bag instead of running a model"),
    "rate": ("1.0", "speed of live:=true"),
    "options": ("", "more options of lemumo replay, as in a shell"),
}


def start(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    arguments = [value("bag")]
    for name in ("model", "out"):
        arguments += [f"--{name}", value(name)] if value(name) else []
    if perception["is_true"]("live", value("live")):
        arguments += ["--live", "--rate", value("rate")]
    arguments += shlex.split(value("options"))
    return [
        Node(
            package="lemumo_ros",
            executable="replay",
            arguments=arguments,
            additional_env=perception["environment"](),
            output="screen",
        )
    ]


def generate_launch_description():
    return LaunchDescription([*perception["declared"](ARGUMENTS), OpaqueFunction(function=start)])
