"""The report of the demo: counts of messages, latencies and pictures."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from lemumo_core.drawing import DEPTH_COLORS
from lemumo_core.evaluation.report import class_legends
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.messages.stamps import utc
from lemumo_core.web_page import facts, figure, write_page


@dataclass(frozen=True)
class Summary:
    """Measurements of a demo run; ``summary.json`` holds the same.

    Attributes:
        frames_in: images that reached the node. frames_in_bag: images in the bag.
        messages_out: by output topic, as received by another process.
        drops: frames the node did not use, by reason.
        latency_ms: p50 and p99 by stage; ``total`` is from arrival of the image to publication.
    """

    frames_in: int
    frames_in_bag: int
    messages_out: dict[str, int]
    drops: dict[str, int]
    latency_ms: dict[str, dict[str, float]]
    model: str
    trained: bool
    backend: str
    bag: str
    seconds: float
    machine: str


EXPLANATION = (
    "A frame is dropped as <i>busy</i> where a newer image came while the model ran: a faster "
    "machine or backend drops fewer. Latency counts from the arrival of an image: <i>total</i> is "
    "until all is published, <i>wait</i> for its companion and the model's turn; <i>cyclic</i> is "
    "from one result to the next. Pictures: above, the image with predicted labels and boxes{}; "
    "below, the predicted depth, {}."
)


def write_report(summary: Summary, manifest: Manifest, out: Path) -> Path:
    """Write ``index.html`` beside the ``overlays`` folder it shows.

    Args:
        summary: of the run.
        manifest: of the model that ran.
        out: the folder.

    Returns:
        The path of the page.
    """
    about = {
        "bag": Path(summary.bag).name,
        "model": f"{summary.model} on {summary.backend}",
        "frames in the bag": summary.frames_in_bag,
        "frames into the node": summary.frames_in,
        "machine": summary.machine,
        "seconds, with loading the model": summary.seconds,
    }
    latency = {
        stage: f"{values['p50']:.1f} / {values['p99']:.1f}"
        for stage, values in summary.latency_ms.items()
    }
    parts = []
    if not summary.trained:
        parts.append(
            '<p class="warning">The weights are <b>untrained</b>: what the model detects means '
            "nothing yet. The way from bag to published result is real.</p>"
        )
    if note := rendered_note(manifest):
        parts.append(f'<p class="warning">{html.escape(note)}</p>')
    tables = (
        facts("run", about),
        facts("messages out", summary.messages_out),
        facts("dropped frames", summary.drops or {"none": 0}),
        facts("latency, ms (p50 / p99)", latency),
    )
    pictures = (
        figure(f"overlays/{path.name}", utc(int(path.stem.replace("_", ""))))
        for path in sorted((out / "overlays").glob("*.png"))
    )
    parts.append(f'<div class="row">{"".join(tables)}</div>')
    boxes, labels = class_legends(manifest)
    returns = ", and LiDAR returns" if manifest.input.companion == "lidar" else ""
    explanation = EXPLANATION.format(returns, DEPTH_COLORS)
    parts.append(f'<p class="note">{explanation}</p><p>Boxes: {boxes}. Labels: {labels}.</p>')
    parts.append(f'<div class="grid">{"".join(pictures)}</div>')
    path = out / "index.html"
    write_page(path, "lemumo demo", parts)
    return path
