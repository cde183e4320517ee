"""Network inputs to calibrate and to compare on: real frames with their truth, or random ones."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from lemumo_core.data.sources import evenly_spaced
from lemumo_core.data.sources.registry import source_class
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.preprocess import Inputs, InputSpec, preprocess

PRESENCE = ((1, 1), (1, 0), (0, 1))


@dataclass(frozen=True)
class Sample:
    """One network input, batch 1, and what is true of it.

    Attributes:
        inputs: numpy arrays.
        frame: where they come from, with labels; None for made-up inputs.
    """

    inputs: Inputs
    frame: Frame | None = None


def random_samples(spec: InputSpec, seeds: int) -> list[Sample]:
    """Random inputs: each seed with both modalities, and with either one absent."""
    samples = []
    for seed in range(seeds):
        for present in PRESENCE:
            inputs = random_inputs(spec, seed=seed)
            samples.append(Sample(inputs._replace(present=np.array([present], np.float32))))
    return samples


def source_samples(name: str, spec: InputSpec, count: int) -> list[Sample]:
    """Frames of a source, evenly spread over it, a share of their LiDAR returns kept as truth.

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
    frames = [mask_returns(source[index]) for index in evenly_spaced(len(source), count)]
    return [Sample(preprocess(frame, spec), frame) for frame in frames]
