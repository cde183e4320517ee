"""The optional packages of lemumo, and the line that installs them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "lemumo_ros"
EXTRA_OF = {
    "DracoPy": "clouds",
    "av": "video",
    "cryptography": "signing",
    "huggingface_hub": "hub",
    "mcap": "bags",
    "mlflow": "mlflow",
    "onnx": "train",
    "onnx_ir": "train",
    "onnxscript": "train",
    "openvino": "openvino",
    "pandas": "pandaset",
    "pyarrow": "bags",
    "ray": "ray",
    "rclpy": "ros",
    "rerun": "rerun",
    "rosbags": "bags",
    "safetensors": "train",
    "scipy": "tracking",
    "spconv": "spconv",
    "tensorboard": "train",
    "tifffile": "rasters",
    "tensorrt": "gpu",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "train",
    "wandb": "wandb",
}
"""Importable package to the extra that brings it."""
BASE = {"cv2": "opencv-python-headless", "jsonargparse": "jsonargparse", "yaml": "pyyaml"}
BASE |= {"numpy": "numpy", "onnxruntime": "onnxruntime"}
"""Importable package to the distribution that brings it, of those that no extra is needed for."""
MESSAGES = (
    *("ffmpeg_image_transport_msgs", "foxglove_msgs", "livox_ros_driver2"),
    *("point_cloud_interfaces", "tf2_msgs", "vision_msgs"),
)
"""Packages of messages that no index has."""


def install_line(extra: str) -> str:
    """Return the command that installs the packages of an extra.

    They are those that the installed lemumo declares, so that the command works wherever lemumo
    came from: an index, a wheel, a clone or a colcon workspace. A clone that is not installed has
    nothing declared, and is to be installed.
    """
    marker = f'extra == "{extra}"'
    packages = [
        line.partition(";")[0].strip() for line in _declared() if marker in line.replace("'", '"')
    ]
    if not packages:
        return f"pip install '.[{extra}]'"
    return " ".join(["pip install", *(f"'{package}'" for package in packages)])


def require(package: str, what: str) -> None:
    """Check that a package of an extra can be imported.

    Args:
        package: a key of ``EXTRA_OF``.
        what: needs it, for the message, e.g. "Feather files need pyarrow".

    Raises:
        ImportError: it is missing, with the line that installs it.
    """
    try:
        __import__(package)
    except ModuleNotFoundError as error:
        line = install_line(EXTRA_OF[package])
        raise ImportError(f"{what} ({error}); install it: {line}") from None


def _declared() -> list[str]:
    """Return what the installed lemumo requires; nothing where it is not installed."""
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def missing_package(error: ImportError) -> str:
    """Return what to say of an import that failed: the package and, where known, the cure."""
    package = (error.name or "").partition(".")[0]
    if "pip install" in str(error):
        return str(error)
    if package in EXTRA_OF:
        return f"{package} is missing: {install_line(EXTRA_OF[package])}"
    if package in BASE:
        name = BASE[package]
        wanted = (line for line in _declared() if line.startswith(name) and "extra ==" not in line)
        return f"{package} is missing: pip install '{next(wanted, name)}'"
    if package in MESSAGES:
        distro = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        return (
            f"{package} is missing: sudo apt install ros-{distro}-{package.replace('_', '-')}; "
            f"where ROS comes from PyPI: python interfaces/build.py {package} in a clone of lemumo"
        )
    return str(error)
