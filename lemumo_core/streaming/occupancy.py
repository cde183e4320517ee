"""Occupancy grid of the ground around the robot, from dense depth and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.geometry.se3 import transform
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.streaming.outputs import Result
from lemumo_core.streaming.points import rays

UNOCCUPIED, OCCUPIED, UNKNOWN = 0, 100, -1
"""Values of nav_msgs/OccupancyGrid."""
GROUND = "ground"
"""Kind of classes (``Taxonomy.kind``) of which even a slope is no obstacle."""
OBSTACLE_M = (0.3, 2.2)
"""Heights above the ground between which a point stands in a robot's way."""
LEAST_POINTS = 2
"""A single point is as likely an error at an object's edge."""


@dataclass(frozen=True)
class GridOptions:
    """Size of the grid, which is square.

    Attributes:
        resolution_m: side of a cell.
        reach_m: distance from the robot to each border.
    """

    resolution_m: float = 0.2
    reach_m: float = 20.0


def occupancy_grid(build: MessageBuilder, result: Result, options: GridOptions) -> Any:
    """Return a nav_msgs/OccupancyGrid around the origin of the output frame.

    Args:
        build: builder of the message.
        result: whose output frame has its origin on the ground and z up (REP-105's base_footprint,
            or base_link of a vehicle).
        options: size of the grid.
    """
    side = 2 * round(options.reach_m / options.resolution_m)
    cells = _cells(result, options, side)
    corner = -side / 2 * options.resolution_m
    pose = build.new(
        "geometry_msgs/Pose",
        position=build.xyz("Point", (corner, corner, 0.0)),
        orientation=build.new("geometry_msgs/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    header = build.header(result.perception.stamp_ns, result.output_frame)
    info = build.new(
        "nav_msgs/MapMetaData",
        map_load_time=header.stamp,
        resolution=options.resolution_m,
        width=side,
        height=side,
        origin=pose,
    )
    data = build.sequence(cells.reshape(-1))
    return build.new("nav_msgs/OccupancyGrid", header=header, info=info, data=data)


def _cells(result: Result, options: GridOptions, side: int) -> np.ndarray:
    """Return the values of the cells: int8 (side, side), rows along y, columns along x."""
    perception, classes = result.perception, result.manifest.classes
    kinds = np.array([classes.kind(name) for name in classes.segmentation_classes])
    known = np.isfinite(result.depth_m)
    in_camera = rays(perception.output_camera)[known] * result.depth_m[known, None]
    points = transform(result.T_output_camera, in_camera.astype(np.float64))
    is_ground = np.isin(perception.labels[known], np.flatnonzero(kinds == GROUND))
    column, row = np.floor(points[:, :2] / options.resolution_m + side / 2).T
    inside = np.isfinite(points).all(axis=1)
    inside &= (column >= 0) & (column < side) & (row >= 0) & (row < side)
    cell = (row * side + column)[inside].astype(np.intp)
    height_m, is_ground = points[inside, 2], is_ground[inside]
    stands = (height_m > OBSTACLE_M[0]) & (height_m < OBSTACLE_M[1]) & ~is_ground
    flat = is_ground | (height_m <= OBSTACLE_M[0])
    obstacles = np.bincount(cell[stands], minlength=side * side)
    ground = np.bincount(cell[flat], minlength=side * side)
    cells = np.full(side * side, UNKNOWN, np.int8)
    cells[ground >= 1] = UNOCCUPIED
    cells[obstacles >= LEAST_POINTS] = OCCUPIED
    return cells.reshape(side, side)
