"""The models that ship: whole, small, honest about what was measured, and as good as they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD, evaluate_frame, metric_for
from lemumo_core.frame import LidarScan
from lemumo_core.inference.package import Package, load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.provenance import is_rendered_alone
from lemumo_core.metrics.masked_returns import mask_returns
from tests.helpers.onnx_notes import exporter_notes
from tests.helpers.paths import ROOT

FOLDER = ROOT / "models" / "lemumo-tiny"
THERMAL = ROOT / "models" / "lemumo-tiny-thermal"
MODALITIES = "fused", "camera_only", "companion_only"
FRAMES = 8


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(FOLDER)


def test_it_is_whole_small_and_says_how_it_was_made(package) -> None:
    manifest = package.manifest
    assert manifest.trained and set(manifest.files) == {
        "README.md",
        "model.onnx",
        "weights.safetensors",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 18e6
    graph = pytest.importorskip("onnx").load(FOLDER / "model.onnx", load_external_data=False)
    assert exporter_notes(graph) == []
    assert manifest.training["options"]["seed"] == 47
    assert {"command", "machine", "git"} <= set(manifest.training["starts"][0])
    for mode in MODALITIES:
        said = manifest.metrics[mode]
        trivial = {"nearest_mae_m", "linear_mae_m", "constant_miou"}
        assert {"bev_map", "depth_mae_m", "miou"} | trivial == set(said)
        # With a LiDAR its depth is better than what needs no network.
        best = min(said["nearest_mae_m"], said["linear_mae_m"])
        assert mode == "camera_only" or said["depth_mae_m"] < 0.8 * best


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_on_streets_that_it_never_saw_it_is_as_good_as_it_says(package, backend) -> None:
    pytest.importorskip(backend)
    frame = {"width": package.manifest.input.width, "height": package.manifest.input.height}
    streets = SyntheticStreet(
        seed=2, split="test", frames=FRAMES, frames_per_drive=1, rate_hz=1.0, **frame
    )
    pipeline = Pipeline(package, backend, SCORE_THRESHOLD)
    metrics = {mode: metric_for(package.manifest) for mode in MODALITIES}
    for frame in streets:
        evaluate_frame(pipeline, frame, metrics)
    for mode, metric in metrics.items():
        found, said = metric.summary(), package.manifest.metrics[mode]
        assert found.depth_mae_m < 2 * said["depth_mae_m"], mode
        assert found.miou > 0.5 * said["miou"], mode
    assert metrics["fused"].summary().bev_map > 0.5 * package.manifest.metrics["fused"]["bev_map"]
    assert np.isfinite(metrics["camera_only"].summary().bev_map)


@pytest.mark.parametrize("mask", ["beams", "random"])
@pytest.mark.parametrize(
    ("source", "folder", "frames", "most"),
    [
        ("kitti-raw", "kitti_raw_seq/2011_09_26", (0, 10), 0.97),
        ("nuscenes", "nuscenes_mini_tables", (0, 2, 4), 0.8),
    ],
)
def test_on_real_sensors_it_is_better_than_what_needs_no_network(
    package, shared_data, source, folder, frames, most, mask
) -> None:
    """Beside a missing return the nearest one is hard to beat: 3 cm may be lost."""
    real = open_source(source, root=shared_data / folder)
    pipeline, metric = Pipeline(package, "onnxruntime"), metric_for(package.manifest)
    for i in frames:
        frame = mask_returns(real[i], mask)
        metric.add(frame, pipeline(frame))
    found = metric.summary()
    best = min(found.nearest_mae_m, found.linear_mae_m)
    assert found.depth_mae_m < (most * best if mask == "beams" else best + 0.03)


@pytest.mark.parametrize("away_m", [0.3, 0.7, 1.5])
def test_what_stands_right_before_the_camera_is_as_near_as_the_lidar_says(package, away_m) -> None:
    """A box is drawn into a street, and a LiDAR beside the camera sees the box."""
    (frame,) = SyntheticStreet(seed=3, split="test", frames=1, width=704, height=384)
    camera, depth_m, image = frame.camera, frame.labels.depth_m.copy(), frame.image.copy()
    half_u, half_v = 0.25 / away_m * camera.fx, 0.15 / away_m * camera.fy
    low, high = (
        np.clip([camera.cy + side * half_v, camera.cx + side * half_u], 0, [384, 704]).astype(int)
        for side in (-1, 1)
    )
    box = np.s_[low[0] : high[0], low[1] : high[1]]
    depth_m[box], image[box] = away_m, (120, 60, 40)
    v, u = (axis.ravel() for axis in np.mgrid[2:384:6, 0:704:2])
    v, u = (axis[np.isfinite(depth_m[v, u])] for axis in (v, u))
    returns = camera.unproject(np.stack([u, v], axis=1).astype(float)) * depth_m[v, u, None]
    points = np.pad(returns, ((0, 0), (0, 1))).astype(np.float32)
    scan = LidarScan(points, np.eye(4), frame.stamp_ns)
    found = Pipeline(package, "onnxruntime", 0.25)(replace(frame, image=image, companion=scan))
    (top, left), (bottom, right) = (edge * found.depth_m.shape[1] // 704 for edge in (low, high))
    inside = found.depth_m[top + 6 : bottom - 6, left + 2 : right - 2]  # a row of returns is 6
    assert inside.size > 100 and np.abs(inside - away_m).max() < 0.05 * away_m


def stages(training: dict[str, Any]) -> list[Any]:
    """Return the times at which the runs that made weights were started, the last run first."""
    starts = training.get("starts") or []
    before = starts[0].get("weights") if starts else None
    times = [start.get("time") for start in starts]
    return [times, *(stages(before) if before else [])]


def test_the_thermal_model_is_whole_and_small_and_names_every_stage() -> None:
    package = load_package(THERMAL)
    manifest = package.manifest
    assert manifest.input.companion == "thermal" and is_rendered_alone(manifest)
    assert sum(path.stat().st_size for path in THERMAL.iterdir()) <= 18e6
    graph = pytest.importorskip("onnx").load(THERMAL / "model.onnx", load_external_data=False)
    assert exporter_notes(graph) == []
    first = manifest.training["starts"][0]
    assert {"command", "machine", "git", "weights"} <= set(first)
    own, others = stages(manifest.training), stages(load_package(FOLDER).manifest.training)
    assert own[2:] == [stage for stage in others if stage in own]  # models/lemumo-tiny's of before
    assert len(own) > 4
    assert manifest.metrics.keys() == set(MODALITIES)
    for said in manifest.metrics.values():
        assert said["depth_mae_m"] < said["rows_mae_m"] and said["miou"] > said["constant_miou"]
    assert "frames of rendered streets" in (THERMAL / "README.md").read_text()


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_the_thermal_model_beats_answers_that_need_no_network(backend) -> None:
    pytest.importorskip(backend)
    package = load_package(THERMAL)
    size = {"width": package.manifest.input.width, "height": package.manifest.input.height}
    streets = SyntheticStreet(
        *(4, 6), split="test", companion="thermal", frames_per_drive=1, rate_hz=1.0, **size
    )
    pipeline = Pipeline(package, backend, SCORE_THRESHOLD)
    metrics = {mode: metric_for(package.manifest) for mode in MODALITIES}
    for frame in streets:
        evaluate_frame(pipeline, frame, metrics)
    found = metrics["fused"].result()
    assert found["depth_mae_m"] < found["depth"]["baselines"]["rows"]["mae_m"]
    assert found["miou"] > 2 * found["segmentation"]["constant_miou"]
    assert found["bev_map"] > 0
