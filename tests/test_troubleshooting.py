"""Each message that the node may emit has an entry in docs/troubleshooting.md, and no other has."""

from __future__ import annotations

import re

import pytest

from tests.helpers.node_messages import reasons, verdict_parts
from tests.helpers.paths import ROOT

NOT_OF_NODE = {"bad_classes", "bad_labels", "output_exists", "wrong_weights"}
"""Of modules that the node imports, in functions that evaluation and commands call."""
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
ROWS = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
ENTRIES = {word for row in ROWS for word in re.findall(r"`([^`]+)`", row)}


def test_every_reason_has_an_entry() -> None:
    found = reasons()
    assert len(found) > 30 and {"busy", "queue_full", "bad_point_cloud", "too_old"} <= found
    names = {entry for entry in ENTRIES if re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", entry)}
    assert found - NOT_OF_NODE - names == set()
    assert names - found - {"running"} == set()


@pytest.mark.parametrize("part", sorted(verdict_parts()))
def test_every_message_of_diagnostics_has_an_entry(part: str) -> None:
    assert part in TEXT


def test_messages_that_are_documented_exist() -> None:
    """What stands in an entry between its placeholders is in the code."""
    sources = "".join(
        (ROOT / path).read_text()
        for path in ("lemumo_core/streaming/health.py", "lemumo_ros/topic_diagnosis.py")
    )
    sources += (ROOT / "lemumo_core/messages/stamps.py").read_text()
    sources += (ROOT / "lemumo_core/streaming/empty_view.py").read_text()
    code = re.sub(r'"\s*\n\s*f?"', "", sources)
    for entry in (one for one in ENTRIES if " " in one):
        words = re.split(r"\.\.\.|\bN s\b|\bTOPIC\b|\bTYPE\b|\bNAME\b|\blidar\b|: |; ", entry)
        for part in (word.strip(" ,;:()") for word in words):
            if len(part) > 12 and "FASTDDS" not in part:
                assert part in code, part
