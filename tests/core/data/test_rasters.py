"""Folders of images with aligned rasters, in every layout, in small."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from lemumo_core.cli.main import main
from lemumo_core.data.samples import sample
from lemumo_core.data.sources.bands import read_bands
from lemumo_core.data.sources.registry import open_source
from lemumo_core.depth_projection import project_returns
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan, RasterImage
from lemumo_core.preprocess import InputSpec, preprocess

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
    assert isinstance(frame.companion, RasterImage)
    assert np.array_equal(frame.companion.bands[..., 0], height_m)
    assert (frame.labels.label_map[cover == 0] == 255).all()
    assert np.array_equal(frame.labels.label_map[cover > 0], cover[cover > 0] - 1)
    assert open_source("geonrw", root=tmp_path, labels=False)[0].labels is None


def write_ssl4eo(root) -> np.ndarray:
    """Two seasons of one place; return the radar's VV in decibels."""
    vv = np.random.default_rng(1).normal(-12, 4, (H, W)).astype(np.float32)
    for season in ("20200101", "20200701"):
        for number in (2, 3, 4, 5):
            size = (H // 2, W // 2) if number == 5 else (H, W)
            band = np.full(size, 300 * number, np.uint16)
            write(root / f"s2c/0000001/{season}/B{number}.tif", band)
        for name, decibels in (("VV", vv), ("VH", vv - 8)):
            write(root / f"s1/0000001/{season}x/{name}.tif", decibels)
    return vv


def test_ssl4eo(tmp_path) -> None:
    vv = write_ssl4eo(tmp_path)
    frame = checked(open_source("ssl4eo-s12", root=tmp_path), 2)
    assert frame.image[0, 0].tolist() == [102, 76, 51]
    assert frame.companion.bands.shape == (H, W, 2)
    scaled = 255 * (vv + 23.06) / 25.06
    np.testing.assert_allclose(frame.companion.bands[..., 0], scaled.clip(0, 255), atol=0.51)
    mixed = open_source("ssl4eo-s12", root=tmp_path, bands="VH,B5")[0].companion.bands
    assert mixed.shape == (H, W, 2) and (mixed[..., 1] == round(255 * 0.5)).all()
    with pytest.raises(Fault, match="bands has 'B13'"):
        open_source("ssl4eo-s12", root=tmp_path, bands="B13")
    for name in ("VV", "VH"):
        (tmp_path / f"s1/0000001/20200101x/{name}.tif").unlink()
    (tmp_path / "s1/0000001/20200101x").rmdir()
    with pytest.raises(FileNotFoundError, match=r"2 seasons, .* 1; expected ROOT/\{s1,s2c\}"):
        open_source("ssl4eo-s12", root=tmp_path)


def test_rasters_of_any_number_of_bands_in_any_format(tmp_path) -> None:
    """Bands keep the order of the file, which OpenCV turns, or mixes up where they are planes."""
    tifffile = pytest.importorskip("tifffile")
    five = np.random.default_rng(2).normal(size=(H, W, 5)).astype(np.float32)
    planes = {"contig": five, "separate": np.moveaxis(five, -1, 0)}
    for layout, array in planes.items():
        path = tmp_path / f"{layout}.tif"
        tifffile.imwrite(path, array, planarconfig=layout, photometric="minisblack")
        assert np.array_equal(read_bands(path), five)
    for name, array in (("last", five), ("first", planes["separate"])):
        write(tmp_path / f"{name}.npy", array)
    for path in ("last.npy", "first.npy"):
        assert np.array_equal(read_bands(tmp_path / path), five), path
    hha = rgb()
    write(tmp_path / "hha.png", hha[..., ::-1])
    assert np.array_equal(read_bands(tmp_path / "hha.png"), hha)
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(Fault, match=r"broken\.tif"):
        read_bands(tmp_path / "broken.tif")


def test_bands_have_scales_of_their_own_and_unknown_pixels_stay_unknown(tmp_path) -> None:
    bands = np.random.default_rng(3).random((H, W, 3)).astype(np.float32) * [1, 100, 1e4]
    bands[10:20, 20:30, 1] = np.nan
    write(tmp_path / "image/1.png", rgb())
    write(tmp_path / "companion/1.npy", bands)
    frame = open_source("rasters", root=tmp_path, kind="raster")[0]
    spec = InputSpec(48, 48, "raster", 4)
    *values, valid = preprocess(frame, spec).companion[0].transpose(2, 0, 1)
    # The view is 48 wide and so shows the 40 rows as they are, below 8 of padding.
    assert not valid[:8].any() and not valid[18:28, 20:30].any() and valid[8:17].all()
    for value, band in zip(values, bands.transpose(2, 0, 1), strict=True):
        low, high = np.nanpercentile(np.where(np.isnan(bands[..., 1]), np.nan, band), (1, 99))
        expected = ((band - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(value[8:17], expected[:9], atol=1e-3)
        assert (value[valid == 0] == 0).all()
    drawn = sample(frame, spec).picture[0].permute(2, 0, 1).numpy()
    np.testing.assert_array_equal(drawn, np.stack([*values, valid]))
    scaled = open_source("rasters", root=tmp_path, kind="raster", value_range=(0.0, 100.0))[0]
    assert scaled.companion.bands.dtype == np.uint8
    with pytest.raises(Fault, match=r"rasters of 1 bands, not 3.*companion_bands 3"):
        preprocess(frame, InputSpec(48, 48, "raster", 2))


@pytest.mark.parametrize(("name", "bands"), [("geonrw", 1), ("ssl4eo-s12", 2)])
def test_prepared_data_sets_pretrain_decur(tmp_path, name, bands) -> None:
    root, shards, out = tmp_path / "data", tmp_path / "shards", tmp_path / "run"
    if name == "geonrw":
        for tile in range(2):
            write(root / f"aachen/{tile}_2_rgb.png", rgb())
            write(root / f"aachen/{tile}_2_dem.tif", DEPTH_MM.astype(np.float32))
            write(root / f"aachen/{tile}_2_seg.tif", (DEPTH_MM % 11).astype(np.uint8))
    else:
        write_ssl4eo(root)
    assert main(["prepare", name, "--root", str(root), "--out", str(shards)]) == 0
    options = {
        "data": shards,
        "out": out,
        "model.companion": "raster",
        "model.companion_bands": bands,
        "model.height": 32,
        "model.width": 32,
        "model.size": "nano",
        "method": "DeCUR",
        "method.dimensions": 16,
        "method.crops.size": "[32, 32]",
        "method.crops.vertical_flip": 0.5,
        "method.crops.photometric.solarize_p": 0.5,
        "method.crops.photometric.raster_gray_p": 0.5,
        "method.crops.photometric.raster_blur_p": 0.5,
        "batch": 2,
        "steps": 2,
        "val_frames": 0,
        "scale.workers": 0,
        "log.tensorboard": "false",
    }
    assert main(["pretrain", *(f"--{key}={value}" for key, value in options.items())]) == 0
    assert (out / "summary.json").exists()


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
