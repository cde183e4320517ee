"""Command lines of the documentation, held against the programs' own parsers."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lemumo_core.cli import main as lemumo
from lemumo_core.command_line import CommandLine
from tests.helpers.paths import ROOT

OTHERS = {"source", "openssl", "git", "colcon", "rosdep", "export", "cd", "python3", "docker"}
OTHERS |= {"ray", "sbatch"}
"""Programs that are not ours."""
SHORT = {"steps": 1, "batch": 2, "val_frames": 2, "scale.workers": 0, "log.tensorboard": "false"}
"""Options with which a training takes seconds."""
PYTHONS = {"python", ".venv/bin/python"}


class Parsed(BaseException):
    """Raised in place of what a program does after it has parsed its arguments."""

    def __init__(self, parser: argparse.ArgumentParser):
        super().__init__()
        self.parser = parser


@contextmanager
def only_parsing() -> Iterator[None]:
    """Make programs parse their arguments, then stop by raising ``Parsed``."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (CommandLine, argparse.ArgumentParser):
            patch.setattr(kind, "parse_args", _stopping(kind.parse_args))
        yield


def _stopping(parse):
    def parse_and_stop(parser, *args, **options):
        parse(parser, *args, **options)
        raise Parsed(parser)

    return parse_and_stop


def code_blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a Markdown text that are in a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in blocks if name == language]


def commands(block: str) -> list[list[str]]:
    """Return the words of each command in a block of shell; comments are left out."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            found.append(words[:end])
            words = words[end + 1 :]
    return found


def run(words: list[str], options: Mapping[str, object]) -> None:
    """Run a command of ``lemumo`` with options added, on the bag in the working directory."""
    line = [word.replace("/path/to/bag", "bag") for word in words[1:]]
    line += [f"--{key}={value}" for key, value in options.items()]
    assert lemumo.main(line) == 0, shlex.join(words)


def check(words: list[str]) -> None:
    """Raise what is wrong with a command: a ``SystemExit`` of its parser, or an AssertionError."""
    program, *rest = words
    if program == "lemumo":
        parse_lemumo(rest)
    elif program == "torchrun":
        script = next(i for i, word in enumerate(rest) if word.endswith(".py"))
        _run_script(rest[script], rest[script + 1 :])
    elif program in PYTHONS:
        name, *arguments = (
            rest if rest[0] != "-m" else [f"{rest[1].replace('.', '/')}.py", *rest[2:]]
        )
        _run_script(name, arguments)
    elif program == "make":
        _check_make(rest)
    elif program == "pip":
        _check_pip(rest)
    elif program == "ros2":
        _check_launch(rest)
    else:
        assert program in OTHERS or (ROOT / program).is_file(), f"what is {program}?"


def parse_lemumo(arguments: list[str]) -> argparse.ArgumentParser | None:
    """Parse the arguments of ``lemumo``; return the parser of the command."""
    if arguments[-1:] == ["--help"] or f'"{arguments[0]} = ' in (ROOT / "setup.py").read_text():
        return None  # nothing to parse, or a command of lemumo_ros
    try:
        with only_parsing():
            code = lemumo.main(arguments)
    except Parsed as stop:
        return stop.parser
    raise AssertionError(f"lemumo {shlex.join(arguments)} ended with {code} before it parsed")


def _run_script(name: str, arguments: list[str]) -> None:
    path = ROOT / name
    assert path.is_file(), f"there is no {name}"
    if name.startswith("examples/"):
        return  # tests/examples runs them
    with only_parsing(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *arguments])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Parsed:
            return
    raise AssertionError(f"{name} parses nothing")


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        variable, equals, _ = word.partition("=")
        known = f"$({variable})" if equals else f"\n{word}:"
        assert known in makefile, f"make does not know {word}"


def _check_pip(words: list[str]) -> None:
    setup = (ROOT / "setup.py").read_text()
    for extras in re.findall(r"\.\[([\w,-]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert f'"{extra}": [' in setup, f"there is no extra {extra}"


def _check_launch(words: list[str]) -> None:
    verb, package, file, *arguments = words
    assert (verb, package) == ("launch", "lemumo_ros")
    text = (ROOT / "launch" / file).read_text()
    for argument in arguments:
        if argument != "--show-args":
            name, assigned, _ = argument.partition(":=")
            assert assigned and f'"{name}": (' in text, f"{file} has no argument {name}"


def with_files(words: list[str], folder: Path) -> list[str]:
    """Return a command with an empty file for a ``--config`` that the repository lacks."""
    words = list(words)
    for i, word in enumerate(words[:-1]):
        if word == "--config" and not (ROOT / words[i + 1]).exists():
            empty = folder / "config.yaml"
            empty.write_text("{}\n")
            words[i + 1] = str(empty)
    return words
