"""A package is loaded only if it is whole and says what we understand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lemumo_core.faults import Fault
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.model_card import model_card
from lemumo_core.inference.package import MAX_MANIFEST_BYTES, load_package, write_package
from lemumo_core.preprocess import InputSpec

GRAPH = b"\x08\x08"  # a ModelProto that holds its IR version alone
HASH = 64 * "0"
FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@pytest.fixture
def package(tmp_path):
    (tmp_path / "model.onnx").write_bytes(GRAPH)
    spec = InputSpec(64, 96, "lidar", 2)
    manifest = Manifest("m", "1.0", True, {"a": 1}, spec, ("car",), ("road",), ((1, 2, 3),))
    return write_package(tmp_path, manifest)


def test_round_trip(package) -> None:
    assert load_package(package.path).manifest == package.manifest
    assert package.file("model.onnx").read_bytes() == GRAPH
    with pytest.raises(Fault, match=r"holds no weights.safetensors"):
        package.file("weights.safetensors")


def test_a_manifest_of_before_there_was_a_view_of_whole_images_has_the_bottom_rows(package) -> None:
    edit(package, lambda document: document["input"].pop("whole_image"))
    assert load_package(package.path).manifest.input.whole_image is False


def test_the_model_card_names_all_of_a_list_of_data(package) -> None:
    start = {"time": "2026-01-02T03:04:05", "sources": ["bags", "kitti"], "git": 40 * "a"}
    data = ["/data/mine", "kitti,root=/data/kitti,weight=2", {"data": "shards", "root": "x"}]
    training = {"options": {"data": data}, "starts": [start], "steps": 7}
    card = model_card(replace(package.manifest, training=training))
    assert "| 2026-01-02 | bags, kitti | mine, kitti, shards | 7 | aaaaaaaaaaaa |" in card


def edit(package, change) -> None:
    path = package.path / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema_version=99), "schema version 99"),
        (lambda d: d.pop("palette"), r"missing \['palette'\]"),
        (lambda d: d.update(color=1), r"unknown \['color'\]"),
        (lambda d: d["input"].update(height=100), "multiples of 16"),
        (lambda d: d["input"].update(height="64"), "height"),
        (lambda d: d["input"].pop("width"), "width"),
        (lambda d: d["input"].update(height=16 << 20, width=16 << 20), "more than"),
        (lambda d: d.update(input=3), "InputSpec"),
        (lambda d: d.update(palette=[[1, 2]]), "palette"),
        (lambda d: d.update(palette=[]), "0 colours for 1"),
        (lambda d: d.update(files=[]), "files"),
        (lambda d: d.update(detection_classes=7), "detection_classes"),
        (lambda d: d["files"].update({"../evil": HASH}), "leaves the package"),
        (lambda d: d["files"].update({"model.onnx": "0"}), "sha256"),
        (lambda d: d.update(name=""), "name must be"),
        (lambda d: d.update(trained="no"), "true or false"),
        (lambda d: d.update(model=[]), "model must be an object"),
        (lambda d: d.update(detection_classes=["car", "car"]), "distinct"),
        (lambda d: d.update(segmentation_classes=[]), "distinct"),
        (lambda d: d.update(palette=[[1, 2, 300]]), "0 to 255"),
        (lambda d: d["input"].update(depth_min_m=90.0), "depth range"),
        (lambda d: d.update(losses={"int4": {}}), "losses"),
        (lambda d: d.update(losses={"int8": {"depth": float("nan")}}), "losses"),
        (lambda d: d.update(losses={"int8": {}}), r"no model.int8.onnx for its int8"),
        (lambda d: d["files"].update({"gone.bin": HASH}), r"lists gone.bin, which is missing"),
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
    data[1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Fault, match="sha256"):
        load_package(package.path)


def test_no_package(tmp_path) -> None:
    with pytest.raises(Fault, match="is not a model package"):
        load_package(tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 1_000_000, "not valid JSON"),
        (b"7", "JSON object"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, data, words) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(Fault, match=words):
        load_package(tmp_path)


@FUZZ
@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 60))
def test_a_corrupt_package_is_a_fault_or_whole(package, data, at, length) -> None:
    """Bytes replaced, inserted or cut out, in the manifest and in the graph."""
    for name in ("manifest.json", "model.onnx"):
        path = package.path / name
        good = path.read_bytes()
        at = at % (len(good) + 1)
        path.write_bytes(good[:at] + data + good[at + length :])
        try:
            load_package(package.path)
        except Fault as fault:
            assert fault.reason == "bad_package"
        path.write_bytes(good)


def rewrite(package, data: bytes) -> None:
    (package.path / "model.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(package, lambda d: d["files"].update({"model.onnx": digest}))


def test_a_graph_with_data_elsewhere_is_refused(package) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    constant = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inside = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [tensor]))
    rewrite(package, inside.SerializeToString())
    load_package(package.path)
    outside = node.attribute[0].g.node[0].attribute[0].t
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="offset", value="0")
    outside.external_data.add(key="location", value="../../etc/passwd")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [tensor]))
    rewrite(package, model.SerializeToString())
    with pytest.raises(Fault, match=r"keeps data in \['../../etc/passwd'\]"):
        load_package(package.path)


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    data = b""
    for number in [*(6, 5, 1) * depth, 7]:  # node, attribute, graph; the model's graph
        size, length = b"", len(data)
        while length > 0x7F:
            size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
        data = bytes([number << 3 | 2]) + size + bytes([length]) + data
    return data


@pytest.mark.parametrize(
    "data", [b"", b"not really a graph", b"\x3a\xff\xff\xff\x7f", nested(2000)]
)
def test_what_is_no_onnx_is_refused(package, data) -> None:
    rewrite(package, data)
    with pytest.raises(Fault, match=r"model.onnx is (empty|not an ONNX file)"):
        load_package(package.path)
