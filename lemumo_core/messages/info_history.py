"""Which CameraInfo belongs to an image, by its stamp."""

from __future__ import annotations

from typing import Any

import numpy as np

from lemumo_core.messages.stamps import stamp_to_ns

ONE_CLOCK_NS = 10_000_000_000
"""Delays from stamp to arrival (or recording) of one clock differ by less."""
CHANGES = 256
"""CameraInfos that differ from the one before them, and are kept by the node."""
CALIBRATION = ("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y")


def info_of_image(
    stamps: np.ndarray, arrivals: np.ndarray, stamp_ns: int, arrival_ns: int
) -> int | None:
    """Return which CameraInfo belongs to an image.

    Drivers stamp the two alike, but either may arrive first: it is the one of the image's stamp,
    else the newest before it, and never a newer one. Stamps of another clock than the image's
    (zeros, or set once for ever) are not compared with its own: where there are no others it is
    the last that arrived before the image.

    Args:
        stamps: int64 (N,), header stamps of the CameraInfos.
        arrivals: int64 (N,), when they arrived or were recorded, in rising order.
        stamp_ns: of the image's header.
        arrival_ns: when the image arrived or was recorded.

    Returns:
        Position in ``stamps``; None where all are newer.
    """
    one_clock = np.abs((arrivals - stamps) - (arrival_ns - stamp_ns)) <= ONE_CLOCK_NS
    exact = np.flatnonzero(stamps == stamp_ns)
    if len(exact):
        return int(exact[-1])
    earlier = np.flatnonzero(one_clock & (stamps < stamp_ns))
    if len(earlier):
        return int(earlier[np.argsort(stamps[earlier], kind="stable")][-1])
    others = np.flatnonzero(~one_clock & (arrivals <= arrival_ns))
    return int(others[-1]) if len(others) else None


class InfoHistory:
    """The CameraInfos of one camera, each calibration kept once.

    Args:
        limit: number of changes to keep; None keeps all, as for a bag, which ends.
    """

    def __init__(self, limit: int | None = CHANGES):
        self._limit = limit
        self._infos: list[Any] = []
        self._times: list[tuple[int, int]] = []
        self._image_ns: int | None = None
        self._newest_ns: int | None = None
        self._follows_image = False

    def add(self, info: Any, arrival_ns: int) -> None:
        """Add a CameraInfo; the same calibration with a later stamp adds nothing."""
        stamp_ns = stamp_to_ns(info.header.stamp)
        if self._image_ns is not None and stamp_ns >= self._image_ns:
            self._follows_image = stamp_ns == self._image_ns
        self._newest_ns = stamp_ns
        if self._infos and stamp_ns >= self._times[-1][0] and _alike(info, self._infos[-1]):
            return
        self._infos.append(info)
        self._times.append((stamp_ns, arrival_ns))
        if self._limit is not None and len(self._infos) > self._limit:
            del self._infos[0], self._times[0]

    def count_image(self, stamp_ns: int) -> None:
        """Note that an image has arrived."""
        self._image_ns = stamp_ns

    def is_awaited(self, stamp_ns: int) -> bool:
        """Return whether the image's own CameraInfo is still to come.

        It is where the last ones arrived after the images of their stamps.
        """
        return self._follows_image and self._newest_ns is not None and self._newest_ns < stamp_ns

    def of_image(self, stamp_ns: int, arrival_ns: int) -> Any:
        """Return the CameraInfo that belongs to an image (``info_of_image``), None without one.

        Args:
            stamp_ns: of the image's header.
            arrival_ns: when the image arrived, on the clock of the CameraInfos' arrivals.
        """
        times = np.array(self._times, np.int64).reshape(-1, 2)
        at = info_of_image(times[:, 0], times[:, 1], stamp_ns, arrival_ns)
        if at is None and self._limit is None and self._infos:
            at = 0  # all of a bag is known: its first one is the nearest
        return None if at is None else self._infos[at]

    def __len__(self) -> int:
        return len(self._infos)


def _alike(one: Any, other: Any) -> bool:
    fields = (np.array_equal(getattr(one, f), getattr(other, f)) for f in CALIBRATION)
    return one is other or (one.roi == other.roi and all(fields))
