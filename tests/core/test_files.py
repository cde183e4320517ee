"""Folders of outputs are checked before work begins."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from lemumo_core.faults import Fault
from lemumo_core.files import as_uri, check_output, disk_errors_named


@pytest.mark.parametrize("uri", ["s3://bucket/x", "gs://bucket/x", "hdfs://host:8020/x"])
def test_uris_are_refused_by_name(uri) -> None:
    with pytest.raises(Fault, match=f"--out {uri} is a URI, and this is written to local folders"):
        check_output(Path(uri))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        (Path("gs://bucket/x"), "gs://bucket/x"),
        ("file:/data/x", "file:///data/x"),
        ("file:///data/x", "file:///data/x"),
        ("C:/x", None),
        ("x/s3://y", None),
    ],
)
def test_a_uri_is_known_by_one_slash_too(path, uri) -> None:
    assert as_uri(path) == uri


@pytest.mark.parametrize("name", ["a b", "Größe", "C:", "2011_09_26", "x/y/z"])
def test_ordinary_names_may_be_new(tmp_path, name) -> None:
    check_output(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_relative_name_is_checked_where_it_would_lie(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output(Path("new/deeper"))
    Path("file").write_text("")
    with pytest.raises(Fault, match=r"--out file/deeper: .*/file is not a folder"):
        check_output(Path("file/deeper"))


@pytest.mark.parametrize("below", ["", "deeper"])
def test_files_are_no_folders(tmp_path, below) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fault, match="file is not a folder"):
        check_output(tmp_path / "file" / below)


def test_links_to_nothing_are_no_folders(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(Fault, match="link is not a folder"):
        check_output(tmp_path / "link" / "deeper")


def test_earlier_results_are_kept(tmp_path) -> None:
    check_output(tmp_path, "metrics.json")
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(Fault, match=r"earlier run .*--overwrite"):
        check_output(tmp_path, "metrics.json")
    check_output(tmp_path, "metrics.json", overwrite=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_errors_of_the_disk_name_the_folder_and_others_stay(tmp_path, number) -> None:
    with (
        pytest.raises(Fault, match=f"{tmp_path} cannot be written: {os.strerror(number)}; free"),
        disk_errors_named(tmp_path),
    ):
        raise OSError(number, os.strerror(number))
    with pytest.raises(FileNotFoundError), disk_errors_named(tmp_path):
        (tmp_path / "gone").read_bytes()


def test_read_only_disks_are_named(tmp_path) -> None:
    """A mount, since root may write into folders of any permission."""
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(
            Fault, match=r"cannot be written \(its permissions, or a read-only disk"
        ):
            check_output(tmp_path / "out")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
