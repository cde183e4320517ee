"""Packages brought and published over real HTTP: whole, checked, or not at all."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core.cli.main import main
from lemumo_core.faults import Fault
from lemumo_core.inference.package import MANIFEST_NAME, load_package, write_package
from lemumo_core.inference.signature import SIGNATURE_NAME
from lemumo_core.sharing.addresses import store_of
from lemumo_core.sharing.store import FolderStore
from lemumo_core.sharing.transfer import pull, push, staging_folder
from tests.helpers.model_server import FileServer, HubServer, serving


@pytest.fixture
def server():
    with serving(FileServer()) as running:
        yield running


@pytest.fixture
def package(toy_package, tmp_path) -> Path:
    return Path(shutil.copytree(toy_package, tmp_path / "package"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def served(server: FileServer, package: Path) -> str:
    for name, data in contents(package).items():
        server.files[f"/models/{name}"] = data
    return f"{server.url}/models"


def another(package: Path, folder: Path, version: str = "2.0") -> Path:
    """The same graph under another version, with another file of the dynamic graph's name."""
    shutil.copytree(package, folder)
    manifest = load_package(folder).manifest
    (folder / "notes.bin").write_bytes(version.encode() * 50_000)
    write_package(folder, replace(manifest, version=version, files={}))
    return folder


def test_push_and_pull_over_http_give_the_same_bytes(server, package, tmp_path, capsys) -> None:
    url = f"{server.url}/a/mine"
    assert main(["push", str(package), url]) == 0
    names = [path for method, path, _ in server.requests if method == "PUT"]
    assert names[-1] == "/a/mine/manifest.json"  # what makes it a package comes last
    out = tmp_path / "deep" / "out"
    assert main(["pull", f"{url}/manifest.json", str(out)]) == 0
    assert contents(out) == contents(package) and not staging_folder(out).exists()
    assert "toy 1.0 is whole" in capsys.readouterr().out
    before = len(server.requests)
    assert main(["pull", url, str(out)]) == 0  # it is there already
    assert [path for _, path, _ in server.requests[before:]] == ["/a/mine/manifest.json"]


def test_a_connection_that_breaks_is_taken_up_where_it_ended(server, package, tmp_path) -> None:
    second = another(package, tmp_path / "second")
    url, size = served(server, second), 150_000
    server.cut["/models/notes.bin"] = size // 3
    pull(store_of(url), tmp_path / "out")
    ranges = [asked for _, path, asked in server.requests if path.endswith("notes.bin")]
    assert ranges == [None, f"bytes={size // 3}-"]
    assert contents(tmp_path / "out") == contents(second)


def test_what_was_gathered_is_kept_for_the_next_time(server, package, tmp_path) -> None:
    """An earlier package stays in its place until the new one is whole."""
    out = tmp_path / "out"
    pull(FolderStore(package), out)
    (out / "my_notes.txt").write_text("mine")
    before = contents(out)
    url = served(server, another(package, tmp_path / "second"))
    with pytest.raises(Fault, match="--overwrite"):
        pull(store_of(url), out)
    whole = server.files.pop("/models/notes.bin")
    with pytest.raises(FileNotFoundError, match="no such file"):
        pull(store_of(url), out, overwrite=True)
    assert contents(out) == before
    (staging_folder(out) / "notes.bin.part").write_bytes(whole[:1000])
    server.files["/models/notes.bin"] = whole
    server.requests.clear()
    pull(store_of(url), out, overwrite=True)
    asked = {path.rpartition("/")[2]: part for _, path, part in server.requests}
    assert asked["notes.bin"] == "bytes=1000-" and "model.onnx" not in asked  # that is here already
    assert load_package(out).manifest.version == "2.0"
    assert (out / "my_notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_part_of_another_file_is_brought_again(server, package, tmp_path) -> None:
    url, out = served(server, package), tmp_path / "out"
    staging_folder(out).mkdir()
    (staging_folder(out) / "model.onnx.part").write_bytes(b"of an older version")
    pull(store_of(url), out)
    assert contents(out) == contents(package)


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST_NAME])
def test_damage_never_takes_the_place_of_a_package(name, server, package, tmp_path) -> None:
    url, out = served(server, package), tmp_path / "out"
    server.files[f"/models/{name}"] = server.files[f"/models/{name}"][:-9] + b"damaged!}"
    with pytest.raises(Fault) as caught:
        pull(store_of(url), out)
    assert caught.value.reason == "bad_package" and not out.exists()
    served(server, package)
    pull(store_of(url), out)
    assert contents(out) == contents(package)


def test_signatures_are_asked_for_before_anything_large_is_brought(
    server, package, tmp_path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    paths = []
    for kind in ("ours", "theirs"):
        key = ed25519.Ed25519PrivateKey.generate()
        private, public = tmp_path / f"{kind}.pem", tmp_path / f"{kind}.pub"
        encoding = serialization.Encoding.PEM
        private.write_bytes(
            key.private_bytes(
                encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        paths.append((private, public))
    assert main(["sign", str(package), "--key", str(paths[0][0])]) == 0
    url, out = f"{server.url}/models", tmp_path / "out"
    assert main(["push", str(package), url, "--key", str(paths[1][1])]) == 1 and not server.files
    push(package, store_of(url), paths[0][1])
    server.requests.clear()
    with pytest.raises(Fault) as caught:
        pull(store_of(url), out, paths[1][1])
    assert caught.value.reason == "bad_signature" and not out.exists()
    assert all(not path.endswith(".onnx") for _, path, _ in server.requests)
    assert pull(store_of(url), out, paths[0][1]).manifest.name == "toy"
    assert (out / SIGNATURE_NAME).is_file()
    (package / SIGNATURE_NAME).unlink()
    push(package, store_of(url), overwrite=True)
    assert "/models/manifest.sig" not in server.files


def test_tokens_and_refusals_name_the_cure(server, package, tmp_path, monkeypatch, capsys) -> None:
    url, out = served(server, package), str(tmp_path / "out")
    server.token = "secret"
    monkeypatch.delenv("LEMUMO_TOKEN", raising=False)
    assert main(["pull", url, out]) == 1
    shown = capsys.readouterr().err
    assert "LEMUMO_TOKEN" in shown and "secret" not in shown
    monkeypatch.setenv("LEMUMO_TOKEN", "secret")
    assert main(["pull", url, out]) == 0
    assert main(["push", out, url]) == 0  # the same is there: nothing to do
    other = another(package, tmp_path / "other")
    assert main(["push", str(other), url]) == 1
    assert "another package is there" in capsys.readouterr().err
    assert main(["push", str(other), url, "--overwrite"]) == 0
    assert json.loads(server.files["/models/manifest.json"])["version"] == "2.0"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://bucket/model", "aws s3 sync"),
        ("hf://name", "hf://OWNER/NAME"),
        ("nowhere", "it is no model package"),
        ("http://127.0.0.1:9/model", "run the command again"),
    ],
)
def test_sources_that_are_none_are_named(source, said, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pull", source, "out"]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert not list(tmp_path.iterdir())


def test_folders_are_published_whole(package, tmp_path, capsys) -> None:
    target = tmp_path / "share" / "mine"
    assert main(["push", str(package), str(target)]) == 0
    assert contents(target) == contents(package)
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.txt").write_text("mine")
    assert main(["push", str(package), str(busy)]) == 1
    assert "other files" in capsys.readouterr().err and len(list(busy.iterdir())) == 1


def test_the_hub_takes_and_gives_packages(package, tmp_path, monkeypatch, capsys) -> None:
    """Its own client, against a server that speaks its API, large files by LFS."""
    needs = "hf:// needs: pip install '.[hub]'"
    constants = pytest.importorskip("huggingface_hub.constants", reason=needs)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serving(HubServer()) as hub:
        assert isinstance(hub, HubServer)
        hub.token = "hf_secret"
        for name, value in {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        assert main(["push", str(package), "hf://ours/mine"]) == 0, capsys.readouterr().err
        assert set(hub.names("ours/mine")) == contents(package).keys() and hub.large
        out = tmp_path / "out"
        assert main(["pull", "hf://ours/mine", str(out)]) == 0, capsys.readouterr().err
        assert contents(out) == contents(package)
        assert main(["pull", "hf://ours/other", str(tmp_path / "none")]) == 1
        assert "hf auth login" in capsys.readouterr().err
        second = another(package, tmp_path / "second")
        assert main(["push", str(second), "hf://ours/mine"]) == 1
        assert main(["push", str(second), "hf://ours/mine", "--overwrite"]) == 0
        assert main(["pull", "hf://ours/mine", str(out), "--overwrite"]) == 0
        assert contents(out) == contents(second) and hub.commits["ours/mine"] == 3


def test_a_hub_that_does_not_answer_is_named(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("huggingface_hub", reason="hf:// needs: pip install '.[hub]'")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert main(["pull", "hf://ours/mine", str(tmp_path / "mine")]) == 1
    assert f"{address} does not answer" in capsys.readouterr().err
