"""What a node is given at start, and what it shows of its parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

from rclpy.parameter import Parameter

from lemumo_core.faults import Fault
from lemumo_ros.model_path import model_folder
from tests.helpers.paths import ROOT

FILE = """/**:
  ros__parameters:
    max_age_ms: 500
    cameras: []
    companion_ofset: 0.5
    thermal_window: [0, 0, 1, 1]
"""


def test_a_file_is_read_as_it_is_meant(make_node, tmp_path) -> None:
    """Whole numbers, empty lists and misspelled names, all of which rclpy lets pass or stops at."""
    file = tmp_path / "parameters.yaml"
    file.write_text(FILE)
    node = make_node("--params-file", str(file), "-p", "score_threshold:=1", "-p", "front.x:=2")
    settings = node.parameters.read()
    assert (settings.max_age_ms, settings.score_threshold, settings.cameras) == (500.0, 1.0, ())
    assert settings.thermal_window == (0.0, 0.0, 1.0, 1.0)
    assert node.parameters.unknown() == [
        "there is no parameter companion_ofset, did you mean companion_offset?",
        "there is no parameter front.x (ros2 param list names those)",
    ]
    # A name without a value would leave `ros2 param dump` and GetParameters without any.
    everything = node.get_parameters_by_prefix("")
    assert {one.type_ for one in everything.values()} & {Parameter.Type.NOT_SET} == set()
    changes = [Parameter("max_age_ms", value=700), Parameter("thermal_window", value=[])]
    assert all(result.successful for result in node.set_parameters(changes))
    settings = node.parameters.read()
    assert (settings.max_age_ms, settings.thermal_window) == (700.0, ())


def test_unknown_parameters_are_refused_where_that_is_asked(make_node) -> None:
    node = make_node("-p", "strict_parameters:=true", "-p", "mdl:=x")
    assert not node.start_by_itself()
    assert "there is no parameter mdl" in node.diagnostics.fault


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("score_threshold:=high", "score_threshold is 'high', must be a float"),
        ("cameras:=front", "cameras is 'front', must be a list"),
        ("companion_offset_ms:=5.0", "companion_offset_ms is now companion_offset, in seconds"),
    ],
)
def test_values_of_the_wrong_type_are_named(make_node, argument, words) -> None:
    with pytest.raises(ValueError, match=words):
        make_node("-p", argument)


def test_models_are_found_by_name_package_and_home(tmp_path, monkeypatch) -> None:
    shipped = ROOT / "models" / "lemumo-tiny"
    assert model_folder("lemumo-tiny") == shipped
    assert model_folder(str(shipped)) == shipped
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_folder("~/mine") == tmp_path / "mine"
    own = tmp_path / "prefix" / "share" / "my_robot" / "models" / "street"
    own.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'prefix'}")
    assert model_folder("package://my_robot/models/street") == own
    monkeypatch.chdir(tmp_path)
    for model in ("", "lemumo-tny", "package://my_robot/models/rail"):
        with pytest.raises(Fault, match=r"lemumo-tiny|source the setup of my_robot"):
            model_folder(model)
    Path("here").mkdir()
    assert model_folder("here") == Path("here")
