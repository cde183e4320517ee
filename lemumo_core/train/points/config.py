"""Options of fine-tuning on LiDAR points.

The defaults are a run of minutes on two CPU cores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from jsonargparse import Namespace

from lemumo_core.methods.cmcr.presets import ADAPTED_NETWORK
from lemumo_core.methods.method import Needs
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.train.finetune.config import FinetuneLogConfig
from lemumo_core.train.points.weights import read_network
from lemumo_core.train.run_config import RESUMABLE_CHANGES, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class PointsConfig(RunConfig):
    """A fine-tuning run on points: ``RunConfig`` and what follows.

    Attributes:
        task: ``points``, which tells these options from those of the fusion model.
        mode: ``full`` trains network and head, ``probe`` a linear head on a frozen network in
            evaluation mode.
        network: the 3D network; by default that of the ``weights``.
        network_rate: learning rate of the network relative to the head's, with ``weights``; from
            scratch both learn alike.
        lovasz: weight of Lovász-softmax beside the cross entropy.
        rotate: turn and mirror sweeps at random.
        wedge_deg: train on the part of a sweep around the camera's axis alone; None takes all.
            Validation always takes all.

    ``weights`` are those of a run of pretraining by CMCR, or of fine-tuning on points. Of
    ``model`` only the classes and the canvas count.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str] = "finetune"
    resumable_changes: ClassVar[frozenset[str]] = RESUMABLE_CHANGES - {"weights"}
    learns_from_labels: ClassVar[bool] = True

    task: Literal["points"] = "points"
    mode: Literal["full", "probe"] = "full"
    network: SparseConfig = ADAPTED_NETWORK
    network_rate: float = 0.3
    lovasz: float = 1.0
    rotate: bool = True
    wedge_deg: float | None = None
    batch: int = 4
    steps: int = 400
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=4e-3))
    log: FinetuneLogConfig = field(default_factory=FinetuneLogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network_rate < 0 or self.lovasz < 0:
            raise ValueError("network_rate and lovasz must not be negative")
        if self.mode == "probe" and not self.weights:
            raise ValueError(
                "mode is probe, which trains a head on a frozen network: add --weights RUN of "
                "lemumo pretrain --method CMCR"
            )
        if self.wedge_deg is not None and not 0 < self.wedge_deg <= 360:
            raise ValueError(f"wedge_deg is {self.wedge_deg}, must lie in (0, 360]")
        if self.scale.sharding != "ddp":
            raise ValueError("scale.sharding is fsdp: that is for pretraining, fine-tune with ddp")

    @classmethod
    def defaults(cls, options: Namespace) -> dict[str, Any]:
        """Return the network of the weights."""
        if options.weights is None or not Path(options.weights).exists():
            return {}
        _, network = read_network(Path(options.weights))
        values = asdict(network)
        voxels = values.pop("voxels")
        flat = {f"network.{name}": value for name, value in values.items()}
        return flat | {f"network.voxels.{name}": value for name, value in voxels.items()}

    @property
    def needs(self) -> Needs:
        """See ``RunConfig``."""
        return Needs(labels=True, points=True)
