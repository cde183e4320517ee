"""What a user gives where a package is needed is named, with the step that is missing."""

from __future__ import annotations

import re

import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.cli.path_kinds import path_kind
from tests.helpers.small_frames import small_frames
from tests.helpers.toy_package import write_toy_package


@pytest.fixture
def paths(tmp_path):
    """One path of each kind; Umlauts and spaces in all."""
    root = tmp_path / "Fahrt nach Köln"
    write_toy_package(root / "package")
    write_bag(small_frames(1), root / "bag")
    for name, config in (("pretrained", "method:\n  class_path: LeMuMo\n"), ("run", "model: {}\n")):
        (root / name).mkdir()
        (root / name / "config.yaml").write_text(config)
        (root / name / "run.json").write_text("[]")
    prepared = ["prepare", "bags", "--path", str(root / "bag"), "--out", str(root / "shards")]
    assert cli.main(prepared) == 0
    (root / "empty").mkdir()
    (root / "w.safetensors").touch()
    return root


KINDS = {
    "package": "package",
    "bag": "bag",
    "pretrained": "pretraining run",
    "run": "fine-tuning run",
    "shards": "shards",
    "empty": "unknown",
    "w.safetensors": "weights",
    "package/model.onnx": "graph",
    "none": "missing",
}


def test_kinds(paths) -> None:
    assert {name: path_kind(paths / name) for name in KINDS} == KINDS


def test_shards_of_bags_are_shown(paths, capsys) -> None:
    capsys.readouterr()
    assert cli.main(["inspect", str(paths / "shards")]) == 0
    shown = capsys.readouterr().out
    assert "1, 0.1 MB" in shown and re.search("source, bags +1, which index.json lists\n", shown)


@pytest.mark.parametrize("command", ["bench", "replay", "evaluate", "export"])
def test_commands_name_the_missing_step(command, paths, capsys) -> None:
    for name, words in (
        ("pretrained", "lemumo finetune --weights"),
        ("bag", "is a bag: lemumo replay"),
        ("none", "does not exist"),
        ("package/model.onnx", "give its folder"),
    ):
        arguments = {
            "bench": [str(paths / name)],
            "replay": [str(paths / "bag"), "--model", str(paths / name)],
            "evaluate": [str(paths / name)],
            "export": ["--package", str(paths / name), "--out", str(paths / "out")],
        }
        assert cli.main([command, *arguments[command]]) == 1
        shown = capsys.readouterr().err
        assert words in shown and "Fahrt nach Köln" in shown


@pytest.mark.parametrize(
    ("place", "cure"),
    [
        ("s3:/bucket/x", "copy it to one, e.g. by aws s3 sync"),
        ("s3://bucket/x", "copy it to one, e.g. by aws s3 sync"),
        ("hf://OWNER/NAME", "lemumo pull hf://OWNER/NAME FOLDER brings it"),
    ],
)
def test_a_uri_where_a_local_path_is_needed_names_the_cure(place, cure, capsys) -> None:
    for command in (["bench", place], ["evaluate", place]):
        assert cli.main(command) == 1
        assert cure in capsys.readouterr().err
    if place.startswith("s3"):
        for command in (["inspect", place], ["prepare", "bags", "--path", place, "--out", "none"]):
            assert cli.main(command) == 1
            assert cure in capsys.readouterr().err


def test_export_names_what_is_no_fine_tuning_run(paths, capsys) -> None:
    for name, words in (
        ("pretrained", "lemumo finetune --weights"),
        ("package", "--package"),
        ("w.safetensors", "--weights"),
        ("run", "holds no model"),
    ):
        command = ["export", "--run", str(paths / name), "--out", str(paths / "out")]
        assert cli.main(command) == 1
        assert words in capsys.readouterr().err
    assert not (paths / "out").exists()


@pytest.mark.parametrize("command", ["export", "finetune", "pretrain"])
def test_files_of_another_format_are_no_weights(command, paths, capsys) -> None:
    options = [] if command == "export" else ["--data_options.frames", "4", "--val_frames", "2"]
    for name in ("package/model.onnx", "w.safetensors"):
        given = ["--weights", str(paths / name), "--out", str(paths / "out")]
        assert cli.main([command, *given, *options]) == 1
        assert f"{name} is no whole .safetensors file" in capsys.readouterr().err
    if command == "export":
        given = ["--weights", str(paths / "run"), "--out", str(paths / "out")]
        assert cli.main([command, *given]) == 1
        assert "give it as --package or --run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["bench", "package"], "--json"),
        (["compare", "bag", "bag"], "--out"),
        (["export", "--package", "package"], "--out"),
        (["make-bag", "synthetic"], "--out"),
    ],
)
def test_outputs_go_to_local_folders(command, option, paths, monkeypatch, capsys) -> None:
    """Refused before work begins, and no folder of the scheme's name appears."""
    monkeypatch.chdir(paths)
    for target in ("s3://bucket/x/y", "w.safetensors/x/y"):
        assert cli.main([*command, option, target]) == 1
        words = "is a URI" if "s3" in target else "is not a folder"
        assert words in capsys.readouterr().err
    assert not (paths / "s3:").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["prepare", "synthetic", "--frames", "1"],
        ["replay", "bag", "--model", "package"],
        ["evaluate", "package"],
    ],
)
def test_outputs_of_many_hosts_go_to_buckets_too(command, paths, monkeypatch, capsys) -> None:
    """What else is no folder is refused before work begins."""
    monkeypatch.chdir(paths)
    for target, words in (
        ("hdfs://host/x", "--out hdfs://host/x: only s3://, gs:// and folders"),
        ("w.safetensors/x/y", "is not a folder"),
    ):
        assert cli.main([*command, "--out", target]) == 1
        assert words in capsys.readouterr().err
    assert not (paths / "hdfs:").exists()
