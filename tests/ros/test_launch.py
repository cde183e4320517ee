"""The launch files, configuration and layouts agree with each other and with what is installed.

The launch libraries are absent where ROS comes from wheels, so small stand-ins of them record what
a launch file asks for. Where the real ones are installed, they load the files too.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import pytest
import yaml

from lemumo_core.cli.replay import replay as replay_bags
from lemumo_core.command_line import CommandLine
from lemumo_ros.parameters import Parameters, parameter_fields
from tests.helpers.paths import ROOT
from tests.helpers.small_frames import small_frames

INPUTS = ("image", "camera_info", "points", "thermal")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture(scope="module")
def installed() -> dict:
    """Return what setup.py hands to setuptools, with data_files as {source: target folder}."""
    setuptools = pytest.importorskip("setuptools")
    asked: dict = {}
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.chdir(ROOT)
        context.setattr(setuptools, "setup", lambda **options: asked.update(options))
        runpy.run_path("setup.py")
    asked["files"] = {path: target for target, paths in asked["data_files"] for path in paths}
    return asked


INSTALLED: dict[str, str] = {}
"""ROS packages that the stand-in of the index has, and their prefixes."""


def recorder(kind: str):
    """A stand-in for a launch action: keeps what it was made from."""
    return lambda *args, **options: SimpleNamespace(kind=kind, args=args, **options)


def stand_ins() -> dict[str, ModuleType]:
    """The modules a launch file imports, by name."""
    names = ("launch", "launch.actions", "launch.substitutions", "launch_ros", "launch_ros.actions")
    names += ("ament_index_python", "ament_index_python.packages")
    modules: dict = {name: ModuleType(name) for name in names}
    modules["launch"].LaunchDescription = list
    for kind in ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction"):
        setattr(modules["launch.actions"], kind, recorder(kind))
    modules["launch.substitutions"].LaunchConfiguration = lambda name: SimpleNamespace(
        perform=lambda context: context[name]
    )
    modules["launch_ros.actions"].Node = recorder("Node")
    index = modules["ament_index_python.packages"]
    index.PackageNotFoundError, index.get_package_prefix = KeyError, INSTALLED.__getitem__
    return modules


class Launched:
    """One launch file, run with stand-ins for the launch libraries."""

    def __init__(self, name: str, patch: pytest.MonkeyPatch):
        with patch.context() as context:
            for module_name, module in stand_ins().items():
                context.setitem(sys.modules, module_name, module)
            launch_file = runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))
        self.actions = launch_file["generate_launch_description"]()
        declared = [a for a in self.actions if a.kind == "DeclareLaunchArgument"]
        self.arguments = {action.args[0]: action.default_value for action in declared}
        self.descriptions = [action.description for action in declared]

    @property
    def environment(self) -> dict[str, str]:
        """What is set for the node's process alone; nothing may leak into an including file."""
        assert {action.kind for action in self.actions} == {
            "DeclareLaunchArgument",
            "OpaqueFunction",
        }
        given = {"bag": "b"} if "bag" in self.arguments else {}
        return self.node(**given).additional_env

    def node(self, **given: str) -> SimpleNamespace:
        """The node that is started with the given arguments."""
        (node,) = self.started(**given)
        assert node.kind == "Node"
        return node

    def started(self, **given: str) -> list[SimpleNamespace]:
        """All that is started with the given arguments."""
        assert given.keys() <= self.arguments.keys()
        context = {**self.arguments, **given}
        (function,) = (a.function for a in self.actions if a.kind == "OpaqueFunction")
        return function(context)


@pytest.fixture(params=["perception", "replay"])
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Launched:
    for variable in (*PROFILE_VARIABLES, "ROS_DISTRO"):
        monkeypatch.delenv(variable, raising=False)
    return Launched(request.param, monkeypatch)


@pytest.fixture
def perception(monkeypatch: pytest.MonkeyPatch) -> Launched:
    return Launched("perception", monkeypatch)


def test_every_argument_says_what_it_is(launched: Launched) -> None:
    expected = {"model"} | (
        {"bag", "out"}
        if "bag" in launched.arguments
        else {*INPUTS, "params_file", "use_sim_time", "log_level"}
    )
    assert expected <= set(launched.arguments)
    assert all(len(text) > 10 for text in launched.descriptions)


def test_the_executable_is_installed_and_runs(launched: Launched, installed: dict) -> None:
    node = launched.node(bag="b") if "bag" in launched.arguments else launched.node()
    script = ROOT / "scripts" / node.executable
    assert node.package == installed["name"]
    assert installed["files"][f"scripts/{node.executable}"] == f"lib/{installed['name']}"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    (entry,) = (n for n in ast.parse(script.read_text()).body if isinstance(n, ast.ImportFrom))
    assert entry.module.partition(".")[0] in installed["packages"]


@pytest.mark.parametrize("name", ["demo_bag", "replay"])
def test_programs_name_a_package_that_rosdep_does_not_know(name: str) -> None:
    code = (
        "import runpy, sys; sys.modules['jsonargparse'] = None\n"
        f"sys.argv = ['{name}', '/bag']; runpy.run_path({str(ROOT / 'scripts' / name)!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith(f"lemumo {name}: jsonargparse is missing: pip install 'jsonarg")


def test_the_files_it_names_are_installed(launched: Launched, installed: dict) -> None:
    parameters = [launched.arguments["params_file"]] if "bag" not in launched.arguments else []
    named = [*parameters, *launched.environment.values()]
    for path in named:
        source = Path(path).relative_to(ROOT)
        assert (ROOT / source).is_file()
        # The launch file looks for them in the folder above its own, here and once installed.
        share = installed["files"]["package.xml"]
        assert installed["files"][str(source)] == f"{share}/{source.parent}"


def test_inputs_are_remapped(perception: Launched) -> None:
    node = perception.node(image="/front/image", points="/top/points")
    remapped = dict(node.remappings)
    assert {f"~/input/{name}" for name in INPUTS} <= remapped.keys()
    assert remapped["~/input/image"] == "/front/image"
    assert remapped["~/input/image/compressed"] == "/front/image/compressed"
    assert remapped["~/input/points"] == "/top/points"


def test_transports_and_several_lidars(perception: Launched) -> None:
    """Topics beside the plain ones, which may be given themselves; points of LiDARs by commas."""
    given = {"image": "/front/video/ffmpeg", "image_transport": "ffmpeg"}
    given |= {"points": "/top/points, /rear/points/draco", "points_transport": "draco"}
    node = perception.node(camera_info_url="package://rig/{camera}.yaml", **given)
    remapped = dict(node.remappings)
    assert remapped["~/input/image/ffmpeg"] == "/front/video/ffmpeg"
    assert remapped["~/input/lidar_1/points/draco"] == "/top/points/draco"
    assert remapped["~/input/lidar_2/points/draco"] == "/rear/points/draco"
    assert node.parameters[1] == {
        "image_transport": "ffmpeg",
        "points_transport": "draco",
        "lidars": ["lidar_1", "lidar_2"],
        "camera_info_url": "package://rig/camera.yaml",
    }
    assert dict(perception.node(image="/video").remappings)["~/input/image/foxglove"] == "/video"


def test_arguments_override_the_file_only_when_given(perception: Launched) -> None:
    # Without use_sim_time, which SetUseSimTime or the file decide.
    assert perception.node().parameters == [str(ROOT / "config" / "lemumo.yaml")]
    given = {"model": "/m", "output_frame": "map", "compressed": "true", "autostart": "False"}
    given |= {"score_threshold": "0.5", "backend": "torch", "overlay_rate_hz": "0"}
    given |= {"sync_tolerance_ms": "30", "companion_deadline_ms": "50.5"}
    file, values = perception.node(params_file="/p.yaml", use_sim_time="true", **given).parameters
    assert file == "/p.yaml"
    assert values == {
        "model": "/m",
        "output_frame": "map",
        "image_transport": "compressed",
        "autostart": False,
        "use_sim_time": True,
        "score_threshold": 0.5,
        "backend": "torch",
        "overlay_rate_hz": 0.0,
        "sync_tolerance_ms": 30.0,
        "companion_deadline_ms": 50.5,
    }
    assert type(values["overlay_rate_hz"]) is float


def test_many_cameras_have_their_topics_from_patterns(perception: Launched) -> None:
    node = perception.node(cameras="front,left", points="/top/points", camera_info="/{camera}/info")
    remapped = dict(node.remappings)
    assert remapped["~/input/front/image"] == "/front/image_raw"
    assert remapped["~/input/left/image/compressed"] == "/left/image_raw/compressed"
    assert remapped["~/input/left/camera_info"] == "/left/info"
    assert remapped["~/input/points"] == "/top/points"
    assert "~/input/image" not in remapped
    assert node.parameters[1]["cameras"] == ["front", "left"]
    assert ("~/input/image", "/camera/image_raw") in perception.node().remappings
    with pytest.raises(ValueError, match=r"image:=/cam/image .*{camera}"):
        perception.node(cameras="front,left", image="/cam/image")


def test_a_wrong_flag_is_an_error(perception: Launched) -> None:
    with pytest.raises(ValueError, match="compressed:=yes"):
        perception.node(compressed="yes")


def test_replay_wants_a_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Launched("replay", monkeypatch)
    assert replay.arguments["bag"] is None  # launch itself asks for an argument without default
    parser = CommandLine()
    parser.add_function(replay_bags)
    offline = parser.parse_args(replay.node(bag="/b", model="/m", out="/o").arguments)
    assert (offline.bags, offline.model, offline.out) == (["/b"], Path("/m"), "/o")
    assert not offline.live
    more = replay.node(bag="/b", model="/m", options='--workers 2 --image "/a b"').arguments
    more = parser.parse_args(more)
    assert (more.workers, more.image, more.model) == (2, "/a b", Path("/m"))
    live = parser.parse_args(replay.node(bag="/b", live="true", rate="0.5").arguments)
    assert (live.bags, live.live, live.rate) == (["/b"], True, 0.5)


def test_the_demo_plays_a_bag_to_the_node_and_a_viewer(monkeypatch, tmp_path) -> None:
    pytest.importorskip("rosbags", reason="writing a bag needs: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag
    from lemumo_ros.demo_bag import main

    write_bag(small_frames(2), tmp_path / "bag")

    def run(command: list[str], **options) -> SimpleNamespace:
        """The program that launch starts, in this process."""
        assert command[0] == str(ROOT / "scripts" / "demo_bag") and os.access(command[0], os.X_OK)
        assert command[-2:] == ["--model", "lemumo-tiny"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(command[1:]) == 0
        return SimpleNamespace(stdout=printed.getvalue())

    demo = Launched("demo", monkeypatch)
    monkeypatch.setattr(subprocess, "run", run)
    bag = str(tmp_path / "bag")
    node, player, *viewer = demo.started(bag=bag, viewer="none")
    remapped = dict(node.remappings)
    assert remapped["~/input/image"] == "/camera/image_raw" and not viewer
    assert remapped["~/input/points"] == "/lidar/points"
    assert node.parameters[1] == {"model": "lemumo-tiny", "use_sim_time": True}
    parser = CommandLine()
    parser.add_function(replay_bags)
    played = parser.parse_args(player.arguments)
    assert (played.bags, played.live, played.loop, played.rate) == ([bag], True, True, 0.5)

    *_, hint = demo.started(bag=bag)
    assert hint.kind == "LogInfo" and "neither rviz2 nor foxglove_bridge" in hint.msg
    monkeypatch.setitem(INSTALLED, "foxglove_bridge", "/opt/ros/kilted")
    *_, bridge, hint = demo.started(bag=bag)
    assert bridge.package == "foxglove_bridge" and Path(hint.msg.split()[-1]).is_file()
    monkeypatch.setitem(INSTALLED, "rviz2", "/opt/ros/kilted")
    *_, rviz = demo.started(bag=bag)
    assert rviz.package == "rviz2" and Path(rviz.arguments[1]).is_file()
    with pytest.raises(ValueError, match="viewer:=rqt"):
        demo.started(bag=bag, viewer="rqt")


@pytest.mark.parametrize("distro, variables", [("jazzy", 2), ("kilted", 1), (None, 1)])
def test_transports_are_selected(monkeypatch, distro: str | None, variables: int) -> None:
    for name in (*PROFILE_VARIABLES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    if distro:
        monkeypatch.setenv("ROS_DISTRO", distro)
    chosen = Launched("perception", monkeypatch).environment
    assert list(chosen) == list(PROFILE_VARIABLES[:variables])


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_the_users_transports_win(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/mine.xml")
    assert Launched("perception", monkeypatch).environment == {}


def test_the_dds_profile_takes_megabytes() -> None:
    tree = ElementTree.parse(ROOT / "config" / "fastdds.xml").getroot()
    name = "{http://www.eprosima.com}"
    (segment,) = tree.iter(f"{name}segment_size")
    assert int(segment.text) >= 16 << 20  # the largest point cloud and image, and then some
    described = {item.text for item in tree.iter(f"{name}transport_id")}
    (participant,) = tree.iter(f"{name}participant")
    used = {item.text for item in participant.iter(f"{name}transport_id")}
    assert used == described and len(used) == 2
    assert participant.get("is_default_profile") == "true"


def test_the_parameter_file_names_what_the_node_declares() -> None:
    parameters = yaml.safe_load((ROOT / "config" / "lemumo.yaml").read_text())
    (values,) = (part["ros__parameters"] for part in parameters.values())
    defaults = {field.name: field.default for field in parameter_fields(Parameters)}
    assert values == {name: value for name, value in defaults.items() if value != ()}


def test_layouts_show_topics_of_the_node() -> None:
    shown = set()
    foxglove = json.loads((ROOT / "foxglove" / "lemumo.json").read_text())
    for panel in foxglove["configById"].values():
        shown |= set(panel.get("topics", {})) | {panel.get("imageMode", {}).get("imageTopic")}
    rviz = yaml.safe_load((ROOT / "rviz" / "lemumo.rviz").read_text())
    displays = rviz["Visualization Manager"]["Displays"]
    rviz_topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    outputs = {
        f"/perception/output/{name}" for name in ("depth/image_raw", "labels_colored", "markers")
    }
    # RViz names the raw topic even where its image display takes another transport.
    assert outputs | {"/perception/output/overlay"} <= rviz_topics
    assert outputs | {"/perception/output/overlay/compressed"} <= shown
    panels = set(foxglove["configById"])
    assert all(name in panels for name in leaves(foxglove["layout"]))


def leaves(layout: dict | str) -> list[str]:
    """Panel names of a Foxglove layout tree."""
    if isinstance(layout, str):
        return [layout]
    return leaves(layout["first"]) + leaves(layout["second"])


def test_the_package_is_one_that_colcon_takes(installed: dict) -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("export/build_type") == "ament_python"
    assert (package.findtext("name"), package.findtext("version")) == (
        installed["name"],
        installed["version"],
    )
    depends = {item.text for item in package.iter("exec_depend")}
    assert {"rclpy", "vision_msgs", "tf2_msgs", "launch_ros", "python3-numpy"} <= depends
    assert {"builtin_interfaces", "python3-onnxruntime-pip"} <= depends
    assert not depends & {"tf2_ros", "sensor_msgs_py"}  # only tests use them
    assert "pytest" in installed["extras_require"]["test"]  # where `colcon test` looks
    assert f"resource/{installed['name']}" in installed["files"]
    catkin = importlib.util.find_spec("catkin_pkg")
    if catkin:  # a mistake here makes colcon treat the package as plain Python, without a word
        from catkin_pkg.package import parse_package

        parse_package(str(ROOT / "package.xml")).validate()


def test_only_our_packages_are_installed_and_all_of_them(installed: dict) -> None:
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for name in ("lemumo_core", "lemumo_ros")
        for path in (ROOT / name).rglob("*.py")
    }
    assert set(installed["packages"]) == folders  # a folder without __init__.py would be left out


@pytest.mark.parametrize("name", ["perception", "replay", "demo"])
def test_the_real_launch_libraries_load_it(name: str) -> None:
    for library in ("launch", "launch_ros"):
        spec = importlib.util.find_spec(library)
        if spec is None or spec.origin is None:  # our own folder launch/ is no library
            pytest.skip(f"{library} is not installed")
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    path = str(ROOT / "launch" / f"{name}.launch.py")
    description = get_launch_description_from_python_launch_file(path)
    arguments = {argument.name for argument in description.get_launch_arguments()}
    expected = {"perception": {*INPUTS, "model", "params_file"}, "replay": {"bag", "options"}}
    expected["demo"] = {"bag", "model", "viewer"}
    assert expected[name] <= arguments
