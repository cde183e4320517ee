"""Every backend of this machine gives what the graph says; what cannot run says why."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.inference import backends
from lemumo_core.inference.backends import RUNTIMES, load_backend, split_name, unavailable_reason
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.preprocess import Inputs


def toy_outputs(inputs: Inputs) -> dict[str, np.ndarray]:
    """Compute the outputs of the fixture ``toy`` by hand."""
    red = inputs.image[..., 0].astype(np.float32)
    return {
        "depth": red + 80.0 * inputs.companion[..., 0],
        "scores": inputs.present,
        "labels": inputs.image[..., 1],
        "class_ids": inputs.present.astype(np.int64),
    }


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime:int8-cpu", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_fill_the_callers_buffers(toy, name, batch) -> None:
    runtime, precision = split_name(name)
    if reason := unavailable_reason(runtime):
        pytest.skip(reason)
    if batch > 1 and precision:
        with pytest.raises(Fault, match=r"holds no model.int8-cpu.dynamic.onnx"):
            load_backend(toy, name, batch)
        return
    backend = load_backend(toy, name, batch)
    assert backend.name == f"{runtime}:{precision or 'fp32'}"
    buffers = {n: np.empty(s.shape, s.dtype) for n, s in backend.outputs.items()}
    for samples in range(batch, 0, -1):  # a full batch, and fewer
        inputs = random_inputs(toy.manifest.input, samples, seed=samples)
        rows = {key: array[:samples] for key, array in buffers.items()}
        backend.infer(inputs, rows)
        for key, value in toy_outputs(inputs).items():
            assert backend.outputs[key] == ((batch, *value.shape[1:]), value.dtype)
            np.testing.assert_allclose(rows[key], value, rtol=1e-6, err_msg=key)
    backend.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_call_nobody(name, tmp_path) -> None:
    """On their own they leave an id in the home folder, unless in CI, and send what they run on."""
    if reason := unavailable_reason(name):
        pytest.skip(reason)
    code = (
        "import sys\n"
        "from lemumo_core.inference.backends import onnxruntime, openvino\n"
        "if sys.argv[1] == 'openvino':\n"
        "    openvino.import_openvino().Core()\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    for variable in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
        environment.pop(variable, None)
    environment |= {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, name], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_openvino_keeps_float32(toy) -> None:
    if reason := unavailable_reason("openvino"):
        pytest.skip(reason)
    backend = load_backend(toy, "openvino")
    compiled = backend._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnxrt", "unknown backend 'onnxrt'; known: auto, tensorrt"),
        ("onnxruntime:int4", "unknown precision 'int4'"),
        ("onnxruntime:fp16", "holds no model.fp16.onnx"),
    ],
)
def test_a_wrong_name_is_named(toy, name, words) -> None:
    with pytest.raises(Fault, match=words):
        load_backend(toy, name)


@pytest.mark.parametrize("name", [n for n, kind in RUNTIMES.items() if kind.gpu])
def test_without_a_gpu_nothing_is_touched(toy, name, monkeypatch) -> None:
    """No driver: the reason is said before the runtime, which might crash, is even imported."""
    monkeypatch.setattr(backends, "why_no_gpu", lambda: "no NVIDIA driver: it is not here")
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda module: object())
    loaded = set(sys.modules)
    with pytest.raises(Fault, match=f"{name} cannot run here: no NVIDIA driver"):
        load_backend(toy, name)
    assert not {m for m in set(sys.modules) - loaded if m.startswith("tensorrt")}


def test_what_is_not_installed_names_its_line(toy, monkeypatch) -> None:
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda module: None)
    for name, kind in RUNTIMES.items():
        with pytest.raises(Fault, match="not installed: pip") as error:
            load_backend(toy, name)
        assert kind.install in str(error.value)


def test_a_provider_that_gives_way_to_the_cpu_is_refused(toy, monkeypatch) -> None:
    import onnxruntime

    from lemumo_core.inference.backends import onnxruntime as module

    monkeypatch.setattr(module, "PROVIDERS", {"onnxruntime-cuda": "CUDAExecutionProvider"})
    with pytest.raises(Fault, match=r"has no CUDAExecutionProvider, only .*CPUExecutionProvider"):
        module.OnnxRuntimeBackend("onnxruntime-cuda", toy, "fp32", 1)
    # Claims to have the provider, and then makes a session on the CPU: as a broken CUDA does.
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: real(path, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(Fault, match="fell back to CPUExecutionProvider"):
        module.OnnxRuntimeBackend("onnxruntime-cuda", toy, "fp32", 1)


def test_onnxruntime_alone_is_enough(toy) -> None:
    """A vehicle with ONNX Runtime and nothing else: auto takes it without measuring."""
    program = (
        "import sys, logging\n"
        "for name in ('torch', 'openvino', 'tensorrt', 'tensorrt_rtx', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name: None if sys.modules.get(name, 1) is None else find(name)\n"
        "from lemumo_core.inference.backends import load_backend\n"
        "from lemumo_core.inference.package import load_package\n"
        "from lemumo_core.inference.selection import resolve_backend\n"
        "package = load_package(sys.argv[1])\n"
        "print(load_backend(package, resolve_backend(package, 'auto:fp32').backend).name)\n"
    )
    command = [sys.executable, "-c", program, str(toy.path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == "onnxruntime:fp32", result.stderr
    assert "measuring" not in result.stderr
