"""Many frames through the pipeline: equal to each alone, and none spoils another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.inference.package import load_package, write_package
from lemumo_core.inference.pipeline import Pipeline
from tests.helpers.small_frames import small_frames


@pytest.fixture
def package(tiny_package):
    return load_package(tiny_package)


@pytest.fixture
def frames():
    return list(small_frames(5))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_batch_equals_its_frames_alone(package, frames, batch) -> None:
    alone = Pipeline(package, "onnxruntime", 0.05)
    together = Pipeline(package, "onnxruntime", 0.05, batch)
    together.warm_up()
    assert together.batch == batch
    for frame, result in zip(frames, together.perceive(frames), strict=True):
        expected = alone(frame)
        assert result.stamp_ns == expected.stamp_ns
        assert result.modalities == expected.modalities == ("camera", "lidar")
        assert result.output_camera == expected.output_camera
        for name in ("depth_m", "depth_confidence"):
            np.testing.assert_allclose(
                getattr(result, name), getattr(expected, name), rtol=1e-4, atol=1e-5, err_msg=name
            )
        np.testing.assert_array_equal(result.labels, expected.labels)
        np.testing.assert_allclose(
            result.detections.boxes_3d, expected.detections.boxes_3d, rtol=1e-3, atol=1e-3
        )
        assert result.timings_ms.keys() == {"preprocess", "infer", "finish"}
    assert together.perceive([]) == []


def test_a_bad_frame_spoils_only_itself(package, frames) -> None:
    bad = replace(frames[1], image=frames[1].image[1:])
    pipeline = Pipeline(package, "onnxruntime", 0.05, 8)
    results = pipeline.perceive([frames[0], bad, frames[2]])
    assert isinstance(results[1], Fault) and results[1].reason == "bad_image"
    assert [results[i].stamp_ns for i in (0, 2)] == [frames[i].stamp_ns for i in (0, 2)]
    with pytest.raises(Fault, match="camera model says"):
        pipeline(bad)


def test_a_network_that_says_nan_for_one_frame_spoils_only_that(package, frames) -> None:
    pipeline = Pipeline(package, "onnxruntime", 0.05, 8)
    infer = pipeline.backend.infer

    def broken(inputs, outputs) -> None:
        infer(inputs, outputs)
        outputs["depth"][1, 0, 0] = np.nan

    pipeline.backend.infer = broken
    reasons = [getattr(result, "reason", None) for result in pipeline.perceive(frames)]
    assert reasons == [None, "bad_output", None, None, None]


def test_without_the_dynamic_graph_frames_go_one_after_another(package, frames, tmp_path) -> None:
    manifest = package.manifest
    for name in manifest.files:
        if "dynamic" not in name:
            (tmp_path / name).write_bytes(package.file(name).read_bytes())
    pipeline = Pipeline(write_package(tmp_path, manifest), "onnxruntime", 0.05, 8)
    assert pipeline.batch == 1
    assert [r.stamp_ns for r in pipeline.perceive(frames)] == [f.stamp_ns for f in frames]
