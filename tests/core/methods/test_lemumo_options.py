"""Options of Le MuMo JEPA: which exclude each other, and the defaults that depend on others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.model.config import ModelConfig


@pytest.mark.parametrize("option", [{"sigreg_weight": 0.3}, {"aux_unimodal": True}])
def test_what_is_of_lejepa_is_refused_with_vicreg(option) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} is .* take objective lejepa or visreg"):
        LeMuMo(**option)
    LeMuMo(objective="lejepa", **option)


def test_the_weight_of_sigreg_is_the_papers_unless_given() -> None:
    assert isinstance(LeMuMo().joint_objective(), VicReg)
    for objective, regularizer in (("lejepa", "sigreg"), ("visreg", "visreg")):
        default = LeMuMo(objective=objective).joint_objective()
        assert isinstance(default, LeJepa)
        assert (default.weight, default.regularizer) == (0.1, regularizer)
        given = LeMuMo(objective=objective, sigreg_weight=0.4).joint_objective()
        assert isinstance(given, LeJepa) and given.weight == 0.4


def test_what_stands_beside_the_objective_is_weighted_by_its_size() -> None:
    model = ModelConfig(size="nano", height=96, width=192)
    weights = {
        objective: LeMuMo(objective=objective).resolve(model, model.input_spec)
        for objective in ("lejepa", "visreg", "vicreg")
    }
    found = {name: (one.masked_weight, one.mask_returns) for name, one in weights.items()}
    assert found == {"lejepa": (0.3, 1.5), "visreg": (0.3, 1.5), "vicreg": (3.0, 15.0)}
    early = replace(model, variant="early")
    assert LeMuMo().resolve(early, early.input_spec).masked_weight == 0.0
