"""Two views of each modality, in which image and companion need not show the same crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCrop, MultiCropConfig, View
from lemumo_core.methods.method import Draw
from lemumo_core.preprocess import Inputs

VIEWS = 2
MILD = Photometric(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.1, blur_p=0.0, jitter_p=0.8
)


@dataclass(frozen=True)
class CropConfig:
    """How views are cut from a sample (``MultiCropConfig``).

    A LiDAR companion is rendered after the crop and its depth never changed; thermal images and
    rasters change as ``photometric`` says and are clipped.

    Attributes:
        size: (height, width), multiples of 16.
        scale: range of a crop's share of the canvas.
        aspect: range of a crop's aspect relative to the canvas's own.
        flip: probability of a horizontal flip.
        vertical_flip: likewise of a vertical one, for images from above.
        photometric: how strongly appearance changes.
        shared_crop: image and companion of a view show the same crop, which the paper's do not.
    """

    size: tuple[int, int] = (48, 96)
    scale: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    photometric: Photometric = MILD
    shared_crop: bool = False

    def __post_init__(self) -> None:
        _ = self.multi_crop  # checks the rest

    @property
    def multi_crop(self) -> MultiCropConfig:
        """One view of a sample, all of the same size."""
        return MultiCropConfig(
            global_views=1,
            local_views=0,
            global_size=self.size,
            global_scale=self.scale,
            aspect=self.aspect,
            flip=self.flip,
            vertical_flip=self.vertical_flip,
            photometric=self.photometric,
        )


class PairedViews(NamedTuple):
    """Views whose images, and views whose companions the encoders see: two each, of B rows."""

    image: tuple[View, ...]
    companion: tuple[View, ...]

    def inputs(self) -> list[Inputs]:
        """Return the inputs of each view; intrinsics are those of the image."""
        return [
            image.inputs._replace(companion=companion.companion)
            for image, companion in zip(self.image, self.companion, strict=True)
        ]


def cut(config: CropConfig, batch: Batch, draw: Draw, rank: int, world: int) -> PairedViews:
    """Cut the views of a batch; arguments as of ``Method.views``."""
    crop = MultiCrop(config.multi_crop)

    def views(purpose: str) -> tuple[View, ...]:
        cuts = (crop(batch, draw(f"{purpose} {i}"), rank, world) for i in range(VIEWS))
        return tuple(view for (view,) in cuts)

    image = views("image")
    return PairedViews(image, image if config.shared_crop else views("companion"))
