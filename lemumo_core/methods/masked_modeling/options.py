"""Options of masked modelling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.model.config import PATCH
from lemumo_core.preprocess import InputSpec

M = TypeVar("M", bound="MaskingOptions")

MILD = Photometric(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0)
"""Colours are reconstructed, so they change little."""


@dataclass(frozen=True)
class MaskingOptions:
    """What is masked, what is reconstructed, and how it counts.

    Attributes:
        keep: share of the patch grid's cells that are encoded.
        token_visreg: weight of VISReg of the tokens, position by position over the batch. It keeps
            them from becoming a code of their position. Ours; 0 leaves it out.
        normalize_patches: divide each image patch by its own mean and deviation, as MAE and
            MultiMAE do; otherwise colours are targets, too.
        linear_head: also predict coarse pixels and depths of the encoded cells by a linear map of
            their tokens, so that these hold them where heads look for them. Ours.
        shown_weight: weight of patches that were shown; hidden ones have 1.
        size: height and width of the view, by default the canvas's: objects are as large as in use.
        scale: range of the view's share of the canvas.
        flip: probability that it is mirrored.
        photometric: how strongly its appearance changes.

    Raises:
        ValueError: for anything outside its range.
    """

    keep: float = 0.5
    token_visreg: float = 0.3
    normalize_patches: bool = False
    linear_head: bool = True
    shown_weight: float = 0.2
    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    photometric: Photometric = MILD

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is {self.keep}, a share of the cells lies in (0, 1]")
        if self.token_visreg < 0 or self.shown_weight < 0:
            raise ValueError("token_visreg and shown_weight must not be negative")
        _ = self.crop  # checks the rest

    @property
    def crop(self) -> MultiCropConfig:
        """One view of a sample; the size must be known."""
        return MultiCropConfig(
            global_views=1,
            local_views=0,
            global_size=self.size or (PATCH, PATCH),
            global_scale=self.scale,
            flip=self.flip,
            photometric=self.photometric,
        )

    def sized(self: M, canvas: InputSpec) -> M:
        """Return the options with ``size`` filled in."""
        return replace(self, size=self.size or (canvas.height, canvas.width))
