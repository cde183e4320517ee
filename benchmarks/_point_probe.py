"""A linear probe on a frozen 3D network, fitted until it converges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.samples import Batch, sample
from lemumo_core.data.sources import FrameSource
from lemumo_core.frame import UNLABELLED
from lemumo_core.metrics.points import PointMetric, horizontal_range
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.sparse.minkunet import MinkUNet
from lemumo_core.model.sparse.voxels import voxelize
from lemumo_core.taxonomy import Taxonomy
from lemumo_core.train.points.weights import read_network

POINTS_OF_A_SWEEP = 400
DECAY = 1e-5
ITERATIONS = 300


@torch.no_grad()
def point_features(network: MinkUNet, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return features (N, C) of the labelled returns of a sweep, and their classes, int64 (N,)."""
    assert batch.points is not None and batch.sweep_labels is not None
    voxels = voxelize(batch.points, network.config.voxels)
    row, labels = voxels.row_of_point[0], batch.sweep_labels[0]
    known = (row >= 0) & (labels != UNLABELLED)
    return network(voxels)[row[known]], labels[known].long()


def linear_probe(
    weights: Path, source: FrameSource, train: Sequence[int], val: Sequence[int], seed: int
) -> dict[str, Any]:
    """Fit a logistic regression on points of training sweeps, and score it on validation sweeps.

    Args:
        weights: a run of pretraining with a 3D network.
        source: of the frames.
        train: indices of the frames to learn from; 400 points of each are drawn.
        val: indices of the frames to score, all points of them.
        seed: of the points drawn.

    Returns:
        ``PointMetric.result``, ``iterations`` and the ``gradient`` that is left: the largest
        element of that of the mean loss.
    """
    model = ModelConfig()
    tensors, config = read_network(weights)
    network = MinkUNet(config)
    prefix = "network."
    network.load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )
    network.eval()

    def found(index: int) -> Batch:
        return sample(source[index], model.input_spec, Taxonomy(), points=True)

    generator = torch.Generator().manual_seed(seed)
    parts = []
    for index in train:
        x, y = point_features(network, found(index))
        drawn = torch.randperm(len(y), generator=generator)[:POINTS_OF_A_SWEEP]
        parts.append((x[drawn], y[drawn]))
    x, y = (torch.cat(one) for one in zip(*parts, strict=True))
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    classes = model.segmentation_classes
    head = nn.Linear(x.shape[1], len(classes))
    left, iterations = _fit(head, (x - mean) / spread, y)
    metric = PointMetric(classes)
    for index in val:
        batch = found(index)
        assert batch.points is not None and batch.sweep_labels is not None
        voxels = voxelize(batch.points, config.voxels)
        row = voxels.row_of_point[0]
        with torch.no_grad():
            predicted = head((network(voxels) - mean) / spread).argmax(1)[row.clamp(min=0)]
        metric.add(
            torch.where(row >= 0, predicted, UNLABELLED).numpy(),
            batch.sweep_labels[0].numpy(),
            horizontal_range(batch.points[0].numpy()),
        )
    return {**metric.result(), "iterations": iterations, "gradient": left}


def _fit(head: nn.Linear, x: Tensor, y: Tensor) -> tuple[float, int]:
    """Minimise the cross entropy by L-BFGS; return what is left of the gradient, and steps."""
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=ITERATIONS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(head(x), y) + DECAY * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    loss()
    assert head.weight.grad is not None
    state = optimizer.state[next(head.parameters())]
    return float(head.weight.grad.abs().max()), int(state["n_iter"])
