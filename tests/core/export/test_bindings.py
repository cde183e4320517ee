"""Every TensorRT call in our sources exists in the real bindings of 8.6 to 11.

NVIDIA's bindings are on PyPI, the libraries below them are not: a stub with their symbols lets the
bindings be imported. Names, signatures and enums are the real ones; nothing is built or run.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemumo_core.files import cache_folder
from tests.helpers.paths import ROOT

SOURCES = (
    "lemumo_core/inference/tensorrt_api.py",
    "lemumo_core/inference/backends/tensorrt.py",
    "lemumo_core/export/trt_build.py",
)
WHEELS = {
    "8.6": "tensorrt-bindings==8.6.1",
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.16": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
"""Types of what our variables of these names hold, with or without a leading underscore."""
NOT_IN_8 = {"IProgressMonitor", "IBuilderConfig.progress_monitor"}
"""Asked for with hasattr before they are used."""


def used_names() -> dict[str, set[str]]:
    """Dotted names in TensorRT that our sources use, with the keywords they are called with."""
    found: dict[str, set[str]] = {}
    for source in SOURCES:
        tree = ast.parse((ROOT / source).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := dotted(node.func)):
                found.setdefault(name, set()).update(k.arg for k in node.keywords if k.arg)
            elif isinstance(node, ast.Attribute) and (name := dotted(node)):
                found.setdefault(name, set())
    return found


def dotted(node: ast.AST) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or not parts:
        return None
    owner = parts.pop() if node.id == "self" else node.id
    if not parts:
        return None
    owner = owner.lstrip("_")
    if owner == "trt":
        return ".".join(reversed(parts))
    return f"{CLASSES[owner]}.{parts[-1]}" if owner in CLASSES else None


def test_the_names_are_found() -> None:
    """The walk over our sources sees what it should."""
    names = used_names()
    assert names["IBuilderConfig.set_timing_cache"] == {"ignore_mismatch"}
    for expected in (
        "IExecutionContext.execute_async_v3",
        "Builder.build_serialized_network",
        "MemoryPoolType.WORKSPACE",
        "ICudaEngine.get_tensor_name",
        "Runtime",
    ):
        assert expected in names


@pytest.fixture(scope="module", params=WHEELS)
def bindings(request, tmp_path_factory) -> Iterator[tuple[str, Path, Path]]:
    """A version, the folder of its bindings and one with stubs of the libraries below them."""
    compiler, nm = shutil.which("gcc") or shutil.which("cc"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("no C compiler to build the stub libraries with")
    kept = cache_folder() / "test-wheels" / request.param
    if not list(kept.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(kept)]
        result = subprocess.run([*command, WHEELS[request.param]], capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"no {WHEELS[request.param]} for this Python, or no index: {result.stderr}")
    folder = tmp_path_factory.mktemp("bindings")
    (wheel,) = kept.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    (module,) = folder.glob("tensorrt_bindings/tensorrt*.so")
    listed = subprocess.run([nm, "-D", "--undefined-only", module], capture_output=True, text=True)
    symbols = [line.split()[-1] for line in listed.stdout.splitlines()]
    ours = [
        symbol
        for symbol in symbols
        if "@" not in symbol
        and not symbol.startswith("Py")
        and any(word in symbol.lower() for word in ("nv", "infer", "plugin"))
    ]
    code = "".join(
        f'void *f{i}(void) __asm__("{symbol}"); void *f{i}(void) {{ return 0; }}\n'
        for i, symbol in enumerate(ours)
    )
    stubs = tmp_path_factory.mktemp("stubs")
    (stubs / "stub.c").write_text(code)
    major = request.param.partition(".")[0]
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers"):
        library = stubs / f"lib{name}.so.{major}"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, stubs / "stub.c"], check=True)
    yield request.param, folder, stubs


CHECK = """
    import json, logging, sys
    import tensorrt_bindings
    sys.modules["tensorrt"] = tensorrt_bindings
    from lemumo_core.faults import Fault
    from lemumo_core.inference import tensorrt_api as api

    trt = api.load_tensorrt("tensorrt")
    missing = []
    for name, keywords in json.loads(sys.argv[1]).items():
        thing = trt
        for part in name.split("."):
            thing = getattr(thing, part, None)
        if thing is None:
            missing.append(name)
        missing += [f"{name}({k})" for k in keywords if k not in (thing.__doc__ or "")]
    flags = {}
    for precision in ("fp32", "fp16", "int8", "fp8"):
        try:
            flags[precision] = api.precision_flags(trt, precision)
        except Fault as fault:
            flags[precision] = fault.reason
    logger = api.logger(trt)
    logger.log(trt.ILogger.Severity.ERROR, "oh")
    logger.log(trt.ILogger.Severity.INFO, "hum")
    assert api.logger(trt) is logger
    print(json.dumps({
        "version": api.version_of(trt), "missing": missing, "flags": flags,
        "network": api.network_flags(trt), "said": [api.last_errors(trt), api.last_errors(trt)],
        "half": trt.DataType.HALF.name, "inputs": str(trt.nptype(trt.DataType.UINT8)),
    }))
"""


def test_every_call_exists(bindings) -> None:
    version, folder, stubs = bindings
    names = {name: sorted(keywords) for name, keywords in used_names().items()}
    paths = {"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CHECK), json.dumps(names)]
    result = subprocess.run(program, env=os.environ | paths, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])
    major = int(version.partition(".")[0])
    assert facts["version"] == [int(part) for part in version.split(".")]
    assert set(facts["missing"]) == (NOT_IN_8 if major == 8 else set())
    # The bit of STRONGLY_TYPED moved from 1 to 0; 8.6 has EXPLICIT_BATCH there.
    assert facts["network"] == (2 if major == 10 else 1)
    if major == 8:
        obey = "OBEY_PRECISION_CONSTRAINTS"
        assert facts["flags"]["fp16"] == ["FP16", obey] and facts["flags"]["fp32"] == []
        assert facts["flags"]["int8"] == ["INT8", obey]
    else:
        assert all(flags == [] for flags in facts["flags"].values())
    assert facts["said"] == ["oh", "it gave no reason"]
    assert facts["half"] == "HALF" and "uint8" in facts["inputs"]
