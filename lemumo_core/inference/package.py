"""The model package: a folder that says everything a runtime must know about its model.

``manifest.json`` holds the input and output specification, class names, colours, provenance and
the sha256 of every other file. Nothing in it is ever typed again in a node's parameters.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.inference.manifest import Manifest, parse_manifest
from lemumo_core.inference.onnx_file import external_data
from lemumo_core.inference.signature import SIGNATURE_NAME, check_signature

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.safetensors"
"""Name of the file in which a package may hold its weights, for torch and for its graphs."""
MAX_MANIFEST_BYTES = 4 << 20


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

    def graph_sha256(self, name: str) -> str:
        """Hex digest of a graph and of the weights that it takes from the file beside it."""
        path, files = self.file(name), self.manifest.files
        digests = [files[name], *(files[other] for other in external_data(path))]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def write_package(path: Path, manifest: Manifest) -> Package:
    """Hash every file already in the folder and write its manifest (last, atomically).

    A signature of the manifest before it is removed.

    Args:
        path: folder that holds the model files.
        manifest: everything but ``files``, which is filled here.
    """
    files = {
        p.name: sha256(p)
        for p in sorted(path.iterdir())
        if p.is_file() and p.name not in (MANIFEST_NAME, SIGNATURE_NAME) and p.suffix != ".tmp"
    }
    document = asdict(manifest) | {"files": files}
    if not manifest.license:
        del document["license"]  # so that earlier versions read it, too
    temporary = path / f"{MANIFEST_NAME}.tmp"
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    (path / SIGNATURE_NAME).unlink(missing_ok=True)
    temporary.replace(path / MANIFEST_NAME)
    return load_package(path)


def load_package(path: str | Path, public_key: str | Path | None = None) -> Package:
    """Read and verify a model package.

    Args:
        path: its folder.
        public_key: PEM file of an ed25519 key that must have signed it; None: nobody must.

    Raises:
        Fault: ``bad_package`` for a missing folder or file, a manifest that cannot be read or
            has an unsupported schema, a missing or unknown key, a value of the wrong type or
            range, a file name that leaves the folder, a file whose sha256 differs, or a graph
            that keeps data elsewhere than in its file and the package's weights.
            ``bad_signature``, ``bad_key``.
    """
    path = Path(path)
    data = read_manifest(path)
    if public_key:
        check_signature(path, data, Path(public_key))
    manifest_path = path / MANIFEST_NAME
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        words = f"{manifest_path} is not valid JSON: {error}; copy or export the package again"
        raise Fault("bad_package", words) from error
    manifest = parse_manifest(document, manifest_path)
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise Fault("bad_package", f"{path}: the manifest lists {name}, which is missing")
        if sha256(file) != expected:
            raise Fault(
                "bad_package",
                f"{file} does not have the sha256 of its manifest: it is damaged or was changed. "
                "Copy the package again or export it again",
            )
        if name.endswith(".onnx"):
            _check_inside(file, manifest)
    return Package(path, manifest)


def read_manifest(path: Path) -> bytes:
    """Bytes of a package's manifest.

    Raises:
        Fault: ``bad_package`` if it is missing or larger than ``MAX_MANIFEST_BYTES``.
    """
    manifest_path = path / MANIFEST_NAME
    if not manifest_path.is_file():
        raise Fault(
            "bad_package",
            f"{path} is not a model package: it has no {MANIFEST_NAME}. Make one with "
            "lemumo export, or check the `model` parameter",
        )
    if manifest_path.stat().st_size > MAX_MANIFEST_BYTES:
        raise Fault("bad_package", f"{manifest_path} is larger than {MAX_MANIFEST_BYTES} bytes")
    return manifest_path.read_bytes()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_inside(graph: Path, manifest: Manifest) -> None:
    try:
        outside = external_data(graph)
    except ValueError as error:
        raise Fault("bad_package", str(error)) from error
    allowed = [WEIGHTS_NAME] if WEIGHTS_NAME in manifest.files else []
    if any(location not in allowed for location in outside):
        raise Fault(
            "bad_package",
            f"{graph} keeps data in {outside}; a package's graph may keep it in its own file and "
            f"in the package's {WEIGHTS_NAME}. Export it with lemumo export",
        )
