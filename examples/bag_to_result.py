"""Run a model over your bag: print what it finds, and save a picture of the last image.

    python examples/bag_to_result.py BAG [--package PACKAGE]

ROS is not needed. Topics, calibration and extrinsics are found in the bag.
"""

import sys

import cv2

import lemumo_core
from lemumo_core.command_line import run_function
from lemumo_core.data.sources.registry import open_source
from lemumo_core.streaming.overlay import draw_overlay


def main(bag: str, package: str = "models/lemumo-tiny") -> None:
    """Print the objects of every image.

    Args:
        bag: folder or file.
        package: folder of the model.
    """
    frames = open_source("bags", path=bag)
    perceive = lemumo_core.load(package)
    names = perceive.package.manifest.detection_classes

    for frame in frames:
        perception = perceive(frame)
        found = perception.detections
        print(f"{frame.stamp_ns}: {' + '.join(perception.modalities)}")
        for box, score, class_id in zip(found.boxes_3d, found.scores, found.class_ids, strict=True):
            x, y, z = box[:3]  # metres in the camera's optical frame: right, down, forward
            print(f"  {names[class_id]} {score:.2f} at {x:.1f}, {y:.1f}, {z:.1f} m")

    picture = draw_overlay(frame, perception, perceive.package.manifest)
    cv2.imwrite("result.png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print("written: result.png")


if __name__ == "__main__":
    sys.exit(run_function("bag_to_result.py", main, sys.argv[1:], __doc__))
