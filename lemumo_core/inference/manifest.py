"""Schema and rules of a model package's ``manifest.json``."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import Taxonomy

SCHEMA_VERSION = 2
MAX_VIEW_PIXELS = 4096 * 4096
MAX_LICENSE = 100
PRECISIONS = ("fp32", "fp16", "int8", "fp8", "int8-cpu")
"""Precisions of a package's graphs. int8-cpu is ONNX Runtime's dynamic quantisation, which
TensorRT cannot read; int8 and fp8 are symmetric Q/DQ."""


def model_file(precision: str = "fp32", dynamic: bool = False) -> str:
    """Name of a graph in its package; ``dynamic`` is the one with a free batch size."""
    middle = ["model", *([] if precision == "fp32" else [precision]), *["dynamic"] * dynamic]
    return ".".join([*middle, "onnx"])


@dataclass(frozen=True)
class Manifest:
    """Contents of ``manifest.json``.

    Attributes:
        name, version: of the model.
        trained: False for random weights; the runtime then says so.
        model: the ``ModelConfig`` as a plain dict, enough to rebuild it in torch. Its
            ``class_rules`` say what names in labels mean.
        input: what preprocessing must deliver.
        detection_classes: names by class id.
        segmentation_classes: names by label id.
        palette: RGB colour of each label id.
        losses: what each precision below float32 loses against it, measure to number
            (``lemumo parity``): none ships without. Beside them ``RUNTIME:PRECISION``, where a
            runtime has passed a gate of its own (``backends.Runtime.judged_alone``).
        files: file name to sha256 (hex).
        training: provenance (recipe, seed, data, git revision, machine); free-form.
        metrics: measured quality; free-form.
        license: SPDX name of the weights' licence; empty where it is not stated.
        schema_version: of this format.
    """

    name: str
    version: str
    trained: bool
    model: dict[str, Any]
    input: InputSpec
    detection_classes: tuple[str, ...]
    segmentation_classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    license: str = ""
    schema_version: int = SCHEMA_VERSION

    @functools.cached_property
    def classes(self) -> Taxonomy:
        """The classes, and what names in labels mean."""
        rules = self.model.get("class_rules")
        return Taxonomy.of(self.detection_classes, self.segmentation_classes, rules)

    @property
    def numbers_of_box(self) -> int:
        """7 for boxes in 3D, 4 for boxes in the image."""
        return 4 if self.model.get("detection") == "2d" else 7

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the package holds a graph of."""
        return ("fp32", *(name for name in self.losses if ":" not in name))

    def losses_of(self, backend: str) -> dict[str, float]:
        """Return what is lost in a ``RUNTIME:PRECISION``; nothing in float32."""
        return self.losses.get(backend, self.losses.get(backend.partition(":")[2], {}))


def parse_manifest(document: Any, where: Path) -> Manifest:
    """A manifest from what its JSON holds; ``where`` is its file.

    Raises:
        Fault: ``bad_package`` for a schema of another version, a missing or unknown key, a value
            of the wrong type or range, or a file name that leaves the package.
    """
    if not isinstance(document, dict):
        raise Fault("bad_package", f"{where} must hold a JSON object")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise Fault(
            "bad_package",
            f"{where} has schema version {version}, this lemumo reads {SCHEMA_VERSION}: "
            "export the model with this version, or update lemumo",
        )
    document = {"license": "", **document}  # manifests of weights without one leave it out
    _check_keys(document, Manifest, where)
    if isinstance(document["input"], dict):  # version 0.2.0 and before had the bottom rows alone
        document["input"] = {"whole_image": False, **document["input"]}
    _check_keys(document["input"], InputSpec, where)
    values = dict(document)
    try:
        values["input"] = InputSpec(**document["input"])
        near, far = values["input"].depth_min_m, values["input"].depth_max_m
        if not 0.0 < near < far < math.inf:
            raise ValueError(f"depth range {near} to {far} m")
        if values["input"].height * values["input"].width > MAX_VIEW_PIXELS:
            raise ValueError(f"a view of more than {MAX_VIEW_PIXELS} pixels")
    except (TypeError, ValueError) as error:
        raise Fault("bad_package", f"{where}: input: {error}") from error
    for name, (holds, words) in _RULES.items():
        if not holds(document[name]):
            raise Fault("bad_package", f"{where}: {name} must be {words}: {document[name]!r:.80}")
    for name in ("detection_classes", "segmentation_classes"):
        values[name] = tuple(document[name])
    values["palette"] = tuple(tuple(color) for color in document["palette"])
    manifest = Manifest(**values)
    if len(manifest.palette) != len(manifest.segmentation_classes):
        raise Fault(
            "bad_package",
            f"{where}: {len(manifest.palette)} colours for "
            f"{len(manifest.segmentation_classes)} segmentation classes",
        )
    try:
        _ = manifest.classes
    except ValueError as error:
        raise Fault("bad_package", f"{where}: class_rules: {error}") from error
    for precision in {name.rpartition(":")[2] for name in manifest.losses}:
        if model_file(precision) not in manifest.files:
            raise Fault("bad_package", f"{where}: no {model_file(precision)} for its {precision}")
    return manifest


def _is_names(value: Any) -> bool:
    named = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return bool(named and value and len(set(value)) == len(value))


def _is_palette(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(color, list)
        and len(color) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in color)
        for color in value
    )


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        Path(name).name == name and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
        for name, digest in value.items()
    )


def _is_losses(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name.rpartition(":")[2] in PRECISIONS[1:]
        and isinstance(loss, dict)
        and all(type(number) in (int, float) and math.isfinite(number) for number in loss.values())
        for name, loss in value.items()
    )


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a name"),
    "version": (lambda value: isinstance(value, str) and value != "", "a version"),
    "trained": (lambda value: isinstance(value, bool), "true or false"),
    "license": (lambda value: isinstance(value, str) and len(value) <= MAX_LICENSE, "a name"),
    "model": (lambda value: isinstance(value, dict), "an object"),
    "training": (lambda value: isinstance(value, dict), "an object"),
    "metrics": (lambda value: isinstance(value, dict), "an object"),
    "detection_classes": (_is_names, "a list of distinct names"),
    "segmentation_classes": (_is_names, "a list of distinct names"),
    "palette": (_is_palette, "a list of RGB triples, 0 to 255"),
    "files": (_is_files, "an object of file names, none that leaves the package, to sha256"),
    "losses": (_is_losses, f"an object of {PRECISIONS[1:]} to numbers"),
}


def _check_keys(document: Any, kind: type, where: Path) -> None:
    if not isinstance(document, dict):
        raise Fault("bad_package", f"{where}: expected an object for {kind.__name__}")
    known = {f.name for f in fields(kind)}
    if missing := known - set(document):
        raise Fault("bad_package", f"{where}: missing {sorted(missing)}")
    if unknown := set(document) - known:
        raise Fault("bad_package", f"{where}: unknown {sorted(unknown)}; known: {sorted(known)}")
