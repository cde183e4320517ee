"""A simple synthetic street: camera image, exact depth, label map, LiDAR scan and 3D boxes.

Everything is made of boxes that may turn about the vertical, seen by sensors that look along the
street without pitch or roll. Then the horizontal part of a ray depends on the image column alone
and its slope on the row alone, so that a box is intersected with one test a row and one a column;
the pixels only compare the two.

World frame: x along the street, y left, z up, ground at z = 0, metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

RATE_HZ = 10.0
START_NS = 1_700_000_000_000_000_000
EGO_SPEED = 8.0
EGO_Y = -1.9
LIDAR_IN_CAMERA = (0.0, -0.35, -0.25)
"""Where the LiDAR sits in the camera frame: above it and a little behind."""
CAMERA_HEIGHT = 1.5
BEAMS = np.deg2rad(np.linspace(10.0, -25.0, 32))
AZIMUTHS = np.deg2rad(np.linspace(180.0, -180.0, 1024, endpoint=False))
LIDAR_RANGE = 80.0
RANGE_NOISE = 0.02
SIGHT = 160.0
MIN_PIXELS = 20
"""An object is labelled when at least this many of its pixels are visible."""
OPTICAL_FROM_BODY = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])

ID = {name: i for i, name in enumerate(SEGMENTATION_CLASSES)}
ROAD_HALF, WALK_HALF = 7.0, 10.0
Size = tuple[float, float, float]
Colour = tuple[int, int, int]
Place = Callable[..., None]
Rays = tuple[np.ndarray, np.ndarray, np.ndarray]
WALLS = ((186, 150, 120), (168, 162, 152), (150, 92, 78), (198, 186, 160))
PAINTS = ((168, 30, 32), (34, 62, 128), (222, 222, 224), (36, 38, 42), (146, 150, 154))
GLASS, TYRE, METAL = (44, 54, 64), (24, 24, 26), (120, 122, 126)
FOG = np.array([196, 208, 220], np.float32)
LIGHT = np.array([0.62, 0.86, 0.5, 0.72, 0.3, 1.0], np.float32)
"""Brightness of the -x, +x, -y, +y, -z and +z faces."""


@dataclass(frozen=True)
class Box:
    """One primitive: centre, size, yaw about +z (world), colour, class id, the object it belongs
    to (-1: scenery) and its speed along x."""

    centre: Size
    size: Size
    yaw: float
    colour: Colour
    label: str
    owner: int = -1
    speed: float = 0.0


class SyntheticStreet:
    """A drive along a street, rendered on demand; frame i is always the same for one seed.

    Args:
        seed: of the whole scene.
        frames: length of the drive, at 10 Hz.
        width, height: image size, pixels.

    Each Frame has the image, a LidarScan with the same stamp (x forward, y left, z up, intensity
    0..255; 2 cm range noise) and Labels: boxes of ``car``, ``truck`` and ``pedestrian`` with at
    least ``MIN_PIXELS`` visible pixels, the label map (``taxonomy`` ids) and dense depth (NaN in
    the sky).
    """

    def __init__(self, seed: int = 0, frames: int = 100, width: int = 960, height: int = 540):
        self.seed, self.frames = seed, frames
        f = 0.73 * width
        self.camera = Camera(width, height, f, f, (width - 1) / 2, (height - 1) * 0.48)
        self.T_camera_lidar = make_T(OPTICAL_FROM_BODY, np.array(LIDAR_IN_CAMERA))
        self.boxes, self.objects = _street(np.random.default_rng(seed), frames)

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Frame:
        index = range(self.frames)[index]
        seconds = index / RATE_HZ
        eye = np.array([EGO_SPEED * seconds, EGO_Y, CAMERA_HEIGHT])
        boxes = [moved(box, seconds) for box in self.boxes]
        boxes = _within(SIGHT, boxes, eye)

        camera = self.camera
        columns = (np.arange(camera.width) - camera.cx) / camera.fx
        rows = (np.arange(camera.height) - camera.cy) / camera.fy
        rays = np.ones_like(columns), -columns, -rows
        depth, hit, face = cast(eye, rays, boxes)
        image, label_map = shade(eye, rays, boxes, depth, hit, face)
        stamp_ns = START_NS + round(seconds * 1e9)
        return Frame(
            stamp_ns=stamp_ns,
            camera_name="front",
            camera=camera,
            image=image,
            companion=LidarScan(self._scan(eye, boxes, index), self.T_camera_lidar, stamp_ns),
            labels=self._labels(eye, seconds, boxes, hit, label_map, depth),
        )

    def _scan(self, eye: np.ndarray, boxes: list[Box], index: int) -> np.ndarray:
        """float32 (N, 4) x, y, z, intensity in the LiDAR frame, whose axes are the world's."""
        position = eye + OPTICAL_FROM_BODY.T @ LIDAR_IN_CAMERA
        slopes = np.tan(BEAMS)
        near = _within(LIDAR_RANGE, boxes, eye)
        across, hit, _ = cast(position, (np.cos(AZIMUTHS), np.sin(AZIMUTHS), slopes), near)
        beam, azimuth = np.nonzero(across < LIDAR_RANGE * np.cos(BEAMS)[:, None])
        noise = np.random.default_rng([self.seed, index]).normal(0, RANGE_NOISE, len(beam))
        r = across[beam, azimuth] + noise * np.cos(BEAMS[beam])
        angle = AZIMUTHS[azimuth]
        intensity = np.array([np.mean(box.colour) for box in near] + [90.0])[hit[beam, azimuth]]
        columns = r * np.cos(angle), r * np.sin(angle), r * slopes[beam], intensity
        return np.stack(columns, axis=1).astype(np.float32)

    def _labels(
        self,
        eye: np.ndarray,
        seconds: float,
        boxes: list[Box],
        hit: np.ndarray,
        label_map: np.ndarray,
        depth: np.ndarray,
    ) -> Labels:
        owners = np.array([box.owner for box in boxes] + [-1])[hit]
        pixels = np.bincount(owners.ravel() + 1, minlength=len(self.objects) + 1)[1:]
        seen = [box for box in self.objects if pixels[box.owner] >= MIN_PIXELS]
        boxes_3d = np.array([_in_camera(moved(box, seconds), eye) for box in seen], np.float32)
        boxes_3d = boxes_3d.reshape(-1, 7)
        return Labels(
            boxes_3d=boxes_3d,
            boxes_2d=image_bounds(boxes_3d, self.camera),
            class_names=tuple(box.label for box in seen),
            label_map=label_map,
            depth_m=np.where(np.isfinite(depth), depth, np.nan).astype(np.float32),
        )


def moved(box: Box, seconds: float) -> Box:
    """The box after it drove on for a while."""
    if not box.speed:
        return box
    x, y, z = box.centre
    return replace(box, centre=(x + box.speed * seconds, y, z))


def _within(reach: float, boxes: list[Box], eye: np.ndarray) -> list[Box]:
    """The boxes that reach into a stretch of the street."""
    return [box for box in boxes if abs(box.centre[0] - eye[0]) < reach + max(box.size[:2]) / 2]


def cast(
    eye: np.ndarray, rays: Rays, boxes: list[Box]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First hits of the rays eye + t (dx[column], dy[column], dz[row]) with the ground and boxes.

    Args:
        eye: (3,) where rays start.
        rays: dx (W,), dy (W,), dz (H,).
        boxes: B of them.

    Returns:
        t float64 (H, W), inf = nothing; index of the box int16 (H, W), -1 = ground or nothing; its
        face uint8 (H, W), an index into ``LIGHT``.
    """
    dx, dy, dz = rays
    shape = len(dz), len(dx)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.repeat(np.where(dz < 0, -eye[2] / dz, np.inf)[:, None], shape[1], axis=1)
        hit = np.full(shape, -1, np.int16)
        face = np.full(shape, len(LIGHT) - 1, np.uint8)
        for i, box in enumerate(boxes):
            c, s = np.cos(box.yaw), np.sin(box.yaw)
            ox, oy, oz = eye - box.centre
            ux, uy = c * dx + s * dy, c * dy - s * dx
            near_x, far_x = _slab(c * ox + s * oy, ux, box.size[0])
            near_y, far_y = _slab(c * oy - s * ox, uy, box.size[1])
            near, far = np.maximum(near_x, near_y), np.minimum(far_x, far_y)
            columns = _span((near < far) & (far > 0))
            near, far = near[columns], far[columns]
            if not len(near):
                continue
            near_z, far_z = _slab(oz, dz, box.size[2])
            rows = _span((near_z < far.max()) & (far_z > max(near.min(), 0)))
            near_z, far_z = near_z[rows, None], far_z[rows, None]
            first = np.maximum(near, near_z)
            window = rows, columns
            new = (first < np.minimum(far, far_z)) & (first > 0) & (first < t[window])
            t[window][new] = first[new]
            hit[window][new] = i
            side = np.where(near_x > near_y, ux < 0, 2 + (uy < 0))[columns]
            top_or_bottom = 4 + (dz[rows, None] < 0)
            face[window][new] = np.where(near_z > near, top_or_bottom, side)[new]
    return t, hit, face


def _slab(start: float, direction: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit of rays into the slab |x| < size / 2."""
    a, b = (-size / 2 - start) / direction, (size / 2 - start) / direction
    return np.minimum(a, b), np.maximum(a, b)


def _span(mask: np.ndarray) -> slice:
    """From the first to the last True."""
    found = np.flatnonzero(mask)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)


def shade(
    eye: np.ndarray,
    rays: Rays,
    boxes: list[Box],
    t: np.ndarray,
    hit: np.ndarray,
    face: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours uint8 (H, W, 3) and class ids uint8 (H, W) of cast rays."""
    dx, dy, dz = (direction.astype(np.float32) for direction in rays)
    solid = np.isfinite(t)
    distance = np.where(solid, t, 0).astype(np.float32)
    x, y, z = eye[0] + distance * dx, eye[1] + distance * dy, eye[2] + distance * dz[:, None]

    # The last entry, index -1, is the ground.
    colour = np.array([box.colour for box in boxes] + [(92, 92, 96)], np.float32)[hit]
    label = np.array([ID[box.label] for box in boxes] + [ID["road"]], np.uint8)[hit]
    ground = solid & (hit < 0)
    off_road = ground & (np.abs(y) > WALK_HALF)
    label[off_road] = ID["terrain"]
    colour[off_road] = (104, 128, 70)
    dashes = (np.abs(y) < 0.08) & (x % 9 < 4)
    paint = ground & (dashes | (np.abs(np.abs(y) - 4.4) < 0.06))
    colour[paint] = (225, 225, 220)

    walls = (label == ID["building"]) & (face < 4)
    along = np.where(face < 2, y, x)
    window = walls & (along % 3 > 1.1) & (along % 3 < 2.5) & (z % 3.2 > 1.1) & (z % 3.2 < 2.6)
    lit = _noise(along // 3, z // 3.2, face)
    colour[window] = np.array([58, 72, 92]) + 70 * lit[window][:, None] ** 4

    grain = _noise(np.floor(x * 7), np.floor(y * 7), np.floor(z * 7)) - 0.5
    rough = np.array([0.5 if name in ("vegetation", "terrain") else 0.1 for name in ID])
    brightness = LIGHT[face] * (1 + rough.astype(np.float32)[label] * grain)
    clear = np.exp(-distance / 140)[..., None]
    colour = colour * brightness[..., None] * clear + FOG * (1 - clear)

    slope = np.clip(dz[:, None] / 0.45, 0, 1)[..., None]
    sky = FOG + (np.array([104, 152, 214], np.float32) - FOG) * slope
    image = np.where(solid[..., None], colour, sky)
    label[~solid] = ID["sky"]
    return np.clip(image, 0, 255).astype(np.uint8), label


def _noise(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Repeatable noise in [0, 1) of integer-valued cells (a, b, c)."""
    wave = np.sin(a * 12.9898 + b * 78.233 + c * 37.719) * 43758.547
    return (wave - np.floor(wave)).astype(np.float32)


def _in_camera(box: Box, eye: np.ndarray) -> list[float]:
    """A box as x, y, z, length, width, height, yaw of the camera at eye. World yaw 0 is the
    camera's forward, which is yaw -pi/2 there."""
    yaw = (box.yaw - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    return [*(OPTICAL_FROM_BODY @ (box.centre - eye)), *box.size, yaw]


def _street(rng: np.random.Generator, frames: int) -> tuple[list[Box], list[Box]]:
    """All primitives of a street, and its objects as whole boxes (owner = own index)."""
    end = frames / RATE_HZ * EGO_SPEED + SIGHT
    scenery: list[Box] = []
    parts: list[Box] = []
    objects: list[Box] = []

    def place(
        label: str, x: float, y: float, yaw: float, speed: float, size: Size, shapes: list[Any]
    ) -> None:
        """Add an object of length x width x height made of (x, y, z, l, w, h, colour) shapes."""
        owner, (c, s) = len(objects), (np.cos(yaw), np.sin(yaw))
        objects.append(Box((x, y, size[2] / 2), size, yaw, (0, 0, 0), label, owner, speed))
        kind = "large_vehicle" if label == "truck" else label
        for px, py, pz, *extent, colour in shapes:
            centre = (x + c * px - s * py, y + s * px + c * py, pz)
            parts.append(Box(centre, tuple(extent), yaw, colour, kind, owner, speed))
        shadow = (size[0] + 0.2, size[1] + 0.2, 0.004)
        scenery.append(Box((x, y, 0.002), shadow, yaw, (40, 40, 44), "road", -1, speed))

    def put(label: str, centre: Size, size: Size, colour: Colour, yaw: float = 0.0) -> None:
        scenery.append(Box(centre, size, yaw, colour, label))

    for side in (-1, 1):
        middle, breadth = side * (ROAD_HALF + WALK_HALF) / 2, WALK_HALF - ROAD_HALF
        put("sidewalk", (end / 2 - 20, middle, 0.07), (end + 40, breadth, 0.14), (158, 152, 148))
        x = -30.0
        while x < end:
            length, depth, height = rng.uniform([11, 8, 6], [24, 14, 19])
            y = (WALK_HALF + depth / 2 + rng.uniform(0.3, 2)) * side
            colour = WALLS[rng.integers(len(WALLS))]
            put("building", (x + length / 2, y, height / 2), (length, depth, height), colour)
            x += length + rng.choice([0.0, 0.0, 5.0])
        for x in np.arange(rng.uniform(-20, 0), end, 17):
            y = side * (ROAD_HALF + 0.6)
            if rng.random() < 0.4:
                put("pole", (x, y, 3.2), (0.14, 0.14, 6.4), METAL)
                put("pole", (x, y - side * 0.7, 6.4), (0.2, 1.5, 0.12), METAL)
                put("sign", (x - 0.09, y, 2.5), (0.04, 0.7, 0.7), (200, 40, 36))
                continue
            put("vegetation", (x, y, 1.4), (0.3, 0.3, 2.8), (92, 70, 52))
            for _ in range(5):
                dx, dy, z, yaw = rng.uniform([-0.8, -0.6, 2.9, 0], [0.8, 0.6, 4.6, 3])
                length, depth, height = rng.uniform(1.1, 2.0, 3)
                green = (64, int(rng.integers(96, 132)), 48)
                put("vegetation", (x + dx, y + dy, z), (length, depth, height), green, yaw)
        x = rng.uniform(6, 14)
        while x < end:
            _car(place, rng, x, side * 5.7, 0.0 if side < 0 else np.pi, 0.0)
            x += rng.uniform(7, 34)
        for x in np.arange(rng.uniform(5, 15), end, 14):
            speed = float(rng.choice([-1.3, 0.0, 1.3]))
            _pedestrian(place, rng, x, side * rng.uniform(8.3, 9.5), speed)
    _car(place, rng, 17.0, EGO_Y, 0.0, 8.6)
    for x in np.arange(rng.uniform(44, 52), end * 2, 45):
        _car(place, rng, x, -EGO_Y, np.pi, -8.0)
    for x in (rng.uniform(24, 32), rng.uniform(110, 120)):
        _truck(place, x, -EGO_Y, np.pi, -8.0)
    return scenery + parts, objects


def _car(
    place: Place, rng: np.random.Generator, x: float, y: float, yaw: float, speed: float
) -> None:
    paint = PAINTS[rng.integers(len(PAINTS))]
    length, width, height = rng.uniform([4.0, 1.7, 1.42], [4.8, 1.9, 1.6])
    shapes = [
        (0, 0, 0.58, length, width, 0.64, paint),
        (-0.15, 0, (0.9 + height - 0.06) / 2, length * 0.54, width * 0.88, height - 0.96, GLASS),
        (-0.2, 0, height - 0.04, length * 0.46, width * 0.82, 0.08, paint),
    ]
    for px, lamp in ((length / 2, (250, 244, 220)), (-length / 2, (220, 20, 24))):
        for py in (-width / 2, width / 2):
            shapes.append((px * 0.62, py * 0.88, 0.31, 0.62, 0.24, 0.62, TYRE))
            shapes.append((px * 0.99, py * 0.72, 0.72, 0.06, 0.3, 0.16, lamp))
    place("car", x, y, yaw, speed, (length, width, height), shapes)


def _truck(place: Place, x: float, y: float, yaw: float, speed: float) -> None:
    paint, cargo = (206, 120, 30), (214, 216, 212)
    shapes = [
        (-1.0, 0, 2.05, 6.0, 2.4, 2.9, cargo),
        (3.0, 0, 1.45, 1.9, 2.3, 2.0, paint),
        (3.95, 0, 1.9, 0.06, 2.0, 0.8, GLASS),
    ]
    shapes += [(px, py, 0.45, 0.9, 0.3, 0.9, TYRE) for px in (-2.9, 2.8) for py in (-1, 1)]
    place("truck", x, y, yaw, speed, (8.0, 2.4, 3.5), shapes)


def _pedestrian(place: Place, rng: np.random.Generator, x: float, y: float, speed: float) -> None:
    shirt = tuple(int(v) for v in rng.integers(40, 220, 3))
    trousers, skin = (42, 46, 66), (206, 164, 136)
    yaw = np.pi if speed < 0 else 0.0
    shapes = [
        (0.12, 0.1, 0.45, 0.16, 0.16, 0.9, trousers),
        (-0.12, -0.1, 0.45, 0.16, 0.16, 0.9, trousers),
        (0, 0, 1.18, 0.26, 0.44, 0.6, shirt),
        (-0.1, 0.27, 1.15, 0.13, 0.11, 0.6, shirt),
        (0.1, -0.27, 1.15, 0.13, 0.11, 0.6, shirt),
        (0.02, 0, 1.62, 0.22, 0.19, 0.26, skin),
    ]
    place("pedestrian", x, y, yaw, speed, (0.5, 0.66, 1.76), shapes)
