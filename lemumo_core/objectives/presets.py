"""Names of the heads' presets, for objectives that differ by them."""

from __future__ import annotations

PRESETS = ("probe", "deploy")
"""The paper's, and ours."""


def check_preset(preset: str) -> None:
    """Do nothing for a known preset.

    Raises:
        ValueError: for another one.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset '{preset}' (known: {', '.join(PRESETS)})")
