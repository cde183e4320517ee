"""Reports of an evaluation: ``metrics.json`` and a page with pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.data.sources import FrameSource
from lemumo_core.drawing import DEPTH_COLORS, class_colors
from lemumo_core.evaluation.modalities import (
    Evaluation,
    FrameScores,
    Predict,
    rank_frames,
    with_modality,
)
from lemumo_core.evaluation.pictures import draw_comparison
from lemumo_core.evaluation.tables import reasons, tables
from lemumo_core.evaluation.verdict import Verdict, to_dict, verdict_parts
from lemumo_core.frame import PUBLISHED_SCORE, Frame
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.messages.stamps import utc
from lemumo_core.metrics.masked_returns import MASK_MEANINGS, mask_returns
from lemumo_core.metrics.perception import json_ready

PICTURES = 3
"""Number of pictures of the best, of the worst, and of random frames each."""
FACTS = {
    "trained_on": "trained on",
    "score_threshold": "least score of a detection",
    "tracked_in": "tracks are in",
    "results": "images with a result",
    "compared": "images compared with the camera alone and with trivial answers",
    "compare_every": "one image compared in",
}
"""Values of metrics.json whose names are no words, and what a page calls them."""


def results_of(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Return the metrics by modality, as ``PerceptionMetric.result``."""
    return {modality: metric.result() for modality, metric in evaluation.metrics.items()}


def depth_truth(evaluation: Evaluation) -> str:
    """Name the ground truth that the depth was evaluated on."""
    if not any(metric.depth.scores().pixels for metric in evaluation.metrics.values()):
        return "nothing"
    return MASK_MEANINGS[evaluation.mask] if evaluation.mask else "dense depth"


def write_metrics(
    out: Path, evaluation: Evaluation, about: Mapping[str, Any], verdicts: Sequence[Verdict] = ()
) -> None:
    """Write ``metrics.json``: model and data, the metrics by modality and of each frame."""
    document = {
        **about,
        "depth_truth": depth_truth(evaluation),
        **({"requirements": to_dict(verdicts)} if verdicts else {}),
        **results_of(evaluation),
        "by_frame": [_row(frame) for frame in evaluation.frames],
    }
    text = json.dumps(json_ready(document), indent=1, allow_nan=False)
    (out / "metrics.json").write_text(f"{text}\n")


def _row(scores: FrameScores) -> dict[str, Any]:
    row = asdict(scores)
    row["modes"] = row.pop("summaries")  # the file's own word
    return row


def write_page(
    out: Path,
    evaluation: Evaluation,
    about: Mapping[str, Any],
    model: Predict,
    manifest: Manifest,
    source: FrameSource,
    verdicts: Sequence[Verdict] = (),
) -> None:
    """Write ``index.html``: tables, and pictures of frames, for which the model runs once more.

    Args:
        out: folder.
        evaluation: its result.
        about: model, data and machine, as for ``write_metrics``.
        model: that was evaluated.
        manifest: of the model.
        source: that it was evaluated on.
        verdicts: on the user's requirements.
    """
    results = results_of(evaluation)
    parts = []
    if not manifest.trained:
        parts.append('<p class="warning">The weights are <b>untrained</b>: expect no score.</p>')
    if note := rendered_note(manifest):
        parts.append(f'<p class="warning">{html.escape(note)}</p>')
    parts += verdict_parts(verdicts)
    shown = {key: one for key, one in about["data"].items() if isinstance(one, str | int | float)}
    shown |= {"root": Path(str(shown["root"])).name} if "root" in shown else {}
    data = ", ".join(f"{key} {value}" for key, value in shown.items())
    facts = {**named_facts(about), "data": data, "depth evaluated on": depth_truth(evaluation)}
    first, *others = (web_page.table(t.caption, t.rows, t.head) for t in tables(results))
    beside = f'<div class="fill">{web_page.facts("", facts)}</div>'
    parts.append(f'<div class="row">{first}{beside}</div>')
    parts += [f'<p class="note">{html.escape(why)}</p>' for why in reasons(results)]
    parts.append(f'<div class="row">{"".join(others)}</div>')
    ranked = "Frames are ranked by their mean rank in BEV mAP, depth MAE, mIoU and 2D AP50."
    parts.append(f"<h2>Pictures</h2><p>{picture_legend(manifest)} {ranked}</p>")
    for title, frames in _chosen(evaluation.frames).items():
        parts.append(f"<h2>{title}</h2>")
        masked = ((frame, mask_returns(source[frame.index], evaluation.mask)) for frame in frames)
        parts += [_figure(scores, frame, model, manifest) for scores, frame in masked]
    web_page.write_page(out / "index.html", f"{manifest.name}: evaluation", parts)


def named_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a run, named as in metrics.json, as its page shows them: in words."""
    return {
        FACTS.get(name, name): ("no", "yes")[value] if isinstance(value, bool) else value
        for name, value in values.items()
    }


def _chosen(frames: Sequence[FrameScores]) -> dict[str, list[FrameScores]]:
    """Choose the worst, the best and random frames, none of them twice."""
    ranked = rank_frames(frames)
    worst = ranked[::-1][: min(PICTURES, len(ranked) // 2)]
    best = ranked[: min(PICTURES, len(ranked) - len(worst))]
    shown = {frame.index for frame in (*worst, *best)}
    others = [frame for frame in frames if frame.summaries and frame.index not in shown]
    order = np.random.default_rng(0).permutation(len(others))[:PICTURES]
    chosen = {"Worst frames": worst, "Best frames": best}
    chosen["Random frames"] = [others[i] for i in sorted(order)]
    return {title: some for title, some in chosen.items() if some}


def _figure(scores: FrameScores, frame: Frame, model: Predict, manifest: Manifest) -> str:
    modality = next(iter(scores.summaries))
    seen = with_modality(frame, modality)
    assert seen is not None
    caption = (
        f"frame {scores.index}, {scores.camera_name}, {utc(scores.stamp_ns)}, "
        f"{modality.replace('_', ' ')}: {scores.headline or 'no truth'}"
    )
    return web_page.figure(draw_comparison(frame, model(seen), manifest), caption)


def picture_legend(manifest: Manifest) -> str:
    """Explain the pictures of ``draw_comparison`` and the colours of classes, in HTML."""
    boxes, labels = class_legends(manifest)
    return (
        f"Boxes with a score of at least {PUBLISHED_SCORE:g}: {boxes}; true "
        "ones white, those that do not count (hidden, without returns, too far) grey. "
        f"Labels: {labels}. Depth: {DEPTH_COLORS}; its error is black where the true depth is not "
        "known."
    )


def class_legends(manifest: Manifest) -> tuple[str, str]:
    """Return the colours of the classes of boxes, and of labels, HTML."""
    colors = class_colors(len(manifest.detection_classes))
    return (
        color_legend(zip(manifest.detection_classes, colors, strict=True)),
        color_legend(zip(manifest.segmentation_classes, manifest.palette, strict=True)),
    )


def color_legend(colors: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return names with their colours, HTML."""
    return ", ".join(
        f'<span class="named"><span class="swatch" style="background: rgb{tuple(color)}"></span>'
        f"{html.escape(name)}</span>"
        for name, color in colors
    )
