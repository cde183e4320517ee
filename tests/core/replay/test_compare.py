"""Two replays side by side: pairs, intervals that hold what they say, and words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.cli import main as cli
from lemumo_core.replay.compare import CONFIDENCE, TIME, bootstrap, compare
from lemumo_core.replay.compare_pictures import result_pictures
from lemumo_core.replay.output_folder import write_metrics
from lemumo_core.replay.record import COLUMNS
from lemumo_core.replay.tables import FRAMES as FRAMES_TABLE
from lemumo_core.replay.tables import TIMINGS, read_table, write_table

FRAMES = 60


def made(
    out: Path,
    depth_mae_m: np.ndarray,
    bev_map: np.ndarray,
    first: int = 0,
    bag: Path | None = None,
    flicker: float = np.nan,
) -> Path:
    """Write the results of a replay of a bag with these scores."""
    rows, times = [], []
    for i, (mae, bev) in enumerate(zip(depth_mae_m, bev_map, strict=True)):
        row = {key: "" if kind is str else 0 for key, kind in COLUMNS.items()}
        row |= {key: np.nan for key, kind in COLUMNS.items() if kind is float}
        row |= {"bag": "street", "number": i, "stamp_ns": first + i, "detections": 3}
        row |= {"fused_depth_mae_m": mae, "fused_bev_map": bev, "flicker_labels": flicker}
        rows.append(row)
        times.append({"stamp_ns": first + i, "infer": 10.0, "finish": 1.0})
    (out / "street").mkdir(parents=True)
    write_table(out / "street" / FRAMES_TABLE, rows, COLUMNS)
    columns = {"stamp_ns": int, "infer": float, "finish": float}
    write_table(out / "street" / TIMINGS, times, columns)
    summary = {"files": [str(bag)], "lost": [], "image": "/camera/image_raw"} if bag else {}
    write_metrics(out, {"model": "m", "backend": "b"}, {"street": summary, "lost": {"error": "x"}})
    return out


def test_a_small_gain_shows_in_the_pairs_though_scenes_differ_more(tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    hardness = rng.uniform(1, 9, FRAMES)
    worse = rng.uniform(0, 1, FRAMES)
    a = made(tmp_path / "a", hardness, worse)
    b = made(tmp_path / "b", hardness - 0.1 + rng.normal(0, 0.05, FRAMES), worse - 0.02)
    found = compare(a, b)
    columns = {one.column: one for one in found.paired}
    depth, bev = columns["fused_depth_mae_m"], columns["fused_bev_map"]
    assert depth.verdict == "better" and depth.pairs == FRAMES
    assert depth.low < -0.1 < depth.high < 0 and depth.difference == pytest.approx(
        depth.b - depth.a
    )
    assert bev.verdict == "worse" and bev.difference == pytest.approx(-0.02)
    assert columns["detections"].verdict == columns[TIME].verdict == "no difference"
    assert columns[TIME].a == pytest.approx(11.0)
    assert "camera_only_miou" not in columns
    np.testing.assert_allclose(found.differences["fused_bev_map"], -0.02)
    assert cli.main(["compare", str(a), str(b), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "fused depth MAE, m" in text and "better" in text
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [one["column"] for one in document["paired"]] == list(columns)
    page = (tmp_path / "out" / "index.html").read_text()
    assert str(tmp_path) not in page
    assert "<svg" in page and 'class="bad"' in page.replace("class=bad", 'class="bad"')


def test_results_that_never_change_are_steadier_not_better(tmp_path, capsys) -> None:
    scores = np.ones(FRAMES), np.ones(FRAMES)
    a = made(tmp_path / "a", *scores, flicker=0.3)
    b = made(tmp_path / "b", *scores, flicker=0.0)
    found = compare(a, b)
    verdicts = {one.column: one.verdict for one in found.paired}
    assert verdicts["flicker_labels"] == "less" and not found.gains().any()
    assert cli.main(["compare", str(a), str(b)]) == 0
    assert "flicker of labels" in capsys.readouterr().out


def test_both_results_are_shown_where_they_differ_most(small_bag, frames, tmp_path) -> None:
    """The images come from the bag; where it has moved, the page says so instead."""
    count, moved = len(frames), frames[1].stamp_ns
    scores = np.full(count, 0.5), np.full(count, 0.5)
    better = np.array([0.5, 0.9, 0.5, 0.4, 0.5, 0.5])
    bag = Path(shutil.copytree(small_bag, tmp_path / "bag"))
    a = made(tmp_path / "a", *scores, bag=bag)
    b = made(tmp_path / "b", scores[0], better, bag=bag)
    step_ns = frames[1].stamp_ns - frames[0].stamp_ns
    for out, box in ((a, [10.0, 10.0, 60.0, 60.0]), (b, [30.0, 20.0, 150.0, 90.0])):
        folder = out / "street"
        rows = read_table(folder / FRAMES_TABLE)
        for row in rows:
            row["stamp_ns"] = frames[0].stamp_ns + row["number"] * step_ns
        write_table(folder / FRAMES_TABLE, rows, COLUMNS)
        times = [{"stamp_ns": row["stamp_ns"], "infer": 1.0} for row in rows]
        write_table(folder / TIMINGS, times, {"stamp_ns": int, "infer": float})
        found = {"class": "car", "score": 0.9, "box_3d": None, "box_2d": box}
        line = json.dumps({"stamp_ns": moved, "detections": [found]})
        (folder / "detections.jsonl").write_text(line + "\n")
    gains = compare(a, b).gains()
    assert gains.argmax() == 1 and gains.argmin() == 3 and not gains[[0, 2, 4, 5]].any()
    with RecoveredBag() as recovered:
        pictures = result_pictures((a, b), "street", [moved], recovered)[moved]
    image = cv2.resize(frames[1].image, pictures[0].shape[1::-1], interpolation=cv2.INTER_AREA)
    for picture, rectangle in zip(pictures, ((40, 40, 240, 240), (120, 80, 600, 360)), strict=True):
        changed = np.argwhere((picture != image).any(axis=2))
        x1, y1, x2, y2 = rectangle
        assert changed[:, 0].max() == y2 and changed[:, 1].max() == x2
        assert (picture[y1:y2, x1] != image[y1:y2, x1]).any(axis=1).all()
    out = tmp_path / "out"
    assert cli.main(["compare", str(a), str(b), "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert page.count("<img") == 4 and "1.100 s; B - A: fused BEV mAP +0.4" in page
    shutil.rmtree(bag)
    assert cli.main(["compare", str(a), str(b), "--out", str(out), "--overwrite"]) == 0
    page = (out / "index.html").read_text()
    assert "<img" not in page and "put it back there" in page and str(tmp_path) not in page


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_interval_holds_the_mean_about_as_often_as_it_says(correlation) -> None:
    """Of frames that are alike as neighbours are, too; where single frames were drawn it would
    hold it in less than two of three cases."""
    rng = np.random.default_rng(1)
    hits, runs = 0, 80
    for _ in range(runs):
        noise = rng.normal(size=400)
        for i in range(1, len(noise)):
            noise[i] += correlation * noise[i - 1]
        low, high = bootstrap(noise)
        hits += low <= 0 <= high
    assert CONFIDENCE - 0.12 <= hits / runs <= 1.0


def test_replays_of_other_bags_and_other_folders_are_refused(tmp_path, capsys) -> None:
    ones = np.ones(3)
    a, b = made(tmp_path / "a", ones, ones), made(tmp_path / "b", ones, ones, first=100)
    assert cli.main(["compare", str(a), str(b)]) == 1
    assert "no image in common" in capsys.readouterr().err
    assert cli.main(["compare", str(a), str(tmp_path)]) == 1
    assert "lemumo replay" in capsys.readouterr().err


def test_a_comparison_replaces_neither_a_replay_nor_another_comparison(tmp_path, capsys) -> None:
    ones = np.ones(3)
    a, b = made(tmp_path / "a", ones, ones), made(tmp_path / "b", ones, ones)
    assert cli.main(["compare", str(a), str(b), "--out", str(a)]) == 1
    assert "holds a replay" in capsys.readouterr().err
    command = ["compare", str(a), str(b), "--out", str(tmp_path / "out")]
    for more, code in (([], 0), ([], 1), (["--overwrite"], 0)):
        assert cli.main([*command, *more]) == code
