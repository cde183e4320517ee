"""Which part may import which, held by walking the import graph of the sources; their size and
words. ``python -m tests.helpers.floors`` and ``python -m tests.helpers.private_words`` print what
these tests go by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import floors
from tests.helpers.floors import ON_THE_VEHICLE, READ_BAGS, RULES, TORCH_BACKEND
from tests.helpers.import_graph import below, modules_of
from tests.helpers.paths import ROOT
from tests.helpers.private_words import private_words, words_in


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule) -> None:
    assert rule(ROOT) == []


def test_no_private_word_is_left() -> None:
    assert private_words(ROOT) == {}


def test_the_floors_print(capsys) -> None:
    """Shown with ``pytest -s``, and by ``python -m tests.helpers.floors``."""
    text = floors.as_text(ROOT)
    with capsys.disabled():
        print(f"\n{text}")
    names = [line.split()[0] for line in text.splitlines()]
    assert names.index("lemumo_ros") < names.index("lemumo_core.inference")
    assert names.index("lemumo_core.inference") < names.index("lemumo_core.frame")


@pytest.mark.parametrize("bags", [False, True], ids=["without rosbags", "with rosbags"])
def test_the_vehicle_imports_really_run_without_torch(bags: bool) -> None:
    """Import every vehicle module in a Python in which torch and ROS cannot be imported."""
    vehicle = [name for name in modules_of(ROOT) if below(name, *ON_THE_VEHICLE)]
    modules = [
        name for name in vehicle if name != TORCH_BACKEND and below(name, *READ_BAGS) == bags
    ]
    assert ("lemumo_core.replay.run" if bags else "lemumo_core.frame") in modules
    missing = ["torch", "rclpy", "sensor_msgs", "vision_msgs", *([] if bags else ["rosbags"])]
    program = (
        "import importlib, sys\n"
        f"for name in {missing}:\n"
        "    sys.modules[name] = None\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
    )
    command = [sys.executable, "-c", program, *modules]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# The rules themselves, on a tree that breaks them all.


@pytest.fixture
def fake(tmp_path: Path):
    """A function that writes a module below a temporary root, with the packages around it."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in [path.parent, *path.parent.parents]:
            if folder == tmp_path:
                break
            (folder / "__init__.py").touch()
        path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "line",
    [
        "import rclpy.node",
        "from sensor_msgs.msg import Image",
        "from tf2_ros import Buffer",
        "def f():\n    import cv_bridge",
        "from builtin_interfaces.msg import Time",
        "import rosbags.rosbag2",
        "from lemumo_ros import convert_out",
    ],
)
def test_ros_in_core_is_found(fake, line: str) -> None:
    assert len(floors.ros_in_core(fake("lemumo_core.frame", line))) >= 1


def test_rosbags_may_read_bags(fake) -> None:
    assert floors.ros_in_core(fake("lemumo_core.bags.reader", "import rosbags")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import training.pretrain",
        "from lemumo_core.model import encoder",
        "from lemumo_core.train import loop",
        "def f():\n    from export import to_onnx",
    ],
)
def test_training_in_the_node_is_found(fake, line: str) -> None:
    for name in ("training.pretrain", "export.to_onnx", "lemumo_core.model.encoder"):
        fake(name, "")
    fake("lemumo_core.train.loop", "")
    assert len(floors.training_on_the_vehicle(fake("lemumo_ros.node", line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from lemumo_core.inference.pipeline import Pipeline",
        "from ..inference import pipeline",
        "def f():\n    import lemumo_core.inference.pipeline",
        "if TYPE_CHECKING:\n    from lemumo_core.inference import pipeline",
        "from importlib import import_module\nimport_module('lemumo_core.inference.pipeline')",
    ],
)
def test_an_arrow_up_is_found(fake, line: str) -> None:
    fake("lemumo_core.inference.pipeline", "from lemumo_core.messages import images")
    root = fake("lemumo_core.messages.images", line)
    up = "lemumo_core.messages.images imports lemumo_core.inference.pipeline"
    assert floors.arrows_up(root) == [up]


def test_a_module_on_no_floor_is_found(fake) -> None:
    root = fake("lemumo_core.attic.things", "")
    assert "lemumo_core.attic.things is on no floor" in floors.arrows_up(root)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_circle_is_found(fake, hidden: bool) -> None:
    fake("lemumo_core.data.views", "from lemumo_core.data import crops")
    fake("lemumo_core.data.crops", "from lemumo_core.data.samples import Sample")
    line = "from lemumo_core.data.views import View"
    root = fake("lemumo_core.data.samples", f"def f():\n    {line}" if hidden else line)
    names = "crops", "samples", "views"
    assert floors.circles_of_imports(root) == [
        " <-> ".join(f"lemumo_core.data.{name}" for name in names)
    ]


def test_a_module_that_is_too_long_is_found(fake) -> None:
    fake("lemumo_core.frame", "\n" * floors.MAX_LINES)
    root = fake("lemumo_core.files", "\n" * (floors.MAX_LINES + 1))
    assert floors.long_modules(root) == ["lemumo_core.files: 301 lines"]


def test_private_words_are_found(fake) -> None:
    root = fake("lemumo_core.frame", "class Judge:\n    held_out_frames = 1  # not colour\n")
    assert private_words(root) == {
        "judge": ["lemumo_core/frame.py:1 Judge"],
        "Judge": ["lemumo_core/frame.py:1 Judge"],
        "held_out": ["lemumo_core/frame.py:2 held_out_frames"],
    }
    assert words_in("colorful") == words_in("measured") == words_in("told") == set()
    assert words_in("_told", defined=True) == {"told"} and words_in("ColourMap") == {"colour"}


def test_torch_behind_others_is_found(fake) -> None:
    fake("lemumo_core.preprocess", "from lemumo_core.geometry import camera")
    fake("lemumo_core.geometry.camera", "from ..deep import thing")
    root = fake("lemumo_core.deep", "from torch import nn\nthing = nn")
    chains = [chain.split(" -> ") for chain in floors.torch_on_the_vehicle(root)]
    first = next(chain for chain in chains if chain[0] == "lemumo_core.preprocess")
    assert first[1].startswith("lemumo_core.geometry") and first[-1].startswith("torch")


def test_torch_in_a_package_around_is_found(fake) -> None:
    root = fake("lemumo_core.metrics.depth", "import numpy")
    (root / "lemumo_core" / "__init__.py").write_text("import torch")
    assert floors.torch_on_the_vehicle(root) != []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "import torchless",
    ],
)
def test_lazy_torch_is_allowed(fake, text: str) -> None:
    assert floors.torch_on_the_vehicle(fake("lemumo_core.inference.backend", text)) == []
