"""Where the repository and the real recordings beside it are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOY_METHOD = ROOT / "tests" / "helpers" / "toy_method"
"""An installed package of a third party, with its metadata: a folder for ``sys.path``."""
SHARED = ROOT.parent / "shared"
"""Real sensor recordings and what comes with them: not ours to distribute."""
