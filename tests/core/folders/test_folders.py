"""Folders of outputs do the same on a disk and in a bucket of a real S3 server."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from lemumo_core.faults import Fault
from lemumo_core.folders.addresses import open_folder
from lemumo_core.folders.bucket import BucketFolder
from lemumo_core.folders.folder import Folder
from lemumo_core.folders.local import LocalFolder
from lemumo_core.replay.output_folder import check_folder


@pytest.fixture(params=["local", "bucket"])
def folder(request, tmp_path) -> Folder:
    if request.param == "local":
        return open_folder(tmp_path / "made" / "here")
    uri = request.getfixturevalue("bucket")
    return open_folder(f"{uri}/{tmp_path.name}")


def test_files_come_back(folder) -> None:
    assert folder.names() == set() and not folder.exists()
    folder.check()
    folder.create()
    assert folder.exists() and pickle.loads(pickle.dumps(folder)).exists()
    folder.write("a", b"one")
    folder.write("a", b"two")
    folder.write("empty", b"")
    (folder / "deeper").write("index.json", b'{"x": 1}')
    assert folder.names() == {"a", "empty", "deeper"}
    assert folder.has("a") and not folder.has("b")
    assert folder.read("a") == b"two" and folder.read("empty") == b""
    assert folder.open("a").size() == 3
    assert (folder / "deeper").read_json("index.json") == {"x": 1}
    assert folder.read_json("a") is None and folder.read_json("nothing") is None
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")
    folder.delete("a")
    assert not folder.has("a")


def test_what_is_not_finished_is_not_there(folder) -> None:
    folder.create()
    with pytest.raises(KeyboardInterrupt), folder.writing("shard") as file:
        file.write(bytes(20_000_000))
        raise KeyboardInterrupt
    assert folder.names() == set()
    with pytest.raises(KeyboardInterrupt), folder.mirror() as local:
        (local / "page").write_text("half")
        raise KeyboardInterrupt
    assert folder.names() == ({"page"} if isinstance(folder, LocalFolder) else set())


def fill(folder: Folder, **files: str) -> Path:
    filled = folder.begin()
    for name, text in files.items():
        path = filled / name.replace("_", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return filled


def test_a_folder_is_replaced_by_another(folder) -> None:
    of_bag = folder / "bag"
    of_bag.put(fill(of_bag, other="1", old="1", overlays_a="1", last="1"), "last")
    of_bag.put(fill(of_bag, other="2", overlays_b="2", last="2"), "last")
    assert of_bag.names() == {"other", "last", "overlays"}
    assert (of_bag / "overlays").names() == {"b"}
    assert of_bag.read("last") == (of_bag / "overlays").read("b") == b"2"


def test_a_mirror_brings_files_and_sends_the_new_ones(folder) -> None:
    (folder / "bag").write("metrics", b"1")
    with folder.mirror(["bag/metrics", "bag/nothing"]) as local:
        assert (local / "bag" / "metrics").read_bytes() == b"1"
        (local / "index.html").write_text("page")
    assert folder.read("index.html") == b"page"
    with pytest.raises(Fault, match=f"{folder} holds the results of an earlier run"):
        folder.check("index.html")
    folder.check("index.html", overwrite=True)


def test_a_bucket_sees_the_mark_of_a_whole_folder_last(bucket, server, monkeypatch) -> None:
    """A host that ends before leaves a folder that the next one replaces."""
    folder = open_folder(f"{bucket}/results/bag")
    files = {"overlays_a": "1", "metrics": "1", "bag.json": "{}"}
    server.log.write_text("")
    folder.put(fill(folder, **files), "bag.json")
    sent = [one for one in server.requests("POST") if "uploadId" in one]
    done = [one.partition("?")[0].rpartition("/")[2] for one in sent]
    assert done[0] == done[-1] == "bag.json" and sorted(done[1:-1]) == ["a", "metrics"]
    send = BucketFolder._send

    def end_before(folder: BucketFolder, path: Path, name: str) -> None:
        if name != "bag.json":
            raise KeyboardInterrupt
        send(folder, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(BucketFolder, "_send", end_before)
        with pytest.raises(KeyboardInterrupt):
            folder.put(fill(folder, **files), "bag.json")
    assert folder.read("bag.json") == b""
    check_folder(folder, {}, overwrite=False)
    folder.put(fill(folder, **files), "bag.json")
    assert folder.read("bag.json") == b"{}"


def test_what_is_wrong_with_a_bucket_is_named(bucket, server) -> None:
    with pytest.raises(Fault, match=r"s3://nobucket/x cannot be used: .*check that the bucket"):
        open_folder("s3://nobucket/x").check()
    with pytest.raises(Fault, match="Unexpected query parameter") as caught:
        open_folder("s3://nobucket/x?kind=cold").read("a")
    assert str(caught.value).count("cannot be used") == 1
    folder = open_folder(f"{bucket}/x")
    folder.write("a", b"1")
    server.ask_for_credentials(True)
    try:
        for action in (folder.check, lambda: folder.read("a"), lambda: folder.write("b", b"1")):
            with pytest.raises(Fault, match=r"ACCESS.*AWS_ACCESS_KEY_ID") as caught:
                action()
            assert caught.value.reason == "bad_output"
    finally:
        server.ask_for_credentials(False)
    assert folder.names() == {"a"}


def test_secrets_of_a_uri_are_not_shown() -> None:
    folder = open_folder("s3://key:secret@bucket/a?endpoint_override=localhost:9") / "b"
    assert str(folder) == "s3://bucket/a/b" and folder.name == "b"


def test_other_places_are_refused_or_local(tmp_path, monkeypatch) -> None:
    with pytest.raises(Fault, match=r"--out hdfs://host/x: only s3://, gs:// and folders"):
        open_folder("hdfs://host/x")
    local = open_folder((tmp_path / "a b").as_uri())
    assert isinstance(local, LocalFolder) and local.path == tmp_path / "a b"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError) as caught:
        open_folder("s3://bucket/x").check()
    assert caught.value.name == "pyarrow"
