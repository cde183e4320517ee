"""The demo as a user of an installed lemumo starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lemumo_ros import demo, share


def test_the_default_model_is_found_outside_of_a_clone(tmp_path, monkeypatch) -> None:
    shipped = tmp_path / "prefix" / "share" / "lemumo_ros" / "models" / "lemumo-tiny"
    shipped.mkdir(parents=True)
    (shipped / "manifest.json").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    monkeypatch.setattr(share, "__file__", str(tmp_path / "site-packages" / "share.py"))

    def run(bag: Path, model: Path, *rest: object) -> None:
        raise KeyboardInterrupt(model)

    monkeypatch.setattr(demo, "run", run)
    with pytest.raises(KeyboardInterrupt) as started:
        demo.demo(bag=tmp_path, out=tmp_path)
    assert started.value.args == (shipped,)
