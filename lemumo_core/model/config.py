"""Architecture of a model, as its package's manifest stores it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lemumo_core.faults import known_names
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_CLASSES, Taxonomy

log = logging.getLogger(__name__)

PATCH = 16
SIZES = {
    "nano": (192, 3, 4),
    "tiny": (192, 3, 12),
    "small": (384, 6, 12),
    "base": (768, 12, 12),
    "large": (1024, 16, 24),
}
"""Size to (width D, attention heads, blocks), as in ViT; ``nano`` has four of tiny's blocks."""
MODALITIES = ("image", "companion")
VARIANTS = ("pruned", "persistent", "full", "early", "late", "camera_only", "companion_only")
BACKBONES: dict[str, tuple[int, ...]] = {
    "vit": (),
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet50_rda": (256, 512, 1024, 2048),
    "mit_b2": (64, 128, 320, 512),
    "mit_b5": (64, 128, 320, 512),
}
"""Backbone of a tower to the channels of its stages, of strides 4 to 32; a ViT has none."""
COMPANION_CHANNELS = {"paper": 1, "lemumo": 2}
HEAD_FAMILIES = ("paper", "deploy", "fcn")
OLD_FAMILY = "probe"
"""Name that version 0.1 gave to ``paper``."""
DETECTIONS = ("3d", "2d")
BEFORE = {"whole_image": False}
"""Options of models whose configuration was written before these options existed."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of encoder and heads.

    Attributes:
        preset: ``paper`` reproduces arXiv 2603.24327 (one companion channel, zeros for an absent
            modality, its heads). ``lemumo`` adds a validity channel, learned absent tokens and the
            deploy heads.
        size: ``nano``, ``tiny``, ``small``, ``base`` or ``large``: width and depth of the encoder,
            as in ViT (``SIZES``); ``nano`` has four of tiny's twelve blocks.
        height: of the input, pixels, a multiple of 16.
        width: likewise.
        whole_image: whether the view holds the whole image, or its bottom rows
            (``InputSpec.whole_image``); of models of version 0.2.0 and before, the bottom rows.
        companion: ``lidar``, ``thermal`` or ``raster``.
        companion_bands: of a raster; 1 of the others.
        variant: of the encoder (``variants.py``): ``pruned``, ``persistent``, ``full``, ``early``,
            ``late``, ``camera_only`` or ``companion_only``.
        backbone: of each tower of ``late``: ``vit``, of ``size``, or ``resnet18``, ``resnet50``,
            ``resnet50_rda``, ``mit_b2``, ``mit_b5``.
        head_preset: family of the heads: ``paper``, ``deploy`` (ours), or ``fcn``, the paper's with
            segmentation from the stages of ResNets; by default that of the preset.
        detection: ``3d`` boxes, or ``2d`` ones for data that has no others.
        refine_depth: whether depth is refined from the LiDAR's returns to the view's resolution
            (``heads.depth_refinement``), and labels are brought to it. Needs LiDAR, ``lemumo``.
        encoder_reduction: by how much smaller than the view is what encoder, neck and heads see of
            it. Depth is refined at the view's size: the finer, the better it tells returns apart.
        companion_vote: share in boxes, in [0, 1], of what the companion says without the camera
            (``companion_vote``). For packages: it costs a second pass of encoder and boxes, and is
            nothing that is trained.
        detection_classes: names by id, of boxes.
        segmentation_classes: names by id, of labels.
        class_rules: what names in labels mean (``taxonomy.Rules``), as ``--classes`` reads them
            from a file; None for the default ones.

    Raises:
        ValueError: for an unknown name, or an input that ``InputSpec`` refuses.
    """

    preset: str = "lemumo"
    size: str = "tiny"
    height: int = 256
    width: int = 704
    whole_image: bool = True
    companion: str = "lidar"
    companion_bands: int = 1
    variant: str = "pruned"
    backbone: str = "vit"
    head_preset: str | None = None
    detection: str = "3d"
    refine_depth: bool = False
    encoder_reduction: int = 1
    companion_vote: float = 0.0
    detection_classes: tuple[str, ...] = DETECTION_CLASSES
    segmentation_classes: tuple[str, ...] = tuple(SEGMENTATION_CLASSES)
    class_rules: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.head_preset == OLD_FAMILY:
            log.warning("head_preset %s is called paper since version 0.2", OLD_FAMILY)
            object.__setattr__(self, "head_preset", "paper")
        for name, value, known in (
            ("preset", self.preset, COMPANION_CHANNELS),
            ("size", self.size, SIZES),
            ("variant", self.variant, VARIANTS),
            ("backbone", self.backbone, BACKBONES),
            ("head_preset", self.head_family, HEAD_FAMILIES),
            ("detection", self.detection, DETECTIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} '{value}'{known_names(value, known)}")
        if not self.detection_classes or not 0 < len(self.segmentation_classes) < 255:
            raise ValueError("a model needs detection classes and 1 to 254 segmentation classes")
        if self.refine_depth and (self.companion, self.head_family) != ("lidar", "deploy"):
            raise ValueError(
                f"refine_depth needs companion lidar and head_preset deploy, not {self.companion} "
                f"and {self.head_family}"
            )
        if self.companion_bands < 1 or (self.companion_bands > 1 and self.companion != "raster"):
            raise ValueError(
                f"companion_bands is {self.companion_bands}: a {self.companion} companion has "
                f"{'at least ' if self.companion == 'raster' else ''}one"
            )
        if self.backbone != "vit" and self.variant != "late":
            raise ValueError(f"backbone {self.backbone} needs variant late, not {self.variant}")
        if self.head_family == "fcn" and not self.backbone.startswith("resnet"):
            raise ValueError(f"head_preset fcn needs a ResNet, and backbone is {self.backbone}")
        step = PATCH * self.encoder_reduction
        if self.encoder_reduction < 1 or self.height % step or self.width % step:
            raise ValueError(
                f"encoder_reduction is {self.encoder_reduction}, must be at least 1, and height "
                f"{self.height} and width {self.width} multiples of {PATCH} times it"
            )
        if self.encoder_reduction > 1 and not self.refine_depth:
            raise ValueError("encoder_reduction needs refine_depth: nothing else sees more")
        if not 0 <= self.companion_vote <= 1:
            raise ValueError(f"companion_vote is {self.companion_vote}, must be in [0, 1]")
        if self.companion_vote and (self.head_family, self.detection) != ("deploy", "3d"):
            raise ValueError("companion_vote needs head_preset deploy and 3d detection")
        if self.companion_vote and self.variant in ("camera_only", "companion_only"):
            raise ValueError(f"companion_vote needs both sensors, not variant {self.variant}")
        _ = self.input_spec, self.classes  # which check the rest

    @functools.cached_property
    def classes(self) -> Taxonomy:
        """The classes, and what names in labels mean."""
        return Taxonomy.of(self.detection_classes, self.segmentation_classes, self.class_rules)

    @property
    def input_spec(self) -> InputSpec:
        """Specification of the input that preprocessing must deliver."""
        channels = self.companion_channels + 2 * self.refine_depth
        return InputSpec(
            *(self.height, self.width, self.companion, channels), whole_image=self.whole_image
        )

    @property
    def companion_channels(self) -> int:
        """Number of channels of the companion that encoder and neck look at."""
        if self.companion == "raster":
            return self.companion_bands + 1
        return COMPANION_CHANNELS[self.preset]

    @property
    def head_family(self) -> str:
        """Family of the heads."""
        return self.head_preset or ("paper" if self.preset == "paper" else "deploy")

    @property
    def dim(self) -> int:
        """Token width D."""
        return SIZES[self.size][0]

    @property
    def heads(self) -> int:
        """Attention heads."""
        return SIZES[self.size][1]

    @property
    def depth(self) -> int:
        """Transformer blocks."""
        return SIZES[self.size][2]

    @property
    def token_dim(self) -> int:
        """Width D' of the encoder's outputs: ``late`` concatenates both modalities' tokens."""
        if self.backbone != "vit":
            _, second, third, fourth = BACKBONES[self.backbone]
            return 2 * (4 * second + third + fourth)
        return 2 * self.dim if self.variant == "late" else self.dim

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patch grid."""
        step = PATCH * self.encoder_reduction
        return self.height // step, self.width // step

    @property
    def seen(self) -> ModelConfig:
        """The model that is trained: of the view that this one's encoder sees, without a vote."""
        factor = self.encoder_reduction
        return replace(
            self,
            height=self.height // factor,
            width=self.width // factor,
            encoder_reduction=1,
            companion_vote=0.0,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Rebuild from ``dataclasses.asdict`` or parsed JSON.

        Raises:
            ValueError: for an unknown key, with the nearest known one.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"unknown model option '{key}'{known_names(key, known)}")
        lists = ("detection_classes", "segmentation_classes")
        arguments: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in values.items()}
        return cls(**{**BEFORE, **arguments})
