"""Replay bags: offline through the node's own callbacks, and evaluated; or live over DDS.

    lemumo replay BAG ... --model PACKAGE --out out/replay --workers 2
    lemumo replay BAG --model PACKAGE --truth nuscenes --truth_options.root /data/nuscenes
    lemumo replay BAG --live

Offline needs no ROS, loses nothing and is deterministic: every image is processed, waits are
measured on the bag's clock, and two runs, with however many workers, write the same bytes. Bags
that are done are not done again: stop it, start it, and it goes on. Results of another model or of
other options in the same folder are kept unless ``--overwrite`` is given.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from lemumo_core.bags.named_bags import named_bags
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.cli.path_kinds import require_package
from lemumo_core.command_line import run_function
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.evaluation import verdict
from lemumo_core.evaluation.requirements import read_requirements
from lemumo_core.evaluation.verdict import Verdict
from lemumo_core.executor.executor import open_executor
from lemumo_core.faults import Fault
from lemumo_core.folders.addresses import open_folder
from lemumo_core.folders.folder import Folder
from lemumo_core.folders.local import LocalFolder
from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.geometry.se3 import check_rigid
from lemumo_core.inference.package import load_package
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.messages.camera_info import Rectified
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.masked_returns import Mask
from lemumo_core.replay.evaluator import Evaluator
from lemumo_core.replay.run import Replay, check_folders, exit_code
from lemumo_core.replay.settings import SENSOR_TOPICS, Settings

EXIT_CODES = f"""exit codes:
  0  every image of every bag became a result
  1  an error: nothing was replayed
  2  no image became a result
  3  partial: images were dropped or could not be scored, or a bag is damaged, was not closed,
     its clocks jump or differ, or no LiDAR return is in view; what is lost is said, and the
     results hold the rest
{verdict.EXIT_CODES}"""


@dataclass(frozen=True)
class ReplayOptions:
    """Options of a replay.

    Attributes:
        model: package to run; needed unless ``live``.
        out: folder for results and report, or its URI (s3, gs).
        overwrite: replace results in ``out`` that another model or other options gave.
        workers: bags at once, or where there are fewer of them, images at once; by default one, or
            as many as the cluster has room for. Does not change the results.
        executor: where they run: local, or on a Ray cluster: ray, ray://HOST:10001,
            ray?cpus=2&gpus=0.5.
        part: I/N, where N hosts share the bags, e.g. 3/16; the same command without it does what is
            left, and writes metrics and page.
        overlays: write a picture of every result.
        results_bag: write bags with the results beside the inputs.
        labeled_points: with the LiDAR returns in them too, each with its colour and class.
        points_model: run of lemumo finetune --task points, whose 3D network gives these returns
            their classes, behind and beside the camera too; by default the label map does.
        rerun: write recordings of both for the Rerun viewer.
        no_evaluation: only perceive, in two thirds of the time, without metrics and checks.
        backend: RUNTIME[:PRECISION], or auto.
        score_threshold: of the detections that are results; metrics see all of them.
        sync_tolerance_ms: between image and companion.
        companion_deadline_ms: how long an image waits for its companion.
        companion_offset: seconds by which the companion's stamps are ahead of the image's, where
            it has another clock; any value.
        extrinsics: T_camera_companion instead of tf: 16 numbers by row, or "[[...], ...]".
        rectified: whether the images are rectified (``image_rect``), so that P of camera_info
            holds, without distortion; auto decides by the topic's name.
        fixed_frame: frame of /tf, such as odom, in which the motion of a LiDAR is known: its points
            are brought to the time of the image, each from its own time where the cloud has them.
        tracking: follow objects over the images: ids, velocities and their scores, in
            ``fixed_frame`` or else in the camera's frame.
        image: topic, where the bag leaves a choice; several joined by commas, or all for every
            colour camera: then each has results of its own beside those of the whole.
        camera_info: topic of the image's calibration, where the bag leaves a choice, as are the
            next four.
        points: topic of the LiDAR's point clouds, or of a depth camera's clouds or images; several
            LiDARs, joined by commas, are merged by tf.
        thermal: topic of the thermal camera.
        thermal_info: topic of its calibration.
        depth_info: topic of the calibration of the depth images that ``points`` names.
        calibration: YAML file of camera_calibration instead of the bag's camera_info.
        truth: labels that belong to the bag's images by stamp: the folder that lemumo label import
            wrote, or other shards, or the name of a source, e.g. nuscenes; by default the bag's own
            /ground_truth topics.
        truth_options: of that source, e.g. ``--truth_options.root DIR``.
        mask: which LiDAR returns are masked from the model and are its depth's truth; by default
            every second beam where the truth has no dense depth, and none where it has.
        compare_every: N compares one image in N: with the result of the camera alone, which costs a
            second inference, and with trivial answers; by default one in 4, and all of a camera
            with fewer than 100 images in a bag. Each labelled image is scored by its own result.
        requirements: YAML file of the limits that the results must keep, see docs/evaluation.md.
        live: publish over DDS with /clock instead; needs ROS 2.
        rate: speed of ``live``.
        start: seconds of log time that ``live`` skips.
        loop: ``live`` begins again at the end of the bag, until it is stopped.
    """

    model: Path | None = None
    out: str | None = None
    overwrite: bool = False
    workers: int | None = None
    executor: str = "local"
    part: str | None = None
    overlays: bool = False
    results_bag: bool = False
    labeled_points: bool = False
    points_model: Path | None = None
    rerun: bool = False
    no_evaluation: bool = False
    backend: str = "auto"
    score_threshold: float = PUBLISHED_SCORE
    sync_tolerance_ms: float = 60.0
    companion_deadline_ms: float = 100.0
    companion_offset: float = 0.0
    extrinsics: np.ndarray | None = None
    rectified: Rectified = "auto"
    fixed_frame: str = ""
    tracking: bool = False
    image: str | None = None
    camera_info: str | None = None
    points: str | None = None
    thermal: str | None = None
    thermal_info: str | None = None
    depth_info: str | None = None
    calibration: str | None = None
    truth: str | None = None
    truth_options: SourceOptions = field(default_factory=dict)
    mask: Mask | None = None
    compare_every: int | None = None
    requirements: Path | None = None
    live: bool = False
    rate: float = 1.0
    start: float = 0.0
    loop: bool = False

    def __post_init__(self) -> None:
        if self.out is None and (self.part is not None or self.executor != "local"):
            raise Fault("bad_option", "several hosts need a folder that they share: add --out")
        if self.compare_every is not None and self.compare_every < 1:
            raise Fault("bad_option", f"--compare_every takes 1 or more, not {self.compare_every}")
        if self.labeled_points and not self.results_bag:
            raise Fault("bad_option", "--labeled_points are written to --results_bag; add it")
        if self.points_model is not None and not self.labeled_points:
            raise Fault("bad_option", "--points_model labels what --labeled_points writes; add it")
        if not self.live and (self.start or self.loop):
            raise Fault("bad_option", "--start and --loop are options of --live; add it")
        if not self.live and self.model is None:
            raise Fault("bad_package", "offline replay needs --model PACKAGE (or use --live)")

    def settings(self, band_edges_m: tuple[float, ...] = BAND_EDGES_M) -> Settings:
        """Return the settings of an offline replay, with bands of depth for its metrics.

        Raises:
            Fault: ``bad_transform``.
        """
        assert self.model is not None
        extrinsics = None
        if self.extrinsics is not None:
            extrinsics = check_rigid(self.extrinsics, "--extrinsics")
        return Settings(
            model=self.model,
            backend=self.backend,
            score_threshold=self.score_threshold,
            sync_tolerance_ns=int(self.sync_tolerance_ms * 1e6),
            companion_deadline_ns=int(self.companion_deadline_ms * 1e6),
            companion_offset_ns=round(self.companion_offset * 1e9),
            extrinsics=extrinsics,
            rectified=self.rectified,
            fixed_frame=self.fixed_frame,
            tracking=self.tracking,
            topics={name: getattr(self, name) for name in SENSOR_TOPICS},
            calibration=self.calibration,
            truth=None if self.truth is None else (self.truth, self.truth_options),
            mask=self.mask,
            band_edges_m=band_edges_m,
            evaluate=not self.no_evaluation,
            compare_every=self.compare_every,
            overlays=self.overlays,
            labeled_points=self.labeled_points,
            points_model=self.points_model,
        )


def replay(bags: list[str], *, options: ReplayOptions) -> int:
    """Replay bags, offline or live.

    Args:
        bags: bag folders or files, or folders of bags.
        options: what is done with them.

    Returns:
        The exit code.
    """
    if options.live:
        return _play(bags, options)
    required = None if options.requirements is None else read_requirements(options.requirements)
    settings = options.settings(BAND_EDGES_M if required is None else required.band_edges_m)
    require_package(settings.model, "--model")
    package = load_package(settings.model)
    manifest = package.manifest
    if required is not None:
        required.check_classes(manifest.classes)
    if options.out is not None:
        open_folder(options.out).check()
    found_bags = named_bags(bags)
    wanted = {"bag": options.results_bag, "rerun": options.rerun}
    recordings = [name for name, is_on in wanted.items() if is_on]
    if note := rendered_note(manifest, f"as here on {', '.join(bags)}"):
        print(f"lemumo replay: {note}", file=sys.stderr)
    verdicts: list[Verdict] = []
    with (
        open_executor(options.executor, options.workers, options.part, 1) as executor,
        _folder(options.out) as out,
        RecoveredBag() as recovered,
    ):
        check_folders(out, found_bags, manifest, settings, recordings, options.overwrite)
        evaluator = Evaluator(settings, package)
        started = time.monotonic()
        run = Replay(evaluator, out, recovered, recordings, required)
        found = run.run_bags(found_bags, executor)
        if executor.share.is_all:
            verdicts = run.finalize(found, report=options.out is not None)
    seconds = time.monotonic() - started
    if run.frames:
        print(f"{run.frames / seconds:.1f} frames/s")
    if not executor.share.is_all:
        print(
            f"{len(found)} of {len(found_bags)} bags were part {options.part}; once all parts are "
            "done, the same command without --part writes metrics.json and index.html"
        )
    elif options.out is not None:
        print(f"written: {out}/metrics.json, {out}/index.html")
    return exit_code(found, verdicts)


def _play(bags: list[str], options: ReplayOptions) -> int:
    """Publish bags over DDS with the player of lemumo_ros, which registers it by entry point."""
    players = entry_points(group="lemumo.players", name="dds")
    if not players:
        raise ImportError(
            "--live needs the player of lemumo_ros, and this installation does not register one: "
            "install the package (pip install -e . in a clone)"
        )
    (player,) = players
    with BagReader(bags) as reader:
        status: int = player.load()(reader, options.rate, options.start, options.loop)
    return status


@contextmanager
def _folder(out: str | None) -> Iterator[Folder]:
    if out is not None:
        yield open_folder(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield LocalFolder(Path(folder))


def without_ros_arguments(arguments: list[str]) -> list[str]:
    """Drop what ``ros2 run`` and launch append: ``--ros-args`` and all after it."""
    if "--ros-args" in arguments:
        return arguments[: arguments.index("--ros-args")]
    return arguments


def main(arguments: list[str]) -> int:
    """Run ``lemumo replay``; return its exit code."""
    words = without_ros_arguments(arguments)
    return run_function("lemumo replay", replay, words, f"{__doc__}\n{EXIT_CODES}")
