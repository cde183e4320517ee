"""What killed processes left in shared memory goes, what living ones hold stays."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

from lemumo_ros.shared_memory import MIN_AGE_S, clean_shared_memory, remove_dead_segments
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.segments import segment_locks, segment_of

NODE = """
import sys, rclpy
rclpy.init()
node = rclpy.create_node("holder")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(monkeypatch):
    """Start a process with a node; returns it and the lock files of its segments."""
    isolate_dds(monkeypatch)
    processes = []

    def starter():
        command = [sys.executable, "-c", NODE]
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **pipe)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        locks = segment_locks(process.pid)
        assert locks and all(segment_of(lock).exists() for lock in locks)
        return process, locks

    yield starter
    for process in processes:
        process.communicate()


@pytest.mark.ros
def test_only_segments_without_a_living_owner_go(start) -> None:
    """Any process of this machine may be the one that removes them."""
    (_, living), (killed, dead) = start(), start()
    killed.kill()
    killed.wait()
    for lock in (*living, *dead):
        os.utime(lock, (0, 0))
    clean_shared_memory()
    assert not any(path.exists() for lock in dead for path in (lock, segment_of(lock)))
    assert all(path.exists() for lock in living for path in (lock, segment_of(lock)))


@pytest.mark.ros
def test_the_end_of_a_process_leaves_nothing(start) -> None:
    process, locks = start()
    process.communicate("")
    assert not any(path.exists() for lock in locks for path in (lock, segment_of(lock)))


def test_files_that_are_young_or_not_of_fast_dds_stay(tmp_path) -> None:
    names = ["fastdds_0123456789abcdef", "fastrtps_0123456789abcdef", "fastdds_mine", "other"]
    for name in names:
        (tmp_path / name).write_bytes(bytes(8192))
        (tmp_path / f"{name}_el").touch()
    assert remove_dead_segments(tmp_path).names == ()
    for name in names:
        os.utime(tmp_path / f"{name}_el", (0, 0))
    removed = remove_dead_segments(tmp_path)
    assert set(removed.names) == set(names[:2]) and removed.size_mb == pytest.approx(0.016384)
    assert {path.name for path in tmp_path.iterdir()} == {
        name + end for name in names[2:] for end in ("", "_el")
    }
    assert MIN_AGE_S > 0


def test_what_was_removed_is_named(tmp_path, monkeypatch, caplog) -> None:
    lock = tmp_path / "fastdds_0123456789abcdef_el"
    segment_of(lock).touch()
    lock.touch()
    os.utime(lock, (0, 0))
    monkeypatch.setattr("lemumo_ros.shared_memory.FOLDER", tmp_path)
    with caplog.at_level(logging.INFO):
        clean_shared_memory()
        clean_shared_memory()
    assert caplog.text.count("fastdds_0123456789abcdef") == 1 and not lock.exists()


def test_what_another_user_must_remove_is_named(tmp_path, monkeypatch, caplog) -> None:
    lock = tmp_path / "fastdds_0123456789abcdef_el"
    segment_of(lock).touch()
    lock.touch()
    os.utime(lock, (0, 0))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    monkeypatch.setattr("lemumo_ros.shared_memory.FOLDER", tmp_path)
    clean_shared_memory()
    assert "of another user" in caplog.text and lock.exists()
