"""Requirements: the limits that a model must keep to be good enough, from a YAML file.

    score_threshold: 0.25                 # of the detections that count
    depth:                                # mean absolute error
      - {at_most_m: 0.5, to_m: 20}
      - {at_most_m: 2.0, from_m: 20, to_m: 50, modality: camera_only}
    recall:                               # share of the objects that are found within 2 m
      - {class: pedestrian, at_least: 0.8, to_m: 30}
    precision:                            # share of the detections that find an object
      - {class: pedestrian, at_least: 0.7}
    miou:                                 # of one class, or the mean
      - {class: road, at_least: 0.9}
    latency:                              # of a result, all stages together
      - {at_most_ms: 80, percentile: 99}
    rate:                                 # results per second, one after another
      - {at_least_hz: 10}

Ranges are depths along the optical axis; a limit without one holds for all that is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lemumo_core.evaluation.modalities import MODALITIES
from lemumo_core.faults import Fault, known_names
from lemumo_core.files import read_yaml
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.taxonomy import Taxonomy

FARTHEST_M = BAND_EDGES_M[-1]
RANGE = ("from_m", "to_m")
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "depth": ("at_most_m", ("modality", "coverage", *RANGE)),
    "recall": ("at_least", ("modality", "class", *RANGE)),
    "precision": ("at_least", ("modality", "class", *RANGE)),
    "miou": ("at_least", ("modality", "class")),
    "latency": ("at_most_ms", ("percentile",)),
    "rate": ("at_least_hz", ()),
}
"""Kind of limit to the key of its bound, and the keys that it may have beside it."""
NEED_CLASS = ("recall", "precision")


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        kind: a key of ``KINDS``.
        bound: largest error (m), longest time (ms), or least share or rate (1/s).
        modality: sensors that the model is given.
        class_name: a class of the model, or for objects a kind; None for the mean over all.
        from_m, to_m: range of depth; None where the file has none.
        coverage: least share of the true depth that must have an answer.
        percentile: of the latency.
    """

    kind: str
    bound: float
    modality: str = "fused"
    class_name: str | None = None
    from_m: float | None = None
    to_m: float | None = None
    coverage: float = 0.0
    percentile: float = 99.0

    @property
    def range_m(self) -> tuple[float, float]:
        """Range of depth; all that is evaluated where the file has none."""
        return self.from_m or 0.0, FARTHEST_M if self.to_m is None else self.to_m


@dataclass(frozen=True)
class Requirements:
    """Contents of a file of requirements.

    Attributes:
        limits: in the order of the file.
        score_threshold: least score of the detections that count; None takes that of the results.
    """

    limits: tuple[Limit, ...]
    score_threshold: float | None = None

    @property
    def band_edges_m(self) -> tuple[float, ...]:
        """Bands of depth whose edges are the usual ones and those of the limits."""
        edges = {edge_m for limit in self.limits for edge_m in limit.range_m}
        return tuple(sorted({*BAND_EDGES_M, *edges}))

    def check_classes(self, classes: Taxonomy) -> None:
        """Check that a model has the classes that the limits name.

        Raises:
            Fault: ``bad_requirements``, naming one that it lacks.
        """
        objects = (*classes.detection_classes, *classes.kinds)
        for limit in self.limits:
            known = classes.segmentation_classes if limit.kind == "miou" else objects
            if limit.class_name is not None and limit.class_name not in known:
                raise Fault(
                    "bad_requirements",
                    f"{limit.kind}: the model has no class '{limit.class_name}'"
                    f"{known_names(limit.class_name, dict.fromkeys(known))}",
                )


def read_requirements(path: Path) -> Requirements:
    """Read a file of requirements.

    Raises:
        Fault: ``bad_requirements``, naming what is wrong in it.
        FileNotFoundError: it does not exist.
    """
    try:
        content = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Fault("bad_requirements", f"{path} is not YAML: {error}") from None
    try:
        return _requirements(content)
    except ValueError as error:
        raise Fault("bad_requirements", f"{path}: {error}") from None


def _requirements(content: Any) -> Requirements:
    sections = _mapping(content, "the file", ("score_threshold", *KINDS))
    threshold = sections.get("score_threshold")
    if threshold is not None:
        threshold = _number(threshold, "score_threshold", 1.0)
    limits = []
    for kind in KINDS.keys() & sections.keys():
        if not isinstance(sections[kind], list) or not sections[kind]:
            raise ValueError(f"{kind} must be a list of limits, each a mapping")
    for kind, rows in sections.items():
        if kind in KINDS:
            limits += [_limit(kind, row, f"{kind}, limit {i}") for i, row in enumerate(rows, 1)]
    if not limits:
        raise ValueError(f"it holds no limit: add one of {', '.join(KINDS)}")
    return Requirements(tuple(limits), threshold)


def _limit(kind: str, row: Any, where: str) -> Limit:
    bound, others = KINDS[kind]
    values = _mapping(row, where, (bound, *others))
    if bound not in values:
        raise ValueError(f"{where} has no {bound}")
    if kind in NEED_CLASS and "class" not in values:
        raise ValueError(f"{where} has no class")
    modality = values.get("modality", "fused")
    if modality not in MODALITIES:
        raise ValueError(f"{where}: there is no modality {modality!r}; {', '.join(MODALITIES)}")
    largest = {"from_m": FARTHEST_M, "to_m": FARTHEST_M, "coverage": 1.0, "percentile": 100.0}
    largest |= {"at_least": 1.0}
    numbers = {
        name: _number(value, f"{where}: {name}", largest.get(name, math.inf))
        for name, value in values.items()
        if name not in ("class", "modality")
    }
    limit = Limit(
        kind,
        numbers.pop(bound),
        modality,
        None if "class" not in values else str(values["class"]),
        **numbers,
    )
    near, far = limit.range_m
    if near >= far:
        raise ValueError(f"{where}: it ends at {far:g} m, where it begins, or before ({near:g} m)")
    return limit


def _mapping(value: Any, what: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping, not {value!r:.60}")
    for key in value:
        if key not in known:
            raise ValueError(f"{what} has no key '{key}'{known_names(str(key), known)}")
    return value


def _number(value: Any, what: str, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        most = "" if largest == math.inf else f", at most {largest:g}"
        raise ValueError(f"{what} is {value!r}: it must be a number, at least 0{most}")
    return float(value)
