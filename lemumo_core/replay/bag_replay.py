"""Replay one bag: read what can be read of it, record the results, and write its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from lemumo_core.bags.missing_companion import describe_missing_companion
from lemumo_core.bags.named_bags import Bag
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.executor.pool import WORKER_FAULTS
from lemumo_core.faults import Fault
from lemumo_core.files import DISK_ERRORS
from lemumo_core.folders.folder import Folder
from lemumo_core.progress import Progress
from lemumo_core.replay.calibration_check import fixed_transforms
from lemumo_core.replay.evaluator import Evaluator, ImageResult, image_counts
from lemumo_core.replay.output_folder import BagOutput, bag_key, finished_summary
from lemumo_core.replay.record import BagRecord
from lemumo_core.replay.summaries import part_name
from lemumo_core.replay.tracks import BagTracks


class ResultSource(Protocol):
    """What replays a bag: the evaluator itself, or workers."""

    def results(self, files: Sequence[Path]) -> Iterator[ImageResult]:
        """Yield the result of each image, as ``Evaluator.results`` does."""
        ...


class BagReplay:
    """Replays bags, one at a time.

    Args:
        evaluator: the loaded model.
        out: output folder.
        recordings: keys of ``RECORDINGS`` to write for each bag.
        source: what yields the results; by default the evaluator.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        out: Folder,
        recordings: Sequence[str],
        source: ResultSource | None = None,
    ):
        self._evaluator, self._out, self._recordings = evaluator, out, recordings
        self._source = source or evaluator

    def finished(self, bag: Bag) -> dict[str, Any] | None:
        """Return the summary of a bag that is finished, else None."""
        return finished_summary(self._out / bag.name, self._key(bag))

    def run(self, bag: Bag, recovered: RecoveredBag) -> dict[str, Any]:
        """Replay one bag, unless it is finished already.

        Args:
            bag: which.
            recovered: searches it, and keeps what is left of it.

        Returns:
            The summary of the bag, which is the content of its ``bag.json``; ``of_cameras`` reads
            it. A bag that cannot be read at all has ``name`` and ``error`` and nothing else.
        """
        if (finished := self.finished(bag)) is not None:  # by another host meanwhile
            return finished
        try:
            return self._replay(bag, self._key(bag), recovered)
        except (Fault, OSError) as fault:
            # Where results are written to is no fault of a bag, and ends all work.
            if isinstance(fault, Fault) and fault.reason in ("bad_output", *WORKER_FAULTS):
                raise
            if isinstance(fault, OSError) and fault.errno in DISK_ERRORS:
                raise OSError(f"cannot write to {self._out}: {fault}") from fault
            error = self._without_folders(str(fault), bag, recovered.folder)
            return {"name": bag.name, "error": error}

    def _key(self, bag: Bag) -> dict[str, Any]:
        evaluator = self._evaluator
        return bag_key(bag, evaluator.manifest, evaluator.settings, self._recordings)

    def _replay(self, bag: Bag, key: dict[str, Any], recovered: RecoveredBag) -> dict[str, Any]:
        lost: list[str] = []
        settings = self._evaluator.settings
        for suspect in (False, True):
            files, lost_now = recovered.search(bag.files, suspect)
            lost += lost_now
            records: dict[str, BagRecord] = {}
            tracks = None
            if settings.tracking:
                tracks = BagTracks(self._evaluator.manifest, bool(settings.fixed_frame))
            with self._folder(bag, files) as folder:
                try:
                    if missing := self._record_results(bag.name, files, records, folder, tracks):
                        lost.append(missing)
                except Fault as fault:
                    if fault.reason != "damaged_bag" or (suspect and not records):
                        raise
                    lost.append(str(fault))
                    if not suspect:
                        continue  # once more, with what can be recovered
                cameras = {
                    camera: {
                        **record.summary(settings),
                        "faults": {
                            reason: self._without_folders(words, bag, recovered.folder)
                            for reason, words in record.faults.items()
                        },
                    }
                    for camera, record in records.items()
                }
                summary = {
                    "name": bag.name,
                    "key": key,
                    "files": [str(file) for file in bag.files],
                    "searched": suspect,
                    "lost": [self._without_folders(words, bag, recovered.folder) for words in lost],
                    "cameras": cameras,
                }
                folder.finish(records, summary, tracks)
                return summary
        raise AssertionError("unreachable")

    def _without_folders(self, text: str, bag: Bag, scratch: Path) -> str:
        """Return a message with names in place of paths: results are shown to others."""
        _, truth_options = self._evaluator.settings.truth or ("", {})
        folders: list[str | Path] = [scratch, *(file.parent for file in bag.files)]
        folders += [value for value in truth_options.values() if isinstance(value, str | Path)]
        for folder in folders:
            text = text.replace(f"{folder}/", "")
        return text

    def _folder(self, bag: Bag, files: Sequence[Path]) -> BagOutput:
        evaluator = self._evaluator
        out = self._out / bag.name
        return BagOutput(out, files, evaluator.manifest, evaluator.settings, self._recordings)

    def _record_results(
        self,
        name: str,
        files: list[Path],
        records: dict[str, BagRecord],
        folder: BagOutput,
        tracks: BagTracks | None,
    ) -> str:
        """Record and write all results; return a message about what the bag lacks, or ''."""
        evaluator = self._evaluator
        with BagReader(files) as reader:
            cameras = evaluator.settings.find_cameras(reader)
            transforms = fixed_transforms(reader)
            counts = image_counts(reader, cameras)
            companion = evaluator.manifest.input.companion
            role = "points" if companion == "lidar" else "thermal"
            missing = ""
            if any(getattr(topics, role) is None for topics in cameras.values()):
                given = evaluator.settings.topics.get(role)
                missing = describe_missing_companion(reader, companion, given)
        for camera, topics in cameras.items():
            one_in = evaluator.settings.compare_one_in(counts[camera])
            part = part_name(name, camera)
            records[camera] = BagRecord(part, topics.image, transforms, one_in)
            folder.begin(camera)
        with Progress(name, sum(counts.values())) as progress:
            for untracked in self._source.results(files):
                result = tracks.update(untracked) if tracks else untracked
                records[result.event.camera].add(result)
                folder.write(result)
                progress.advance()
        return missing
