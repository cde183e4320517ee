"""Calibrations in YAML files, as CameraInfo.

camera_calibration writes such a file, and ROS drivers take it as ``camera_info_url``. A CameraInfo
that ``ros2 topic echo --once`` (or ``rostopic echo -n 1``) printed into a file is one, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from lemumo_core.faults import Fault
from lemumo_core.files import read_yaml
from lemumo_core.messages.camera_info import camera_from_info

SHAPES = {
    "camera_matrix": (3, 3),
    "rectification_matrix": (3, 3),
    "projection_matrix": (3, 4),
}
FIELDS = {
    "image_width": "width",
    "image_height": "height",
    "camera_matrix": "k",
    "distortion_coefficients": "d",
    "rectification_matrix": "r",
    "projection_matrix": "p",
}
"""Names of camera_calibration, and the fields of a CameraInfo; those of ROS 1 are capitals."""


@dataclass(frozen=True, eq=False)
class CalibrationInfo:
    """A sensor_msgs/CameraInfo that was read from a file; see there."""

    width: int
    height: int
    distortion_model: str
    d: np.ndarray
    k: np.ndarray
    r: np.ndarray
    p: np.ndarray
    binning_x: int = 0
    binning_y: int = 0
    roi: Any = field(
        default_factory=lambda: SimpleNamespace(
            x_offset=0, y_offset=0, width=0, height=0, do_rectify=False
        )
    )


def read_calibration(path: str | Path) -> CalibrationInfo:
    """Read the calibration of a camera.

    Args:
        path: YAML file with image_width, image_height, camera_matrix, distortion_model,
            distortion_coefficients and, where images are rectified, rectification_matrix and
            projection_matrix; or the fields of a CameraInfo. A ``file://`` in front of the path is
            dropped.

    Raises:
        Fault: ``bad_calibration`` for a file that is missing, no YAML, or lacks a part; as
            ``camera_from_info``, naming the file.
    """
    file = Path(str(path).removeprefix("file://")).expanduser()
    try:
        content = _of_message(read_yaml(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Fault("bad_calibration", f"the calibration {file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise Fault("bad_calibration", f"the calibration {file} holds no names and values")
    try:
        info = CalibrationInfo(
            int(content["image_width"]),
            int(content["image_height"]),
            str(content.get("distortion_model", "plumb_bob")),
            d=_numbers(content, "distortion_coefficients"),
            k=_numbers(content, "camera_matrix"),
            r=_numbers(content, "rectification_matrix"),
            p=_numbers(content, "projection_matrix"),
        )
    except KeyError as error:
        raise Fault("bad_calibration", f"the calibration {file} lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise Fault("bad_calibration", f"the calibration {file}: {error}") from None
    try:
        camera_from_info(info)
    except Fault as fault:
        raise Fault(fault.reason, f"the calibration {file}: {fault}") from None
    return info


def _of_message(content: Any) -> Any:
    """Return the fields of a printed CameraInfo by the names of camera_calibration."""
    if not isinstance(content, dict) or "width" not in content:
        return content
    fields = {field.lower(): value for field, value in content.items()}
    named = {name: fields[field] for name, field in FIELDS.items() if field in fields}
    return {**content, **named}


def _numbers(content: dict[str, Any], name: str) -> np.ndarray:
    """Return the numbers of a matrix, float64 by row; zeros where one that is optional is absent.

    Raises:
        KeyError: it is not there.
        ValueError: it has another number of numbers.
    """
    shape = SHAPES.get(name)
    if name not in content and name in ("rectification_matrix", "projection_matrix"):
        return np.eye(3).ravel() if shape == (3, 3) else np.zeros(12)
    matrix = content[name]
    values = np.array(matrix["data"] if isinstance(matrix, dict) else matrix, np.float64).ravel()
    if shape and values.size != shape[0] * shape[1]:
        raise ValueError(f"{name} has {values.size} numbers, must be {shape[0]}x{shape[1]}")
    return values
