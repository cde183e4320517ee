"""Named settings of CMCR: the public code's, those of the paper's figure, and ours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from lemumo_core.data.photometric import PHOTOMETRIC
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.cmcr.codebook import CodebookConfig
from lemumo_core.methods.cmcr.views import DrawConfig
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms; 0 leaves a term, and what serves it alone, out.

    Attributes:
        contrast: InfoNCE from points to pixels.
        commitment: of either modality's shared features to the codebook.
        matching: contrast of code posteriors.
        reconstruction: masked image modelling.
        occupancy: places on rays.
        intensity: of the returns that these were drawn from.
        orthogonality: of shared and specific features.
        kl: of the specific features of points to N(0, I), as the mean over dimensions of the
            divergence of their distribution over rows; the paper's figure names such a term
            without a formula.

    Raises:
        ValueError: a negative weight, or none that is positive.
    """

    contrast: float = 1.0
    commitment: float = 1.0
    matching: float = 1.0
    reconstruction: float = 1.0
    occupancy: float = 1.0
    intensity: float = 1.0
    orthogonality: float = 0.1
    kl: float = 0.0

    def __post_init__(self) -> None:
        weights = [getattr(self, one.name) for one in fields(self)]
        if min(weights) < 0 or max(weights) <= 0:
            raise ValueError(f"terms: weights must not be negative, and one be positive: {self}")

    @property
    def codes(self) -> bool:
        """Whether the codebook learns."""
        return self.commitment > 0 or self.matching > 0

    @property
    def queries(self) -> bool:
        """Whether places on rays are needed."""
        return self.occupancy > 0 or self.intensity > 0


REPO_VIEWS = MultiCropConfig(
    global_views=1,
    local_views=0,
    global_size=(224, 416),
    global_scale=(0.3, 1.0),
    aspect=(14 / 16, 17 / 16),  # 14:9 to 17:9 of images of 16:9
    photometric=PHOTOMETRIC["none"],
)
SMALL_VIEWS = MultiCropConfig(
    global_views=1,
    local_views=0,
    global_size=(96, 192),
    global_scale=(0.3, 1.0),
    aspect=(0.9, 1.1),
    photometric=PHOTOMETRIC["none"],
)
ADAPTED_NETWORK = SparseConfig(width=0.25, voxels=VoxelConfig(size_m=0.2, features="height"))
_REPO: dict[str, Any] = {
    "image_encoder": "resnet50",
    "standardize": False,
    "network": SparseConfig(),
    "crop": REPO_VIEWS,
    "draw": DrawConfig(matches=2048, queries=2048, neighbors=32, wedge_deg=None),
    "codebook": CodebookConfig(decay=0.999, revive=False),
    "geometry": False,
    "code_temperature": 1.0,
    "orthogonal_images": False,
    "orthogonal_per_row": False,
    "decoder_stride": 1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "repo": _REPO,
    "figure": {**_REPO, "geometry": True, "orthogonal_images": True},
    "adapted": {
        "image_encoder": "lemumo",
        "standardize": True,
        "network": ADAPTED_NETWORK,
        "crop": SMALL_VIEWS,
        "draw": DrawConfig(),
        "codebook": CodebookConfig(),
        "geometry": True,
        "code_temperature": 0.1,
        "orthogonal_images": True,
        "orthogonal_per_row": True,
        "decoder_stride": 4,
    },
}
"""By name, the options that a preset fills in where the user gives none."""
