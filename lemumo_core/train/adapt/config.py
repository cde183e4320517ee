"""Options of an adaptation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from lemumo_core.data.sources.members import Data
from lemumo_core.faults import Fault
from lemumo_core.methods.method import Needs
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.finetune.config import (
    AugmentationConfig,
    FinetuneConfig,
    FinetuneLogConfig,
)
from lemumo_core.train.run_config import OptimizerConfig
from lemumo_core.train.weights import read_weights


@dataclass(frozen=True)
class AdaptConfig(FinetuneConfig):
    """An adaptation: fine-tuning on a robot's own frames, whose LiDAR is the truth of depth.

    Half of every batch are own frames, half labelled ones, of other streets.

    Attributes:
        weights: package to adapt.
        labelled: labelled frames, as ``data``; by default rendered streets.
        labelled_frames: how many streets' frames are rendered to train on.
        val_labelled: labelled frames that tell whether boxes and labels drift: so many frames of
            other rendered streets, or of ``labelled`` at most the last fifth.
        val_frames: own frames at most that validate, of the last fifth of a recording, or of
            whole ones where there are several; of a run the number of all that validate.
        camera_only: share of views that lose their LiDAR: of own ones so that what is measured
            teaches the camera, of labelled ones so that it forgets no other streets.
        blend: how far the new weights lie from the package's towards the learnt ones: the nearer,
            the less they drift. Half as far where anything becomes worse than is tolerated.
        patience: validations without a better score after which the run ends.

    Of ``losses`` that of depth alone is minimised.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str] = "adapt"
    run_suffix: ClassVar[str] = ".run"
    resumable_changes: ClassVar[frozenset[str]] = FinetuneConfig.resumable_changes | {"val_frames"}
    learns_from_labels: ClassVar[bool] = False

    val: Literal["end", "recordings"] = "recordings"
    data: Data = "bags"
    labelled: Data | None = None
    labelled_frames: int = 160
    val_labelled: int = 32
    val_frames: int = 24
    camera_only: float = 0.8
    blend: float = 1.0
    patience: int = 4
    steps: int = 480
    batch: int = 8
    heads_first: float = 0.0
    modality_dropout: float = 0.3
    mask_returns: float = 0.85
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=8e-3))
    log: FinetuneLogConfig = field(
        default_factory=lambda: FinetuneLogConfig(checkpoint_every=40, evaluate_every=240)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch % 2:
            raise ValueError(f"batch is {self.batch}, must be even: half of it are labelled frames")
        if min(self.patience, self.val_labelled, self.val_frames) < 1:
            raise ValueError("patience, val_labelled and val_frames must be at least 1")
        for name in ("camera_only", "blend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")

    @classmethod
    def of_package(cls, package: Path, **options: Any) -> AdaptConfig:
        """Return the options for a package: training sees what the model's encoder sees.

        Raises:
            Fault: ``bad_package`` where it takes no LiDAR; as ``read_weights``.
            ValueError: as the class.
        """
        _, model = read_weights(package)
        seen = ModelConfig.from_dict(model or {}).seen
        if seen.companion != "lidar":
            raise Fault(
                "bad_package",
                f"{package} takes a camera and {seen.companion}, and adaptation learns depth from "
                "a LiDAR: give a package for camera and LiDAR",
            )
        return cls(model=seen, weights=str(package), **options)

    def heads_only_steps(self, frames: int) -> int:
        """See ``FinetuneConfig``; the encoder never learns."""
        return self.total_steps(frames)

    @property
    def needs(self) -> Needs:
        """See ``RunConfig``."""
        return Needs(labels=True, beams=True)
