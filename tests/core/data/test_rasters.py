"""Folders of images with aligned rasters, in every layout, in small."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.depth_projection import project_returns
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan, ThermalImage

H, W = 40, 48
DEPTH_MM = np.arange(H * W, dtype=np.uint16).reshape(H, W) % 4000


def write(path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        assert cv2.imwrite(str(path), array)


def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


def depth_of(frame) -> np.ndarray:
    """Depth (H, W), metres, 0 where no point falls."""
    assert isinstance(frame.companion, LidarScan)
    scan = frame.companion
    u, v, z, _ = project_returns(scan.points, scan.T_camera_lidar, frame.camera, 0.0)
    depth_m = np.zeros((H, W))
    depth_m[np.round(v).astype(int), np.round(u).astype(int)] = z
    return depth_m


def checked(source, frames: int):
    assert len(source) == frames == source.describe()["frames"]
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again[-1].image, source[-1].image)
    with pytest.raises(IndexError):
        source[frames]
    return source[0]


def test_depth_and_labels_of_any_folders(tmp_path) -> None:
    for name in ("a/1", "b/2"):
        write(tmp_path / f"color/{name}.png", rgb())
        write(tmp_path / f"z/{name}.npy", DEPTH_MM.astype(np.float64)[None] / 1000)
        write(tmp_path / f"classes/{name}.png", (DEPTH_MM % 5).astype(np.uint8))
    options = {"image": "color", "companion": "z", "labels": "classes", "unit_m": 1.0}
    frame = checked(open_source("rasters", root=tmp_path, **options), 2)
    np.testing.assert_allclose(depth_of(frame), DEPTH_MM / 1000, atol=1e-6)
    assert np.array_equal(frame.image, rgb()[..., ::-1])
    assert np.array_equal(frame.labels.label_map, DEPTH_MM % 5)


def test_sun_rgbd(tmp_path) -> None:
    scene = tmp_path / "SUNRGBD/kv1/NYUdata/NYU0001"
    write(scene / "image/NYU0001.png", rgb())
    write(scene / "depth/NYU0001.png", (DEPTH_MM << 3) | (DEPTH_MM >> 13))
    (scene / "intrinsics.txt").write_text("50 0 20\n0 51 22\n0 0 1\n")
    frame = checked(open_source("sunrgbd", root=tmp_path / "SUNRGBD"), 1)
    np.testing.assert_allclose(depth_of(frame), DEPTH_MM / 1000, atol=1e-6)
    camera = frame.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (50, 51, 20, 22)


def test_nyu(tmp_path) -> None:
    write(tmp_path / "image/1.png", rgb())
    write(tmp_path / "depth/1.png", DEPTH_MM)
    write(tmp_path / "label/1.png", np.full((H, W), 3, np.uint8))
    frame = checked(open_source("nyu", root=tmp_path, labels="label"), 1)
    np.testing.assert_allclose(depth_of(frame), DEPTH_MM / 1000, atol=1e-6)
    assert (frame.labels.label_map == 3).all()


def test_geonrw(tmp_path) -> None:
    height_m = DEPTH_MM.astype(np.float32) / 7
    cover = (DEPTH_MM % 11).astype(np.uint8)
    write(tmp_path / "aachen/1_2_rgb.png", rgb())
    write(tmp_path / "aachen/1_2_dem.tif", height_m)
    write(tmp_path / "aachen/1_2_seg.tif", cover)
    frame = checked(open_source("geonrw", root=tmp_path), 1)
    assert isinstance(frame.companion, ThermalImage)
    assert np.array_equal(frame.companion.image, height_m)
    assert (frame.labels.label_map[cover == 0] == 255).all()
    assert np.array_equal(frame.labels.label_map[cover > 0], cover[cover > 0] - 1)
    assert open_source("geonrw", root=tmp_path, labels=False)[0].labels is None


def test_ssl4eo(tmp_path) -> None:
    radar = np.random.default_rng(1).normal(-12, 4, (H, W)).astype(np.float32)
    for season in ("20200101", "20200701"):
        for number in (2, 3, 4):
            band = np.full((H, W), 300 * number, np.uint16)
            write(tmp_path / f"s2c/0000001/{season}/B{number}.tif", band)
        write(tmp_path / f"s1/0000001/{season}x/VV.tif", radar)
    frame = checked(open_source("ssl4eo-s12", root=tmp_path), 2)
    assert frame.image[0, 0].tolist() == [102, 76, 51]
    assert np.array_equal(frame.companion.image, radar)
    (tmp_path / "s1/0000001/20200101x/VV.tif").unlink()
    (tmp_path / "s1/0000001/20200101x").rmdir()
    with pytest.raises(FileNotFoundError, match=r"2 seasons, .* 1; expected ROOT/\{s1,s2c\}"):
        open_source("ssl4eo-s12", root=tmp_path)


@pytest.mark.parametrize("name", ["rasters", "sunrgbd", "nyu", "geonrw", "ssl4eo-s12"])
def test_a_missing_or_empty_folder_shows_the_layout(tmp_path, name) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"expected (ROOT|SUNRGBD)/"):
            open_source(name, root=root)


def test_what_does_not_fit_is_named(tmp_path) -> None:
    write(tmp_path / "image/1.png", rgb())
    write(tmp_path / "companion/1.png", DEPTH_MM[:20])
    with pytest.raises(Fault, match=r"1\.png is \(20, 48\).*registered"):
        open_source("rasters", root=tmp_path)[0]
    write(tmp_path / "companion/1.png", DEPTH_MM)
    write(tmp_path / "labels/1.png", DEPTH_MM)
    with pytest.raises(Fault, match=r"labels/1\.png is uint16"):
        open_source("rasters", root=tmp_path, labels="labels")[0]
    write(tmp_path / "image/2.png", rgb())
    with pytest.raises(FileNotFoundError, match=r"2 below .* has no partner"):
        open_source("rasters", root=tmp_path)
