"""Whether an adapted model is better: deeper insight into own frames, no drift on labelled ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lemumo_core.evaluation.modalities import MODALITIES
from lemumo_core.wording import signed

Results = Mapping[str, Mapping[str, Any]]
"""``PerceptionMetric.result`` by modality on own frames, and by ``LABELLED`` and modality."""

LABELLED = "labelled_"
"""Before the modality, in the name of a result on labelled frames."""
DRIFTING = ("bev_map", "ap50", "miou")
TOLERANCE, TOLERANCE_OF_ONE_SENSOR = 0.01, 0.02
"""Drop of one of ``DRIFTING`` on labelled frames that is no drift, with both sensors and with one.

With one sensor few objects are found, and figures scatter more: of a LiDAR alone BEV mAP fell by
.029 on 16 frames where it rose by .006 on 60 others.
"""
LEAST_GAIN = 0.03
"""Mean share of the depth error that must go: less is not worth another model."""
LARGEST_LOSS, LARGEST_LOSS_ELSEWHERE = 0.01, 0.05
"""Share by which depth may be worse with one of the modalities, on own and on labelled frames."""
NOISE_M = 0.02
"""Nor is less than this a loss, whatever the share: a LiDAR's own noise is as large."""


def gains(before: Results, after: Results, prefix: str = "") -> dict[str, float]:
    """Return by modality the share of the depth error that is gone, of own or labelled frames."""
    found = {}
    for mode in MODALITIES:
        old_m, new_m = (one.get(prefix + mode, {}).get("depth_mae_m") for one in (before, after))
        if old_m and new_m is not None:
            found[mode] = 1.0 - new_m / old_m
    return found


def drifts(before: Results, after: Results) -> dict[str, float]:
    """Return by name the drops on labelled frames that are larger than what is tolerated."""
    found: dict[str, float] = {}
    for name in before.keys() & after.keys():
        fused = name == f"{LABELLED}fused"
        tolerated = TOLERANCE if fused else TOLERANCE_OF_ONE_SENSOR
        for metric in DRIFTING:
            old, new = before[name].get(metric), after[name].get(metric)
            if name.startswith(LABELLED) and old is not None and new is not None:
                drop = old - new
                found |= {f"{name}_{metric}": drop} if drop > tolerated else {}
    return dict(sorted(found.items()))


def depth_losses(before: Results, after: Results) -> dict[str, float]:
    """Return by name the growths of the depth error, as shares, that are more than is tolerated.

    What is learnt of a standing scene may be forgotten of all others: labelled frames tell.
    """
    return {
        prefix + mode: -gain
        for prefix, tolerated in (("", LARGEST_LOSS), (LABELLED, LARGEST_LOSS_ELSEWHERE))
        for mode, gain in gains(before, after, prefix).items()
        if -gain > max(tolerated, NOISE_M / before[prefix + mode]["depth_mae_m"])
    }


def worse(before: Results, after: Results) -> dict[str, float]:
    """Return what became worse than is tolerated: ``drifts`` and ``depth_losses``."""
    losses = depth_losses(before, after)
    return drifts(before, after) | {f"{name}_depth": loss for name, loss in losses.items()}


def score_of(before: Results, after: Results) -> float:
    """Return the mean gain in depth, less 1 and what is ``worse`` where anything is.

    So what is refused ranks behind all that is not. -1 without depth.
    """
    gained, lost = gains(before, after), worse(before, after)
    if not gained:
        return -1.0
    score = sum(gained.values()) / len(gained)
    return score - 1.0 - sum(lost.values()) if lost else score


def objections(before: Results, after: Results) -> list[str]:
    """Return why an adapted model is not better; empty where it is."""
    gained, lost = gains(before, after), drifts(before, after)
    if not gained:
        return ["no own frame that validates has LiDAR returns in view, so nothing was measured"]
    mean, found = sum(gained.values()) / len(gained), []
    if mean < LEAST_GAIN:
        each = ", ".join(
            f"{mode.replace('_', ' ')} {signed(gain, '.1%')}" for mode, gain in gained.items()
        )
        gain = f"became {-mean:.1%} worse" if mean < -0.0005 else f"gained {max(mean, 0.0):.1%}"
        found.append(
            f"depth on own frames {gain}, where {LEAST_GAIN:.0%} are asked, in the mean of {each}"
        )
    found += [
        f"depth {name.replace('_', ' ')} became {loss:.1%} worse"
        for name, loss in depth_losses(before, after).items()
    ]
    found += [f"{name.replace('_', ' ')} fell by {drop:.3f}" for name, drop in lost.items()]
    return found
