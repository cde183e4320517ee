"""Names on ``/diagnostics``; what it says is tested in tests/faults/."""

from __future__ import annotations


def test_statuses_bear_the_name_and_namespace_of_their_node(make_node) -> None:
    node = make_node("-r", "__node:=front", "-r", "__ns:=/robot_1")
    published = []
    node.diagnostics._publisher.publish = published.append
    assert not node.start_by_itself()  # without a model
    node.diagnostics.publish()
    assert [status.name for status in published[-1].status] == ["robot_1/front: engine"]
    assert "the parameter model is not set" in published[-1].status[0].message
