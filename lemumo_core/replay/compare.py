"""Compare two replays of the same bags.

Images are paired by bag and stamp, so what both share, such as how hard a scene is, cancels out.
Confidence intervals are those of a bootstrap over blocks of consecutive images (Kuensch, Annals of
Statistics 1989), because neighbouring images are no independent evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.evaluation.tables import Results, Table, tables
from lemumo_core.faults import Fault
from lemumo_core.metrics.perception import json_ready
from lemumo_core.plots import lines
from lemumo_core.replay.evaluator import REPLAY_MODALITIES
from lemumo_core.replay.record import COLUMNS, SUMMARY_FIELDS
from lemumo_core.replay.tables import FRAMES, TIMINGS, read_tables

BLOCK = 25
"""Consecutive images in a block, 2.5 s at 10 Hz; fewer where a replay has less than 100 images."""
RESAMPLES = 2000
CONFIDENCE = 0.95
HIGHER_IS_BETTER = {
    f"{modality}_{name}"
    for modality in REPLAY_MODALITIES
    for name in SUMMARY_FIELDS
    if name != "depth_mae_m"
}
LOWER_IS_BETTER = {
    *(f"{modality}_depth_mae_m" for modality in REPLAY_MODALITIES),
    *(name for name in COLUMNS if name.startswith(("disagreement_", "flicker_"))),
}
TIME = "time_ms"
COMPARED = (*sorted(HIGHER_IS_BETTER), *sorted(LOWER_IS_BETTER), "detections", TIME)
Key = tuple[str, int]


@dataclass(frozen=True)
class PairedDifference:
    """One column of two replays, over the images for which both have it.

    Attributes:
        column: a column of ``COMPARED``.
        pairs: number of images.
        a, b: means of the two replays.
        difference: mean of b - a.
        low, high: its 95 % confidence interval.
        verdict: ``better`` or ``worse`` (b than a), ``more`` or ``less`` where neither is better,
            ``no difference`` where the interval contains 0.
    """

    column: str
    pairs: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    verdict: str


def compare(a: Path, b: Path) -> tuple[list[PairedDifference], dict[str, np.ndarray]]:
    """Compare two replays.

    Returns:
        The columns that both have, and by column the differences b - a in order of the images.

    Raises:
        Fault: ``no_results`` where a folder holds none, or the two share no image.
    """
    first, second = _by_image(a), _by_image(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise Fault("no_results", f"{a} and {b} have no image in common: replay the same bags")
    found, differences = [], {}
    for column in COMPARED:
        values = np.array([(first[k].get(column), second[k].get(column)) for k in shared], float)
        known = values[np.isfinite(values).all(axis=1)]
        if not len(known):
            continue
        differences[column] = known[:, 1] - known[:, 0]
        found.append(_paired(column, known))
    return found, differences


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """Return the confidence interval of the mean of (N,) values in order of time.

    The random draws are seeded, so the result is the same every time.
    """
    count = len(differences)
    block = max(1, min(BLOCK, count // 4))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, count, (RESAMPLES, -(-count // block)))
    # Blocks wrap around the end, so that every image is drawn equally often.
    chosen = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    means = differences[chosen].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)


def comparison_tables(a: Path, b: Path, found: Sequence[PairedDifference]) -> list[Table]:
    """Return the table of paired differences, then those of the metrics of both replays."""
    return [_table(found), *tables(_results(a, b))]


def write_comparison(
    out: Path,
    a: Path,
    b: Path,
    found: Sequence[PairedDifference],
    differences: Mapping[str, np.ndarray],
) -> None:
    """Write ``compare.json`` and the page ``index.html``.

    Args:
        out: folder, which is created.
        a: output folder of a replay.
        b: output folder of the other one.
        found: as ``compare`` returns it.
        differences: likewise.
    """
    out.mkdir(parents=True, exist_ok=True)
    document = {"a": str(a), "b": str(b), "paired": [asdict(one) for one in found]}
    text = json.dumps(json_ready(document), indent=1, allow_nan=False)
    (out / "compare.json").write_text(f"{text}\n")
    page = _page(a, b, comparison_tables(a, b, found), differences, found)
    (out / "index.html").write_text(page)


def _by_image(out: Path) -> dict[Key, dict[str, Any]]:
    """Return the rows of a replay by bag and stamp, with the time that each result took."""
    bags = _read_bags(out)
    rows = {
        (row["bag"], row["stamp_ns"]): row
        for row in read_tables(out, bags, FRAMES)
        if not row["drop"]
    }
    for name in bags:
        for timing in read_tables(out, [name], TIMINGS):
            stamp_ns = timing.pop("stamp_ns")
            if (name, stamp_ns) in rows:
                rows[name, stamp_ns][TIME] = sum(timing.values())
    return rows


def _document(out: Path) -> dict[str, Any]:
    path = out / "metrics.json"
    if not path.is_file():
        raise Fault("no_results", f"{path} is missing: is this the --out of lemumo replay?")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _read_bags(out: Path) -> list[str]:
    return [name for name, bag in _document(out)["bags"].items() if "error" not in bag]


def _paired(column: str, values: np.ndarray) -> PairedDifference:
    a, b = values.mean(axis=0).tolist()
    low, high = bootstrap(values[:, 1] - values[:, 0])
    verdict = "no difference"
    if low > 0 or high < 0:
        more = low > 0
        if column in HIGHER_IS_BETTER or column in LOWER_IS_BETTER or column == TIME:
            verdict = "better" if more == (column in HIGHER_IS_BETTER) else "worse"
        else:
            verdict = "more" if more else "less"
    return PairedDifference(column, len(values), a, b, b - a, low, high, verdict)


def _table(found: Sequence[PairedDifference]) -> Table:
    head = ("by image", "images", "A", "B", "B - A", "95 % interval", "B is")
    rows = [
        (
            one.column.replace("_", " "),
            str(one.pairs),
            *(f"{value:.4g}" for value in (one.a, one.b)),
            f"{one.difference:+.3g}",
            f"{one.low:+.3g} to {one.high:+.3g}",
            one.verdict,
        )
        for one in found
    ]
    return Table("", head, rows)


def _results(a: Path, b: Path) -> Results:
    """Return the metrics of all images together, of both replays, by modality."""
    documents: Mapping[str, dict[str, Any]] = {"A": _document(a), "B": _document(b)}
    return {
        f"{name} {modality}": document[modality]
        for modality in REPLAY_MODALITIES
        for name, document in documents.items()
        if modality in document
    }


def _page(
    a: Path,
    b: Path,
    made: Sequence[Table],
    differences: Mapping[str, np.ndarray],
    found: Sequence[PairedDifference],
) -> str:
    models = [f"{_document(out)['model']} on {_document(out)['backend']}" for out in (a, b)]
    worse = [i for i, one in enumerate(found) if one.verdict == "worse"]
    paired, first, *others = made if len(made) > 1 else (*made, Table("", (), []))
    parts = [
        web_page.facts("", {"A": f"{a.name}: {models[0]}", "B": f"{b.name}: {models[1]}"}),
        "<h2>Image by image</h2>",
        web_page.table("", paired.rows, paired.head, worse),
        f'<p class="note">Intervals: {CONFIDENCE:.0%}, bootstrap over blocks of {BLOCK} '
        "consecutive images.</p>",
    ]
    if first.rows:
        parts.append("<h2>All images together</h2>")
        shown = (web_page.table(t.caption, t.rows, t.head) for t in (first, *others))
        parts.append(f'<div class="row">{"".join(shown)}</div>')
    parts.append("<h2>Differences over time</h2>")
    plots = [
        lines(
            column.replace("_", " "),
            list(range(len(values))),
            {"B - A": values.tolist()},
            "image",
        )
        for column, values in differences.items()
        if np.any(values)
    ]
    parts.append(f'<div class="row">{"".join(plots)}</div>')
    return web_page.page("lemumo compare", parts)
