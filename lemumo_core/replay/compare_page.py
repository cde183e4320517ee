"""Show a comparison of two replays: tables, ``compare.json``, and a page with pictures of both."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import web_page
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.evaluation.tables import Results, Table, metric_name
from lemumo_core.faults import Fault
from lemumo_core.messages.stamps import utc
from lemumo_core.metrics.perception import json_ready
from lemumo_core.plots import lines
from lemumo_core.replay.compare import BLOCK, CONFIDENCE, Comparison, PairedDifference
from lemumo_core.replay.compare_pictures import result_pictures
from lemumo_core.replay.modalities import EVERY_IMAGE, REPLAY_MODALITIES, result_tables
from lemumo_core.replay.output_folder import read_metrics

PICTURES = 3
"""So many images are shown at which B is worst against A, and as many at which it is best."""
COLUMN_WORDS = {
    "time_ms": "time, ms",
    "disagreement_": "disagreement of modalities in ",
    "flicker_": "flicker of ",
}
"""How names of columns that are no metrics begin, and what a page calls them."""


def comparison_tables(a: Path, b: Path, found: Sequence[PairedDifference]) -> list[Table]:
    """Return the table of paired differences, then those of the metrics of both replays."""
    return [_table(found), *result_tables(_results(read_metrics(a), read_metrics(b)))]


def write_comparison(out: Path, a: Path, b: Path, found: Comparison) -> None:
    """Write ``compare.json`` and the page ``index.html``.

    Args:
        out: folder, which is created.
        a: output folder of a replay.
        b: output folder of the other one.
        found: comparison of the two.
    """
    out.mkdir(parents=True, exist_ok=True)
    document = {"a": str(a), "b": str(b), "paired": [asdict(one) for one in found.paired]}
    text = json.dumps(json_ready(document), indent=1, allow_nan=False)
    (out / "compare.json").write_text(f"{text}\n")
    web_page.write_page(out / "index.html", "lemumo compare", _parts(a, b, found))


def _table(found: Sequence[PairedDifference]) -> Table:
    head = ("by image", "images", "A", "B", "B - A", "95 % interval", "B is")
    rows = [
        (
            _words(one.column),
            str(one.pairs),
            *(f"{value:.4g}" for value in (one.a, one.b)),
            f"{one.difference:+.3g}",
            f"{one.low:+.3g} to {one.high:+.3g}",
            one.verdict,
        )
        for one in found
    ]
    return Table("", head, rows)


def _results(a: Mapping[str, Any], b: Mapping[str, Any]) -> Results:
    """Return the metrics of all images together, of both replays, by modality.

    Where the two compared other images, only those of every image can stand beside each other.
    """
    documents = {"A": a, "B": b}
    found = {
        f"{name} {modality}": document[modality]
        for modality in REPLAY_MODALITIES
        for name, document in documents.items()
        if modality in document and _compared(a) == _compared(b)
    }
    if any(EVERY_IMAGE in document for document in documents.values()):
        found |= {
            f"{name} {EVERY_IMAGE}": document[key]
            for name, document in documents.items()
            if (key := EVERY_IMAGE if EVERY_IMAGE in document else REPLAY_MODALITIES[0]) in document
        }
    return found


def _parts(a: Path, b: Path, found: Comparison) -> list[str]:
    documents, names = (read_metrics(a), read_metrics(b)), _names_apart(a, b)
    made = comparison_tables(a, b, found.paired)
    shown = {
        letter: f"{name}: {one['model']} on {one['backend']}"
        for letter, name, one in zip("AB", names, documents, strict=True)
    }
    worse = [i for i, one in enumerate(found.paired) if one.verdict == "worse"]
    paired, first, *others = made if len(made) > 1 else (*made, Table("", (), []))
    parts = [
        web_page.facts("", shown),
        "<h2>Image by image</h2>",
        web_page.table("", paired.rows, paired.head, worse),
        f'<p class="note">Intervals: {CONFIDENCE:.0%}, bootstrap over blocks of {BLOCK} '
        "consecutive images.</p>",
    ]
    if first.rows:
        parts.append("<h2>All images together</h2>")
        beside = (web_page.table(t.caption, t.rows, t.head) for t in (first, *others))
        parts.append(f'<div class="row">{"".join(beside)}</div>')
    of_a, of_b = map(_compared, documents)
    if of_a != of_b:
        parts.append(
            f'<p class="note">A compared {of_a[1] or 0} images with the camera alone and '
            f"trivial answers, B {of_b[1] or 0}: these figures are left out, as they are "
            "of other images. Replay both with the same --compare_every.</p>"
        )
    parts.append("<h2>Differences over time</h2>")
    number = list(range(len(found.images)))
    plots = [
        lines(_words(column), number, {"B - A": values.tolist()}, "image")
        for column, values in found.differences.items()
        if np.any(np.nan_to_num(values))
    ]
    parts.append(f'<div class="row">{"".join(plots)}</div>')
    return parts + _side_by_side(a, b, found)


def _names_apart(a: Path, b: Path) -> tuple[str, str]:
    """Return the shortest ends of two folders' paths that differ."""
    parts = a.resolve().parts, b.resolve().parts
    alike = 0
    for one, other in zip(parts[0][::-1], parts[1][::-1], strict=False):
        if one != other:
            break
        alike += 1
    first, second = ("/".join(ours[-(alike + 1) :]) for ours in parts)
    return first, second


def _compared(document: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return of how many images one was compared in a replay, and how many were."""
    return document.get("compare_every"), document.get("compared")


def _side_by_side(a: Path, b: Path, found: Comparison) -> list[str]:
    """Return pictures of both results, side by side, of the images that tell the replays apart."""
    chosen = _chosen(found.gains())
    pictures = _pictures((a, b), [found.images[n] for ones in chosen.values() for n in ones])
    parts = []
    for title, numbers in chosen.items():
        parts.append(f"<h2>{title}</h2>")
        for bag in dict.fromkeys(found.images[number][0] for number in numbers):
            if bag not in pictures:
                parts.append(
                    f'<p class="note">{html.escape(bag)} cannot be read where it was replayed: for '
                    "pictures put it back there, or replay with --overlays.</p>"
                )
                continue
            for number in numbers:
                name, stamp_ns = found.images[number]
                if name == bag and stamp_ns in pictures[bag]:
                    parts += _pair(pictures[bag][stamp_ns], bag, number, found)
    return parts


def _pictures(
    outs: tuple[Path, Path], images: Sequence[tuple[str, int]]
) -> dict[str, dict[int, list[np.ndarray]]]:
    """Return ``result_pictures`` of images by their bags, each read once, if it can be read."""
    pictures = {}
    with RecoveredBag() as recovered:
        for bag in sorted({bag for bag, _ in images}):  # all cameras of one before the next
            stamps_ns = [stamp_ns for name, stamp_ns in images if name == bag]
            with suppress(Fault, OSError):
                pictures[bag] = result_pictures(outs, bag, stamps_ns, recovered)
    return pictures


def _chosen(gains: np.ndarray) -> dict[str, list[int]]:
    """Choose images by their gains; where no image has any, some of all."""
    order = np.argsort(gains, kind="stable")
    worst = [int(number) for number in order if gains[number] < 0]
    best = [int(number) for number in order[::-1] if gains[number] > 0]
    if not worst and not best:
        spread = np.linspace(0, len(gains) - 1, min(PICTURES, len(gains)))
        return {"Some images": sorted({round(number) for number in spread.tolist()})}
    chosen = {"B is worst against A": worst[:PICTURES], "B is best against A": best[:PICTURES]}
    return {title: numbers for title, numbers in chosen.items() if numbers}


def _pair(
    pictures: Sequence[np.ndarray], bag: str, number: int, found: Comparison
) -> tuple[str, str]:
    shown = (web_page.figure(picture, name) for picture, name in zip(pictures, "AB", strict=True))
    changes = ", ".join(
        f"{_words(column)} {values[number]:+.3g}"
        for column, values in found.differences.items()
        if values[number] and values[number] == values[number]
    )
    caption = f"{bag}, {utc(found.images[number][1])}; B - A: {changes or 'no difference'}"
    return (
        f'<div class="pair">{"".join(shown)}</div>',
        f'<p class="note">{html.escape(caption)}</p>',
    )


def _words(column: str) -> str:
    """Return the name of a column as tables of metrics have it."""
    for modality in REPLAY_MODALITIES:
        if column.startswith(f"{modality}_"):
            metric = metric_name(column.removeprefix(f"{modality}_"))
            return f"{modality.replace('_', ' ')} {metric}"
    for begin, words in COLUMN_WORDS.items():
        if column.startswith(begin):
            return words + column.removeprefix(begin)
    return column
