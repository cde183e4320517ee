"""Run a model over the images of a bag, and compute metrics and label-free checks of each result.

One process reads a bag; the images can be evaluated by others. What is passed between them can be
pickled, and results do not depend on which evaluator made them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics
from lemumo_core.data.sources.truth_by_stamp import Truth, truth_of_bag, truth_of_source
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD, metric_for, with_modality
from lemumo_core.evaluation.pictures import draw_comparison
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, Perception
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.metrics.calibration import Alignment, align
from lemumo_core.metrics.consistency import Difference, above, difference
from lemumo_core.metrics.masked_returns import needs_mask, with_masked_depth
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.metrics.true_tracks import TrueTracks, true_tracks
from lemumo_core.replay.calibration_check import draw_calibration
from lemumo_core.replay.image_events import ImageEvent, image_events, select_all
from lemumo_core.replay.modalities import REPLAY_MODALITIES, own_part
from lemumo_core.replay.read_ahead import read_ahead
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.empty_view import explain_empty_view, is_blank, is_empty
from lemumo_core.streaming.overlay import draw_overlay
from lemumo_core.streaming.points import labeled_returns

PAIR_WITHIN_M = 2.0
"""Largest distance between the centres of one object in two results."""
ALIGNMENTS = 16
"""Frames of a bag whose calibration is checked, evenly spaced."""
AHEAD = 2
"""Images that are read and decoded while the model processes another."""


@dataclass(frozen=True, eq=False)
class ReadImage:
    """An image of a bag, read and to be evaluated.

    Attributes:
        event: the image, with its Frame.
        labels: its truth; None where it has none, or where that of its Frame is to be taken.
        truth_fault: why its truth cannot be used.
        check_alignment: whether the calibration is checked on it.
        is_compared: whether its result is compared with that of the camera alone and with trivial
            answers.
    """

    event: ImageEvent
    labels: Labels | None = None
    truth_fault: Fault | None = None
    check_alignment: bool = False
    is_compared: bool = True

    def __str__(self) -> str:
        return f"{self.event.camera} image {self.event.number}".strip()


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The result of one image of a bag, with its scores.

    Attributes:
        event: the image, without its Frame.
        perception: what the node would publish; None where the image was dropped.
        metrics: metric of this image alone, by modality of ``REPLAY_MODALITIES``, or by the
            ``own_part`` of its modality where the image was not compared.
        summaries: main values of these metrics, by modality.
        returns_masked: whether depth was scored on masked LiDAR returns.
        truth_fault: why there are no metrics, where the labels are at fault.
        disagreement: difference between the modalities.
        alignment: alignment of LiDAR and image, for some of the images.
        overlay: PNG.
        truth_tracks: labelled objects of the image, where objects are tracked.
        labeled_points: as ``labeled_returns`` returns them, where they are wanted.
        empty_view: why no return of the image's scan is in view, if none is.
        is_blank: whether the image shows nothing.
    """

    event: ImageEvent
    perception: Perception | None = None
    metrics: dict[str, PerceptionMetric] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    returns_masked: bool = False
    truth_fault: Fault | None = None
    disagreement: Difference | None = None
    alignment: Alignment | None = None
    overlay: bytes | None = None
    truth_tracks: TrueTracks | None = None
    labeled_points: np.ndarray | None = None
    empty_view: str = ""
    is_blank: bool = False


class Evaluator:
    """A loaded model with the options of a replay.

    Args:
        settings: the options.
        package: their model.
        backend: the one of theirs, where another evaluator has chosen it.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``Pipeline``, the source of labels and
            ``PointLabeler``.
    """

    def __init__(self, settings: Settings, package: Package, backend: str | None = None):
        self.settings, self.manifest = settings, package.manifest
        run = settings.points_model
        self._labeler = None if run is None else PointLabeler(run)
        self._truth: Truth | None = None
        if settings.truth and settings.evaluate:
            self._truth = truth_of_source(*settings.truth, settings.sync_tolerance_ns)
        # Last: where it measures backends, this takes minutes.
        threshold = SCORE_THRESHOLD if settings.evaluate else settings.score_threshold
        self.pipeline = Pipeline(package, backend or settings.backend, threshold)
        self.pipeline.warm_up()

    def images(self, files: Sequence[Path]) -> Iterator[ReadImage]:
        """Read one bag and yield each image.

        Args:
            files: files of the bag, as ``BagReader`` opens them.

        Raises:
            Fault: ``damaged_bag``, or as ``Settings.find_cameras`` and ``Truth``.
        """
        with BagReader(files) as reader:
            truth = self._truth_of(files, reader)
            counts = image_counts(reader, self.settings.find_cameras(reader))
            every = {name: max(1, count // ALIGNMENTS) for name, count in counts.items()}
            one_in = {name: self.settings.compare_one_in(count) for name, count in counts.items()}
            # By what they hold: all with labels, or with a scan, might lie between those compared.
            turns: Counter[tuple[str, bool, bool]] = Counter()
            for event in read_ahead(lambda: self._events(files, self.settings, select_all), AHEAD):
                labels, fault = _labels_of(event, truth, event.camera)
                kind = event.camera, labels is not None, event.companion_ns is not None
                turn, turns[kind] = turns[kind], turns[kind] + (event.frame is not None)
                is_aligned = event.number % every[event.camera] == 0
                yield ReadImage(event, labels, fault, is_aligned, turn % one_in[event.camera] == 0)

    def results(self, files: Sequence[Path]) -> Iterator[ImageResult]:
        """Replay one bag, and yield the result of each image.

        Raises:
            Fault: as ``images``.
        """
        return map(self.evaluate, self.images(files))

    def comparisons(
        self, files: Sequence[Path], camera: str, image: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the numbers of some images, and pictures of result and truth, uint8 RGB.

        Args:
            files: of the bag.
            camera: name of the camera, as in ``ImageEvent``.
            image: its topic.
            numbers: of its images.
        """
        with BagReader(files) as reader:
            truth = self._truth_of(files, reader)
            settings = self.settings.of_camera(image)
            for event in self._events(files, settings, set(numbers).__contains__):
                if event.frame is not None:
                    labels, _ = _labels_of(event, truth, camera)
                    frame = _labelled(event.frame, labels)
                    full, mask = self.pipeline(frame), settings.mask
                    shown = with_masked_depth(frame, full, self.pipeline, mask)
                    yield event.number, draw_comparison(*shown, self.manifest)

    def calibration_picture(
        self, files: Sequence[Path], image: str, number: int, correction: np.ndarray
    ) -> np.ndarray | None:
        """Return ``draw_calibration`` of an image of a topic, or None where it became no Frame."""
        settings = self.settings.of_camera(image)
        with closing(self._events(files, settings, {number}.__contains__)) as events:
            frames = (event.frame for event in events)
            frame = next((frame for frame in frames if frame is not None), None)
        return None if frame is None else draw_calibration(frame, correction)

    def _events(
        self, files: Sequence[Path], settings: Settings, selected: Callable[[int], bool]
    ) -> Generator[ImageEvent, None, None]:
        return image_events(files, settings, self.manifest.input.companion, selected)

    def _truth_of(self, files: Sequence[Path], reader: BagReader) -> Truth | None:
        if self._truth is not None or not self.settings.evaluate:
            return self._truth
        options = {**self.settings.topics, "calibration": self.settings.calibration}
        return truth_of_bag(files, reader, options, self.settings.sync_tolerance_ns)

    def evaluate(self, image: ReadImage) -> ImageResult:
        """Return the result of an image."""
        frame = image.event.frame
        event = replace(image.event, frame=None)
        if frame is None:
            return ImageResult(event)
        try:
            full = self.pipeline(frame)
        except Fault as fault:
            return ImageResult(replace(event, fault=fault))
        perception = above(full, self.settings.score_threshold)
        scores: dict[str, Any] = {}
        if image.truth_fault is not None:
            scores["truth_fault"] = image.truth_fault
        elif self.settings.evaluate:
            try:
                labelled = _labelled(frame, image.labels)
                scores = self._scores(labelled, full, image.is_compared)
                if self.settings.tracking:
                    classes = self.manifest.classes
                    scores["truth_tracks"] = true_tracks(labelled, full.output_camera, classes)
            except Fault as fault:
                scores["truth_fault"] = fault
        if self.settings.evaluate and image.check_alignment:
            scores["alignment"] = align(frame)
        scores["empty_view"] = explain_empty_view(frame) if is_empty(frame, full) else ""
        scores["is_blank"] = frame.image is not None and is_blank(frame.image)
        if self.settings.labeled_points:
            labels = None
            if self._labeler is not None:
                labels = self._labeler.label(frame, self.manifest.classes)
            scores["labeled_points"] = labeled_returns(frame, perception, labels)
        if self.settings.overlays:
            picture = draw_overlay(frame, perception, self.manifest)
            scores["overlay"] = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        return ImageResult(event, perception, **scores)

    def _scores(self, frame: Frame, full: Perception, is_compared: bool) -> dict[str, Any]:
        """Return fields of an ``ImageResult``; ``full`` is the result of the frame."""
        is_alone = frame.companion is None
        own = "camera_only" if is_alone else "fused"
        is_compared &= not is_alone
        labels, returns_masked = frame.labels or Labels(), needs_mask(frame, self.settings.mask)
        if is_compared:
            frame, full = with_masked_depth(frame, full, self.pipeline, self.settings.mask)
        elif returns_masked:  # an inference for depth alone would cost as much as all else
            labels = replace(labels, depth_m=None)
            frame = replace(frame, labels=labels)
        boxes, maps = (labels.boxes_3d, labels.boxes_2d), (labels.depth_m, labels.label_map)
        has_truth = any(part is not None for part in (*boxes, *maps, labels.point_labels))
        if not (is_compared or is_alone or has_truth):
            return {}
        has_two = is_compared and len(full.modalities) > 1  # not where no return is in view
        metrics, summaries, published = {}, {}, []
        for modality in REPLAY_MODALITIES if is_compared else (own,):
            seen = with_modality(frame, modality)
            assert seen is not None
            perception = full if modality == own else self.pipeline(seen)
            trivial = is_compared or is_alone  # alone they are soon given
            metric = metric_for(self.manifest, self.settings.band_edges_m, trivial)
            metrics[modality if is_compared else own_part(modality)] = metric
            summaries[modality] = metric.add(frame, perception)
            published.append(above(perception, self.settings.score_threshold))
        one, other = published[0], published[-1]
        return {
            "metrics": metrics,
            "summaries": summaries,
            "returns_masked": returns_masked and is_compared,
            "disagreement": difference(one, other, PAIR_WITHIN_M) if has_two else None,
        }


def image_counts(reader: BagReader, cameras: Mapping[str, BagTopics]) -> dict[str, int]:
    """Return the number of images of each camera in a bag."""
    counts = {topic.name: topic.count for topic in reader.topics}
    return {name: counts[topics.image] for name, topics in cameras.items()}


def _labels_of(
    event: ImageEvent, truth: Truth | None, camera: str
) -> tuple[Labels | None, Fault | None]:
    """Return the labels of an image, or why they cannot be used."""
    if truth is None or event.frame is None:
        return None, None
    try:
        return truth.labels(event.frame.stamp_ns, camera), None
    except Fault as fault:
        return None, fault


def _labelled(frame: Frame, labels: Labels | None) -> Frame:
    return frame if labels is None else replace(frame, labels=labels)
