"""Embeddings of single frames by a model, and how unsure of its answers it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lemumo_core.data.sources import FrameSource
from lemumo_core.evaluation.modalities import with_modality
from lemumo_core.executor.pool import Pool
from lemumo_core.faults import Fault
from lemumo_core.frame import PUBLISHED_SCORE, Frame, Labels, Perception
from lemumo_core.inference.backends.torch import ModuleBackend
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.label.frame_table import SCORES, FrameTable
from lemumo_core.metrics.consistency import above, difference
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.progress import track
from lemumo_core.train.finetune.weights import PRETRAINED
from lemumo_core.train.weights import read_weights

LEAST_SCORE = 0.1
"""Detections below it are not counted as uncertain ones: nearly all of them are no objects."""
PAIR_WITHIN_M = 2.0
"""Detections that two sets of sensors must both have lie so close together."""
PICTURE_WIDTH, PICTURE_QUALITY = 320, 80


Row = tuple[str, int, bool, list[float], np.ndarray, bytes]


@dataclass(frozen=True)
class FeatureWork:
    """Sets a worker up to make the rows of frames.

    Attributes:
        model: as of ``FrameFeatures``.
        source: of the frames.
    """

    model: Path
    source: FrameSource

    def __call__(self) -> Callable[[int], Row]:
        """Return what makes the row of a frame, by its index.

        Raises:
            Fault, FileNotFoundError: as ``FrameFeatures``.
        """
        features, source = FrameFeatures(self.model), self.source
        return lambda index: features.row(source[index])


class FrameFeatures:
    """A model that gives frames their rows of a ``FrameTable``.

    An embedding is the mean of the encoder's tokens. Of a pretrained encoder there are embeddings
    alone; a model with heads also says how unsure it is of objects, pixels and depth, and how far
    the image alone leads to other answers than both sensors.

    Args:
        model: a package, or a run or checkpoint of pretraining or fine-tuning.

    Raises:
        Fault, FileNotFoundError: as ``read_weights``; ``bad_model`` for weights without options.
    """

    def __init__(self, model: Path):
        weights, options = read_weights(model)
        if options is None:
            raise Fault("bad_model", f"{model} does not say what model its weights are of")
        network = PerceptionModel(ModelConfig.from_dict(options)).eval()
        network.load_state_dict(weights, strict=False)
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(weights[name].float().numpy().tobytes())
        self.about: dict[str, Any] = {"sha256": digest.hexdigest(), "model": model.resolve().name}
        self.has_heads = not {name.split(".")[0] for name in weights} <= PRETRAINED
        device = "cuda" if torch.cuda.is_available() else "cpu"
        manifest = manifest_of(network.config, model.resolve().name, trained=True)
        self._embedding, self._pixel_entropy = np.zeros(0), 0.0
        network.encoder.register_forward_hook(self._keep_embedding)
        network.segmentation.register_forward_hook(self._keep_entropy)
        backend = ModuleBackend("torch:fp32", network.to(device), manifest.input, device)
        self._pipeline = Pipeline(Package(model, manifest), backend, LEAST_SCORE)

    def table(
        self,
        source: FrameSource,
        indices: list[int],
        origins: Sequence[tuple[str, int]],
        pool: Pool | None = None,
    ) -> FrameTable:
        """Return the rows of frames, showing progress.

        Args:
            source: of the frames.
            indices: which of them.
            origins: what opens each of them, and its index there, for the rows.
            pool: workers of ``FeatureWork`` for the same model and source; by default this process.

        Raises:
            Fault: as the source, ``Pipeline`` and ``Pool.map``.
        """
        found: Iterator[Row] = (self.row(source[index]) for index in indices)
        if pool is not None:
            results = pool.map(indices, in_order=True, name=lambda index: f"frame {index}")
            found = (one.value for one in results)
        rows = list(track(found, "embed", len(indices)))
        columns = list(zip(*rows, strict=True))
        return FrameTable(
            data=tuple(data for data, _ in origins),
            indices=np.array([index for _, index in origins], np.int64),
            camera_names=columns[0],
            stamps_ns=np.array(columns[1], np.int64),
            labelled=np.array(columns[2], bool),
            scores=np.array(columns[3], np.float32),
            embeddings=np.array(columns[4], np.float32),
            pictures=columns[5],
        )

    def row(self, frame: Frame) -> Row:
        """Return camera, stamp, whether it is labelled, scores, embedding and picture of a frame.

        Raises:
            Fault: as ``Pipeline``.
        """
        perception = self._pipeline(frame)
        embedding = self._embedding
        scores = dict.fromkeys(SCORES, np.nan)
        if self.has_heads:
            scores |= self._uncertainties(perception)
            alone = with_modality(frame, "camera_only")
            if alone is not None and frame.companion is not None:
                scores |= _disagreements(perception, self._pipeline(alone))
        labelled = frame.labels is not None and _has_truth(frame.labels)
        values = [scores[name] for name in SCORES]
        return (
            *(frame.camera_name, frame.stamp_ns, labelled),
            *(values, embedding, small_picture(frame.image)),
        )

    def _uncertainties(self, perception: Perception) -> dict[str, float]:
        """Return how unsure the model is, by column of ``SCORES``.

        Of objects it is the sum of the entropies, nats, of pixels their mean, and of depth the
        mean of what its confidence lacks to 1.
        """
        p = perception.detections.scores.astype(np.float64).clip(1e-6, 1 - 1e-6)
        known = np.isfinite(perception.depth_m)
        lacking = 1 - perception.depth_confidence[known]
        return {
            "detection_uncertainty": float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum()),
            "segmentation_uncertainty": self._pixel_entropy,
            "depth_uncertainty": float(lacking.mean()) if lacking.size else np.nan,
        }

    def _keep_embedding(self, _module: Any, _inputs: Any, encoding: Any) -> None:
        self._embedding = encoding.tokens[0].mean(dim=0).float().cpu().numpy()

    def _keep_entropy(self, _module: Any, _inputs: Any, logits: Tensor) -> None:
        entropy = torch.distributions.Categorical(logits=logits[0].movedim(0, -1)).entropy()
        self._pixel_entropy = float(entropy.mean())


def _disagreements(fused: Perception, alone: Perception) -> dict[str, float]:
    found = difference(above(fused, PUBLISHED_SCORE), above(alone, PUBLISHED_SCORE), PAIR_WITHIN_M)
    return {
        "detection_disagreement": found.detections,
        "segmentation_disagreement": found.labels,
        "depth_disagreement": found.depth,
    }


def _has_truth(labels: Labels) -> bool:
    parts = labels.boxes_3d, labels.boxes_2d, labels.label_map, labels.point_labels
    return any(part is not None for part in parts)


def small_picture(image: np.ndarray | None) -> bytes:
    """Encode an image uint8 (H, W, 3) RGB as a small JPEG; empty without one."""
    if image is None:
        return b""
    height = max(1, round(image.shape[0] * PICTURE_WIDTH / image.shape[1]))
    small = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY]
    data: bytes = cv2.imencode(".jpg", small[..., ::-1], quality)[1].tobytes()
    return data
