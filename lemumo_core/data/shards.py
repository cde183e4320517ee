"""Shards as a source of Frames: a folder of Arrow IPC files, local or in a bucket, and an index.

index.json              configuration, number of frames, and the shards with frames and bytes
shard-000000.arrow ...  one record batch per Frame (``frame_records``), memory-mapped
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from lemumo_core.data.arrow import pa
from lemumo_core.data.frame_records import SCHEMAS, frame_from_record
from lemumo_core.data.remote_folder import RemoteFolder, read_remote, remote_address
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame

INDEX = "index.json"
TRUTH = ("boxes_3d", "boxes_2d", "label_map", "depth_m", "point_labels")
"""Columns of labels to learn from."""
MAX_OPEN = 128
"""Shards kept open by one reader; each is a file handle."""


class Shards:
    """Frames of shards written by ``lemumo prepare``, in the order of their source.

    Args:
        root: the folder that holds ``index.json``; or its URI, e.g. ``s3://bucket/folder`` or
            ``gs://bucket/folder``, whose shards are copied to a cache when first needed;
            credentials and endpoint are those of the environment, e.g. ``AWS_ENDPOINT_URL``.
        at_least: height, width, pixels: Frames come at a half, a quarter or an eighth of their
            size where they stay at least this large (``reduction``), which is much cheaper to
            decode; camera and labels follow.
        cache: folder for copies of remote shards; by default in ``cache_folder()``.
        cache_gb: bound on that folder's part for this root, 10^9 bytes.

    Raises:
        FileNotFoundError: no index there: the preparation has not finished.
        Fault: ``bad_shards`` for an index that cannot be used; on a Frame: naming its shard.
    """

    def __init__(
        self,
        root: str | Path,
        at_least: tuple[int, int] | None = None,
        cache: str | Path | None = None,
        cache_gb: float = 100.0,
    ):
        self.root = (remote_address(str(root)) or str(root)).rstrip("/")
        self.at_least = at_least
        text = _read_index(self.root)
        self.index = _parse_index(text, self.root)
        self.remote = None
        if _is_remote(self.root):
            self.remote = RemoteFolder(self.root, text, cache, round(cache_gb * 1e9))
        self.names = [shard["name"] for shard in self.index["shards"]]
        self.ends = list(accumulate(shard["frames"] for shard in self.index["shards"]))
        self._open: OrderedDict[int, pa.ipc.RecordBatchFileReader] = OrderedDict()

    def __len__(self) -> int:
        frames: int = self.index["frames"]
        return frames

    def __getitem__(self, index: int) -> Frame:
        record = self._record(index)
        with named(self.names[self.shard_of(index)], self.root):
            return frame_from_record(record, self.at_least)

    def shard_of(self, index: int) -> int:
        """Return the number of the shard that holds a Frame."""
        return bisect_right(self.ends, range(len(self))[index])

    def stamp_and_camera(self, index: int) -> tuple[int, str]:
        """Return the stamp, ns, and the camera's name of a Frame without decoding it."""
        record = self._record(index)
        return record.column("stamp_ns")[0].as_py(), record.column("camera_name")[0].as_py()

    def has_labels(self, index: int) -> bool:
        """Return whether a Frame has any truth to learn from, without decoding it."""
        labels = self._record(index).column("labels")[0]
        return labels.is_valid and any(labels[part].is_valid for part in TRUTH)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``; ``configuration`` is what the shards were made from."""
        return {
            "source": "shards",
            "root": self.root,
            "frames": len(self),
            "at_least": self.at_least and list(self.at_least),
            "configuration": self.index["configuration"],
        }

    def _record(self, index: int) -> pa.RecordBatch:
        index = range(len(self))[index]
        shard = bisect_right(self.ends, index)
        row = index - self.ends[shard] + self.index["shards"][shard]["frames"]
        with named(self.names[shard], self.root):
            return self._reader(shard).get_batch(row)

    def _reader(self, shard: int) -> pa.ipc.RecordBatchFileReader:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        about = self.index["shards"][shard]
        if self.remote is None:
            path = Path(self.root, about["name"])
        else:
            path = self.remote.fetch(about["name"], about["bytes"])
        reader = open_shard(path)
        if reader.num_record_batches != about["frames"] or not reader.schema.equals(
            SCHEMAS[self.index["version"]]
        ):
            raise Fault("bad_shards", f"{path} is not the shard that {INDEX} names")
        self._open[shard] = reader
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return reader


def _is_remote(root: str) -> bool:
    return remote_address(root) is not None


def _read_index(root: str) -> str:
    try:
        if _is_remote(root):
            return read_remote(root, INDEX).decode(errors="replace")
        return Path(root, INDEX).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        if not _is_remote(root) and not Path(root).exists():
            raise FileNotFoundError(
                f"{root} does not exist: name a folder or URI of shards, a bag, a folder of bags, "
                "a video, or a source with its options"
            ) from None
        raise FileNotFoundError(
            f"{root} holds no {INDEX}: not shards, or lemumo prepare has not finished; run "
            "it again, it goes on where it stopped"
        ) from None


def _parse_index(text: str, root: str) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(text)
        version = index["version"]
        if version not in SCHEMAS:
            raise Fault(
                "bad_shards",
                f"{root} holds shards of version {version}, this reads "
                f"{min(SCHEMAS)} to {max(SCHEMAS)}: prepare them again",
            )
        parts = [(one["name"], one["frames"], one["bytes"]) for one in index["shards"]]
        whole = bool(parts) and {"configuration", "frames", "dropped"} <= index.keys()
    except Fault:
        raise
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise Fault(
            "bad_shards",
            f"{root}/{INDEX} is not an index of shards, or damaged: run lemumo prepare again, "
            "which keeps the shards",
        )
    return index


def open_shard(path: Path) -> pa.ipc.RecordBatchFileReader:
    """Memory-map a shard; raise ``pa.ArrowInvalid`` where it is cut off."""
    return shard_reader(pa.memory_map(str(path)))


def shard_reader(file: pa.NativeFile) -> pa.ipc.RecordBatchFileReader:
    """Read the end of a shard, where its schema is; raise ``pa.ArrowInvalid`` as ``open_shard``."""
    options = pa.ipc.IpcReadOptions(use_threads=False)  # data loaders bring their own processes
    return pa.ipc.open_file(file, options=options)


@contextmanager
def named(name: str, root: str | Path) -> Iterator[None]:
    """Turn errors of pyarrow into Faults that name the shard."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise Fault(
            "bad_shards",
            f"{root}/{name} is damaged or gone; delete it and run lemumo prepare again: {error}",
        ) from error
