"""The optional packages of lemumo: which extra brings them, and the line that installs it."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution

DISTRIBUTION = "lemumo_ros"
EXTRA_OF = {
    "cryptography": "signing",
    "onnx": "train",
    "onnxscript": "train",
    "openvino": "openvino",
    "pyarrow": "bags",
    "rclpy": "ros",
    "rerun": "rerun",
    "rosbags": "bags",
    "safetensors": "train",
    "tensorboard": "train",
    "tensorrt": "gpu",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "train",
}
"""Extra that brings an importable package."""


def install_line(extra: str) -> str:
    """The command that adds an extra to this installation of lemumo, from where it came.

    That is the folder or wheel that pip remembers (PEP 610), otherwise the package index.
    """
    requirement = f"{DISTRIBUTION}[{extra}]"
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:  # a clone on the path, not installed
        return f"pip install '.[{extra}]'"
    origin = json.loads(text) if text else None
    if origin is None:
        return f"pip install '{requirement}'"
    editable = origin.get("dir_info", {}).get("editable", False)
    if "dir_info" in origin:
        folder = origin["url"].removeprefix("file://")
        return f"pip install {'--editable ' if editable else ''}'{folder}[{extra}]'"
    return f"pip install '{requirement} @ {origin['url']}'"


def missing_package(error: ImportError) -> str:
    """What to say of an import that failed: the package and, where an extra brings it, the cure."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF or "pip install" in str(error):
        return str(error)
    return f"{package} is missing: {install_line(EXTRA_OF[package])}"
