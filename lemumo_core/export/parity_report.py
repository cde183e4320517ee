"""A comparison of two backends as text, as JSON and as a page."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from lemumo_core import web_page
from lemumo_core.export.parity import MEASURES, Limits, Parity
from lemumo_core.inference.measure import processor
from lemumo_core.metrics.perception import json_ready
from lemumo_core.wording import count_of

MEANINGS = {
    "raw": "raw heads, largest relative difference",
    "depth": "depth, largest relative difference",
    "depth_pixels": "depth pixels that differ by over .001",
    "depth_confidence": "depth confidence, largest difference",
    "boxes": "matched boxes, largest relative difference",
    "scores": "matched scores, largest difference",
    "unmatched": "detections without a counterpart",
    "mean_depth": "depth, mean relative difference",
    "labels": "label pixels that differ",
    "bev_map_loss": "BEV mAP, loss",
    "depth_mae_loss": "MAE of depth, relative growth",
    "miou_loss": "mIoU, loss",
}
TASK_METRICS = {"bev_map_loss": "bev_map", "depth_mae_loss": "depth_mae_m", "miou_loss": "miou"}
"""Measures of loss to the keys of ``Parity.task_metrics``."""


def rows(parity: Parity, limits: Limits) -> Iterator[tuple[str, str, str, str]]:
    """Meaning, value, limit and verdict of every measure; of losses also what was lost from."""
    failed = {text.split()[0] for text in parity.failures(limits)}
    for name in MEASURES:
        value, limit = getattr(parity, name), getattr(limits, name)
        shown = "no truth" if name.endswith("_loss") and math.isnan(value) else f"{value:.3g}"
        if values := parity.task_metrics.get(TASK_METRICS.get(name, "")):
            shown += " ({:.3f} to {:.3f})".format(*values)
        verdict = "FAILS" if name in failed else "ok" if limit is not None else ""
        yield MEANINGS[name], shown, "" if limit is None else f"{limit:g}", verdict


def as_text(title: str, parity: Parity, limits: Limits) -> str:
    """The table for a terminal."""
    head = f"{title}\n{_counts(parity)}"
    lines = [f"  {a:42} {b:>26} {c:>8}  {d}" for a, b, c, d in rows(parity, limits)]
    failures = parity.failures(limits)
    verdict = f"FAILS: {'; '.join(failures)}" if failures else "passes"
    if not parity.detections:
        verdict += "; no detection was above the threshold, so boxes were not compared"
    return "\n".join([head, *lines, f"  {verdict}"])


def write_report(
    out: Path, title: str, parity: Parity, limits: Limits, facts: Mapping[str, str]
) -> None:
    """Write ``parity.json`` and ``index.html``.

    Args:
        out: folder, made where it is missing.
        title: of the page.
        parity: the comparison.
        limits: that it was held to.
        facts: what else belongs in the report, e.g. where the frames are from.
    """
    out.mkdir(parents=True, exist_ok=True)
    machine = {"processor": processor(), "python": platform.python_version()}
    document = {
        "title": title,
        "passes": not parity.failures(limits),
        "failures": parity.failures(limits),
        "parity": json_ready(asdict(parity)),
        "limits": asdict(limits),
        "facts": dict(facts) | machine,
    }
    (out / "parity.json").write_text(json.dumps(document, indent=2) + "\n")
    shown = list(rows(parity, limits))
    bad = [i for i, row in enumerate(shown) if row[-1] == "FAILS"]
    verdict = "Passes" if document["passes"] else '<b class="bad">Fails</b>'
    parts = [
        f"<p>{verdict}. {_counts(parity)}.</p>",
        web_page.table("", shown, ("measure", "value", "limit", ""), bad),
        web_page.facts("", document["facts"]),
    ]
    web_page.write_page(out / "index.html", title, parts)


def _counts(parity: Parity) -> str:
    samples = count_of(parity.samples, "sample")
    return f"{samples}, {count_of(parity.detections, 'detection')} on both sides"
