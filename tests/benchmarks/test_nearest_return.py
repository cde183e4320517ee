"""The trivial answer that depth is measured beside."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.metrics.masked_returns import mask_returns
from tests.helpers.small_frames import small_frames

pytest.importorskip("scipy", reason='install it with: pip install ".[dev]"')


def test_nearest_is_that_of_a_search_over_all() -> None:
    from benchmarks import nearest_return

    frame = mask_returns(nearest_return.without_dense_depth(small_frames(1)[0]))
    v, u = np.nonzero(np.isfinite(frame.labels.depth_m))
    assert len(u) > 5
    camera, scan = frame.camera, frame.companion
    points = scan.points[:, :3] @ scan.T_camera_lidar[:3, :3].T + scan.T_camera_lidar[:3, 3]
    x, y, z = points[points[:, 2] > 1].T
    at = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)
    inside = ((at >= -0.5) & (at < (camera.width - 0.5, camera.height - 0.5))).all(1)
    at, z = at[inside], z[inside]
    expected = [z[np.argmin(((at - pixel) ** 2).sum(1))] for pixel in np.stack([u, v], 1)]
    np.testing.assert_allclose(nearest_return.nearest(frame, u, v), expected, rtol=1e-5)
