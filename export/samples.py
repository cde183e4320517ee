"""Network inputs to calibrate and to compare on: real frames with their truth, or random ones."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from lemumo_core.data.sources import spread
from lemumo_core.data.sources.registry import source_class
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.preprocess import InputSpec, labels_in_view, preprocess

STRIDE = 4
"""Depth and labels come at a quarter of the input's resolution."""
START = STRIDE // 2
PRESENCE = ((1, 1), (1, 0), (0, 1))


@dataclass(frozen=True)
class Sample:
    """One network input, batch 1, and what is true of it.

    Attributes:
        inputs: arrays by name.
        depth_m: float32 (H/4, W/4), NaN = unknown; None without truth.
        labels: uint8 (H/4, W/4), 255 = unlabelled; None without truth.
    """

    inputs: dict[str, np.ndarray]
    depth_m: np.ndarray | None = None
    labels: np.ndarray | None = None


def random_samples(spec: InputSpec, seeds: int) -> list[Sample]:
    """Random inputs: each seed with both modalities, and with either one absent."""
    samples = []
    for seed in range(seeds):
        for present in PRESENCE:
            inputs = random_inputs(spec, seed=seed)
            samples.append(Sample(inputs | {"present": np.array([present], np.float32)}))
    return samples


def source_samples(name: str, spec: InputSpec, count: int) -> list[Sample]:
    """Frames of a source, evenly spread over it.

    Args:
        name: ``SOURCE`` or ``SOURCE:PATH``, of ``lemumo_core.data.sources.registry``.
        spec: of the network's input.
        count: at most this many.

    Raises:
        Fault: as the source, or ``no_input`` if it is empty.
    """
    kind, _, path = name.partition(":")
    opened = source_class(kind)
    first = next(iter(inspect.signature(opened).parameters))
    source = opened(**({first: path} if path else {}))
    if len(source) == 0:
        raise Fault("no_input", f"{name} holds no frames")
    return [_sample(source[index], spec) for index in spread(len(source), count)]


def _sample(frame: Frame, spec: InputSpec) -> Sample:
    depth_m = labels = None
    if frame.labels is not None and frame.labels.depth_m is not None:
        depth_m = _quarter(frame.labels.depth_m, frame, spec, np.nan)
    if frame.labels is not None and frame.labels.label_map is not None:
        labels = _quarter(frame.labels.label_map, frame, spec, UNLABELLED)
    return Sample(preprocess(frame, spec).arrays(), depth_m, labels)


def _quarter(truth: np.ndarray, frame: Frame, spec: InputSpec, unknown: float) -> np.ndarray:
    """Full-size truth at the pixel next to the centre of each output cell."""
    return labels_in_view(truth, frame.camera, spec, unknown)[START::STRIDE, START::STRIDE]
