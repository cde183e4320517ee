"""The objectives on projections, and how heavy what stands beside them is by default."""

from __future__ import annotations

from typing import Literal

from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.vicreg import VicReg

Objective = Literal["lejepa", "visreg", "vicreg"]
SIGREG_WEIGHT = 0.1
"""Default weight of SIGReg, lambda of the papers."""
MASKED_WEIGHT = {"lejepa": 0.3, "visreg": 0.3, "vicreg": 3.0}
MASK_RETURNS = {"lejepa": 1.5, "visreg": 1.5, "vicreg": 15.0}
"""Default weights of masked modelling of both sensors and of masked LiDAR modelling, by the
objective that they stand beside: VICReg is some twenty times as large as LeJEPA."""


def joint_objective(
    name: Objective, sigreg_weight: float | None, aux_unimodal: bool, global_views: int
) -> LeJepa | VicReg:
    """Return an objective by its name.

    Args:
        name: see ``LeMuMo.objective``.
        sigreg_weight: as ``LeMuMo`` has it; None for the default.
        aux_unimodal: as ``LeMuMo`` has it.
        global_views: number of global views, which come first.

    Raises:
        ValueError: an option of LeJEPA with ``vicreg``, or one outside its range.
    """
    if name != "vicreg":
        weight = SIGREG_WEIGHT if sigreg_weight is None else sigreg_weight
        regularizer: Literal["sigreg", "visreg"] = "visreg" if name == "visreg" else "sigreg"
        return LeJepa(weight, aux_unimodal, global_views, regularizer)
    given = {"sigreg_weight": sigreg_weight, "aux_unimodal": aux_unimodal or None}
    for option, value in given.items():
        if value is not None:
            raise ValueError(
                f"{option} is {value}, and objective is vicreg, which has no SIGReg: leave it out, "
                "or take objective lejepa or visreg"
            )
    return VicReg()
