"""The model package: a folder that says everything a runtime must know about its model.

``manifest.json`` holds the input and output specification, class names, colours, provenance and
the sha256 of every other file. Nothing in it is ever typed again in a node's parameters.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Contents of ``manifest.json``.

    Attributes:
        name, version: of the model.
        trained: False for random weights; the runtime then says so.
        model: the ``ModelConfig`` as a plain dict, enough to rebuild it in torch.
        input: what preprocessing must deliver.
        detection_classes: names by class id.
        segmentation_classes: names by label id.
        palette: RGB colour of each label id.
        files: file name to sha256 (hex).
        training: provenance (recipe, seed, data, git revision, machine); free-form.
        metrics: measured quality; free-form.
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
    files: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Package:
    """A verified model package on disk."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of one of its files.

        Raises:
            Fault: ``bad_package`` if the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise Fault(
                "bad_package", f"{self.path} holds no {name}; it has {list(self.manifest.files)}"
            )
        return self.path / name


def write_package(path: Path, manifest: Manifest) -> Package:
    """Hash every file already in the folder and write its manifest (last, atomically).

    Args:
        path: folder that holds the model files.
        manifest: everything but ``files``, which is filled here.
    """
    files = {
        p.name: sha256(p)
        for p in sorted(path.iterdir())
        if p.is_file() and p.name != MANIFEST_NAME and not p.name.endswith(".tmp")
    }
    document = asdict(manifest) | {"files": files}
    temporary = path / f"{MANIFEST_NAME}.tmp"
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    temporary.replace(path / MANIFEST_NAME)
    return load_package(path)


def load_package(path: str | Path) -> Package:
    """Read and verify a model package.

    Raises:
        Fault: ``bad_package`` for a missing folder or file, a manifest that cannot be read or
            has an unsupported schema, a missing or unknown key, a file name that leaves the
            folder, or a file whose sha256 differs.
    """
    path = Path(path)
    manifest_path = path / MANIFEST_NAME
    if not manifest_path.is_file():
        raise Fault(
            "bad_package",
            f"{path} is not a model package: it has no {MANIFEST_NAME}. Make one with "
            "python export/to_onnx.py, or check the `model` parameter",
        )
    try:
        document = json.loads(manifest_path.read_text())
    except ValueError as error:
        raise Fault("bad_package", f"{manifest_path} is not valid JSON: {error}") from error
    manifest = _parse(document, manifest_path)
    for name, expected in manifest.files.items():
        file = path / name
        if Path(name).name != name:
            raise Fault("bad_package", f"{manifest_path}: file name '{name}' leaves the package")
        if not file.is_file():
            raise Fault("bad_package", f"{path}: the manifest lists {name}, which is missing")
        if sha256(file) != expected:
            raise Fault(
                "bad_package",
                f"{file} does not have the sha256 of its manifest: it is damaged or was changed. "
                "Copy the package again or export it anew",
            )
    return Package(path, manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parse(document: Any, where: Path) -> Manifest:
    if not isinstance(document, dict):
        raise Fault("bad_package", f"{where} must hold a JSON object")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise Fault(
            "bad_package",
            f"{where} has schema version {version}, this lemumo reads {SCHEMA_VERSION}: "
            "export the model with this version, or update lemumo",
        )
    _check_keys(document, Manifest, where)
    _check_keys(document["input"], InputSpec, where)
    for key, kind in (("files", dict), ("detection_classes", list), ("palette", list)):
        if not isinstance(document[key], kind):
            raise Fault("bad_package", f"{where}: {key} must be a JSON {kind.__name__}")
    values = dict(document)
    try:
        values["input"] = InputSpec(**document["input"])
        for key in ("detection_classes", "segmentation_classes"):
            values[key] = tuple(str(name) for name in document[key])
    except (TypeError, ValueError) as error:
        raise Fault("bad_package", f"{where}: input or class names: {error}") from error
    try:
        values["palette"] = tuple((int(r), int(g), int(b)) for r, g, b in document["palette"])
    except (TypeError, ValueError) as error:
        raise Fault("bad_package", f"{where}: palette must hold RGB triples: {error}") from error
    manifest = Manifest(**values)
    if len(manifest.palette) != len(manifest.segmentation_classes):
        raise Fault(
            "bad_package",
            f"{where}: {len(manifest.palette)} colours for "
            f"{len(manifest.segmentation_classes)} segmentation classes",
        )
    return manifest


def _check_keys(document: Any, kind: type, where: Path) -> None:
    if not isinstance(document, dict):
        raise Fault("bad_package", f"{where}: expected an object for {kind.__name__}")
    known = {f.name for f in fields(kind)}
    if missing := known - set(document):
        raise Fault("bad_package", f"{where}: missing {sorted(missing)}")
    if unknown := set(document) - known:
        raise Fault("bad_package", f"{where}: unknown {sorted(unknown)}; known: {sorted(known)}")
