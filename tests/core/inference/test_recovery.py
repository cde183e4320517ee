"""A runtime that fails is loaded again, then replaced; each failure is reported."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.inference import recovery
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.recovery import FALLBACK, RecoveringBackend


class Failing:
    """A runtime whose ``infer`` fails as long as ``bad`` holds its name."""

    loaded: list[str]
    closed: list[str]
    bad: dict[str, int]

    def __init__(self, package: object, name: str, batch: int) -> None:
        if self.bad.get(f"load {name}"):
            raise RuntimeError("device lost")
        self.name = name
        self.outputs = {"y": TensorSpec((1,), np.dtype(np.float32))}
        self.loaded.append(name)

    def infer(self, inputs, outputs) -> None:
        if self.bad.get(self.name, 0) > 0:
            self.bad[self.name] -= 1
            raise MemoryError("out of memory")
        outputs["y"][:] = inputs["x"]

    def close(self) -> None:
        self.closed.append(self.name)


@pytest.fixture
def failing(monkeypatch) -> type[Failing]:
    Failing.loaded, Failing.closed, Failing.bad = [], [], {}
    monkeypatch.setattr(recovery, "load_backend", Failing)
    return Failing


def infer(backend: RecoveringBackend, value: float) -> None:
    y = np.zeros(1, np.float32)
    backend.infer({"x": np.array([value], np.float32)}, {"y": y})
    assert y[0] == value


def test_a_single_failure_costs_no_frame(failing) -> None:
    backend = RecoveringBackend(None, "tensorrt:fp16")
    infer(backend, 1)
    assert backend.trouble == ""
    failing.bad["tensorrt:fp16"] = 1
    infer(backend, 2)
    assert failing.loaded == ["tensorrt:fp16"] * 2 and failing.closed == ["tensorrt:fp16"]
    assert "out of memory" in backend.trouble and backend.name == "tensorrt:fp16"


@pytest.mark.parametrize("what", ["tensorrt:fp16", "load tensorrt:fp16"])
def test_a_lasting_failure_ends_on_the_fallback(failing, what) -> None:
    backend = RecoveringBackend(None, "tensorrt:fp16")
    failing.bad = {"tensorrt:fp16": 1, what: 99}
    infer(backend, 3)
    assert backend.name == FALLBACK and f"now on {FALLBACK}" in backend.trouble
    loaded = len(failing.loaded)
    infer(backend, 4)
    assert len(failing.loaded) == loaded
    backend.close()
    assert sorted(failing.closed) == sorted(failing.loaded)


def test_when_nothing_runs_it_is_a_fault_and_it_comes_back(failing) -> None:
    backend = RecoveringBackend(None, FALLBACK)
    failing.bad = {FALLBACK: 2}
    with pytest.raises(Fault, match="out of memory") as error:
        infer(backend, 5)
    assert error.value.reason == "engine_failed"
    infer(backend, 6)
    assert sorted(failing.closed) == sorted(failing.loaded[:-1])
