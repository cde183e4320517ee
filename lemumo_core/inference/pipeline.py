"""Frames to Perceptions: preprocess, infer, finish. Owns no threads and no clocks but timers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import PUBLISHED_SCORE, Frame, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.backends import Backend, TensorSpec, load_backend, split_name
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.package import Package
from lemumo_core.inference.results import perception_of
from lemumo_core.inference.selection import resolve_backend
from lemumo_core.preprocess import Inputs, network_view, preprocess

OUTPUT_SHAPES: dict[str, tuple[str | int, ...]] = {
    "boxes": ("K", "box"),
    "scores": ("K",),
    "class_ids": ("K",),
    "depth": ("h", "w"),
    "depth_confidence": ("h", "w"),
    "labels": ("h", "w"),
}
"""Shape of one sample of each output; equal names are equal numbers."""
MAX_OUTPUT_BYTES = 1 << 30


class Pipeline:
    """A loaded model that turns frames into perceptions. One caller at a time.

    Args:
        package: verified model package.
        backend: name for ``resolve_backend``, or one that is loaded.
        score_threshold: detections below it are dropped.
        batch: most frames that one inference takes. Only packages that hold the dynamic graph
            can; others infer one after another.
        load: makes the backend of a name, such as ``RecoveringBackend``.

    Attributes:
        backend_reason: why ``auto`` chose this backend, and whether the choice is kept.

    Raises:
        Fault: as ``resolve_backend`` and ``load_backend``; ``bad_package`` for outputs that are not
            ``OUTPUT_SHAPES`` or above ``MAX_OUTPUT_BYTES``.
    """

    def __init__(
        self,
        package: Package,
        backend: str | Backend = "auto",
        score_threshold: float = PUBLISHED_SCORE,
        batch: int = 1,
        load: Callable[[Package, str, int], Backend] = load_backend,
    ):
        self.package = package
        self.score_threshold = score_threshold
        if isinstance(backend, str):
            choice = resolve_backend(package, backend)
            dynamic = model_file(split_name(choice.backend)[1] or "fp32", dynamic=True)
            self.batch = batch if dynamic in package.manifest.files else 1
            self.backend = load(package, choice.backend, self.batch)
            self.backend_reason = choice.reason
        else:
            self.batch, self.backend, self.backend_reason = 1, backend, "as given"
        check_outputs(self.backend.outputs, package.manifest.numbers_of_box)
        self._inputs: Inputs | None = None
        self._outputs = {
            name: np.empty(spec.shape, spec.dtype) for name, spec in self.backend.outputs.items()
        }

    def warm_up(self) -> None:
        """Run on empty frames, one and a full batch, so that the first real ones are not slower."""
        spec = self.package.manifest.input
        camera = Camera(spec.width, spec.height, spec.width, spec.width, spec.width / 2, 0.0)
        image = np.zeros((spec.height, spec.width, 3), np.uint8)
        frame = Frame(0, "warm_up", camera, image)
        self(frame)
        if self.batch > 1:
            self.perceive([frame] * self.batch)

    def __call__(self, frame: Frame) -> Perception:
        """Perceive one frame.

        Raises:
            Fault: as ``preprocess``; ``bad_output`` if the network's boxes or depth are not
                finite, or it names a class that the package does not have.
        """
        (result,) = self.perceive([frame])
        if isinstance(result, Fault):
            raise result
        return result

    def perceive(self, frames: Sequence[Frame]) -> list[Perception | Fault]:
        """Perceive frames of any cameras, ``batch`` of them in one inference.

        Returns:
            For each frame what the model says, or the fault that spoils it, and it alone. The
            time ``infer`` is that of the whole inference.
        """
        frames = list(frames)
        results: dict[int, Perception | Fault] = {}
        sound: list[tuple[int, Inputs]] = []
        times_s: dict[int, list[float]] = {}
        for i, frame in enumerate(frames):
            started = time.perf_counter()
            try:
                inputs = preprocess(frame, self.package.manifest.input)
                if not inputs.present[0, 1]:  # a LiDAR that has no return in view was not used
                    frames[i] = replace(frame, companion=None)
                sound.append((i, inputs))
            except Fault as fault:
                results[i] = fault
            times_s[i] = [time.perf_counter() - started]
        for first in range(0, len(sound), self.batch):
            samples = sound[first : first + self.batch]
            started = time.perf_counter()
            self._infer([inputs for _, inputs in samples])
            inferred = time.perf_counter()
            for row, (i, _) in enumerate(samples):
                begin = time.perf_counter()
                try:
                    perception = self._finish(frames[i], row)
                except Fault as fault:
                    results[i] = fault
                    continue
                times_s[i] += [inferred - started, time.perf_counter() - begin]
                stages = zip(("preprocess", "infer", "finish"), times_s[i], strict=True)
                perception.timings_ms.update((stage, 1e3 * spent) for stage, spent in stages)
                results[i] = perception
        return [results[i] for i in range(len(frames))]

    def _infer(self, samples: list[Inputs]) -> None:
        """Run the network; the results of the samples are the first rows of the outputs."""
        count, inputs = len(samples), samples[0]
        if count > 1:
            if self._inputs is None:
                self._inputs = Inputs(
                    *(np.empty((self.batch, *one.shape[1:]), one.dtype) for one in inputs)
                )
            joined = zip(zip(*samples, strict=True), self._inputs, strict=True)
            inputs = Inputs(*(np.concatenate(parts, out=out[:count]) for parts, out in joined))
        self.backend.infer(inputs, {name: array[:count] for name, array in self._outputs.items()})

    def _finish(self, frame: Frame, row: int) -> Perception:
        outputs = {name: array[row] for name, array in self._outputs.items()}
        manifest = self.package.manifest
        view = network_view(frame.camera, manifest.input)
        return perception_of(outputs, frame, view, manifest, self.score_threshold)

    def close(self) -> None:
        """Free the network."""
        self.backend.close()


def check_outputs(outputs: dict[str, TensorSpec], numbers_of_box: int = 7) -> None:
    """Hold a network's outputs against ``OUTPUT_SHAPES`` before memory is taken for them.

    Args:
        outputs: by name.
        numbers_of_box: ``Manifest.numbers_of_box``.

    Raises:
        Fault: ``bad_package``.
    """
    sizes = {"box": numbers_of_box}
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
