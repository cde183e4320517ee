"""Results of ``PerceptionMetric`` as tables, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Results = Mapping[str, Mapping[str, Any]]
"""Name (a modality of one model, or a model) to ``PerceptionMetric.result()``."""
KeyPath = tuple[str, ...]
"""Keys that lead to a value in such a result."""

SHARE, METRES, COUNT = "{:.3f}", "{:.2f}", "{}"
FULL_COVERAGE = 0.95
"""Share of the true depth in the model's view from which on nothing is said about it."""
METRICS: tuple[tuple[str, str, KeyPath], ...] = (
    ("BEV mAP", SHARE, ("bev_map",)),
    ("- NDS, without velocity", SHARE, ("detection", "nds")),
    ("- translation error ATE, m", METRES, ("detection", "ate_m")),
    ("- size error ASE", SHARE, ("detection", "ase")),
    ("- yaw error AOE, rad", METRES, ("detection", "aoe_rad")),
    ("- mAP XY of Le MuMo JEPA", SHARE, ("map_xy",)),
    ("2D AP50", SHARE, ("ap50",)),
    ("- AP50:95", SHARE, ("detection_2d", "ap50_95")),
    ("depth MAE, m", METRES, ("depth_mae_m",)),
    ("- of the nearest return", METRES, ("nearest_mae_m",)),
    ("- of linear interpolation", METRES, ("linear_mae_m",)),
    ("- of the mean return", METRES, ("depth", "baselines", "mean", "mae_m")),
    ("- of the mean of each row", METRES, ("depth", "baselines", "rows", "mae_m")),
    ("- AbsRel", SHARE, ("depth", "abs_rel")),
    ("- RMSE, m", METRES, ("depth", "rmse_m")),
    ("- within a factor of 1.25", SHARE, ("depth", "delta")),
    ("- coverage", SHARE, ("depth", "coverage")),
    ("mIoU", SHARE, ("miou",)),
    ("- of the most frequent class everywhere", SHARE, ("segmentation", "constant_miou")),
    ("frames", COUNT, ("frames",)),
    ("- objects", COUNT, ("detection", "objects")),
    ("- pixels of known depth", COUNT, ("depth", "pixels")),
    ("- labelled pixels", COUNT, ("segmentation", "pixels")),
)
"""Rows of the first table; those without any value are left out."""
BREAKDOWNS: tuple[tuple[str, str, KeyPath, KeyPath], ...] = (
    ("average precision by kind", SHARE, ("detection", "kinds"), ("ap",)),
    ("average precision by class", SHARE, ("detection", "classes"), ("ap",)),
    ("translation error by class, m", METRES, ("detection", "classes"), ("ate_m",)),
    ("2D AP50 by class", SHARE, ("detection_2d", "classes"), ("ap50",)),
    ("BEV mAP by range", SHARE, ("detection", "bands"), ("bev_map",)),
    ("depth MAE by range, m", METRES, ("depth", "bands"), ("mae_m",)),
    (
        "nearest return's MAE by range, m",
        METRES,
        ("depth", "baselines", "nearest", "bands"),
        ("mae_m",),
    ),
    (
        "linear interpolation's MAE by range, m",
        METRES,
        ("depth", "baselines", "linear", "bands"),
        ("mae_m",),
    ),
    ("intersection over union", SHARE, ("segmentation", "classes"), ()),
)
"""Further tables: a row for each key at the first path, the value at the second below it."""


TRACKING: tuple[tuple[str, str, KeyPath], ...] = (
    ("AMOTA", SHARE, ("amota",)),
    ("AMOTP, m", METRES, ("amotp_m",)),
    ("MOTA, at its best score", SHARE, ("mota",)),
    ("- distance of matches, m", METRES, ("motp_m",)),
    ("- recall", SHARE, ("recall",)),
    ("- changes of id", COUNT, ("id_switches",)),
    ("- false boxes", COUNT, ("false_positives",)),
    ("- missed objects", COUNT, ("misses",)),
    ("velocity error, m/s", METRES, ("velocity_error_mps",)),
    ("- speed of these objects, m/s", METRES, ("speed_mps",)),
    ("frames", COUNT, ("frames",)),
    ("- objects", COUNT, ("objects",)),
)
"""Rows of the table of tracks, as ``METRICS``."""


class Table(NamedTuple):
    """Rows of texts below their heads; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(results: Results) -> list[Table]:
    """Make tables of the metrics: the headline ones, then by class and by range.

    Each result has a column.
    """
    head = ("", *(name.replace("_", " ") for name in results))
    rows = [_row(results, name, form, path) for name, form, path in METRICS]
    made = [Table("", head, [row for row in rows if any(cell != "-" for cell in row[1:])])]
    for caption, form, before, after in BREAKDOWNS:
        keys = list(dict.fromkeys(key for one in results.values() for key in _at(one, before)))
        rows = [_row(results, key, form, (*before, key, *after)) for key in keys]
        if any(cell != "-" for row in rows for cell in row[1:]):
            made.append(Table(caption, head, rows))
    return made


def metric_name(key: str) -> str:
    """Return what tables call a headline metric, with the metric that it is a detail of.

    Args:
        key: of ``PerceptionMetric.result()``, e.g. ``nearest_mae_m``: "depth MAE of the nearest
            return, m". Others are returned as words.
    """
    whole = ""
    for name, _, path in METRICS:
        is_part = name.startswith("- of ")
        whole = whole if is_part else name
        if path[-1] == key:
            quantity, comma, unit = whole.removeprefix("- ").partition(", ")
            part = f" {name.removeprefix('- ')}" if is_part else ""
            return f"{quantity}{part}{comma}{unit}"
    return key.replace("_", " ")


def camera_tables(results: Results, cameras: Results) -> list[Table]:
    """Make a table of the headline metrics of each modality: of the whole, and of each camera.

    Args:
        results: of all cameras together, by modality.
        cameras: by camera, of each the results by modality; none where there is one camera.
    """
    if not cameras:
        return []
    made = []
    for modality, whole in results.items():
        columns = {"all cameras": whole}
        columns |= {name: one[modality] for name, one in cameras.items() if modality in one}
        headline = tables(columns)[0]
        made.append(headline._replace(caption=f"{modality.replace('_', ' ')} by camera"))
    return made


def tracking_tables(results: Results) -> list[Table]:
    """Make tables of ``TrackingMetric.result()`` by tracker: over all objects, and by kind."""
    if not results:
        return []
    head = ("", *results)
    made = [Table("tracks", head, [_row(results, *row) for row in TRACKING])]
    kinds = list(dict.fromkeys(kind for one in results.values() for kind in one["classes"]))
    rows = [_row(results, kind, SHARE, ("classes", kind, "amota")) for kind in kinds]
    return [*made, Table("AMOTA by kind", head, rows)]


def as_text(table: Table) -> str:
    """Format the table for a terminal."""
    lines = [table.head, *table.rows]
    first, *rest = (max(map(len, column)) for column in zip(*lines, strict=True))
    texts = [
        "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], rest)]).rstrip()
        for line in lines
    ]
    return "\n".join([table.caption, *texts] if table.caption else texts)


def reasons(results: Results) -> list[str]:
    """Return the reasons why metrics are missing, each once, and what the view leaves out."""
    sections = ("detection", "depth", "segmentation")
    found = [f"{name}: {one[name]['why_null']}" for one in results.values() for name in sections]
    found = [why for why in dict.fromkeys(found) if not why.endswith(": None")]
    known = (one["depth"].get("coverage") for one in results.values())
    coverage = min((share for share in known if share is not None), default=1.0)
    if coverage < FULL_COVERAGE:
        found.append(
            f"depth: {1 - coverage:.0%} of the true depth lies outside the model's view and is in "
            "no error; a package exported with another --height sees more of the image"
        )
    return found


def _row(results: Results, name: str, form: str, path: KeyPath) -> tuple[str, ...]:
    values = (_at(one, path) for one in results.values())
    return (name, *("-" if value in (None, {}) else form.format(value) for value in values))


def _at(result: Any, path: KeyPath) -> Any:
    """Return the value at a path of keys; an empty dict where there is none."""
    for key in path:
        result = result.get(key, {})
    return result
