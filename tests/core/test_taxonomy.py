"""Classes of users' own: class files, names in labels, ids of label maps."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.data.contact_sheet import contact_sheet
from lemumo_core.data.frame_records import frame_from_record, record_from_frame
from lemumo_core.data.samples import sample
from lemumo_core.data.sources.waymo_labels import LABEL_NAMES
from lemumo_core.data.statistics import statistics
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.inference.manifest import parse_manifest
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.metrics.objects import ignored_regions
from lemumo_core.model.config import ModelConfig
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import (
    DETECTION_CLASSES,
    SEGMENTATION_CLASSES,
    Taxonomy,
    read_classes,
    shipped_names,
)
from lemumo_core.train.run_config import defaults_of_classes
from tests.helpers.small_frames import CAMERA, Frames, small_frames

WAREHOUSE = """
detection:
  forklift: {from: [truck, "vehicle.*"], kind: machine}
  pedestrian: {from: [person]}
  loader: {kind: machine}
segmentation:
  floor: {from: [road, "flat.*"], color: [1, 2, 3], kind: ground}
  rack:
ignored: [mirror]
background: [car, "vehicle.bicycle"]
label_ids: {0: void, 3: rack, 7: road, 9: mirror}
"""


@pytest.fixture
def warehouse(tmp_path) -> Path:
    path = tmp_path / "classes.yaml"
    path.write_text(WAREHOUSE)
    return path


def test_names_in_labels_become_the_classes_of_a_file(warehouse) -> None:
    classes = read_classes(str(warehouse))
    names = ("Forklift", "TRUCK", "vehicle.bus", "vehicle.bicycle", "car", "mirror", "coche")
    assert classes.detection_ids(names).tolist() == [0, 0, 0, -1, -1, -1, -1]
    assert classes.is_ignored(names).tolist() == [False] * 5 + [True, True]
    assert classes.is_unknown(names).tolist() == [False] * 6 + [True]
    assert classes.kinds == ("machine", "pedestrian") and classes.kind("floor") == "ground"
    assert classes.palette[0] == (1, 2, 3) and len(set(classes.palette)) == 2
    assert pickle.loads(pickle.dumps(classes)) == classes


def test_ids_of_label_maps_become_classes_by_their_names(warehouse, caplog) -> None:
    classes = read_classes(str(warehouse))
    given = np.array([0, 3, 7, 9, 255], np.uint8)
    assert classes.label_ids(given).tolist() == [255, 1, 0, 255, 255]  # by label_ids
    assert "labelled 'void' are none of floor, rack" in caplog.text and "mirror" not in caplog.text
    own = ("rack", "", "flat.parking", "mirror")  # a source's own names win
    assert classes.label_ids(np.uint8([0, 2, 3, 255]), own).tolist() == [1, 0, 255, 255]
    with pytest.raises(Fault, match=r"label ids 1, 8 have no name; named are 0 void, 3 rack, 7"):
        classes.label_ids(np.uint8([[1, 3], [8, 255]]))
    with pytest.raises(Fault, match="label ids 1 have no name"):
        classes.label_ids(np.uint8([1]), own)


def test_a_sample_and_its_truth_have_the_ids_of_the_model(warehouse) -> None:
    classes = read_classes(str(warehouse))
    frame = small_frames(1)[0]
    label_map = np.full((CAMERA.height, CAMERA.width), 7, np.uint8)
    label_map[:, :80] = 3
    labels = replace(
        frame.labels,
        class_names=("truck", "mirror", "car"),
        label_map=label_map,
        point_labels=np.full(len(frame.companion.points), 2, np.uint8),
        label_names=("", "", "flat.mud", "rack", "", "", "", "road"),
    )
    frame = frame_from_record(record_from_frame(replace(frame, labels=labels)))
    batch = sample(frame, InputSpec(48, 64, "lidar", 2), classes, points=True)
    assert batch.labels.boxes.class_ids.tolist() == [[0]]
    np.testing.assert_array_equal(
        ignored_regions(frame.labels, classes, CAMERA), labels.boxes_2d[1:2]
    )
    ids = batch.labels.label_map[0].numpy()
    assert set(np.unique(ids[-10:, :20])) == {1} and set(np.unique(ids[-10:, -20:])) == {0}
    assert set(batch.sweep_labels.unique().tolist()) == {0}
    found = statistics(Frames([frame]), classes)
    assert found["pixels"] == {"rack": 0.5, "road": 0.5, "unlabelled": 0.0}
    assert found["unknown_classes"] == {} and found["points"]["flat.mud"] == 1
    assert contact_sheet(Frames([frame]), 1).any()


def test_classes_travel_from_the_file_to_the_manifest(warehouse, tmp_path) -> None:
    values = defaults_of_classes(str(warehouse))
    own = {name.removeprefix("model."): value for name, value in values.items()}
    config = ModelConfig.from_dict(asdict(ModelConfig(**own)))
    assert config.classes == read_classes(str(warehouse))
    manifest = manifest_of(config, "m", trained=False)
    document = json_of(manifest)
    again = parse_manifest(document, tmp_path)
    assert again.classes == config.classes and again.palette == config.classes.palette
    del document["model"]["class_rules"]  # of a package of an earlier version
    assert parse_manifest(document, tmp_path).classes.kinds == config.detection_classes
    document["model"]["class_rules"] = {"kind": {}}
    with pytest.raises(Fault, match="class_rules: unknown rule of classes 'kind'"):
        parse_manifest(document, tmp_path)
    with pytest.raises(ValueError, match="rules of classes name forklift, loader, none"):
        ModelConfig(class_rules=own["class_rules"])


def json_of(manifest):
    return json.loads(json.dumps(asdict(manifest)))


def test_shipped_files_name_what_their_data_sets_do() -> None:
    shipped = ["argoverse2", "cityscapes", "default", "flir", "kitti", "nuscenes"]
    shipped += ["pandaset", "semantickitti", "t4", "waymo", "zod"]
    assert shipped_names() == shipped
    assert read_classes("default") == Taxonomy()
    waymo = read_classes("waymo")
    ids = waymo.label_ids(np.arange(1, len(LABEL_NAMES), dtype=np.uint8), LABEL_NAMES)
    assert ids.tolist() == [255, *range(27)]
    cityscapes = read_classes("cityscapes")
    train_ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert cityscapes.label_ids(np.uint8(train_ids)).tolist() == list(range(19))
    others = [i for i in range(34) if i not in train_ids]
    assert set(cityscapes.label_ids(np.uint8(others)).tolist()) == {255}
    nuscenes = read_classes("nuscenes")
    names = ("vehicle.bus.bendy", "movable_object.barrier", "movable_object.debris", "coche")
    assert nuscenes.detection_ids(names).tolist() == [2, 9, -1, -1]
    assert nuscenes.is_ignored(names).tolist() == [False, False, True, True]
    for name in ("kitti", "flir", "argoverse2", "t4", "zod"):  # which have no label maps
        assert read_classes(name).segmentation_classes == tuple(SEGMENTATION_CLASSES)
    assert read_classes("kitti").detection_ids(("Van", "Misc")).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detection: [car]", "detection must be a mapping"),
        ("detection: {}", "detection names no class"),
        ("ignored: [a]", "it names no classes"),
        ("detections: {car: }", "has no key 'detections'.*detection"),
        ("detection: {a: {form: [b]}}", "detection: a has no key 'form'"),
        ("detection: {a: {from: b}}", "from must be a list of names"),
        ("detection: {a: {from: [c]}, b: {from: [C]}}", "'c' is a and b"),
        ("detection: {no: }", "False is no name; write it in quotes"),
        ("segmentation: {a: {color: [1, 2]}}", r"colour of a is \[1, 2\]"),
        ("segmentation: {a: }\nlabel_ids: {255: a}", "label_ids has 255"),
        ("detection: {a: , A: }", "'a' is a and A|name a class twice"),
        ("detection: {a: [", "is not YAML"),
        ("detection: {a: {from: [c]}, a: }", "key 'a' is there twice"),
        ("detection: {a: {from: [c]}}\nignored: [C]", "'c' is ignored and a"),
        ("detection: {a: }\nignored: [c]\nbackground: [c]", "'c' is ignored and background"),
        (
            "detection: {bicycle: {kind: two-wheler}}",
            r"detection: bicycle: kind 'two-wheler' is that of no other class; did you mean",
        ),
        (
            "detection: {van: {kind: cars}, lorry: {kind: cars}, bus: {kind: caars}}",
            r"bus: kind 'caars' .* \(known: bus, car, cars, lorry, pedestrian, truck/bus, two-wh",
        ),
        ("segmentation: {floor: {kind: floor}}", r"kind 'floor' .* \(known: ground, sky\)"),
    ],
)
def test_what_is_wrong_in_a_class_file_is_named(tmp_path, text, message) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(Fault, match=message) as raised:
        read_classes(str(path))
    assert raised.value.reason == "bad_classes" and str(path) in str(raised.value)


def test_own_lists_without_a_file_take_the_default_names() -> None:
    classes = Taxonomy.of(("forklift", "pedestrian"), ("sky", "floor"))
    assert classes.detection_ids(("person", "forklift", "car")).tolist() == [1, 0, -1]
    assert not classes.is_unknown(("car",)).any()
    ids = np.arange(len(SEGMENTATION_CLASSES), dtype=np.uint8)
    sky = list(SEGMENTATION_CLASSES).index("sky")
    assert classes.label_ids(ids).tolist() == [0 if i == sky else 255 for i in ids]
    assert classes.palette[0] == SEGMENTATION_CLASSES["sky"]
    assert Taxonomy().detection_classes == DETECTION_CLASSES
    assert Labels().label_names == ()
    with pytest.raises(FileNotFoundError, match=r"no class file forklifts: .*cityscapes, def"):
        read_classes("forklifts")
