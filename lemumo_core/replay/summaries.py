"""Summaries of replayed bags, camera by camera."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.replay.modalities import EVERY_IMAGE

Summary = Mapping[str, Any]


def part_name(bag: str, camera: str) -> str:
    """Return the name of a camera's part of a bag, which is also its folder: the bag's for one."""
    return f"{bag}/{camera}" if camera else bag


def of_cameras(summaries: Iterable[Summary]) -> list[dict[str, Any]]:
    """Return a summary for each camera of each bag, under the name of ``part_name``.

    Args:
        summaries: of bags, as ``BagReplay.run`` returns them. One with an error stays as it is.

    Returns:
        The summaries; those of one camera of several have its name as ``camera``.
    """
    found = []
    for one in summaries:
        shared = {name: value for name, value in one.items() if name != "cameras"}
        found += [
            {
                **shared,
                **part,
                "name": part_name(one["name"], camera),
                **({"camera": camera} if camera else {}),
            }
            for camera, part in one.get("cameras", {"": {}}).items()
        ]
    return found


def sound_files_of(part: Summary, recovered: RecoveredBag) -> list[Path]:
    """Return the files that a replay read of a bag, recovered where necessary.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``RecoveredBag.search``.
    """
    searched = part.get("searched", bool(part["lost"]))  # earlier versions did not say it
    files, _ = recovered.search([Path(file) for file in part["files"]], searched)
    return files


def by_camera(parts: Iterable[Summary]) -> dict[str, list[Summary]]:
    """Return the parts of each camera over all bags; none where a bag's only camera has no name."""
    found: dict[str, list[Summary]] = {}
    for one in parts:
        if "camera" in one:
            found.setdefault(one["camera"], []).append(one)
    return dict(sorted(found.items()))


def totals(parts: Sequence[Summary]) -> dict[str, Any]:
    """Return the numbers of images and results, and those by modality and reason of a drop.

    Where results were judged, also how many were compared, and of how many images one was.

    Args:
        parts: of ``of_cameras``, without errors.
    """
    modalities: dict[str, int] = {}
    drops: dict[str, int] = {}
    for one in parts:
        for total, part in ((modalities, one["modalities"]), (drops, one["drops"])):
            for name, number in part.items():
                total[name] = total.get(name, 0) + number
    compared: dict[str, Any] = {}
    if parts and all("compared" in one for one in parts):
        every = sorted({one["compare_every"] for one in parts})
        compared["compared"] = sum(one["compared"] for one in parts)
        compared["compare_every"] = every[0] if len(every) == 1 else " or ".join(map(str, every))
    return {
        "images": sum(one["images"] for one in parts),
        "results": sum(one["results"] for one in parts),
        "modalities": modalities,
        "drops": drops,
        **compared,
    }


def comparison_note(values: Mapping[str, Any]) -> str:
    """Return which images the metrics of a replay are of; nothing where all were compared.

    Args:
        values: of the whole run, with those of ``totals``.
    """
    if not 0 < values.get("compared", 0) < values["results"]:
        return ""
    note = (
        f"fused, camera only and trivial answers: compared on the same {values['compared']} of "
        f"{values['results']} results (--compare_every {values['compare_every']})"
    )
    whole = "every image: all results that have truth, each with the sensors that it had"
    return f"{note}; {whole}" if EVERY_IMAGE in values else note
