"""Packages are signed and checked as OpenSSL does it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from lemumo_core.cli.main import main
from lemumo_core.faults import Fault
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.package import load_package, write_package
from lemumo_core.inference.signature import SIGNATURE_NAME
from lemumo_core.preprocess import InputSpec

pytest.importorskip("cryptography", reason="pip install '.[signing]'")


def openssl(*arguments: object) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path):
    """Private and public key, made by OpenSSL."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"\x08\x08")
    spec = InputSpec(64, 96, "lidar", 2)
    manifest = Manifest("m", "1", True, {}, spec, ("car",), ("road",), ((1, 2, 3),))
    return write_package(folder, manifest)


def test_openssl_accepts_our_signature_and_we_accept_its(package, keys, capsys) -> None:
    private, public = keys
    manifest, signature = (package.path / name for name in ("manifest.json", SIGNATURE_NAME))
    assert main(["sign", str(package.path), "--key", str(private)]) == 0
    verify = ("-verify", "-pubin", "-inkey", public, "-sigfile", signature)
    openssl("pkeyutl", *verify, "-rawin", "-in", manifest)
    signature.unlink()
    openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", manifest, "-out", signature)
    assert load_package(package.path, public).manifest == package.manifest
    assert main(["verify", str(package.path), "--key", str(public)]) == 0
    assert "signed for" in capsys.readouterr().out


def test_without_a_key_nobody_asks(package) -> None:
    load_package(package.path)


def test_an_unsigned_changed_or_foreign_package_is_refused(package, keys, tmp_path, capsys) -> None:
    private, public = keys
    command = ["verify", str(package.path), "--key", str(public)]
    assert main(command) == 1 and "is not signed" in capsys.readouterr().err
    assert main(["sign", str(package.path), "--key", str(private)]) == 0
    manifest = package.path / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_bytes(good.replace(b'"trained": true', b'"trained": false'))
    load_package(package.path)  # whole in itself
    with pytest.raises(Fault, match="not of this manifest") as error:
        load_package(package.path, public)
    assert error.value.reason == "bad_signature"
    manifest.write_bytes(good)
    signature = package.path / SIGNATURE_NAME
    signature.write_bytes(signature.read_bytes()[:63])
    with pytest.raises(Fault, match="not of this manifest"):
        load_package(package.path, public)
    other = tmp_path / "other.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    assert main(["sign", str(package.path), "--key", str(other)]) == 0
    with pytest.raises(Fault, match="not of this manifest"):
        load_package(package.path, public)


def test_what_is_no_ed25519_key_is_named(package, keys, tmp_path) -> None:
    private, public = keys
    rsa = tmp_path / "rsa.pem"
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:1024", "-out", rsa)
    openssl("rsa", "-in", rsa, "-pubout", "-out", rsa)
    assert main(["sign", str(package.path), "--key", str(private)]) == 0
    for path in (tmp_path / "gone.pem", private, package.path / "model.onnx", rsa):
        with pytest.raises(Fault) as error:
            load_package(package.path, path)
        assert error.value.reason == "bad_key" and str(path) in str(error.value)
    assert main(["sign", str(package.path), "--key", str(public)]) == 1


def test_a_package_written_again_is_not_signed(package, keys) -> None:
    private, public = keys
    assert main(["sign", str(package.path), "--key", str(private)]) == 0
    load_package(package.path, public)
    write_package(package.path, package.manifest)
    assert SIGNATURE_NAME not in load_package(package.path).manifest.files
    with pytest.raises(Fault, match="is not signed"):
        load_package(package.path, public)
