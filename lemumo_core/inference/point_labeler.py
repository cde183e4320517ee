"""A 3D network that gives every LiDAR return a class, behind and beside the camera too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from lemumo_core.frame import Frame, LidarScan
from lemumo_core.taxonomy import Taxonomy


class PointLabeler:
    """Labels sweeps with the network of a finished run of ``lemumo finetune --task points``.

    It runs in PyTorch, on a GPU where there is one. Cameras that share a sweep share its labels:
    those of the last sweep are kept.

    Args:
        run: folder of the run.

    Attributes:
        classes: names by id.
        sha256: of the file of the weights.

    Raises:
        ImportError: PyTorch is not installed.
        Fault: as ``load_segmenter``.
    """

    def __init__(self, run: Path):
        import torch  # not on every vehicle

        from lemumo_core.model.sparse.segmenter import POINT_WEIGHTS, load_segmenter

        model, self.classes = load_segmenter(run)
        self.sha256 = hashlib.sha256((run / POINT_WEIGHTS).read_bytes()).hexdigest()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device)
        self._last: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None

    def __call__(self, scan: LidarScan) -> tuple[np.ndarray, np.ndarray]:
        """Label a sweep.

        Returns:
            Class ids, uint8 (N,), one a row of the scan's points, 255 for rows that are no return;
            and the confidence of each, float32 (N,) in [0, 1], 0 for those rows.
        """
        import torch

        if self._last is None or not np.array_equal(self._last[0], scan.points, equal_nan=True):
            batch = torch.from_numpy(scan.scaled_points())[None].to(self._device)
            labels, confidence = (part[0].cpu().numpy() for part in self._model.classify(batch))
            self._last = scan.points.copy(), (labels, confidence)
        return self._last[1]

    def label(self, frame: Frame, classes: Taxonomy) -> np.ndarray | None:
        """Label the sweep of a frame with the classes of another model.

        Args:
            frame: with a LiDAR sweep, or without one.
            classes: what the network's classes become by their names.

        Returns:
            Ids of the segmentation classes, uint8 (N,), one a row of the sweep's points, 255 for
            rows that are no return and for classes that the other model has not; None without a
            sweep.
        """
        if not isinstance(frame.companion, LidarScan):
            return None
        return classes.label_ids(self(frame.companion)[0], self.classes)
