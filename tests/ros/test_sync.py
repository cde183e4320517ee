"""The matcher, on a clock of our own."""

from __future__ import annotations

from lemumo_ros.sync import MAX_IMAGES, Matcher, Stamped

MS = 1_000_000


def stamped(ms: float, arrival_ms: float | None = None) -> Stamped:
    at = ms if arrival_ms is None else arrival_ms
    return Stamped(int(ms * MS), int(at * MS), f"at {ms}")


def pairs(ready) -> list[tuple[float, float | None]]:
    return [
        (p.image.stamp_ns / MS, p.companion.stamp_ns / MS if p.companion else None) for p in ready
    ]


def test_equal_stamps_are_released_at_once_in_either_order() -> None:
    for first_image in (True, False):
        matcher = Matcher(60 * MS, 100 * MS)
        if first_image:
            matcher.add_image(stamped(100))
            assert matcher.take(100 * MS) == []
            matcher.add_companion(stamped(100))
        else:
            matcher.add_companion(stamped(100))
            matcher.add_image(stamped(100))
        assert pairs(matcher.take(100 * MS)) == [(100, 100)]
        assert matcher.take(100 * MS) == []


def test_the_nearest_companion_wins() -> None:
    matcher = Matcher(60 * MS, 100 * MS)
    for ms in (0, 50, 90):
        matcher.add_companion(stamped(ms))
    matcher.add_image(stamped(60))
    assert pairs(matcher.take(100 * MS)) == [(60, 50)]


def test_an_image_waits_only_while_a_nearer_companion_can_come() -> None:
    """LiDAR at 10 Hz: 33 ms after a sweep the next is 67 ms off, so nothing is gained."""
    matcher = Matcher(60 * MS, 100 * MS)
    matcher.add_companion(stamped(0))
    matcher.add_companion(stamped(100))
    matcher.add_image(stamped(133))
    assert pairs(matcher.take(134 * MS)) == [(133, 100)]
    matcher.add_image(stamped(167))
    assert matcher.take(168 * MS) == []
    matcher.add_companion(stamped(200))
    assert pairs(matcher.take(201 * MS)) == [(167, 200)]


def test_past_the_deadline_an_image_goes_alone() -> None:
    matcher = Matcher(60 * MS, 100 * MS)
    matcher.add_image(stamped(10))
    assert matcher.take(109 * MS) == []
    assert pairs(matcher.take(110 * MS)) == [(10, None)]


def test_outside_the_tolerance_is_no_pair() -> None:
    matcher = Matcher(20 * MS, 100 * MS)
    matcher.add_companion(stamped(0))
    matcher.add_companion(stamped(100))
    matcher.add_image(stamped(50))
    assert pairs(matcher.take(100 * MS)) == [(50, None)]


def test_a_clock_that_goes_back_does_not_starve_later_images() -> None:
    matcher = Matcher(60 * MS, 100 * MS)
    for ms in range(10_000, 12_000, 100):
        matcher.add_companion(stamped(ms))
    for ms in (0, 100, 200):
        matcher.add_companion(stamped(ms, 20_000 + ms))
        matcher.add_image(stamped(ms, 20_000 + ms))
        assert pairs(matcher.take((20_000 + ms) * MS)) == [(ms, ms)]


def test_memory_is_bounded_and_drops_are_told() -> None:
    matcher = Matcher(60 * MS, 10_000 * MS)
    dropped = sum(matcher.add_image(stamped(ms, 0)) for ms in range(100))
    assert dropped == 100 - MAX_IMAGES
    assert len(matcher.take(0, flush=True)) == MAX_IMAGES
