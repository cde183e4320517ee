"""The documentation is true: its links, files, commands, options, topics and parameters."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path

import pytest
import yaml

from tests.helpers import doc_commands
from tests.helpers.floors import FLOORS
from tests.helpers.paths import ROOT
from tests.helpers.small_frames import small_frames

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
]
SHELL = [*PAGES, ROOT / "benchmarks" / "RESULTS.md"]
README_LINES = 150
BAG_FRAMES = 3


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """A bag of a few small frames."""
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag

    path = tmp_path_factory.mktemp("readme") / "bag"
    write_bag(small_frames(BAG_FRAMES), path)
    return path


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each_page(*without: str) -> pytest.MarkDecorator:
    """Parametrize a test by the pages."""
    pages = [page for page in PAGES if name(page) not in without]
    return pytest.mark.parametrize("page", pages, ids=name)


def inline(text: str) -> list[str]:
    """Return what stands in backticks outside code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def shell_commands() -> list:
    """Each command of the pages, and of the comments that head the recipes."""
    found = {}
    for page in SHELL:
        for block in doc_commands.code_blocks(page.read_text()):
            if "->" not in block:  # a drawing
                for words in doc_commands.commands(block):
                    found[shlex.join(words)] = name(page), words
    for recipe in sorted((ROOT / "training" / "recipes").glob("*.yaml")):
        comment = "\n".join(re.findall(r"^#   (?=\S)?(.*)", recipe.read_text(), re.M))
        for words in doc_commands.commands(comment.replace("...", "")):
            found[shlex.join(words)] = name(recipe), words
    return [pytest.param(words, id=f"{page}: {line}") for line, (page, words) in found.items()]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def headings(path: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@each_page()
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in headings(found), f"{name(page)} links to {target}"


@each_page()
def test_files_that_are_named_exist(page: Path) -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"out", "data"}
    for word in inline(page.read_text()):
        top, slash, _ = word.partition("/")
        if top in tops and slash and re.fullmatch(r"[\w./*-]+", word):
            assert list(ROOT.glob(word.rstrip("/"))), f"{name(page)} names {word}"


@pytest.mark.parametrize("words", shell_commands())
def test_commands_parse(words: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    try:
        doc_commands.check(doc_commands.with_files(words, tmp_path))
    except SystemExit as stop:
        pytest.fail(f"exit code {stop.code}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_topic_is_left_to_the_shell(page: Path) -> None:
    """A shell puts the home folder in the place of a word's first ~, and the node ends."""
    assert not re.findall(r"-r ~/\S*:=", page.read_text())


@pytest.mark.parametrize(
    "line", ["lemumo pretran", "lemumo evaluate m --limt 3", "make tea", "python training/x.py"]
)
def test_a_wrong_command_is_found(line: str, capsys) -> None:
    with pytest.raises((SystemExit, AssertionError)):
        doc_commands.check(line.split())


def options_of(parser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def nested(options: object, prefix: str) -> Iterator[str]:
    """Names of the fields of a dataclass, and of those in its fields."""
    for one in fields(options):
        yield prefix + one.name
        if is_dataclass(value := getattr(options, one.name)):
            yield from nested(value, f"{prefix}{one.name}.")


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    """Parsers of all commands."""
    from lemumo_core.cli.main import COMMANDS

    needed = {
        "prepare": "synthetic --out x",
        "make-bag": "synthetic --out x",
        "export": "--out x",
        "sign": "x --key x",
        "pull": "x x",
        "push": "x x",
        "compare": "x x",
        "adapt": "x x --out x",
        "label": "export x --data x --out x",
        "pretrain": "",
        "finetune": "",
    }
    calls = [[command, *needed.get(command, "x").split()] for command in COMMANDS]
    for words in (
        "choose x --out x",
        "propose x --model x --out x",
        "similar x --stamp_ns 1 --out x",
    ):
        calls.append(["label", *words.split()])
    return {" ".join(words): doc_commands.parse_lemumo(words) for words in calls}


@pytest.fixture(scope="module")
def known_options(parsers) -> set[str]:
    """Options of all commands, methods and sources."""
    from lemumo_core.data.sources.registry import SOURCES, source_class
    from lemumo_core.methods.registry import load_methods

    known = {"--show-args", "--help", "--method.OPTION", "--ros-args", "--once"}  # some of ROS
    known |= {name for method in load_methods().values() for name in nested(method(), "--method.")}
    known |= {
        f"--{option}" for source in SOURCES for option in signature(source_class(source)).parameters
    }
    return known.union(*map(options_of, parsers.values()))


def test_every_option_has_help(parsers) -> None:
    """``--help`` shows nothing of an attribute that a docstring documents with another one."""
    without = {
        f"{words}: {option}"
        for words, parser in parsers.items()
        for action in parser._actions
        for option in action.option_strings
        if action.help is None and option != "--print_shtab"
    }
    assert not without


@each_page("CHANGELOG.md")
def test_options_that_are_named_exist(page: Path, known_options) -> None:
    for text in inline(page.read_text()):
        for option in re.findall(r"(?<!\S)--([\w.-]+)", text):
            spelled = f"--{option.replace('-', '_')}"
            assert known_options & {spelled, f"--{option}"}, f"{name(page)} names --{option}"


def test_every_command_is_documented() -> None:
    from lemumo_core.cli.main import COMMANDS

    text = "\n".join(page.read_text() for page in PAGES)
    assert [command for command in COMMANDS if f"lemumo {command}" not in text] == []


def table_rows(page: Path, first_cell: str) -> list[list[str]]:
    """Rows of the table whose header begins with a cell."""
    lines = page.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_cell}"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_parameters_of_the_node() -> None:
    """The table has every parameter, its default and when a change takes effect."""
    from lemumo_ros.parameters import Parameters, parameter_fields

    documented = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[3].replace("`", ""))
        for cells in table_rows(ROOT / "docs" / "robot.md", "parameter")
    }
    entries = parameter_fields(Parameters)
    assert documented.keys() == {entry.name for entry in entries}
    for entry in entries:
        default, effective = documented[entry.name]
        value = entry.default
        text = f"{value:g}" if isinstance(value, float) else str(value).lower()
        assert default.lower() == ("" if value in ((), "") else text), entry.name
        assert effective == entry.metadata["effective"], entry.name


def test_outputs_of_the_node() -> None:
    pytest.importorskip("rclpy", reason="the node needs ROS 2, or: pip install '.[ros]'")
    from lemumo_ros.publish.publisher import TOPICS

    first_cells = [cells[0] for cells in table_rows(ROOT / "docs" / "robot.md", "output")]
    documented = {word.removeprefix("~/output/") for cell in first_cells for word in inline(cell)}
    assert {*TOPICS, "objects", "label_info"} <= documented


def test_options_that_are_new_exist(known_options) -> None:
    """The changelog's table of options has their names of today on its right."""
    rows = table_rows(ROOT / "CHANGELOG.md", "command")
    assert rows
    for text in (text for cells in rows for text in inline(cells[2])):
        for option in re.findall(r"--[\w.]+", text):
            at = option.removesuffix(".NAME")
            assert {at, f"{at}.lr"} & known_options, option


def test_floors_are_documented() -> None:
    """The table of floors is the list that the boundary test enforces."""
    rows = table_rows(ROOT / "docs" / "architecture.md", "floor")
    documented = [re.sub(r"^\.", "lemumo_core.", word) for row in rows for word in inline(row[0])]
    assert documented == [package for floor in FLOORS for package in floor]


def test_the_site_has_every_page_and_no_link_out_of_it() -> None:
    """`make docs` itself, which is strict, runs in the workflow."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = [next(iter(entry.values())) for entry in site["nav"]]
    assert site["strict"] and sorted(pages) == sorted(p.name for p in (ROOT / "docs").glob("*.md"))
    (hook,) = site["hooks"]
    rewrite = runpy.run_path(str(ROOT / hook))["on_page_markdown"]
    for page in pages:
        text = rewrite((ROOT / "docs" / page).read_text())
        assert "](../" not in text, page
    assert rewrite("see the [README](../README.md#x).") == "see the `README.md`."
    assert rewrite("[programs](../a/b.py)") == "programs (`a/b.py`)"


def test_extras_are_documented() -> None:
    """The table of extras has all of setup.py, which ``make setup`` installs."""
    setup = (ROOT / "setup.py").read_text()
    extras = set(re.findall(r'^    "([\w-]+)": \[', setup, re.M))
    cells = [row[0] for row in table_rows(ROOT / "docs" / "install.md", "extra")]
    assert extras == {word for cell in cells for word in inline(cell)}
    tool = (ROOT / "tools" / "setup.py").read_text()
    literals = re.findall(r'"([\w,-]+)"', tool.partition("extras = (")[2].partition(")")[0])
    # ROS where there is none; these two as the machine is.
    assert extras - set("".join(literals).split(",")) <= {"ros", "gpu", "spconv"}


def test_python_of_the_readme_runs(bag: Path, capsys, monkeypatch) -> None:
    (code,) = doc_commands.code_blocks((ROOT / "README.md").read_text(), "python")
    monkeypatch.chdir(ROOT)
    exec(compile(code.replace("/path/to/bag", str(bag)), "README.md", "exec"), {})
    shapes = re.findall(r"\(\d+, \d+\)$", capsys.readouterr().out, re.M)
    assert len(shapes) == BAG_FRAMES
