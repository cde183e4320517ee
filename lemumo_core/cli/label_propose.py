"""Labels that a model proposes for recordings: ``lemumo label propose``."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lemumo_core.cli.evaluate import load, open_model
from lemumo_core.data.shard_writer import check_shards, write_shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.members import Data, data_name
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import source_of
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD
from lemumo_core.executor.executor import Executor, open_executor
from lemumo_core.executor.worker import check_shared
from lemumo_core.faults import Fault
from lemumo_core.folders.addresses import open_folder
from lemumo_core.folders.folder import Folder
from lemumo_core.folders.local import LocalFolder
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.label.points import LabeledPoints
from lemumo_core.label.proposed import THRESHOLD, Perceiver, ProposedLabels, Seen
from lemumo_core.progress import track
from lemumo_core.wording import count_of


def propose_labels(
    data: Data,
    *,
    model: Path,
    out: str,
    data_options: SourceOptions | None = None,
    threshold: float = THRESHOLD,
    points_model: Path | None = None,
    points_threshold: float = 0.6,
    backend: str = "auto",
    jpeg: int | None = None,
    workers: int | None = None,
    executor: str = "local",
) -> None:
    """Write recordings as shards with labels that a model proposes, made consistent over time.

    Boxes come from tracks over the whole recording, with the confidence of the track; less
    confident ones are regions to ignore. Label maps are left empty where frames shortly before and
    after disagree. Both need the camera's poses to tell what stands from what moves: of a bag give
    ``--data_options.fixed_frame odom``.

    Args:
        data: a bag or a folder of bags, a folder or URI of shards, or the name of a source; or
            several, each with its options: ``DRIVE.mcap,fixed_frame=odom``. The frames of a camera
            in order of time.
        model: a package with boxes in space, or a run of lemumo finetune.
        out: folder of the shards, or its URI (s3, gs); one that was begun with the same options is
            finished.
        data_options: of a single source.
        threshold: confidence from which on a box is a label.
        points_model: run of lemumo finetune --task points, whose 3D network labels the LiDAR
            returns, in place of label maps.
        points_threshold: returns that it is less confident of are unlabelled.
        backend: RUNTIME[:PRECISION] of a package.
        jpeg: quality, 1 to 100, of lossy images (90 is usual); by default images are exact.
        workers: frames at once; by default one, or as many as the cluster has room for.
        executor: where they are perceived and written: local, or on a Ray cluster: ray,
            ray://HOST:10001, ray?cpus=2&gpus=0.5.

    Raises:
        Fault, ImportError: as ``open_model``, ``ProposedLabels``, ``LabeledPoints``,
            ``write_shards``, ``open_executor``, ``Pipeline`` and the source; ``no_frames``.
    """
    folder = open_folder(out)
    folder.check()
    source = source_of(data, **(data_options or {}))
    if not len(source):
        raise Fault("no_frames", f"{data_name(data, data_options or {})} has no frame")
    if points_model is not None:
        source = LabeledPoints(source, points_model, points_threshold)
    package, trained = open_model(model)
    indices = range(len(source))
    with (
        open_executor(executor, workers, local_default=1) as opened,
        _scratch(folder, opened) as scratch,
        ExitStack() as pools,
    ):
        proposed = ProposedLabels(source, package.manifest, scratch, threshold)
        check_shards(proposed, folder, jpeg=jpeg)
        pipeline = Pipeline(package, trained or backend, SCORE_THRESHOLD)
        seen: Iterator[Seen] = map(Perceiver(source, pipeline, scratch), indices)
        if opened.spans_hosts or opened.workers > 1:
            work = PerceptionWork(source, model, pipeline.backend.name, scratch)
            pool = pools.enter_context(opened.pool(work))
            found = pool.map(indices, in_order=True, name=lambda index: f"frame {index}")
            seen = (one.value for one in found)
        proposed.propose(track(seen, "perceive", len(indices)))
        pools.close()
        pipeline.close()
        summary = write_shards(proposed, folder, jpeg=jpeg, workers=opened)
    _report(proposed, summary.frames, out)


@dataclass(frozen=True)
class PerceptionWork:
    """Sets a worker up to run a model over frames.

    Attributes:
        source, scratch: as of ``Perceiver``.
        model: as of ``propose_labels``.
        backend: that the command has chosen.
    """

    source: FrameSource
    model: Path
    backend: str
    scratch: Folder

    def __call__(self) -> Callable[[int], Seen]:
        """Return ``Perceiver``.

        Raises:
            Fault: ``not_shared``; as ``load``.
        """
        check_shared(self.scratch)
        return Perceiver(self.source, load(self.model, self.backend), self.scratch)


@contextmanager
def _scratch(out: Folder, executor: Executor) -> Iterator[Folder]:
    """Give a folder for maps that all workers see: in the output, where they are on many hosts."""
    if not executor.spans_hosts:
        with tempfile.TemporaryDirectory() as name:
            yield LocalFolder(Path(name))
        return
    folder = out / "perceived"
    folder.create()
    try:
        yield folder
    finally:
        folder.remove()


def _report(proposed: ProposedLabels, frames: int, out: str) -> None:
    """Print how many boxes of each class there are, and what to do with them."""
    kept = [found.class_ids[found.confidence >= proposed.threshold] for found in proposed.proposals]
    names = proposed.manifest.detection_classes
    counts = np.bincount(np.concatenate(kept), minlength=len(names))
    boxes = ", ".join(f"{name} {n}" for name, n in zip(names, counts.tolist(), strict=True) if n)
    folder = shlex.quote(out)
    print(
        f"{count_of(frames, 'frame has', 'frames have')} proposed labels, in {out}\n"
        f"boxes: {boxes or 'none is confident enough, lower --threshold'}"
    )
    if not proposed.has_poses:
        print(
            "the camera's poses are not known: label maps are the model's own, unchecked; of a bag "
            "with odometry give --data_options.fixed_frame odom"
        )
    print(
        f"correct them:         lemumo label export cvat --data {folder} --out OUT\n"
        f"as topics of a bag:   lemumo make-bag shards --root {folder} --out BAG\n"
        f"train on them as is:  lemumo finetune --data {folder}"
    )
