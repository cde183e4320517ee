"""The node's parameters: names, defaults, ranges and meaning, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lemumo_core.geometry.se3 import check_rigid


def _parameter(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    from dataclasses import field

    return field(default=default, metadata={"text": text, "low": low, "high": high})


@dataclass(frozen=True)
class Parameters:
    """Values of the node's parameters, checked."""

    model: str = _parameter("", "folder of the model package")
    public_key: str = _parameter("", "PEM file; packages it did not sign are refused")
    backend: str = _parameter("auto", "auto, or RUNTIME[:PRECISION], e.g. tensorrt:fp16")
    score_threshold: float = _parameter(0.3, "least score of a published detection", 0.0, 1.0)
    output_frame: str = _parameter("", "frame of the published boxes; empty: the camera's")
    camera_name: str = _parameter("camera", "name in diagnostics")
    sync_tolerance_ms: float = _parameter(60.0, "largest stamp difference in a pair", 0.0, 1e4)
    companion_deadline_ms: float = _parameter(
        100.0, "longest wait of an image for its companion", 0.0, 1e4
    )
    max_age_ms: float = _parameter(2000.0, "images older than this are dropped", 1.0, 1e6)
    extrinsics: tuple[float, ...] = _parameter(
        (), "T_camera_companion, 16 numbers by row, instead of /tf_static"
    )
    image_transport: str = _parameter("raw", "raw or compressed")
    overlay_rate_hz: float = _parameter(5.0, "overlay images per second, 0: none", 0.0, 1e4)
    publish_depth_as: str = _parameter("32FC1", "32FC1 (metres) or 16UC1 (millimetres)")
    autostart: bool = _parameter(True, "configure and activate at start")

    def __post_init__(self) -> None:
        choices = {"image_transport": ("raw", "compressed"), "publish_depth_as": ("32FC1", "16UC1")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is '{getattr(self, name)}', must be one of {known}")
        if len(self.extrinsics) not in (0, 16):
            raise ValueError(f"extrinsics has {len(self.extrinsics)} numbers, must have 16 or none")
        _ = self.T_camera_companion  # checks it

    @property
    def T_camera_companion(self) -> np.ndarray | None:
        """The extrinsics as (4, 4), or None."""
        if not self.extrinsics:
            return None
        return check_rigid(np.reshape(self.extrinsics, (4, 4)), "extrinsics")


def declare(node: Any) -> None:
    """Declare all parameters on an rclpy node, typed, described and ranged.

    They are read at ``configure``, and cannot be changed later without another configure.
    """
    from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
    from rclpy.parameter import Parameter

    for entry in fields(Parameters):
        text, low, high = (entry.metadata[key] for key in ("text", "low", "high"))
        descriptor = ParameterDescriptor(description=text)
        if low is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        if entry.name == "extrinsics":  # an empty list would have no type
            node.declare_parameter("extrinsics", Parameter.Type.DOUBLE_ARRAY, descriptor)
        else:
            node.declare_parameter(entry.name, entry.default, descriptor)


def read(node: Any) -> Parameters:
    """Current values.

    Raises:
        ValueError: naming the parameter that makes no sense.
    """
    values = {entry.name: node.get_parameter_or(entry.name).value for entry in fields(Parameters)}
    values["extrinsics"] = tuple(values["extrinsics"] or ())
    return Parameters(**values)
