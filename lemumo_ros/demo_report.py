"""The demo's page: what went in and out, how long it took, and what it looks like."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem }
table { border-collapse: collapse; margin: 0 2rem 1rem 0 }
.row { display: flex; flex-wrap: wrap; align-items: flex-start }
td, th { padding: .15rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(540px, 1fr)); gap: 1rem }
img { width: 100%; border-radius: 4px } figure { margin: 0 } figcaption { color: #666 }
.warning { background: #fff3cd; padding: .6rem 1rem; border-radius: 4px }
"""


@dataclass(frozen=True)
class Summary:
    """What a demo run measured; ``summary.json`` holds the same.

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


def write_report(summary: Summary, out: Path) -> Path:
    """Write ``index.html`` beside the ``overlays`` folder it shows; returns its path."""
    facts = {
        "bag": summary.bag,
        "model": f"{summary.model} on {summary.backend}",
        "frames in the bag": summary.frames_in_bag,
        "frames into the node": summary.frames_in,
        "machine": summary.machine,
        "seconds": summary.seconds,
    }
    latency = {
        stage: f"{values['p50']:.1f} / {values['p99']:.1f}"
        for stage, values in summary.latency_ms.items()
    }
    warning = (
        ""
        if summary.trained
        else '<p class="warning">The weights are <b>untrained</b>: what the model says means '
        "nothing yet. The way from bag to published result is real.</p>"
    )
    pictures = "".join(
        f'<figure><img loading="lazy" src="overlays/{path.name}" alt="overlay">'
        f"<figcaption>{path.stem.replace('_', '.')} s</figcaption></figure>"
        for path in sorted((out / "overlays").glob("*.png"))
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>lemumo demo</title>"
        f"<style>{STYLE}</style><h1>lemumo demo</h1>{warning}<div class=row>"
        f"{_table('run', facts)}{_table('messages out', summary.messages_out)}"
        f"{_table('dropped frames', summary.drops or {'none': 0})}"
        f"{_table('latency, ms (p50 / p99)', latency)}</div><div class=grid>{pictures}</div></html>"
    )
    path = out / "index.html"
    path.write_text(page)
    return path


def _table(title: str, rows: dict) -> str:
    body = "".join(
        f"<tr><td>{html.escape(str(key))}<td class=number>{html.escape(str(value))}"
        for key, value in rows.items()
    )
    return f"<table><tr><th colspan=2>{html.escape(title)}{body}</table>"
