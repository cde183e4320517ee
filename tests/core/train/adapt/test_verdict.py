"""When an adapted model is better, and how weights are compared."""

from __future__ import annotations

from typing import Any

import pytest

from lemumo_core.train.adapt.page import verdict
from lemumo_core.train.adapt.verdict import drifts, gains, objections, score_of, worse

BEFORE = {
    "fused": {"depth_mae_m": 1.0, "bev_map": None},
    "camera_only": {"depth_mae_m": 4.0, "bev_map": None},
    "labelled_fused": {"depth_mae_m": 1.5, "bev_map": 0.30, "miou": 0.50, "ap50": None},
}


def after(fused_m: float, camera_m: float, **labelled: float) -> dict[str, Any]:
    """Return results like ``BEFORE`` with other figures."""
    return {
        "fused": {"depth_mae_m": fused_m},
        "camera_only": {"depth_mae_m": camera_m},
        "labelled_fused": {**BEFORE["labelled_fused"], **labelled},
    }


def test_gains_are_shares_of_the_error_of_own_frames_alone() -> None:
    found = after(0.8, 2.0, depth_mae_m=1.57)
    assert gains(BEFORE, found) == pytest.approx({"fused": 0.2, "camera_only": 0.5})
    assert score_of(BEFORE, found) == pytest.approx(0.35)
    assert objections(BEFORE, found) == []


def test_what_drifts_beyond_its_tolerance_counts_against_it() -> None:
    found = after(0.8, 2.0, bev_map=0.295, miou=0.47)
    assert drifts(BEFORE, found) == pytest.approx({"labelled_fused_miou": 0.03})
    assert score_of(BEFORE, found) == pytest.approx(0.35 - 1 - 0.03)
    assert score_of(BEFORE, found) < score_of(BEFORE, after(0.99, 3.99))
    assert objections(BEFORE, found) == ["labelled fused miou fell by 0.030"]


def test_depth_that_becomes_worse_with_one_sensor_ranks_behind_what_does_not() -> None:
    found = after(1.03, 2.0)  # which is refused, though the mean gains a quarter
    assert worse(BEFORE, found) == pytest.approx({"fused_depth": 0.03})
    assert score_of(BEFORE, found) == pytest.approx(0.235 - 1 - 0.03)
    assert score_of(BEFORE, found) < score_of(BEFORE, after(1.0, 3.9))
    assert worse(BEFORE, after(1.0, 4.05)) == pytest.approx({"camera_only_depth": 0.0125})


def test_less_than_a_lidars_noise_is_no_loss() -> None:
    """An error of .34 m may grow by 15 mm, which is more than a hundredth of it, but not by 25."""
    before = {"fused": {"depth_mae_m": 0.34}}
    assert worse(before, {"fused": {"depth_mae_m": 0.355}}) == {}
    assert worse(before, {"fused": {"depth_mae_m": 0.365}}).keys() == {"fused_depth"}


@pytest.mark.parametrize(("mode", "tolerated"), [("fused", 0.01), ("companion_only", 0.02)])
def test_one_sensor_alone_may_drop_by_twice_as_much(mode, tolerated) -> None:
    name = f"labelled_{mode}"
    for drop, drifting in ((tolerated - 1e-3, False), (tolerated + 1e-3, True)):
        found = drifts({name: {"bev_map": 0.3}}, {name: {"bev_map": 0.3 - drop}})
        assert (found.keys() == {f"{name}_bev_map"}) == drifting


def test_what_does_not_change_has_no_sign() -> None:
    found = {"objections": [], "metrics": after(0.9, 3.99)}
    assert verdict(found, BEFORE) == "better: depth error on own frames fused -10%, camera only 0%"
    (only,) = objections(BEFORE, after(1.0, 4.001))
    assert "gained 0.0%, where 3% are asked, in the mean of fused 0.0%, camera only 0.0%" in only


@pytest.mark.parametrize(
    ("found", "objection"),
    [
        (
            after(0.99, 3.95),
            "in the mean of fused +1.0%, camera only +1.2%",
        ),
        (after(1.005, 4.01), "became 0.4% worse, where 3% are asked"),
        (after(1.05, 2.0), "depth fused became 5.0% worse"),
        (after(0.8, 2.0, depth_mae_m=1.65), "depth labelled fused became 10.0% worse"),
        ({"labelled_fused": BEFORE["labelled_fused"]}, "nothing was measured"),
    ],
)
def test_objections_name_what_is_missing(found, objection) -> None:
    (only,) = objections(BEFORE, found)
    assert objection in only
