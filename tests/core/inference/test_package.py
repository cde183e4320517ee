"""A package is loaded only if it is whole and says what we understand."""

from __future__ import annotations

import json

import pytest

from lemumo_core.faults import Fault
from lemumo_core.inference.package import Manifest, load_package, write_package
from lemumo_core.preprocess import InputSpec


@pytest.fixture
def package(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not really a graph")
    spec = InputSpec(64, 96, "lidar", 2)
    manifest = Manifest("m", "1.0", True, {"a": 1}, spec, ("car",), ("road",), ((1, 2, 3),))
    return write_package(tmp_path, manifest)


def test_round_trip(package) -> None:
    assert load_package(package.path).manifest == package.manifest
    assert package.file("model.onnx").read_bytes() == b"not really a graph"
    with pytest.raises(Fault, match=r"holds no weights.safetensors"):
        package.file("weights.safetensors")


def edit(package, change) -> None:
    path = package.path / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema_version=2), "schema version 2"),
        (lambda d: d.pop("palette"), r"missing \['palette'\]"),
        (lambda d: d.update(colour=1), r"unknown \['colour'\]"),
        (lambda d: d["input"].update(height=100), "multiples of 16"),
        (lambda d: d["input"].update(height="64"), "height"),
        (lambda d: d["input"].pop("width"), "width"),
        (lambda d: d.update(input=3), "InputSpec"),
        (lambda d: d.update(palette=[[1, 2]]), "palette"),
        (lambda d: d.update(palette=[]), "0 colours for 1"),
        (lambda d: d.update(files=[]), "files"),
        (lambda d: d.update(detection_classes=7), "detection_classes"),
        (lambda d: d["files"].update({"../evil": "0"}), "leaves the package"),
        (lambda d: d["files"].update({"gone.bin": "0"}), r"lists gone.bin, which is missing"),
    ],
)
def test_a_manifest_that_is_wrong_is_named(package, change, words) -> None:
    edit(package, change)
    with pytest.raises(Fault, match=words) as error:
        load_package(package.path)
    assert error.value.reason == "bad_package"


def test_one_flipped_bit_is_noticed(package) -> None:
    path = package.path / "model.onnx"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(Fault, match="sha256"):
        load_package(package.path)


def test_no_package_and_no_json(tmp_path) -> None:
    with pytest.raises(Fault, match="is not a model package"):
        load_package(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(Fault, match="not valid JSON"):
        load_package(tmp_path)
