"""Messages of faults: what differs, and what is likely meant."""

from __future__ import annotations

from lemumo_core.faults import differences, indented


def test_only_the_innermost_values_that_differ_are_named() -> None:
    then = {"a": {"b": [1, {"c": 2}], "same": 3}, "list": [1], "gone": True}
    now = {"a": {"b": [1, {"c": 4}], "same": 3}, "list": [1, 2], "new": "x" * 1000}
    lines = differences(then, now)
    assert lines[:3] == [
        "a.b[1].c: 2 then, 4 now",
        "gone: True then, None now",
        "list: [1] then, [1, 2] now",
    ]
    assert lines[3].startswith("new: None then, 'xxx") and len(lines[3]) < 150
    assert not differences(then, then)
    assert indented(lines[:2]) == "\n  a.b[1].c: 2 then, 4 now\n  gone: True then, None now\n"
