"""Which frames to label next, and which frames are like a given one: ``lemumo label``."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from lemumo_core.data.mixture import Mixture
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.members import Data, Member, data_name, members_of
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import open_members
from lemumo_core.data.sources.truth_by_stamp import stamps_of
from lemumo_core.executor.executor import open_executor
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.label.choose import DIVERSITY, choose, similar
from lemumo_core.label.frame_list import write_list
from lemumo_core.label.frame_pages import write_chosen, write_similar
from lemumo_core.label.frame_table import SUFFIX, read_tables, write_table
from lemumo_core.wording import count_of

PAGE, LIST = "index.html", "frames.csv"


def embed_frames(
    data: Data,
    *,
    model: Path,
    out: Path,
    data_options: SourceOptions | None = None,
    every_s: float = 0.0,
    workers: int | None = None,
    executor: str = "local",
) -> None:
    """Write what a model makes of frames as a Parquet file: embeddings, doubts, small pictures.

    Args:
        data: a bag or a folder of bags, a folder or URI of shards, or the name of a source; or
            several, each with its options: ``MONDAY.mcap TUESDAY.mcap,image=all``.
        model: a package, or a run of pretraining or fine-tuning; of a pretrained encoder there are
            embeddings alone.
        out: the file, of the suffix .parquet.
        data_options: of a single source, e.g. ``--data_options.image /front/image_raw``.
        every_s: seconds that lie between two frames at least; by default all frames are taken.
        workers: frames at once; by default one, or as many as the cluster has room for.
        executor: where they are embedded: local, or on a Ray cluster: ray, ray://HOST:10001,
            ray?cpus=2&gpus=0.5.

    Raises:
        Fault: ``bad_output``; ``bad_option``; ``no_frames``; as ``FrameFeatures``,
            ``open_executor`` and the source.
    """
    if out.suffix != SUFFIX:
        raise Fault("bad_output", f"{out} must end in {SUFFIX}, as the file that it becomes")
    if every_s < 0:
        raise Fault("bad_option", f"--every_s {every_s} must not be negative")
    check_output(out.parent)
    members = members_of(data, data_options or {})
    source = open_members(members)
    indices = _sparse(source, every_s)
    if not indices:
        raise Fault("no_frames", f"{data_name(data, data_options or {})} has no frame")
    from lemumo_core.label.frame_features import FeatureWork, FrameFeatures

    features, origins = FrameFeatures(model), _origins(source, indices, members)
    if executor == "local" and workers in (None, 1):
        table = features.table(source, indices, origins)
    else:
        work = FeatureWork(model, source)
        with open_executor(executor, workers) as opened, opened.pool(work) as pool:
            table = features.table(source, indices, origins, pool)
    with disk_errors_named(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, out, features.about)
    print(
        f"{len(table)} of {count_of(len(source), 'frame')} are in {out}\n"
        f"frames to label next:  lemumo label choose {shlex.quote(str(out))} --out FOLDER"
    )


def choose_frames(
    tables: list[Path],
    *,
    out: Path,
    count: int = 50,
    diversity: float = DIVERSITY,
    overwrite: bool = False,
) -> None:
    """Choose frames to label next: what the model doubts, and what nothing labelled looks like.

    Args:
        tables: files of lemumo label embed, or folders of them.
        out: folder, for frames.csv and index.html.
        count: frames at most; those that have labels already are not chosen.
        diversity: how much unlike each other the frames are to be; at 0 they are those that the
            model is most unsure of.
        overwrite: replace an earlier choice in ``out``.

    Raises:
        Fault: ``bad_output``, ``output_exists``; ``bad_option``; ``no_frames`` where every frame
            is labelled; as ``read_tables``.
    """
    if count < 1 or diversity < 0:
        raise Fault("bad_option", "--count must be 1 or more, and --diversity not negative")
    check_output(out, LIST, overwrite)
    frames = read_tables(tables)
    chosen, value = choose(frames, count, diversity)
    if not chosen:
        raise Fault("no_frames", f"all {len(frames)} frames have labels already")
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        write_list(out / LIST, frames.take(chosen))
        write_chosen(out / PAGE, frames, chosen, value, int((~frames.labelled).sum()))
    data = dict.fromkeys(shlex.quote(frames.data[row]) for row in chosen)
    exports = "\n".join(
        f"  lemumo label export cvat --data {one} --frames {shlex.quote(str(out / LIST))} --out OUT"
        for one in list(data)[:3]
    )
    print(
        f"{len(chosen)} of {len(frames)} frames are in {out / LIST}, pictures in {out / PAGE}\n"
        f"bring them to an annotation tool:\n{exports}"
    )


def similar_frames(
    tables: list[Path],
    *,
    stamp_ns: int,
    out: Path,
    camera_name: str | None = None,
    count: int = 24,
    apart_s: float = 2.0,
    overwrite: bool = False,
) -> None:
    """Find the frames most like one, over the logs of a fleet.

    Args:
        tables: files of lemumo label embed, or folders of them.
        stamp_ns: stamp of the frame that is looked for, ns.
        out: folder, for frames.csv and index.html.
        camera_name: of that frame, where several have the stamp.
        count: frames at most.
        apart_s: seconds that lie at least between frames of one camera and log.
        overwrite: replace an earlier search in ``out``.

    Raises:
        Fault: ``bad_output``, ``output_exists``; ``bad_option``; ``no_frames`` and
            ``ambiguous_frame`` for the stamp; as ``read_tables``.
    """
    if count < 1 or apart_s < 0:
        raise Fault("bad_option", "--count must be 1 or more, and --apart_s not negative")
    check_output(out, LIST, overwrite)
    frames = read_tables(tables)
    rows = [
        row
        for row in np.flatnonzero(frames.stamps_ns == stamp_ns).tolist()
        if camera_name in (None, frames.camera_names[row])
    ]
    if not rows:
        nearest = frames.stamps_ns[np.abs(frames.stamps_ns - stamp_ns).argmin()]
        raise Fault("no_frames", f"no frame has the stamp {stamp_ns}; the nearest is {nearest}")
    if len(rows) > 1:
        names = ", ".join(frames.camera_names[row] for row in rows)
        raise Fault("ambiguous_frame", f"several frames have that stamp: --camera_name of {names}")
    found, cosines = similar(frames, rows[0], count, round(apart_s * 1e9))
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        write_list(out / LIST, frames.take(found))
        write_similar(out / PAGE, frames, rows[0], found, cosines)
    for row in found:
        print(
            f"{cosines[row]:.3f}  {frames.data[row]} {frames.camera_names[row]} "
            f"{frames.stamps_ns[row]}"
        )
    print(f"pictures: {out / PAGE}")


def _origins(
    source: FrameSource, indices: list[int], members: list[Member]
) -> list[tuple[str, int]]:
    """Return what ``--data`` of other commands opens each frame, and its index there."""
    if not isinstance(source, Mixture):
        return [(members[0].text, index) for index in indices]
    found = (source.locate(index) for index in indices)
    return [(members[number].text, at) for number, at in found]


def _sparse(source: FrameSource, every_s: float) -> list[int]:
    """Return the frames that are so many seconds apart, or follow a jump of the clock."""
    if not every_s:
        return list(range(len(source)))
    kept, last_ns = [], None
    for index, stamp_ns in enumerate(stamps_of(source).tolist()):
        if last_ns is None or not 0 <= stamp_ns - last_ns < every_s * 1e9:
            kept.append(index)
            last_ns = stamp_ns
    return kept
