"""Objectives that differ by the preset of the heads: the paper's, and ours."""

from __future__ import annotations

from lemumo_core.model.config import HEAD_PRESETS


def check_preset(preset: str) -> None:
    """Do nothing for a known preset.

    Raises:
        ValueError: for another one.
    """
    if preset not in HEAD_PRESETS:
        raise ValueError(f"unknown preset '{preset}' (known: {', '.join(HEAD_PRESETS)})")
