"""The page of fine-tuning on points: figures over all validation frames, and pictures of some."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.drawing import label_colors, sweep_from_above
from lemumo_core.evaluation.report import color_legend
from lemumo_core.files import write_whole
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.sparse.segmenter import PointSegmenter
from lemumo_core.train.loop import Run

NAME = "index.html"
PICTURED = 3
"""Validation frames that are pictured."""
RIGHT, WRONG, UNKNOWN = 0, 1, 2
VERDICT_COLORS = ((60, 160, 60), (255, 40, 40), (60, 60, 60))
"""Points that are right, wrong, and of unknown class have these colours."""


def write_page(run: Run, model: PointSegmenter, metrics: Mapping[str, Any]) -> None:
    """Write the page of a finished run into its folder.

    Args:
        run: the run, with validation frames.
        model: with its best weights, in evaluation mode, on the CPU.
        metrics: of it, ``PointMetric.result``.
    """
    taxonomy = run.config.model.classes
    parts = [_headline(metrics), f'<div class="row">{_by_class(metrics)}{_by_range(metrics)}</div>']
    legend = color_legend(zip(taxonomy.segmentation_classes, taxonomy.palette, strict=True))
    parts += ["<h2>Sweeps from above</h2>", f"<p>{legend}</p>"]
    first, count = run.sampler.frames, run.config.val_frames
    for index in (first + i for i in evenly_spaced(count, PICTURED)):
        parts.append(_pictures(run, model, index))
    title = f"{run.out.name}: a class for every LiDAR point"
    write_whole(run.out / NAME, web_page.page(title, parts).encode())


def _headline(metrics: Mapping[str, Any]) -> str:
    return (
        f"<p>mIoU {metrics['miou']:.3f} over {metrics['points']} labelled points of all validation "
        f"frames; {metrics['constant_miou']:.3f} where every point is "
        f"{html.escape(metrics['constant_class'])}, the most frequent class.</p>"
    )


def _by_class(metrics: Mapping[str, Any]) -> str:
    bands = metrics["iou_by_range"]
    rows = [
        [name, f"{iou:.3f}", f"{metrics['constant_iou'][name]:.3f}"]
        + [f"{band[name]:.3f}" if name in band else None for band in bands.values()]
        for name, iou in metrics["iou"].items()
    ]
    head = ("class", "network", "one class everywhere", *(f"network, {name}" for name in bands))
    return web_page.table("intersection over union", rows, head)


def _by_range(metrics: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{miou:.3f}", f"{metrics['constant_miou_by_range'][name]:.3f}"]
        for name, miou in metrics["miou_by_range"].items()
    ]
    return web_page.table("mIoU", rows, ("horizontal range", "network", "one class everywhere"))


def _pictures(run: Run, model: PointSegmenter, index: int) -> str:
    """Return prediction, truth and errors of one validation frame."""
    batch = run.samples[index]
    assert batch.points is not None and batch.sweep_labels is not None
    points, true = batch.points[0].numpy(), batch.sweep_labels[0].numpy()
    predicted = model.predict(batch.points)[0].numpy()
    verdict = np.where(predicted == true, RIGHT, WRONG)
    verdict[true == UNLABELLED] = UNKNOWN
    palette = run.config.model.classes.palette
    pictures = [
        web_page.figure(sweep_from_above(points, label_colors(ids, colors)), caption)
        for ids, colors, caption in (
            (predicted, palette, f"frame {index}: prediction"),
            (true, palette, "truth"),
            (verdict, VERDICT_COLORS, "errors: green right, red wrong, grey unlabelled"),
        )
    ]
    return f'<div class="trio">{"".join(pictures)}</div>'
