"""The table of sources: complete, lazy, and helpful where a name is wrong."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from lemumo_core.data.sources.registry import SOURCES, open_source, source_class
from lemumo_core.faults import Fault


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_each_name_is_a_class_with_the_interface(name: str) -> None:
    found = source_class(name)
    assert inspect.isclass(found)
    assert all(callable(getattr(found, m)) for m in ("__len__", "__getitem__"))


def test_missing_libraries_break_no_other_source() -> None:
    """With nothing optional installed, the registry and the folder sources still import."""
    program = (
        "import sys\n"
        "for name in ('torch', 'rosbags', 'pyarrow'):\n"
        "    sys.modules[name] = None\n"
        "from lemumo_core.data.sources.registry import source_class\n"
        "for name in ('kitti', 'kitti-raw', 'nuscenes', 'rgb-thermal', 'flir'):\n"
        "    source_class(name)\n"
        "try:\n"
        "    source_class('bags')('x')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "pip install" in result.stdout


def test_opens_with_options(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nothing")):
        open_source("kitti", root=tmp_path / "nothing", rate_hz=5.0)


def test_an_unknown_source_is_told_the_nearest() -> None:
    with pytest.raises(Fault, match="unknown source 'nuscene'; did you mean 'nuscenes'"):
        open_source("nuscene")


def test_an_unknown_option_is_told_the_nearest() -> None:
    with pytest.raises(Fault, match="kitti has no option 'rate'; did you mean 'rate_hz'") as caught:
        open_source("kitti", root="x", rate=3)
    assert caught.value.reason == "unknown_option"


def test_a_missing_option_is_named() -> None:
    with pytest.raises(Fault, match="waymo needs root"):
        open_source("waymo")
