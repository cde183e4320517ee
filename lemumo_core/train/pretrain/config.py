"""Options of a pretraining run.

The defaults are a run of minutes on two CPU cores; recipes (``training/recipes``) give larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from lemumo_core.methods.method import MethodOptions, Needs
from lemumo_core.methods.registry import default_method
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.pretrain.linear_probe import STEPS
from lemumo_core.train.run_config import LogConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class PretrainLogConfig(LogConfig):
    """Options of what pretraining writes beside that of every run.

    Attributes:
        monitor_every: steps between the method's monitors, such as RankMe.
        probes: train linear probes for depth and classes beside the method, and at the end compare
            what it learnt with its untrained self and with raw patches (``probing``).
        probe_steps: steps of each probe of that comparison.
    """

    monitor_every: int = 20
    probes: bool = True
    probe_steps: int = STEPS


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """A pretraining run: ``RunConfig`` and a method.

    Attributes:
        method: what is learnt: a method's name (``methods.registry``), and its options.

    There is no gradient accumulation: SIGReg compares the whole batch with a Gaussian, so that k
    small batches are not one large one. ``checkpoint_activations`` and more ranks are exact.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str] = "pretrain"
    rendered_frames: ClassVar[int] = 512

    method: MethodOptions = field(default_factory=default_method)
    batch: int = 32
    steps: int = 150
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(size="nano", height=96, width=192)
    )
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=7e-4))
    log: PretrainLogConfig = field(default_factory=PretrainLogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.method.resolve(self.model, self.canvas_spec)
        object.__setattr__(self, "method", method)

    @property
    def needs(self) -> Needs:
        """See ``RunConfig``; probes need labels."""
        needs = self.method.needs
        return needs._replace(labels=needs.labels or self.log.probes)
