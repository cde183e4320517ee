"""Are proposed labels nearer to the truth than what the model finds frame by frame?

    python -m benchmarks.proposals [--drives 1] [--frames 40] [--real FOLDER]

Rendered drives with odometry, written as bags (``benchmarks.tracking``), and, where --real names
them, single frames of KITTI and nuScenes. Beside the proposals stand the model's own detections at
the node's threshold and at that of the proposals, and its own label maps. Precision and recall are
of centres within 2 m, by kind of object. The table goes to OUT/results.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks._timing import machine
from benchmarks.tracking import made_bag, shards_of
from lemumo_core.command_line import run_function
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.data.sources.truth_by_stamp import WithTruth, truth_of_source
from lemumo_core.folders.local import LocalFolder
from lemumo_core.frame import UNLABELLED, Detections
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.label.proposed import THRESHOLD, Perceiver, ProposedLabels
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.masked_returns import true_labels
from lemumo_core.metrics.matching import Counts
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.metrics.segmentation import SegmentationMetric
from lemumo_core.taxonomy import Taxonomy

MODEL = Path("models/lemumo-tiny")
NODE_THRESHOLD = 0.3
BOXES = "proposed", "detected"
PRECISIONS = 0.6, 0.7, 0.8, 0.9


@dataclass
class Scores:
    """Scores of proposals and of what the model finds by itself.

    Attributes:
        boxes: metric of the boxes, by ``BOXES``.
        maps: that of the label maps.
        labelled: pixels with a proposed label, and all with a true one.
    """

    classes: Taxonomy
    boxes: dict[str, PerceptionMetric] = field(init=False)
    maps: dict[str, SegmentationMetric] = field(init=False)
    labelled: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))

    def __post_init__(self) -> None:
        self.boxes = {name: PerceptionMetric(self.classes) for name in BOXES}
        names = self.classes.segmentation_classes
        self.maps = {name: SegmentationMetric(names) for name in BOXES}

    def add(self, source: FrameSource, pipeline: Pipeline) -> None:
        """Add the frames of a source with labels."""
        with tempfile.TemporaryDirectory() as scratch:
            folder, manifest = LocalFolder(Path(scratch)), pipeline.package.manifest
            seen = map(Perceiver(source, pipeline, folder), range(len(source)))
            proposed = ProposedLabels(source, manifest, folder)
            proposed.propose(seen)
            for index, found in enumerate(proposed.proposals):
                frame = source[index]
                if frame.labels is None:
                    continue
                own, ids = pipeline(frame), found.class_ids
                bounds = np.zeros((len(ids), 4), np.float32)
                boxes = Detections(found.boxes_3d, bounds, found.confidence, ids)
                boxed = replace(frame, labels=replace(frame.labels, depth_m=None, label_map=None))
                self.boxes["detected"].add(boxed, own)
                self.boxes["proposed"].add(boxed, replace(own, detections=boxes))
                true = true_labels(frame)
                if true is None:
                    continue
                true = self.classes.label_ids(true, frame.labels.label_names)
                labels = proposed[index].labels
                assert labels is not None and labels.label_map is not None
                plain = look_up(own.labels, own.output_camera, frame.camera, UNLABELLED)
                known = (true != UNLABELLED) & (plain != UNLABELLED)
                kept = known & (labels.label_map != UNLABELLED)
                self.maps["detected"].add(plain[known], true[known])
                self.maps["proposed"].add(labels.label_map[kept], true[kept])
                self.labelled += kept.sum(), known.sum()


def proposals(
    *,
    drives: int = 1,
    frames: int = 40,
    real: Path | None = None,
    out: Path = Path("out/tracking"),
) -> None:
    """Print the tables.

    Args:
        drives: rendered drives.
        frames: of each.
        real: folder with ``kitti_object`` and ``nuscenes_mini_tables``.
        out: folder of the bags, which are rendered where they are missing.
    """
    package = load_package(MODEL)
    pipeline = Pipeline(package, "onnxruntime", 0.0)
    bags = [made_bag(out, seed, frames) for seed in range(drives)]
    sources: dict[str, list[FrameSource]] = {f"{drives} rendered drives": [drive(b) for b in bags]}
    if real is not None:
        sources["KITTI, 2 single frames"] = [KittiObject(real / "kitti_object")]
        tables = real / "nuscenes_mini_tables"
        sources["nuScenes, 6 cameras of one instant"] = [NuScenes(tables)]
    lines = [machine(), ""]
    for name, parts in sources.items():
        scores = Scores(package.manifest.classes)
        for part in parts:
            scores.add(part, pipeline)
        lines += [f"{name}:", "", *box_table(scores), "", *map_table(scores), ""]
    (out / "results.md").write_text("\n".join(lines))
    print("\n".join(lines))


def drive(bag: Path) -> FrameSource:
    """Return the frames of a bag with poses and the true labels."""
    source = Bags(bag, fixed_frame="odom", detections="", labels="", depth="", ignore="")
    return WithTruth(source, truth_of_source("shards", {"root": shards_of(bag)}, 1_000_000))


def box_table(scores: Scores) -> Iterator[str]:
    """Yield the lines of precision and recall, and of average precision and errors."""
    rows = {
        f"{which}, from {threshold} on": (which, threshold)
        for which in BOXES
        for threshold in (THRESHOLD, NODE_THRESHOLD)
    }
    found = {words: counts(scores, *row) for words, row in rows.items()}
    kinds = [k for k in scores.classes.kinds if any(k in one for one in found.values())]
    heads = [f"{kind} ({found[next(iter(rows))][kind].objects})" for kind in kinds]
    yield f"| boxes: precision / recall | {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * len(kinds)}"
    for words, values in found.items():
        cells = [precision_recall(values[kind]) for kind in kinds]
        yield f"| {words} | {' | '.join(cells)} |"
    yield ""
    at = " | ".join(f"recall at precision {precision}" for precision in PRECISIONS)
    yield f"| boxes | {at} | BEV mAP | place, m | size, 1 - IoU | heading, rad |"
    yield f"| --- |{' ---: |' * (len(PRECISIONS) + 4)}"
    for which in BOXES:
        one = scores.boxes[which].detection.scores()
        recalls = [f"{recall_at(scores, which, precision):.2f}" for precision in PRECISIONS]
        errors = f"{one.ate_m:.2f} | {one.ase:.2f} | {one.aoe_rad:.2f}"
        yield f"| {which} | {' | '.join(recalls)} | {one.map:.3f} | {errors} |"


def counts(scores: Scores, which: str, threshold: float) -> dict[str, Counts]:
    """Return what boxes of at least a score find, by kind."""
    return scores.boxes[which].detection.counts(threshold, BAND_EDGES_M[0], BAND_EDGES_M[-1])


def recall_at(scores: Scores, which: str, precision: float) -> float:
    """Return the largest recall, over all kinds together, at which precision is so high."""
    best = 0.0
    for threshold in np.linspace(0.1, 0.9, 81):
        found, false, objects = (
            sum(getattr(one, name) for one in counts(scores, which, float(threshold)).values())
            for name in ("found", "false", "objects")
        )
        if found >= precision * (found + false):
            best = max(best, found / objects)
    return best


def precision_recall(found: Counts) -> str:
    """Return precision and recall; a dash for one of nothing."""
    shares = (found.found, found.found + found.false), (found.found, found.objects)
    return " / ".join(f"{part / whole:.2f}" if whole else "-" for part, whole in shares)


def map_table(scores: Scores) -> Iterator[str]:
    """Yield the lines about label maps; none where there is no truth."""
    kept, known = scores.labelled.tolist()
    if not known:
        return
    yield "| label map | pixels labelled | of them right | mIoU of them |"
    yield "| --- | ---: | ---: | ---: |"
    for words, which, share in (
        ("proposed", "proposed", kept / known),
        ("the model's own", "detected", 1.0),
    ):
        metric = scores.maps[which]
        right = np.diag(metric.confusion).sum() / metric.confusion.sum()
        yield f"| {words} | {share:.1%} | {right:.1%} | {metric.miou():.3f} |"


if __name__ == "__main__":
    sys.exit(run_function("benchmarks.proposals", proposals, sys.argv[1:], __doc__))
