"""The page of an adaptation: its verdict, the metrics before and after, and pictures of both."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from lemumo_core import web_page
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.data.sources.members import short_names
from lemumo_core.evaluation.modalities import with_modality
from lemumo_core.evaluation.pictures import draw_comparison
from lemumo_core.evaluation.report import picture_legend
from lemumo_core.evaluation.tables import tables
from lemumo_core.files import write_whole
from lemumo_core.frame import Frame
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.provenance import RENDERED, in_words
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.train.adapt.frames import AdaptationFrames
from lemumo_core.train.adapt.verdict import LABELLED, Results, gains
from lemumo_core.train.loop import Run
from lemumo_core.wording import signed

NAME = "index.html"
PICTURED = 3
"""Own frames that are pictured."""
SHOWN = ("fused", "camera_only")
"""Modalities that they are pictured with."""


def verdict(summary: Mapping[str, Any], before: Results) -> str:
    """Return the verdict as a line for people."""
    if summary["objections"]:
        return f"not better: {'; '.join(summary['objections'])}"
    changes = [
        f"{mode.replace('_', ' ')} {signed(-gain, '.0%')}"
        for mode, gain in gains(before, summary["metrics"]).items()
    ]
    return f"better: depth error on own frames {', '.join(changes)}"


def before_and_after(before: Results, after: Results, labelled: bool) -> dict[str, Any]:
    """Return the results of own or of labelled frames, before and after in turn."""
    names = [name for name in before if name in after and name.startswith(LABELLED) == labelled]
    return {
        f"{name.removeprefix(LABELLED)}, {when}": results[name]
        for name in names
        for when, results in (("before", before), ("after", after))
    }


def facts(run: Run, source: AdaptationFrames, best_step: int) -> dict[str, Any]:
    """Return what was adapted, and to what, as the page shows it."""
    config = run.config
    adapted = load_package(config.weights).manifest
    own = web_page.few(short_names(config.data, config.data_options))
    labelled = in_words([RENDERED])
    if config.labelled is not None:
        labelled = web_page.few(short_names(config.labelled, {}))
    return {
        "package": f"{adapted.name} {adapted.version}",
        "own frames": f"{len(source.own)} of {own}",
        "own frames kept apart": len(source.own_val),
        "labelled frames": f"{len(source.labelled)} of {labelled}",
        "labelled frames kept apart": len(source.labelled_val),
        "best step": f"{best_step} of {config.steps}",
    }


def write_page(
    run: Run, summary: Mapping[str, Any], before: Results, models: tuple[Pipeline, Pipeline]
) -> None:
    """Write the page of a finished run into its folder.

    Args:
        run: the run.
        summary: with ``objections`` and the ``metrics`` after.
        before: metrics of the package.
        models: the package's and the adapted one.
    """
    source = run.samples.source
    assert isinstance(source, AdaptationFrames)
    kind = "bad" if summary["objections"] else "note"
    parts = [f'<p class="{kind}">{html.escape(verdict(summary, before))}</p>']
    parts.append(web_page.facts("", facts(run, source, summary["step"])))
    own, labelled = (
        before_and_after(before, summary["metrics"], labelled) for labelled in (False, True)
    )
    for title, results in (("Own frames, kept apart", own), ("Labelled frames", labelled)):
        first, *others = (web_page.table(t.caption, t.rows, t.head) for t in tables(results))
        parts += [f"<h2>{title}</h2>", first, f'<div class="row">{"".join(others)}</div>']
    parts.append("<h2>Pictures: before, and after</h2>")
    parts.append(f"<p>{picture_legend(models[0].package.manifest)}</p>")
    chosen = [source.own_val[i] for i in evenly_spaced(len(source.own_val), PICTURED)]
    for frame in (mask_returns(source[i]) for i in chosen):
        for modality in SHOWN:
            if (seen := with_modality(frame, modality)) is not None:
                parts.append(_pair(frame, seen, modality.replace("_", " "), models))
    write_whole(run.out / NAME, web_page.page(f"{run.out.name}: adaptation", parts).encode())


def _pair(frame: Frame, seen: Frame, modality: str, models: Sequence[Pipeline]) -> str:
    pictures = [
        web_page.figure(
            draw_comparison(frame, model(seen), model.package.manifest), f"{modality}, {when}"
        )
        for when, model in zip(("before", "after"), models, strict=True)
    ]
    return f'<div class="pair">{"".join(pictures)}</div>'
