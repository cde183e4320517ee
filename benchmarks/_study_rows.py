"""Rows and sizes of the study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks._runs import PAPERS_LOSS


class Scale(NamedTuple):
    """Size of the study: of the model, the data and the time of pretraining.

    Attributes:
        size, height, width: of the model.
        frames: of the data, the last ``val_frames`` of which are validated on.
        val_frames: how many these are.
        batch: samples of a step.
        seconds: of pretraining, for every row.
        probe_steps: of each probe.
        workers: processes that load data.
        joint_views: of methods that compare views of a sample, options below ``views``.
        companion: of the camera.
    """

    size: str
    height: int
    width: int
    frames: int
    val_frames: int
    batch: int
    seconds: float
    probe_steps: int
    workers: int
    joint_views: dict[str, Any]
    companion: str = "lidar"


SCALES = {
    "cpu": Scale(
        *("nano", 96, 192, 2048, 256, 64, 300.0, 600, 0),
        {
            "local_views": 2,
            "global_size": [64, 128],
            "local_size": [32, 64],
            "global_scale": [0.5, 1.0],
            "local_scale": [0.2, 0.5],
        },
    ),
    "gpu": Scale(
        *("small", 256, 704, 20000, 500, 128, 3600.0, 600, 12),
        {"global_size": [160, 448], "local_size": [64, 176]},
    ),
}
"""All rows take the inputs of preset ``lemumo``, so that they differ in nothing else."""


@dataclass(frozen=True)
class Row:
    """A row of the study.

    Attributes:
        method: a method's name.
        settings: options of the run; those of the method begin with ``method.``.
        lr: learning rate.
        learns: whether it is pretrained.
        raw: whether its features are raw patches.
        begins: row of the study with a LiDAR from whose weights, of the same seed, it goes on.
    """

    method: str = "LeMuMo"
    settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 5e-4
    learns: bool = True
    raw: bool = False
    begins: str | None = None

    def options(self, scale: Scale) -> dict[str, Any]:
        """Return the options of pretraining that the rows do not share."""
        found: dict[str, Any] = {"method": self.method, "optimizer.lr": self.lr}
        views = scale.joint_views
        if self.method == "LeMuMo":
            found |= PAPERS_LOSS
        if self.method in ("LeMuMo", "InfoNCE", "DINO"):
            found |= {f"method.views.{name}": value for name, value in views.items()}
        if self.method == "DeCUR":
            found["method.crops.size"] = views["global_size"]
        return {**found, **self.settings}


def variant(name: str, learns: bool = True) -> Row:
    """Return a row of another encoder with the paper's loss."""
    return Row(settings={"model.variant": name}, learns=learns)


MULTIMAE = {
    "method.keep": 0.25,
    "method.normalize_patches": True,
    "method.linear_head": False,
    "method.shown_weight": 0,
    "method.token_visreg": 0,
}
LEMUMO = {"method.objective": "vicreg", "method.masked_weight": 3}
OTHERS = ("camera_only", "companion_only", "early", "late", "persistent")
ROWS: dict[str, Row] = {
    "raw patches": Row(learns=False, raw=True),
    "untrained": Row(learns=False),
    "pruned": Row(),
    "lemumo": Row(settings=LEMUMO, lr=7e-4),
    "masked modelling": Row("MaskedModeling", lr=1e-3),
    "MultiMAE": Row("MaskedModeling", MULTIMAE, lr=1e-3),
    "InfoNCE": Row("InfoNCE", {"method.views.local_views": 0}),
    "DINO, iBOT": Row("DINO"),
    "DeCUR": Row("DeCUR"),
    "pruned, VICReg": Row(settings={"method.objective": "vicreg"}),
    "pruned, VISReg": Row(settings={"method.objective": "visreg", "method.sigreg_weight": 0.5}),
    **{name: variant(name) for name in OTHERS},
    **{f"untrained, {name}": variant(name, learns=False) for name in OTHERS},
    "lemumo, SIGReg": Row(settings={"method.masked_weight": 0.3}, lr=7e-4),
    "lemumo, VISReg": Row(
        settings={
            "method.objective": "visreg",
            "method.sigreg_weight": 0.5,
            "method.masked_weight": 0.3,
        },
        lr=7e-4,
    ),
    **{
        f"lemumo, masked modelling {weight:g}": Row(
            settings={**LEMUMO, "method.masked_weight": weight}, lr=7e-4
        )
        for weight in (0.3, 10)
    },
    "lemumo, sensors dropped": Row(settings={**LEMUMO, "method.modality_dropout": 0.3}, lr=7e-4),
    "lemumo, no token VISReg": Row(settings={**LEMUMO, "method.masked.token_visreg": 0}, lr=7e-4),
    "lemumo, no linear head": Row(settings={**LEMUMO, "method.masked.linear_head": False}, lr=7e-4),
    "lemumo, returns": Row(settings={**LEMUMO, "method.mask_returns": 60}, lr=7e-4),
}
"""``pruned`` is Le MuMo JEPA."""
TRANSFER_ROWS = {
    **{name: ROWS[name] for name in ("raw patches", "untrained", "pruned")},
    "pruned, from LiDAR": Row(begins="pruned"),
}
"""With a thermal camera: from scratch, pretrained on it, and from an encoder that knew a LiDAR."""
