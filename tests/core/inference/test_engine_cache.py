"""An engine is used only if its sidecar says that it was made for this job, here."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core import files
from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference.cache import locked, write_cached
from lemumo_core.inference.cuda_driver import Gpu
from lemumo_core.inference.engine_cache import (
    PORTABLE,
    EngineKey,
    find_engine,
    read_engine,
    store_engine,
)

ORIN = Gpu("Orin", "8.7", 16, "12.6")
KEY = EngineKey.here("a" * 64, "tensorrt", "10.3.0.26", ORIN, "fp16", (1, 1, 1), {"level": 3})
PLAN = bytes(range(256)) * 40


def test_round_trip(tmp_path) -> None:
    path = store_engine(tmp_path, "my model/1", KEY, PLAN, {"seconds": 3.0})
    assert path.parent == tmp_path and path.suffix == ".engine" and path.read_bytes() == PLAN
    assert read_engine(path, KEY) == PLAN
    assert json.loads(path.with_suffix(".json").read_text())["seconds"] == 3.0
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".engine", ".json"]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("onnx_sha256", "b" * 64),
        ("flavour", "tensorrt-rtx"),
        ("version", "10.16.1.11"),
        ("gpu", "Orin Nano, 8.7, 8 SMs"),
        ("driver", "12.2"),
        ("precision", "fp32"),
        ("batch", (1, 1, 2)),
        ("batch", (0, 1, 1)),
    ],
)
def test_an_engine_of_another_key_is_refused_by_name(tmp_path, field, value) -> None:
    path = store_engine(tmp_path, "m", KEY, PLAN, {})
    with pytest.raises(Fault, match=f"built for another job: {field} ") as error:
        read_engine(path, replace(KEY, **{field: value}))
    assert error.value.reason == "wrong_engine" and str(value) in str(error.value)


def test_options_and_smaller_batches_are_served(tmp_path) -> None:
    path = store_engine(tmp_path, "m", replace(KEY, batch=(1, 4, 8)), PLAN, {})
    assert read_engine(path, replace(KEY, batch=(3, 3, 3), options={})) == PLAN
    with pytest.raises(Fault, match="batch"):
        read_engine(path, replace(KEY, batch=(9, 9, 9)))


@pytest.mark.fault(15)
@pytest.mark.parametrize("share", range(16))
def test_a_truncated_engine_is_refused(tmp_path, share) -> None:
    path = store_engine(tmp_path, "m", KEY, PLAN, {})
    path.write_bytes(PLAN[: len(PLAN) * share // 16])
    with pytest.raises(Fault, match="truncated or was changed"):
        read_engine(path, KEY)


@pytest.mark.fault(15)
def test_a_flipped_bit_and_a_foreign_sidecar_are_refused(tmp_path) -> None:
    path = store_engine(tmp_path, "m", KEY, PLAN, {})
    path.write_bytes(PLAN[:-1] + b"\x00")
    with pytest.raises(Fault, match="sha256"):
        read_engine(path, KEY)
    for text in ("", "{}", "[1]", '{"key": {"batch": [1]}, "sha256": ""}', '{"key": 3}'):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(Fault, match="no sound sidecar"):
            read_engine(path, KEY)
    path.with_suffix(".json").unlink()
    with pytest.raises(Fault, match="no sound sidecar"):
        read_engine(path, KEY)


def test_the_newest_sound_engine_is_found(tmp_path) -> None:
    old = store_engine(tmp_path, "m", KEY, b"old", {})
    new = store_engine(tmp_path, "m", replace(KEY, options={"level": 5}), b"new", {})
    os.utime(old, (1, 1))
    assert find_engine(tmp_path, KEY) == (new, b"new")
    new.write_bytes(b"ne")
    assert find_engine(tmp_path, KEY) == (old, b"old")
    with pytest.raises(
        Fault, match=r"build-engine PACKAGE --runtime tensorrt --precision int8"
    ) as e:
        find_engine(tmp_path, replace(KEY, precision="int8"))
    assert e.value.reason == "no_engine" and "precision fp16, not int8" in str(e.value)
    with pytest.raises(Fault, match="has no engine for this machine"):
        find_engine(tmp_path / "nowhere", KEY)


def test_rtx_engines_are_portable() -> None:
    key = EngineKey.here("a" * 64, "tensorrt-rtx", "1.7", ORIN, "fp16", (1, 1, 1), {})
    assert key.gpu == key.driver == PORTABLE
    assert KEY.gpu == "Orin, 8.7, 16 SMs"


def test_where_the_cache_is(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LEMUMO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lemumo"


@pytest.mark.fault(15)
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def no_space(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(Fault, match=r"is full: free some space, or set LEMUMO_CACHE"):
        write_cached(tmp_path / "x.engine", PLAN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(15)
def test_a_read_only_folder_says_so(tmp_path, monkeypatch) -> None:
    def read_only(_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "_unfinished_name", read_only)
    with pytest.raises(Fault, match=r"cannot be written \(Read-only file system\)"):
        write_cached(tmp_path / "x.engine", PLAN)
    blocked = tmp_path / "file"
    blocked.touch()
    with (
        pytest.raises(Fault, match="cannot be written"),
        locked(blocked / "cache" / "x.engine", 1.0),
    ):
        pass


HOLDER = """
    import sys, time
    from pathlib import Path
    from lemumo_core.inference.cache import locked
    with locked(Path(sys.argv[1]), 1.0):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.fault(15)
def test_two_processes_take_turns(tmp_path) -> None:
    path = tmp_path / "x.engine"
    with holder(path, 60.0) as process:
        with pytest.raises(Fault, match="still held by another build"), locked(path, 0.3):
            pass
        process.kill()
    with locked(path, 1.0) as waited:  # a dead holder frees it
        assert not waited
    with holder(path, 0.5), locked(path, 10.0) as waited:
        assert waited
