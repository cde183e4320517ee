"""The model card of a package: a README for people, generated from the manifest and nothing else.

Its first lines are the metadata that the Hugging Face Hub reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.files import write_whole
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.provenance import in_words, is_rendered_alone

CARD_NAME = "README.md"
MARK = "<!-- generated from manifest.json by lemumo -->"
"""Line by which a generated card is known; one without it is its user's, and is kept."""
METRICS = {
    "bev_map": ("BEV mAP", "{:.3f}"),
    "ap50": ("2D AP50", "{:.3f}"),
    "depth_mae_m": ("depth MAE, m", "{:.2f}"),
    "nearest_mae_m": ("- of the nearest return", "{:.2f}"),
    "linear_mae_m": ("- of linear interpolation", "{:.2f}"),
    "rows_mae_m": ("- of the mean of each row", "{:.2f}"),
    "miou": ("mIoU", "{:.3f}"),
    "constant_miou": ("- of the most frequent class everywhere", "{:.3f}"),
}
TRIVIAL = {
    "nearest_mae_m": "the nearest return",
    "linear_mae_m": "linear interpolation",
    "rows_mae_m": "the mean of each row",
}


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the card of a package into its folder, unless a card of its user's lies there."""
    path = folder / CARD_NAME
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return
    write_whole(path, model_card(manifest).encode())


def model_card(manifest: Manifest) -> str:
    """Return the card, Markdown."""
    parts = [
        *_metadata(manifest),
        MARK,
        "",
        f"# {manifest.name} {manifest.version}",
        "",
        *_about(manifest),
        "",
        "## Data",
        "",
        *_data(manifest),
        "",
        "## Metrics",
        "",
        *_metrics(manifest),
        "",
        "## Limits",
        "",
        *(f"- {words}" for words in _limits(manifest)),
        "",
        "## Use",
        "",
        "```",
        "lemumo pull SOURCE models/mine       # a folder, an https:// URL or hf://OWNER/NAME",
        "lemumo verify models/mine            # every file has the sha256 of the manifest",
        "lemumo replay YOUR_BAG --model models/mine --out out/replay",
        "```",
        "",
        "## Licence",
        "",
        manifest.license or "Not stated: ask whoever published this package before you use it.",
    ]
    return "\n".join(parts) + "\n"


def _metadata(manifest: Manifest) -> list[str]:
    license_id = manifest.license.lower() or "unknown"
    return [
        "---",
        f"license: {license_id}",
        "library_name: lemumo",
        "pipeline_tag: object-detection",
        "tags: [robotics, ros2, depth-estimation, image-segmentation, onnx]",
        "---",
    ]


def _about(manifest: Manifest) -> list[str]:
    spec = manifest.input
    boxes = "in the image" if manifest.numbers_of_box == 4 else "in space"
    shown = "whole" if spec.whole_image else "the top cut off"
    lines = [
        f"- Input: an image, scaled to {spec.width} x {spec.height} pixels, {shown}, and "
        f"{spec.companion}; either of them may be missing.",
        f"- Boxes {boxes}: {', '.join(manifest.detection_classes)}.",
        f"- Labels: {', '.join(manifest.segmentation_classes)}.",
        f"- Depth from {spec.depth_min_m:g} to {spec.depth_max_m:g} m.",
        f"- Precisions: {', '.join(manifest.precisions)}.",
    ]
    for name, losses in manifest.losses.items():
        if losses:
            shown = ", ".join(f"{key} {value:.2g}" for key, value in losses.items())
            lines.append(f"- {name} loses against float32: {shown}.")
    return lines


def _data(manifest: Manifest) -> list[str]:
    if not manifest.trained:
        return ["None: the weights are random, for tests of speed."]
    runs = list(_runs(manifest.training))
    if not runs:
        return ["The manifest does not say what the weights were trained on."]
    head = ("run", "sources", "data", "steps", "code")
    return [*_table(head, runs)]


def _runs(training: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each start of each run, the first run first."""
    starts = [start for start in training.get("starts") or [] if isinstance(start, Mapping)]
    options = training.get("options") or {}
    if starts and isinstance(starts[0].get("weights"), Mapping):
        yield from _runs(starts[0]["weights"])
    for start in starts:
        yield (
            str(start.get("time", "-"))[:10],
            in_words(start.get("sources") or ["not recorded"]),
            _data_names(options.get("data", "-")),
            str(training.get("steps") or options.get("steps") or "-"),
            str(start.get("git") or "-")[:12],
        )


def _data_names(data: Any) -> str:
    """Return the names of what ``--data`` named, without folders and options."""
    members = data if isinstance(data, list) else [data]
    names = (one.get("data") if isinstance(one, Mapping) else one for one in members)
    return ", ".join(Path(str(name).split(",")[0]).name for name in names)


def _metrics(manifest: Manifest) -> list[str]:
    modes = {name: values for name, values in manifest.metrics.items() if values}
    if not modes:
        return ["None were measured."]
    measured_on = manifest.training.get("measured_on")
    rows = []
    for key, (name, form) in METRICS.items():
        values = [one.get(key) for one in modes.values()]
        if any(value is not None for value in values):
            rows.append((name, *("-" if v is None else form.format(v) for v in values)))
    head = ("", *(mode.replace("_", " ") for mode in modes))
    return [
        f"On {measured_on or 'frames that the manifest does not name'}.",
        "",
        *_table(head, rows),
    ]


def _limits(manifest: Manifest) -> Iterator[str]:
    if not manifest.trained:
        yield "It is not trained: what it finds means nothing."
        return
    if is_rendered_alone(manifest):
        yield (
            "It was trained on rendered streets alone. What it is worth on real sensors is only "
            "known once it is measured there."
        )
    for mode, values in manifest.metrics.items():
        depth_m = values.get("depth_mae_m")
        better = [
            f"{name} ({values[key]:.2f} m)"
            for key, name in TRIVIAL.items()
            if depth_m is not None and values.get(key) is not None and values[key] <= depth_m
        ]
        if better:
            yield (
                f"Depth, {mode.replace('_', ' ')}, is {depth_m:.2f} m off, no better than "
                f"{' and '.join(better)}, which need no model."
            )
    yield "Metrics of other sensors, places and weather are not known: measure it on your own."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines]
