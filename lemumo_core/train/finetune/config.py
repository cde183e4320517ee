"""Options of a fine-tuning run.

The defaults are a run of minutes on two CPU cores; recipes (``training/recipes``) give larger ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from jsonargparse import Namespace

from lemumo_core.data.photometric import PHOTOMETRIC, Photometric
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.method import Needs
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.run_config import RESUMABLE_CHANGES, LogConfig, OptimizerConfig, RunConfig
from lemumo_core.train.weights import read_weights

MILD = Photometric(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02, gray_p=0.05, blur_p=0.05)


@dataclass(frozen=True)
class AugmentationConfig:
    """The one view that a step takes of a sample, of the model's size (``MultiCropConfig``).

    Attributes:
        scale: range of its share of the canvas.
        aspect: range of its aspect relative to the canvas's own.
        flip: probability of a horizontal flip.
        photometric: how strongly appearance changes.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    flip: float = 0.5
    photometric: Photometric = MILD


@dataclass(frozen=True)
class LossConfig:
    """Weights of the tasks' losses, whose weighted sum is minimised.

    The rule of the defaults: weighted, the losses of untrained deploy heads are alike (about 2; 8,
    1.4 and 2.5 were measured on the synthetic world), so that no task begins by drowning another.

    Attributes:
        detection: weight, at least 0, as are all.
        depth: weight.
        segmentation: weight.
        refinement: weight of refined depth at the centres of pixels; only a model with
            ``refine_depth`` has it.
        masked_returns: weight of refined depth where masked returns lie; likewise.
        balance: of the classes of segmentation (``objectives.segmentation``).
        consistency: weight of how far boxes and labels of a view that lost a sensor are from what
            the model predicts with both, times those of detection and segmentation.

    Raises:
        ValueError: a negative weight.
    """

    detection: float = 0.25
    depth: float = 1.5
    segmentation: float = 0.8
    refinement: float = 0.35
    masked_returns: float = 1.0
    balance: float = 0.5
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0:
            raise ValueError(f"weights of losses must not be negative: {self}")


@dataclass(frozen=True)
class FinetuneLogConfig(LogConfig):
    """Options of what fine-tuning writes beside that of every run.

    Attributes:
        evaluate_every: between evaluations on the validation frames; the end has one as well.
    """

    evaluate_every: int = 100


@dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """A fine-tuning run: ``RunConfig`` and what follows.

    Attributes:
        mode: ``full`` trains encoder and heads. ``probe`` trains heads on a frozen encoder in
            evaluation mode, by the paper's protocol: its heads, its optimiser, whole views. These
            heads share no weight, so the weights of their losses do not matter to AdamW.
            ``refinement`` trains the depth refinement alone on a model that is left as it is, in
            evaluation mode (``model.refine_depth``), in the model's own view, which may be larger
            than what its encoder sees.
        heads_first: passes over the data before the encoder learns, too. From scratch (without
            ``weights``) it always does.
        layer_decay: the learning rate of a block is this times that of the next one, the last
            block's this times that of the heads. From scratch all learn alike.
        modality_dropout: probability that a view loses its image or its companion.
        mask_returns: probability that a part of a view's LiDAR returns is masked, and becomes
            truth of refined depth.
        losses, augmentation: see there.

    ``model`` is by default that of the ``weights``. What is given on the command line or in a file
    wins over these defaults and over a probe's.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str] = "finetune"
    resumable_changes: ClassVar[frozenset[str]] = RESUMABLE_CHANGES - {"weights"}
    learns_from_labels: ClassVar[bool] = True

    mode: Literal["full", "probe", "refinement"] = "full"
    heads_first: float = 1.0
    layer_decay: float = 0.8
    batch: int = 8
    steps: int = 400
    modality_dropout: float = 0.3
    mask_returns: float = 0.0
    losses: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    log: FinetuneLogConfig = field(default_factory=FinetuneLogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}, must be above 0 and at most 1")
        if not 0 <= self.modality_dropout <= 1:
            raise ValueError(f"modality_dropout is {self.modality_dropout}, must be in [0, 1]")
        if not 0 <= self.mask_returns <= 1:
            raise ValueError(f"mask_returns is {self.mask_returns}, must be in [0, 1]")
        if self.learns_from_labels and self.losses.consistency and not self.modality_dropout:
            raise ValueError(
                "losses.consistency is for views that lost a sensor, and none does: give "
                "modality_dropout, or leave losses.consistency at 0"
            )
        masks = self.learns_from_labels and self.mask_returns  # adaptation takes all measured depth
        if not self.model.refine_depth and (self.mode == "refinement" or masks):
            raise ValueError(
                "mode refinement and mask_returns train refined depth, and the model has none: add "
                "--model.refine_depth true"
            )
        if self.model.encoder_reduction > 1 and self.mode != "refinement":
            raise ValueError(
                "encoder_reduction is for mode refinement and for export: train the rest at the "
                "size that the encoder sees, and lemumo export --encoder_reduction gives the "
                "package the larger view"
            )
        if self.heads_first < 0:
            raise ValueError(f"heads_first is {self.heads_first}, must not be negative")
        if self.scale.sharding != "ddp":
            raise ValueError("scale.sharding is fsdp: that is for pretraining, fine-tune with ddp")
        _ = self.multi_crop  # checks the augmentation

    @classmethod
    def defaults(cls, options: Namespace) -> dict[str, Any]:
        """Return the options of the weights' model, and of a probe its protocol."""
        defaults: dict[str, Any] = {}
        if options.weights is not None and Path(options.weights).exists():
            model = model_of(Path(options.weights), options.mode)
            defaults |= {f"model.{k}": v for k, v in (asdict(model) if model else {}).items()}
        if options.mode == "probe":
            whole = AugmentationConfig((1.0, 1.0), (1.0, 1.0), 0.0, PHOTOMETRIC["none"])
            probe = OptimizerConfig(lr=1e-3, warmup=0.2, weight_decay=1e-7, decay_all=True, clip=0)
            defaults |= {"model.head_preset": "paper", "modality_dropout": 0.0}
            defaults |= {f"augmentation.{k}": v for k, v in _leaves(asdict(whole)).items()}
            defaults |= {f"optimizer.{k}": v for k, v in asdict(probe).items()}
        return defaults

    @property
    def multi_crop(self) -> MultiCropConfig:
        """Which view a step takes of a sample."""
        one = self.augmentation
        size = self.model.height, self.model.width
        return MultiCropConfig(
            global_views=1,
            local_views=0,
            global_size=size,
            global_scale=one.scale,
            aspect=one.aspect,
            flip=one.flip,
            photometric=one.photometric,
            mask_returns=self.mask_returns,
        )

    @property
    def needs(self) -> Needs:
        """See ``RunConfig``."""
        return Needs(labels=True, beams=self.mask_returns > 0)

    def heads_only_steps(self, frames: int) -> int:
        """Steps, from the first on, in which the encoder does not learn, over so many frames."""
        if self.mode != "full":
            return self.total_steps(frames)
        return round(self.heads_first * frames / self.batch) if self.weights else 0


def model_of(weights: Path, mode: str) -> ModelConfig | None:
    """Return the model of weights; None where they do not tell.

    A mode but ``refinement`` sees what the encoder sees; a larger view is a choice at export.

    Raises:
        Fault, FileNotFoundError: as ``read_weights``.
    """
    _, model = read_weights(weights)
    if not model:
        return None
    whole = ModelConfig.from_dict(model)
    return whole if mode == "refinement" else whole.seen


def _leaves(values: dict[str, Any]) -> dict[str, Any]:
    """Nested values by dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        inner = _leaves(value) if isinstance(value, dict) else {"": value}
        leaves |= {f"{name}.{key}".rstrip("."): leaf for key, leaf in inner.items()}
    return leaves
