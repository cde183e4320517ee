"""A vote of the companion in boxes, so that an unfamiliar camera cannot spoil them.

Images of another camera, place or weather look different from those of training; LiDAR returns
hardly do. So boxes are a mean of what both sensors say and of what the companion alone does (an
ensemble of predictions of one network), which counts as much as it is sure of an object's depth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.losses.centernet import RawDetections
from lemumo_core.preprocess import Inputs

ONE_SURFACE = 0.1
"""Difference of log depths from which on two predictions mean two surfaces, and no mean of them."""


def companion_alone(inputs: Inputs) -> Inputs:
    """Return inputs of B views without their images."""
    _, companion = inputs.present.split(1, dim=1)
    return inputs._replace(present=torch.cat([torch.zeros_like(companion), companion], dim=1))


def voted(
    both: RawDetections, alone: RawDetections, share: float, present: Tensor
) -> RawDetections:
    """Return the mean of two predictions of B views.

    Where depths differ, that of both sensors stays.

    Args:
        both: of all sensors that are there, with confidence of depth.
        alone: of the companion.
        share: in [0, 1], of the companion where it is certain of the depth.
        present: float32 (B, 2), which sensors are there; without one of them nothing changes.
    """
    assert both.depth_confidence is not None and alone.depth_confidence is not None
    weight = share * alone.depth_confidence * (present[:, 0] * present[:, 1]).view(-1, 1, 1, 1)

    def mean(one: Tensor, other: Tensor) -> Tensor:
        return one + weight * (other - one)

    is_one = (both.log_depth - alone.log_depth).abs() < ONE_SURFACE
    return both._replace(
        heatmap=mean(both.heatmap, alone.heatmap),
        offset=mean(both.offset, alone.offset),
        log_size=mean(both.log_size, alone.log_size),
        log_depth=torch.where(is_one, mean(both.log_depth, alone.log_depth), both.log_depth),
        rotation=mean(both.rotation, alone.rotation),
        depth_confidence=mean(both.depth_confidence, alone.depth_confidence),
    )
