"""Replay several bags: report what is damaged, and skip bags that are finished."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lemumo_core.bags.missing_companion import describe_missing_companion
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import sound_files
from lemumo_core.evaluation import verdict
from lemumo_core.evaluation.modalities import metric_for
from lemumo_core.evaluation.requirements import Requirements
from lemumo_core.evaluation.tables import as_text, tables, tracking_tables
from lemumo_core.evaluation.verdict import Verdict
from lemumo_core.faults import Fault
from lemumo_core.files import DISK_ERRORS
from lemumo_core.inference.provenance import is_rendered_alone
from lemumo_core.progress import Progress
from lemumo_core.replay.calibration_check import fixed_transforms
from lemumo_core.replay.checks import WARN
from lemumo_core.replay.evaluator import Evaluator, image_count
from lemumo_core.replay.output_folder import (
    Bag,
    BagOutput,
    bag_key,
    check_folder,
    finished_summary,
    merge_metrics,
    write_metrics,
)
from lemumo_core.replay.record import BagRecord
from lemumo_core.replay.report import write_report
from lemumo_core.replay.tables import total_times_ms
from lemumo_core.replay.tracks import BagTracks, tracking_results
from lemumo_core.replay.workers import Workers


class Replay:
    """A replay of several bags with one model.

    Args:
        evaluator: evaluator with the loaded model, which also draws the report's pictures.
        source: what yields the results: the evaluator itself, or workers.
        out: output folder.
        recordings: keys of ``RECORDINGS`` to write for each bag.
        requirements: limits that the results must keep.

    Attributes:
        frames: number of images processed by this run.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        source: Evaluator | Workers,
        out: Path,
        recordings: Sequence[str] = (),
        requirements: Requirements | None = None,
    ):
        self._requirements = requirements
        self._evaluator, self._source = evaluator, source
        self._out, self._recordings = out, recordings
        self.frames = 0

    def check_folders(self, bags: Sequence[Bag], overwrite: bool) -> None:
        """Check that the output folder of each bag may be written, before any is replayed.

        Raises:
            Fault: as ``output_folder.check_folder``.
        """
        for bag in bags:
            check_folder(self._out / bag.name, self._key(bag), overwrite)

    def run_bag(self, bag: Bag) -> dict[str, Any]:
        """Replay one bag, unless it is finished already.

        Returns:
            The summary of the bag, which is the content of its ``bag.json``. A bag that cannot be
            read at all has ``name`` and ``error`` and nothing else.
        """
        key = self._key(bag)
        finished = finished_summary(self._out / bag.name, key)
        if finished is not None:
            print(f"{bag.name}: done already", file=sys.stderr)
            return finished
        with tempfile.TemporaryDirectory() as scratch:
            try:
                return self._replay(bag, key, Path(scratch))
            except (Fault, OSError) as fault:
                # The disk that results are written to is no fault of a bag, and ends all work.
                if isinstance(fault, OSError) and fault.errno in DISK_ERRORS:
                    raise OSError(f"cannot write to {self._out}: {fault}") from fault
                print(f"lemumo replay: {bag.name}: {fault}", file=sys.stderr)
                return {"name": bag.name, "error": self._without_folders(str(fault), bag, scratch)}

    def finalize(self, summaries: Sequence[dict[str, Any]], report: bool) -> list[Verdict]:
        """Merge the metrics of all bags and print them.

        Args:
            summaries: summaries of the bags, as ``run_bag`` returns them.
            report: whether to write ``metrics.json`` and the report.

        Returns:
            The verdicts on the requirements.
        """
        evaluator, manifest = self._evaluator, self._evaluator.manifest
        bags = {one["name"]: {k: v for k, v in one.items() if k != "key"} for one in summaries}
        read = [one for one in summaries if "error" not in one]
        folders = [self._out / one["name"] for one in read]
        settings, tracking = evaluator.settings, {}
        metrics = merge_metrics(folders, metric_for(manifest, settings.band_edges_m))
        results = {modality: metric.result() for modality, metric in metrics.items()}
        verdicts = []
        if self._requirements is not None:
            threshold, times_ms = settings.score_threshold, total_times_ms(folders)
            verdicts = verdict.assess(self._requirements, metrics, threshold, times_ms)
        if settings.tracking and settings.evaluate:
            tracking = tracking_results(folders, manifest.classes)
        totals = {
            "model": f"{manifest.name} {manifest.version}",
            "trained": manifest.trained,
            **({"trained_on": "rendered streets alone"} if is_rendered_alone(manifest) else {}),
            "backend": evaluator.pipeline.backend.name,
            "score_threshold": settings.score_threshold,
            **settings.tracking_facts(scored=bool(tracking)),
            **_totals(read),
            **results,
            **({"tracking": tracking} if tracking else {}),
            **({"requirements": verdict.to_dict(verdicts)} if verdicts else {}),
        }
        made = [*(tables(results) if results else []), *tracking_tables(tracking)]
        print("\n\n".join(as_text(table) for table in made))
        for one in summaries:
            for line in _lines(one):
                print(f"{one['name']}: {line}")
        print("\n".join(verdict.as_lines(verdicts)))
        if report:
            self._out.mkdir(parents=True, exist_ok=True)
            write_metrics(self._out, totals, bags)
            write_report(self._out, totals, results, bags, evaluator, verdicts)
        return verdicts

    def _key(self, bag: Bag) -> dict[str, Any]:
        evaluator = self._evaluator
        return bag_key(bag, evaluator.manifest, evaluator.settings, self._recordings)

    def _replay(self, bag: Bag, key: dict[str, Any], scratch: Path) -> dict[str, Any]:
        lost: list[str] = []
        settings = self._evaluator.settings
        for suspect in (False, True):
            files, lost_now = sound_files(bag.files, scratch, suspect)
            lost += lost_now
            record = BagRecord(bag.name)
            tracks = BagTracks(self._evaluator.manifest) if self._is_tracking else None
            with self._folder(bag, files) as folder:
                try:
                    if missing := self._record_results(bag.name, files, record, folder, tracks):
                        lost.append(missing)
                except Fault as fault:
                    if fault.reason != "damaged_bag":
                        raise
                    lost.append(str(fault))
                    if not suspect:
                        continue  # once more, with what can be recovered
                summary = {
                    "name": bag.name,
                    "key": key,
                    "files": [str(file) for file in bag.files],
                    "lost": [self._without_folders(words, bag, scratch) for words in lost],
                    **record.counts(),
                    "faults": {
                        reason: self._without_folders(words, bag, scratch)
                        for reason, words in record.faults.items()
                    },
                    "unjudged": record.unscored,
                    "depth_held_out": record.returns_masked,
                    "checks": record.checks(settings.evaluate, settings.extrinsics),
                }
                folder.finish(record, summary, tracks.metrics if tracks else {})
                return summary
        raise AssertionError("unreachable")

    def _without_folders(self, text: str, bag: Bag, scratch: str | Path) -> str:
        """Return a message with names in place of paths: results are shown to others."""
        _, truth_options = self._evaluator.settings.truth or ("", {})
        folders = [scratch, *(file.parent for file in bag.files)]
        folders += [value for value in truth_options.values() if isinstance(value, str | Path)]
        for folder in folders:
            text = text.replace(f"{folder}/", "")
        return text

    def _folder(self, bag: Bag, files: Sequence[Path]) -> BagOutput:
        evaluator = self._evaluator
        out = self._out / bag.name
        return BagOutput(out, files, evaluator.manifest, evaluator.settings, self._recordings)

    @property
    def _is_tracking(self) -> bool:
        return self._evaluator.settings.tracking

    def _record_results(
        self,
        name: str,
        files: list[Path],
        record: BagRecord,
        folder: BagOutput,
        tracks: BagTracks | None,
    ) -> str:
        """Record and write all results; return a message about what the bag lacks, or ''."""
        evaluator = self._evaluator
        with BagReader(files) as reader:
            topics = evaluator.topics(reader)
            record.transforms = fixed_transforms(reader)
            total = image_count(reader, topics)
            companion = evaluator.manifest.input.companion
            role = "points" if companion == "lidar" else "thermal"
            missing = ""
            if getattr(topics, role) is None:
                given = evaluator.settings.topics.get(role)
                missing = describe_missing_companion(reader, companion, given)
        with Progress(name, total) as progress:
            for untracked in self._source.results(files):
                result = tracks.update(untracked) if tracks else untracked
                record.add(result)
                folder.write(result)
                self.frames += 1
                progress.update(len(record.rows))
        return missing


def exit_code(summaries: Sequence[dict[str, Any]], verdicts: Sequence[Verdict] = ()) -> int:
    """Return the exit code of ``lemumo replay``; see ``cli.replay.EXIT_CODES``."""
    if all("error" in one for one in summaries):
        return 1
    if not any(one.get("results") for one in summaries):
        return 2
    if code := verdict.exit_code(verdicts):
        return code
    return 3 if any(_is_partial(one) for one in summaries) else 0


def _is_partial(one: dict[str, Any]) -> bool:
    if "error" in one or one["lost"] or one["drops"] or one["unjudged"]:
        return True
    return any(one["checks"][name]["verdict"] == WARN for name in ("clocks", "view"))


def _totals(read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    modalities: dict[str, int] = {}
    drops: dict[str, int] = {}
    for one in read:
        for total, part in ((modalities, one["modalities"]), (drops, one["drops"])):
            for name, number in part.items():
                total[name] = total.get(name, 0) + number
    return {
        "images": sum(one["images"] for one in read),
        "results": sum(one["results"] for one in read),
        "modalities": modalities,
        "drops": drops,
    }


def _lines(one: dict[str, Any]) -> list[str]:
    """Return the lines to print about a bag."""
    if "error" in one:
        return [f"nothing could be read: {one['error']}"]
    counts = f"{one['results']} results of {one['images']} images"
    why, lost = one["faults"], [f"lost: {words}" for words in one["lost"]]
    drops = (f"{number} dropped, {why[reason]}" for reason, number in one["drops"].items())
    if one["unjudged"]:
        lost.append(f"{one['unjudged']} results were not scored: {why['truth']}")
    checks = (f"{check['verdict']}: {check['words']}" for check in one["checks"].values())
    return [counts, *lost, *drops, *checks]
