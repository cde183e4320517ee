"""The page of the study: its table, depth against classes, and the pages of its runs."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core import plots, web_page

NAME = "results.html"
PLOTTED = ("untrained", "pruned", "masked modelling", "lemumo")
"""Rows that the plots compare; one has room for so many names."""


def write_page(
    out: Path,
    table: str,
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
    modalities: Mapping[str, str],
) -> None:
    """Write ``OUT/results.html``.

    Args:
        out: folder of the study.
        table: results in Markdown, below a paragraph on what was measured.
        found: by row and seed, what the file of its scores holds.
        modalities: to plot, and what they are called.
    """
    about, rows = table.split("\n\n", 1)
    head, _, *cells = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines())
    parts = [f"<p>{html.escape(about)}</p>", web_page.table("", cells, head)]
    parts += [_plot(found, modality, name) for modality, name in modalities.items()]
    runs = sorted(page.relative_to(out).as_posix() for page in out.glob("*/*/pretrain/run.html"))
    parts += ["<h2>Curves</h2>", *(f'<p><a href="{run}">{run}</a></p>' for run in runs)]
    web_page.write_page(out / NAME, "Which pretraining helps?", parts)


def _plot(found: Mapping[str, Mapping[int, Mapping[str, Any]]], modality: str, name: str) -> str:
    """Plot mIoU by depth of the rows that have this modality, one point a seed."""
    groups: dict[str, np.ndarray] = {}
    for row in PLOTTED:
        scores = [one["scores"][modality] for one in found.get(row, {}).values()]
        if scores:
            groups[row] = np.array([[one["depth_mae_m"], one["miou"]] for one in scores])
    if not groups:
        return ""
    title = f"mIoU by depth of linear probes, {name}; one point a seed"
    return plots.scatter(title, groups, "depth MAE, m")
