"""Run the perception node over a recorded bag: every frame, in order, as fast as it can.

    ros2 launch lemumo_ros replay.launch.py bag:=/path/to/bag output:=/path/for/results

It is the node of perception.launch.py with the same arguments, fed from the bag instead of DDS.
"""

import runpy
from pathlib import Path

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

perception = runpy.run_path(str(Path(__file__).with_name("perception.launch.py")))

ARGUMENTS = {
    "bag": (None, "folder or file of the bag to replay"),
    "output": ("", "folder for the results; empty: only report"),
    **perception["ARGUMENTS"],
}


def start(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    arguments = ["--bag", value("bag")]
    if value("output"):
        arguments += ["--output", value("output")]
    options = perception["node_options"](value)
    return [Node(package="lemumo_ros", executable="replay", arguments=arguments, **options)]


def generate_launch_description():
    return LaunchDescription(
        [
            *perception["declared"](ARGUMENTS),
            *perception["environment"](),
            OpaqueFunction(function=start),
        ]
    )
