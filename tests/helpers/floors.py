"""The floors of the house: an import goes only down this list. Run it to print them.

python -m tests.helpers.floors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.helpers.import_graph import below, circles, imported_names, imports_of_ours, modules_of
from tests.helpers.paths import ROOT

CORE = (
    ("cli", "api"),
    ("label",),
    ("replay",),
    ("export",),
    ("train",),
    ("methods",),
    ("evaluation",),
    ("streaming", "sharing"),
    ("inference",),
    ("model",),
    ("losses",),
    ("data",),
    ("world",),
    ("bags",),
    (
        *("metrics", "preprocess", "depth_projection", "picture_projection", "image_scaling"),
        *("drawing", "web_page", "plots"),
    ),
    ("messages", "frame", "geometry"),
    ("executor",),
    ("folders",),
    (
        *("distributed", "files", "faults", "progress", "taxonomy", "command_line", "extras"),
        *("signals", "wording", "wrong_values"),
    ),
)
FLOORS = (
    ("lemumo_ros", "training", "export"),
    *(tuple(f"lemumo_core.{name}" for name in floor) for floor in CORE),
)
"""From the top; packages of one floor may import each other, but not in a circle."""

FOR_TRAINING = ("export", "train", "methods", "model", "losses", "data", "world", "distributed")
ON_THE_VEHICLE = tuple(
    package
    for floor in FLOORS[FLOORS.index(("lemumo_core.replay",)) :]
    for package in floor
    if package.partition(".")[2] not in FOR_TRAINING
)
TORCH_BACKEND = "lemumo_core.inference.backends.torch"  # loaded only when it is chosen
NOT_FOR_THE_VEHICLE = ("training", "lemumo_core.train", "lemumo_core.methods", "lemumo_core.losses")
NOT_FOR_THE_NODE = (*NOT_FOR_THE_VEHICLE, "export", "lemumo_core.export", "lemumo_core.model")

ROS = ("rclpy", "launch", "launch_ros", "cv_bridge", "message_filters", "sensor_msgs_py")
ROS_PREFIXES = ("tf2", "rcl_", "rosidl_", "ament_")
ROS_SUFFIXES = ("_msgs", "_interfaces")
READ_BAGS = ("lemumo_core.bags", "lemumo_core.replay")
MAX_LINES = 300


def floor_of(module: str) -> int | None:
    """Number of a module's floor, 0 at the top; None where it has none."""
    if module == "lemumo_core":  # its functions load what they need
        return 0
    return next((i for i, floor in enumerate(FLOORS) if below(module, *floor)), None)


def is_ros(module: str) -> bool:
    """Whether a module belongs to ROS 2."""
    top = module.partition(".")[0]
    return top in ROS or top.startswith(ROS_PREFIXES) or top.endswith(ROS_SUFFIXES)


def arrows_up(root: Path) -> list[str]:
    """Imports of a higher floor, and modules that are on none."""
    wrong = []
    for name, targets in imports_of_ours(root).items():
        ours = floor_of(name)
        if ours is None:
            wrong.append(f"{name} is on no floor")
            continue
        wrong += [
            f"{name} imports {t}"
            for t in sorted(targets)
            if (floor_of(t) or 0) < ours and t != "lemumo_core"
        ]
    return wrong


def circles_of_imports(root: Path) -> list[str]:
    """Groups of modules that import each other."""
    graph = imports_of_ours(root)
    graph["lemumo_core"] = set()
    return [" <-> ".join(group) for group in circles(graph)]


def long_modules(root: Path) -> list[str]:
    """Modules of more than ``MAX_LINES`` lines."""
    lines = {name: len(path.read_text().splitlines()) for name, path in modules_of(root).items()}
    return [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_LINES]


def ros_in_core(root: Path) -> list[str]:
    """Imports of ROS in lemumo_core, and of rosbags outside what reads and writes bags."""
    return [
        f"{name} imports {target}"
        for name, path in modules_of(root).items()
        if below(name, "lemumo_core")
        for target in sorted(imported_names(name, path))
        if is_ros(target)
        or below(target, "lemumo_ros")
        or (below(target, "rosbags") and not below(name, *READ_BAGS))
    ]


def training_on_the_vehicle(root: Path) -> list[str]:
    """Imports of training code in what the vehicle runs, wherever in a file they stand."""
    parts = ((ON_THE_VEHICLE, NOT_FOR_THE_VEHICLE), (("lemumo_ros",), NOT_FOR_THE_NODE))
    return [
        f"{name} imports {target}"
        for name, targets in imports_of_ours(root).items()
        for packages, forbidden in parts
        if below(name, *packages)
        for target in sorted(targets)
        if below(target, *forbidden)
    ]


def with_parents(module: str) -> set[str]:
    """A module and the packages around it: importing it runs their __init__ too."""
    parts = module.split(".")
    return {".".join(parts[: n + 1]) for n in range(len(parts))}


def torch_on_the_vehicle(root: Path) -> list[str]:
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
                for target in sorted(imported_names(module, known[module], True)):
                    todo.append((target, f"{chain} -> {target}"))
            if below(name, "torch"):
                wrong.append(chain)
                break
    return wrong


RULES: tuple[Callable[[Path], list[str]], ...] = (
    arrows_up,
    circles_of_imports,
    long_modules,
    ros_in_core,
    training_on_the_vehicle,
    torch_on_the_vehicle,
)


def as_text(root: Path) -> str:
    """The floors from the top, with the modules and lines of each package and what it imports."""
    known, graph = modules_of(root), imports_of_ours(root)
    lines = []
    for floor in FLOORS:
        for package in floor:
            modules = [name for name in known if below(name, package)]
            if not modules:
                continue
            size = sum(len(known[name].read_text().splitlines()) for name in modules)
            used = packages_used(modules, graph)
            numbers = f"{len(modules):3} modules {size:6} lines"
            lines.append(f"{package:30} {numbers}  {' '.join(used)}")
    return "\n".join(lines)


def packages_used(modules: list[str], graph: Mapping[str, set[str]]) -> list[str]:
    """Packages of other floors, or beside, that these modules import, in the order of floors."""
    targets = {target for name in modules for target in graph[name]} - set(modules)
    return [
        package.removeprefix("lemumo_core.")
        for floor in FLOORS
        for package in floor
        if any(below(target, package) for target in targets)
    ]


if __name__ == "__main__":
    print(as_text(ROOT))
