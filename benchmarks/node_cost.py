"""Measure the node's own cost for six cameras at 10 Hz and a LiDAR, beside two plain nodes.

    python -m benchmarks.node_cost [--ticks 20]

A tick is what 100 ms bring: one point cloud and six images, handed to the callbacks as rclpy would
(DDS' own share of receiving is the same for all, and left out), and the results published over
real DDS to a listener. The network is a stub that sleeps for 1 ms. The cost is processor time of
the whole process, by frame; the three nodes take turns.

- ``naive``: message_filters' search for pairs, ``struct`` for every point, a loop to project them.
- ``vectorised``: the same with NumPy, as sensor_msgs_py and a tutorial would have it.
"""

from __future__ import annotations

import argparse
import copy
import os
import struct
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import rclpy

from benchmarks._messages import sensor_messages
from benchmarks._stub import SLEEP_S, stub_pipeline
from benchmarks._timing import machine
from lemumo_core.drawing import class_colors
from lemumo_core.frame import Detections
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.markers import markers
from lemumo_core.preprocess import InputSpec
from lemumo_core.streaming.cameras import Cameras
from lemumo_core.taxonomy import DETECTION_CLASSES
from lemumo_ros.parameters import CameraParameters, Parameters
from lemumo_ros.publish.publisher import TOPICS, ResultPublisher
from lemumo_ros.publish.rclpy_builder import build
from lemumo_ros.worker import Worker

NAMES = tuple(f"camera_{i}" for i in range(6))
POINTS = 34_720  # a 32-beam LiDAR
CAMERA = Camera(1600, 900, 1260.0, 1260.0, 800.0, 450.0)
SPEC = InputSpec(256, 704, "lidar", 2)
OUTPUTS = ("detections_3d", "depth/image_raw", "labels", "markers")
WARM_UPS = 3
PERIOD_NS = 100_000_000
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.3], [1, 0, 0, -0.4], [0, 0, 0, 1]])


class Sensors:
    """The messages of one tick after another.

    Args:
        names: of the cameras.
    """

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        image, info, self.cloud = sensor_messages(CAMERA, POINTS)
        self.images = {name: copy.copy(image) for name in names}
        self.infos = {name: copy.copy(info) for name in names}

    def stamp(self, stamp_ns: int) -> None:
        """Give all messages a new stamp."""
        for name in self.images:
            header = build.header(stamp_ns, name)
            self.images[name].header = self.infos[name].header = header
        self.cloud.header = build.header(stamp_ns, "lidar")


class OurNode:
    """The node's own parts, its worker running.

    Args:
        node: that publishes.
        names: of the cameras.
    """

    def __init__(self, node: Any, names: Sequence[str] = NAMES):
        own = CameraParameters(extrinsics=tuple(T_CAMERA_LIDAR.ravel().tolist()))
        settings = Parameters(cameras=tuple(names), by_camera=dict.fromkeys(names, own))
        self.cameras = Cameras(settings.camera_options(), "lidar", time.monotonic_ns, time.time_ns)
        publishers = {
            name: ResultPublisher(node, self.cameras.transforms, settings.topics(name))
            for name in names
        }
        pipeline = stub_pipeline(SPEC, len(names))
        self.worker = Worker(node, self.cameras, publishers, pipeline, settings)
        self.worker.start()

    def tick(self, sensors: Sensors) -> int:
        """Take a tick's messages; returns how many frames came out."""
        healths = [camera.health for camera in self.cameras.inputs.values()]
        before = sum(health.frames_out for health in healths)
        self.cameras.notifying(self.cameras.on_points)(sensors.cloud)
        for name, camera in self.cameras.inputs.items():
            camera.on_camera_info(sensors.infos[name])
            self.cameras.notifying(camera.on_image)(sensors.images[name])
        deadline = time.monotonic() + 60.0
        while (done := sum(h.frames_out for h in healths) - before) < len(healths):
            assert time.monotonic() < deadline, [h.drops for h in healths]
            time.sleep(SLEEP_S)
        return done


class PlainNode:
    """All in the callback: find the set, parse, project, infer, publish.

    Args:
        loops: parse and project point by point.
    """

    def __init__(self, node: Any, loops: bool):
        self.publishers = {
            name: {
                key: node.create_publisher(TOPICS[key], f"~/output/{name}/{key}", 5)
                for key in OUTPUTS
            }
            for name in NAMES
        }
        self.loops = loops
        self.stub = stub_pipeline(SPEC).backend
        self.buffers = {k: np.empty(s.shape, s.dtype) for k, s in self.stub.outputs.items()}
        self.queues: dict[str, list[dict[int, Any]]] = {name: [{}, {}, {}] for name in NAMES}
        self.done = 0

    def tick(self, sensors: Sensors) -> int:
        """Take a tick's messages; returns how many frames came out."""
        self.done = 0
        for name in NAMES:
            self.add(name, 0, sensors.cloud)
            self.add(name, 1, sensors.infos[name])
            self.add(name, 2, sensors.images[name])
        return self.done

    def add(self, name: str, which: int, message: Any, slop_ns: int = PERIOD_NS // 2) -> None:
        """A queue of ten for each topic, searched for messages within the slop of this one."""
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        queues = self.queues[name]
        queues[which][stamp_ns] = message
        while len(queues[which]) > 10:
            del queues[which][min(queues[which])]
        found = []
        for queue in queues:
            near = sorted(abs(other - stamp_ns) for other in queue)
            if not near or near[0] > slop_ns:
                return
            found.append(next(other for other in queue if abs(other - stamp_ns) == near[0]))
        self.callback(name, *(queue.pop(at) for queue, at in zip(queues, found, strict=True)))

    def callback(self, name: str, cloud: Any, info: Any, image: Any) -> None:
        """One camera's set."""
        pixels = np.array(image.data, np.uint8).reshape(image.height, image.width, 3)
        K = np.array(info.k).reshape(3, 3)
        project = self.project_in_loops if self.loops else self.project_at_once
        depth_m = project(cloud, K, image.width, image.height)
        scale = SPEC.width / image.width
        size = SPEC.width, round(image.height * scale)
        view = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)[-SPEC.height :]
        companion = cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST)[-SPEC.height :]
        feed = {"image": view[None], "companion": (companion / 80.0)[None, ..., None]}
        self.stub.infer(feed, self.buffers)
        self.publish(name, image.header)

    def project_in_loops(self, cloud: Any, K: np.ndarray, width: int, height: int) -> np.ndarray:
        """Depth map of the image's size, point by point."""
        depth_m = np.zeros((height, width), np.float32)
        unpack = struct.Struct("<ffff").unpack_from
        T, (fx, fy, cx, cy) = T_CAMERA_LIDAR.tolist(), (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        for i in range(cloud.width * cloud.height):
            x, y, z, _ = unpack(cloud.data, i * cloud.point_step)
            ahead = T[2][0] * x + T[2][1] * y + T[2][2] * z + T[2][3]
            if ahead <= SPEC.depth_min_m:
                continue
            u = int(fx * (T[0][0] * x + T[0][1] * y + T[0][2] * z + T[0][3]) / ahead + cx + 0.5)
            v = int(fy * (T[1][0] * x + T[1][1] * y + T[1][2] * z + T[1][3]) / ahead + cy + 0.5)
            near = 0 <= u < width and 0 <= v < height
            if near and (depth_m[v, u] == 0 or ahead < depth_m[v, u]):
                depth_m[v, u] = ahead
        return depth_m

    def project_at_once(self, cloud: Any, K: np.ndarray, width: int, height: int) -> np.ndarray:
        """The same with NumPy."""
        names = [field.name for field in cloud.fields]
        dtype = np.dtype([(name, np.float32) for name in names])
        rows = np.frombuffer(cloud.data, dtype)
        points = np.stack([rows["x"], rows["y"], rows["z"], np.ones(len(rows))], axis=1)
        in_camera = (T_CAMERA_LIDAR @ points.T)[:3]
        in_camera = in_camera[:, in_camera[2] > SPEC.depth_min_m]
        uv = np.rint((K @ in_camera)[:2] / in_camera[2]).astype(int)
        seen = (uv[0] >= 0) & (uv[0] < width) & (uv[1] >= 0) & (uv[1] < height)
        order = np.argsort(-in_camera[2, seen])
        depth_m = np.zeros((height, width), np.float32)
        u, v = uv[:, seen][:, order]
        depth_m[v, u] = in_camera[2, seen][order]
        return depth_m

    def publish(self, name: str, header: Any) -> None:
        """The same messages as ours."""
        out = {key: array[0] for key, array in self.buffers.items()}
        keep = out["scores"] >= 0.3
        boxes_2d = np.zeros((int(keep.sum()), 4), np.float32)
        found = Detections(
            out["boxes"][keep], boxes_2d, out["scores"][keep], out["class_ids"][keep]
        )
        T, colors = np.eye(4), class_colors(len(DETECTION_CLASSES))
        messages = {
            "detections_3d": build.detections_3d(found, DETECTION_CLASSES, T, header),
            "depth/image_raw": build.depth_image(out["depth"], "32FC1", header),
            "labels": build.label_image(out["labels"], header),
            "markers": markers(build, found, DETECTION_CLASSES, colors, T, header),
        }
        for key, message in messages.items():
            self.publishers[name][key].publish(message)
        self.done += 1


def compare(ways: dict[str, Any], ticks: int) -> dict[str, list[float]]:
    """Processor time of each way's frames, ms, tick by tick."""
    sensors = Sensors()
    costs_ms: dict[str, list[float]] = {name: [] for name in ways}
    for tick in range(ticks + WARM_UPS):
        for name, way in ways.items():
            sensors.stamp(time.time_ns())
            began = time.process_time()
            frames = way.tick(sensors)
            cost_ms = 1e3 * (time.process_time() - began) / frames
            assert frames == len(NAMES)
            if tick >= WARM_UPS:
                costs_ms[name].append(cost_ms)
    return costs_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ticks", type=int, default=20)
    args = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    listener = rclpy.create_node("listener")
    nodes = {name: rclpy.create_node(name) for name in ("ours", "naive", "vectorised")}
    for node in nodes:
        for name in NAMES:
            for key in OUTPUTS:
                topic = f"/{node}/output/{name}/{key}"
                listener.create_subscription(TOPICS[key], topic, lambda _: None, 1)
    ways = {
        "ours": OurNode(nodes["ours"]),
        "naive": PlainNode(nodes["naive"], loops=True),
        "vectorised": PlainNode(nodes["vectorised"], loops=False),
    }
    time.sleep(2.0)  # discovery
    try:
        costs_ms = compare(ways, args.ticks)
    finally:  # its thread would keep the process alive
        ways["ours"].worker.close()
        rclpy.shutdown()
    print(f"{machine()}; six cameras of 1600x900, {POINTS} points, {args.ticks} ticks")
    ours = np.percentile(costs_ms["ours"], [50, 99])
    for name, values in costs_ms.items():
        p50, p99 = np.percentile(values, [50, 99])
        ratio = f"   ours / this: p50 {ours[0] / p50:.3f}, p99 {ours[1] / p99:.3f}"
        print(f"{name:11} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms of CPU per frame{ratio}")


if __name__ == "__main__":
    main()
