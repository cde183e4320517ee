"""Which part may import which, held by walking the import graph of the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

OURS = ("lemumo_core", "lemumo_ros", "training", "export")
ROS = ("rclpy", "launch", "launch_ros", "cv_bridge", "message_filters", "sensor_msgs_py")
ROS_PREFIXES = ("tf2", "rcl_", "rosidl_", "ament_")
ROS_SUFFIXES = ("_msgs", "_interfaces")
ON_THE_VEHICLE = (
    "lemumo_core.frame",
    "lemumo_core.faults",
    "lemumo_core.taxonomy",
    "lemumo_core.geometry",
    "lemumo_core.messages",
    "lemumo_core.depth_projection",
    "lemumo_core.drawing",
    "lemumo_core.evaluation",
    "lemumo_core.progress",
    "lemumo_core.web_page",
    "lemumo_core.preprocess",
    "lemumo_core.inference",
    "lemumo_core.metrics",
)
TORCH_BACKEND = "lemumo_core.inference.backends.torch"  # loaded only when it is chosen
NOT_FOR_THE_NODE = (
    "training",
    "export",
    "lemumo_core.model",
    "lemumo_core.losses",
    "lemumo_core.train",
)


def below(module: str, *parents: str) -> bool:
    """Whether a module is one of the named packages or lies in one."""
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def is_ros(module: str) -> bool:
    """Whether a module belongs to ROS 2."""
    top = module.partition(".")[0]
    return top in ROS or top.startswith(ROS_PREFIXES) or top.endswith(ROS_SUFFIXES)


def modules_of(root: Path) -> dict[str, Path]:
    """All modules of our packages below root, by dotted name."""
    found = {}
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(tree: ast.AST, module_level_only: bool) -> Iterator[ast.AST]:
    """Syntax nodes; on request without function bodies and `if TYPE_CHECKING:` blocks."""
    for child in ast.iter_child_nodes(tree):
        if module_level_only:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
        yield child
        yield from nodes(child, module_level_only)


def imports(name: str, path: Path, module_level_only: bool = False) -> set[str]:
    """Dotted names that one module imports; of `from a import b` both a and a.b."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in nodes(ast.parse(path.read_text(), str(path)), module_level_only):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def with_parents(module: str) -> set[str]:
    """A module and the packages around it: importing it runs their __init__ too."""
    parts = module.split(".")
    return {".".join(parts[: n + 1]) for n in range(len(parts))}


def ros_in_core(root: Path) -> list[str]:
    """Imports of ROS in lemumo_core; rosbags may be used by its data sources."""
    wrong = []
    for name, path in modules_of(root).items():
        for target in sorted(imports(name, path)) if below(name, "lemumo_core") else ():
            bags = below(target, "rosbags") and not below(name, "lemumo_core.data.sources")
            if bags or is_ros(target) or below(target, "lemumo_ros"):
                wrong.append(f"{name} imports {target}")
    return wrong


def training_in_node(root: Path) -> list[str]:
    """Imports of training code in lemumo_ros, wherever in a file they stand."""
    return [
        f"{name} imports {target}"
        for name, path in modules_of(root).items()
        if below(name, "lemumo_ros")
        for target in sorted(imports(name, path))
        if below(target, *NOT_FOR_THE_NODE)
    ]


def torch_on_vehicle(root: Path) -> list[str]:
    """Chains of module-level imports that lead from what the vehicle needs to torch."""
    known = modules_of(root)
    wrong = []
    for start in known:
        if not below(start, *ON_THE_VEHICLE) or start == TORCH_BACKEND:
            continue
        seen, todo = set(), [(start, start)]
        while todo:
            name, chain = todo.pop()
            for module in with_parents(name) & known.keys() - seen:
                seen.add(module)
                for target in sorted(imports(module, known[module], module_level_only=True)):
                    todo.append((target, f"{chain} -> {target}"))
            if below(name, "torch"):
                wrong.append(chain)
                break
    return wrong


@pytest.mark.parametrize("rule", [ros_in_core, training_in_node, torch_on_vehicle])
def test_boundary_holds(rule) -> None:
    assert rule(ROOT) == []


def test_the_vehicle_imports_really_run_without_torch() -> None:
    """Import every vehicle module in a Python in which torch and ROS cannot be imported."""
    vehicle = [name for name in modules_of(ROOT) if below(name, *ON_THE_VEHICLE)]
    modules = [name for name in vehicle if name != TORCH_BACKEND]
    assert "lemumo_core.frame" in modules
    program = (
        "import importlib, sys\n"
        "for name in ('torch', 'rclpy', 'sensor_msgs', 'vision_msgs', 'rosbags'):\n"
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
    assert len(ros_in_core(fake("lemumo_core.frame", line))) >= 1


def test_rosbags_may_feed_a_source(fake) -> None:
    assert ros_in_core(fake("lemumo_core.data.sources.bags", "import rosbags")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import training.pretrain",
        "from lemumo_core import model",
        "from lemumo_core.train import engine",
        "def f():\n    from export import to_onnx",
    ],
)
def test_training_in_the_node_is_found(fake, line: str) -> None:
    assert len(training_in_node(fake("lemumo_ros.node", line))) >= 1


def test_torch_behind_others_is_found(fake) -> None:
    fake("lemumo_core.preprocess", "from lemumo_core.geometry import camera")
    fake("lemumo_core.geometry.camera", "from ..deep import thing")
    root = fake("lemumo_core.deep", "from torch import nn\nthing = nn")
    chains = [chain.split(" -> ") for chain in torch_on_vehicle(root)]
    first = next(chain for chain in chains if chain[0] == "lemumo_core.preprocess")
    assert first[1].startswith("lemumo_core.geometry") and first[-1].startswith("torch")


def test_torch_in_a_package_around_is_found(fake) -> None:
    root = fake("lemumo_core.metrics.depth", "import numpy")
    (root / "lemumo_core" / "__init__.py").write_text("import torch")
    assert torch_on_vehicle(root) != []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "import torchless",
    ],
)
def test_lazy_torch_is_allowed(fake, text: str) -> None:
    assert torch_on_vehicle(fake("lemumo_core.inference.backend", text)) == []
