"""The classes of one model, and how labels of any source become its own."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.taxonomy.class_file import read_class_file
from lemumo_core.taxonomy.rules import Color, Rules, meaning

log = logging.getLogger(__name__)

UNLABELLED = 255
NAMELESS = 254
"""Entry of a table of label ids for an id that has no name."""
BACKGROUND, IGNORED, UNKNOWN = -1, -2, -3
"""Ids that stand for a box whose name is of no class."""
_DEFAULT = read_class_file("default")
assert _DEFAULT.detection and _DEFAULT.segmentation

DETECTION_CLASSES = _DEFAULT.detection
SEGMENTATION_CLASSES: dict[str, Color] = {
    name: _DEFAULT.rules.colors[name] for name in _DEFAULT.segmentation
}
"""Name to RGB colour, in the order of the label ids."""
SEGMENTATION_IDS = {name: index for index, name in enumerate(SEGMENTATION_CLASSES)}


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a model, and which names in labels are which of them.

    A Frame's labels keep the names of their source; they become a model's ids here, where a Frame
    becomes a training sample or the truth of a metric. By default the classes and rules are those
    of ``default.yaml``.

    Attributes:
        detection_classes, segmentation_classes: names by id.
        rules: what names in labels mean.

    Raises:
        ValueError: no classes, too many, or rules that name others.
    """

    detection_classes: tuple[str, ...] = DETECTION_CLASSES
    segmentation_classes: tuple[str, ...] = tuple(SEGMENTATION_CLASSES)
    rules: Rules = _DEFAULT.rules

    def __post_init__(self) -> None:
        for section in ("detection", "segmentation"):
            names: tuple[str, ...] = getattr(self, f"{section}_classes")
            if len({name.lower() for name in names}) < len(names):
                raise ValueError(f"{section}_classes name a class twice: {', '.join(names)}")
            if len(names) >= NAMELESS:
                raise ValueError(f"{len(names)} {section}_classes: there may be {NAMELESS - 1}")
            others = set(getattr(self.rules, section).values()) - set(names)
            if others := others - set(_default_names(section)):
                raise ValueError(
                    f"the rules of classes name {', '.join(sorted(others))}, none of the "
                    f"{section}_classes {', '.join(names)}: give either --classes, or lists of "
                    "classes without rules"
                )

    @classmethod
    def of(
        cls,
        detection_classes: Sequence[str] = DETECTION_CLASSES,
        segmentation_classes: Sequence[str] = tuple(SEGMENTATION_CLASSES),
        rules: Mapping[str, Any] | None = None,
    ) -> Taxonomy:
        """Build from what configurations and manifests hold.

        Args:
            detection_classes: names by id.
            segmentation_classes: names by id.
            rules: as ``Rules.to_dict``; None for the default ones.

        Raises:
            ValueError: as the class and ``Rules.from_dict``.
        """
        own = _DEFAULT.rules if rules is None else Rules.from_dict(rules)
        return cls(tuple(detection_classes), tuple(segmentation_classes), own)

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the detection classes, by which they are also evaluated and tracked."""
        return tuple(dict.fromkeys(self.kind(name) for name in self.detection_classes))

    @functools.cached_property
    def kind_ids(self) -> np.ndarray:
        """Kind of each detection class, int64 (C,) into ``kinds``."""
        kinds = [self.kinds.index(self.kind(name)) for name in self.detection_classes]
        return np.array(kinds, np.int64)

    def kind(self, name: str) -> str:
        """Return the kind of a class."""
        return self.rules.kinds.get(name, name)

    @property
    def palette(self) -> tuple[Color, ...]:
        """Colours of the segmentation classes."""
        return tuple(
            self.rules.colors.get(name, SEGMENTATION_CLASSES.get(name, _color(i)))
            for i, name in enumerate(self.segmentation_classes)
        )

    def detection_ids(self, names: Sequence[str]) -> np.ndarray:
        """Map names of boxes to class ids, int64; -1 for those of no class."""
        return np.maximum(self._meanings(names), BACKGROUND)

    def is_unknown(self, names: Sequence[str]) -> np.ndarray:
        """Return which names nobody knows, bool; they may be misspelt or of another language."""
        return self._meanings(names) == UNKNOWN

    def is_ignored(self, names: Sequence[str]) -> np.ndarray:
        """Return which names are those of objects to ignore, or unknown, bool."""
        return self._meanings(names) < BACKGROUND

    def label_ids(self, ids: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
        """Map ids of a label map, or of labelled points, to those of the segmentation classes.

        Names of no class become unlabelled; of those that the rules do not know, a warning names
        each once.

        Args:
            ids: uint8 of any shape, 255 = unlabelled.
            names: names of these ids (``Labels.label_names``); without any, those of the rules'
                ``label_ids``, or else the default classes.

        Raises:
            Fault: ``bad_labels``, naming the ids that have no name.
        """
        table, unknown = self.label_table(tuple(names))
        found: np.ndarray = table[ids]
        if (found == NAMELESS).any():
            given = self._names_of_ids(tuple(names))
            wrong = ", ".join(str(i) for i in np.unique(ids[found == NAMELESS]))
            named = ", ".join(f"{i} {name}" for i, name in given.items())
            raise Fault(
                "bad_labels",
                f"label ids {wrong} have no name; named are {named}: name all ids under "
                "label_ids of the class file that --classes takes",
            )
        if unknown:
            for i in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist():
                if i in unknown:
                    _warn_of_label(unknown[i], self.segmentation_classes)
        return found

    def _meanings(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self._meaning(name) for name in names], np.int64)

    def _meaning(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = self._meaning_of(name.lower())
        return self._known[name]

    def _meaning_of(self, name: str) -> int:
        own = {one.lower(): i for i, one in enumerate(self.detection_classes)}
        if name in own:
            return own[name]
        found = meaning(self._box_table, name)
        if found is None:
            return UNKNOWN
        return found if isinstance(found, int) else own.get(found.lower(), BACKGROUND)

    @functools.cached_property
    def _known(self) -> dict[str, int]:
        return {}

    @functools.cached_property
    def _box_table(self) -> dict[str, str | int]:
        return {
            **dict.fromkeys(self.rules.background, BACKGROUND),
            **dict.fromkeys(self.rules.ignored, IGNORED),
            **self.rules.detection,
        }

    @functools.cached_property
    def _label_tables(self) -> dict[tuple[str, ...], tuple[np.ndarray, dict[int, str]]]:
        return {}

    def label_table(self, names: tuple[str, ...]) -> tuple[np.ndarray, dict[int, str]]:
        """Return ids of the model by ids of a source, uint8 (256,), and unknown names by id."""
        if names not in self._label_tables:
            own = {one.lower(): i for i, one in enumerate(self.segmentation_classes)}
            others = dict.fromkeys((*self.rules.ignored, *self.rules.background), "")
            table, unknown = np.full(256, NAMELESS, np.uint8), {}
            table[UNLABELLED] = UNLABELLED
            for i, name in self._names_of_ids(names).items():
                found = meaning(self.rules.segmentation, name)
                table[i] = own.get(name.lower(), own.get((found or "").lower(), UNLABELLED))
                if table[i] == UNLABELLED and found is None and meaning(others, name) is None:
                    unknown[i] = name
            self._label_tables[names] = table, unknown
        return self._label_tables[names]

    def _names_of_ids(self, names: tuple[str, ...]) -> Mapping[int, str]:
        if names:
            return {i: name for i, name in enumerate(names) if name}
        return self.rules.label_ids or dict(enumerate(SEGMENTATION_CLASSES))


def read_classes(name: str) -> Taxonomy:
    """Read the classes of a class file; a section that it lacks is that of the default one.

    Args:
        name: of a shipped one, or the path of a file (``read_class_file``).

    Raises:
        Fault, FileNotFoundError: as ``read_class_file``; ``bad_classes`` as ``Taxonomy``.
    """
    file, default = read_class_file(name), _DEFAULT.rules
    rules, kinds = file.rules, file.rules.kinds
    if file.detection is None:
        background = (*default.background, *rules.background)
        rules = replace(rules, detection=default.detection, background=background)
        kinds = {**default.kinds, **kinds}
    if file.segmentation is None:
        ignored = (*default.ignored, *rules.ignored)
        rules = replace(rules, segmentation=default.segmentation, ignored=ignored)
        kinds = {**default.kinds, **kinds}
    try:
        return Taxonomy(
            file.detection or DETECTION_CLASSES,
            file.segmentation or tuple(SEGMENTATION_CLASSES),
            replace(rules, kinds=kinds),
        )
    except ValueError as error:
        raise Fault("bad_classes", f"{name}: {error}") from None


def legend_colors(names: Sequence[str]) -> list[Color]:
    """Return colours for the ids of label maps of these names; without any, the default ones."""
    colors = list(SEGMENTATION_CLASSES.values())
    if not names:
        return colors
    ids = Taxonomy().label_table(tuple(names))[0][: len(names)].tolist()
    return [colors[i] if i < len(colors) else _color(n) for n, i in enumerate(ids)]


def _default_names(section: str) -> tuple[str, ...]:
    return DETECTION_CLASSES if section == "detection" else tuple(SEGMENTATION_CLASSES)


def _color(index: int) -> Color:
    """Return a distinct colour for a class that has none."""
    rng = np.random.default_rng(index)
    r, g, b = (int(value) for value in rng.integers(40, 256, 3))
    return r, g, b


@functools.cache
def _warn_of_label(name: str, classes: tuple[str, ...]) -> None:
    log.warning(
        "pixels or points labelled '%s' are none of %s: they are neither learnt nor evaluated; "
        "name the class they belong to in the class file of --classes, or ignore them there",
        *(name, ", ".join(classes)),
    )
