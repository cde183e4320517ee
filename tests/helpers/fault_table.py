"""A pytest plugin: tests marked ``fault(row)`` fill the fault table, ``out/faults.md``.

What such a test saw it writes down through the fixture ``seen``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.helpers.paths import ROOT

TABLE = ROOT / "out" / "faults.md"
ROWS = {
    1: (
        "LiDAR or thermal stops or starts late; one of several cameras dies",
        "camera-only after the deadline and said so, fused again by itself; other cameras go on",
    ),
    2: ("camera stops", "no results, STALE within three periods, old frames are not repeated"),
    3: ("stamps old, zero, in the future; clocks not synchronised", "dropped, the offset reported"),
    4: (
        "clock jumps back or forward, /clock pauses, use_sim_time without /clock",
        "goes on, no negative latency, health is told on a steady clock",
    ),
    5: ("duplicate, out-of-order, bursty messages", "newest wins, memory bounded, drops counted"),
    6: (
        "points NaN, infinite, 1e38, denormal, all behind the camera, none, too many",
        "masked; none is a frame without depth; too many are refused",
    ),
    7: ("malformed PointCloud2", "read right or refused by name"),
    8: ("wrong or unknown image encodings", "converted or refused, never silently swapped"),
    9: ("CompressedImage truncated, of a wrong format, a bomb", "refused before memory is taken"),
    10: (
        "resolution or CameraInfo changes; K zero, D of a wrong length, unknown model, missing",
        "new maps within a frame, or the frame is dropped with the reason",
    ),
    11: ("tf missing, late, cyclic, NaN, changed", "waits with the reason; checked; taken over"),
    12: (
        "QoS mismatch, publisher dies and returns, two publishers, slow subscriber",
        "reason in diagnostics; matched again; publishing never blocks",
    ),
    13: (
        "inference slower than the input, process starved",
        "newest frame only, latency within two inferences, missed deadlines reported",
    ),
    14: (
        "out of memory, device lost, NaN in outputs",
        "loaded again, then on the CPU or a fault; outputs screened",
    ),
    15: (
        "package or engine missing, empty, truncated, flipped, foreign; disk full; two builders",
        "stays inactive with the reason; cached engines are checked and replaced",
    ),
    16: ("parameters negative, NaN, unknown, changed while active", "refused whole, with reason"),
    17: (
        "SIGTERM, SIGINT, kill -9, storms of lifecycle transitions",
        "exits within 2 s, leaks nothing; results again 2 s after the kill, or once the engine is "
        "loaded where that takes longer",
    ),
    18: ("soak at ten times the input rate", "memory and latency flat, newest frame served"),
    19: (
        "bag truncated, without index or metadata, of unknown types, empty",
        "what can be read is; a warning; the exit code says so",
    ),
}
"""Fault, and the behaviour that is required."""

results: dict[int, list[tuple[str, str, str]]] = defaultdict(list)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with what was seen; it stands in the table."""
    return lambda text: request.node.user_properties.append(("seen", text))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(row): belongs to a row of the fault table")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the rows of a test into its reports, which reach the process that writes the table."""
    rows = [marker.args[0] for marker in item.iter_markers("fault")]
    item.user_properties += [("fault", row) for row in rows]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.passed:
        return
    texts = [text for name, text in report.user_properties if name == "seen"]
    for name, row in report.user_properties:
        if name == "fault":
            test = report.nodeid.rpartition("::")[2]
            results[int(row)].append((report.outcome, test, "; ".join(map(str, texts))))


def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")  # of pytest-xdist
    if results and not is_worker:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(as_markdown())


def as_markdown() -> str:
    """The table of this run."""
    lines = ["| # | fault | required | seen |", "|---|---|---|---|"]
    for row, (fault, required) in ROWS.items():
        cells = []
        for outcome, name, text in results[row]:
            words = text or name.removeprefix("test_").replace("_", " ").replace("|", "/")
            cells.append(words if outcome == "passed" else f"**{outcome}**: {words}")
        several = f"{len(cells)} tests: {cells[0]}, ..." if len(cells) > 12 else "<br>".join(cells)
        lines.append(f"| {row} | {fault} | {required} | {several or 'not run'} |")
    return "\n".join(lines) + "\n"
