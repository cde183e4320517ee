"""Options of a pretraining run. The defaults are a run of minutes on two CPU cores; recipes
(``training/recipes``) say the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from jsonargparse import Namespace

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.methods.lemumo.masked_returns import HiddenReturns
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.run_config import LogConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class PretrainLogConfig(LogConfig):
    """What pretraining writes beside that.

    Attributes:
        monitor_every: between RankMe and the other monitors.
        probes: train linear probes for depth and classes beside the encoder, and compare it with
            the untrained one at the end.
        probe_steps: of that comparison, for either encoder.
    """

    monitor_every: int = 20
    probes: bool = True
    probe_steps: int = 100


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Attributes:
        name: ``lejepa`` or ``vicreg``; the options below are those of ``lejepa``.
        weight: of SIGReg, lambda of the papers; invariance has 1 - weight.
        aux_unimodal: the reference's undocumented SIGReg on camera-only and companion-only passes.
        tokens: the same objective, without those passes, also on the tokens of the global views at
            places that all of them show. Ours.
        returns: weight of telling LiDAR returns, half of which the model does not see, from the
            global views (``HiddenReturns``); 0 leaves it out. It also trains the neck and the depth
            head of the deploy heads, with which fine-tuning goes on. Ours.

    Raises:
        ValueError: a negative weight.
    """

    name: Literal["lejepa", "vicreg"] = "lejepa"
    weight: float = 0.1
    aux_unimodal: bool = False
    tokens: bool = False
    returns: float = 0.0

    def __post_init__(self) -> None:
        if self.returns < 0:
            raise ValueError(f"objective.returns is {self.returns}, must not be negative")

    def build(self, global_views: int) -> LeJepa | VicReg:
        """The objective; ValueError as ``LeJepa``."""
        if self.name == "vicreg":
            return VicReg()
        return LeJepa(self.weight, self.aux_unimodal, global_views)

    def build_for_tokens(self, global_views: int) -> LeJepa | VicReg | None:
        """The objective on tokens, None without ``tokens``."""
        if not self.tokens:
            return None
        return replace(self, aux_unimodal=False).build(global_views)

    def build_for_returns(self, depth_max_m: float) -> HiddenReturns | None:
        """The objective on returns of views (``InputSpec.depth_max_m``), None without it."""
        return HiddenReturns(self.returns, max_depth_m=depth_max_m) if self.returns else None


SMALL_VIEWS = MultiCropConfig(
    global_size=(48, 96),
    local_size=(32, 48),
    global_scale=(0.8, 1.0),
    local_scale=(0.5, 0.8),
    photometric=Photometric(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0
    ),
)
"""Views alike enough to learn from in minutes; recipes take the paper's."""


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """A pretraining run: ``RunConfig`` and

    Attributes:
        views: which are cut from a sample.
        objective: what is minimised; its ``returns`` are 0 unless given where the model has no
            LiDAR or no deploy heads.

    There is no gradient accumulation: SIGReg compares the whole batch with a Gaussian, so that k
    small batches are not one large one. ``checkpoint_activations`` and more ranks are exact.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str] = "pretrain"

    views: MultiCropConfig = SMALL_VIEWS
    objective: ObjectiveConfig = field(
        default_factory=lambda: ObjectiveConfig(weight=0.5, tokens=True, returns=30.0)
    )
    # In so few steps a higher rate makes all tokens alike before they learn to differ.
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=4e-5))
    log: PretrainLogConfig = field(default_factory=PretrainLogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.objective.build(self.views.global_views)  # checks the rest
        if self.objective.tokens and not self.views.global_views_overlap:
            raise ValueError(
                f"global crops of scale {self.views.global_scale} and aspect {self.views.aspect} "
                "need not overlap, and objective.tokens compares what they share: every side of a "
                "crop must be longer than half of the canvas"
            )
        if self.objective.returns and not tells_depth(self.model):
            raise ValueError(
                "objective.returns needs LiDAR and deploy heads, and the model has "
                f"{self.model.companion} and {self.model.head_family} heads: set it to 0"
            )

    @classmethod
    def defaults(cls, options: Namespace) -> dict[str, Any]:
        """No returns to tell where the model has none."""
        model = ModelConfig.from_dict(options.model.as_dict())
        return {} if tells_depth(model) else {"objective.returns": 0.0}

    @property
    def multi_crop(self) -> MultiCropConfig:
        return self.views

    @property
    def needs_labels(self) -> bool:
        return self.log.probes


def tells_depth(model: ModelConfig) -> bool:
    """Whether a model has LiDAR, and the heads to tell its returns."""
    return model.companion == "lidar" and model.head_family == "deploy"
