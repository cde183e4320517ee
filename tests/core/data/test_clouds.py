"""Folders of images and point clouds: which belong together, and what PCD files hold."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.cloud_folder import read_extrinsics
from lemumo_core.data.sources.pcd import read_pcd, unpack_lzf
from lemumo_core.data.sources.registry import open_source
from lemumo_core.evaluation.modalities import metric_for
from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import inverse
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.masked_returns import mask_returns
from tests.helpers.calibration import CALIBRATION
from tests.helpers.paths import ROOT

ECHOED = """\
header:
  stamp:
    sec: 3
    nanosec: 5
  frame_id: camera
height: 32
width: 48
distortion_model: plumb_bob
d:
- -0.1
- 0.01
- 0.0
- 0.0
- 0.0
k: [40.0, 0.0, 23.5, 0.0, 41.0, 15.5, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [40.0, 0.0, 23.5, 0.0, 0.0, 41.0, 15.5, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
---
"""
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])
POINTS = np.float32([[4, 1, -1, 7, 0], [9, -2, 0.5, 255, 63], [np.nan] * 3 + [0, 1]])


def header(kind: str, **changes: str) -> bytes:
    lines = {
        "VERSION": "0.7",
        "FIELDS": "x y z _ intensity ring t",
        "SIZE": "4 4 4 1 4 2 8",
        "TYPE": "F F F U F U F",
        "COUNT": "1 1 1 4 1 1 1",
        **{"WIDTH": "3", "HEIGHT": "1", "VIEWPOINT": "0 0 0 1 0 0 0", "POINTS": "3"},
        "DATA": kind,
        **changes,
    }
    return ("# .PCD\n" + "".join(f"{k} {v}\n" for k, v in lines.items() if v)).encode()


def columns() -> list[np.ndarray]:
    """Return what the fields hold, one array of bytes (3, width) each."""
    x, y, z, intensity, ring = (POINTS[:, [i]] for i in range(5))
    padding, t = np.full((3, 4), 9, np.uint8), np.float64([[0.1], [0.2], [0.3]])
    arrays = x, y, z, padding, intensity, ring.astype("<u2"), t
    return [np.ascontiguousarray(a).view(np.uint8).reshape(3, -1) for a in arrays]


def literals(data: bytes) -> bytes:
    """Pack by LZF without any copy."""
    runs = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def encoded(kind: str) -> bytes:
    if kind == "ascii":
        rows = (f"{x} {y} {z} 9 9 9 9 {i} {int(r)} 0.1" for x, y, z, i, r in POINTS)
        return header(kind) + "\n".join(rows).encode() + b"\n"
    if kind == "binary":
        return header(kind) + np.hstack(columns()).tobytes()
    data = b"".join(column.tobytes() for column in columns())
    packed = literals(data)
    return header(kind) + np.array([len(packed), len(data)], "<u4").tobytes() + packed


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_gives_position_intensity_and_ring(kind, tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(encoded(kind))
    np.testing.assert_array_equal(read_pcd(path), POINTS)
    path.write_bytes(encoded(kind)[:-30])
    with pytest.raises(Fault, match=r"a\.pcd is no whole PCD file: .* is the download complete\?"):
        read_pcd(path)


def test_what_is_no_pcd_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    for content, words in (
        (b"", "no line begins with DATA"),
        (b"\x89PNG\n" * 5, "no line begins with DATA"),
        (header("binary", POINTS=""), "its header lacks POINTS"),
        (header("zip"), "its data are zip"),
        (header("binary", SIZE="3 4 4 1 4 2 8"), "'<f3' not understood"),
        (header("binary", TYPE="D F F U F U F"), "PCD file: 'D'"),
        (header("ascii", FIELDS="x y _ _ intensity ring t") + encoded("ascii")[-90:], "PCD file"),
    ):
        path.write_bytes(content)
        with pytest.raises(Fault, match=words):
            read_pcd(path)
    text = "FIELDS x y range\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n"
    path.write_text(text)
    with pytest.raises(Fault, match="its fields are x, y, range, without x, y and z"):
        read_pcd(path)
    path.write_text(text.replace("range", "Z"))  # CloudCompare writes capitals
    assert read_pcd(path).tolist() == [[1, 2, 3]]


def test_copies_of_lzf_may_repeat_themselves() -> None:
    # "ab", 8 bytes that begin 2 behind, and the longest copy, of what lies 1 behind.
    packed = b"\x01ab" + bytes([6 << 5, 1]) + bytes([7 << 5, 255, 0])
    assert unpack_lzf(packed, 274) == b"ab" * 5 + b"b" * 264
    for damaged, error in ((packed[:-1], IndexError), (b"\x00a" + bytes([32, 9]), ValueError)):
        with pytest.raises(error):
            unpack_lzf(damaged, 274)


def folders(root: Path, names: dict[str, str]) -> dict[str, str]:
    """Write images and clouds, and return the options of the source."""
    for name, suffix in names.items():
        image, cloud = root / "images" / f"{name}.png", root / "clouds" / f"{name}{suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        cloud.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(image), np.full((32, 48, 3), 90, np.uint8))
        if suffix == ".pcd":
            cloud.write_bytes(encoded("binary"))
        elif suffix == ".bin":
            POINTS[:, :4].tofile(cloud)
        else:
            np.save(cloud, POINTS.astype(np.float64))
    (root / "camera.yaml").write_text(CALIBRATION)
    np.savetxt(root / "T.txt", T_CAMERA_LIDAR)
    return {
        "images": str(root / "images"),
        "clouds": str(root / "clouds"),
        "calibration": str(root / "camera.yaml"),
        "extrinsics": str(root / "T.txt"),
    }


def test_images_have_the_clouds_of_their_names(tmp_path: Path, caplog) -> None:
    options = folders(tmp_path, {"a/10": ".bin", "a/9": ".pcd", "b/9": ".npy", "b/lost": ".npy"})
    (tmp_path / "clouds" / "b" / "lost.npy").unlink()
    source = pickle.loads(pickle.dumps(open_source("clouds", **options)))
    assert "1 of 4 pairs of image and sweep are left out" in caplog.text
    frames = list(source)
    for frame, width in zip(frames, (5, 4, 5), strict=True):
        np.testing.assert_array_equal(frame.companion.points, POINTS[:, :width])
        np.testing.assert_array_equal(frame.companion.T_camera_lidar, T_CAMERA_LIDAR)
        assert frame.companion.stamp_ns == frame.stamp_ns
        assert frame.camera.distortion[0] == -0.1 and frame.labels is None
    stamps = np.diff([frame.stamp_ns for frame in frames])
    assert stamps[0] == 1e8 and stamps[1] > 6e11
    assert json.loads(json.dumps(source.describe()))["frames"] == 3
    with pytest.raises(IndexError):
        source[3]


def test_a_printed_camera_info_is_a_calibration(tmp_path: Path) -> None:
    options = folders(tmp_path, {"0": ".pcd"})
    camera = open_source("clouds", **options)[0].camera
    for text in (ECHOED, ECHOED.replace("\nd:", "\nD:").replace("\nk:", "\nK:")):
        (tmp_path / "camera.yaml").write_text(text)
        assert open_source("clouds", **options)[0].camera == camera
    (tmp_path / "camera.yaml").write_text(ECHOED.replace("\nk:", "\nq:"))
    with pytest.raises(Fault, match=r"camera\.yaml lacks 'camera_matrix'"):
        open_source("clouds", **options)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    options = folders(tmp_path, {"0": ".bin", "1": ".npy"})
    with pytest.raises(Fault, match="columns is 2"):
        open_source("clouds", **options, columns=2)
    with pytest.raises(Fault, match="bytes are not rows of 7 float32"):
        open_source("clouds", **options, columns=7)[0]
    np.save(tmp_path / "clouds" / "1.npy", POINTS[0])
    with pytest.raises(Fault, match=r"1\.npy is float32 \(5,\), must hold numbers"):
        open_source("clouds", **options)[1]
    (tmp_path / "clouds" / "1.npy").write_bytes(b"no array")
    with pytest.raises(Fault, match=r"1\.npy is no array of numbers"):
        open_source("clouds", **options)[1]
    (tmp_path / "clouds" / "1.bin").touch()
    with pytest.raises(Fault, match=r"holds 1\.\w+ and 1\.\w+, two clouds of one name"):
        open_source("clouds", **options)
    (tmp_path / "clouds" / "1.bin").unlink()
    for name in ("0.bin", "1.npy"):
        (tmp_path / "clouds" / name).rename(tmp_path / "clouds" / f"scan{name}")
    with pytest.raises(FileNotFoundError, match=r"the first is scan0\.bin.* 2 images, e\.g\. 0"):
        open_source("clouds", **options)


def test_extrinsics_are_numbers_or_their_file(tmp_path: Path) -> None:
    (tmp_path / "T.txt").write_text(json.dumps(T_CAMERA_LIDAR.tolist()))
    for given in (
        str(tmp_path / "T.txt"),
        " ".join(map(str, T_CAMERA_LIDAR.ravel())),
        str(T_CAMERA_LIDAR.tolist()),
        T_CAMERA_LIDAR.ravel().tolist(),
    ):
        np.testing.assert_array_equal(read_extrinsics(given), T_CAMERA_LIDAR)
    for wrong, words in (
        ("nothing.txt", "'nothing.txt', must be T_camera_lidar as 16 numbers"),
        ("1 2 3", "must be 16 numbers by row"),
        (" ".join(["2"] * 16), "not a rotation and a translation"),
    ):
        with pytest.raises(Fault, match=words):
            read_extrinsics(wrong)


def test_a_real_rig_in_folders_beats_interpolation(shared_data, tmp_path: Path) -> None:
    """PJLab's camera and LiDAR, whose PCD is compressed."""
    rig = shared_data / "pjlab_opencalib" / "lidar2camera" / "auto_calib" / "data"
    camera = json.loads((rig / "center_camera-intrinsic.json").read_text())
    camera = camera["center_camera-intrinsic"]["param"]
    name = "top_center_lidar-to-center_camera-extrinsic"
    T = json.loads((rig / f"{name}.json").read_text())[name]["param"]["sensor_calib"]["data"]
    for folder, file in (("images", "calib.png"), ("clouds", "calib.pcd")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).symlink_to(rig / file)
    (tmp_path / "camera.yaml").write_text(
        json.dumps(
            {
                **{"width": camera["img_dist_w"], "height": camera["img_dist_h"]},
                **{"distortion_model": "plumb_bob", "d": camera["cam_dist"]["data"][0]},
                "k": np.ravel(camera["cam_K"]["data"]).tolist(),
            }
        )
    )
    (frame,) = open_source(
        "clouds",
        images=tmp_path / "images",
        clouds=tmp_path / "clouds",
        calibration=str(tmp_path / "camera.yaml"),
        extrinsics=str(T),
    )
    points = frame.companion.points
    assert points.shape == (85546, 5) and points[:, 4].max() == 63
    behind = inverse(frame.companion.T_camera_lidar)[:3, 3]
    assert np.linalg.norm(behind) < 1.0
    package = load_package(ROOT / "models" / "lemumo-tiny")
    metric, masked = metric_for(package.manifest), mask_returns(frame, "beams")
    metric.add(masked, Pipeline(package, "onnxruntime", 0.0)(masked))
    found = metric.summary()
    assert found.depth_mae_m < 0.95 * min(found.nearest_mae_m, found.linear_mae_m)
