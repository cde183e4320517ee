"""Road users on the street, and where they are at a time.

Traffic runs in rows of one speed each. A row is infinite and made of slots that travel with it;
slot k always holds the same road user, who stays inside the slot. Rows do not overlap, so nobody
ever collides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lemumo_core.world import objects
from lemumo_core.world.palette import Rng
from lemumo_core.world.road import CROSSING_HALF_M, LANE_M, PARKING_M, Road
from lemumo_core.world.solids import extent

DRIVING = ("car", "car", "car", "car", "car", "truck", "bus", "motorcycle")
PARKED = ("car", "car", "car", "car", "car", "car", "truck")
QUEUING = ("car", "car", "car", "car", "truck", "motorcycle")

FURNITURE_M = 0.8
"""Strip of the pavement next to the kerb where trees, posts and bins stand."""
QUEUE_M = 22.0
"""How far from the pavement a queue on a crossing road may reach."""


@dataclass(frozen=True, eq=False)
class RoadUser:
    """A road user at a position in a slot of a row.

    Attributes:
        label: detection class.
        solids: ``SOLID`` (P,), body frame.
        low: (3,) lower bounds in the body frame, metres.
        high: (3,) upper bounds, likewise.
        along: from the middle of the slot, metres along x.
        across: from the middle of the slot, metres to the left.
        yaw: of the body to the road's direction, radians.
    """

    label: str
    solids: np.ndarray
    low: np.ndarray
    high: np.ndarray
    along: float = 0.0
    across: float = 0.0
    yaw: float = 0.0

    @property
    def length(self) -> float:
        """Length in metres."""
        return float(self.high[0] - self.low[0])


Waiting = tuple[RoadUser, tuple[float, float, float]]
"""A road user standing at x, y, yaw, world frame."""


@dataclass(frozen=True)
class Row:
    """A row of road users.

    Attributes:
        name: unique on the street.
        kinds: detection classes, as often as they are to be drawn.
        offset: left of the road's middle, metres.
        way: +1 faces along x, -1 against it.
        speed: along the way, measured along x, m/s; 0 = they stand.
        spacing: length of a slot, metres.
        filled: share of the slots that are taken.
        wobble: farthest that users are beside the middle of the row, metres.
        start_m: x of slot 0 at second 0.
        has_ego: slot 0 is the ego vehicle's and stays empty.
    """

    name: str
    kinds: tuple[str, ...]
    offset: float
    way: int
    speed: float
    spacing: float
    filled: float
    wobble: float = 0.1
    start_m: float = 0.0
    has_ego: bool = False

    def slots(self, seconds: float, low: float, high: float) -> list[tuple[int, float]]:
        """Return number and middle x of the slots that may hold a user in a range of x."""
        moved = self.start_m + self.way * self.speed * seconds
        first, last = (
            math.floor((low - moved) / self.spacing),
            math.ceil((high - moved) / self.spacing),
        )
        ks = (k for k in range(first, last + 1) if k or not self.has_ego)
        return [(k, moved + k * self.spacing) for k in ks]

    def user(self, rng: Rng, split: str) -> RoadUser | None:
        """Draw the user of a slot; None where it is empty or the user is too long for it."""
        if rng.random() > self.filled:
            return None
        user = draw_user(self.kinds, split, rng, self.speed > 0)
        room = self.spacing / 2 - user.length / 2 - 0.4
        if room < 0:
            return None
        yaw = 0.0 if self.way > 0 else math.pi
        if self.speed == 0 and user.label == "pedestrian":
            yaw = rng.uniform(-math.pi, math.pi)
        elif self.speed == 0:  # parked a little askew, now and then the other way round
            yaw += math.pi * (rng.random() < 0.1) + rng.uniform(-0.1, 0.1) / user.length
        return replace(
            user,
            along=rng.uniform(-1, 1) * min(room, self.spacing / 3),
            across=rng.uniform(-1, 1) * self.wobble,
            yaw=yaw,
        )


def draw_user(kinds: tuple[str, ...], split: str, rng: Rng, moving: bool) -> RoadUser:
    """Draw any model of any of the classes."""
    label = kinds[rng.integers(len(kinds))]
    model = int(rng.integers(objects.MODELS_PER_CLASS))
    solids = objects.build(label, model, split, rng, moving)
    return RoadUser(label, solids, *extent(solids))


def rows(road: Road, rng: Rng, ego_speed: float, ego_start_m: float) -> tuple[Row, ...]:
    """Draw the rows of a street, the one with the ego vehicle first.

    From the middle to the walls of each side: lanes, a strip of parking bays or cyclists, the
    pavement's furniture, two rows of people who walk and one who stand.
    """
    busy = rng.uniform(0.4, 1.0)
    found = []
    for k in range(road.lanes_each_way):
        offset, ego = LANE_M * (k + 0.5), k == 0
        speed, start_m = (ego_speed, ego_start_m) if ego else (ego_speed - rng.uniform(1, 3), 0.0)
        found += [
            Row(f"ahead{k}", DRIVING, -offset, 1, speed, 26, 0.55 * busy, 0.1, start_m, ego),
            Row(f"oncoming{k}", DRIVING, offset, -1, rng.uniform(6, 13), 28, 0.6 * busy),
        ]
    strip, walk = road.half_m - PARKING_M / 2, road.half_m + FURNITURE_M
    width = (road.walk_m - FURNITURE_M) / 3
    wobble = max(0.0, width / 2 - 0.4)
    for side in (-1, 1):
        if rng.random() < 0.4:
            speed = rng.uniform(3.5, 6)
            found.append(
                Row(f"cycle{side}", ("bicycle",), side * strip, -side, speed, 16, 0.6 * busy, 0.3)
            )
        else:
            parked = side * (strip + 0.1)
            found.append(Row(f"parked{side}", PARKED, parked, -side, 0.0, 7.5, 0.65 * busy))
        for k, (way, speed) in enumerate(((1, 1.3), (-1, 1.2), (1, 0.0))):
            offset = side * (walk + (k + 0.5) * width)
            found.append(
                Row(f"walk{side}{k}", ("pedestrian",), offset, way, speed, 11, 0.4 * busy, wobble)
            )
    return tuple(found)


def queue(road: Road, crossing: float, side: int) -> list[Waiting]:
    """Draw the road users who wait on a crossing road for the main road to clear.

    Args:
        road: the main road.
        crossing: x of the crossing.
        side: +1 left of the main road, -1 right of it.

    Returns:
        The first in the queue first.
    """
    rng = road.rng("queue", round(crossing), side)
    x, end = crossing - side * CROSSING_HALF_M / 2, road.half_m + road.walk_m + 1.0
    limit = end + QUEUE_M
    found: list[Waiting] = []
    middle = float(road.middle(x))
    for _ in range(rng.integers(0, 4)):
        user = draw_user(QUEUING, road.split, rng, moving=True)
        if end + user.length > limit:
            break
        found.append((user, (x, middle + side * (end + float(user.high[0])), -side * math.pi / 2)))
        end += user.length + rng.uniform(1.0, 2.5)
    return found
