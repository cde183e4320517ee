"""Kinds of path on the command line, so that a command can name the step that is missing."""

from __future__ import annotations

from pathlib import Path

from lemumo_core.bags.index import find_bags
from lemumo_core.bags.metadata import BAG_SUFFIXES
from lemumo_core.faults import Fault
from lemumo_core.files import as_uri, uri_cure
from lemumo_core.inference.package import MANIFEST_NAME

CURES = {
    "pretraining run": (
        "is a run of lemumo pretrain, whose encoder has no heads: lemumo finetune --weights {path} "
        "first, then lemumo export --run RUN --out PACKAGE"
    ),
    "fine-tuning run": (
        "is a run of lemumo finetune: lemumo export --run {path} --out PACKAGE makes a package"
    ),
    "weights": (
        "is a file of weights: lemumo export --weights {path} --model model.json --out PACKAGE "
        "makes a package"
    ),
    "checkpoint": "is a checkpoint: lemumo export --run {path} --out PACKAGE makes a package",
    "replay": "is a folder of results: give the package that lemumo replay --model was given",
    "shards": "is a folder of shards: they are data, for lemumo pretrain, finetune and evaluate",
    "bag": "is a bag: lemumo replay {path} --model PACKAGE runs a model over it",
    "graph": "is a file of a package: give its folder",
    "missing": "is not a model package: it does not exist{cure}",
    "unknown": "is not a model package: it has no " + MANIFEST_NAME + "; lemumo export makes one",
}
"""Kind of path to the message for whoever gives it where a package is needed."""


def path_kind(path: Path) -> str:
    """Return what a path is: ``package`` or a key of ``CURES``."""
    if not path.exists():
        return "missing"
    if path.is_file():
        return _file_kind(path)
    names = {one.name for one in path.iterdir()}
    if MANIFEST_NAME in names:
        return "package"
    if {"config.yaml", "run.json"} <= names:
        text = (path / "config.yaml").read_text()
        is_pretraining = any(
            line.startswith(("method:", "objective:")) for line in text.splitlines()
        )
        return "pretraining run" if is_pretraining else "fine-tuning run"
    if "state.json" in names:
        return "checkpoint"
    if "index.json" in names and (any(path.glob("*.arrow")) or any(path.glob("*/*.arrow"))):
        return "shards"  # of a source, or of bags by their folders
    if "metrics.json" in names:
        return "replay"
    try:
        find_bags(path)
    except FileNotFoundError:
        return "unknown"
    return "bag"


def cure_of(kind: str, path: Path) -> str:
    """Return the message of ``CURES`` for a path of this kind."""
    uri = as_uri(path)
    is_pulled = uri is not None and uri.partition(":")[0] in ("hf", "http", "https")
    cure = f"; lemumo pull {uri} FOLDER brings it" if is_pulled else uri_cure(path)
    return CURES[kind].format(path=path, cure=cure)


def require_package(path: Path, option: str) -> None:
    """Check that a path is a model package.

    Args:
        path: what was given.
        option: that gave it, for the message.

    Raises:
        Fault: ``bad_package`` with what it is instead, and the cure.
    """
    kind = path_kind(path)
    if kind != "package":
        raise Fault("bad_package", f"{option} {path} {cure_of(kind, path)}")


def _file_kind(path: Path) -> str:
    if path.suffix == ".safetensors":
        return "weights"
    if path.name.endswith(BAG_SUFFIXES):
        return "bag"
    return "graph" if path.suffix in (".onnx", ".json", ".engine") else "unknown"
