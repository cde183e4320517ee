"""Commands that write to a bucket of a real S3 server, killed, shared out and read again."""

from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path

import pytest
from pyarrow import fs

from lemumo_core.cli.main import main
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.executor.executor import SerialExecutor
from lemumo_core.folders.addresses import open_folder
from tests.helpers.many_bags import NOT_THE_SAME, contents, write_many_bags
from tests.helpers.program import Program, get_context

BAGS, FRAMES = 5, 7


@pytest.fixture(autouse=True)
def _workers(monkeypatch) -> None:
    """Let workers start as those of other tests of commands do."""
    monkeypatch.setattr(multiprocessing, "get_context", get_context)


@pytest.fixture(scope="module")
def bags(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    write_many_bags(folder, BAGS)
    return folder


def objects(uri: str) -> dict[str, bytes]:
    """Return what a folder of the bucket holds that is the same in every run."""
    files, folder = fs.FileSystem.from_uri(uri)
    found = files.get_file_info(fs.FileSelector(folder, recursive=True))
    return {
        one.path[len(folder) + 1 :]: files.open_input_stream(one.path).read()
        for one in found
        if one.is_file and one.base_name not in NOT_THE_SAME
    }


def test_shards_of_bags_are_those_of_a_folder(bucket, server, bags, tmp_path, capfd) -> None:
    """Two hosts, of which one is killed; then one that does what is left; then nobody's work."""
    assert main(["prepare", "bags", "--path", str(bags), "--out", str(tmp_path / "here")]) == 0
    uri = f"{bucket}/shards"
    words = ["prepare", "bags", "--path", str(bags), "--out", uri, "--workers", "1"]
    killed = Program(tmp_path / "killed.log", *words, environment=server.environment)
    killed.wait_until(lambda: any("bag.json" in one for one in server.requests("PUT", "POST")))
    killed.signal(signal.SIGKILL, everyone=True)
    killed.end()
    assert "index.json" not in objects(uri)
    for part in ("1/2", "2/2"):
        assert main([*words, "--part", part]) == 0
    assert "index.json" not in objects(uri)
    assert main(words) == 0
    assert "all of them were there already" in capfd.readouterr().out
    assert objects(uri) == contents(tmp_path / "here")
    read, expected = Shards(uri), Shards(tmp_path / "here")
    assert [one.stamp_ns for one in read] == [one.stamp_ns for one in expected]
    assert len(read) == FRAMES
    assert main([*words, "--jpeg", "90"]) == 1
    assert f"{uri}/bag000 was begun with other options" in capfd.readouterr().err
    assert main(["prepare", "stats", uri]) == 0
    assert objects(uri).keys() - contents(tmp_path / "here").keys() == {
        *("stats.json", "contact_sheet.png")
    }


def test_a_shard_that_is_no_shard_is_written_again(bucket, caplog) -> None:
    uri, street = f"{bucket}/street", SyntheticStreet(frames=2, width=96, height=64)
    write_shards(street, uri, frames_per_shard=1, workers=SerialExecutor())
    whole = objects(uri)
    open_folder(uri).write("shard-000001.arrow", b"no shard")
    write_shards(street, uri, frames_per_shard=1, workers=SerialExecutor())
    assert f"{uri}/shard-000001.arrow is damaged and will be written again" in caplog.text
    assert objects(uri) == whole


def test_a_replay_is_that_of_a_folder(bucket, bags, toy_package, tmp_path, capfd) -> None:
    uri = f"{bucket}/results"
    words = ["replay", str(bags), "--model", str(toy_package), "--backend", "onnxruntime", "--out"]
    assert main([*words, str(tmp_path / "here")]) == 0
    assert main([*words, uri, "--part", "1/2", "--overlays"]) == 0
    assert any("/overlays/" in name for name in objects(uri))
    capfd.readouterr()
    assert main([*words, uri]) == 1
    assert f"{uri}/bag000 holds other results:\n  overlays: True then" in capfd.readouterr().err
    assert main([*words, uri, "--overwrite"]) == 0
    assert objects(uri) == contents(tmp_path / "here")
    assert main([*words, uri]) == 0
    assert "bag004: done already" in capfd.readouterr().err
    assert b"Worst frames" in open_folder(uri).read("index.html")


def test_an_evaluation_goes_to_a_bucket_once(bucket, bags, toy_package, capfd) -> None:
    uri = f"{bucket}/evaluation"
    words = ["evaluate", str(toy_package), "--data", str(bags), "--limit", "2", "--out"]
    assert main([*words, uri]) == 0
    assert "fused" in json.loads(objects(uri)["metrics.json"])
    assert main([*words, uri]) == 1
    assert f"{uri} holds the results of an earlier run" in capfd.readouterr().err
