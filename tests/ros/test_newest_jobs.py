"""Jobs in a thread, of which late ones are left out."""

from __future__ import annotations

import threading

from lemumo_ros.newest_jobs import NewestJobs


def test_the_newest_of_each_kind_is_done_and_a_failure_named() -> None:
    done, failures = [], []
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(60)
        raise ValueError("broken")

    jobs = NewestJobs("test", failures.append)
    jobs.start()
    jobs.submit("left", hold)
    assert begun.wait(60)
    for number in range(3):
        jobs.submit("left", lambda number=number: done.append(("left", number)))
        jobs.submit("right", lambda number=number: done.append(("right", number)))
    go_on.set()
    jobs.stop()  # after those that wait
    assert done == [("left", 2), ("right", 2)]
    assert [repr(one) for one in failures] == ["ValueError('broken')"]
    jobs.start()
    jobs.submit("left", lambda: done.append(("left", 3)))
    jobs.stop()
    assert done[-1] == ("left", 3)
