"""Make .venv hold all that lemumo's tests, demo and benchmarks need. `make setup` runs this.

Does nothing when the last run finished and nothing it depends on has changed since. Safe to
interrupt: the stamp that says "finished" is written last. Only the standard library is used.

TORCH=cpu or TORCH=cuda in the environment overrides the choice of the PyTorch build.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "lemumo_setup.stamp"
OLDEST_PYTHON = (3, 10)
TORCH_CPU = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# A test oracle whose own requirements (numpy 1) must not decide ours; with what it imports.
ORACLE = "nuscenes-devkit==1.2.0"
ORACLE_NEEDS = ("cachetools", "matplotlib", "pyquaternion", "scikit-learn", "tqdm")


class SetupError(Exception):
    """Setup cannot go on; the message says what to do."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def apt_ros() -> str | None:
    """Name of the sourced ROS distribution, None where there is none."""
    distro = os.environ.get("ROS_DISTRO")
    return distro if distro and importlib.util.find_spec("rclpy") else None


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver is loaded (the second file is a Jetson's)."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvhost-gpu").exists()


def torch_flavour() -> tuple[str, str]:
    """Which PyTorch build to take, 'cuda' or 'cpu', and why."""
    wanted = os.environ.get("TORCH", "")
    if wanted:
        if wanted not in ("cpu", "cuda"):
            raise SetupError(f"TORCH={wanted} is not known; use TORCH=cpu or TORCH=cuda")
        return wanted, "asked for by TORCH"
    if nvidia_driver():
        return "cuda", "an NVIDIA driver is loaded"
    return "cpu", "no NVIDIA driver is loaded"


def fingerprint() -> str:
    """A hash of everything the environment is made from."""
    sources = [ROOT / name for name in ("package.xml", "pyproject.toml", "setup.py")]
    sources += [Path(__file__), ROOT / "interfaces" / "build.py"]
    sources += sorted((ROOT / "interfaces").glob("*/msg/*.msg"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    facts = (sys.version, str(VENV), apt_ros(), torch_flavour()[0])
    digest.update(repr(facts).encode())
    return digest.hexdigest()


def run(*command: object, capture: bool = False) -> str:
    """Run a program of the environment; raise SetupError when it fails."""
    # Started from a Python with ROS wheels, ours would inherit the other's library path.
    inherited = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONHOME")
    guarded = "_ROS_WHEELS_BOOTSTRAP_COMPLETE" in os.environ
    env = {k: v for k, v in os.environ.items() if not (guarded and k in inherited)}
    arguments = [str(part) for part in command]
    result = subprocess.run(
        arguments, cwd=ROOT, env=env, stdout=subprocess.PIPE if capture else None
    )
    if result.returncode:
        raise SetupError(f"this failed (exit {result.returncode}): {' '.join(arguments)}")
    return result.stdout.decode() if capture else ""


def pip(*arguments: str, capture: bool = False) -> str:
    quiet = ("-qq", "--disable-pip-version-check")  # errors only
    return run(PYTHON, "-m", "pip", arguments[0], *quiet, *arguments[1:], capture=capture)


def make_environment(system_packages: bool) -> None:
    """Create .venv, or keep the one that is there when it fits."""
    if venv_fits(system_packages):
        return
    if VENV.exists():
        say(f"replacing {VENV}: it is incomplete or of another Python")
        shutil.rmtree(VENV)
    say(f"creating {VENV} with Python {platform.python_version()}")
    options = ["--system-site-packages"] if system_packages else []
    try:
        run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", *options, VENV)
    except SetupError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"{error}\non Debian and Ubuntu: apt install python{version}-venv"
        ) from None


def venv_fits(system_packages: bool) -> bool:
    """Whether .venv works, is of this Python version and sees the system's packages as wanted."""
    config = VENV / "pyvenv.cfg"
    if not config.exists():
        return False
    text = config.read_text().lower()
    sees_system = "include-system-site-packages = true" in text
    if f"version = {platform.python_version()}" not in text or sees_system != system_packages:
        return False
    check = [str(PYTHON), "-m", "pip", "--version"]
    try:
        return subprocess.run(check, capture_output=True).returncode == 0
    except OSError:
        return False


def default_torch_is_cuda() -> bool:
    """Whether the package index would hand out a CUDA build for TORCH_CPU on this machine."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return False  # elsewhere the plain wheel is the CPU (or Apple, or Jetson) one
    report = pip("install", "--dry-run", "--no-deps", "--report", "-", TORCH_CPU, capture=True)
    taken = json.loads(report)["install"]
    return any(not item["metadata"]["version"].endswith("+cpu") for item in taken)


def install_torch() -> None:
    """Install the build that fits the machine, never gigabytes of CUDA where no GPU is."""
    flavour, reason = torch_flavour()
    say(f"PyTorch: the {flavour} build, because {reason} (TORCH=cpu|cuda overrides)")
    if flavour == "cuda":
        if list(VENV.glob("lib/python*/site-packages/torch-*+cpu.dist-info")):
            run(PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "torch")
        pip("install", "torch")
    elif default_torch_is_cuda():
        try:
            pip("install", "--index-url", TORCH_CPU_INDEX, TORCH_CPU)
        except SetupError as error:
            hint = "TORCH=cuda takes the package index's own build, which brings gigabytes of CUDA"
            raise SetupError(f"{error}\n{hint}") from None
    else:
        pip("install", TORCH_CPU)


def install_packages(distro: str | None) -> None:
    """Install lemumo itself, editable, with what its extras name."""
    extras = (
        "train,bags,video,clouds,rasters,pandaset,ray,rerun,tracking,signing,hub,"
        "openvino,tensorrt-rtx,mlflow,wandb,dev,docs,test"
    )
    extras += "" if distro else ",ros"
    say(f"installing lemumo with [{extras}]; the first time this takes a minute or two")
    limits = []
    if distro and system_numpy_is_old():
        limits = ["numpy<2"]  # apt's message packages are compiled against numpy 1
    pip("install", "--editable", f".[{extras}]", *limits)
    try:
        pip("install", *ORACLE_NEEDS, *limits)
        pip("install", "--no-deps", ORACLE)
    except SetupError as error:
        say(f"going on without the nuScenes devkit; tests against it will be skipped ({error})")


def system_numpy_is_old() -> bool:
    """Whether the system's numpy, which apt's ROS was compiled against, is older than 2."""
    try:
        return int(importlib.metadata.version("numpy").split(".")[0]) < 2
    except importlib.metadata.PackageNotFoundError:
        return False


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        found = platform.python_version()
        print(f"setup: Python {oldest} or newer is needed, this is {found}; for instance:")
        print("    make setup PYTHON=python3.12")
        return 1
    try:
        wanted = fingerprint()
        if STAMP.exists() and STAMP.read_text() == wanted:
            return 0
        started = time.monotonic()
        STAMP.unlink(missing_ok=True)
        distro = apt_ros()
        make_environment(system_packages=bool(distro))
        say(f"ROS 2: {distro + ' from this system' if distro else 'from wheels'}")
        install_torch()
        install_packages(distro)
        run(PYTHON, "interfaces/build.py")
        STAMP.write_text(wanted)
        say(f"done in {time.monotonic() - started:.0f} s")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
