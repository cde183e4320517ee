"""The bag of the demo: rendered where none is given, and the topics that the node takes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.command_line import run_function
from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.inference.package import load_package
from lemumo_core.progress import track
from lemumo_ros.input_types import CLOUD_TYPES, IMAGE_TYPES, transport_of, transport_suffix
from lemumo_ros.model_path import model_folder

MODEL = "lemumo-tiny"
NODE_NAME = "perception"
FRAMES = 40
STREET = {
    **{"frames": FRAMES, "frames_per_drive": FRAMES, "rate_hz": 10.0},
    **{"width": 960, "height": 352},
}
DAY = Path("out/bags/street"), {"seed": 28}
NIGHT = Path("out/bags/night"), {"seed": 73, "companion": "thermal"}
"""Bag of a street, and the options that it is rendered with beside those of ``STREET``."""


def default_bag(model: Path) -> Path:
    """Return the demo's own bag for a model, rendered where it is missing.

    It shows a street by day with LiDAR, or by night with a thermal camera, as the model takes them.

    Args:
        model: package.

    Raises:
        Fault, FileNotFoundError: as ``load_package``.
    """
    thermal = load_package(model).manifest.input.companion == "thermal"
    path, options = NIGHT if thermal else DAY
    if not path.exists():
        print(f"demo: rendering {FRAMES} frames of a street", file=sys.stderr, flush=True)
        source = open_source("synthetic", **STREET, **options)
        write_bag((source[index] for index in track(range(len(source)), "demo")), path)
    return path


def launch_arguments(
    bag: Path, image: str | None = None, points: str | None = None
) -> dict[str, str]:
    """Return the arguments with which ``perception.launch.py`` takes a bag.

    Args:
        bag: folder or file.
        image: as for ``find_topics``.
        points: likewise.

    Raises:
        Fault: as ``find_topics``.
    """
    with BagReader(bag) as reader:
        topics = find_topics(reader, image=image, points=points)
        kinds = {topic.name: topic.type for topic in reader.topics}
    transport = transport_of(IMAGE_TYPES, kinds[topics.image])
    found: dict[str, str | None] = {
        "image": topics.image,
        "camera_info": topics.camera_info,
        "image_transport": "" if transport == "raw" else transport,
    }
    if topics.depth_info:
        found["depth_image"] = topics.points
    elif topics.points:
        found["points"] = ",".join(topics.lidars)
        clouds = cloud_transport(topics, kinds)
        found["points_transport"] = "" if clouds == "raw" else clouds
    found |= {
        "depth_info": topics.depth_info,
        "thermal": topics.thermal,
        "thermal_info": topics.thermal_info,
    }
    return {name: topic for name, topic in found.items() if topic} | {"bag": str(bag.resolve())}


def node_command(model: Path, topics: BagTopics, kinds: dict[str, str]) -> list[str]:
    """Return the command line of the node, its inputs remapped to the bag's topics.

    Args:
        model: package.
        topics: of the bag.
        kinds: type by topic.
    """
    source, points = "points", topics.points or ""
    values: dict[str, object] = {"model": model, "use_sim_time": "true", "overlay_rate_hz": 1000.0}
    remaps: dict[str, str | None] = {
        "camera_info": topics.camera_info,
        "depth_info": topics.depth_info,
    }
    if topics.depth_info:
        compressed_depth = points.endswith("/compressedDepth")
        source = "compressed_depth" if compressed_depth else "depth_image"
        remaps["depth_image/compressedDepth" if compressed_depth else "depth_image"] = points
    elif points:
        clouds = cloud_transport(topics, kinds)
        names = [f"lidar_{number}/" for number in range(1, len(topics.lidars) + 1)]
        if len(names) == 1:
            names = [""]
        else:
            values["lidars"] = f"[{', '.join(name[:-1] for name in names)}]"
        values["points_transport"] = clouds
        for name, topic in zip(names, topics.lidars, strict=True):
            remaps[f"{name}points{transport_suffix(clouds)}"] = topic
    remaps |= {"camera_info": topics.camera_info, "depth_info": topics.depth_info}
    remaps |= {"thermal": topics.thermal, "thermal_info": topics.thermal_info}
    transport = transport_of(IMAGE_TYPES, kinds[topics.image])
    remaps[f"image{transport_suffix(transport)}"] = topics.image
    command = [sys.executable, "-m", "lemumo_ros.node", "--ros-args", "-r", f"__node:={NODE_NAME}"]
    for role, remapped in remaps.items():
        if remapped:
            command += ["-r", f"~/input/{role}:={remapped}"]
    values |= {"image_transport": transport, "companion_source": source}
    for key, value in values.items():
        command += ["-p", f"{key}:={value}"]
    return command


def cloud_transport(topics: BagTopics, kinds: dict[str, str]) -> str:
    """Return the transport of the point clouds of a bag.

    Args:
        topics: of the bag.
        kinds: type by topic.

    Raises:
        Fault: ``wrong_type`` where LiDARs have different ones, which the node does not take.
    """
    found = {
        transport_of(CLOUD_TYPES, kinds[topic], topic.rpartition("/")[2]) for topic in topics.lidars
    }
    if len(found) > 1:
        listing = ", ".join(f"{topic} [{kinds[topic]}]" for topic in topics.lidars)
        raise Fault("wrong_type", f"the node takes LiDARs of one type: {listing}")
    return found.pop() if found else "raw"


def demo_bag(
    bag: Path | None = None,
    image: str | None = None,
    points: str | None = None,
    model: str = MODEL,
) -> int:
    """Print the launch arguments of a bag as JSON.

    Args:
        bag: folder or file; by default the demo's own.
        image: topic of the images, where the bag leaves a choice.
        points: topic of the point clouds, where the bag leaves a choice; several, joined by commas,
            are merged.
        model: package that the demo's own bag is for, as the node takes it.
    """
    played = bag or default_bag(model_folder(model))
    print(json.dumps(launch_arguments(played, image, points)))
    return 0


def main(arguments: list[str]) -> int:
    """Run ``demo_bag``; return its exit code."""
    return run_function("demo_bag", demo_bag, arguments)
