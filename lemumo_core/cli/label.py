"""Choose frames, bring them to an annotation tool and its labels back, or label without people.

    lemumo label export FORMAT --data DATA --out FOLDER     images, with the labels that there are
    lemumo label import FORMAT FILES --data DATA --out TRUTH
    lemumo prepare SOURCE ... --truth TRUTH --out SHARDS    frames with these labels
    lemumo replay BAG --truth TRUTH ...                     results measured on them
    lemumo label points RUN DATA --out SHARDS               a class for every LiDAR return
    lemumo finetune --data SHARDS ...                       the fusion model learns from them

    lemumo label propose DATA --model PACKAGE --out SHARDS  boxes and label maps of recordings
    lemumo finetune --data SHARDS ...                       a model learns from them, or people
    lemumo label export FORMAT --data SHARDS --out OUT      correct them first

    lemumo label embed DATA --model PACKAGE --out TABLE.parquet
    lemumo label choose TABLES --out FOLDER                 which frames to label next
    lemumo label similar TABLES --stamp_ns N --out FOLDER   which frames are like one
    lemumo label export FORMAT --data DATA --frames FOLDER/frames.csv --out OUT

FORMAT is coco, cvat, cvat-cuboids, kitti, label-studio, nuscenes or png. DATA is a bag, a folder of
shards or the name of a source, or several, each with its options behind it, as for lemumo evaluate:
DRIVE.mcap,image=all kitti,root=/data/kitti. A frame and its files belong together by its stamp,
which ends their names. RUN is a finished run of lemumo finetune --task points.

Exit codes: 0 done, 1 an error.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lemumo_core.cli.label_frames import choose_frames, embed_frames, similar_frames
from lemumo_core.cli.label_propose import propose_labels
from lemumo_core.command_line import run_function
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import Data, data_name
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import source_of
from lemumo_core.executor.executor import open_executor
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.frame import UNLABELLED, Frame
from lemumo_core.label.formats import label_format
from lemumo_core.label.frame_list import listed_frames
from lemumo_core.label.frame_names import name_of
from lemumo_core.label.imported import ImportedLabels
from lemumo_core.label.points import LabeledPoints, count_labels
from lemumo_core.progress import track
from lemumo_core.wording import count_of

PROG = "lemumo label"
USAGE_ERROR = 2
LOOKED_AT = 32
"""Frames whose labels are counted for people."""


def export_labels(
    format: str,
    *,
    data: Data,
    out: Path,
    data_options: SourceOptions | None = None,
    limit: int | None = None,
    frames: Path | None = None,
) -> None:
    """Write images of frames with their labels, for an annotation tool.

    Args:
        format: coco, cvat, cvat-cuboids, kitti, label-studio, nuscenes or png.
        data: a bag or a folder of bags, a folder or URI of shards, or the name of a source; or
            several, each with its options: ``--data MONDAY.mcap,image=all data/mine``.
        out: new folder.
        data_options: of a single source, e.g. ``--data_options.image /front/image_raw``.
        limit: frames at most, spread evenly over the source; by default all.
        frames: only those that frames.csv of lemumo label choose or similar names.

    Raises:
        Fault: ``bad_output`` where ``out`` has files; as ``label_format``, its ``write`` and the
            source.
    """
    check_output(out)
    if out.exists() and any(out.iterdir()):
        raise Fault("bad_output", f"{out} has files already: name a new folder with --out")
    write = label_format(format).write
    source = source_of(data, **(data_options or {}))
    named = list(range(len(source))) if frames is None else listed_frames(frames, source)
    most = len(named) if limit is None else limit
    indices = [named[i] for i in evenly_spaced(len(named), most)]
    if not indices:
        raise Fault(
            "no_frames", f"no frame of {data_name(data, data_options or {})} is left: raise --limit"
        )
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        write(_named(source, indices), out)
    words = count_of(len(indices), "frame with its labels is", "frames with their labels are")
    print(f"{words} in {out}")


def import_labels(
    format: str,
    files: Path,
    *,
    data: Data,
    out: str,
    data_options: SourceOptions | None = None,
    workers: int | None = None,
    executor: str = "local",
) -> None:
    """Write the labels of files as truth of frames, for --truth of prepare and replay.

    Args:
        format: coco, cvat, cvat-cuboids, kitti, label-studio, nuscenes or png.
        files: the file or folder that the annotation tool exported, unpacked.
        data: the frames that were annotated: a bag or a folder of bags, a folder or URI of shards,
            or the name of a source; or several, as they were exported.
        out: folder of the truth, or its URI (s3, gs): shards without images.
        data_options: of a single source, e.g. ``--data_options.image /front/image_raw``.
        workers: tasks at once; by default one, or as many as the cluster has room for.
        executor: where they run: local, or on a Ray cluster: ray, ray://HOST:10001.

    Raises:
        Fault: as ``ImportedLabels``, ``write_shards``, ``open_executor`` and the source.
    """
    source = source_of(data, **(data_options or {}))
    labels = ImportedLabels(source, format, files)
    with open_executor(executor, workers, local_default=1) as opened:
        summary = write_shards(labels, out, workers=opened)
    truth = shlex.quote(out)
    print(
        f"{summary.frames} of {len(source)} frames have labels, in {out}\n"
        f"frames with these labels:  lemumo prepare SOURCE ... --truth {truth} --out SHARDS\n"
        f"results measured on them:  lemumo replay BAG --truth {truth} --model PACKAGE"
    )


def label_points(
    run: Path,
    data: Data,
    *,
    out: str,
    data_options: SourceOptions | None = None,
    threshold: float = 0.6,
    jpeg: int | None = None,
    workers: int | None = None,
    executor: str = "local",
    part: str | None = None,
) -> None:
    """Write frames as shards, their LiDAR returns labelled by a 3D network.

    Args:
        run: folder of a finished run of lemumo finetune --task points.
        data: a bag, folder or URI of shards, or the name of a source; or several, each with its
            options.
        out: folder of the shards, or its URI (s3, gs); one that was begun with the same options is
            finished.
        data_options: of a single source.
        threshold: returns that the network is less confident of are unlabelled.
        jpeg: quality, 1 to 100, of lossy images (90 is usual); by default images are exact.
        workers: tasks at once; by default one, or as many as the cluster has room for.
        executor: where they run: local, or on a Ray cluster: ray, ray://HOST:10001.
        part: I/N, where N hosts share the shards, e.g. 3/16; the same command without it finishes
            what is left, and writes the index.

    Raises:
        Fault, ImportError: as ``LabeledPoints``, ``write_shards``, ``open_executor`` and the
            source.
    """
    source = source_of(data, **(data_options or {}))
    labeled = LabeledPoints(source, run, threshold)
    with open_executor(executor, workers, part, local_default=1) as opened:
        summary = write_shards(labeled, out, jpeg=jpeg, workers=opened)
    if not opened.share.is_all:
        print(
            f"{count_of(summary.frames, 'frame')} of part {part} labelled, in {out}; once all "
            "parts are done, the same command without --part writes the index"
        )
        return
    shards = Shards(out)
    looked_at = evenly_spaced(len(shards), LOOKED_AT)
    counts, returns = count_labels(shards, looked_at)
    known = counts[:UNLABELLED].sum()
    shares = ", ".join(
        f"{name} {counts[i] / known:.1%}" for i, name in enumerate(labeled.classes) if counts[i]
    )
    print(
        f"{summary.frames} of {len(source)} frames are labelled, in {out}\n"
        f"{known / max(returns, 1):.1%} of the returns of {count_of(len(looked_at), 'frame')} have "
        f"a class: {shares or 'none is confident enough, lower --threshold'}\n"
        f"train the fusion model on them:  lemumo finetune --data {shlex.quote(out)}"
    )


def _named(source: FrameSource, indices: list[int]) -> Iterator[tuple[str, Frame]]:
    """Yield frames with the stem of their files.

    Raises:
        Fault: ``ambiguous_frame`` where two have the same; as the source.
    """
    taken: dict[str, int] = {}
    for index in track(indices, "export"):
        frame = source[index]
        name = name_of(frame)
        if name in taken:
            raise Fault(
                "ambiguous_frame",
                f"frames {taken[name]} and {index} would both be {name}, as stamp and camera of "
                "their logs are the same: export these logs one by one",
            )
        taken[name] = index
        yield name, frame


def main(arguments: list[str]) -> int:
    """Run ``lemumo label``; return its exit code."""
    actions: dict[str, Callable[..., None]] = {
        "choose": choose_frames,
        "embed": embed_frames,
        "export": export_labels,
        "import": import_labels,
        "points": label_points,
        "propose": propose_labels,
        "similar": similar_frames,
    }
    action = actions.get(arguments[0]) if arguments else None
    if action is None:
        is_help = arguments[:1] in (["-h"], ["--help"])
        print(__doc__, file=sys.stdout if is_help else sys.stderr)
        return 0 if is_help else USAGE_ERROR
    return run_function(f"{PROG} {arguments[0]}", action, arguments[1:])
