"""The program that judges models: on rendered streets, on real data, and what it writes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.cli.evaluate import main
from lemumo_core.cli.evaluate import open_source as frames_for
from lemumo_core.data.sources.registry import open_source
from lemumo_core.drawing import class_colors
from lemumo_core.evaluation.modalities import (
    MODALITIES,
    FrameScores,
    evaluate,
    rank_frames,
    with_modality,
)
from lemumo_core.evaluation.pictures import GAP_PX, TILE_WIDTH, draw_comparison
from lemumo_core.evaluation.tables import as_text, reasons, tables
from lemumo_core.export.weights import of_run
from lemumo_core.frame import Detections, Labels, Perception
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import WEIGHTS_NAME, load_package, write_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.metrics.perception import PerceptionMetric, Summary
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import save_weights, seeded_model
from lemumo_core.taxonomy import Taxonomy
from lemumo_core.train import checkpoint
from lemumo_core.train.run_folder import MODEL_OPTIONS, MODEL_WEIGHTS

CONFIG = ModelConfig("lemumo", "nano", 64, 96)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """Seeded weights, to be run by torch."""
    path = tmp_path_factory.mktemp("model")
    save_weights(seeded_model(CONFIG, 0), path / "weights.safetensors")
    write_package(path, manifest_of(CONFIG, "seeded", trained=False))
    return path


def evaluated(package: Path, tmp_path: Path, *arguments: str) -> tuple[int, dict]:
    out = tmp_path / "out"
    done = main([str(package), "--backend", "torch", "--out", str(out), *map(str, arguments)])
    return done, json.loads((out / "metrics.json").read_text())


def test_rendered_streets(package, tmp_path, capsys) -> None:
    """Figures are those of a loop over the same frames; the page shows each frame once."""
    done, found = evaluated(package, tmp_path, "--limit", "3")
    assert done == 0 and found["depth_truth"] == "dense depth" and found["trained"] is False
    assert found["data"]["split"] == "test" and found["data"]["width"] == 96
    metric = PerceptionMetric(CONFIG.classes)
    pipeline = Pipeline(load_package(package), "torch", 0.0)
    options = {key: found["data"][key] for key in ("width", "height", "split", "frames_per_drive")}
    source = open_source("synthetic", frames=200, **options)
    for index in (0, 100, 199):
        metric.add(source[index], pipeline(replace(source[index], companion=None)))
    assert found["camera_only"] == json.loads(json.dumps(metric.result()))
    assert [row["index"] for row in found["by_frame"]] == [0, 100, 199]
    assert set(found["by_frame"][0]["modes"]) == set(MODALITIES)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 and "http" not in page
    assert {int(i) for i in re.findall(r"<figcaption>frame (\d+)", page)} == {0, 100, 199}
    assert "untrained" in page and "average precision by class" in page
    shown = capsys.readouterr().out
    assert f"{found['fused']['depth_mae_m']:.2f}" in shown and "companion only" in shown


@pytest.mark.parametrize(
    ("name", "folder", "frames"),
    [("kitti", "kitti_object", 2), ("nuscenes", "nuscenes_mini_tables", 6)],
)
def test_real_data(package, tmp_path, shared_data, name, folder, frames) -> None:
    """Depth is evaluated on returns masked from the model; labels are unknown and said to be."""
    root = shared_data / folder
    done, found = evaluated(package, tmp_path, "--data", name, "--data_options.root", root)
    assert done == 0 and "every second beam" in found["depth_truth"]
    for mode in MODALITIES:
        one = found[mode]
        assert one["frames"] == frames and one["depth"]["pixels"] > 100 * frames
        assert 0 < one["depth_mae_m"] < 80 and one["detection"]["objects"] > 0
        assert one["miou"] is None and "no frame has labels" in one["segmentation"]["why_null"]


def test_frames_without_truth_are_shown_under_no_rank(package, tmp_path) -> None:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((64, 96, 3), 90, np.uint8))
    evaluated(package, tmp_path, "--data", "images", "--data_options.root", tmp_path)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Random frames" in page and page.count("no truth</figcaption>") == 2
    assert "Worst frames" not in page and "Best frames" not in page


def test_what_is_held_out_never_reaches_the_model(package, shared_data) -> None:
    source = open_source("kitti", root=shared_data / "kitti_object")
    given, pipeline = [], Pipeline(load_package(package), "torch", 0.0)

    def model(frame):
        given.append(frame)
        return pipeline(frame)

    evaluate(model, pipeline.package.manifest, source, [0])
    full, held = source[0].companion.points, mask_returns(source[0])
    fused, camera_only, companion_only = given
    assert len(fused.companion.points) == len(held.companion.points) < 0.6 * len(full)
    hidden = {row.tobytes() for row in full} - {row.tobytes() for row in fused.companion.points}
    depths = held.labels.depth_m[np.isfinite(held.labels.depth_m)]
    T = held.companion.T_camera_lidar.astype(np.float32)
    rows = np.array([np.frombuffer(row, np.float32) for row in hidden])
    in_camera = rows[:, :3] @ T[2, :3] + T[2, 3]
    in_camera = np.sort(in_camera)
    after = np.searchsorted(in_camera, depths).clip(1, len(in_camera) - 1)
    nearest = np.minimum(abs(depths - in_camera[after - 1]), abs(depths - in_camera[after]))
    assert nearest.max() < 1e-3
    assert camera_only.companion is None and companion_only.image is None


def test_a_run_is_judged_like_its_package(package, tmp_path) -> None:
    """A run, its checkpoint and the package made of it get the same metrics.

    What is evaluated can be exported.
    """
    run = tmp_path / "run"
    run.mkdir()
    save_weights(seeded_model(CONFIG, 0), run / MODEL_WEIGHTS)
    (run / MODEL_OPTIONS).write_text(json.dumps(asdict(CONFIG)))
    state = {"config": {"model": asdict(CONFIG)}}
    weights = seeded_model(CONFIG, 0).state_dict()
    checkpoint.save(tmp_path / "step-00000001", {checkpoint.MODEL: weights}, state)
    found = [
        evaluated(model, tmp_path, "--limit", "1")[1]["fused"]
        for model in (package, run, tmp_path / "step-00000001")
    ]
    assert found[0] == found[1] == found[2] and found[0]["depth_mae_m"] > 0
    weights = load_package(package).file(WEIGHTS_NAME)
    for path in (run, run / MODEL_WEIGHTS, tmp_path / "step-00000001"):
        model, card = of_run(path, "mine")
        save_weights(model, again := tmp_path / "again.safetensors")
        assert again.read_bytes() == weights.read_bytes()
        assert card.trained and not card.metrics
    assert card.training["checkpoint"] == "step-00000001"


def test_weights_of_pretraining_are_refused(tmp_path, capsys) -> None:
    """Heads of random weights would be evaluated otherwise."""
    weights = seeded_model(CONFIG, 0).encoder.state_dict()
    weights = {f"encoder.{name}": tensor for name, tensor in weights.items()}
    state = {"config": {"model": asdict(CONFIG)}}
    checkpoint.save(tmp_path / "step-00000001", {checkpoint.MODEL: weights}, state)
    assert main([str(tmp_path / "step-00000001")]) == 1
    assert "fine-tune it first" in capsys.readouterr().err


def test_frames_without_a_sensor_are_judged_by_what_they_have() -> None:
    frame = open_source("synthetic", frames=1, width=96, height=64)[0]
    camera, lidar = replace(frame, companion=None), replace(frame, image=None)
    given = {
        mode: [with_modality(one, mode) is not None for one in (frame, camera, lidar)]
        for mode in MODALITIES
    }
    assert given == {
        "fused": [True, False, False],
        "camera_only": [True, True, False],
        "companion_only": [True, False, True],
    }


def test_frames_are_ranked_by_all_they_have() -> None:
    nan = float("nan")
    rows = [(0.9, 1.0, 0.8), (0.1, 9.0, 0.1), (0.5, 2.0, nan), (nan, nan, nan), (nan, 0.5, nan)]
    frames = [
        FrameScores(i, 0, "front", {"fused": Summary(map_, 0.0, mae_m, nan, nan, miou, nan)})
        for i, (map_, mae_m, miou) in enumerate(rows)
    ]
    frames.append(FrameScores(5, 0, "front", {}))
    assert [frame.index for frame in rank_frames(frames)] == [4, 0, 2, 1]
    assert frames[1].headline == "BEV mAP 0.100, depth MAE 9.00 m, mIoU 0.100"
    assert frames[3].headline == ""


def test_tables_put_results_side_by_side() -> None:
    a = PerceptionMetric(Taxonomy(("car",), ("road",))).result()
    b = json.loads(json.dumps(a))
    b["detection"]["classes"] = {"car": {"ap": 0.25, "ate_m": None}}
    b["bev_map"], b["frames"] = 0.25, 7
    first, by_class = tables({"model_a": a, "b": b})
    assert first.head == ("", "model a", "b") and first.rows[0] == ("BEV mAP", "-", "0.250")
    assert ("frames", "0", "7") in first.rows
    assert by_class == ("average precision by class", ("", "model a", "b"), [("car", "-", "0.250")])
    assert as_text(by_class).splitlines() == [
        "average precision by class",
        "     model a      b",
        "car        -  0.250",
    ]
    assert "detection: no frame has 3D boxes" in reasons({"a": a}) and len(reasons({"a": a})) == 3


@pytest.mark.parametrize(
    ("coverage", "said"), [(0.0, "100%"), (0.4, "60%"), (0.96, None), (None, None)]
)
def test_what_the_view_leaves_out_is_said(coverage, said) -> None:
    whole = {"why_null": None}
    result = {"detection": whole, "depth": {**whole, "coverage": coverage}, "segmentation": whole}
    found = reasons({"fused": result})
    assert len(found) == (said is not None)
    assert all(f"{said} of the true depth" in line for line in found)


def test_errors_say_what_to_do(package, tmp_path, capsys) -> None:
    assert main([str(tmp_path)]) == 1
    assert "holds no model: give a package, or a run" in capsys.readouterr().err
    assert main([str(package), "--backend", "torch", "--data", "kiti"]) == 1
    assert "did you mean 'kitti'" in capsys.readouterr().err
    assert main([str(package), "--backend", "torch", "--limit", "0"]) == 1
    assert "no frame of the 200" in capsys.readouterr().err
    assert main([str(package), "--backend", "torch", "--data", "kitti"]) == 1
    assert "kitti needs root" in capsys.readouterr().err


def test_pictures_show_what_the_frame_has() -> None:
    """LiDAR and 3D boxes; thermal image and 2D boxes; nothing at all."""
    manifest = manifest_of(CONFIG, "seeded", trained=False)
    frame = open_source("synthetic", frames=1, width=96, height=64)[0]
    thermal = open_source("synthetic", frames=1, width=96, height=64, companion="thermal")[0]
    view = frame.camera.scaled(24, 16)
    maps = np.full((16, 24), 20.0, np.float32), np.ones((16, 24), np.float32)
    boxes = np.array([[0.0, 0, 20, 4, 2, 2, 0]], np.float32)
    rectangle = np.array([[30.0, 20, 50, 40]], np.float32)
    found = Detections(boxes, rectangle, np.ones(1, np.float32), np.zeros(1, int))
    said = Perception(0, "front", found, *maps, np.zeros((16, 24), np.uint8), view, ("camera",))
    only_2d = Labels(boxes_2d=rectangle + 5, class_names=("car",))
    pictures = [
        draw_comparison(one, said, manifest)
        for one in (frame, replace(thermal, labels=only_2d), replace(frame, companion=None))
    ]
    height, width = TILE_WIDTH * 64 // 96, TILE_WIDTH
    assert {len(picture) for picture in pictures} == {3 * height + 2 * GAP_PX}
    both = replace(said, modalities=("camera", "lidar"))
    corner = np.s_[:30, width + GAP_PX :]  # where the name of the LiDAR's tile says so
    assert not np.array_equal(draw_comparison(frame, both, manifest)[corner], pictures[0][corner])
    companions = [picture[30:height, width + GAP_PX : 2 * width + GAP_PX] for picture in pictures]
    assert np.ptp(companions[1].astype(int), axis=-1).max() == 0  # thermal images are grey
    assert companions[1].any() and not companions[2].any() and companions[0].any()
    scale, red = width / 96, class_colors(len(CONFIG.detection_classes))[0]
    x, y = round(30 * scale), round(30 * scale)
    assert pictures[1][y, x].tolist() == list(red)
    x, y = round(35 * scale), round(30 * scale)
    assert pictures[1][y, x].tolist() == [255, 255, 255]
    nothing = replace(frame, image=None, companion=None, labels=None)
    assert draw_comparison(nothing, said, manifest).shape == pictures[0].shape


def test_an_earlier_evaluation_is_kept(package, tmp_path, capsys) -> None:
    evaluated(package, tmp_path, "--limit", "1")
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    arguments = [str(package), "--backend", "torch", "--limit", "2", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    assert main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() != before


def test_workers_change_nothing(toy_package, street_shards, tmp_path) -> None:
    words = [str(toy_package), "--data", str(street_shards), "--limit", "4"]
    words += ["--backend", "onnxruntime", "--mask", "random", "--out"]
    assert main([*words, str(tmp_path / "one")]) == 0
    assert main([*words, str(tmp_path / "two"), "--workers", "2"]) == 0
    one, two = ((tmp_path / out / "metrics.json").read_bytes() for out in ("one", "two"))
    assert one == two


def test_a_larger_view_is_judged_on_the_frames_of_the_model_it_came_from() -> None:
    """Finer frames hold objects that coarser ones do not resolve: their figures do not compare."""
    model = ModelConfig(size="nano", height=64, width=96, refine_depth=True)
    larger = replace(model, height=128, width=192, encoder_reduction=2)
    of_both = [
        frames_for("synthetic", {"frames": 1}, manifest_of(one, "mine", trained=False))[0]
        for one in (model, larger)
    ]
    assert of_both[1].image.shape == (64, 96, 3)
    assert np.array_equal(of_both[0].image, of_both[1].image)
