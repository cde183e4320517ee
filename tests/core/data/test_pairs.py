"""RGB-thermal folders: real KAIST and LLVIP samples, and every layout in small."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.faults import Fault
from lemumo_core.preprocess import InputSpec, preprocess

LAYOUTS = {
    "flat": ("a_visible.png", "a_lwir.png"),
    "kaist": ("set00/V000/visible/I00000.jpg", "set00/V000/lwir/I00000.jpg"),
    "kaist video": ("visible/I00000.jpg", "lwir/I00000.jpg"),
    "llvip samples": ("Train_vi/010001.jpg", "Train_ir/010001.jpg"),
    "llvip": ("visible/test/190001.jpg", "infrared/test/190001.jpg"),
    "msrs": ("train/vi/00537D.png", "train/ir/00537D.png"),
    "m3fd": ("M3FD_Detection/Vis/00042.png", "M3FD_Detection/Ir/00042.png"),
    "fmb": ("test/Visible/00122.png", "test/Infrared/00122.png"),
    "tno": ("VIS/1.bmp", "IR/1.bmp"),
    "roadscene": ("crop_LR_visible/FLIR_00006.jpg", "cropinfrared/FLIR_00006.jpg"),
    "pst900": ("train/rgb/0001.png", "train/thermal/0001.png"),
    "flir aligned": ("JPEGImages/FLIR_00002_RGB.jpg", "JPEGImages/FLIR_00002_PreviewData.jpeg"),
    "deeper": ("park/rgb/night/7.png", "park/tir/night/7.png"),
    "extensions differ": ("a_visible.jpg", "a_lwir.tiff"),
}


def write(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_pair(root, names, thermal=None) -> None:
    write(root / names[0], np.full((8, 12, 3), 90, np.uint8))
    write(root / names[1], np.full((8, 12), 70, np.uint8) if thermal is None else thermal)


@pytest.mark.parametrize(
    ("folder", "pairs", "shape"), [("kaist_rgbt", 5, (512, 640)), ("llvip_rgbt", 6, (1024, 1280))]
)
def test_real_pairs(shared_data, folder, pairs, shape):
    source = RgbThermalPairs(shared_data / folder)
    assert len(source) == pairs
    for frame in source:
        assert frame.image.shape == (*shape, 3) and frame.image.dtype == np.uint8
        assert frame.companion.image.shape == shape and frame.companion.image.dtype == np.uint8
        assert frame.companion.stamp_ns == frame.stamp_ns
        assert frame.labels is None
    assert source[1].stamp_ns - source[0].stamp_ns == 500_000_000
    assert source[-1].stamp_ns == source[pairs - 1].stamp_ns


@pytest.mark.parametrize("folder", ["kaist_rgbt", "llvip_rgbt"])
def test_real_thermal_fills_the_view(shared_data, folder):
    frame = RgbThermalPairs(shared_data / folder)[0]
    net = preprocess(frame, InputSpec(256, 320, "thermal", 2))
    assert (net.companion[..., 1] == 1).all()
    expected = cv2.resize(frame.companion.image, (320, 256), interpolation=cv2.INTER_AREA) / 255.0
    assert np.abs(net.companion[0, ..., 0] - expected).mean() < 0.01


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout(tmp_path, names):
    write_pair(tmp_path, names)
    source = RgbThermalPairs(tmp_path)
    assert len(source) == 1
    assert abs(int(source[0].image.mean()) - 90) <= 1
    assert abs(int(source[0].companion.image.mean()) - 70) <= 1


def test_the_same_name_in_two_folders_is_two_pairs(tmp_path):
    for video in ("V000", "V001"):
        write_pair(
            tmp_path, (f"set00/{video}/visible/I00000.png", f"set00/{video}/lwir/I00000.png")
        )
    source = RgbThermalPairs(tmp_path)
    assert [visible.parts[1] for visible, _ in source.pairs] == ["V000", "V001"]
    assert all(visible.parts[:2] == thermal.parts[:2] for visible, thermal in source.pairs)


def test_images_of_other_sizes_align_edge_to_edge(tmp_path):
    thermal = np.zeros((40, 80), np.uint16)
    thermal[10:20, 60:80] = 30_000
    write(tmp_path / "a_visible.png", np.zeros((160, 240, 3), np.uint8))
    write(tmp_path / "a_lwir.png", thermal)
    frame = RgbThermalPairs(tmp_path, focal_px=300.0)[0]
    assert (frame.camera.fx, frame.camera.fy) == (300.0, 300.0)
    assert frame.companion.image.dtype == np.uint16
    assert np.array_equal(frame.companion.image, thermal)
    assert np.array_equal(frame.companion.T_camera_thermal, np.eye(4))
    uv = frame.companion.camera.project(frame.camera.unproject([[-0.5, -0.5], [239.5, 159.5]]))[0]
    np.testing.assert_allclose(uv, [[-0.5, -0.5], [79.5, 39.5]], atol=1e-9)
    value = preprocess(frame, InputSpec(160, 240, "thermal", 1)).companion[0, ..., 0]
    rows, columns = np.nonzero(value > 0.5)
    assert (rows.min(), rows.max() + 1, columns.min()) == (40, 80, 180)


def test_describes_itself_and_survives_pickling(tmp_path):
    write_pair(tmp_path, LAYOUTS["flat"])
    source = pickle.loads(pickle.dumps(RgbThermalPairs(tmp_path, rate_hz=4.0)))
    assert json.loads(json.dumps(source.describe())) == {
        "source": "rgb-thermal",
        "root": str(tmp_path),
        "frames": 1,
        "focal_px": 700.0,
        "rate_hz": 4.0,
    }
    with pytest.raises(IndexError):
        source[1]


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*expected X_visible"):
        RgbThermalPairs(tmp_path / "nowhere")
    write(tmp_path / "holiday.png", np.zeros((8, 12), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"no pairs; expected X_visible"):
        RgbThermalPairs(tmp_path)


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kept", [0, 1])
def test_an_image_without_partner_is_named(tmp_path, names, kept):
    write_pair(tmp_path, ("b_visible.png", "b_lwir.png"))
    write(tmp_path / names[kept], np.zeros((8, 12), np.uint8))
    with pytest.raises(FileNotFoundError, match=rf"{names[kept]} has no partner.*expected"):
        RgbThermalPairs(tmp_path)


def test_unequal_names_are_no_pair(tmp_path):
    write_pair(tmp_path, ("visible/train/010001.jpg", "infrared/train/010002.jpg"))
    with pytest.raises(FileNotFoundError, match=r"01000[12]\.jpg has no partner, nor have 1 other"):
        RgbThermalPairs(tmp_path)


def test_a_damaged_image_is_a_fault(tmp_path):
    write_pair(tmp_path, LAYOUTS["flat"])
    (tmp_path / "a_lwir.png").write_bytes(b"not a png")
    with pytest.raises(Fault, match=r"a_lwir\.png"):
        RgbThermalPairs(tmp_path)[0]


def test_a_rate_of_zero_is_refused(tmp_path):
    with pytest.raises(Fault, match="rate_hz is 0"):
        RgbThermalPairs(tmp_path, rate_hz=0)


def test_what_lies_beside_the_pairs_of_published_sets_is_passed_over(tmp_path):
    for folder in ("train/vi", "train/ir", "test/vi", "test/ir"):
        write(tmp_path / folder / "00004N.png", np.full((8, 12, 3), 90, np.uint8))
    for other in ("train/Segmentation_labels/00004N.png", "train/color/00004N.png", "docs/a.png"):
        write(tmp_path / other, np.zeros((8, 12, 3), np.uint8))
    write(tmp_path / "crop_HR_visible" / "FLIR_1.jpg", np.zeros((8, 12, 3), np.uint8))
    assert [str(visible) for visible, _ in RgbThermalPairs(tmp_path).pairs] == [
        "test/vi/00004N.png",
        "train/vi/00004N.png",
    ]


@pytest.mark.parametrize("other", ["ir/7.jpg", "thermal/7.png"])
def test_two_possible_partners_are_refused_by_name(tmp_path, other):
    write_pair(tmp_path, ("vi/7.png", "ir/7.png"))
    write(tmp_path / other, np.zeros((8, 12), np.uint8))
    with pytest.raises(Fault, match=r"ir/7\.\w+ and .*7") as caught:
        RgbThermalPairs(tmp_path)
    assert caught.value.reason == "ambiguous_pairs"


def test_false_colours_are_no_temperatures(tmp_path):
    gray = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (32, 1))
    write(tmp_path / "vi" / "1.png", np.zeros((32, 48, 3), np.uint8))
    write(tmp_path / "ir" / "1.png", cv2.applyColorMap(gray, cv2.COLORMAP_INFERNO))
    with pytest.raises(Fault, match=r"ir/1\.png is in false colours"):
        RgbThermalPairs(tmp_path)[0]
    noisy = np.dstack([gray, gray + 3, gray - np.minimum(gray, 3)])  # as JPEG leaves grey
    write(tmp_path / "ir" / "1.png", noisy)
    found = RgbThermalPairs(tmp_path)[0].companion.image
    assert found.ndim == 2 and np.abs(found.astype(int) - gray).max() <= 3
