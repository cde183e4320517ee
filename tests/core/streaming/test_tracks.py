"""Tracks of objects on a street that is known, and of inputs that are not as they should be."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs: pip install '.[tracking]'")
pytest.importorskip("torch", reason="the street needs: pip install '.[train]'")

from lemumo_core.faults import Fault
from lemumo_core.frame import NO_TRACK, Frame, Perception
from lemumo_core.geometry.se3 import make_T
from lemumo_core.metrics.assignment import assign
from lemumo_core.replay.tracks import TRACKED, TRIVIAL, BagTracks
from lemumo_core.streaming.kalman import (
    ACCELERATION_MPS2,
    INITIAL_SPEED_MPS,
    first_state,
    predict,
    update,
)
from lemumo_core.streaming.tracks import TrackedCameras
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.noisy_tracks import CAMERA, START_NS, Noise, perception, score_tracks, street

MANIFEST = SimpleNamespace(classes=Taxonomy(), numbers_of_box=7, name="made of the truth")
STEP_NS = 100_000_000


def seen(places: list[tuple[float, float, float]], stamp_ns: int) -> Perception:
    """A result with a car at each of these places in the camera's frame."""
    boxes = np.zeros((len(places), 7), np.float32)
    boxes[:, :3], boxes[:, 3:6] = np.reshape(places, (-1, 3)), (4, 2, 1.5)
    frame = Frame(stamp_ns, "front", CAMERA)
    count = len(places)
    return perception(frame, boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int64))


def ids(cameras: TrackedCameras, result: Perception, T: np.ndarray | None = None) -> list[int]:
    tracked = cameras.update(result, np.eye(4) if T is None else T, "odom")
    return tracked.tracks.ids.tolist()


@pytest.fixture
def cameras() -> TrackedCameras:
    return TrackedCameras(MANIFEST)


def test_ids_hold_over_noise_dropped_boxes_and_dropped_frames() -> None:
    rng = np.random.default_rng(0)
    stamps_ns = np.cumsum(rng.choice([70, 100, 130, 350], 45, p=[0.3, 0.3, 0.3, 0.1])) * 1_000_000
    results = score_tracks(BagTracks(MANIFEST, is_fixed=True), street(stamps_ns), Noise(), rng)
    ours, trivial = results[TRACKED], results[TRIVIAL]
    assert ours["objects"] > 400
    assert ours["id_switches"] <= 4 and trivial["id_switches"] > 5 * ours["id_switches"]
    assert ours["amota"] > max(0.7, trivial["amota"] + 0.1)
    assert ours["amotp_m"] < trivial["amotp_m"]
    assert ours["velocity_error_mps"] < 0.3 * ours["speed_mps"]


def test_the_filter_solves_least_squares() -> None:
    """Over the first state and all accelerations at once, with all measurements."""
    rng = np.random.default_rng(1)
    steps_s, noise = [0.1, 0.25, 0.1], np.diag([0.04, 0.09, 0.25])
    measured = rng.normal(0, 1, (4, 1, 3))
    means, covariances = first_state(measured[0], noise[None])
    for step_s, one in zip(steps_s, measured[1:], strict=True):
        means, covariances = predict(means, covariances, step_s)
        means, covariances = update(means, covariances, one, noise[None])

    unknowns = 6 + 3 * len(steps_s)
    state, rows, values = np.eye(6, unknowns), [], []  # the state, as it depends on the unknowns
    whitened = np.linalg.inv(np.sqrt(noise))
    for number, one in enumerate(measured):
        if number:
            step_s = steps_s[number - 1]
            state = np.kron([[1, step_s], [0, 1]], np.eye(3)) @ state
            pushed = np.kron([[step_s**2 / 2], [step_s]], np.eye(3))
            state[:, 3 + 3 * number : 6 + 3 * number] += pushed
        rows.append(whitened @ state[:3])
        values.append(whitened @ one[0])
    known = [1 / INITIAL_SPEED_MPS] * 3 + [1 / ACCELERATION_MPS2] * (unknowns - 6)
    rows.append(np.eye(unknowns)[3:] * np.array(known)[:, None])
    values.append(np.zeros(len(known)))
    A, y = np.concatenate(rows), np.concatenate(values)
    covariance = np.linalg.inv(A.T @ A)
    np.testing.assert_allclose(means[0], state @ covariance @ A.T @ y, atol=1e-9)
    np.testing.assert_allclose(covariances[0], state @ covariance @ state.T, atol=1e-9)


def test_pairs_are_the_cheapest_of_the_most() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        rows, columns = rng.integers(1, 5, 2)
        cost, allowed = rng.normal(0, 3, (rows, columns)), rng.random((rows, columns)) < 0.6
        i, j = assign(np.where(allowed, cost, np.nan), allowed)
        assert allowed[i, j].all() and len(set(i)) == len(set(j)) == len(i)
        best = (0, 0.0)
        for chosen in itertools.permutations([*range(columns), *[-1] * rows], int(rows)):
            pairs = [(r, c) for r, c in enumerate(chosen) if c >= 0 and allowed[r, c]]
            best = min(best, (-len(pairs), sum(cost[r, c] for r, c in pairs)))
        assert (-len(i), cost[i, j].sum()) == (best[0], pytest.approx(best[1]))


def test_two_cameras_that_see_one_object_have_one_track(cameras: TrackedCameras) -> None:
    """The second is turned by half a radian, and its images come late and out of order."""
    a = 0.5
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    T_side = make_T(turn, np.array([0.5, 0, 0]))
    found = []
    for i in range(6):
        stamp_ns = START_NS + i * STEP_NS
        place = np.array([6.0, 0, 18 + 0.8 * i])
        late = np.array([6.0, 0, 18 + 0.8 * (i - 0.4)])
        found += ids(cameras, seen([place], stamp_ns))
        from_side = (late - T_side[:3, 3]) @ T_side[:3, :3]
        found += ids(cameras, seen([from_side], stamp_ns - 4 * STEP_NS // 10), T_side)
    assert set(found[1:]) == {1} and found[0] == NO_TRACK


def test_a_track_survives_a_gap_and_ends_after_a_long_one(cameras: TrackedCameras) -> None:
    def at(seconds: float) -> list[int]:
        place = (0.1 * seconds, 0.0, 20 + 4 * seconds)
        return ids(cameras, seen([place], START_NS + round(seconds * 1e9)))

    assert [at(0), at(0.1), at(0.2)] == [[NO_TRACK], [1], [1]]
    assert at(1.5) == [1]  # no frame came in between
    for tenths in (16, 17):  # these do not show it
        ids(cameras, seen([], START_NS + tenths * STEP_NS))
    assert at(1.8) == [1]
    for tenths in range(19, 29):  # it is gone
        ids(cameras, seen([], START_NS + tenths * STEP_NS))
    assert [at(2.9), at(3.0)] == [[NO_TRACK], [2]]
    assert [at(13.0), at(13.1)] == [[NO_TRACK], [3]]  # a jump of ten seconds


def test_what_no_camera_looks_at_is_not_missed(cameras: TrackedCameras) -> None:
    behind = make_T(np.diag([-1.0, 1, -1]), np.zeros(3))
    for i in range(3):
        ids(cameras, seen([(0, 0, 20)], START_NS + i * STEP_NS))
    for i in range(3, 15):
        ids(cameras, seen([], START_NS + i * STEP_NS), behind)
    assert ids(cameras, seen([(0, 0, 20)], START_NS + 15 * STEP_NS)) == [1]


def test_a_looped_bag_begins_anew_with_other_ids(cameras: TrackedCameras) -> None:
    for turn in range(3):
        found = [ids(cameras, seen([(0, 0, 20)], START_NS + i * STEP_NS)) for i in range(8)]
        assert found == [[NO_TRACK], *[[turn + 1]] * 7]


def test_boxes_that_are_not_finite_have_no_track(cameras: TrackedCameras) -> None:
    for i in range(3):
        places = [(0, 0, 20), (np.nan, 0, 20), (3, 0, np.inf), (5, 0, 30)]
        found = ids(cameras, seen(places, START_NS + i * STEP_NS))
    assert found == [1, NO_TRACK, NO_TRACK, 2]


def test_a_thousand_boxes_are_tracked_the_same_way_twice() -> None:
    rng = np.random.default_rng(3)
    places = rng.uniform((-60, 0, 2), (60, 2, 120), (1000, 3))
    runs = []
    for _ in range(2):
        cameras, draw = TrackedCameras(MANIFEST), np.random.default_rng(4)
        frames = [
            cameras.update(seen(places + draw.normal(0, 0.1, places.shape), stamp_ns), T, "odom")
            for stamp_ns, T in ((START_NS + i * STEP_NS, np.eye(4)) for i in range(3))
        ]
        runs.append(frames[-1].tracks)
    assert (runs[0].ids > 0).mean() > 0.95
    for one, other in zip(vars(runs[0]).values(), vars(runs[1]).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_cannot_be_tracked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Fault, match="turn tracking off") as caught:
        TrackedCameras(SimpleNamespace(**{**vars(MANIFEST), "numbers_of_box": 4}))
    assert caught.value.reason == "no_boxes_3d"
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="tracks need SciPy: pip install"):
        TrackedCameras(MANIFEST)


def test_ids_go_on_with_another_model(cameras: TrackedCameras) -> None:
    results = [seen([(0, 0, 20)], START_NS + i * STEP_NS) for i in range(4)]
    assert [ids(cameras, one) for one in results[:2]] == [[NO_TRACK], [1]]
    cameras.set_model(SimpleNamespace(**{**vars(MANIFEST), "classes": Taxonomy(("car",))}))
    assert [ids(cameras, one) for one in results[2:]] == [[NO_TRACK], [2]]
