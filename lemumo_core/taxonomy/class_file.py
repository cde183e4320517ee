"""Class files: the classes of a model and what labels call them, in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lemumo_core.faults import Fault, known_names
from lemumo_core.files import read_yaml
from lemumo_core.taxonomy.rules import Rules

SHIPPED = Path(__file__).parent
SECTIONS = ("detection", "segmentation", "ignored", "background", "label_ids")
OF_A_CLASS = ("from", "kind", "color")
USUAL_KINDS = ("car", "truck/bus", "pedestrian", "two-wheeler")
"""Kinds of detection classes that a single class of a file may be of."""
SEGMENTATION_KINDS = ("ground", "sky")


class ClassFile(NamedTuple):
    """Contents of a class file.

    Attributes:
        detection, segmentation: names of the classes by id; None where the file has none.
        rules: what names in labels mean.
    """

    detection: tuple[str, ...] | None
    segmentation: tuple[str, ...] | None
    rules: Rules


def shipped_names() -> list[str]:
    """Return the names of the class files that are part of the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


@cache
def read_class_file(name: str) -> ClassFile:
    """Read a class file.

    Args:
        name: one of ``shipped_names``, or the path of a file.

    Raises:
        Fault: ``bad_classes``, naming what is wrong in it.
        FileNotFoundError: there is neither.
    """
    path = SHIPPED / f"{name}.yaml" if name in shipped_names() else Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no class file {name}: give the path of one, or one of "
            f"{', '.join(shipped_names())}"
        )
    try:
        return _contents(read_yaml(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Fault("bad_classes", f"{path} is not YAML: {error}") from None
    except ValueError as error:
        raise Fault("bad_classes", f"{path}: {error}") from None


def _contents(content: Any) -> ClassFile:
    sections = _mapping(content, "the file", SECTIONS)
    if not sections.keys() & {"detection", "segmentation"}:
        raise ValueError("it names no classes: add a section detection or segmentation")
    names: dict[str, tuple[str, ...] | None] = {"detection": None, "segmentation": None}
    tables: dict[str, dict[str, str]] = {"detection": {}, "segmentation": {}}
    kinds: dict[str, str] = {}
    colors: dict[str, Any] = {}
    for section in [name for name in names if name in sections]:
        classes = _mapping(sections[section], section)
        names[section] = tuple(classes)
        for name, about in classes.items():
            about = _mapping({} if about is None else about, f"{section}: {name}", OF_A_CLASS)
            for word in (name, *_names(about.get("from", []), f"{section}: {name}: from")):
                _add(tables[section], word, name)
            if "color" in about:
                colors[name] = about["color"]
        kinds |= _kinds(section, {name: about or {} for name, about in classes.items()})
    ignored = _names(sections.get("ignored", []), "ignored")
    background = _names(sections.get("background", []), "background")
    others = {"ignored": ignored, "background": background}
    for word in ignored + background:
        meanings = [section for section, words in others.items() if word in words]
        if word in tables["detection"]:
            meanings.append(tables["detection"][word])
        if len(meanings) > 1:
            raise ValueError(f"'{word}' is {' and '.join(meanings)}: a name means one of them")
    labels = sections.get("label_ids") or {}
    rules = {"kinds": kinds, "colors": colors, "ignored": ignored, "background": background}
    return ClassFile(
        names["detection"],
        names["segmentation"],
        Rules.from_dict({**tables, **rules, "label_ids": labels}),
    )


def _kinds(section: str, classes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the kinds of a section's classes; one that means and joins nothing is misspelt."""
    kinds = {name: str(about["kind"]) for name, about in classes.items() if "kind" in about}
    for name, kind in kinds.items():
        known = set(SEGMENTATION_KINDS)
        if section == "detection":
            others = {kinds[one] for one in kinds.keys() - {name}}
            known = {*USUAL_KINDS, *classes, *others}
        if kind not in known:
            raise ValueError(
                f"{section}: {name}: kind '{kind}' is that of no other class"
                f"{known_names(kind, sorted(known))}"
            )
    return kinds


def _mapping(value: Any, what: str, known: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping, not {value!r:.60}")
    for key in value:
        if not isinstance(key, str) or not key:
            raise ValueError(f"{what}: {key!r} is no name; write it in quotes")
        if known and key not in known:
            raise ValueError(f"{what} has no key '{key}'{known_names(key, known)}")
    if not value and not known:
        raise ValueError(f"{what} names no class")
    return value


def _names(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{what} must be a list of names (in quotes where they look like numbers)")
    return tuple(one.lower() for one in value)


def _add(table: dict[str, str], word: str, name: str) -> None:
    word = word.lower()
    if table.setdefault(word, name) != name:
        raise ValueError(f"'{word}' is {table[word]} and {name}: a name means one class")
