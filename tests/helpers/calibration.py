"""The calibration file of a small camera, as camera_calibration writes it."""

from __future__ import annotations

CALIBRATION = """\
image_width: 48
image_height: 32
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [40, 0, 23.5, 0, 41, 15.5, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [-0.1, 0.01, 0, 0, 0]}
"""
