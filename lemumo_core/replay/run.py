"""Replay several bags: report what is damaged, and skip bags that are finished."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lemumo_core.bags.named_bags import Bag
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.evaluation import verdict
from lemumo_core.evaluation.modalities import metric_for
from lemumo_core.evaluation.requirements import Requirements
from lemumo_core.evaluation.tables import as_text, camera_tables, tracking_tables
from lemumo_core.evaluation.verdict import Verdict
from lemumo_core.executor.executor import Executor
from lemumo_core.folders.folder import Folder, at_once
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.provenance import is_rendered_alone
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.progress import Progress
from lemumo_core.replay.bag_replay import BagReplay
from lemumo_core.replay.checks import WARN
from lemumo_core.replay.evaluator import Evaluator
from lemumo_core.replay.modalities import judged_metrics, result_tables, shown_metrics
from lemumo_core.replay.output_folder import (
    METRICS,
    bag_key,
    check_folder,
    merge_metrics,
    write_metrics,
)
from lemumo_core.replay.report import write_report
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.summaries import (
    Summary,
    by_camera,
    comparison_note,
    of_cameras,
    totals,
)
from lemumo_core.replay.tables import FRAMES, TIMINGS, total_times_ms
from lemumo_core.replay.tracks import TRACKS, tracking_results
from lemumo_core.replay.workers import BagWork, ImageWork, PooledEvaluator
from lemumo_core.wording import count_of

MERGED = (METRICS, TRACKS, FRAMES, TIMINGS)
"""Files of a bag that metrics and page of all bags are made from."""
MANY = 20
"""More finished bags are not named."""


def check_folders(
    out: Folder,
    bags: Sequence[Bag],
    manifest: Manifest,
    settings: Settings,
    recordings: Sequence[str],
    overwrite: bool,
) -> None:
    """Check that the output folder of each bag may be written, before a model is loaded.

    Raises:
        Fault: as ``check_folder``; as ``Settings.camera_options``.
    """

    def check(bag: Bag) -> None:
        key = bag_key(bag, manifest, settings, recordings)
        check_folder(out / bag.name, key, overwrite)

    at_once(check, bags)


class Replay:
    """A replay of several bags with one model.

    Args:
        evaluator: evaluator with the loaded model, which also draws the report's pictures.
        out: output folder.
        recovered: keeps what is left of a damaged bag for the report.
        recordings: keys of ``RECORDINGS`` to write for each bag.
        requirements: limits that the results must keep.

    Attributes:
        frames: number of images processed by this run.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        out: Folder,
        recovered: RecoveredBag,
        recordings: Sequence[str] = (),
        requirements: Requirements | None = None,
    ):
        self._requirements, self._recovered = requirements, recovered
        self._evaluator, self._out, self._recordings = evaluator, out, recordings
        self._here = BagReplay(evaluator, out, recordings)
        self.frames = 0

    def run_bags(self, bags: Sequence[Bag], executor: Executor) -> list[dict[str, Any]]:
        """Replay the executor's share of the bags, but for those that are finished.

        Where there are enough of them, each bag is replayed by one worker; else all workers share
        the images of each, which this process reads.

        Returns:
            The summaries, as of ``BagReplay.run``, in the order of the bags.

        Raises:
            Fault: as ``Pool.map``.
            OSError: the output cannot be written.
        """
        share = executor.share.of(bags)
        finished = at_once(self._here.finished, share)
        found = {bag.name: summary for bag, summary in zip(share, finished, strict=True)}
        todo = [bag for bag in share if found[bag.name] is None]
        _print_done([bag.name for bag in share if found[bag.name] is not None])
        self._out.create()
        settings, backend = self._evaluator.settings, self._evaluator.pipeline.backend.name
        if executor.spans_hosts or executor.shares_out(len(todo)):
            work = BagWork(settings, backend, self._out, self._recordings)
            with executor.pool(work) as pool, Progress("replay", len(todo)) as progress:
                for bag, summary, where in pool.map(todo, name=lambda bag: bag.name):
                    found[bag.name] = self._counted(summary, where)
                    progress.advance()
        elif executor.workers == 1 or not todo:
            for bag in todo:
                found[bag.name] = self._counted(self._here.run(bag, self._recovered))
        else:
            with executor.pool(ImageWork(settings, backend)) as pool:
                source = PooledEvaluator(self._evaluator, pool)
                shared = BagReplay(self._evaluator, self._out, self._recordings, source)
                for bag in todo:
                    found[bag.name] = self._counted(shared.run(bag, self._recovered))
        return [summary for summary in found.values() if summary is not None]

    def finalize(self, summaries: Sequence[dict[str, Any]], report: bool) -> list[Verdict]:
        """Merge the metrics of all bags and print them.

        Args:
            summaries: summaries of the bags, as ``BagReplay.run`` returns them.
            report: whether to write ``metrics.json`` and the report.

        Returns:
            The verdicts on the requirements.
        """
        names = [one["name"] for one in of_cameras(summaries) if "error" not in one]
        with self._out.mirror(f"{name}/{file}" for name in names for file in MERGED) as out:
            return self._merge(out, of_cameras(summaries), report)

    def _merge(self, out: Path, parts: Sequence[Summary], report: bool) -> list[Verdict]:
        """Do what ``finalize`` does, in a local folder with the ``MERGED`` files of the parts."""
        evaluator, manifest = self._evaluator, self._evaluator.manifest
        bags = {one["name"]: {k: v for k, v in one.items() if k != "key"} for one in parts}
        read = [one for one in parts if "error" not in one]
        folders, settings = _folders(out, read), evaluator.settings
        tracking = self._tracking(out, read)
        metrics = self._metrics(out, read)
        results = self._results(metrics)
        cameras = {
            name: {
                **totals(ones),
                **self._results(self._metrics(out, ones)),
                **({"tracking": tracks} if (tracks := self._tracking(out, ones)) else {}),
            }
            for name, ones in by_camera(read).items()
        }
        verdicts = []
        if self._requirements is not None:
            threshold, times_ms = settings.score_threshold, total_times_ms(folders)
            judged = judged_metrics(metrics, self._empty(baselines=False))
            verdicts = verdict.assess(self._requirements, judged, threshold, times_ms)
        values = {
            "model": f"{manifest.name} {manifest.version}",
            "trained": manifest.trained,
            **({"trained_on": "rendered streets alone"} if is_rendered_alone(manifest) else {}),
            "backend": evaluator.pipeline.backend.name,
            "score_threshold": settings.score_threshold,
            **settings.tracking_facts(scored=bool(tracking)),
            **totals(read),
            **results,
            **({"cameras": cameras} if cameras else {}),
            **({"tracking": tracking} if tracking else {}),
            **({"requirements": verdict.to_dict(verdicts)} if verdicts else {}),
        }
        made = [*result_tables(results), *camera_tables(results, cameras)]
        shown = [comparison_note(values)]
        shown += [as_text(table) for table in [*made, *tracking_tables(tracking)]]
        shown.append("\n".join(f"{one['name']}: {line}" for one in parts for line in _lines(one)))
        shown.append("\n".join(verdict.as_lines(verdicts)))
        print("\n\n".join(filter(None, shown)))
        if report:
            write_metrics(out, values, bags)
            write_report(out, values, results, bags, evaluator, self._recovered, verdicts)
        return verdicts

    def _metrics(self, out: Path, parts: Sequence[Summary]) -> dict[str, PerceptionMetric]:
        """Return the metrics of some parts together, by the names of ``ImageResult.metrics``."""
        return merge_metrics(_folders(out, parts), self._empty())

    def _results(self, metrics: dict[str, PerceptionMetric]) -> dict[str, dict[str, Any]]:
        shown = shown_metrics(metrics, self._empty(baselines=False))
        return {name: metric.result() for name, metric in shown.items()}

    def _empty(self, baselines: bool = True) -> PerceptionMetric:
        evaluator = self._evaluator
        return metric_for(evaluator.manifest, evaluator.settings.band_edges_m, baselines)

    def _tracking(self, out: Path, parts: Sequence[Summary]) -> dict[str, dict[str, Any]]:
        """Return the scores of the tracks of some parts together, by tracker."""
        settings = self._evaluator.settings
        if not (settings.tracking and settings.evaluate):
            return {}
        return tracking_results(_folders(out, parts), self._evaluator.manifest.classes)

    def _counted(self, summary: dict[str, Any], where: str = "") -> dict[str, Any]:
        """Count the images of a new summary, or print what hindered it."""
        if "error" in summary:
            error = f"{summary['name']}{where}: {summary['error']}"
            print(f"lemumo replay: {error}", file=sys.stderr)
        self.frames += sum(one.get("images", 0) for one in of_cameras([summary]))
        return summary


def _folders(out: Path, parts: Sequence[Summary]) -> list[Path]:
    return [out / one["name"] for one in parts]


def _print_done(names: Sequence[str]) -> None:
    """Say which bags are not done again; of many only how many they are."""
    if len(names) > MANY:
        print(f"{len(names)} bags: done already", file=sys.stderr)
        return
    for name in names:
        print(f"{name}: done already", file=sys.stderr)


def exit_code(summaries: Sequence[Summary], verdicts: Sequence[Verdict] = ()) -> int:
    """Return the exit code of ``lemumo replay``; see ``cli.replay.EXIT_CODES``."""
    parts = of_cameras(summaries)
    if all("error" in one for one in parts):
        return 1
    if not any(one.get("results") for one in parts):
        return 2
    if code := verdict.exit_code(verdicts):
        return code
    return 3 if any(_is_partial(one) for one in parts) else 0


def _is_partial(one: Summary) -> bool:
    if "error" in one or one["lost"] or one["drops"] or one["unjudged"]:
        return True
    return any(one["checks"][name]["verdict"] == WARN for name in ("clocks", "view"))


def _lines(one: Summary) -> list[str]:
    """Return the lines to print about a bag."""
    if "error" in one:
        return ["nothing could be read"]  # why was said when it was tried
    counts = f"{count_of(one['results'], 'result')} of {count_of(one['images'], 'image')}"
    why, lost = one["faults"], [f"lost: {words}" for words in one["lost"]]
    drops = (f"{number} dropped, {why[reason]}" for reason, number in one["drops"].items())
    if one["unjudged"]:
        unscored = count_of(one["unjudged"], "result was", "results were")
        lost.append(f"{unscored} not scored: {why['truth']}")
    checks = (f"{check['verdict']}: {check['words']}" for check in one["checks"].values())
    return [counts, *lost, *drops, *checks]
