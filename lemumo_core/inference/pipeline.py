"""Frame to Perception: preprocess, infer, finish. Owns no threads and no clocks but timers."""

from __future__ import annotations

import math
import time

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Detections, Frame, LidarScan, Perception
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.backends import Backend, TensorSpec, load_backend
from lemumo_core.inference.package import Package
from lemumo_core.preprocess import NetworkInput, preprocess

OUTPUT_SHAPES = {
    "boxes": ("K", 7),
    "scores": ("K",),
    "class_ids": ("K",),
    "depth": ("h", "w"),
    "depth_confidence": ("h", "w"),
    "labels": ("h", "w"),
}
"""Shape of one sample of each output; equal letters are equal numbers."""
MAX_OUTPUT_BYTES = 1 << 30


class Pipeline:
    """A loaded model that turns frames into perceptions.

    Args:
        package: verified model package.
        backend: name for ``load_backend``.
        score_threshold: detections below it are dropped.

    Raises:
        Fault: as ``load_backend``; ``bad_package`` for outputs that are not ``OUTPUT_SHAPES`` or
            above ``MAX_OUTPUT_BYTES``.
    """

    def __init__(self, package: Package, backend: str = "auto", score_threshold: float = 0.3):
        self.package = package
        self.backend: Backend = load_backend(package, backend)
        check_outputs(self.backend.outputs)
        self.score_threshold = score_threshold
        self._buffers = {
            name: np.empty(spec.shape, spec.dtype) for name, spec in self.backend.outputs.items()
        }

    def warm_up(self) -> None:
        """Run once on an empty frame, so that the first real one is not slower."""
        spec = self.package.manifest.input
        camera = Camera(spec.width, spec.height, spec.width, spec.width, spec.width / 2, 0.0)
        self(Frame(0, "warm_up", camera, np.zeros((spec.height, spec.width, 3), np.uint8)))

    def __call__(self, frame: Frame) -> Perception:
        """Perceive one frame.

        Raises:
            Fault: as ``preprocess``; ``bad_output`` if the network's boxes or depth are not
                finite, or it names a class that the package does not have.
        """
        times = [time.perf_counter()]
        network_input = preprocess(frame, self.package.manifest.input)
        times.append(time.perf_counter())
        self.backend.infer(network_input.arrays(), self._buffers)
        times.append(time.perf_counter())
        perception = self._finish(frame, network_input)
        times.append(time.perf_counter())
        for stage, begin, end in zip(
            ("preprocess", "infer", "finish"), times[:-1], times[1:], strict=True
        ):
            perception.timings_ms[stage] = 1e3 * (end - begin)
        return perception

    def close(self) -> None:
        """Free the network."""
        self.backend.close()

    def _finish(self, frame: Frame, network_input: NetworkInput) -> Perception:
        out = {name: array[0] for name, array in self._buffers.items()}
        for name in ("boxes", "scores", "depth"):
            if not np.isfinite(out[name]).all():
                raise Fault("bad_output", f"the network's {name} hold NaN or infinity")
        manifest = self.package.manifest
        for name, classes in (
            ("class_ids", manifest.detection_classes),
            ("labels", manifest.segmentation_classes),
        ):
            if out[name].size and not 0 <= out[name].min() <= out[name].max() < len(classes):
                raise Fault(
                    "bad_output",
                    f"the network's {name} go from {out[name].min()} to {out[name].max()}, the "
                    f"package names {len(classes)} classes",
                )
        height, width = out["depth"].shape
        output_camera = network_input.view.scaled(width, height)
        outside = self._rows_above_image(frame.camera, network_input.view, height)
        depth_m, confidence = out["depth"].copy(), out["depth_confidence"].copy()
        labels = out["labels"].copy()
        depth_m[:outside], confidence[:outside], labels[:outside] = np.nan, 0.0, UNLABELLED
        return Perception(
            stamp_ns=frame.stamp_ns,
            camera_name=frame.camera_name,
            detections=self._detections(out, frame.camera, network_input.view),
            depth_m=depth_m,
            depth_confidence=confidence,
            labels=labels,
            output_camera=output_camera,
            modalities=_modalities(frame),
        )

    def _detections(self, out: dict[str, np.ndarray], camera: Camera, view: Camera) -> Detections:
        keep = out["scores"] >= self.score_threshold
        boxes = out["boxes"][keep].copy()
        if view.model != "pinhole" and len(boxes):
            # The graph placed X and Y as if the view were a pinhole: undo that, and go through
            # the distortion. A centre outside its field of view has no ray and is dropped.
            uv = boxes[:, :2] / boxes[:, 2:3] * (view.fx, view.fy) + (view.cx, view.cy)
            boxes[:, :3] = view.unproject(uv) * boxes[:, 2:3]
            seen = np.isfinite(boxes).all(axis=1)
            keep[keep] = seen
            boxes = boxes[seen]
        return Detections(
            boxes_3d=boxes,
            boxes_2d=image_bounds(boxes, camera),
            scores=out["scores"][keep].copy(),
            class_ids=out["class_ids"][keep].copy(),
        )

    @staticmethod
    def _rows_above_image(camera: Camera, view: Camera, height: int) -> int:
        """How many rows of an output of this height lie above the source image (padding)."""
        top_row = (-0.5 - camera.cy) * view.fy / camera.fy + view.cy
        return max(0, int(np.floor((top_row + 0.5) * height / view.height)))


def check_outputs(outputs: dict[str, TensorSpec]) -> None:
    """Hold a network's outputs against ``OUTPUT_SHAPES`` before memory is taken for them.

    Raises:
        Fault: ``bad_package``.
    """
    sizes: dict[str, int] = {}
    for name, shape in OUTPUT_SHAPES.items():
        found = outputs[name].shape if name in outputs else None
        fits = found is not None and len(found) == 1 + len(shape)
        for size, wanted in zip(found[1:] if found and fits else (), shape, strict=False):
            if isinstance(wanted, str) and isinstance(size, int):
                wanted = sizes.setdefault(wanted, size)
            fits = fits and size == wanted and size >= 0
        if not fits:
            raise Fault("bad_package", f"the network's output {name} is {found}, not {shape}")
    total = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in outputs.values())
    if total > MAX_OUTPUT_BYTES:
        raise Fault("bad_package", f"the network's outputs would take {total} bytes")


def _modalities(frame: Frame) -> tuple[str, ...]:
    companion = "lidar" if isinstance(frame.companion, LidarScan) else "thermal"
    present = (("camera", frame.image), (companion, frame.companion))
    return tuple(name for name, part in present if part is not None)
