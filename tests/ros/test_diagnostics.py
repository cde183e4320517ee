"""Names on ``/diagnostics``; what it says is tested in tests/faults/."""

from __future__ import annotations

from types import SimpleNamespace

from lemumo_core.streaming.health import Health


def test_statuses_bear_the_name_and_namespace_of_their_node(make_node) -> None:
    node = make_node("-r", "__node:=front", "-r", "__ns:=/robot_1")
    published = []
    node.diagnostics._publisher.publish = published.append
    assert not node.start_by_itself()  # without a model
    node.diagnostics.publish()
    assert [status.name for status in published[-1].status] == ["robot_1/front: engine"]
    assert "the parameter model is not set" in published[-1].status[0].message


def test_a_diagnosis_is_logged_once_it_stays(make_node, monkeypatch) -> None:
    """A player that starts has a publisher before it sends: that is shown, and not warned of."""
    diagnostics, now_ns, logged = make_node().diagnostics, [0], []
    logger = SimpleNamespace(warning=logged.append)
    monkeypatch.setattr(diagnostics._node, "get_logger", lambda: logger)
    found = iter(["no publisher"] * 4 + ["nothing sent"] * 2 + ["no publisher"] * 4)
    monkeypatch.setattr("lemumo_ros.diagnostics.diagnose_topic", lambda *_: next(found))
    health = Health(clock=lambda: now_ns[0])
    shown = []
    for second in range(12):
        now_ns[0] = second * 1_000_000_000
        shown.append(diagnostics._explain("front", health, None))
        if second == 5:
            assert len(logged) == 1
    expected = [""] * 3 + ["no publisher"] * 4 + ["nothing sent"] * 2 + ["no publisher"] * 3
    assert shown == expected
    assert logged == ["front: no image arrives: no publisher"] * 2
