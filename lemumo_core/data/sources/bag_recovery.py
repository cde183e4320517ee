"""What is left of a damaged bag. Of an mcap file every whole record is copied into a new one.

Its records follow one another, each with its length (https://mcap.dev/spec), so that a file which
was cut off, or lost its summary, is sound up to the damage. A chunk that does not fit its checksum
is left out alone; of one that was cut off, what can still be decompressed is kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lemumo_core.data.sources.bag_reader import STORAGE_SUFFIXES, BagReader
from lemumo_core.faults import Fault

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
KEPT = {SCHEMA, CHANNEL, MESSAGE}
PREFIX = struct.Struct("<BQ")
CHUNK_HEAD = struct.Struct("<QQQI")
"""First and last log time, uncompressed size, CRC-32 (0: not given)."""
END = PREFIX.pack(DATA_END, 4) + bytes(4) + PREFIX.pack(FOOTER, 20) + bytes(20) + MAGIC
MAX_RECORD_BYTES = 1 << 32


def recover_mcap(path: Path, out: Path) -> str:
    """Write the sound records of a file to another one, which has no index.

    Args:
        path: the damaged file.
        out: file to write.

    Returns:
        What was lost, in words for people.

    Raises:
        Fault: ``damaged_bag`` if it does not even begin as an mcap file of ROS 2.
    """
    bad_chunks = 0
    size = path.stat().st_size
    with path.open("rb") as source, out.open("wb") as target:
        head = source.read(len(MAGIC))
        code, header = next(_records(source), (0, b""))
        if head != MAGIC or code != HEADER:
            raise Fault("damaged_bag", f"{path} does not begin as an mcap file: nothing to recover")
        target.write(MAGIC)
        _write(target, HEADER, header)
        sound = source.tell()
        for code, data in _records(source):
            if code in (DATA_END, FOOTER):
                sound = size
                break
            if code in KEPT:
                _write(target, code, data)
            elif code == CHUNK and _chunk_is_sound(data):
                _write(target, CHUNK, data)
            elif code == CHUNK:
                bad_chunks += 1
                _write_rest(target, data)
            sound = source.tell()
        else:
            source.seek(sound)
            prefix = source.read(PREFIX.size)
            if prefix[:1] == bytes([CHUNK]):
                _write_rest(target, source.read())
        target.write(END)
    lost = [f"{bad_chunks} of its chunks are damaged"] * bool(bad_chunks)
    if sound < size:
        lost.append(f"its last {(size - sound) / 1e6:.3f} MB are no whole records")
    return ", ".join(lost) or "it was not closed, so that its end may be missing"


def _records(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Whole records from here on: code and contents."""
    while len(prefix := source.read(PREFIX.size)) == PREFIX.size:
        code, length = PREFIX.unpack(prefix)
        if not code or length > MAX_RECORD_BYTES:
            return
        data = source.read(length)
        if len(data) < length:
            return
        yield code, data


def _write(target: BinaryIO, code: int, data: bytes) -> None:
    target.write(PREFIX.pack(code, len(data)))
    target.write(data)


def _chunk_is_sound(data: bytes) -> bool:
    try:
        _, _, size, crc = CHUNK_HEAD.unpack_from(data)
        records = _decompressed(data)
    except (ValueError, RuntimeError, struct.error):
        return False
    return len(records) == size and (not crc or zlib.crc32(records) == crc)


def _write_rest(target: BinaryIO, data: bytes) -> None:
    """The whole records of a chunk that was cut off, or none where it is damaged within."""
    try:
        _, _, size, _ = CHUNK_HEAD.unpack_from(data)
        records = _decompressed(data)
    except (ValueError, RuntimeError, struct.error):
        return
    if len(records) >= size:
        return  # whole, so its checksum is wrong: no telling which of its bytes are
    at = 0
    while at + PREFIX.size <= len(records):
        code, length = PREFIX.unpack_from(records, at)
        end = at + PREFIX.size + length
        if code not in KEPT or end > len(records):
            return
        target.write(records[at:end])
        at = end


def _decompressed(chunk: bytes) -> bytes:
    """The records of a chunk; of one that was cut off, those at its beginning.

    Raises:
        ValueError, RuntimeError, struct.error: it cannot be decompressed.
    """
    (length,) = struct.unpack_from("<I", chunk, CHUNK_HEAD.size)
    begin = CHUNK_HEAD.size + 4 + length + 8
    compression, data = chunk[CHUNK_HEAD.size + 4 : begin - 8], chunk[begin:]
    if compression == b"":
        return data
    if compression == b"lz4":
        from lz4.frame import LZ4FrameDecompressor

        return bytes(LZ4FrameDecompressor().decompress(data))
    if compression == b"zstd":
        return _zstd(data)
    raise ValueError(f"unknown compression {compression!r}")


def _zstd(data: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        from backports import zstd
    try:
        return bytes(zstd.ZstdDecompressor().decompress(data))
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def sound_files(
    files: Sequence[Path], scratch: Path, suspect: bool = False
) -> tuple[list[Path], list[str]]:
    """What can be read of a bag.

    Args:
        files: what ``BagReader`` opens together.
        scratch: folder for recovered copies.
        suspect: files that open failed while they were read: look into them.

    Returns:
        What to open instead, and in words what is lost of the bag; nothing for a whole one.

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
            return list(files), _unclosed(files[0])
    found, lost, causes = [], [], []
    for part in (part for file in files for part in _parts(file)):
        cause = None if suspect and part.suffix == ".mcap" else _cause(part)
        if cause is None and not (suspect and part.suffix == ".mcap"):
            found.append(part)
            continue
        try:
            if part.suffix != ".mcap":
                raise Fault("damaged_bag", str(cause))
            copy = scratch / f"{len(found)}_{part.name}"
            lost.append(f"{part.name}: {recover_mcap(part, copy)}")
            found.append(copy)
        except Fault as fault:
            causes.append(str(fault))
            lost.append(f"{part.name} cannot be read")
    if not found:
        raise Fault("damaged_bag", "; ".join(causes) or f"{files[0]} holds no file of a bag")
    return found, lost


def _parts(file: Path) -> list[Path]:
    """The storage files of a bag folder, or the file itself."""
    if not file.is_dir():
        return [file]
    return sorted(part for part in file.iterdir() if part.suffix in STORAGE_SUFFIXES)


def _cause(part: Path) -> Fault | None:
    """Why a file cannot be opened, None if it can."""
    try:
        BagReader(part).close()
    except Fault as fault:
        return fault
    return None


def _unclosed(file: Path) -> list[str]:
    """Words for a file of a folder that rosbag2 made, but did not come to finish."""
    folder = file.parent
    ours = re.fullmatch(re.escape(folder.name) + r"(_\d+)?", file.stem)
    if file.is_dir() or not ours or (folder / "metadata.yaml").exists():
        return []
    return ["metadata.yaml is missing: the recording was not closed, its end may be lost"]
