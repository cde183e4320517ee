"""Replays of many bags: the same results by any workers and hosts, stopped and started again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lemumo_core.cli import main as cli
from tests.helpers.many_bags import contents, write_many_bags
from tests.helpers.program import Program

BAGS = 5


@pytest.fixture(scope="module")
def bags(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    write_many_bags(folder, BAGS)
    return folder


def words(bags: Path, model: Path, out: Path, *options: object) -> list[str]:
    fixed = ["--model", model, "--backend", "onnxruntime", "--out", out]
    return ["replay", *map(str, [bags, *fixed, *options])]


@pytest.fixture(scope="module")
def whole(bags, toy_package, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert cli.main(words(bags, toy_package, out)) == 0
    return out


def test_parts_are_the_same_bytes(bags, toy_package, whole, tmp_path, capsys) -> None:
    assert cli.main(words(bags, toy_package, tmp_path, "--part", "2/2")) == 0
    assert "2 of 5 bags were part 2/2" in capsys.readouterr().out
    assert not (tmp_path / "metrics.json").exists()
    assert cli.main(words(bags, toy_package, tmp_path)) == 0
    shown = capsys.readouterr().err
    assert "bag001: done already" in shown and "bag000: done already" not in shown
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_goes_on(number, bags, toy_package, whole, tmp_path) -> None:
    """With a bag for each worker; nothing of an unfinished one is in its place."""
    out = tmp_path / "out"
    command = words(bags, toy_package, out, "--workers", 2)
    program = Program(tmp_path / "log", *command)
    program.wait_until(lambda: any(out.glob("bag*/bag.json")))
    program.signal(number, everyone=number == signal.SIGINT)
    code, printed = program.end()
    assert code in (0, 128 + number), printed
    finished = contents(out)
    done = {name.split("/")[0] for name in finished if name.endswith("bag.json")}
    assert {name.split("/")[0] for name in finished if name.startswith("bag")} == done
    assert cli.main(command) == 0
    assert contents(out) == contents(whole)


def test_several_hosts_need_a_shared_folder(bags, toy_package, capsys) -> None:
    command = ["replay", str(bags), "--model", str(toy_package), "--part", "1/2"]
    assert cli.main(command) == 1
    assert "add --out" in capsys.readouterr().err
