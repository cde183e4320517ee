"""Which images a replay compares with the camera alone and trivial answers, and what it says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.evaluation.modalities import metric_for
from lemumo_core.frame import UNLABELLED, Frame, Labels
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.masked_returns import mask_returns, true_labels
from lemumo_core.replay.compare import compare
from lemumo_core.replay.compare_page import comparison_tables, write_comparison
from lemumo_core.replay.evaluator import Evaluator, ImageResult, ReadImage
from lemumo_core.replay.image_events import ImageEvent
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.tables import read_table
from tests.helpers.small_frames import small_frames

NOT_THE_SAME = {"timings.parquet", "index.html"}
FRAMES = 6


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    bag = tmp_path_factory.mktemp("bags") / "street"
    write_bag(small_frames(FRAMES), bag)
    return bag


@pytest.fixture(scope="module")
def whole(tiny_package, street, tmp_path_factory) -> Path:
    """Results with every image compared, as of all short bags."""
    return replayed(tiny_package, tmp_path_factory.mktemp("whole") / "out", street)


@pytest.fixture(scope="module")
def half(tiny_package, street, tmp_path_factory) -> Path:
    """Results with one image in two compared."""
    out = tmp_path_factory.mktemp("half") / "out"
    return replayed(tiny_package, out, street, "--compare_every", 2)


def replayed(model: Path, out: Path, bag: Path, *more: object, code: int = 0) -> Path:
    words = "replay", bag, "--model", model, "--out", out, "--backend", "onnxruntime", *more
    assert cli.main([*map(str, words)]) == code
    return out


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def rows(out: Path) -> list[dict]:
    return read_table(out / "street" / "frames.parquet")


def evaluated(model: Path, bag: Path, **options) -> tuple[list[ImageResult], Counter[int]]:
    """Return the results of a bag, and how often the model perceived each image, by its stamp."""
    evaluator = Evaluator(Settings(model, "onnxruntime", **options), load_package(model))
    perceive, runs = evaluator.pipeline, Counter[int]()

    def counted(frame: Frame):
        runs[frame.stamp_ns] += 1
        return perceive(frame)

    evaluator.pipeline = counted
    return list(evaluator.results([bag])), runs


def test_what_stands_beside_each_other_is_of_the_same_images(whole, half) -> None:
    found, full = metrics(half), metrics(whole)
    assert found["compared"] == FRAMES // 2 and found["compare_every"] == 2
    assert full["compared"] == FRAMES and full["compare_every"] == 1 and "every_image" not in full
    compared = found["fused"], found["camera_only"]
    assert [one["frames"] for one in compared] == [FRAMES // 2] * 2
    assert compared[0]["depth"]["pixels"] == compared[1]["depth"]["pixels"]
    for one in compared:
        assert one["depth"]["baselines"]["nearest"]["pixels"] == one["depth"]["pixels"]
    assert found["bags"]["street"]["compared"] == FRAMES // 2


def test_every_image_is_scored_by_its_own_result(whole, half) -> None:
    every, full = metrics(half)["every_image"], metrics(whole)["fused"]
    assert every["depth"]["baselines"] == {} and full["depth"]["baselines"]
    assert every["nearest_mae_m"] is every["linear_mae_m"] is None
    for name in ("frames", "bev_map", "depth_mae_m", "miou"):
        assert every[name] == pytest.approx(full[name], rel=1e-9), name
    assert every["depth"]["pixels"] == full["depth"]["pixels"]
    assert every["detection"]["objects"] == full["detection"]["objects"] > 0
    own = "fused_bev_map", "fused_depth_mae_m", "fused_miou", "flicker_labels"
    beside = "camera_only_depth_mae_m", "fused_nearest_mae_m", "disagreement_depth"
    for number, (ours, theirs) in enumerate(zip(rows(half), rows(whole), strict=True)):
        assert [ours[name] for name in own] == [theirs[name] for name in own]
        expected = [None if number % 2 else theirs[name] for name in beside]
        assert [ours[name] for name in beside] == expected
        assert None not in [theirs[name] for name in beside]


def test_limits_are_judged_on_every_image(tiny_package, street, half, tmp_path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("depth: [{at_most_m: 1000}, {at_most_m: 1000, modality: camera_only}]\n")
    more = "--compare_every", 2, "--requirements", limits
    found = metrics(replayed(tiny_package, tmp_path / "out", street, *more))
    details = [one["detail"] for one in found["requirements"]["limits"]]
    assert f"of {metrics(half)['every_image']['depth']['pixels']} true depths" in details[0]
    assert f"of {metrics(half)['camera_only']['depth']['pixels']} true depths" in details[1]
    assert "trivial" not in details[0] and "trivial: nearest" in details[1]


def test_workers_write_the_same_bytes(tiny_package, street, half, tmp_path) -> None:
    more = "--compare_every", 2, "--workers", 2
    again = replayed(tiny_package, tmp_path / "again", street, *more)
    files = [f.relative_to(half) for f in half.rglob("*") if f.is_file()]
    files = [file for file in files if file.name not in NOT_THE_SAME]
    assert {"metrics.json", "metrics.npz", "frames.parquet"} <= {file.name for file in files}
    assert all((half / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_the_page_says_what_is_compared_and_on_how_many_images(whole, half, capsys) -> None:
    note = f"compared on the same {FRAMES // 2} of {FRAMES} results (--compare_every 2)"
    page = (half / "index.html").read_text()
    assert note in page and ">every image</" in page
    assert "true ones white" in page.partition("Worst frames")[2]  # else nobody knows what is drawn
    assert "--compare_every" not in (whole / "index.html").read_text()


def test_few_labels_are_compared_too_wherever_they_lie(toy_package, tmp_path) -> None:
    """Here on each odd image; depth on masked returns is not asked of what is not compared."""
    bare = Labels()
    frames = [
        replace(f, labels=replace(f.labels, depth_m=None) if number % 2 else bare)
        for number, f in enumerate(small_frames(FRAMES))
    ]
    write_bag(frames, tmp_path / "bag")
    found, runs = evaluated(toy_package, tmp_path / "bag", compare_every=2)
    assert [set(one.metrics) for one in found] == [
        *({"fused", "camera_only"}, {"fused", "camera_only"}),
        *(set(), {"fused_own"}),
        *({"fused", "camera_only"}, {"fused", "camera_only"}),
    ]
    assert [runs[frame.stamp_ns] for frame in frames] == [3, 3, 1, 1, 3, 3]


def test_masked_returns_judge_depth_alone(tiny_package, tmp_path) -> None:
    """Boxes and classes are those of the published result, on every image."""
    frames = [replace(f, labels=replace(f.labels, depth_m=None)) for f in small_frames(2)]
    write_bag(frames, tmp_path / "street")
    found, _ = evaluated(tiny_package, tmp_path / "street", compare_every=2)
    assert [one.returns_masked for one in found] == [True, False]
    perceive = Pipeline(load_package(tiny_package), "onnxruntime", 0.0)
    for frame, one in zip(frames, found, strict=True):
        published = metric_for(perceive.package.manifest).add(frame, perceive(frame))
        masked = mask_returns(frame)
        of_masked = metric_for(perceive.package.manifest).add(masked, perceive(masked))
        ours = one.summaries["fused"]
        assert (ours.miou, ours.bev_map) == (published.miou, published.bev_map)
        assert ours.miou != of_masked.miou
        expected_m = of_masked.depth_mae_m if one.returns_masked else float("nan")
        assert ours.depth_mae_m == pytest.approx(expected_m, nan_ok=True)
    out = replayed(tiny_package, tmp_path / "out", tmp_path / "street", "--compare_every", 2)
    assert metrics(out)["every_image"]["frames"] == 2
    assert "of images compared; all else as published" in (out / "index.html").read_text()


def test_labels_of_points_are_all_judged_beside_masked_depth(toy_package) -> None:
    """A result is judged by the same points whether or not it is compared."""
    (frame,) = small_frames(1)
    ids = np.arange(len(frame.companion.points), dtype=np.uint8) % 2
    frame = replace(frame, labels=Labels(point_labels=ids, label_names=("road", "car")))
    evaluator = Evaluator(Settings(toy_package, "onnxruntime"), load_package(toy_package))
    stamp_ns = frame.stamp_ns
    event = ImageEvent(0, stamp_ns, stamp_ns, stamp_ns, "camera", frame)
    compared, alone = (evaluator.evaluate(ReadImage(event, None, None, False, c)) for c in (1, 0))
    pixels = [one.segmentation.confusion.sum() for one in compared.metrics.values()]
    assert pixels == [alone.metrics["fused_own"].segmentation.confusion.sum()] * 2
    assert pixels[0] == (true_labels(frame) != UNLABELLED).sum() > 100


def test_an_image_without_a_scan_stands_beside_no_other(toy_package, tmp_path) -> None:
    frames = small_frames(FRAMES)
    frames[-1] = replace(frames[-1], companion=None)
    write_bag(frames, tmp_path / "street")
    out = replayed(toy_package, tmp_path / "out", tmp_path / "street")
    found = metrics(out)
    assert found["fused"]["frames"] == found["camera_only"]["frames"] == FRAMES - 1
    assert found["every_image"]["frames"] == FRAMES
    assert rows(out)[-1]["camera_only_depth_mae_m"] and rows(out)[-1]["fused_depth_mae_m"] is None


def test_images_with_a_scan_are_compared_wherever_they_lie(toy_package, tmp_path) -> None:
    frames = [
        frame if number % 2 else replace(frame, companion=None)
        for number, frame in enumerate(small_frames(FRAMES))
    ]
    write_bag(frames, tmp_path / "bag")
    found, _ = evaluated(toy_package, tmp_path / "bag", compare_every=2, sync_tolerance_ns=10)
    compared = [one.event.number for one in found if "camera_only" in one.metrics]
    assert compared == [1, 5] and found[3].metrics.keys() == {"fused_own"}


def test_of_a_camera_alone_every_image_is_judged(toy_package, tmp_path) -> None:
    write_bag([replace(f, companion=None) for f in small_frames(3)], tmp_path / "street")
    more = "--compare_every", 2
    out = replayed(toy_package, tmp_path / "out", tmp_path / "street", *more, code=3)
    found = metrics(out)
    assert found["camera_only"]["frames"] == 3 and found["compared"] == 0
    assert list(found["camera_only"]["depth"]["baselines"]) == ["rows"]
    assert "fused" not in found and "every_image" not in found


def test_short_bags_are_compared_whole() -> None:
    assert [Settings(Path()).compare_one_in(images) for images in (1, 99, 100, 5000)] == [
        1,
        1,
        4,
        4,
    ]
    assert Settings(Path(), compare_every=1).compare_one_in(5000) == 1
    assert Settings(Path(), compare_every=7).compare_one_in(10) == 7


def test_none_in_none_is_refused(street, tmp_path, capsys) -> None:
    words = "replay", street, "--model", tmp_path, "--compare_every", 0
    assert cli.main([*map(str, words)]) in (1, 2)
    assert "--compare_every takes 1 or more, not 0" in capsys.readouterr().err


def test_two_replays_that_compared_other_images(whole, half, tmp_path) -> None:
    """The page shows figures of every image alone, and folders of one name by names that differ."""
    found = compare(whole, half)
    pairs = {one.column: one.pairs for one in found.paired}
    assert pairs["fused_depth_mae_m"] == FRAMES and pairs["camera_only_depth_mae_m"] == FRAMES // 2
    heads = {
        name for table in comparison_tables(whole, half, found.paired)[1:] for name in table.head
    }
    assert heads == {"", "A every image", "B every image"}
    same = comparison_tables(half, half, found.paired)[1:]
    assert same[0].head == ("", "A fused", "B fused", "A camera only", "B camera only")
    assert same[-1].head == ("", "A every image", "B every image")
    write_comparison(tmp_path, whole, half, found)
    page = (tmp_path / "index.html").read_text()
    assert f"A compared {FRAMES} images" in page and "of other images" in page
    assert f"{whole.parent.name}/out: " in page and f"{half.parent.name}/out: " in page
