"""The 3D network on the vehicle: classes by their names, one run a sweep, and without PyTorch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the 3D network needs: pip install '.[train]'")

from lemumo_core.extras import missing_package
from lemumo_core.frame import UNLABELLED
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.point_run import write_point_run
from tests.helpers.small_frames import small_frames

CLASSES = ("car", "road", "flat.sidewalk", "unheard_of")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_point_run(tmp_path_factory.mktemp("run") / "points", CLASSES)


def test_classes_become_those_of_the_other_model_by_name(run) -> None:
    frame = small_frames(1)[0]
    frame.companion.points[7] = np.nan
    labeler, classes = PointLabeler(run), Taxonomy(segmentation_classes=("sidewalk", "car"))
    own, confidence = labeler(frame.companion)
    assert set(own) == {0, 1, 2, 3, UNLABELLED} and own[7] == UNLABELLED and confidence[7] == 0
    found = labeler.label(frame, classes)
    meaning = {0: 1, 1: UNLABELLED, 2: 0, 3: UNLABELLED, UNLABELLED: UNLABELLED}
    np.testing.assert_array_equal(found, [meaning[i] for i in own.tolist()])
    assert labeler.label(replace(frame, companion=None), classes) is None


def test_cameras_share_the_labels_of_a_sweep(run) -> None:
    labeler, frames = PointLabeler(run), small_frames(2)
    first = labeler(frames[0].companion)
    again = replace(frames[0].companion, points=frames[0].companion.points.copy())
    assert labeler(again) is first
    assert not np.array_equal(labeler(frames[1].companion)[1], first[1])


def test_without_torch_the_cure_is_named(run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError) as caught:
        PointLabeler(run)
    assert missing_package(caught.value).startswith("torch is missing: pip install")
