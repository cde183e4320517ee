"""The demo as a user of an installed lemumo starts it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lemumo_core.faults import Fault
from lemumo_ros import demo, demo_bag, share
from tests.helpers.toy_package import write_toy_package


def test_the_default_model_is_found_outside_of_a_clone(tmp_path, monkeypatch) -> None:
    shipped = tmp_path / "prefix" / "share" / "lemumo_ros" / "models" / "lemumo-tiny"
    shipped.mkdir(parents=True)
    (shipped / "manifest.json").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    monkeypatch.setattr(share, "__file__", str(tmp_path / "site-packages" / "share.py"))

    def load_package(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(demo, "load_package", load_package)
    with pytest.raises(KeyboardInterrupt) as started:
        demo.demo(bag=tmp_path, out=tmp_path)
    assert started.value.args == (shipped,)


@pytest.mark.parametrize("companion", ["lidar", "thermal"])
def test_the_rendered_bag_has_the_companion_of_the_model(companion, tmp_path, monkeypatch) -> None:
    pytest.importorskip("torch", reason="renders a street: pip install '.[train]'")
    pytest.importorskip("rosbags", reason="writing a bag needs: pip install '.[bags]'")
    monkeypatch.chdir(tmp_path)
    small = {"frames": 1, "width": 64, "height": 48, "rate_hz": 10.0}
    monkeypatch.setattr(demo_bag, "STREET", small)
    model = write_toy_package(tmp_path / "model", companion=companion)
    found = demo_bag.launch_arguments(demo_bag.default_bag(model))
    assert found.keys() & {"points", "thermal"} == {"points" if companion == "lidar" else "thermal"}
    assert ("thermal_info" in found) == (companion == "thermal")


class _Listener:
    """Hears of an active node after so many spins."""

    def __init__(self, spins: int):
        self.counts: Counter[str] = Counter()
        self.left = spins

    def spin(self, seconds: float) -> None:
        self.left -= 1
        self.counts["label_info"] = int(self.left <= 0)


def test_a_node_that_loads_for_long_is_shown_and_waited_for(tmp_path, monkeypatch, capsys) -> None:
    log = tmp_path / "node.log"
    log.write_text("measuring onnxruntime:fp32\n")
    node = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        demo._wait_until_active(node, _Listener(3), log)
        assert "measuring onnxruntime:fp32\n" in capsys.readouterr().out
        monkeypatch.setattr(demo, "LOADING_S", 0.0)
        with pytest.raises(Fault, match=r"still loads after 0 s, see .*node\.log"):
            demo._wait_until_active(node, _Listener(3), log)
    finally:
        node.communicate(b"\n")
    with pytest.raises(Fault, match=r"(?s)the node did not run.*measuring"):
        demo._wait_until_active(node, _Listener(3), log)
