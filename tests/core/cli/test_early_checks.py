"""What a user gave is checked before anything begins that takes minutes."""

from __future__ import annotations

import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from tests.helpers.small_frames import small_frames


@pytest.fixture
def nothing_runs(monkeypatch) -> None:
    """Fails where a backend is chosen, which may measure all of them, or a frame is rendered."""

    def begun(*_, **__):
        raise AssertionError("work began before all was checked")

    monkeypatch.setattr("lemumo_core.inference.pipeline.resolve_backend", begun)
    monkeypatch.setattr("lemumo_core.export.outputs.load_backend", begun)
    monkeypatch.setattr("lemumo_core.train.loader.write_shards", begun)


def refusal(capsys, *words: object) -> str:
    """Run a command that fails; return its message."""
    assert cli.main([*map(str, words)]) == 1
    return str(capsys.readouterr().err)


def test_evaluate(toy_package, tmp_path, capsys, nothing_runs) -> None:
    def said(*words: object) -> str:
        return refusal(capsys, "evaluate", toy_package, *words)

    assert "kitti needs root" in said("--data", "kitti")
    assert str(tmp_path / "no") in said("--data", "kitti", "--data_options.root", tmp_path / "no")
    assert "no file or folder has this name" in said("--data", "no_folder")
    assert "is neither local nor ray" in said("--executor", "slurm")
    assert "raise --limit" in said("--limit", 0)


def test_replay(toy_package, tmp_path, capsys, nothing_runs) -> None:
    write_bag(small_frames(1), tmp_path / "bag")
    other = tmp_path / "results" / "bag"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")

    def said(*words: object) -> str:
        return refusal(capsys, "replay", tmp_path / "bag", "--model", toy_package, *words)

    assert "take another --out" in said("--out", tmp_path / "results")
    assert "kitti-raw needs root" in said("--truth", "kitti-raw")
    recording = ["--out", tmp_path / "new", "--results-bag", "--labeled-points"]
    assert "no_run" in said(*recording, "--points-model", tmp_path / "no_run")
    assert "no_file.yaml" in said("--calibration", tmp_path / "no_file.yaml")
    limits = tmp_path / "limits.yaml"
    limits.write_text("recall: [{class: unicorn, at_least: 0.5}]\n")
    assert "unicorn" in said("--requirements", limits)


def test_prepare(tmp_path, capsys) -> None:
    """The labels that all bags need are no fault of each of them."""
    write_bag(small_frames(1), tmp_path / "bag")
    words = ["prepare", "bags", "--path", tmp_path / "bag", "--out", tmp_path / "shards"]
    assert (
        refusal(capsys, *words, "--truth", "kitti-raw") == "lemumo prepare: kitti-raw needs root\n"
    )


def test_parity(toy_package, tmp_path, capsys, nothing_runs) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is not a folder" in refusal(capsys, "parity", toy_package, "--out", tmp_path / "file")
    assert "unknown backend" in refusal(capsys, "parity", toy_package, "--candidate", "onx")


def test_proposed_labels(toy_package, street_shards, capsys, nothing_runs) -> None:
    def said(*words: object) -> str:
        fixed = ["--model", toy_package, "--out", street_shards]
        return refusal(capsys, "label", "propose", street_shards, *fixed, *words)

    assert "was begun with other options" in said()
    assert "must be a quality from 1 to 100" in said("--jpeg", 0)
    assert "threshold is 2" in said("--threshold", 2)


@pytest.mark.parametrize("program", ["pretrain", "finetune"])
def test_weights_and_data_of_training(program, tmp_path, capsys, nothing_runs) -> None:
    fresh = ["--out", tmp_path / "run", "--weights", tmp_path / "no_run"]
    assert "no_run" in refusal(capsys, program, *fresh)
    assert not (tmp_path / "run").exists()
    mixed = ["--out", tmp_path / "mixed", "--data", "synthetic", tmp_path / "no_data"]
    assert "no_data" in refusal(capsys, program, *mixed)


def test_engines(toy_package, capsys, monkeypatch) -> None:
    """A graph that a package lacks is missed before the engines of the others are built."""
    pytest.importorskip("tensorrt_rtx", reason="needs: pip install tensorrt-rtx")
    built: list[object] = []
    monkeypatch.setattr("lemumo_core.cli.build_engine.ensure_engine", lambda *a: built.append(a))
    words = ["--runtime", "tensorrt-rtx", "--build_only", "--precision", "fp32", "fp8"]
    assert "holds no model.fp8.onnx" in refusal(capsys, "build-engine", toy_package, *words)
    assert not built
