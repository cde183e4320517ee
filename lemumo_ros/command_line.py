"""Checks of the node's command line before ROS reads it, and its help."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lemumo_ros.parameters import Parameters, parameter_fields

USAGE = """\
usage: lemumo node --ros-args [-p NAME:=VALUE] [-r FROM:=TO] [--params-file FILE.yaml] ...

Start the perception node, as ros2 run lemumo_ros perception does. It takes images, CameraInfo and
LiDAR points, or a thermal image, from the topics below ~/input/, and publishes below ~/output/;
docs/robot.md lists them. For a launch file: ros2 launch lemumo_ros perception.launch.py

parameters, and their defaults:
"""
INDENT = " " * 6


def check_words(words: Sequence[str]) -> None:
    """End the process where help is asked for, or the shell has put the home folder in a topic.

    It does so with ``~/input/image:=/camera/image_raw`` without quotes, and the node would wait for
    images on a topic that was never renamed.

    Args:
        words: of the command line.
    """
    if "-h" in words or "--help" in words:
        print(node_help())
        sys.exit()
    for word in words:
        for folder in ("input", "output"):
            if ":=" in word and word.startswith(f"{Path.home() / folder}/"):
                meant = f"~/{folder}/{word.partition(f'/{folder}/')[2]}"
                sys.exit(f"perception: the shell made {word} of {meant}: quote it, -r '{meant}'")


def node_help() -> str:
    """Return how the node is started, and its parameters."""
    lines = [USAGE]
    for entry in parameter_fields(Parameters):
        default = "" if entry.default in ((), "") else f" ({entry.default})"
        text = textwrap.fill(
            entry.metadata["text"], 100, initial_indent=INDENT, subsequent_indent=INDENT
        )
        lines.append(f"  {entry.name}{default}\n{text}")
    return "\n".join(lines)
