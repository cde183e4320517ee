"""Rules that say which class the names in labels are of, or that they are of none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from lemumo_core.faults import known_names

Color = tuple[int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """Rules for the names in labels, which hold whatever the order of a model's classes.

    Names in labels are written in lower case. One with ``*`` stands for all that fit it; a whole
    name wins over those, and of those the longest.

    Attributes:
        detection, segmentation: names of boxes, and of ids of label maps, to classes.
        kinds: classes to the kinds by which detections are also evaluated and tracked, for classes
            that look alike; any other class is its own kind. Of segmentation, ``ground`` is no
            obstacle in the occupancy grid, and in the ``sky`` no depth is published.
        colors: RGB colours of segmentation classes.
        ignored: names where nothing is learnt or evaluated.
        background: names of objects that are known to be none of the classes.
        label_ids: names of the ids of label maps that come without names.
    """

    detection: Mapping[str, str] = field(default_factory=dict)
    segmentation: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    colors: Mapping[str, Color] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    label_ids: Mapping[int, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        made: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else dict(value)
            for name, value in values.items()
        }
        made["colors"] = {name: list(color) for name, color in self.colors.items()}
        made["label_ids"] = {str(i): name for i, name in self.label_ids.items()}
        return made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rules:
        """Rebuild from ``to_dict``.

        Raises:
            ValueError: for an unknown key, or a value of the wrong kind.
        """
        known = [one.name for one in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"unknown rule of classes '{key}'{known_names(key, known)}")
        made = dict(values)
        try:
            for name in {"detection", "segmentation", "kinds"} & made.keys():
                made[name] = {str(word): str(meaning) for word, meaning in made[name].items()}
            for name in {"ignored", "background"} & made.keys():
                made[name] = tuple(str(word) for word in made[name])
            if "colors" in made:
                made["colors"] = {str(k): _color(k, v) for k, v in made["colors"].items()}
            if "label_ids" in made:
                made["label_ids"] = {_label_id(k): str(v) for k, v in made["label_ids"].items()}
        except (AttributeError, TypeError) as error:
            raise ValueError(f"the rules of classes are not as expected: {error}") from None
        return cls(**made)


def meaning(table: Mapping[str, T], name: str) -> T | None:
    """Return what a name means by a table of names and patterns; None where nothing fits."""
    name = name.lower()
    if name in table:
        return table[name]
    fits = [word for word in table if "*" in word and fnmatchcase(name, word)]
    return table[max(fits, key=len)] if fits else None


def _color(name: Any, value: Any) -> Color:
    parts = list(value)
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        raise ValueError(f"the colour of {name} is {value!r}, must be [R, G, B], each 0 to 255")
    return parts[0], parts[1], parts[2]


def _label_id(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 255:
        raise ValueError(f"label_ids has {value!r}, ids are 0 to 254 (255 is unlabelled)")
    return number
