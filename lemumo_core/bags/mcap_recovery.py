"""Copy every whole record of a damaged mcap file into a new file with an index.

Records follow one another, each with its length (https://mcap.dev/spec), so that a file which
was cut off, or lost its summary, is sound up to the damage. A chunk that does not fit its checksum
is left out alone; of one that was cut off, what can still be decompressed is kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lemumo_core.bags import zstandard
from lemumo_core.faults import Fault

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END = 0x07, 0x08, 0x0B, 0x0F
PREFIX = struct.Struct("<BQ")
CHUNK_HEAD = struct.Struct("<QQQI")
"""Layout of first and last log time, uncompressed size, CRC-32 (0: not given)."""
MESSAGE_HEAD = struct.Struct("<HIQ")
"""Layout of channel, sequence number, log time."""
MAX_RECORD_BYTES = 1 << 32
LOOSE_BYTES = 1 << 22
Record = tuple[int, bytes]


def recover_mcap(path: Path, out: Path) -> str:
    """Write the sound records of a file to another one, with an index.

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
    with path.open("rb") as source, out.open("wb") as file:
        head = source.read(len(MAGIC))
        code, header = next(_records(source), (0, b""))
        if head != MAGIC or code != HEADER:
            raise Fault("damaged_bag", f"{path} does not begin as an mcap file: nothing to recover")
        target = _Target(file, header)
        sound = source.tell()
        for code, data in _records(source):
            if code in (DATA_END, FOOTER):
                sound = size
                break
            if code == CHUNK:
                records, whole = _chunk(data)
                bad_chunks += not whole
                target.add_chunk(data if whole else None, records)
            else:
                target.add(code, data)
            sound = source.tell()
        else:
            source.seek(sound)
            if source.read(PREFIX.size)[:1] == bytes([CHUNK]):
                target.add_chunk(None, _chunk(source.read())[0])
        target.finish()
    lost = [f"{bad_chunks} of its chunks are damaged"] * bool(bad_chunks)
    if sound < size:
        lost.append(f"its last {(size - sound) / 1e6:.3f} MB are no whole records")
    return ", ".join(lost) or "it was not closed, so that its end may be missing"


class _Target:
    """Writes an mcap file: chunks, then the index that finds them."""

    def __init__(self, file: BinaryIO, header: bytes):
        self._file = file
        self._definitions: dict[tuple[int, int], Record] = {}
        self._indices: list[bytes] = []
        self._counts: dict[int, int] = {}
        self._times: list[int] = []
        self._loose = bytearray()
        file.write(MAGIC)
        self._write(HEADER, header)

    def add(self, code: int, data: bytes) -> None:
        """Add a record that comes from no whole chunk."""
        if code in (SCHEMA, CHANNEL):
            self._definitions[code, int.from_bytes(data[:2], "little")] = code, data
        elif code == MESSAGE:
            self._loose += PREFIX.pack(code, len(data)) + data
            if len(self._loose) > LOOSE_BYTES:
                self._put_loose()

    def add_chunk(self, data: bytes | None, records: Sequence[Record]) -> None:
        """Add a chunk, copied as ``data``; None where only these records of it are left."""
        for code, record in records:
            if data is None or code != MESSAGE:
                self.add(code, record)
        if data is not None:
            self._put(data, records)

    def finish(self) -> None:
        """Write the summary."""
        self._put_loose()
        self._write(DATA_END, bytes(4))
        summary = self._file.tell()
        for code, data in sorted(self._definitions.values(), key=lambda record: record[0]):
            self._write(code, data)
        for index in self._indices:
            self._write(CHUNK_INDEX, index)
        kinds = [code for code, _ in self._definitions]
        counts = b"".join(struct.pack("<HQ", *item) for item in sorted(self._counts.items()))
        numbers = kinds.count(SCHEMA), kinds.count(CHANNEL), 0, 0, len(self._indices)
        span = min(self._times, default=0), max(self._times, default=0)
        statistics = struct.pack("<QHIIIIQQ", sum(self._counts.values()), *numbers, *span)
        self._write(STATISTICS, statistics + struct.pack("<I", len(counts)) + counts)
        self._write(FOOTER, struct.pack("<QQI", summary, 0, 0))
        self._file.write(MAGIC)

    def _put_loose(self) -> None:
        records = bytes(self._loose)
        self._loose.clear()
        messages = _whole(records)
        if messages:
            times = [MESSAGE_HEAD.unpack_from(message)[2] for _, message in messages]
            head = CHUNK_HEAD.pack(min(times), max(times), len(records), 0)
            self._put(head + struct.pack("<IQ", 0, len(records)) + records, messages)

    def _put(self, chunk: bytes, records: Sequence[Record]) -> None:
        """Write a chunk of these records, and the index of its messages."""
        entries: dict[int, list[bytes]] = {}
        at = 0
        for code, record in records:
            if code == MESSAGE:
                channel, _, time_ns = MESSAGE_HEAD.unpack_from(record)
                entries.setdefault(channel, []).append(struct.pack("<QQ", time_ns, at))
                self._counts[channel] = self._counts.get(channel, 0) + 1
                self._times.append(time_ns)
            at += PREFIX.size + len(record)
        offset = self._file.tell()
        self._write(CHUNK, chunk)
        length = self._file.tell() - offset
        offsets = b""
        for channel, parts in entries.items():
            offsets += struct.pack("<HQ", channel, self._file.tell())
            index = b"".join(parts)
            self._write(MESSAGE_INDEX, struct.pack("<HI", channel, len(index)) + index)
        first, last, size, _ = CHUNK_HEAD.unpack_from(chunk)
        compression, data = _parts_of(chunk)
        self._indices.append(
            struct.pack("<QQQQI", first, last, offset, length, len(offsets))
            + offsets
            + struct.pack("<QI", self._file.tell() - offset - length, len(compression))
            + compression
            + struct.pack("<QQ", len(data), size)
        )

    def _write(self, code: int, data: bytes) -> None:
        self._file.write(PREFIX.pack(code, len(data)))
        self._file.write(data)


def _records(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the whole records from a position on: opcode and contents."""
    while len(prefix := source.read(PREFIX.size)) == PREFIX.size:
        code, length = PREFIX.unpack(prefix)
        if not code or length > MAX_RECORD_BYTES:
            return
        data = source.read(length)
        if len(data) < length:
            return
        yield code, data


def _chunk(data: bytes) -> tuple[list[Record], bool]:
    """Return the records of a chunk, and whether these are all of them.

    Of a chunk that was cut off these are the whole records at its beginning; none where its bytes
    do not match the checksum, because any of them may be wrong.
    """
    try:
        _, _, size, crc = CHUNK_HEAD.unpack_from(data)
        content = _decompressed(data)
    except (ValueError, RuntimeError, struct.error):
        return [], False
    if len(content) < size:
        return _whole(content), False
    if len(content) > size or (crc and zlib.crc32(content) != crc):
        return [], False
    return _whole(content), True


def _whole(content: bytes) -> list[Record]:
    """Return the whole records at the beginning of some bytes."""
    records, at = [], 0
    while at + PREFIX.size <= len(content):
        code, length = PREFIX.unpack_from(content, at)
        begin, at = at + PREFIX.size, at + PREFIX.size + length
        if at > len(content):
            break
        records.append((code, content[begin:at]))
    return records


def _parts_of(chunk: bytes) -> tuple[bytes, bytes]:
    """Return the name of the compression, and the compressed records."""
    (length,) = struct.unpack_from("<I", chunk, CHUNK_HEAD.size)
    begin = CHUNK_HEAD.size + 4 + length + 8
    return chunk[CHUNK_HEAD.size + 4 : begin - 8], chunk[begin:]


def _decompressed(chunk: bytes) -> bytes:
    """Return the decompressed records of a chunk; of a chunk cut off, those at its beginning.

    Raises:
        ValueError, RuntimeError, struct.error: it cannot be decompressed.
    """
    compression, data = _parts_of(chunk)
    if compression == b"":
        return data
    if compression == b"lz4":
        from lz4.frame import LZ4FrameDecompressor

        return bytes(LZ4FrameDecompressor().decompress(data))
    if compression == b"zstd":
        return zstandard.beginning(data)
    raise ValueError(f"unknown compression {compression!r}")
