"""Self-contained HTML pages: one file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.drawing import JPEG_QUALITY

NUMBER = tuple("0123456789-+")
"""How a number begins."""
DETAIL = "- "
"""How the name of a row begins that details the one above."""
FEW = 3
"""Names that one line holds."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1280px; padding: 0 1rem;
  color: #1c1c1c }
h1 { margin-bottom: .3rem } h2 { margin: 2.5rem 0 .6rem; border-bottom: 2px solid #ddd }
table { border-collapse: collapse; margin: 0 2rem 1.2rem 0 }
caption { text-align: left; font-weight: 600; padding-bottom: .2rem; white-space: nowrap }
td, th { padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; text-align: left }
th { font-weight: 500; color: #666; vertical-align: bottom }
.number { text-align: right; font-variant-numeric: tabular-nums }
.row { display: flex; flex-wrap: wrap; align-items: flex-start }
.fill { flex: 1 1 20rem; min-width: 0 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem }
.trio { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 0 1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(540px, 1fr)); gap: 1rem }
img { width: 100%; border-radius: 4px; display: block } figure { margin: 0 0 1.5rem }
figcaption { color: #555; padding: .2rem 0 }
.named { white-space: nowrap }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .25em }
.detail td:first-child { color: #666; padding-left: 1em }
.note { color: #666 }
.warning { background: #fff3cd; padding: .6rem 1rem; border-radius: 4px }
.bad { color: #b00020; font-weight: 600 }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page of parts that are HTML already."""
    name = html.escape(title)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{name}</title><style>{STYLE}</style><h1>{name}</h1>\n" + "\n".join(parts) + "\n"
    )


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of parts that are HTML already, in UTF-8 as it says."""
    path.write_text(page(title, parts), encoding="utf-8")


def few(names: Sequence[str]) -> str:
    """Return names as one line, of many the first."""
    return ", ".join([*names[:FEW], *(["..."] if len(names) > FEW else [])])


def table(
    caption: str,
    rows: Iterable[Sequence[Any]],
    head: Sequence[str] = (),
    bad_rows: Iterable[int] = (),
) -> str:
    """Return a table; columns of numbers, and of text like ``3 of 4``, are aligned to the right.

    Args:
        caption: above it, may be empty.
        rows: cells, of which None is shown as a dash.
        head: names of the columns.
        bad_rows: which rows to mark.
    """
    bad = set(bad_rows)
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    columns = zip(*texts, strict=True)
    right = [j > 0 and all(map(_is_number, column)) for j, column in enumerate(columns)]
    if head:
        lines.append(f"<tr>{_cells('th', head, right or [False] * len(head))}</tr>")
    for i, row in enumerate(texts):
        kind = "bad" if i in bad else "detail" if row[0].startswith(DETAIL) else ""
        name = row[0].removeprefix(DETAIL)
        cells = _cells("td", [name, *row[1:]], right)
        lines.append(f"<tr{f' class={kind}' if kind else ''}>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def facts(caption: str, values: Mapping[str, Any]) -> str:
    """Return a table of names and values."""
    return table(caption, values.items())


def figure(source: np.ndarray | str, caption: str = "") -> str:
    """Return a picture of uint8 (H, W, 3) RGB, embedded in the page, or of the URL of a file."""
    if not isinstance(source, str):
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, data = cv2.imencode(".jpg", source[..., ::-1], quality)
        source = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    alt = html.escape(caption, quote=True)
    return f'<figure><img loading="lazy" src="{source}" alt="{alt}">{below}</figure>'


def _is_number(cell: str) -> bool:
    return not cell or cell.startswith(NUMBER)


def _cells(tag: str, cells: Sequence[str], right: Sequence[bool]) -> str:
    """Return the cells of one row, some of them aligned to the right."""
    return "".join(
        f"<{tag}{' class=number' if aligned else ''}>{html.escape(cell)}</{tag}>"
        for cell, aligned in zip(cells, right, strict=True)
    )
