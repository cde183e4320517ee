"""Engines: every precision is built by TensorRT-RTX without a GPU, audited, cached and guarded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lemumo_core.cli import build_engine
from lemumo_core.export import engine
from lemumo_core.export.engine import ensure_engine, prove
from lemumo_core.export.trt_build import BuildOptions, build, check_precision, trtexec_line
from lemumo_core.faults import Fault
from lemumo_core.inference.cuda_driver import why_no_gpu
from lemumo_core.inference.engine_cache import EngineKey, read_engine
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.package import Package, load_package, write_package
from lemumo_core.inference.tensorrt_api import load_tensorrt
from tests.helpers.paths import ROOT

PRECISIONS = ("fp32", "fp16", "int8", "fp8")


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")
    return load_tensorrt("tensorrt-rtx")


@pytest.fixture
def package(graphs, model, tmp_path, monkeypatch) -> Package:
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "package"
    folder.mkdir()
    shutil.copy(graphs["fp32"], folder / "model.onnx")
    shutil.copy(graphs["fp16"], folder / "model.fp16.onnx")
    shutil.copy(graphs["dynamic"], folder / "model.dynamic.onnx")
    config = model.config
    colors = tuple((i, i, i) for i in range(len(config.segmentation_classes)))
    names = (config.detection_classes, config.segmentation_classes, colors)
    manifest = Manifest("test", "1", False, {}, config.input_spec, *names, {"fp16": {}})
    return write_package(folder, manifest)


@pytest.fixture
def toy(toy_package, tmp_path, monkeypatch) -> Package:
    """A package whose engine is built in a moment, for what does not depend on the network."""
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    return load_package(toy_package)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_built_and_audited(rtx, graphs, precision) -> None:
    built = build(rtx, graphs[precision], precision, BuildOptions())
    assert len(built.engine) > 1e5 and built.seconds > 0
    low = {"fp32": None, "fp16": "HALF", "int8": "INT8", "fp8": "FP8"}[precision]
    assert set(built.types) & {"HALF", "INT8", "FP8"} == ({low} if low else set())


@pytest.mark.parametrize(("graph", "precision"), [("fp32", "fp16"), ("fp32", "int8"),
                                                  ("fp16", "fp32"), ("int8", "fp8"),
                                                  ("int8", "fp16")])  # fmt: skip
def test_a_graph_of_another_precision_is_refused(rtx, graphs, graph, precision) -> None:
    with pytest.raises(Fault, match=f"no {precision} network; its layers: ") as error:
        build(rtx, graphs[graph], precision, BuildOptions())
    assert error.value.reason == "wrong_precision"


def test_the_audit_counts_layers() -> None:
    check_precision(Counter(HALF=10, FLOAT=40), Counter(HALF=10, FLOAT=4), "fp16")
    with pytest.raises(Fault, match="no fp16 network"):
        check_precision(Counter(HALF=40, FLOAT=10), Counter(HALF=4, FLOAT=10), "fp16")
    with pytest.raises(Fault, match="builds fp32, fp16, int8, fp8, not int8-cpu"):
        check_precision(Counter(FLOAT=1), Counter(), "int8-cpu")
    check_precision(Counter(HALF=40, FLOAT=90), Counter(FLOAT=30), "fp32")  # weights in half
    for types, heavy in (
        (Counter(HALF=40, FLOAT=90), Counter(HALF=1, FLOAT=30)),
        (Counter(INT8=4, FLOAT=90), Counter(FLOAT=30)),
    ):
        with pytest.raises(Fault, match="no fp32 network"):
            check_precision(types, heavy, "fp32")


def test_the_model_that_ships_builds(rtx, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path))
    arguments = ["--runtime", "tensorrt-rtx", "--build_only"]
    assert build_engine.main([str(ROOT / "models" / "lemumo-tiny"), *arguments]) == 0


def test_int8_for_the_cpu_is_refused(rtx, graphs) -> None:
    with pytest.raises(Fault, match=r"TensorRT refuses .*DynamicQuantizeLinear"):
        build(rtx, graphs["int8-cpu"], "int8", BuildOptions())


def test_batch_profiles(rtx, graphs) -> None:
    built = build(rtx, graphs["dynamic"], "fp32", BuildOptions((1, 2, 4)))
    assert len(built.engine) > 1e5
    with pytest.raises(Fault, match="export one with --dynamic"):
        build(rtx, graphs["fp32"], "fp32", BuildOptions((1, 2, 4)))


def ensure(rtx, package, **options) -> tuple[Path, bool]:
    return ensure_engine(rtx, "tensorrt-rtx", package, "fp32", BuildOptions(**options), None)


def test_an_engine_is_built_once_and_again_only_if_it_must(rtx, toy, capsys) -> None:
    path, new = ensure(rtx, toy)
    assert new
    digest = toy.manifest.files["model.onnx"]
    version = rtx.__version__
    key = EngineKey.here(digest, "tensorrt-rtx", version, None, "fp32", (1, 1, 1), {})
    good = read_engine(path, key)
    assert ensure(rtx, toy) == (path, False)
    assert ensure(rtx, toy, optimization_level=1)[0] != path
    path.write_bytes(good[: len(good) // 2])  # a power cut, were writing not atomic
    assert ensure(rtx, toy) == (path, True)
    assert "building again" in capsys.readouterr().out
    read_engine(path, key)
    path.with_suffix(".json").unlink()
    assert ensure(rtx, toy) == (path, True)
    assert ensure(rtx, toy) == (path, False)


def test_two_builds_at_once_build_once(rtx, package) -> None:
    """Two processes; the second waits and takes what the first made."""
    program = [sys.executable, str(ROOT / "export" / "to_trt.py"), str(package.path)]
    program += ["--runtime", "tensorrt-rtx", "--build-only", "--precision", "fp16"]

    def start(_) -> str:
        return subprocess.run(program, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(start, range(2)))
    assert sorted("  built " in out for out in outputs) == [False, True], outputs
    assert sum("  kept " in out for out in outputs) == 1


def test_a_cache_that_cannot_be_written_is_named(rtx, package, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LEMUMO_CACHE", str(package.path / "model.onnx" / "below-a-file"))
    arguments = [str(package.path), "--runtime", "tensorrt-rtx", "--build-only"]
    assert build_engine.main(arguments) == 1
    assert "set LEMUMO_CACHE to another folder" in capsys.readouterr().err


NO_DRIVER = (
    "lemumo build-engine: cannot run engines here: no NVIDIA driver: libcuda.so.1 is not here"
)


def test_without_a_driver_the_first_line_says_so(package) -> None:
    if why_no_gpu() is None:
        pytest.skip("this machine has a GPU")
    command = [sys.executable, str(ROOT / "export" / "to_trt.py"), str(package.path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.startswith(NO_DRIVER) and "pip install tensorrt-rtx" in result.stderr


@pytest.mark.parametrize("arguments", [["--runtime", "tensorrt-rtx"], ["--build-only"]])
def test_without_a_driver_only_rtx_builds(package, arguments, capsys) -> None:
    if why_no_gpu() is None:
        pytest.skip("this machine has a GPU")
    assert build_engine.main([str(package.path), *arguments]) == 1
    assert "--runtime tensorrt-rtx --build_only builds" in capsys.readouterr().err


@pytest.mark.parametrize("failing", [False, True])
def test_an_engine_is_proven_or_deleted(toy, rtx, failing, monkeypatch, capsys) -> None:
    """The comparison itself needs a GPU; here ONNX Runtime speaks for the engine."""
    path, _ = ensure(rtx, toy)
    real = engine.verify

    def instead(package, name, samples, reference):
        assert (name, reference) == ("tensorrt-rtx:fp32", "onnxruntime")
        parity, limits = real(package, "onnxruntime", samples, "onnxruntime")
        parity.depth_pixels = 1.0 if failing else parity.depth_pixels
        return parity, limits

    monkeypatch.setattr(engine, "verify", instead)
    assert prove(toy, "tensorrt-rtx", "fp32", path, []) is not failing
    assert path.exists() is not failing and path.with_suffix(".json").exists() is not failing
    if not failing:
        assert '"parity"' in path.with_suffix(".json").read_text()


def test_an_engine_with_a_profile_is_proven_in_one_batch(package, rtx, monkeypatch) -> None:
    path, _ = ensure(rtx, package, batch=(1, 2, 3))
    real = engine.verify_batch
    batches = []

    def instead(package, name, samples, reference):
        batches.append(len(samples))
        return real(package, "onnxruntime", samples, reference)

    monkeypatch.setattr(engine, "verify_batch", instead)
    assert prove(package, "tensorrt-rtx", "fp32", path, [], largest_batch=3)
    assert batches == [3]


def test_the_trtexec_line_is_equivalent(rtx) -> None:
    options = BuildOptions((1, 4, 8), 512, 5, True, "ampere_plus")
    line = trtexec_line(rtx, Path("m.onnx"), "fp16", options, {"image": (64, 96, 3)})
    assert line == (
        "trtexec --onnx=m.onnx --builderOptimizationLevel=5 --stronglyTyped "
        "--minShapes=image:1x64x96x3 --optShapes=image:4x64x96x3 --maxShapes=image:8x64x96x3 "
        "--memPoolSize=workspace:512 --versionCompatible --hardwareCompatibilityLevel=amperePlus "
        "--profilingVerbosity=detailed"
    )
