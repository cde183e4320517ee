"""The model that benchmarks run: of the size that vehicles run, with random weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lemumo_core.inference.package import MANIFEST_NAME

ROOT = Path(__file__).resolve().parent.parent


def untrained_package() -> Path:
    """A tiny encoder at 256 x 704; exported where it is missing."""
    path = Path("out/models/lemumo-tiny-untrained")
    if not (path / MANIFEST_NAME).exists():
        print("exporting a model with untrained weights (about 30 s)", flush=True)
        export = [sys.executable, "-W", "ignore", str(ROOT / "export" / "to_onnx.py")]
        subprocess.run([*export, "--out", str(path)], check=True, stderr=subprocess.DEVNULL)
    return path
