"""Coordinate frames over time: /tf_static and /tf, composed along any chain."""

from __future__ import annotations

import bisect
import math
import threading
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import (
    MAX_TRANSLATION_M,
    check_rigid,
    interpolate,
    inverse,
    make_T,
    rotation_from_quaternion,
)
from lemumo_core.messages.stamps import stamp_to_ns

NORM_TOLERANCE = 5e-3
"""How far the norm of a quaternion may be off, as in tf2: two decimals are enough."""

MAX_FRAMES = 10_000
"""More are no robot's: somebody makes up new names all the time."""

HISTORY_NS = 10_000_000_000
MAX_HISTORY = 4096
"""How long the transforms of a moving frame are kept, and how many."""

WAIT_NS = 100_000_000
"""An image is often a little ahead of the newest transform: how long it waits for the next ones."""


def transform_to_matrix(msg: Any) -> np.ndarray:
    """Convert a geometry_msgs/Transform to float64 (4, 4); the quaternion is normalised.

    Raises:
        Fault: ``bad_transform`` for a number that is not finite, a translation above
            ``MAX_TRANSLATION_M`` or a quaternion whose norm is off by more than
            ``NORM_TOLERANCE``.
    """
    t = np.array([msg.translation.x, msg.translation.y, msg.translation.z], np.float64)
    q = np.array([msg.rotation.w, msg.rotation.x, msg.rotation.y, msg.rotation.z], np.float64)
    norm = math.hypot(*q)
    if not (np.abs(t) <= MAX_TRANSLATION_M).all() or not abs(norm - 1) <= NORM_TOLERANCE:
        raise Fault(
            "bad_transform",
            f"translation {t.tolist()}, quaternion (w, x, y, z) {q.tolist()} of norm {norm:.6g}: "
            f"needs finite numbers up to {MAX_TRANSLATION_M:.0e} m and a norm of 1",
        )
    w, x, y, z = (q / norm).tolist()
    return make_T(rotation_from_quaternion(w, x, y, z), t)


class _Moving:
    """Transforms of a moving frame to its parent, by stamp."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.transforms: list[np.ndarray] = []

    def add(self, stamp_ns: int, T: np.ndarray) -> None:
        """Insert one at its place, as tf2's TimeCache does with those that arrive late."""
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1] - HISTORY_NS:
            # tf2 refuses these for ever. Nothing is that late: the clock went back.
            self.stamps_ns.clear()
            self.transforms.clear()
        place = bisect.bisect_right(self.stamps_ns, stamp_ns)
        self.stamps_ns.insert(place, stamp_ns)
        self.transforms.insert(place, T)
        old = bisect.bisect_left(self.stamps_ns, self.stamps_ns[-1] - HISTORY_NS)
        old = max(old, len(self.stamps_ns) - MAX_HISTORY)
        del self.stamps_ns[:old], self.transforms[:old]

    def at(self, stamp_ns: int | None) -> np.ndarray | None:
        """Interpolate at a stamp; return None where the stamp lies outside."""
        stamps_ns = self.stamps_ns
        if stamp_ns is None or stamp_ns == stamps_ns[-1]:
            return self.transforms[-1]
        if not stamps_ns[0] <= stamp_ns <= stamps_ns[-1]:
            return None
        after = bisect.bisect_right(stamps_ns, stamp_ns)
        before_ns, after_ns = stamps_ns[after - 1 : after + 1]
        fraction = (stamp_ns - before_ns) / (after_ns - before_ns)
        return interpolate(self.transforms[after - 1], self.transforms[after], fraction)


class TransformBuffer:
    """A tree of fixed and moving frames; one thread may fill it while others look up.

    Attributes:
        version: grows whenever a fixed transform changes, so that callers know when what they
            computed from a lookup is out of date.
    """

    def __init__(self) -> None:
        self.version = 0
        # Child to (parent, T_parent_child).
        self._edges: dict[str, tuple[str, np.ndarray | _Moving]] = {}
        self._changed = threading.Condition()

    def set(
        self, parent: str, child: str, T_parent_child: np.ndarray, stamp_ns: int | None = None
    ) -> None:
        """Set one transform; as in TF, a frame has one parent, and a new one replaces the old.

        Args:
            parent: frame name; a leading '/' is dropped.
            child: likewise.
            T_parent_child: (4, 4), maps points in child to parent.
            stamp_ns: when it is true; None: always. One that arrives late is inserted in order;
                one older than the newest by more than ``HISTORY_NS`` means that the clock went
                back, and replaces all that were known.

        Raises:
            Fault: ``bad_transform`` for an empty name, a frame that is its own parent, a matrix
                that is not a rigid transform, or a frame above ``MAX_FRAMES``.
        """
        parent, child = _name(parent), _name(child)
        if not parent or not child or parent == child:
            raise Fault("bad_transform", f"transform from '{child}' to '{parent}' needs two frames")
        T = check_rigid(T_parent_child, f"transform from '{child}' to '{parent}'").copy()
        T.flags.writeable = False
        with self._changed:
            if child not in self._edges and len(self._edges) >= MAX_FRAMES:
                raise Fault("bad_transform", f"'{child}' is one frame more than {MAX_FRAMES}")
            old_parent, old = self._edges.get(child, ("", None))
            if stamp_ns is not None:
                if old_parent != parent or not isinstance(old, _Moving):
                    old = _Moving()
                    self._edges[child] = (parent, old)
                old.add(stamp_ns, T)
                self._changed.notify_all()
                return
            same = isinstance(old, np.ndarray) and np.array_equal(old, T)
            if old_parent != parent or not same:
                self._edges[child] = (parent, T)
                self.version += 1

    def add(self, msg: Any, moving: bool = False) -> None:
        """Add a tf2_msgs/TFMessage; its good transforms count even where others are bad.

        Args:
            msg: of ``/tf_static``, or of ``/tf``.
            moving: its transforms are true at their stamps, as those of ``/tf``.

        Raises:
            Fault: ``bad_transform``, the first one.
        """
        fault: Fault | None = None
        for stamped in msg.transforms:
            parent, child = stamped.header.frame_id, stamped.child_frame_id
            stamp_ns = stamp_to_ns(stamped.header.stamp) if moving else None
            try:
                self.set(parent, child, transform_to_matrix(stamped.transform), stamp_ns)
            except Fault as error:
                fault = fault or Fault(error.reason, f"transform '{child}' to '{parent}': {error}")
        if fault:
            raise fault

    def edges(self) -> list[tuple[str, str, np.ndarray]]:
        """Return every fixed transform as (parent, child, T_parent_child), ready for ``set``."""
        with self._changed:
            return [
                (parent, child, T)
                for child, (parent, T) in self._edges.items()
                if isinstance(T, np.ndarray)
            ]

    def lookup(
        self, target: str, source: str, stamp_ns: int | None = None, timeout_s: float = 0.0
    ) -> np.ndarray:
        """Return the transform that maps points in source to target: float64 (4, 4).

        Args:
            target: name of the frame that points are mapped to.
            source: name of the frame that they are given in.
            stamp_ns: when; moving frames are interpolated between the transforms around it, and
                never extrapolated, as in tf2. None: the newest of each.
            timeout_s: how long to wait, in seconds, where these are still to come.

        Returns:
            ``T_target_source``.

        Raises:
            Fault: ``missing_transform`` where no chain connects the two, ``old_transform`` where
                one does, but not at this time.
        """
        with self._changed:
            if stamp_ns is not None and timeout_s:
                self._changed.wait_for(
                    lambda: not self._is_ahead(target, source, stamp_ns), timeout_s
                )
            of_target, of_source = self._chains(target, source)
            if not of_target:
                raise self._missing(_name(target), _name(source))
            T_meeting_target = self._compose(of_target, stamp_ns)
            return inverse(T_meeting_target) @ self._compose(of_source, stamp_ns)

    def is_ahead(self, target: str, source: str, stamp_ns: int) -> bool:
        """Return whether a stamp is newer than what is known of a frame between two."""
        with self._changed:
            return self._is_ahead(target, source, stamp_ns)

    def _is_ahead(self, target: str, source: str, stamp_ns: int) -> bool:
        edges = (
            self._edges[child][1] for part in self._chains(target, source) for child in part[:-1]
        )
        return any(isinstance(T, _Moving) and T.stamps_ns[-1] < stamp_ns for T in edges)

    def _chains(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """Return the frames from each of two to where they meet; none where they do not."""
        of_target, of_source = self._chain(_name(target)), self._chain(_name(source))
        meeting = next((frame for frame in of_source if frame in of_target), None)
        if meeting is None:
            return [], []
        ends = of_target.index(meeting) + 1, of_source.index(meeting) + 1
        return of_target[: ends[0]], of_source[: ends[1]]

    def _chain(self, frame: str) -> list[str]:
        """Return a frame and all above it, nearest first; it ends at a cycle."""
        found = [frame]
        while frame in self._edges and (frame := self._edges[frame][0]) not in found:
            found.append(frame)
        return found

    def _compose(self, chain: list[str], stamp_ns: int | None) -> np.ndarray:
        """Compose T_top_frame of a chain from the frame to the top."""
        T_top_frame = np.eye(4)
        for child in chain[:-1]:
            parent, T = self._edges[child]
            T_parent_child = T.at(stamp_ns) if isinstance(T, _Moving) else T
            if T_parent_child is None:
                assert isinstance(T, _Moving) and stamp_ns is not None
                begin_s, end_s = ((t - stamp_ns) / 1e9 for t in (T.stamps_ns[0], T.stamps_ns[-1]))
                raise Fault(
                    "old_transform",
                    f"'{child}' in '{parent}' is known from {begin_s:+.3f} s to {end_s:+.3f} s "
                    "around the image's stamp, not at it: synchronise the clocks, or publish /tf "
                    "earlier and more often",
                )
            T_top_frame = T_parent_child @ T_top_frame
        return T_top_frame

    def _missing(self, target: str, source: str) -> Fault:
        known = sorted({*self._edges, *(parent for parent, _ in self._edges.values())})
        return Fault(
            "missing_transform",
            f"no transform from '{source}' to '{target}' (known frames: "
            f"{', '.join(known) or 'none'}). Publish it, e.g. ros2 run tf2_ros "
            f"static_transform_publisher --frame-id {target} --child-frame-id {source} --x ...; "
            "between a camera and its companion it can be given instead: extrinsics in the node "
            "and in lemumo replay, T_camera_companion in training",
        )


def _name(frame: str) -> str:
    return frame.lstrip("/")
