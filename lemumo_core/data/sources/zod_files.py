"""Files of a folder of the Zenseact Open Dataset: the vehicle's motion, and annotated objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.geometry.se3 import interpolate

VISIBLE = {"None": 1.0, "Light": 0.895, "Medium": 0.645, "Heavy": 0.345, "VeryHeavy": 0.095}
"""Occlusion to what is seen at the middle of its range: 0, 1-20, 21-50, 51-80, 81-100 % hidden."""
WITH_SUBCLASSES = ("Vehicle", "VulnerableVehicle", "TrafficSign", "TrafficSignal")
ROTATION = tuple(f"orientation_3d_q{axis}" for axis in "wxyz")
SIZE = ("size_3d_length", "size_3d_width", "size_3d_height")


class ZodObject(NamedTuple):
    """An annotated object.

    Attributes:
        name: its subclass as the development kit has it; empty for one that is unclear.
        region: x_min, y_min, x_max, y_max in the image, pixels.
        pose: centre x, y, z and rotation w, x, y, z in the LiDAR's frame; None without a box.
        size: length, width, height, metres; None without a box.
        visibility: share that is seen, NaN unknown.
    """

    name: str
    region: tuple[float, float, float, float]
    pose: tuple[float, ...] | None
    size: tuple[float, ...] | None
    visibility: float


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        Fault: ``bad_table`` where it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise Fault("bad_table", f"{path} is not JSON: {error}") from None


class EgoMotion:
    """The motion of a vehicle, from ``ego_motion.json``.

    Args:
        path: of the file.

    Raises:
        Fault: ``bad_table``.
    """

    def __init__(self, path: Path):
        self._path, values = path, read_json(path)
        try:
            stamps_ns = np.round(np.array(values["timestamps"], np.float64) * 1e6) * 1000
            self._poses = np.array(values["poses"], np.float64).reshape(-1, 4, 4)
            self._stamps_ns = stamps_ns.astype(np.int64)
            is_rising = bool((np.diff(self._stamps_ns) > 0).all())
        except (KeyError, TypeError, ValueError) as error:
            raise Fault("bad_table", f"{path} holds no motion: {error!r}") from None
        are_poses = len(self._stamps_ns) == len(self._poses) > 1
        if not (are_poses and is_rising and np.isfinite(self._poses).all()):
            raise Fault("bad_table", f"{path} holds no poses at rising times")

    def pose(self, stamp_ns: int) -> np.ndarray:
        """Return the pose of the vehicle, in a frame that does not move, float64 (4, 4).

        Raises:
            Fault: ``bad_table`` where the motion does not reach to that time.
        """
        after = int(np.searchsorted(self._stamps_ns, stamp_ns))
        if not self._stamps_ns[0] <= stamp_ns <= self._stamps_ns[-1]:
            raise Fault(
                "bad_table",
                f"{self._path} reaches from {self._stamps_ns[0]} to {self._stamps_ns[-1]} ns, not "
                f"to {stamp_ns}",
            )
        after = max(after, 1)
        begin, end = self._stamps_ns[after - 1], self._stamps_ns[after]
        fraction = float((stamp_ns - begin) / (end - begin))
        return interpolate(self._poses[after - 1], self._poses[after], fraction)


def read_objects(path: Path) -> list[ZodObject]:
    """Return the objects of ``object_detection.json``.

    Raises:
        Fault: ``bad_labels``, naming the file.
    """
    with contents_of(path, "bad_labels"):
        return [_object(one["properties"], one["geometry"]) for one in read_json(path)]


def _object(values: Mapping[str, Any], geometry: Mapping[str, Any]) -> ZodObject:
    corners = np.array(geometry["coordinates"], np.float64).reshape(-1, 2)
    (x_min, y_min), (x_max, y_max) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    pose, size = None, None
    if "location_3d" in values:
        center: Sequence[float] = values["location_3d"]["coordinates"]
        pose = (*map(float, center), *(float(values[name]) for name in ROTATION))
        size = tuple(float(values[name]) for name in SIZE)
    visibility = VISIBLE.get(str(values.get("occlusion_ratio")), np.nan)
    return ZodObject(_name(values), (x_min, y_min, x_max, y_max), pose, size, visibility)


def _name(values: Mapping[str, Any]) -> str:
    """Return the subclass, as ``ObjectAnnotation`` of the kit has it; empty for an unclear one."""
    name, kind = str(values["class"]), values.get("type")
    if "Inconclusive" in (name, kind) or _is_true(values.get("unclear")):
        return ""
    if name not in WITH_SUBCLASSES:
        return name
    if _is_true(values.get("artificial")):
        return f"{name}_Artificial"
    if (content := values.get("traffic_content_visible")) is not None:
        return f"{name}_{'Front' if _is_true(content) else 'Back'}"
    if (rider := values.get("with_rider")) is not None and not _is_true(rider):
        return f"{name}_NoRider"
    if _is_true(values.get("emergency")) and name == "Vehicle":
        return f"{name}_Emergency"
    return f"{name}_{kind}" if kind else name


def _is_true(value: Any) -> bool:
    """Return what a property says, which is a truth value or a word."""
    return value is True or value == "True"
