"""Where frames are: the newest transforms of /tf and /tf_static, composed along any chain.

No ROS needed: messages are looked at by their fields only.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import check_rigid, inverse
from lemumo_ros.convert_in import transform_to_matrix


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
