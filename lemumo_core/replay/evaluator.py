"""One bag through one model: what it says of every image, how good that is, and what looks wrong.

A ``Judge`` does the work for the images it is asked for, so that several of them, each in a process
of its own, share a bag. What it yields can be pickled, and does not depend on who does what.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.data.sources.truth_by_stamp import Truth, truth_of_bag, truth_of_source
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD, metric_for, with_modality
from lemumo_core.evaluation.pictures import draw_comparison
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, Perception
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.calibration import Alignment, align
from lemumo_core.metrics.consistency import Difference, above, difference
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.replay.bag_feed import BagClock, Instant, feed
from lemumo_core.replay.read_ahead import read_ahead
from lemumo_core.streaming.camera_input import CameraInput, CameraOptions
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.overlay import draw_overlay

with suppress(ModuleNotFoundError):  # said by BagReader
    from rosbags.typesys import Stores, get_typestore

JUDGED_MODES = ("fused", "camera_only")
PAIR_WITHIN_M = 2.0
"""Between the centres of one object in two results."""
ALIGNMENTS = 16
"""Frames of a bag whose calibration is checked, evenly spread."""
AHEAD = 2
"""Images that are read and decoded while the model is at work on another."""
SENSOR_TOPICS = ("image", "camera_info", "points", "thermal", "thermal_info")


@dataclass(frozen=True)
class Settings:
    """What a replay is asked to do; can be pickled.

    Attributes:
        model, backend: package and name of a backend.
        score_threshold: of the detections that are results; metrics see all of them.
        sync_tolerance_ns, companion_deadline_ns: as in ``Matcher``.
        extrinsics: (4, 4) T_camera_companion instead of tf.
        topics: role to name, of ``SENSOR_TOPICS``; None finds it.
        truth: name and options of a source with labels, None for the topics of the bag.
        evaluate: judge results and sensors; False only perceives.
        overlays: draw every frame.
    """

    model: Path
    backend: str = "auto"
    score_threshold: float = 0.3
    sync_tolerance_ns: int = 60_000_000
    companion_deadline_ns: int = 100_000_000
    extrinsics: np.ndarray | None = None
    topics: dict[str, str | None] = field(default_factory=dict)
    truth: tuple[str, dict[str, Any]] | None = None
    evaluate: bool = True
    overlays: bool = False


@dataclass(frozen=True, eq=False)
class Result:
    """All that is known of one image of a bag.

    Attributes:
        instant: without the frame.
        perception: what the node would publish; None where the image was dropped.
        metrics, figures: by mode of ``JUDGED_MODES``, of this frame alone.
        held_out: whether depth was judged on hidden LiDAR returns.
        unjudged: why there are none, where the truth is at fault.
        disagreement: between the modes.
        alignment: of LiDAR and image, of some frames.
        overlay: PNG.
    """

    instant: Instant
    perception: Perception | None = None
    metrics: dict[str, PerceptionMetric] = field(default_factory=dict)
    figures: dict[str, Summary] = field(default_factory=dict)
    held_out: bool = False
    unjudged: Fault | None = None
    disagreement: Difference | None = None
    alignment: Alignment | None = None
    overlay: bytes | None = None


class Judge:
    """A loaded model with its task.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``load_package``, ``load_backend``, the truth.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        package = load_package(settings.model)
        self.manifest = package.manifest
        threshold = SCORE_THRESHOLD if settings.evaluate else settings.score_threshold
        self.pipeline = Pipeline(package, settings.backend, threshold)
        self.pipeline.warm_up()
        self._truth: Truth | None = None
        if settings.truth and settings.evaluate:
            self._truth = truth_of_source(*settings.truth, settings.sync_tolerance_ns)

    def results(
        self, files: Sequence[Path], wanted: Callable[[int], bool] = lambda number: True
    ) -> Iterator[Result]:
        """Replay one bag.

        Args:
            files: what ``BagReader`` opens together.
            wanted: which images, by number.

        Raises:
            Fault: ``damaged_bag``, or as ``find_topics`` and ``Truth``.
        """
        with BagReader(files) as reader:
            truth = self._truth_of(files, reader)
            every = max(1, image_count(reader, self.topics(reader)) // ALIGNMENTS)
            for instant in read_ahead(lambda: self._instants(files, wanted), AHEAD):
                yield self._judged(instant, truth, instant.number % every == 0)

    def pictures(
        self, files: Sequence[Path], numbers: Sequence[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Result beside truth, uint8 RGB, of some images of a bag, by number."""
        with BagReader(files) as reader:
            truth = self._truth_of(files, reader)
            for instant in self._instants(files, set(numbers).__contains__):
                if instant.frame is not None:
                    frame = mask_returns(_labelled(instant.frame, truth))
                    yield (
                        instant.number,
                        draw_comparison(frame, self.pipeline(frame), self.manifest),
                    )

    def topics(self, reader: BagReader) -> BagTopics:
        """The sensors' topics of a bag; Fault as ``find_topics``."""
        return find_topics(reader, **self.settings.topics)

    def _instants(
        self, files: Sequence[Path], wanted: Callable[[int], bool]
    ) -> Generator[Instant, None, None]:
        return instants(files, self.settings, self.manifest.input.companion, wanted)

    def _truth_of(self, files: Sequence[Path], reader: BagReader) -> Truth | None:
        if self._truth is not None or not self.settings.evaluate:
            return self._truth
        return truth_of_bag(files, reader, self.settings.topics, self.settings.sync_tolerance_ns)

    def _judged(self, instant: Instant, truth: Truth | None, check: bool) -> Result:
        frame = instant.frame
        instant = replace(instant, frame=None)
        if frame is None:
            return Result(instant)
        try:
            full = self.pipeline(frame)
        except Fault as fault:
            return Result(replace(instant, fault=fault))
        perception = above(full, self.settings.score_threshold)
        more: dict[str, Any] = {}
        if self.settings.evaluate:
            try:
                more = self._evaluated(_labelled(frame, truth), full)
            except Fault as fault:
                more["unjudged"] = fault
        if self.settings.overlays:
            picture = draw_overlay(frame, perception, self.manifest)
            more["overlay"] = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        if check and self.settings.evaluate:
            more["alignment"] = align(frame)
        return Result(instant, perception, **more)

    def _evaluated(self, frame: Frame, full: Perception) -> dict[str, Any]:
        """Fields of a ``Result``. What the model saw already is not inferred again."""
        held = mask_returns(frame)
        metrics, figures, cut = {}, {}, []
        for mode in JUDGED_MODES:
            seen = with_modality(held, mode)
            if seen is None:
                continue
            same = seen is frame or frame.companion is None
            perception = full if same else self.pipeline(seen)
            metrics[mode] = metric_for(self.manifest)
            figures[mode] = metrics[mode].add(held, perception)
            cut.append(above(perception, self.settings.score_threshold))
        disagreement = difference(cut[0], cut[1], PAIR_WITHIN_M) if len(cut) == 2 else None
        return {
            "metrics": metrics,
            "figures": figures,
            "held_out": held is not frame,
            "disagreement": disagreement,
        }


def instants(
    files: Sequence[Path],
    settings: Settings,
    companion: str,
    wanted: Callable[[int], bool] = lambda number: True,
) -> Generator[Instant, None, None]:
    """What becomes of the images of a bag, as ``feed``.

    Args:
        files: what ``BagReader`` opens together; closed with the generator.
        settings: of the replay.
        companion: of the model.
        wanted: which images, by number.
    """
    options = CameraOptions(
        settings.sync_tolerance_ns,
        settings.companion_deadline_ns,
        T_camera_companion=settings.extrinsics,
    )
    camera_input = CameraInput(
        *("camera", companion, options, Health(), BagClock()), fallback_decoder=_fallback_decoder()
    )
    with BagReader(files) as reader:
        topics = find_topics(reader, **settings.topics)
        yield from feed(reader, topics, camera_input, wanted)


def _fallback_decoder() -> Callable[[Any], np.ndarray] | None:
    """Return the decoder that the node uses for unusual encodings, where one is installed."""
    decoders = entry_points(group="lemumo.image_decoders")
    return next((decoder.load() for decoder in decoders), None)


def missing_companion(reader: BagReader, topics: BagTopics, companion: str) -> str:
    """Words for a bag without the model's companion, but with types that nobody knows; or ''."""
    if topics.points if companion == "lidar" else topics.thermal:
        return ""
    standard = get_typestore(Stores.ROS2_KILTED).types
    unknown = [f"{t.name} [{t.type}]" for t in reader.topics if t.type not in standard]
    if not unknown:
        return ""
    return f"no {companion} topic, and unknown types were passed over: {', '.join(unknown)}"


def image_count(reader: BagReader, topics: BagTopics) -> int:
    """Images of the camera in a bag."""
    return next(topic.count for topic in reader.topics if topic.name == topics.image)


def _labelled(frame: Frame, truth: Truth | None) -> Frame:
    labels: Labels | None = truth.labels(frame.stamp_ns) if truth else None
    return frame if labels is None else replace(frame, labels=labels)
