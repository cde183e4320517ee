"""Say which topics of a bag may be the companion that it seems to lack."""

from __future__ import annotations

import re
from contextlib import suppress

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topic_kinds import CLOUDS

with suppress(ModuleNotFoundError):  # reported by BagReader
    from lemumo_core.bags.types import sensor_typestore

NEVER_INPUT = re.compile(r"ground_truth|/lemumo|/output/points")
"""Topics that are truth or results, which nobody misses as an input."""


def describe_missing_companion(reader: BagReader, companion: str, given: str | None) -> str:
    """Return a message about a bag in which no topic of a companion was found.

    Args:
        reader: the bag.
        companion: ``lidar`` or ``thermal``, which is wanted.
        given: what the user chose as its topic; '' means to do without.

    Returns:
        The message; empty where no topic may be the companion.
    """
    if given == "":
        return ""
    topics = [t for t in reader.topics if t.count and not NEVER_INPUT.search(t.name)]
    clouds = [topic.name for topic in topics if topic.type in CLOUDS]
    if companion == "lidar" and clouds:
        return (
            f"no lidar topic: {', '.join(clouds)} were passed over, because their names say that "
            "they are no sensor's; take one with --points"
        )
    standard = sensor_typestore().types
    unknown = [f"{t.name} [{t.type}]" for t in reader.topics if t.type not in standard]
    if not unknown:
        return ""
    return f"no {companion} topic, and unknown types were passed over: {', '.join(unknown)}"
