"""A replay of several bags: each one whole, what is damaged named, what is done not done again."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import sound_files
from lemumo_core.evaluation.modalities import metric_for
from lemumo_core.evaluation.tables import as_text, tables
from lemumo_core.faults import Fault
from lemumo_core.progress import Progress
from lemumo_core.replay.evaluator import Judge, image_count, missing_companion
from lemumo_core.replay.folder import (
    Bag,
    BagFolder,
    added_metrics,
    bag_key,
    done_already,
    write_metrics,
)
from lemumo_core.replay.record import WARN, BagRecord
from lemumo_core.replay.report import write_report
from lemumo_core.replay.workers import Workers


class Replay:
    """One run of the command.

    Args:
        judge: a loaded model, also for the pictures.
        source: where results come from: the judge itself, or workers.
        out: folder of the results.
        recordings: keys of ``RECORDINGS``, to be written for each bag.

    Attributes:
        frames: how many images were processed now, by the source.
    """

    def __init__(
        self, judge: Judge, source: Judge | Workers, out: Path, recordings: Sequence[str] = ()
    ):
        self._judge, self._source, self._out, self._recordings = judge, source, out, recordings
        self.frames = 0

    def bag(self, bag: Bag) -> dict[str, Any]:
        """Replay one bag, unless that was done before.

        Returns:
            What came of it: the content of its ``bag.json``. A bag that cannot be read at all has
            an ``error`` and nothing else.
        """
        settings = self._judge.settings
        key = bag_key(bag, self._judge.manifest, settings, self._recordings)
        before = done_already(self._out / bag.name, key)
        if before is not None:
            print(f"{bag.name}: done already", file=sys.stderr)
            return before
        with tempfile.TemporaryDirectory() as scratch:
            try:
                return self._replay(bag, key, Path(scratch))
            except (Fault, OSError) as fault:
                print(f"lemumo replay: {bag.name}: {fault}", file=sys.stderr)
                return {"name": bag.name, "error": str(fault)}

    def conclude(self, found: Sequence[dict[str, Any]], report: bool) -> None:
        """Add up, print, and write ``metrics.json`` and the report."""
        judge, manifest = self._judge, self._judge.manifest
        bags = {one["name"]: {k: v for k, v in one.items() if k != "key"} for one in found}
        read = [one for one in found if "error" not in one]
        folders = [self._out / one["name"] for one in read]
        results = {
            mode: metric.result()
            for mode, metric in added_metrics(folders, metric_for(manifest)).items()
        }
        about = {
            "model": f"{manifest.name} {manifest.version}",
            "trained": manifest.trained,
            "backend": judge.pipeline.backend.name,
            "score_threshold": judge.settings.score_threshold,
            **_totals(read),
            **results,
        }
        print("\n\n".join(as_text(table) for table in tables(results)) if results else "")
        for one in found:
            for line in _words(one):
                print(f"{one['name']}: {line}")
        if report:
            self._out.mkdir(parents=True, exist_ok=True)
            write_metrics(self._out, about, bags)
            write_report(self._out, about, results, bags, judge)

    def _replay(self, bag: Bag, key: str, scratch: Path) -> dict[str, Any]:
        lost: list[str] = []
        for suspect in (False, True):
            files, lost_now = sound_files(bag.files, scratch, suspect)
            lost += lost_now
            record = BagRecord(bag.name)
            with self._folder(bag, files) as folder:
                try:
                    if lacking := self._take(bag.name, files, record, folder):
                        lost.append(lacking)
                except Fault as fault:
                    if fault.reason != "damaged_bag":
                        raise
                    lost.append(str(fault))
                    if not suspect:
                        continue  # once more, with what can be recovered
                about = {
                    "name": bag.name,
                    "key": key,
                    "files": [str(file) for file in bag.files],
                    "lost": lost,
                    **record.counts(),
                    "faults": record.faults,
                    "unjudged": record.unjudged,
                    "depth_held_out": record.held_out,
                    "checks": record.checks(self._judge.settings.evaluate),
                }
                folder.finish(record, about)
                return about
        raise AssertionError("unreachable")

    def _folder(self, bag: Bag, files: Sequence[Path]) -> BagFolder:
        judge = self._judge
        out = self._out / bag.name
        return BagFolder(out, files, judge.manifest, judge.settings, self._recordings)

    def _take(self, name: str, files: list[Path], record: BagRecord, folder: BagFolder) -> str:
        """Take in all results; returns what the bag lacks, in words."""
        judge = self._judge
        with BagReader(files) as reader:
            topics = judge.topics(reader)
            total = image_count(reader, topics)
            lacking = missing_companion(reader, topics, judge.manifest.input.companion)
        progress = Progress(name, total)
        for result in self._source.results(files):
            record.add(result)
            folder.write(result)
            self.frames += 1
            progress.update(len(record.rows))
        progress.finish()
        return lacking


def exit_code(found: Sequence[dict[str, Any]]) -> int:
    """Of ``replay.EXIT_CODES``."""
    if all("error" in one for one in found):
        return 1
    if not any(one.get("results") for one in found):
        return 2
    return 3 if any(_is_partial(one) for one in found) else 0


def _is_partial(one: dict[str, Any]) -> bool:
    if "error" in one or one["lost"] or one["drops"] or one["unjudged"]:
        return True
    return bool(one["checks"]["clocks"]["verdict"] == WARN)


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


def _words(one: dict[str, Any]) -> list[str]:
    """What to say of a bag."""
    if "error" in one:
        return [f"nothing could be read: {one['error']}"]
    counts = f"{one['results']} results of {one['images']} images"
    why, lost = one["faults"], [f"lost: {words}" for words in one["lost"]]
    drops = (f"{number} dropped, {why[reason]}" for reason, number in one["drops"].items())
    if one["unjudged"]:
        lost.append(f"{one['unjudged']} results were not judged: {why['truth']}")
    checks = (f"{check['verdict']}: {check['words']}" for check in one["checks"].values())
    return [counts, *lost, *drops, *checks]
