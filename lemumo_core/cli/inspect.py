"""Show what a path holds: a bag, a model package, a run, or shards.

lemumo inspect BAG_OR_FOLDER     topics, rates, pairs, calibration, and what replay would take
lemumo inspect PACKAGE
lemumo inspect RUN
lemumo inspect SHARDS

Exit codes: 0; 1 what is there cannot be shown; 3 a bag is damaged.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.recovery import sound_files
from lemumo_core.cli.inspect_bag import selection_lines, topic_table
from lemumo_core.cli.path_kinds import path_kind
from lemumo_core.command_line import PARTIAL, run_function
from lemumo_core.evaluation.tables import as_text
from lemumo_core.faults import Fault
from lemumo_core.files import uri_cure
from lemumo_core.inference.package import load_package
from lemumo_core.inference.provenance import is_rendered_alone


def inspect(path: Path) -> int | None:
    """Print what a path holds.

    Args:
        path: folder or file of a bag, a folder of bags, or folder of a package, run or shards.

    Returns:
        The exit code.

    Raises:
        Fault: ``bad_path`` for anything else; as ``load_package`` and ``BagReader``.
    """
    kind = path_kind(path)
    if kind not in SHOWN:
        raise Fault(
            "bad_path",
            f"{path} ({kind}) is no bag, package, run or folder of shards to inspect"
            f"{uri_cure(path)}",
        )
    return SHOWN[kind](path)


def _show_bags(path: Path) -> int:
    is_damaged = False
    for files in find_bags(path):
        with tempfile.TemporaryDirectory() as scratch:
            sound, lost = sound_files(files, Path(scratch))
            print(as_text(topic_table(files[0], sound)))
            print("\n".join(["", *(f"lost: {words}" for words in lost)]))
            print("\n".join([*selection_lines(files, sound, lost), ""]))
            is_damaged |= bool(lost)
    return PARTIAL if is_damaged else 0


def _show_package(path: Path) -> None:
    manifest = load_package(path).manifest
    spec = manifest.input
    losses = {
        f"loss of {name}": ", ".join(f"{key} {value:.2g}" for key, value in loss.items())
        for name, loss in manifest.losses.items()
    }
    metrics = {
        f"metrics, {mode}": ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        for mode, values in manifest.metrics.items()
    }
    trained = "trained on rendered streets alone" if is_rendered_alone(manifest) else "trained"
    facts = {
        "model": f"{manifest.name} {manifest.version}",
        "weights": trained if manifest.trained else "random, for speed tests",
        "input": f"{spec.width}x{spec.height} pixels and {spec.companion}",
        "detection": ", ".join(manifest.detection_classes),
        "segmentation": ", ".join(manifest.segmentation_classes),
        "precisions": ", ".join(manifest.precisions),
        **losses,
        **metrics,
    }
    files = {name: f"{(path / name).stat().st_size / 1e6:.1f} MB" for name in manifest.files}
    _print_facts(f"{path}: model package", {**facts, **files})


def _show_run(path: Path) -> None:
    starts = _json_value((path / "run.json").read_bytes())
    if not isinstance(starts, list):
        raise Fault("bad_path", f"{path / 'run.json'} is damaged: what it holds is no run's")
    summary, metrics = path / "summary.json", path / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines() if metrics.exists() else []
    # A run that was killed, or met a full disk, leaves half a line.
    whole = [line for line in map(_json_value, lines[-2:]) if isinstance(line, dict)]
    last = whole[-1] if whole else {}
    facts = {
        "starts": str(len(starts)),
        "last step": str(last.get("step", "none")),
        "finished": "yes" if summary.exists() else "no: go on with --resume auto",
        **{name: _text(value) for name, value in last.items() if isinstance(value, float)},
    }
    _print_facts(f"{path}: {path_kind(path)}", facts)


def _show_shards(path: Path) -> None:
    from lemumo_core.data.shards import Shards

    index = Shards(path).index
    size = sum(shard["bytes"] for shard in index["shards"])
    source = index["configuration"].get("source", {})
    facts = {
        "frames": str(index["frames"]),
        "left out": str(index["dropped"]),
        "shards": f"{len(index['shards'])}, {size / 1e6:.1f} MB",
        **{f"source, {name}": _text(value) for name, value in source.items()},
        "more": f"lemumo prepare stats {path}",
    }
    _print_facts(f"{path}: shards", facts)


def _json_value(data: bytes) -> Any:
    """Return a JSON value; None where it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def _print_facts(caption: str, facts: dict[str, str]) -> None:
    print(caption)
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"  {name:{width}}  {value}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        if any(isinstance(one, dict) for one in value):
            return f"{len(value)}, which index.json lists"
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


SHOWN: dict[str, Callable[[Path], int | None]] = {
    "package": _show_package,
    "pretraining run": _show_run,
    "fine-tuning run": _show_run,
    "shards": _show_shards,
    "bag": _show_bags,
}
"""Kind of path to what prints it."""


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo inspect``; return its exit code."""
    return run_function("lemumo inspect", inspect, arguments, __doc__)
