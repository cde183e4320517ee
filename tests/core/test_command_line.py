"""The dialect of all commands: a signature is a command line."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from lemumo_core.cli import main as cli
from lemumo_core.command_line import run_function
from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import check_rigid

LAST = [0, 0, 0, 1]
"""Last row of a transform."""


@dataclass(frozen=True)
class Options:
    """Options that stand beside the others.

    Attributes:
        rate: a number.
        workers: at least 1.
    """

    rate: float = 1.0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise Fault("bad_option", f"--workers {self.workers} must be 1 or more")


class Called:
    """A command that keeps what it was called with."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def run(self, *arguments: str) -> int:
        def command(
            bags: list[str],
            *,
            out: Path,
            live: bool = False,
            precision: list[Literal["fp16", "int8-cpu"]] | None = None,
            batch: tuple[int, int, int] = (1, 1, 1),
            extrinsics: list[float] | None = None,
            source_options: dict[str, Any] | None = None,
            options: Options,
        ) -> None:
            """Do something.

            Args:
                bags: to read.
                out: to write to.
            """
            self.values = dict(locals())

        return run_function("lemumo test", command, arguments)


@pytest.fixture
def called() -> Called:
    return Called()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a b --out o", {"bags": ["a", "b"], "out": Path("o"), "live": False}),
        ("--live a --out o", {"bags": ["a"], "live": True}),
        ("a --out o --live", {"live": True}),
        ("a --out o --live false", {"live": False}),
        ("a --out=o --precision fp16 int8-cpu", {"precision": ["fp16", "int8-cpu"]}),
        ("--out o --precision fp16 -- a b", {"precision": ["fp16"], "bags": ["a", "b"]}),
        ("a --out o --precision [fp16]", {"precision": ["fp16"]}),
        ("a --out o --batch 1 2 4", {"batch": (1, 2, 4)}),
        ("a --out o --extrinsics 1 -2.5 -3", {"extrinsics": [1.0, -2.5, -3.0]}),
        ("a --out o --rate 0.5 --workers=2", {"options": Options(0.5, 2)}),
        (
            "a --out o --source-options.root /d --source_options.cameras [A, B]",
            {"source_options": {"root": "/d", "cameras": ["A", "B"]}},
        ),
        (
            'a --out o --source_options.root /d --source_options {"name":"A"}',
            {"source_options": {"root": "/d", "name": "A"}},
        ),
        ("7 --out 8", {"bags": ["7"], "out": Path("8")}),
    ],
)
def test_words_become_arguments(called, words, expected) -> None:
    arguments = words.replace(", ", ",").split()
    assert called.run(*arguments) == 0
    assert {name: called.values[name] for name in expected} == expected


@pytest.mark.parametrize(
    "words",
    [
        ["0", "-1", "0", "2.5", "1", "0", "0", "0", "0", "0", "1", "-1e-3", "0", "0", "0", "1"],
        ["[0, -1, 0, 2.5, 1, 0, 0, 0, 0, 0, 1, -1e-3, 0, 0, 0, 1]"],
        ["[[0, -1, 0, 2.5], [1, 0, 0, 0], [0, 0, 1, -1e-3], [0, 0, 0, 1]]"],
        ["  0.0 -1.0 0.0 2.5\n  1.0 0.0 0.0 0.0\n  0 0 1 -0.001\n  0 0 0 1"],  # tf2_echo
    ],
)
def test_matrices_are_taken_in_every_form(words) -> None:
    assert given_transform(words) == (0, [[0, -1, 0, 2.5], [1, 0, 0, 0], [0, 0, 1, -1e-3], LAST])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["[[1, 0], [0]]"], "[[1, 0], [0]]"),
        (["1", "2", "3"], "[1, 2, 3]"),
        (["odom", "{a:"], "['odom', '{a:']"),
        (["[[1, 0"], "[[1, 0"),
    ],
)
def test_what_is_no_matrix_ends_in_a_line_with_the_form(words, shown, capsys) -> None:
    assert given_transform(words) == (1, [])
    said = capsys.readouterr().err
    assert said.startswith("lemumo test: --T must be 16 numbers by row, or a matrix such as [[1, ")
    assert said.endswith(f", not {shown}\n") and said.count("\n") == 1


def given_transform(words: list[str]) -> tuple[int, list[list[float]]]:
    """Return the exit code of a command that takes a transform, and what it made of the words."""
    found: list[list[float]] = []

    def command(*, T: np.ndarray | None = None) -> None:
        """Take a transform."""
        assert T is not None
        found.extend(check_rigid(T, "--T").tolist())

    return run_function("lemumo test", command, ["--T", *words]), found


def test_a_file_holds_options_that_later_ones_override(called, tmp_path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: from_file\nlive: true\nrate: 2.0\n")
    assert called.run("a", "--config", str(recipe), "--rate", "3") == 0
    assert called.values["out"] == Path("from_file") and called.values["live"] is True
    assert called.values["options"] == Options(rate=3.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"out: [1,\nlive: }", "recipe.yaml is not YAML: "),
        (b"out: a\nout: b\n", "recipe.yaml is not YAML: key 'out' is there twice"),
        (b"\xff\xfe", "recipe.yaml is not UTF-8 text: byte 0"),
        (b"- out\n", "recipe.yaml holds no options"),
        (b"", "recipe.yaml holds no options"),
    ],
)
def test_a_file_that_holds_no_options_is_named(called, content, message, tmp_path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content)
    assert called.run("a", "--out", "o", "--config", str(recipe)) == 1
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_the_file_of_an_unknown_option_is_named(called, tmp_path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("rat: 2\n")
    with pytest.raises(SystemExit):
        called.run("a", "--out", "o", "--config", str(recipe))
    assert "recipe.yaml: Option 'rat' is not accepted\ndid you mean --rate?" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a", "out"),
        ("a --out o --workes 2", "did you mean --workers?"),
        ("a --out o --work 2", "did you mean --workers?"),
        ("a --out o --precision fp8", "fp16"),
        ("a --out o --batch 1 2", "batch"),
        ("--out o", "bags"),
    ],
)
def test_usage_errors_exit_with_2(called, words, message, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        called.run(*words.split())
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert called.values == {}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate m --workers abc", "--workers must be a whole number or null, not abc"),
        ("evaluate m --mask foo", "--mask must be beams, random, blocks or null, not foo"),
        ("export --precision foo", "--precision must be fp16, int8, fp8 or int8-cpu, not foo"),
        ("finetune --augmentation.scale a", "--augmentation.scale must be 2 values, not ['a']"),
        ("pretrain --method.tokens 3", "--method.tokens must be true or false, not 3"),
        ("prepare synthetic --rate_hz x", "--rate_hz must be a number, not x"),
    ],
)
def test_a_wrong_value_ends_in_a_line_with_what_its_option_takes(command, message, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(command.split())
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"


def test_faults_exit_with_1_and_one_line(called, capsys) -> None:
    assert called.run("a", "--out", "o", "--workers", "0") == 1
    assert capsys.readouterr().err == "lemumo test: --workers 0 must be 1 or more\n"


def test_an_interrupt_exits_with_130(capsys) -> None:
    def command() -> None:
        raise KeyboardInterrupt

    assert run_function("lemumo test", command, []) == 130
    assert capsys.readouterr().err == "lemumo test: stopped by SIGINT\n"


def test_a_signal_is_named_where_a_library_raises_its_own_interrupt(capsys) -> None:
    """As Ray's client does."""

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    assert run_function("lemumo test", command, []) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "lemumo test: stopped by SIGTERM\n"


def test_the_help_is_the_docstring(called, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        called.run("-h")
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "Do something." in shown and "to read." in shown and "a number." in shown
    assert "Args:" not in shown
