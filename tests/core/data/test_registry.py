"""The table of sources: complete, lazy, and helpful where a name is wrong."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from lemumo_core.command_line import CommandLine
from lemumo_core.data.sources import registry
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import SOURCES, named_source, open_source, source_class
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


def test_a_location_says_what_it_holds(tmp_path) -> None:
    bag = tmp_path / "bags" / "day" / "drive.mcap"
    bag.parent.mkdir(parents=True)
    bag.touch()
    for data in (bag, bag.parent, tmp_path / "bags"):
        assert named_source(str(data)) == ("bags", {"path": str(data)})
    (tmp_path / "shards").mkdir()
    for data in (str(tmp_path / "shards"), "s3://bucket/shards"):
        assert named_source(data) == ("shards", {"root": data})
    assert named_source("kitti") == ("kitti", {})
    with pytest.raises(Fault, match="unknown source 'drvie', and no file or folder has this name"):
        named_source("drvie")


def test_an_unknown_option_is_told_the_nearest() -> None:
    with pytest.raises(Fault, match="kitti has no option 'rate'; did you mean 'rate_hz'") as caught:
        open_source("kitti", root="x", rate=3)
    assert caught.value.reason == "unknown_option"


def test_a_missing_option_is_named() -> None:
    with pytest.raises(Fault, match="waymo needs root"):
        open_source("waymo")


class EveryKind:
    """A source that keeps its options."""

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        frames: int = 3,
        rate_hz: float | None = None,
        raw: bool = False,
        rectified: bool | Literal["auto"] = "auto",
        cameras: str | Sequence[str] = "front",
        returns: Sequence[int] = (1, 2),
    ):
        self.options = dict(locals())


WORDS = ["2011_09_26", "0009", "2024-01-05", "on", "no", "1e3", "0x1F", "off", "12:30:00", "None"]


@pytest.fixture
def every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SOURCES, "every-kind", f"{__name__}:EveryKind")


@pytest.mark.parametrize("word", WORDS)
def test_folders_that_look_like_numbers_stay_text(every_kind: None, word: str) -> None:
    @dataclass
    class Config:
        data_options: SourceOptions = field(default_factory=dict)

    parser = CommandLine()
    parser.add_class_arguments(Config, as_group=False)
    options = parser.parse_args(["--data_options.root", word, "--data_options.split", word])
    source = open_source("every-kind", **options.data_options)
    assert source.options["root"] == word and source.options["split"] == word


def test_words_are_read_by_the_types_of_the_signature(every_kind: None) -> None:
    words = {"root": "7", "frames": "12", "rate_hz": "2.5", "raw": "true", "rectified": "false"}
    options = open_source("every-kind", **words, returns=[2], cameras=["a", "b"]).options
    assert options["root"] == "7" and options["cameras"] == ["a", "b"]
    assert options["frames"] == 12 and options["rate_hz"] == 2.5 and options["returns"] == [2]
    assert options["raw"] is True and options["rectified"] is False
    assert open_source("every-kind", root="x", rectified="auto").options["rectified"] == "auto"
    assert open_source("every-kind", root=Path("x"), frames=5).options["root"] == Path("x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": 20110926}, "root is 20110926, a int, but must be text"),
        ({"root": "x", "split": False}, "split is False, a bool, but must be text"),
        ({"root": "x", "frames": "many"}, "frames is 'many', which does not fit"),
        ({"root": "x", "raw": "perhaps"}, "raw is 'perhaps', which does not fit"),
    ],
)
def test_options_that_do_not_fit_are_named(every_kind: None, options: dict, words: str) -> None:
    with pytest.raises(Fault, match=words) as caught:
        open_source("every-kind", **options)
    assert caught.value.reason == "bad_option"
