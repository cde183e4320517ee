"""The TensorRT backend's calls, without a GPU: a driver of host memory, an engine that copies.

Both run in a subprocess, where the stub is the only libcuda. What a real GPU does is not shown
here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

STUB = ROOT / "tests" / "helpers" / "cuda_stub.c"


@pytest.fixture(scope="module")
def stub(tmp_path_factory) -> Path:
    """Folder with the stub as libcuda.so.1."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stub driver with")
    folder = tmp_path_factory.mktemp("stub")
    library = folder / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(STUB)]
    subprocess.run(command, check=True)
    return folder


def run(program: str, folder: Path | None, **environment: str) -> subprocess.CompletedProcess:
    paths = {"LD_LIBRARY_PATH": str(folder)} if folder else {}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | paths | environment,
        capture_output=True,
        text=True,
    )


FIND = """
    from lemumo_core.inference.cuda_driver import find_gpu, why_no_gpu
    print(why_no_gpu() or find_gpu())
"""


def test_the_gpu_is_described(stub) -> None:
    expected = "Gpu(name='Stub GPU', compute_capability='9.0', multiprocessors=132, driver='12.6')"
    assert run(FIND, stub).stdout.strip() == expected


@pytest.mark.parametrize(
    ("devices", "words"),
    [("0", "the driver shows no GPU"), ("-1", "cuInit failed: CUDA_ERROR_NO_DEVICE (100)")],
)
def test_a_driver_without_a_gpu_says_so(stub, devices, words) -> None:
    assert words.replace("the driver", "") in run(FIND, stub, STUB_DEVICES=devices).stdout


def test_no_driver_says_so() -> None:
    if run(FIND, None).stdout.startswith("Gpu"):
        pytest.skip("this machine has a driver")
    assert "no NVIDIA driver: libcuda.so.1 is not here" in run(FIND, None).stdout


ENGINE = """
    import ctypes, os, sys, threading, types
    import numpy as np

    cuda = ctypes.CDLL("libcuda.so.1")
    cuda.stub_kernel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    SHAPES = {"image": (1, 4, 4, 3), "depth": (1, 4, 4, 3)}
    DEPTH_BYTES = 48

    class Context:
        def __init__(self, captures):
            self.shapes, self.addresses, self.captures, self.runs = dict(SHAPES), {}, captures, 0
        def set_input_shape(self, name, shape):
            return shape == SHAPES[name]
        def get_tensor_shape(self, name):
            return self.shapes[name]
        def set_tensor_address(self, name, address):
            self.addresses[name] = address
        def execute_async_v3(self, stream):
            self.runs += 1
            if self.runs == 2 and not self.captures:  # the run that is being captured
                return False
            a = self.addresses
            return cuda.stub_kernel(a["depth"], a["image"], DEPTH_BYTES) == 0

    class Engine:
        num_io_tensors = 2
        def get_tensor_name(self, i): return list(SHAPES)[i]
        def get_tensor_mode(self, name): return "in" if name == "image" else "out"
        def get_tensor_dtype(self, name): return np.uint8
        def get_tensor_shape(self, name): return SHAPES[name]
        def create_execution_context(self): return context

    class ILogger:
        class Severity:
            INTERNAL_ERROR, ERROR, WARNING = range(3)
        def __init__(self): pass

    context = Context(captures=os.environ["CAPTURES"] == "1")
    trt = types.ModuleType("tensorrt")
    trt.__version__, trt.ILogger = "10.3.0", ILogger
    trt.TensorIOMode = types.SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.nptype = lambda kind: kind
    class Runtime:
        def __init__(self, logger): assert isinstance(logger, ILogger)
        def deserialize_cuda_engine(self, plan): return Engine() if plan == b"plan" else None
    trt.Runtime = Runtime
    sys.modules["tensorrt"] = trt

    from lemumo_core.inference.backends.tensorrt import TensorRtBackend
    from lemumo_core.files import cache_folder
    from lemumo_core.inference.cuda_driver import find_gpu
    from lemumo_core.inference.engine_cache import EngineKey, store_engine

    sha = "a" * 64
    package = types.SimpleNamespace(
        graph_sha256=lambda n: sha, file=lambda n: types.SimpleNamespace(name=n)
    )
    key = EngineKey.here(sha, "tensorrt", "10.3.0", find_gpu(), "fp32", (1, 1, 1), {})
    plan = os.environ["PLAN"].encode()
    if plan:
        store_engine(cache_folder() / "engines", "m", key, plan, {})
    try:
        backend = TensorRtBackend("tensorrt", package, "fp32", 1)
    except ValueError as error:
        print("refused:", error)
        sys.exit()
    assert backend.outputs == {"depth": ((1, 4, 4, 3), np.dtype(np.uint8))}, backend.outputs
    depth = np.zeros((1, 4, 4, 3), np.uint8)

    def frame(value):
        image = np.full_like(depth, value)
        backend.infer(types.SimpleNamespace(image=image), {"depth": depth})
        assert (depth == value).all(), (value, depth)

    frame(3)
    frame(200)
    worker = threading.Thread(target=frame, args=(9,))  # the node infers in a thread of its own
    worker.start(); worker.join()
    assert (depth == 9).all()
    print("graph" if backend._graph is not None else "plain", context.runs)
    backend.close()
    print("live", cuda.stub_live())
"""


def test_frames_go_through_one_recorded_graph(stub, tmp_path) -> None:
    """Two enqueues, one to warm up and one to record, serve any number of frames."""
    environment = {"LEMUMO_CACHE": str(tmp_path), "CAPTURES": "1", "PLAN": "plan"}
    result = run(ENGINE, stub, **environment)
    assert result.stdout.splitlines() == ["graph 2", "live 0"], result.stderr


def test_an_engine_that_cannot_be_captured_runs_plainly(stub, tmp_path) -> None:
    environment = {"LEMUMO_CACHE": str(tmp_path), "CAPTURES": "0", "PLAN": "plan"}
    result = run(ENGINE, stub, **environment)
    assert result.stdout.splitlines()[0] == "plain 5", result.stderr
    assert "runs without a graph" in result.stderr


def test_no_engine_and_a_refused_one_are_named(stub, tmp_path) -> None:
    environment = {"LEMUMO_CACHE": str(tmp_path), "CAPTURES": "1", "PLAN": ""}
    assert "refused: " + str(tmp_path) in run(ENGINE, stub, **environment).stdout
    environment["PLAN"] = "of another world"
    assert "TensorRT refuses" in run(ENGINE, stub, **environment).stdout
