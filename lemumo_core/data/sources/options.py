"""Options of a source, typed by its constructor's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from lemumo_core.faults import Fault

SourceOptions = dict[str, str | int | float | bool | list[Any] | None]
"""Options by name as commands take them. Words of a command line stay text, so that a folder named
2011_09_26 or 0009 does not become a number; ``typed_options`` reads them by their types."""


def typed_options(source: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with words read as what the source's signature declares.

    Args:
        source: the source's class.
        options: those that it has, by name. Values that are not text, numbers or truth values are
            passed on.

    Raises:
        Fault: ``bad_option``, naming it, for a word that its type does not take, and for a number
            or truth value where text is expected (YAML reads 2011_09_26 and ``no`` so).
    """
    hints = get_type_hints(source.__init__)  # type: ignore[misc]
    return {name: _typed(source, name, value, hints[name]) for name, value in options.items()}


def _typed(source: type, name: str, value: Any, hint: Any) -> Any:
    members = set(_members(hint))
    words = {word for one in members if get_origin(one) is Literal for word in get_args(one)}
    takes_text = bool({str, Path} & members)
    if isinstance(value, str):
        return value if takes_text or value in words else _parse(source, name, value)
    if isinstance(value, bool | int | float) and takes_text and not {bool, int, float} & members:
        raise Fault(
            "bad_option",
            f"{name} is {value!r}, a {type(value).__name__}, but must be text: in YAML write it in "
            "quotes",
        )
    return value


def _members(hint: Any) -> list[Any]:
    """Return the types that a type stands for: those of a union."""
    if get_origin(hint) not in (Union, UnionType):
        return [hint]
    return [member for one in get_args(hint) for member in _members(one)]


def _parse(source: type, name: str, word: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    others = set(inspect.signature(source).parameters) - {name}
    parser.add_class_arguments(source, as_group=False, skip=others)
    try:
        return parser.parse_args([f"--{name}={word}"])[name]
    except ArgumentError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise Fault("bad_option", f"{name} is {word!r}, which does not fit: {reason}") from None
