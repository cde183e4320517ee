"""Adapt a model to a robot from its recordings, without a label.

    lemumo adapt models/theirs /data/bags/monday --out models/mine
    lemumo adapt models/theirs BAG BAG ... --out models/mine --labelled data/shards
    lemumo adapt models/theirs --data BAG data/mine,weight=2 --out models/mine
    lemumo adapt models/theirs --data kitti-raw --data_options.root DRIVE --out models/mine
    torchrun --nproc-per-node 2 --no-python lemumo adapt ...

Depth is learnt from the LiDAR, a part of whose returns is masked, and the camera alone learns from
both; labelled frames in every batch, rendered streets by default, keep boxes and labels. A fifth of
the recordings is kept apart: the best weights on it become the package, if they are better than the
old ones there and nothing drifts. OUT.run holds the run, its figures, and index.html with pictures
before and after.

Exit codes: 0 done, 1 an error, 3 not better or a loss that is not finite: no package is written or
replaced; 85 stopped by SIGTERM, SIGUSR1 or Ctrl-C after saving: --resume auto goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lemumo_core.cli.path_kinds import require_package
from lemumo_core.command_line import run_function
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.data.sources.members import Data, data_name
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.export import weights as models
from lemumo_core.export.package import ExportOptions, export_package, move_package
from lemumo_core.export.parity_inputs import Sample
from lemumo_core.export.verify import FRAMES
from lemumo_core.faults import Fault
from lemumo_core.files import check_output, disk_errors_named
from lemumo_core.inference.manifest import Manifest, model_file
from lemumo_core.inference.package import MANIFEST_NAME, load_package, sha256
from lemumo_core.metrics.masked_returns import mask_returns
from lemumo_core.preprocess import preprocess
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.adapt.frames import open_frames
from lemumo_core.train.adapt.recipe import ADAPTATION
from lemumo_core.train.loop import DONE, train
from lemumo_core.train.run_config import ScaleConfig
from lemumo_core.train.run_folder import RUN, SUMMARY

NOT_BETTER = 3
"""Exit code."""
STAGED = "package"
"""Folder in the run's in which the package is made before it takes its place."""


def adapt(
    package: Path,
    bags: list[Path],
    *,
    out: Path,
    data: Data = "bags",
    data_options: SourceOptions | None = None,
    labelled: Data | None = None,
    steps: int = AdaptConfig.steps,
    batch: int = AdaptConfig.batch,
    val_frames: int = AdaptConfig.val_frames,
    seed: int = 0,
    workers: int = 0,
    resume: Literal["auto"] | None = None,
    overwrite: bool = False,
) -> int:
    """Adapt a model to recordings.

    Args:
        package: model package to start from.
        bags: recordings with camera and LiDAR; none where ``--data`` names other frames.
        out: package to write; ``OUT.run`` holds the run.
        data: name of a source, or shards, instead of bags; or several, bags too, each with its
            options and weight: ``--data BAG data/mine,weight=2``.
        data_options: of a single source, e.g. ``--data_options.points /lidar/points``.
        labelled: labelled frames to mix in instead of rendered streets: shards, or as ``data``.
        steps: of training at most.
        batch: samples of a step, half of them labelled.
        val_frames: frames at most of the part kept apart, on which weights are compared.
        seed: of the order of frames and of their views.
        workers: processes that load data, on each rank.
        resume: ``auto`` goes on where an earlier run was stopped.
        overwrite: replace an earlier package in ``out`` and, unless resumed, its run.

    Returns:
        The exit code.
    """
    require_package(package, "PACKAGE")
    check_output(out, MANIFEST_NAME, overwrite)
    options: dict[str, Any] = dict(data_options or {})
    if bags and data != "bags":
        name = data_name(data, options)
        raise Fault("bad_option", f"bags and --data {name} are both given: leave out one of them")
    if data == "bags" and "path" not in options:
        if not bags:
            raise Fault("bad_option", "no bags to adapt to: name some, or another source by --data")
        options["path"] = [str(bag) for bag in bags]
    run = out.with_name(f"{out.name}{AdaptConfig.run_suffix}")
    first = int(os.environ.get("RANK", 0)) == 0
    if first and overwrite and resume is None and (run / RUN).is_file():
        shutil.rmtree(run, ignore_errors=True)
    config = AdaptConfig.of_package(
        package,
        data=data,
        data_options=options,
        labelled=labelled,
        steps=steps,
        batch=batch,
        val_frames=val_frames,
        seed=seed,
        scale=ScaleConfig(workers=workers),
        resume=resume,
        out=str(run),
    )
    code = train(ADAPTATION, config)
    if code != DONE or not first:
        return code
    if json.loads((run / SUMMARY).read_text())["objections"]:
        return NOT_BETTER
    with disk_errors_named(out):
        _export(package, run, out, config)
    return DONE


def _export(package: Path, run: Path, out: Path, config: AdaptConfig) -> None:
    """Write the package of a run, with the graphs that the old one has; it appears when whole."""
    old = load_package(package).manifest
    network, card = models.of_run(run, out.name)
    origin = {
        "name": old.name,
        "version": old.version,
        "manifest_sha256": sha256(package / MANIFEST_NAME),
    }
    card = replace(card, training={"adapted_from": origin, **card.training})
    frames = open_frames(config, run)
    chosen = [frames.own_val[i] for i in evenly_spaced(len(frames.own_val), FRAMES)]
    masked = [mask_returns(frames[i]) for i in chosen]
    samples = [Sample(preprocess(frame, network.config.input_spec), frame) for frame in masked]
    export_package(network, run / STAGED, card, _graphs(old), samples)
    move_package(run / STAGED, out)


def _graphs(old: Manifest) -> ExportOptions:
    """Return the options by which a package with the same graphs is made."""
    precisions: Any = old.precisions[1:]
    return ExportOptions(precisions, dynamic=model_file("fp32", True) in old.files)


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo adapt``; return its exit code."""
    return run_function("lemumo adapt", adapt, arguments, __doc__)
