"""Regions to ignore and labels of unknown classes, on their way to views, shards and statistics."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.data.arrow import pa
from lemumo_core.data.crops import Crops
from lemumo_core.data.frame_records import SCHEMAS, frame_from_record, record_from_frame
from lemumo_core.data.reduction import reduced_labels
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import INDEX, Shards
from lemumo_core.data.statistics import report, statistics
from lemumo_core.data.views import Shot, render
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.metrics.objects import ignored_regions
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import DETECTION_CLASSES, Taxonomy
from tests.helpers.small_frames import CAMERA, Frames, small_frames

CANVAS = InputSpec(96, 160, "lidar", 2)
REGIONS = np.array([[20, 30, 59, 69], [100, 10, 139, 29]], np.float32)


def with_labels(frame, **changes):
    return replace(frame, labels=replace(frame.labels, **changes))


def test_regions_reach_the_canvas_and_are_padded_in_batches():
    one, two = small_frames(2)
    half = InputSpec(48, 80, "lidar", 2)
    frames = with_labels(one, ignore=REGIONS), two
    batch = collate([sample(frame, half, Taxonomy()) for frame in frames])
    ignore = batch.labels.boxes.ignore
    assert ignore.shape == (2, 2, 4) and (ignore[1] == 0).all()
    np.testing.assert_allclose(ignore[0], (REGIONS + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("flipped", [0, 1])
def test_regions_follow_crops_and_flips(flipped):
    """A picture of the regions and their boxes are cut alike."""
    frame = with_labels(small_frames(1)[0], ignore=REGIONS)
    painted = np.full((96, 160), 255, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(REGIONS.astype(int)):
        painted[y1 : y2 + 1, x1 : x2 + 1] = number
    frame = with_labels(frame, label_map=painted)
    batch = collate([sample(frame, CANVAS, Taxonomy())])
    crops = Crops(torch.tensor([[16, 4, 112, 80, flipped]]), (96, 160), (80, 112))
    (view,) = render(batch, [Shot(crops)])
    for number, box in enumerate(view.labels.boxes.ignore[0]):
        rows, columns = np.nonzero(view.labels.label_map[0].numpy() == number)
        found = [columns.min(), rows.min(), columns.max(), rows.max()]
        np.testing.assert_allclose(box, found, atol=0.51)


@pytest.mark.parametrize("factor", [2, 4])
def test_regions_of_reduced_frames(factor):
    labels = reduced_labels(Labels(ignore=REGIONS), factor)
    np.testing.assert_allclose(labels.ignore, (REGIONS + 0.5) / factor - 0.5)
    assert labels.ignore.dtype == np.float32
    assert reduced_labels(Labels(), factor).ignore is None


def test_regions_come_back_from_shards_and_shards_without_them_keep_loading(tmp_path):
    one, two = small_frames(2)
    write_shards(Frames([with_labels(one, ignore=REGIONS), two]), tmp_path / "new", workers=1)
    found = [frame.labels.ignore for frame in Shards(tmp_path / "new")]
    np.testing.assert_array_equal(found[0], REGIONS)
    assert found[1] is None
    # What version 1 wrote: the same columns but for the regions.
    old = tmp_path / "old"
    old.mkdir()
    with pa.ipc.new_file(str(old / "shard-000000.arrow"), SCHEMAS[1]) as writer:
        for frame in (one, two):
            row = record_from_frame(frame).to_pylist()[0]
            del row["labels"]["ignore"]
            writer.write_batch(pa.RecordBatch.from_pylist([row], schema=SCHEMAS[1]))
    size = (old / "shard-000000.arrow").stat().st_size
    shard = {"name": "shard-000000.arrow", "frames": 2, "bytes": size}
    index = {"version": 1, "configuration": {}, "frames": 2, "dropped": 0, "shards": [shard]}
    (old / INDEX).write_text(json.dumps(index))
    for frame, expected in zip(Shards(old), (one, two), strict=True):
        assert frame.labels.ignore is None
        np.testing.assert_array_equal(frame.labels.boxes_3d, expected.labels.boxes_3d)
        np.testing.assert_array_equal(frame.image, expected.image)
    (old / INDEX).write_text(json.dumps({**index, "version": 8}))
    with pytest.raises(Fault, match="version 8, this reads 1 to 7"):
        Shards(old)
    assert frame_from_record(record_from_frame(two)).labels.ignore is None


def test_labels_of_unknown_classes_are_regions_warned_of_once_and_counted(caplog):
    frame = small_frames(1)[0]
    names = ("car", "Personne", "tram")
    frame = with_labels(frame, class_names=names, ignore=REGIONS[:1])
    with caplog.at_level("WARNING"):
        regions = ignored_regions(frame.labels, Taxonomy(), CAMERA)
        boxes = sample(frame, CANVAS, Taxonomy()).labels.boxes
    assert caplog.text.count("labels of class 'Personne' are none of car, truck") == 1
    assert "tram" not in caplog.text  # known to be none of ours: background
    np.testing.assert_array_equal(regions, [REGIONS[0], frame.labels.boxes_2d[1]])
    assert boxes.class_ids.tolist() == [[DETECTION_CLASSES.index("car")]]
    assert boxes.ignore.shape == (1, 2, 4)
    only_3d = replace(frame.labels, boxes_2d=None)
    np.testing.assert_allclose(ignored_regions(only_3d, Taxonomy(), CAMERA), regions)
    found = statistics(Frames([frame, frame]))
    assert found["unknown_classes"] == {"Personne": 2}
    assert "unknown_classes   Personne 2" in report(found)


def test_a_models_own_class_names_are_found_among_labels():
    classes = Taxonomy(("Forklift", "pedestrian", "tram"))
    names = ("forklift", "FORKLIFT", "Person", "tram", "car")
    assert classes.detection_ids(names).tolist() == [0, 0, 1, 2, -1]
    names = ("Car", "movable_object.barrier", "DontCare", "coche")
    assert classes.is_unknown(names).tolist() == [False, False, True, True]
