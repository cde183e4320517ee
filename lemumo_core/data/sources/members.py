"""Read what ``--data`` names: one source, or several that are mixed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lemumo_core.faults import Fault

Data = list[str | dict[str, Any]] | str
"""One source, or a list. Each is the name of a source, or a bag, a folder of bags, a video, or a
folder or URI of shards; its options and weight follow it, ``kitti,root=/data/kitti,weight=2``, or
stand beside it in YAML, ``{data: kitti, root: /data/kitti, weight: 2}``."""
OPTION = re.compile(r",(?=\w+=)")
"""This matches the comma before an option; other commas are part of a value."""


class Member(NamedTuple):
    """One of the sources that ``--data`` names.

    Attributes:
        data: name or location.
        options: of the source.
        weight: how often each frame is drawn in a pass of training, on average.
    """

    data: str
    options: dict[str, Any]
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Name for messages: the paths that were given, or a source with its root."""
        return ", ".join(self._names(str))

    @property
    def short_names(self) -> list[str]:
        """The same for pages, which show no folders: the last part of each path."""
        return self._names(lambda path: Path(path).name or path)

    @property
    def text(self) -> str:
        """The words after ``--data`` that mean the same, but for the weight."""
        return ",".join([self.data, *(f"{name}={value}" for name, value in self.options.items())])

    def _names(self, shown: Callable[[str], str]) -> list[str]:
        if "path" in self.options:
            paths = self.options["path"]
            return [shown(str(one)) for one in (paths if isinstance(paths, list) else [paths])]
        if "root" in self.options:
            return [f"{self.data} {shown(str(self.options['root']))}"]
        return [shown(self.data)]


def members_of(data: Data, options: Mapping[str, Any]) -> list[Member]:
    """Return the sources that ``--data`` names.

    Args:
        data: one or several.
        options: ``--data_options``, of a single source.

    Raises:
        Fault: ``bad_option``, naming the member: for a weight that is not above 0, one without a
            name, and for options beside several members, which each have their own.
    """
    listed = [data] if isinstance(data, str) else list(data)
    if not listed:
        raise Fault("bad_option", "--data is an empty list: name at least one source")
    if options and len(listed) > 1:
        raise Fault(
            "bad_option",
            f"--data_options belong to one source, and --data names {len(listed)}: write options "
            f"behind the one that they are of, {_text(listed[0])},{next(iter(options))}=...",
        )
    members = [_member(one, number) for number, one in enumerate(listed, 1)]
    return [one._replace(options={**one.options, **options}) for one in members]


def data_name(data: Data, options: Mapping[str, Any]) -> str:
    """Return what messages call ``--data`` with its ``--data_options``; see ``Member.name``.

    Raises:
        Fault: as ``members_of``.
    """
    return ", ".join(member.name for member in members_of(data, options))


def short_names(data: Data, options: Mapping[str, Any]) -> list[str]:
    """Return what pages call the parts of ``--data``; see ``Member.short_names``.

    Raises:
        Fault: as ``members_of``.
    """
    return [name for member in members_of(data, options) for name in member.short_names]


def _member(given: str | Mapping[str, Any], number: int) -> Member:
    if isinstance(given, str):
        data, *words = [given] if Path(given).exists() else OPTION.split(given)
        if len({word.partition("=")[0] for word in words}) < len(words):
            raise Fault("bad_option", f"member {number} of --data, {given}, has an option twice")
        values: dict[str, Any] = dict(word.split("=", 1) for word in words)
    else:
        values = dict(given)
        data = str(values.pop("data", ""))
    if not data:
        raise Fault(
            "bad_option",
            f"member {number} of --data, {given}, names no source: write NAME_OR_PATH,OPTION=VALUE,"
            " in YAML {data: NAME_OR_PATH, OPTION: VALUE}",
        )
    weight = values.pop("weight", 1.0)
    try:
        member = Member(data, values, float(weight))
    except (TypeError, ValueError):
        member = Member(data, values, 0.0)
    if not 0 < member.weight < float("inf"):
        raise Fault(
            "bad_option",
            f"member {number} of --data, {member.name}, has weight {weight!r}, which must be a "
            "number above 0",
        )
    return member


def _text(given: str | Mapping[str, Any]) -> str:
    return given if isinstance(given, str) else str(given.get("data"))
