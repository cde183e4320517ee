"""FLIR ADAS v2 in small, written after the README.txt of the data set (v2.0.0), the names that
Conservator gives (``video-VIDEO-frame-INDEX-ID.jpg``) and the tables of the release:

- ``coco.json``: images (id, file_name ``data/NAME``, width, height), annotations (image_id,
  category_id, bbox x, y, width, height), categories (id, name);
- ``index.json``: videos (id, description; a thermal one holds ``{"RGB": "VIDEO"}``), frames;
- ``rgb_to_thermal_vid_map.json``: RGB file name to thermal file name.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.flir import WINDOW, Flir, rgb_camera
from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec, preprocess

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 77, "name": "scooter"}]
RGB_SIZE, THERMAL_SIZE = (360, 320), (128, 96)
"""Width, height."""
LEFT, TOP, WIDTH, HEIGHT = WINDOW


def write_folder(folder: Path, names: dict[str, list], size: tuple[int, int], videos: list) -> None:
    """One of the six folders; names maps an image to its (category, x, y, width, height)."""
    (folder / "data").mkdir(parents=True)
    images, annotations = [], []
    for number, (name, boxes) in enumerate(names.items()):
        channels = (3,) if "rgb" in folder.name else ()
        cv2.imwrite(str(folder / "data" / name), np.full((*size[::-1], *channels), 50, np.uint8))
        image = {"id": number, "file_name": f"data/{name}", "width": size[0], "height": size[1]}
        images.append(image)
        for category, *bbox in boxes:
            annotations.append({"image_id": number, "category_id": category, "bbox": bbox})
    coco = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "coco.json").write_text(json.dumps(coco))
    (folder / "index.json").write_text(json.dumps({"videos": videos, "frames": []}))


@pytest.fixture
def root(tmp_path) -> Path:
    """Two pairs of images, one thermal image without a partner, and a video of two frames."""
    root = tmp_path / "FLIR_ADAS_v2"
    for split in ("train", "val"):
        rgb = {
            "video-rA-frame-000030-i1.jpg": [(3, 10, 20, 30, 40), (1, 340, 300, 50, 50)],
            "video-rA-frame-000060-i2.jpg": [],
            "video-rB-frame-000007-i3.jpg": [(77, 1, 2, 3, 4)],
        }
        thermal = {
            "video-tB-frame-000007-j1.jpg": [(1, 0, 0, 128, 96)],
            "video-tA-frame-000030-j2.jpg": [(3, 64, 48, 10, 10)],
            "video-tA-frame-000031-j3.jpg": [],
        }
        videos = [
            {"id": "tA", "description": 'drive 7 {"RGB": "rA"}'},
            {"id": "tB", "description": '{"RGB":"rB"}'},
            {"id": "tC", "description": None},
        ]
        write_folder(root / f"images_rgb_{split}", rgb, RGB_SIZE, [])
        write_folder(root / f"images_thermal_{split}", thermal, THERMAL_SIZE, videos)
    rgb = {f"video-r-frame-00000{i}-a{i}.jpg": [(3, i, i, 9, 9)] for i in (1, 2)}
    thermal = {f"video-t-frame-00000{i}-b{i}.jpg": [] for i in (1, 2)}
    write_folder(root / "video_rgb_test", rgb, RGB_SIZE, [])
    write_folder(root / "video_thermal_test", thermal, THERMAL_SIZE, [])
    pairs = dict(zip(reversed(rgb), reversed(thermal), strict=True))
    (root / "rgb_to_thermal_vid_map.json").write_text(json.dumps(pairs))
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_pair_through_the_index(root, split):
    source = Flir(root, split)
    assert source.pairs == [
        ("video-rA-frame-000030-i1.jpg", "video-tA-frame-000030-j2.jpg"),
        ("video-rB-frame-000007-i3.jpg", "video-tB-frame-000007-j1.jpg"),
    ]
    frame = source[0]
    assert frame.image.shape == (*RGB_SIZE[::-1], 3) and frame.image.dtype == np.uint8
    assert frame.companion.image.shape == THERMAL_SIZE[::-1]
    assert frame.companion.image.dtype == np.uint8
    assert frame.companion.stamp_ns == frame.stamp_ns == source[1].stamp_ns - 500_000_000


@pytest.mark.parametrize("beside", [False, True])
def test_videos_pair_through_the_map(root, beside):
    if beside:  # some mirrors have it next to the folder
        file = root / "rgb_to_thermal_vid_map.json"
        file.rename(root.parent / file.name)
    source = Flir(root, "video_test")
    assert [[name[-6:] for name in pair] for pair in source.pairs] == [
        ["a1.jpg", "b1.jpg"],
        ["a2.jpg", "b2.jpg"],
    ]
    assert source[1].stamp_ns - source[0].stamp_ns == round(1e9 / 30)
    np.testing.assert_array_equal(source[1].labels.boxes_2d, [[2, 2, 11, 11]])


def test_rgb_labels_are_those_of_the_file(root):
    source = Flir(root)
    labels = source[0].labels
    assert labels.class_names == ("car", "person") and labels.boxes_3d is None
    np.testing.assert_array_equal(labels.boxes_2d, [[10, 20, 40, 60], [340, 300, 359, 319]])
    assert labels.boxes_2d.dtype == np.float32
    assert source[1].labels.class_names == ("scooter",)


def test_thermal_labels_go_through_the_window(root):
    source = Flir(root, labels="thermal")
    (width, height), labels = RGB_SIZE, source[0].labels
    assert labels.class_names == ("car",)
    low = [width * (LEFT + WIDTH / 2), height * (TOP + HEIGHT / 2)]
    high = [low[0] + width * WIDTH * 10 / 128, low[1] + height * HEIGHT * 10 / 96]
    np.testing.assert_allclose(labels.boxes_2d, [[*low, *high]], rtol=1e-6)
    np.testing.assert_allclose(
        source[1].labels.boxes_2d,
        [[width * LEFT, height * TOP, width * (LEFT + WIDTH), height * (TOP + HEIGHT)]],
        rtol=1e-6,
    )


@pytest.mark.parametrize("size", [(1800, 1600), (1224, 1024), (1024, 768)])
def test_corners_of_the_window(size):
    rgb = rgb_camera(*size)
    thermal = rgb.of_window(WINDOW, 640, 512)
    corners = np.array([[LEFT, TOP], [LEFT + WIDTH, TOP], [LEFT, TOP + HEIGHT]])
    uv, valid = thermal.project(rgb.unproject(corners * size - 0.5))
    assert valid.all()
    np.testing.assert_allclose(uv, [[-0.5, -0.5], [639.5, -0.5], [-0.5, 511.5]], atol=1e-9)
    field = 2 * np.degrees(np.arctan(size[0] / 2 / rgb.fx))
    assert field == pytest.approx(52.8) and rgb.fx == rgb.fy


def test_a_thermal_block_lands_in_the_window(root):
    thermal = np.zeros(THERMAL_SIZE[::-1], np.uint8)
    thermal[24:48, 32:96] = 255
    for file in (root / "images_thermal_train" / "data").iterdir():
        cv2.imwrite(str(file), thermal, [cv2.IMWRITE_JPEG_QUALITY, 100])
    net = preprocess(Flir(root)[0], InputSpec(320, 352, "thermal", 2))
    scale = 352 / RGB_SIZE[0]  # the view is narrower than the image and padded at its top
    pad = 320 - round(RGB_SIZE[1] * scale)
    size = np.array([352, 320 - pad])

    def bounds(mask):
        rows, columns = np.nonzero(mask)
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

    def through_window(low, high):
        edges = np.array([low, high]) / THERMAL_SIZE * [WIDTH, HEIGHT] + [LEFT, TOP]
        return (edges * size + [0, pad]).ravel()

    value, valid = net.companion[0, ..., 0], net.companion[0, ..., 1]
    np.testing.assert_allclose(bounds(value > 0.5), through_window((32, 24), (96, 48)), atol=1)
    half = 0.5  # what lies past the outermost pixel centres is not valid
    inner = through_window((half, half), np.array(THERMAL_SIZE) - half)
    np.testing.assert_allclose(bounds(valid > 0), inner, atol=1)


def test_raw_counts(root):
    folder = root / "images_thermal_train" / "analyticsData"
    with pytest.raises(FileNotFoundError, match="analyticsData"):
        Flir(root, raw=True)
    folder.mkdir()
    counts = np.arange(96 * 128, dtype=np.uint16).reshape(96, 128) + 20_000
    for name in ("video-tB-frame-000007-j1", "video-tA-frame-000030-j2"):
        cv2.imwrite(str(folder / f"{name}.tiff"), counts)
    image = Flir(root, raw=True)[0].companion.image
    assert image.dtype == np.uint16 and np.array_equal(image, counts)


def test_describes_itself_and_survives_pickling(root):
    source = pickle.loads(pickle.dumps(Flir(root, "val", labels="thermal")))
    assert json.loads(json.dumps(source.describe())) == {
        "source": "flir",
        "root": str(root),
        "frames": 2,
        "split": "val",
        "labels": "thermal",
        "raw": False,
        "rate_hz": 2.0,
        "unpaired_thermal": 1,
    }
    assert source[-1].stamp_ns == source[1].stamp_ns
    with pytest.raises(IndexError):
        source[2]


def test_missing_parts_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images_rgb_train does not exist.*FLIR ADAS v2"):
        Flir(tmp_path)
    for part in ("images_rgb_train/coco.json", "images_thermal_train/index.json"):
        (root / part).rename(root / "away")
        with pytest.raises(FileNotFoundError, match=rf"{part} does not exist; expected FLIR"):
            Flir(root)
        (root / "away").rename(root / part)
    (root / "rgb_to_thermal_vid_map.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"rgb_to_thermal_vid_map\.json does not exist"):
        Flir(root, "video_test")


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ("train", "images_rgb_train/data/video-rB-frame-000007-i3.jpg"),
        ("train", "images_thermal_train/data/video-tA-frame-000030-j2.jpg"),
        ("video_test", "video_thermal_test/data/video-t-frame-000002-b2.jpg"),
    ],
)
def test_half_a_download_is_noticed_at_once(root, split, part):
    (root / part).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{part} does not exist.*complete\? Expected"):
        Flir(root, split)


def test_no_partner_at_all(root):
    index = root / "images_thermal_train" / "index.json"
    index.write_text(json.dumps({"videos": [{"id": "tA", "description": ""}]}))
    with pytest.raises(Fault, match="images_thermal_train has a partner") as caught:
        Flir(root)
    assert caught.value.reason == "no_pairs"


def test_version_1_is_refused(tmp_path):
    (tmp_path / "train" / "thermal_8_bit").mkdir(parents=True)
    with pytest.raises(Fault, match=r"thermal_8_bit is of FLIR ADAS v1; expected FLIR ADAS v2"):
        Flir(tmp_path)


def test_bad_options_and_tables_are_faults(root):
    with pytest.raises(Fault, match="train, val, video_test"):
        Flir(root, "test")
    with pytest.raises(Fault, match="neither rgb nor thermal"):
        Flir(root, labels="both")
    coco = root / "images_rgb_train" / "coco.json"
    whole = json.loads(coco.read_text())
    for damaged in ('{"images":', "[]", json.dumps({**whole, "categories": []})):
        coco.write_text(damaged)
        with pytest.raises(Fault, match=r"images_rgb_train/coco\.json") as caught:
            Flir(root)
        assert caught.value.reason == "bad_table"
    coco.write_text(json.dumps(whole))
    for split, table in (
        ("train", root / "images_thermal_train" / "index.json"),
        ("video_test", root / "rgb_to_thermal_vid_map.json"),
    ):
        table.write_text("[]")
        with pytest.raises(Fault, match=rf"{table} must hold a JSON object"):
            Flir(root, split)


def test_an_image_without_entry_in_coco_has_no_labels(root):
    file = root / "video_rgb_test" / "coco.json"
    coco = json.loads(file.read_text())
    file.write_text(json.dumps({**coco, "images": coco["images"][:1]}))
    source = Flir(root, "video_test")
    assert source[0].labels is not None and source[1].labels is None


def test_boxes_outside_the_image_are_left_out(root):
    file = root / "images_rgb_train" / "coco.json"
    coco = json.loads(file.read_text())
    coco["annotations"][0]["bbox"] = [-30, 20, 25, 25]
    file.write_text(json.dumps(coco))
    labels = Flir(root)[0].labels
    assert labels.class_names == ("person",) and len(labels.boxes_2d) == 1


def test_crowds_are_regions_to_ignore_and_odd_boxes_are_named(root, caplog):
    coco = root / "images_thermal_train" / "coco.json"
    whole = json.loads(coco.read_text())
    first, second = whole["annotations"]
    crowds = [{**first, "bbox": [64, 48, 64, 48], "iscrowd": 1}]
    crowds += [{**first, "bbox": [0, 0, 64, 48], "iscrowd": 0, "ignore": 1}]
    line = {**first, "bbox": [5, 5, 0, 20], "iscrowd": 0}
    coco.write_text(json.dumps({**whole, "annotations": [first, *crowds, line, second]}))
    with caplog.at_level("WARNING"):
        source = Flir(root, labels="thermal")
    assert "1 boxes of no area are left out" in caplog.text
    labels = source[1].labels
    (width, height), scale = RGB_SIZE, np.array([WIDTH, HEIGHT] * 2) / 2
    assert labels.class_names == ("person",) and labels.ignore.dtype == np.float32
    corners = np.array([[1.0, 1, 2, 2], [0, 0, 1, 1]]) * scale + [LEFT, TOP] * 2
    np.testing.assert_allclose(labels.ignore, corners * ([width, height] * 2), rtol=1e-6)
    assert source[0].labels.ignore is None
    for bbox in (
        None,
        [],
        [1, 2, None, 4],
        [1, 2, 3],
        [1, 2, -3, 4],
        [1, float("nan"), 3, 4],
        "box",
    ):
        bad = {**first, "id": 981, "bbox": bbox}
        coco.write_text(json.dumps({**whole, "annotations": [second, bad]}))
        with pytest.raises(
            Fault, match=r"thermal_train.coco\.json, annotation 981: bbox"
        ) as caught:
            Flir(root, labels="thermal")
        assert caught.value.reason == "bad_labels"
