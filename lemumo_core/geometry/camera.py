"""Camera models: pinhole, plumb_bob, rational_polynomial and equidistant (fisheye).

Names and coefficient order are those of sensor_msgs/CameraInfo and OpenCV. Pixel (0, 0) is the
*centre* of the top left pixel, so an image covers [-0.5, width - 0.5] x [-0.5, height - 0.5].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.distortion import COEFFICIENTS, distortion_from

MIN_FOCAL_PX = 1e-3
MAX_NUMBER = 1e7
"""No camera has more in K or D; what a corrupt calibration has would overflow further on."""
MAX_SKEW_PX = 1.0
"""Less moves no pixel by more than half of one, in a field of view of 90 degrees."""
UNDISTORT_ITERATIONS = 50
UNDISTORT_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Camera:
    """A calibrated camera. Immutable; ``scaled``, ``cropped`` and ``flipped`` return new ones.

    Attributes:
        width, height: image size, pixels.
        fx, fy, cx, cy: focal lengths and principal point, pixels.
        model: a key of ``COEFFICIENTS``.
        distortion: k1, k2, p1, p2[, k3[, k4, k5, k6]] or, for ``equidistant``, k1..k4.

    Raises:
        Fault: ``bad_camera`` for a size that is not positive, a focal length below
            ``MIN_FOCAL_PX``, a number that is not finite or above ``MAX_NUMBER``, an unknown model,
            or a wrong number of coefficients.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = "pinhole"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise Fault("bad_camera", f"camera size {self.width}x{self.height} must be positive")
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(abs(number) <= MAX_NUMBER for number in numbers):  # NaN fails too
            raise Fault("bad_camera", f"camera holds a number that is not finite or huge: {self}")
        if min(self.fx, self.fy) < MIN_FOCAL_PX:
            raise Fault(
                "bad_camera",
                f"focal lengths fx={self.fx}, fy={self.fy} must be positive; a zero K means that "
                "the camera is not calibrated: calibrate it or set its camera_info file",
            )
        if self.model not in COEFFICIENTS:
            raise Fault(
                "bad_camera",
                f"unknown distortion model '{self.model}'; known: {', '.join(COEFFICIENTS)}",
            )
        if len(self.distortion) not in COEFFICIENTS[self.model]:
            raise Fault(
                "bad_camera",
                f"{self.model} takes {' or '.join(map(str, COEFFICIENTS[self.model]))} "
                f"coefficients, got {len(self.distortion)}",
            )

    @staticmethod
    def from_calibration(
        width: int, height: int, K: Sequence[float] | np.ndarray, model: str, D: Sequence[float]
    ) -> Camera:
        """Build a camera from the numbers of a CameraInfo or a calibration file.

        Args:
            width: of the image, pixels.
            height: of the image, pixels.
            K: (3, 3) or 9 numbers, row by row; a skew above ``MAX_SKEW_PX`` is refused.
            model: name of the distortion model, as ``distortion_from``.
            D: the coefficients.

        Raises:
            Fault: ``bad_camera``.
        """
        if len(np.ravel(K)) != 9:
            raise Fault("bad_camera", f"K must hold 9 numbers, got {len(np.ravel(K))}")
        k = np.asarray(K, np.float64).reshape(3, 3)
        if abs(k[0, 1]) > MAX_SKEW_PX:
            raise Fault(
                "bad_camera",
                f"K has a skew of {k[0, 1]:.6g} px, which is not modelled: calibrate without skew",
            )
        model, coefficients = distortion_from(model, D)
        fx, fy, cx, cy = (float(x) for x in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        return Camera(int(width), int(height), fx, fy, cx, cy, model, coefficients)

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix, float64 (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def scaled(self, width: int, height: int) -> Camera:
        """Return the camera of the image resized to (width, height)."""
        return self.of_window((0.0, 0.0, 1.0, 1.0), width, height)

    def of_window(self, window: Sequence[float], width: int, height: int) -> Camera:
        """Return a camera at the same place whose whole image covers a window of this one's.

        Args:
            window: left, top, width and height, shares of the image.
            width: of the new image, pixels.
            height: of the new image, pixels.
        """
        left, top, share_x, share_y = window
        sx, sy = width / (share_x * self.width), height / (share_y * self.height)
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5 - left * self.width) * sx - 0.5,
            cy=(self.cy + 0.5 - top * self.height) * sy - 0.5,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """Return the camera of a window of the image; a window may reach outside (padding)."""
        return replace(self, width=width, height=height, cx=self.cx - left, cy=self.cy - top)

    def flipped(self) -> Camera:
        """Return the camera of the horizontally mirrored image, which sees a world mirrored in x.

        Points and boxes must be mirrored too: x -> -x. Of the coefficients only the second
        tangential one is odd in x.
        """
        distortion = self.distortion
        if self.model in ("plumb_bob", "rational_polynomial"):
            distortion = (*distortion[:3], -distortion[3], *distortion[4:])
        return replace(self, cx=self.width - 1 - self.cx, distortion=distortion)

    def project(self, points: np.ndarray, z_min: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
        """Project camera-frame points through the full distortion model.

        Args:
            points: floating (N, 3), metres, optical frame.
            z_min: nearest depth that counts, metres.

        Returns:
            uv (N, 2) of the same dtype, NaN where invalid, and valid (N,) bool: finite, deeper
            than z_min and inside the field of view where the distortion model can be inverted.
            Points outside the image bounds stay valid.
        """
        z = points[:, 2]
        with np.errstate(all="ignore"):
            uv = np.stack(self.project_ahead(points[:, 0], points[:, 1], z), axis=1)
            valid = np.isfinite(points).all(axis=1) & (z > z_min) & np.isfinite(uv).all(axis=1)
        uv[~valid] = np.nan
        return uv, valid

    def project_ahead(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Project by components, as ``project``, points already known to have z > 0.

        Args:
            x: (N,) metres, optical frame.
            y: (N,) likewise.
            z: (N,) likewise, above 0.

        Returns:
            u, v (N,) pixels, NaN outside the invertible field of view.
        """
        x, y = x / z, y / z
        if self.model != "pinhole":
            outside = ~(np.hypot(x, y) < self.max_radius)
            x, y = self._distort(x, y)
            x[outside] = np.nan
        return x * self.fx + self.cx, y * self.fy + self.cy

    def unproject(self, uv: np.ndarray) -> np.ndarray:
        """Return the rays through pixels.

        Args:
            uv: (N, 2) pixels.

        Returns:
            float64 (N, 3) points at depth 1 (x, y, 1); NaN where the pixel lies outside the
            invertible field of view.
        """
        uv = np.asarray(uv, np.float64)
        xd = (uv[:, 0] - self.cx) / self.fx
        yd = (uv[:, 1] - self.cy) / self.fy
        if self.model == "pinhole":
            return np.stack([xd, yd, np.ones_like(xd)], axis=1)
        with np.errstate(all="ignore"):
            x, y = self._undistort(xd, yd)
        return np.stack([x, y, np.ones_like(x)], axis=1)

    @property
    def max_radius(self) -> float:
        """Largest tan(angle to the axis) up to which the radial distortion grows, unitless.

        Past it a polynomial folds back and far-off points would land inside the image.
        """
        return _max_radius(self.model, self.distortion)

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distort ideal normalised coordinates (OpenCV calib3d and fisheye definitions)."""
        if self.model == "equidistant":
            r = np.hypot(x, y)
            scale = np.where(
                r > 1e-8, _radial(self.model, self.distortion, r) / np.maximum(r, 1e-8), 1.0
            )
            return x * scale.astype(x.dtype), y * scale.astype(y.dtype)
        p1, p2 = self.distortion[2:4]
        r2 = x * x + y * y
        scale = _polynomial_scale(self.distortion, r2)
        xd = x * scale + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        yd = y * scale + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return xd, yd

    def _undistort(self, xd: np.ndarray, yd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Invert ``_distort``: bisection on the radius, then Newton for the tangential part."""
        rd = np.hypot(xd, yd)
        limit = min(self.max_radius, 1e3)
        low, high = np.zeros_like(rd), np.full_like(rd, limit)
        for _ in range(UNDISTORT_ITERATIONS):
            middle = 0.5 * (low + high)
            below = _radial(self.model, self.distortion, middle) < rd
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        scale = np.where(rd > 1e-12, high / np.maximum(rd, 1e-12), 1.0)
        x, y = xd * scale, yd * scale
        if self.model != "equidistant":
            for _ in range(UNDISTORT_ITERATIONS):
                ex, ey = self._distort(x, y)
                ex, ey = ex - xd, ey - yd
                if np.nanmax(np.abs([ex, ey]), initial=0.0) < UNDISTORT_TOLERANCE:
                    break
                h = 1e-6
                ax, ay = self._distort(x + h, y)
                bx, by = self._distort(x, y + h)
                ax, ay, bx, by = (
                    (ax - ex - xd) / h,
                    (ay - ey - yd) / h,
                    (bx - ex - xd) / h,
                    (by - ey - yd) / h,
                )
                det = ax * by - bx * ay
                x = x - (by * ex - bx * ey) / det
                y = y - (ax * ey - ay * ex) / det
        check_x, check_y = self._distort(x, y)
        found = np.hypot(check_x - xd, check_y - yd) < 1e-6
        found &= np.hypot(x, y) < limit
        return np.where(found, x, np.nan), np.where(found, y, np.nan)


def _polynomial_scale(d: tuple[float, ...], r2: np.ndarray) -> np.ndarray:
    k1, k2, _, _, k3, k4, k5, k6 = (*d, *(0.0,) * (8 - len(d)))
    scale = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return scale / (1 + r2 * (k4 + r2 * (k5 + r2 * k6))) if len(d) == 8 else scale


def _radial(model: str, d: tuple[float, ...], r: np.ndarray) -> np.ndarray:
    """Return the distorted radius of an ideal radius (tangent of the angle to the axis)."""
    if model == "equidistant":
        theta = np.arctan(r)
        t2 = theta * theta
        return theta * (1 + t2 * (d[0] + t2 * (d[1] + t2 * (d[2] + t2 * d[3]))))
    return r * _polynomial_scale(d, r * r)


@functools.lru_cache(maxsize=256)
def _max_radius(model: str, d: tuple[float, ...]) -> float:
    """Find the first radius at which the radial distortion stops growing, on a fine angle grid."""
    if model == "pinhole":
        return float("inf")
    radius = np.tan(np.linspace(0.0, np.pi / 2, 20_001)[:-1])
    with np.errstate(all="ignore"):
        distorted = _radial(model, d, radius)
    falling = np.flatnonzero(~(np.diff(distorted) > 0))
    return float(radius[falling[0]]) if len(falling) else float("inf")
