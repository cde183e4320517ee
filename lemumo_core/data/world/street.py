"""One drive along an endless street: what stands where, who moves, and the light of the day.

Everything is a function of (seed, place, time), so any moment of a drive can be asked for on its
own. Traffic runs in lanes of one speed each; a lane is an infinite row of slots that travels with
the traffic, and slot k of lane l always holds the same road user. Hence nobody ever collides.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from lemumo_core.data.world import objects, scenery
from lemumo_core.data.world.solids import SOLID, extent, placed
from lemumo_core.geometry.se3 import make_T

BEHIND_M, AHEAD_M = 40.0, 150.0
"""How much of the street around the ego vehicle exists."""

LANE_M, PARKING_M, CROSSING_HALF_M = 3.5, 2.3, 5.0
BLOCK_M = 105.0
"""Mean distance between crossings."""

ROAD_USERS = ("car", "car", "car", "car", "car", "truck", "bus", "motorcycle")
PARKED = ("car", "car", "car", "car", "car", "car", "truck")


@dataclass(frozen=True)
class Weather:
    """The light of a drive, linear units.

    Attributes:
        sun: unit direction to the sun, world frame.
        sun_light, sky_light: linear RGB.
        sky: linear RGB of the zenith.
        haze: linear RGB of fog and horizon.
        visibility_m: distance at which contrast falls to 1/e.
        night: street lamps, windows and headlights are on.
        clouds: 0 (clear or overcast all over) to 1.
        exposure: of the camera.
        ambient_k: kelvin that sun-lit ground is above the air (below it at night).
    """

    sun: np.ndarray
    sun_light: np.ndarray
    sky_light: np.ndarray
    sky: np.ndarray
    haze: np.ndarray
    visibility_m: float
    night: bool
    clouds: float
    exposure: float
    ambient_k: float


@dataclass(frozen=True, eq=False)
class Scene:
    """The street at one moment.

    Attributes:
        solids: ``SOLID`` (P,), world frame; ``owner`` indexes the objects.
        labels: detection class of each of the K objects.
        boxes: float64 (K, 7) centre x, y, z, length, width, height, yaw, world frame.
        lamps: float32 (L, 3) positions of street lamps.
    """

    solids: np.ndarray
    labels: tuple[str, ...]
    boxes: np.ndarray
    lamps: np.ndarray


@dataclass(frozen=True)
class Lane:
    """A row of road users at one offset from the middle of the road."""

    name: str
    offset: float
    speed: float
    spacing: float
    filled: float
    kinds: tuple[str, ...]
    wobble: float = 0.2
    facing: int = 1


class Drive:
    """One drive: street, weather and traffic.

    Args:
        seed: of everything.
        split: which catalogue of objects, ``objects.SPLITS``.
    """

    def __init__(self, seed: int, split: str):
        self.seed, self.split = seed, split
        rng = self._rng("drive")
        self.lanes_each_way = int(rng.choice([1, 1, 2]))
        self.half_m = LANE_M * self.lanes_each_way + PARKING_M
        self.walk_m = rng.uniform(2.6, 4.0)
        self.waves = rng.uniform((0.5, 0.004, 0), (2.5, 0.012, 6.28), (2, 3)) * rng.choice(
            [0, 1], (2, 1)
        )
        self.speed = rng.uniform(6, 13)
        self.start_m = rng.uniform(0, 5000)
        self.green, self.density = rng.random(), rng.uniform(0.4, 1.0)
        self.weather = _weather(rng)
        self.paint = int(rng.integers(3))
        self.lanes = self._lanes(rng)
        self._cache: dict[tuple, tuple] = {}

    def _rng(self, *key: str | int) -> np.random.Generator:
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else k & 0xFFFFFFFF for k in key]
        return np.random.default_rng([objects.SPLITS.index(self.split), self.seed, *words])

    def _lanes(self, rng: np.random.Generator) -> tuple[Lane, ...]:
        lanes, edge = [], self.half_m
        busy = self.density
        for k in range(self.lanes_each_way):
            offset = LANE_M * (k + 0.5)
            ahead = self.speed if k == 0 else self.speed - rng.uniform(1, 3)
            lanes.append(Lane(f"ahead{k}", -offset, ahead, 26, 0.55 * busy, ROAD_USERS))
            lanes.append(
                Lane(f"oncoming{k}", offset, -rng.uniform(6, 13), 28, 0.6 * busy, ROAD_USERS)
            )
        parked = edge - PARKING_M / 2 + 0.1
        for side in (-1, 1):
            lanes.append(
                Lane(f"parked{side}", side * parked, 0, 7.5, 0.65 * busy, PARKED, 0.15, -side)
            )
            cycle = side * (edge - PARKING_M - 0.35)
            lanes.append(
                Lane(
                    f"cycle{side}", cycle, -side * rng.uniform(3.5, 6), 38, 0.5 * busy, ("bicycle",)
                )
            )
            for k, speed in enumerate((1.3, -1.2, 0.0)):
                walk = side * (edge + 0.7 + (self.walk_m - 1.2) * (k + 0.3) / 3)
                lanes.append(
                    Lane(f"walk{side}{k}", walk, speed, 11, 0.45 * busy, ("pedestrian",), 0.8)
                )
        return tuple(lanes)

    # The shape of the street.

    def middle(self, x: np.ndarray | float) -> np.ndarray:
        """World y of the road's middle line."""
        return sum(a * np.sin(k * np.asarray(x) + p) for a, k, p in self.waves)

    def slope(self, x: np.ndarray | float) -> np.ndarray:
        """dy/dx of the middle line."""
        return sum(a * k * np.cos(k * np.asarray(x) + p) for a, k, p in self.waves)

    def crossings(self, low: float, high: float) -> np.ndarray:
        """World x of the crossing roads between two places."""
        ks = range(int(low // BLOCK_M) - 1, int(high // BLOCK_M) + 2)
        xs = np.array([k * BLOCK_M + self._rng("crossing", k).uniform(-20, 20) for k in ks])
        return xs[(xs > low - 20) & (xs < high + 20)]

    def T_world_ego(self, seconds: float) -> np.ndarray:
        """Pose of the ego vehicle (x forward, y left, z up, on the ground), float64 (4, 4)."""
        x = self.start_m + self.speed * seconds
        sway = 0.25 * np.sin(0.11 * x)
        yaw = np.arctan(self.slope(x) + 0.25 * 0.11 * np.cos(0.11 * x))
        c, s = np.cos(yaw), np.sin(yaw)
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return make_T(R, np.array([x, self.middle(x) - LANE_M / 2 + sway, 0.0]))

    # What is there.

    def scene(self, seconds: float) -> Scene:
        """All that exists around the ego vehicle at a time of the drive."""
        ego = self.start_m + self.speed * seconds
        low, high = ego - BEHIND_M, ego + AHEAD_M
        still = [self._chunk(k) for k in range(int(low // 30), int(high // 30) + 1)]
        models, labels, places, yaws, sizes, rises = [], [], [], [], [], []
        for lane in self.lanes:
            for model, label, size, rise, x, y, yaw in self._traffic(lane, seconds, ego, low, high):
                models.append(model)
                labels.append(label)
                places.append((x, y, 0.0))
                yaws.append(yaw)
                sizes.append(size)
                rises.append(rise)
        positions, turns = np.array(places).reshape(-1, 3), np.array(yaws)
        moving = placed(models, positions, turns, np.arange(len(models)))
        boxes = np.zeros((len(models), 7))
        if len(models):
            offset = np.array(rises)  # body frame centre of the bounds
            c, s = np.cos(turns), np.sin(turns)
            boxes[:, 0] = positions[:, 0] + c * offset[:, 0] - s * offset[:, 1]
            boxes[:, 1] = positions[:, 1] + s * offset[:, 0] + c * offset[:, 1]
            boxes[:, 2], boxes[:, 3:6], boxes[:, 6] = offset[:, 2], sizes, turns
        lamps = np.concatenate([lamp for _, lamp in still])
        return Scene(np.concatenate([*(s for s, _ in still), moving]), tuple(labels), boxes, lamps)

    def _traffic(
        self, lane: Lane, seconds: float, ego: float, low: float, high: float
    ) -> list[tuple]:
        moved = lane.speed * seconds
        if lane.name == "ahead0":
            moved += self.start_m  # the ego vehicle itself is slot 0
        found = []
        crossings = self.crossings(low, high)
        for k in range(int((low - moved) // lane.spacing), int((high - moved) // lane.spacing) + 1):
            if lane.name == "ahead0" and k == 0:
                continue
            user = self._user(lane, k)
            if user is None:
                continue
            model, label, size, rise, along, across, yaw = user
            x = k * lane.spacing + along + moved
            blocked = (
                lane.speed == 0 and np.abs(crossings - x).min(initial=99) < CROSSING_HALF_M + 7
            )
            if blocked or not low < x < high or (lane.name == "ahead0" and abs(x - ego) < 9):
                continue
            slope = np.arctan(self.slope(x))
            y = self.middle(x) + (lane.offset + across) / np.cos(slope)
            found.append((model, label, size, rise, x, float(y), float(yaw + slope)))
        return found

    def _user(self, lane: Lane, slot: int) -> tuple | None:
        key = (lane.name, slot)
        if key not in self._cache:
            rng = self._rng(lane.name, slot)
            self._cache[key] = (self._make_user(lane, rng),)
            if len(self._cache) > 4000:
                self._cache.pop(next(iter(self._cache)))
        return self._cache[key][0]

    def _make_user(self, lane: Lane, rng: np.random.Generator) -> tuple | None:
        if rng.random() > lane.filled:
            return None
        label = lane.kinds[rng.integers(len(lane.kinds))]
        if lane.name.startswith("parked") and rng.random() < 0.04:
            label = "bus"
        model = objects.build(label, int(rng.integers(objects.MODELS_PER_CLASS)), self.split, rng)
        low, high = extent(model)
        room = lane.spacing / 2 - (high[0] - low[0]) / 2 - 0.4
        if room < 0:
            return None
        along = rng.uniform(-1, 1) * min(room, lane.spacing / 3)
        across = rng.normal(0, lane.wobble / 2)
        heading = np.pi * (lane.speed < 0 or (lane.speed == 0 and lane.facing < 0))
        if label == "pedestrian" and lane.speed == 0:
            heading = rng.uniform(-np.pi, np.pi)
        elif lane.speed == 0 and rng.random() < 0.1:
            heading += np.pi  # parked the other way
        return (
            model,
            label,
            high - low,
            (low + high) / 2,
            along,
            across,
            heading + rng.normal(0, 0.03),
        )

    @functools.lru_cache(maxsize=64)  # noqa: B019  one drive lives in one worker's source
    def _chunk(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scenery that begins in [30 k, 30 k + 30), and the lamps in it."""
        rng, start = self._rng("chunk", k), 30.0 * k
        crossings = self.crossings(start, start + 30)
        models, places, yaws, lamps = [], [], [], []
        wall = self.half_m + self.walk_m

        def put(model: np.ndarray, x: float, offset: float, turned: float = 0.0) -> None:
            """Beside the road; on the right side (offset < 0) the model is turned around."""
            gap = CROSSING_HALF_M + 1.0 + np.abs(extent(model)[0][0])
            if np.abs(crossings - x).min(initial=999) < gap:
                return
            slope = np.arctan(self.slope(x))
            models.append(model)
            places.append((x, self.middle(x) + offset / np.cos(slope), 0.0))
            yaws.append(slope + turned + (np.pi if offset < 0 else 0.0))

        for side in (-1, 1):
            for x in np.arange(start, start + 30, 6):
                put(scenery.kerb(6.02), x + 3, side * (self.half_m + 0.08))
            x = start
            while x < start + 29:
                length = rng.uniform(9, 16) if start + 30 - x > 18 else start + 30 - x
                setback = rng.choice([0.2, 0.2, 0.5, 3.0, 6.0])
                if rng.random() < 0.9 - 0.55 * self.green:
                    put(scenery.building(rng, length), x + length / 2, side * (wall + setback))
                else:
                    for _ in range(3):
                        put(
                            scenery.tree(rng),
                            x + rng.uniform(0, length),
                            side * (wall + rng.uniform(2, 12)),
                        )
                if setback > 2 and rng.random() < 0.6:
                    put(scenery.hedge(rng), x + length / 2, side * (wall + 0.8))
                x += length
            for x in np.arange(start + rng.uniform(0, 8), start + 30, 9.5):
                edge = side * (self.half_m + 0.6)
                kind = rng.random()
                if kind < 0.25 + 0.5 * self.green:
                    put(scenery.tree(rng), x, edge)
                elif kind < 0.72 + 0.2 * self.green:
                    put(scenery.road_sign(rng), x, edge, np.pi)
                else:
                    put(scenery.bin_or_box(rng), x, edge)
            x = start + 15 + 4 * side
            before = len(models)
            put(scenery.lamp_post(rng), x, side * (self.half_m + 0.35))
            if len(models) > before:
                lamps.append((x, self.middle(x) + side * (self.half_m - 1.2), 6.5))
        for x in crossings[(crossings >= start) & (crossings < start + 30)]:
            for side in (-1, 1):
                at = (
                    x - side * (CROSSING_HALF_M + 2.2),
                    self.middle(x) - side * (self.half_m + 0.5) * 1.0,
                    0.0,
                )
                models.append(scenery.traffic_light(rng))
                places.append((at[0], at[1], 0.0))
                yaws.append(0.0 if side > 0 else np.pi)
                # The crossing street's own houses close the view to both sides.
                far = side * rng.uniform(38, 60)
                models.append(scenery.building(rng, 26))
                places.append((x, self.middle(x) + far, 0.0))
                yaws.append(0.0 if side > 0 else np.pi)
        solids = placed(
            models, np.array(places).reshape(-1, 3), np.array(yaws), np.full(len(models), -1)
        )
        waiting = self._waiting(crossings[(crossings >= start) & (crossings < start + 30)], rng)
        return np.concatenate([solids, waiting]), np.array(lamps, np.float32).reshape(-1, 3)

    def _waiting(self, crossings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        del crossings, rng
        return np.zeros(0, SOLID)


def _weather(rng: np.random.Generator) -> Weather:
    kind = rng.choice(["clear", "clear", "clear", "cloudy", "cloudy", "fog", "dusk", "night"])
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.2)
    sun, sky, light, visibility, ambient = 2.6, 0.75, (1.0, 0.95, 0.86), 420.0, 14.0
    zenith, haze = (0.16, 0.32, 0.72), (0.62, 0.7, 0.8)
    if kind == "cloudy":
        sun, sky, visibility, ambient = 0.25, 1.25, 260.0, 5.0
        zenith, haze, height = (0.55, 0.58, 0.63), (0.7, 0.72, 0.75), 1.35
    elif kind == "fog":
        sun, sky, visibility, ambient = 0.12, 1.2, rng.uniform(28, 80), 2.0
        zenith, haze, height = (0.66, 0.68, 0.7), (0.66, 0.68, 0.7), 1.4
    elif kind == "dusk":
        sun, sky, light, visibility, ambient = 1.1, 0.35, (1.0, 0.6, 0.32), 320.0, 6.0
        zenith, haze, height = (0.1, 0.14, 0.32), (0.75, 0.45, 0.28), rng.uniform(0.12, 0.3)
    elif kind == "night":
        sun, sky, light, visibility, ambient = 0.012, 0.02, (0.6, 0.7, 1.0), 260.0, -6.0
        zenith, haze = (0.004, 0.006, 0.014), (0.012, 0.013, 0.018)
    night = kind in ("night", "dusk")
    direction = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    exposure = rng.uniform(0.75, 1.25) * {"night": 3.2, "dusk": 1.35}.get(str(kind), 1.0)
    return Weather(
        direction.astype(np.float32),
        np.array(light, np.float32) * sun,
        np.array((0.8, 0.92, 1.1), np.float32) * sky,
        np.array(zenith, np.float32),
        np.array(haze, np.float32),
        float(visibility),
        night,
        0.0 if kind in ("fog", "cloudy") else rng.random(),
        float(exposure),
        ambient,
    )
