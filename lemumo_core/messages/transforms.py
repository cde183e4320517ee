"""Where frames are: the newest transforms of /tf and /tf_static, composed along any chain."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import check_rigid, inverse, make_T, rotation_from_quaternion

NORM_TOLERANCE = 1e-3
"""How far the norm of a quaternion may be off."""


def transform_to_matrix(msg: Any) -> np.ndarray:
    """A geometry_msgs/Transform to float64 (4, 4); the quaternion is normalised.

    Raises:
        Fault: ``bad_transform`` for a number that is not finite or a quaternion whose norm is off
            by more than ``NORM_TOLERANCE``.
    """
    t = np.array([msg.translation.x, msg.translation.y, msg.translation.z], np.float64)
    q = np.array([msg.rotation.w, msg.rotation.x, msg.rotation.y, msg.rotation.z], np.float64)
    norm = math.hypot(*q)
    if not np.isfinite(t).all() or not abs(norm - 1) <= NORM_TOLERANCE:
        raise Fault(
            "bad_transform",
            f"translation {t.tolist()}, quaternion (w, x, y, z) {q.tolist()} of norm {norm:.6g}: "
            "needs finite numbers and a norm of 1",
        )
    w, x, y, z = (q / norm).tolist()
    return make_T(rotation_from_quaternion(w, x, y, z), t)


class TransformBuffer:
    """A graph of frames; one thread may fill it while others ask.

    It holds the newest transform of every frame, without history: for sensors that are fixed to
    each other, which is what calibration is.

    Attributes:
        version: grows whenever a transform changes, so that callers know when what they
            computed from a lookup is out of date.
    """

    def __init__(self) -> None:
        self.version = 0
        self._edges: dict[str, tuple[str, np.ndarray]] = {}  # child to (parent, T_parent_child)
        self._lock = threading.Lock()

    def set(self, parent: str, child: str, T_parent_child: np.ndarray) -> None:
        """Set one transform; as in TF, a frame has one parent, and a new one replaces the old.

        Args:
            parent, child: frame names; a leading '/' is dropped.
            T_parent_child: (4, 4), maps points in child to parent.

        Raises:
            Fault: ``bad_transform`` for an empty name, a frame that is its own parent, or a
                matrix that is not a rigid transform.
        """
        parent, child = _name(parent), _name(child)
        if not parent or not child or parent == child:
            raise Fault("bad_transform", f"transform from '{child}' to '{parent}' needs two frames")
        T = check_rigid(T_parent_child, f"transform from '{child}' to '{parent}'").copy()
        T.flags.writeable = False
        with self._lock:
            old = self._edges.get(child)
            if old is None or old[0] != parent or not np.array_equal(old[1], T):
                # Replaced, never changed in place: a lookup under way keeps the old graph.
                self._edges = {**self._edges, child: (parent, T)}
                self.version += 1

    def add(self, msg: Any) -> None:
        """Take in a tf2_msgs/TFMessage; its good transforms count even where others are bad.

        Raises:
            Fault: ``bad_transform``, the first one.
        """
        fault: Fault | None = None
        for stamped in msg.transforms:
            parent, child = stamped.header.frame_id, stamped.child_frame_id
            try:
                self.set(parent, child, transform_to_matrix(stamped.transform))
            except Fault as error:
                fault = fault or Fault(error.reason, f"transform '{child}' to '{parent}': {error}")
        if fault:
            raise fault

    def edges(self) -> list[tuple[str, str, np.ndarray]]:
        """Every transform as (parent, child, T_parent_child), as ``set`` takes them."""
        return [(parent, child, T) for child, (parent, T) in self._edges.items()]

    def lookup(self, target: str, source: str) -> np.ndarray:
        """The transform that maps points in source to target: float64 (4, 4) T_target_source.

        Raises:
            Fault: ``missing_transform`` where no chain connects the two.
        """
        target, source = _name(target), _name(source)
        edges = self._edges
        T_ancestor_target = _ancestors(edges, target)
        for frame, T_frame_source in _ancestors(edges, source).items():
            if frame in T_ancestor_target:
                return inverse(T_ancestor_target[frame]) @ T_frame_source
        known = sorted({*edges, *(parent for parent, _ in edges.values())})
        raise Fault(
            "missing_transform",
            f"no transform from '{source}' to '{target}' (known frames: "
            f"{', '.join(known) or 'none'}). Publish it, e.g. ros2 run tf2_ros "
            f"static_transform_publisher --frame-id {target} --child-frame-id {source} --x ..., or "
            "set the node's parameter for this extrinsic calibration",
        )


def _name(frame: str) -> str:
    return frame.lstrip("/")


def _ancestors(edges: dict[str, tuple[str, np.ndarray]], frame: str) -> dict[str, np.ndarray]:
    """A frame and all above it, nearest first, each with T_ancestor_frame; ends at a cycle."""
    found = {frame: np.eye(4)}
    top = frame
    while top in edges:
        parent, T_parent_top = edges[top]
        if parent in found:
            break
        found[parent] = T_parent_top @ found[top]
        top = parent
    return found
