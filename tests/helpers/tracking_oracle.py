"""Compute what nuscenes-devkit says of the drawn tracks; its answers are stored beside the test.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install nuscenes-devkit==1.2.0 motmetrics==1.4.0 "pandas<2" "numpy<2"
    PYTHONPATH=. /tmp/oracle/bin/python -m tests.helpers.tracking_oracle

It needs an environment of its own, because the devkit holds to NumPy 1. The tracks are handed to
its TrackingEval as its loader would: with the mean score of each track, but not completed over
frames without a box.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import motmetrics
import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.tracking.data_classes import TrackingBox
from nuscenes.eval.tracking.evaluate import TrackingEval

from tests.helpers.tracking_cases import CASES, CLASSES, draw

OUT = Path(__file__).parents[1] / "core" / "metrics" / "nuscenes_tracking.json"
NAMES = {"amota": "amota", "amotp": "amotp_m", "mota": "mota", "motp": "motp_m"}
NAMES |= {"recall": "recall", "ids": "id_switches", "fp": "false_positives", "fn": "misses"}


def evaluate(name: str) -> dict[str, dict[str, float | None]]:
    """Return nuScenes' scores of a case by class."""
    truth, found = {}, {}
    for number, frames in enumerate(draw(name)):
        scores = defaultdict(list)
        for _, boxes in frames:
            for box in boxes:
                scores[box.track].append(box.score)
        mean = {track: float(np.mean(values)) for track, values in scores.items()}
        truth[number] = {t: [_box(b, -1.0) for b in true] for t, (true, _) in enumerate(frames)}
        found[number] = {
            t: [_box(b, mean[b.track]) for b in boxes] for t, (_, boxes) in enumerate(frames)
        }
    evaluation = object.__new__(TrackingEval)  # its constructor wants the whole data set
    evaluation.cfg = config_factory("tracking_nips_2019")
    evaluation.tracks_gt, evaluation.tracks_pred = truth, found
    evaluation.verbose, evaluation.output_dir, evaluation.render_classes = False, None, None
    metrics, _ = evaluation.evaluate()
    return {
        one: {
            ours: None if np.isnan(value := metrics.label_metrics[theirs][one]) else value
            for theirs, ours in NAMES.items()
        }
        for one in CLASSES
    }


def _box(box, score: float) -> TrackingBox:
    return TrackingBox(
        translation=(box.x, box.y, 0.0),
        size=(1.0, 1.0, 1.0),
        rotation=(1.0, 0.0, 0.0, 0.0),
        tracking_id=str(box.track),
        tracking_name=CLASSES[box.class_id],
        tracking_score=score,
    )


if __name__ == "__main__":
    config_factory("tracking_nips_2019")
    made = {"motmetrics": motmetrics.__version__, "cases": {name: evaluate(name) for name in CASES}}
    OUT.write_text(json.dumps(made, indent=1) + "\n")
    print(f"written: {OUT}")
