"""Which frames to label next, and which are alike: rows, choice, search and pages."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli.label import main as label
from lemumo_core.data.shards import Shards
from lemumo_core.faults import Fault
from lemumo_core.label.choose import choose, informativeness, similar
from lemumo_core.label.frame_features import FrameFeatures
from lemumo_core.label.frame_table import SCORES, FrameTable, read_tables, write_table
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel, seeded_model
from lemumo_core.preprocess import Inputs, preprocess
from lemumo_core.train.run_folder import MODEL_OPTIONS, MODEL_WEIGHTS
from tests.helpers.small_frames import Frames, small_frames


def table(embeddings: np.ndarray, scores: np.ndarray | None = None, **changes) -> FrameTable:
    count = len(embeddings)
    if scores is None:
        scores = np.full((count, len(SCORES)), np.nan, np.float32)
    found = FrameTable(
        data=("bag",) * count,
        indices=np.arange(count),
        camera_names=("front",) * count,
        stamps_ns=np.arange(count) * 1_000_000_000,
        labelled=np.zeros(count, bool),
        scores=scores,
        embeddings=embeddings.astype(np.float32),
        pictures=(b"",) * count,
    )
    return replace(found, **changes)


def test_the_choice_is_greedy_in_doubt_times_distance() -> None:
    """Held against a plain loop over all pairs."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 5))
    scores = rng.uniform(size=(40, len(SCORES))).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    labelled = rng.random(40) < 0.1
    chosen, value = choose(table(embeddings, scores, labelled=labelled), 12, diversity=0.5)
    unit = embeddings / np.linalg.norm(embeddings, axis=1)[:, None]
    for row in range(40):
        shares = [
            np.mean([other <= mine for other in column[~np.isnan(column)]])
            for mine, column in zip(scores[row], scores.T, strict=True)
            if not np.isnan(mine)
        ]
        assert value[row] == pytest.approx(np.mean(shares))
    known = list(np.flatnonzero(labelled))
    for pick in chosen:
        gain = {
            row: value[row] * min(1 - unit[row] @ unit[other] for other in known) ** 0.5
            for row in range(40)
            if row not in known
        }
        assert pick == max(gain, key=gain.__getitem__)
        known.append(pick)
    assert len(chosen) == 12 and not labelled[chosen].any()


def test_doubles_are_chosen_last_and_nothing_known_is_no_reason() -> None:
    embeddings = np.repeat(np.eye(3), 5, axis=0)
    chosen, _ = choose(table(embeddings), 3)
    assert sorted(row // 5 for row in chosen) == [0, 1, 2]
    assert len(choose(table(embeddings), 99)[0]) == 15
    np.testing.assert_array_equal(informativeness(np.full((4, 2), np.nan)), 1)


def test_similar_frames_are_not_those_beside_it() -> None:
    angles = np.array([0, 0.01, 0.02, 0.3, 1.0, 0.2])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found, cosines = similar(table(embeddings), 0, 3, apart_ns=2_000_000_000)
    assert found == [2, 5]  # 3 is beside 5 and less alike, as 4 is
    np.testing.assert_allclose(cosines, np.cos(angles), atol=1e-6)
    other = table(embeddings, data=("bag",) * 5 + ("other",))
    assert similar(other, 0, 2, apart_ns=10_000_000_000)[0] == [5]


def test_tables_come_back_and_do_not_mix_models(tmp_path) -> None:
    rng = np.random.default_rng(0)
    one = table(rng.normal(size=(3, 4)), pictures=(b"a", b"", b"\xff"))
    write_table(one, tmp_path / "a.parquet", {"sha256": "1"})
    write_table(table(rng.normal(size=(2, 4))), tmp_path / "b.parquet", {"sha256": "1"})
    both = read_tables([tmp_path])
    assert len(both) == 5 and both.pictures[:3] == one.pictures and both.data == ("bag",) * 5
    np.testing.assert_array_equal(both.embeddings[:3], one.embeddings)
    assert np.isnan(both.scores).all()
    write_table(one, tmp_path / "c.parquet", {"sha256": "2"})
    with pytest.raises(Fault, match=r"c\.parquet is of another model"):
        read_tables([tmp_path])
    (tmp_path / "d.parquet").write_bytes(b"no table")
    with pytest.raises(Fault, match="is no table of frames"):
        read_tables([tmp_path / "d.parquet"])
    with pytest.raises(FileNotFoundError, match="e does not exist: lemumo label embed"):
        read_tables([tmp_path / "e"])


@pytest.fixture(scope="module")
def model() -> PerceptionModel:
    return seeded_model(ModelConfig(size="nano", height=48, width=64), 0)


def write_run(model: PerceptionModel, out: Path, parts: str = "") -> Path:
    """Write what a run leaves of a model, or of the parts whose names begin so."""
    out.mkdir()
    weights = {k: v for k, v in model.state_dict().items() if k.startswith(parts)}
    save_file(weights, out / MODEL_WEIGHTS)
    (out / MODEL_OPTIONS).write_text(json.dumps(asdict(model.config)))
    return out


def test_from_a_bag_to_frames_in_an_annotation_tool(model, tmp_path, capsys) -> None:
    run = write_run(model, tmp_path / "run")
    frames = Frames(replace(frame, labels=None) for frame in small_frames(5))
    frames[1] = replace(frames[1], companion=None)
    write_bag(frames, tmp_path / "bag")
    words = ["embed", str(tmp_path / "bag"), "--model", str(run), "--out"]
    assert label([*words, str(tmp_path / "tables/bag.parquet")]) == 0
    found = read_tables([tmp_path / "tables"])
    assert found.stamps_ns.tolist() == [frame.stamp_ns for frame in frames]
    assert np.isnan(found.scores[1, 3:]).all()  # no sensors to disagree
    assert np.isfinite(found.scores[:, 1:3]).all()
    check_rows(found, frames, model)
    assert label([*words, str(tmp_path / "again.parquet"), "--workers", "2"]) == 0
    again = read_tables([tmp_path / "again.parquet"])
    assert again.stamps_ns.tolist() == found.stamps_ns.tolist()
    np.testing.assert_allclose(again.embeddings, found.embeddings, rtol=1e-3, atol=1e-4)

    chosen = tmp_path / "chosen"
    words = ["choose", str(tmp_path / "tables"), "--count", "2", "--out", str(chosen)]
    assert label(words) == 0
    expected = [int(found.stamps_ns[row]) for row in choose(found, 2)[0]]
    with (chosen / "frames.csv").open() as file:
        assert [int(row["stamp_ns"]) for row in csv.DictReader(file)] == expected
    assert (chosen / "index.html").read_text().count("data:image/jpeg;base64,/9j/") == 2
    assert label(words) == 1 and "frames.csv" in capsys.readouterr().err  # not written over
    export = ["export", "coco", "--data", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]
    assert label([*export, "--frames", str(chosen / "frames.csv")]) == 0
    images = sorted(path.stem for path in (tmp_path / "out/images").iterdir())
    assert images == [f"camera_{stamp_ns}" for stamp_ns in sorted(expected)]

    words = ["similar", str(tmp_path / "tables"), "--out", str(tmp_path / "alike"), "--stamp_ns"]
    assert label([*words, str(frames[0].stamp_ns), "--apart_s", "0.1", "--count", "3"]) == 0
    assert (tmp_path / "alike/index.html").read_text().count("</figcaption>") == 4
    assert label([*words[:3], str(tmp_path / "b"), "--stamp_ns", "7"]) == 1
    assert f"the nearest is {frames[0].stamp_ns}" in capsys.readouterr().err


def test_several_logs_at_once(model, tmp_path, capsys) -> None:
    """Rows name their log with its options; files of frames that have one name are refused."""
    run, frames = write_run(model, tmp_path / "run"), small_frames(4)
    bags = [tmp_path / "monday", tmp_path / "tuesday"]
    for bag, part in zip(bags, (frames[:3], frames[3:]), strict=True):
        write_bag(part, bag)
    logs = [str(bags[0]), f"bags,path={bags[1]},labels="]
    table = tmp_path / "both.parquet"
    assert label(["embed", *logs, "--model", str(run), "--out", str(table)]) == 0
    found = read_tables([table])
    assert found.data == (logs[0],) * 3 + (logs[1],) and found.indices.tolist() == [0, 1, 2, 0]
    assert found.stamps_ns.tolist() == [frame.stamp_ns for frame in frames]

    out, truth = tmp_path / "coco", tmp_path / "truth"
    assert label(["export", "coco", "--data", *logs, "--out", str(out)]) == 0
    assert len(list((out / "images").iterdir())) == 4
    assert label(["import", "coco", str(out), "--data", *logs, "--out", str(truth)]) == 0
    back = list(Shards(truth))
    assert [frame.stamp_ns for frame in back] == found.stamps_ns.tolist()
    for frame, expected in zip(back, frames, strict=True):
        assert frame.labels.class_names == expected.labels.class_names
    twice = ["export", "coco", "--data", str(bags[0]), str(bags[0]), "--out", str(tmp_path / "2")]
    assert label(twice) == 1 and "frames 0 and 3 would both be" in capsys.readouterr().err
    weighted = ["export", "coco", "--data", f"{bags[0]},weight=2", "--out", str(tmp_path / "3")]
    assert label(weighted) == 1 and "which only training takes" in capsys.readouterr().err


def check_rows(found: FrameTable, frames: Frames, model: PerceptionModel) -> None:
    """Hold rows against the model itself."""
    for i, frame in enumerate(frames):
        arrays = preprocess(frame, model.config.input_spec)
        inputs = Inputs(*(torch.from_numpy(part) for part in arrays))
        with torch.inference_mode():
            tokens = model.encoder(inputs).tokens[0].mean(dim=0)
            p = model.raw(inputs).segmentation.softmax(1)
        np.testing.assert_allclose(found.embeddings[i], tokens, rtol=1e-3, atol=1e-4)
        entropy = float(-(p * p.log()).sum(1).mean())
        assert found.scores[i, 1] == pytest.approx(entropy, rel=1e-3)


def test_a_pretrained_encoder_embeds_and_has_no_doubts(model, tmp_path) -> None:
    whole = FrameFeatures(write_run(model, tmp_path / "whole"))
    encoder = FrameFeatures(write_run(model, tmp_path / "encoder", "encoder."))
    frames = Frames(small_frames(1))
    one, other = (features.table(frames, [0], [("given", 0)]) for features in (whole, encoder))
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert np.isnan(other.scores).all() and np.isfinite(one.scores[:, 1]).all()
    assert one.labelled.all() and whole.about["sha256"] != encoder.about["sha256"]
