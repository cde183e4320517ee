"""Find what can be read of a bag that is damaged or was not closed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from lemumo_core.bags.mcap_recovery import recover_mcap
from lemumo_core.bags.metadata import (
    COMPRESSED_SUFFIX,
    METADATA,
    bag_stem,
    read_metadata,
    storage_files,
)
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.zstandard import decompress_file
from lemumo_core.faults import Fault


class RecoveredBag:
    """The sound files of the bag that was searched last, until another one is searched.

    A bag that is read again is so not recovered again; copies of more than one might fill a disk.
    A context manager, which deletes the copies at its end.

    Attributes:
        folder: of the copies.
    """

    def __init__(self) -> None:
        self._scratch = TemporaryDirectory()
        self.folder = Path(self._scratch.name)
        self._searched: tuple[tuple[Path, ...], bool] | None = None
        self._found: tuple[list[Path], list[str]] = [], []

    def __enter__(self) -> RecoveredBag:
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.cleanup()

    def search(self, files: Sequence[Path], suspect: bool) -> tuple[list[Path], list[str]]:
        """Return ``sound_files`` of a bag.

        Raises:
            Fault, FileNotFoundError, ImportError: as ``sound_files``.
        """
        if self._searched != (tuple(files), suspect):
            self._searched = None
            for copy in self.folder.iterdir():
                copy.unlink()
            self._found = sound_files(files, self.folder, suspect)
            self._searched = tuple(files), suspect
        return self._found


def sound_files(
    files: Sequence[Path], scratch: Path, suspect: bool = False
) -> tuple[list[Path], list[str]]:
    """Return the readable files of a bag, recovered where necessary, and what is lost.

    Args:
        files: files of the bag, as ``BagReader`` opens them.
        scratch: folder for recovered copies.
        suspect: whether reading failed although the files open, so that all are searched.

    Returns:
        Files to open instead, and a message for each loss; none for a whole bag.

    Raises:
        Fault: ``damaged_bag`` if nothing can be read, or as ``BagReader``.
        FileNotFoundError, ImportError: as ``BagReader``.
    """
    if not suspect:
        try:
            BagReader(files).close()
        except Fault as fault:
            if fault.reason != "damaged_bag":
                raise
        else:
            return list(files), [*_unclosed(files[0]), *_uncounted(files)]
    found, lost, causes = [], [], []
    for part in (part for file in files for part in _parts(file)):
        is_mcap = part.name.endswith((".mcap", ".mcap.zstd"))
        cause = _cause(part)
        if cause is None and not (suspect and is_mcap):
            found.append(part)
            continue
        try:
            if not is_mcap:
                raise Fault("damaged_bag", str(cause))
            copy = scratch / f"{len(found)}_{part.name.removesuffix(COMPRESSED_SUFFIX)}"
            lost.append(f"{part.name}: {recover_mcap(_decompressed(part, scratch), copy)}")
            found.append(copy)
        except Fault as fault:
            causes.append(str(fault))
            lost.append(f"{part.name} cannot be read")
    if not found:
        raise Fault("damaged_bag", "; ".join(causes) or f"{files[0]} holds no file of a bag")
    return found, lost


def _parts(file: Path) -> list[Path]:
    """Return the storage files of a bag folder, or the file itself."""
    if not file.is_dir():
        return [file]
    return storage_files(file, read_metadata(file))


def _decompressed(part: Path, scratch: Path) -> Path:
    """Return a file that is not compressed; of a compressed one, a copy of what is left of it."""
    if part.suffix != COMPRESSED_SUFFIX:
        return part
    copy = scratch / part.stem
    with suppress(ValueError):  # it is damaged: that is why it is here
        decompress_file(part, copy)
    return copy


def _cause(part: Path) -> Fault | None:
    """Return the fault with which a file cannot be opened, or None."""
    try:
        BagReader(part).close()
    except Fault as fault:
        return fault
    return None


def _unclosed(file: Path) -> list[str]:
    """Return messages for a file of a folder that rosbag2 created but did not finish."""
    folder = file.parent
    ours = re.fullmatch(re.escape(folder.name) + r"(_\d+)?", bag_stem(file))
    if file.is_dir() or not ours or (folder / METADATA).exists():
        return []
    return ["metadata.yaml is missing: the recording was not closed, its end may be lost"]


def _uncounted(files: Sequence[Path]) -> list[str]:
    """Return messages for folders whose files hold fewer messages than were recorded."""
    lost = []
    for folder in (file for file in files if file.is_dir()):
        recorded = read_metadata(folder).count
        with BagReader(folder) as reader:
            held = sum(topic.count for topic in reader.topics)
        if recorded is not None and held < recorded:
            lost.append(
                f"{folder.name}: {recorded - held} of {recorded} recorded messages are missing:"
                f" its files hold {held}"
            )
    return lost
