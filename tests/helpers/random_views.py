"""Views of random numbers, with labels: small, and different in every row."""

from __future__ import annotations

import math

import torch

from lemumo_core.data.crops import whole_canvas
from lemumo_core.data.view_labels import ViewLabels
from lemumo_core.data.views import View
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.config import ModelConfig
from tests.helpers.made_boxes import made_boxes

HEIGHT, WIDTH = 32, 48
CONFIG = ModelConfig(size="nano", height=HEIGHT, width=WIDTH)
CLASSES = len(CONFIG.segmentation_classes)


def random_view(rows: int, seed: int = 0) -> View:
    """Rows with both modalities; some depths unknown or beyond 80 m, some pixels unlabelled."""
    g = torch.Generator().manual_seed(seed)
    size = rows, HEIGHT, WIDTH
    depth_m = torch.rand(size, generator=g) * 99 + 1
    depth_m[torch.rand(size, generator=g) < 0.7] = math.nan
    label_map = torch.randint(0, CLASSES, size, generator=g, dtype=torch.uint8)
    label_map[torch.rand(size, generator=g) < 0.3] = UNLABELLED
    intrinsics = torch.eye(3).repeat(rows, 1, 1)
    boxes = made_boxes(torch.zeros(rows, 0, 7), torch.zeros(rows, 0, dtype=torch.int64), intrinsics)
    return View(
        image=torch.randint(0, 256, (*size, 3), generator=g, dtype=torch.uint8),
        companion=torch.rand((*size, 2), generator=g),
        intrinsics=intrinsics,
        present=torch.ones(rows, 2),
        crops=whole_canvas((HEIGHT, WIDTH), rows),
        labels=ViewLabels(label_map, depth_m, boxes),
    )
