"""The page of a run while it trains: curves, probes, monitors and samples; it refreshes itself."""

from __future__ import annotations

import html
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core import web_page
from lemumo_core.data.contact_sheet import contact_sheet
from lemumo_core.data.sources import FrameSource
from lemumo_core.drawing import JPEG_QUALITY
from lemumo_core.evaluation.modalities import MODALITIES
from lemumo_core.evaluation.tables import metric_name
from lemumo_core.files import write_whole
from lemumo_core.plots import lines

NAME, SAMPLES = "run.html", "samples.jpg"
REFRESH_S = 20.0
"""Seconds between two writings of the page, and between two readings by a browser."""
POINTS = 300
"""Points of a curve; of longer runs, means over equal numbers of steps."""
KEPT_POINTS = 4096
"""Points of a curve that are kept; then pairs of neighbours become their means."""
SHOWN_SAMPLES = 4
SPEED = {
    "lr": "learning rate",
    "samples_per_s": "samples per second",
    "data_wait": "share of the time that waits for data",
    "memory_gb": "largest memory so far, GB",
    "gradient_norm": "gradient norm",
}
"""Values that say how the training runs, and what the page calls them."""
PROBE = "probe_"
"""How losses of online probes begin."""
METRIC = re.compile(rf"(?:(\w+)_)?({'|'.join(MODALITIES)})_(\w+)")
"""Name of a metric of validation: of which frames where there are several kinds, of a modality."""
SECTIONS = ("Loss", "Validation", "Probes", "Collapse and other monitors", "Speed and optimiser")


class RunPage:
    """The page of a run that goes on.

    Args:
        out: the run's folder.
        title: of the page.
        steps: of the whole run.
        earlier: lines of ``metrics.jsonl`` before the first step to come.
    """

    def __init__(self, out: Path, title: str, steps: int, earlier: Sequence[Mapping[str, Any]]):
        self._out, self._title, self._steps = out, title, steps
        self._curves: dict[str, list[tuple[float, float]]] = {}
        self._counts: Counter[str] = Counter()
        self._done, self._written = 0, 0.0
        for line in earlier:
            self._add(line["step"], line)
        self._write(is_running=True)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a step, and write the page where that was long ago."""
        self._add(step, values)
        if time.monotonic() - self._written >= REFRESH_S:
            self._write(is_running=True)

    def close(self) -> None:
        """Write the page of a run that has ended, or was stopped."""
        self._write(is_running=False)

    def _add(self, step: int, values: Mapping[str, Any]) -> None:
        self._done = step + 1
        for name, value in values.items():
            if name != "step" and isinstance(value, int | float):
                self._counts[name] += 1
                curve = self._curves.setdefault(name, [])
                curve.append((float(step + 1), float(value)))
                if len(curve) == KEPT_POINTS:
                    curve[:] = zip(*thinned(curve, KEPT_POINTS // 2), strict=True)

    def _write(self, is_running: bool) -> None:
        self._written = time.monotonic()
        share = self._done / max(self._steps, 1)
        state = "running" if is_running else "finished" if share >= 1 else "stopped"
        parts = [
            f"<p>Step {self._done} of {self._steps} ({share:.0%}), {state}, "
            f"{time.strftime('%Y-%m-%d %H:%M:%S')}.</p>"
        ]
        if (self._out / "tensorboard").is_dir():
            command = f"tensorboard --logdir {html.escape(str(self._out))}"
            parts.append(f"<p><code>{command}</code></p>")
        if is_running:
            parts.insert(0, f'<meta http-equiv="refresh" content="{REFRESH_S:.0f}">')
        every = self._counts["loss"]
        for name in SECTIONS:
            keys = [
                key
                for key, count in self._counts.items()
                if section_of(key, is_rare=count < every) == name
            ]
            if keys:
                plots = "".join(self._plot(key) for key in sorted(keys, key=_order))
                parts.append(f'<h2>{name}</h2><div class="row">{plots}</div>')
        if (self._out / SAMPLES).is_file():
            parts += ["<h2>Samples of the data</h2>", web_page.figure(SAMPLES)]
        others = [page for page in ("report.html", "index.html") if (self._out / page).is_file()]
        parts += [f'<p><a href="{page}">{page}</a>: results of the run</p>' for page in others]
        write_whole(self._out / NAME, web_page.page(self._title, parts).encode())

    def _plot(self, name: str) -> str:
        steps, values = thinned(self._curves[name], POINTS)
        last = self._curves[name][-1][1]
        span = 1.0, float(max(self._done, 1))
        return lines(f"{title_of(name)}: {last:.4g}", steps, {"": values}, "step", span)


def thinned(curve: Sequence[tuple[float, float]], most: int) -> tuple[list[float], list[float]]:
    """Return steps and values of a curve, of a long one the means of at most so many parts."""
    parts = np.array_split(np.array(curve, float), min(most, len(curve)))
    means = [part.mean(axis=0) for part in parts]
    return [float(step) for step, _ in means], [float(value) for _, value in means]


def title_of(name: str) -> str:
    """Return what the page calls a value of ``metrics.jsonl``, with its unit."""
    if found := METRIC.fullmatch(name):
        frames, modality, key = found.groups()
        words = [f"{frames} frames"] if frames else []
        return ", ".join([*words, modality.replace("_", " "), metric_name(key)])
    if name.startswith(PROBE):
        return f"loss of the probe of {name.removeprefix(PROBE).replace('_', ' ')}"
    return SPEED.get(name, name.replace("_", " "))


def section_of(name: str, is_rare: bool) -> str:
    """Return the section of the page that a value of ``metrics.jsonl`` belongs to.

    Args:
        name: of the value.
        is_rare: whether some steps do not have it: monitors are computed now and then.
    """
    if name in SPEED:
        return SECTIONS[4]
    if name == "score" or METRIC.fullmatch(name):
        return SECTIONS[1]
    if name.startswith(PROBE):
        return SECTIONS[2]
    return SECTIONS[3] if is_rare else SECTIONS[0]


def write_samples(out: Path, source: FrameSource) -> None:
    """Write a picture of some frames of a run's data, once."""
    if (out / SAMPLES).is_file():
        return
    sheet = contact_sheet(source, SHOWN_SAMPLES)
    _, data = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_whole(out / SAMPLES, data.tobytes())


def _order(name: str) -> tuple[bool, str]:
    return name not in ("loss", "score"), name
