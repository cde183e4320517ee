"""One drive along an endless street: scenery, road users and weather at any time.

Everything is a function of (seed, split, position, time), so any moment of a drive can be asked for
on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lemumo_core.geometry.se3 import make_T
from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world import clutter, roadside, traffic, weather
from lemumo_core.world.road import CROSSING_HALF_M, LANE_M, Road
from lemumo_core.world.solids import LAMP, joined, placed

BEHIND_M, AHEAD_M = 40.0, 150.0
"""How much of the street around the ego vehicle exists."""
PARKING_GAP_M = 7.0
"""Nobody stands or parks closer to a crossing road."""
SWAY_M, SWAY_PER_M = 0.25, 0.11
"""How far and how fast the ego vehicle weaves in its lane: metres, radians per metre."""
CLEAR_GLASS = 0.6
"""Share of varied streets whose windows let a LiDAR through, which then sees what is behind a car's
cabin. Elsewhere most returns from panes are lost."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The street at one time.

    Attributes:
        solids: ``SOLID`` (P,), world frame; ``owner`` indexes the objects.
        labels: detection class of each of the K objects.
        boxes: float64 (K, 7) centre x, y, z, length, width, height, yaw, world frame.
        ids: K names, the same at all times of a drive, and of no other drive.
        lamps: float32 (L, 3) positions of street lamps.
        clear_glass: a LiDAR sees through glass, a camera does not.
    """

    solids: np.ndarray
    labels: tuple[str, ...]
    boxes: np.ndarray
    ids: tuple[str, ...]
    lamps: np.ndarray
    clear_glass: bool


class Drive(Road):
    """One drive: street, weather and traffic.

    Args:
        seed: of everything, not negative.
        split: which catalogue of objects, one of ``objects.SPLITS``.
        varied: the roadside is full of things that are no road users (``clutter``), and the ground
            is of all sorts of materials (``ground``); LiDARs may see through glass.

    Attributes:
        speed: of the ego vehicle along x, m/s.
        start_m: its x at second 0.
        weather: the light.
        rows: of the traffic.
        parking: sides with parking bays beside the lanes, of -1 (right) and 1.
    """

    def __init__(self, seed: int, split: str, varied: bool = False):
        super().__init__(seed, split)
        self.varied = varied
        rng = self.rng("drive")
        self.speed = float(rng.uniform(6, 13))
        self.start_m = float(rng.uniform(0, 5000))
        self.weather = weather.draw(rng)
        self.rows = traffic.rows(self, rng, self.speed, self.start_m)
        names = {row.name for row in self.rows}
        self.parking = tuple(side for side in (-1, 1) if f"parked{side}" in names)

    def T_world_ego(self, seconds: float) -> np.ndarray:
        """Return the ego pose (x forward, y left, z up, on the ground), float64 (4, 4)."""
        x = self.start_m + self.speed * seconds
        y = self.middle(x) - LANE_M / 2 + SWAY_M * np.sin(SWAY_PER_M * x)
        slope = np.tan(self.heading(x)) + SWAY_M * SWAY_PER_M * np.cos(SWAY_PER_M * x)
        yaw = np.arctan(slope)
        c, s = np.cos(yaw), np.sin(yaw)
        return make_T(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([x, y, 0.0]))

    def scene(self, seconds: float) -> Scene:
        """Return the scene around the ego vehicle at a time of the drive, seconds."""
        ego = self.start_m + self.speed * seconds
        low, high = ego - BEHIND_M, ego + AHEAD_M
        stretches = range(int(low // roadside.STRETCH_M), int(high // roadside.STRETCH_M) + 1)
        still = joined([self.cached(self._stretch, k) for k in stretches])
        lamps = (still["material"] == LAMP) & (still["label"] == SEGMENTATION_IDS["pole"])

        users, names, poses = self._users(seconds, low, high)
        positions = np.column_stack([poses[:, :2], np.zeros(len(users))])
        yaws = poses[:, 2]
        moving = placed([user.solids for user in users], positions, yaws, np.arange(len(users)))
        return Scene(
            joined([still, moving]),
            tuple(user.label for user in users),
            _boxes(users, positions, yaws),
            tuple(f"{self.split}{self.seed}/{name}" for name in names),
            still["center"][lamps],
            self.varied and bool(self.rng("glass").random() < CLEAR_GLASS),
        )

    def _users(
        self, seconds: float, low: float, high: float
    ) -> tuple[list[traffic.RoadUser], list[str], np.ndarray]:
        """Return all road users in a range of x, their names, and x, y, yaw of each (K, 3)."""
        crossings = self.crossings(low, high)
        users, names, slots = [], [], []
        for number, row in enumerate(self.rows):
            for slot, middle in row.slots(seconds, low, high):
                user = self.cached(self._user, number, slot)
                if user is None:
                    continue
                x = middle + user.along
                stays_clear = CROSSING_HALF_M + PARKING_GAP_M if row.speed == 0 else 0.0
                if low < x < high and min(abs(crossings - x), default=np.inf) >= stays_clear:
                    users.append(user)
                    names.append(f"{row.name}/{slot}")
                    slots.append((x, row.offset + user.across, user.yaw))
        x, offset, yaw = np.array(slots).reshape(-1, 3).T
        y, heading = self.beside(x, offset)
        poses = np.stack([x, y, yaw + heading], axis=1)
        waiting = []
        for crossing in crossings[(crossings > low) & (crossings < high)]:
            queues = self.cached(self._queues, crossing)
            waiting += queues
            names += [f"waits{crossing:.0f}/{k}" for k in range(len(queues))]
        users += [user for user, _ in waiting]
        places = np.array([at for _, at in waiting]).reshape(-1, 3)
        return users, names, np.concatenate([poses, places])

    def _stretch(self, k: int) -> np.ndarray:
        built = roadside.stretch(self, k)
        if not self.varied:
            return built
        start = roadside.STRETCH_M * k
        end = start + roadside.STRETCH_M
        return joined([built, clutter.stretch(self, start, end, self._empty_bays(start, end))])

    def _empty_bays(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """Yield x and offset of the parking bays of a stretch in which no vehicle stands."""
        crossings = self.crossings(start, end)
        for number, row in enumerate(self.rows):
            if not row.name.startswith("parked"):
                continue
            for slot, x in row.slots(0.0, start, end):
                clear = min(abs(crossings - x), default=np.inf) >= CROSSING_HALF_M + PARKING_GAP_M
                if start <= x < end and clear and self.cached(self._user, number, slot) is None:
                    yield x, row.offset

    def _user(self, number: int, slot: int) -> traffic.RoadUser | None:
        row = self.rows[number]
        return row.user(self.rng(row.name, slot), self.split)

    def _queues(self, crossing: float) -> list[traffic.Waiting]:
        return [*traffic.queue(self, crossing, -1), *traffic.queue(self, crossing, 1)]


def _boxes(users: list[traffic.RoadUser], positions: np.ndarray, yaws: np.ndarray) -> np.ndarray:
    """Return the boxes (K, 7) of road users at positions (K, 3) with yaws (K,)."""
    bounds = np.array([(user.low, user.high) for user in users]).reshape(-1, 2, 3)
    middle, size = bounds.mean(axis=1), bounds[:, 1] - bounds[:, 0]
    c, s = np.cos(yaws), np.sin(yaws)
    boxes = np.concatenate([positions, size, yaws[:, None]], axis=1)
    boxes[:, 0] += c * middle[:, 0] - s * middle[:, 1]
    boxes[:, 1] += s * middle[:, 0] + c * middle[:, 1]
    boxes[:, 2] += middle[:, 2]
    return boxes
